"""The registry's files: owned by one process, whole after a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sigkit.digest import Digest
from sigkit.errors import DatabaseUnusable, FileUnwritable, LockTimeout, Place
from sigkit.oci.manifest import encode_manifest, parse_manifest
from sigkit.services.storage import Storage
from tests.simulators.images import describe, small_image

CHECKOUT = Path(__file__).resolve().parents[2]
SUBJECT = describe(b"subject")
IMAGE = small_image()
RAW = encode_manifest(describe(IMAGE.config), [describe(IMAGE.layer)], subject=SUBJECT)
DIGEST = Digest.of(RAW)

# Forks a process for each line, so that a step costs no start of an interpreter: an armed failpoint and a directory in, a status out.
PUSHER = f"""
import os, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from sigkit.errors import FileUnwritable
from tests.services.test_storage import push_all
for line in sys.stdin:
    armed, _, root = line.strip().partition(" ")
    child = os.fork()
    if not child:
        os.environ["SIGKIT_FAILPOINTS"] = armed
        try:
            push_all(root)
        except FileUnwritable:
            os._exit(3)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def push_with_fault():
    """Return a function that runs `push_all` in a process of its own with an armed failpoint, and returns the status."""
    with subprocess.Popen([sys.executable, "-c", PUSHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pusher:
        asked, answered = pusher.stdin, pusher.stdout
        assert asked is not None
        assert answered is not None

        def push(armed: str, root: Path) -> int:
            print(armed, root, file=asked, flush=True)
            return int(answered.readline())

        yield push
        asked.close()


def push_all(root) -> None:
    """Push two blobs, and a manifest with a subject under a tag."""
    with Storage.open(root) as storage:
        for blob in (IMAGE.config, IMAGE.layer):
            path = Path(storage.uploads) / Digest.of(blob).hex
            path.write_bytes(blob)
            storage.put_blob("a/b", Digest.of(blob), str(path))
        storage.put_manifest("a/b", parse_manifest(RAW, DIGEST, Place("test")), "v1")


def check_whole(root) -> None:
    """Check that every name stands for what it says, whichever names there are."""
    with Storage.open(root) as storage:
        for path in Path(root, "blobs").rglob("*"):
            if path.is_file():
                assert Digest.of(path.read_bytes()).hex == path.name
        if found := storage.find_tag("a/b", "v1"):
            content = storage.open_manifest("a/b", found)
            assert content is not None
            with content.file:
                assert content.file.read() == RAW
            for blob in (IMAGE.config, IMAGE.layer):
                assert storage.has_blob("a/b", Digest.of(blob))
            assert [referrer.digest for referrer in storage.list_referrers("a/b", SUBJECT.digest)] == [DIGEST]
        assert list(Path(storage.uploads).iterdir()) == []
        assert list(Path(root, "blobs").rglob(".*")) == []


# Links are written for two blobs, the manifest, the referrer and the tag, in this order.
STEPS = [
    *(f"registry.version.{step}=1" for step in ("fsync", "rename", "directory")),
    *(f"registry.blob.fsync={nth}" for nth in (1, 2)),
    *(f"registry.manifest.{step}=1" for step in ("fsync", "rename", "directory")),
    *(f"registry.link.{step}={nth}" for step in ("fsync", "rename", "directory") for nth in range(1, 6)),
]


@pytest.mark.parametrize("step", STEPS)
def test_process_killed_at_any_step_leaves_only_whole_names_and_can_go_on(tmp_path, push_with_fault, step):
    root = tmp_path / "registry"
    assert push_with_fault(f"{step}*kill", root) == -9
    check_whole(root)
    push_all(root)
    check_whole(root)
    with Storage.open(root) as storage:
        assert storage.find_tag("a/b", "v1") == DIGEST


@pytest.mark.parametrize("step", ["registry.blob.fsync=1", "registry.manifest.fsync=1", "registry.link.rename=3"])
@pytest.mark.parametrize("fault", ["enospc", "eio"])
def test_full_or_failing_disk_is_could_not_check_and_leaves_whole_names(tmp_path, push_with_fault, step, fault):
    root = tmp_path / "registry"
    assert push_with_fault(f"{step}*{fault}", root) == 3
    check_whole(root)
    push_all(root)
    check_whole(root)


def test_directory_is_owned_by_one_process(tmp_path):
    with Storage.open(tmp_path / "registry"), pytest.raises(LockTimeout), Storage.open(tmp_path / "registry"):
        pass
    with Storage.open(tmp_path / "registry"):
        pass


def test_unfinished_uploads_are_removed_at_the_start(tmp_path):
    with Storage.open(tmp_path / "registry") as storage:
        Path(storage.uploads, "left").write_bytes(b"x")
    with Storage.open(tmp_path / "registry") as storage:
        assert list(Path(storage.uploads).iterdir()) == []


def test_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(DatabaseUnusable), Storage.open(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "lock"}


def test_directory_of_another_version_is_left_alone(tmp_path):
    push_all(tmp_path / "registry")
    (tmp_path / "registry" / "version").write_bytes(b"sigkit.registry/2\n")
    with pytest.raises(DatabaseUnusable) as caught, Storage.open(tmp_path / "registry"):
        pass
    assert caught.value.expected == "sigkit.registry/1"


def test_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileUnwritable), Storage.open(tmp_path / "file" / "registry"):
        pass
