"""The registry's files: owned by one process, whole after a crash."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sigkit import durable
from sigkit.digest import Digest
from sigkit.errors import DatabaseUnusable, DigestMismatch, FileUnreadable, FileUnwritable, LockTimeout, Place
from sigkit.oci.manifest import encode_manifest, parse_manifest
from sigkit.services.storage import Page, Storage
from tests.simulators.images import describe, small_image

CHECKOUT = Path(__file__).resolve().parents[2]
SUBJECT = describe(b"subject")
IMAGE = small_image()
RAW = encode_manifest(describe(IMAGE.config), [describe(IMAGE.layer)], subject=SUBJECT)
DIGEST = Digest.of(RAW)
OTHER = encode_manifest(describe(IMAGE.config), [describe(IMAGE.layer)])
ALL = Page(1_000, 1 << 20)

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
            storage.put_blob("a/b", Digest.of(blob), str(path), len(blob))
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
        # Whoever pushes again asks first whether it is there.
        there = storage.open_manifest("a/b", DIGEST)
        if there is not None:
            there.file.close()
        listed = [referrer.digest for referrer in storage.list_referrers("a/b", SUBJECT.digest, ALL).found]
        assert listed == ([DIGEST] if there else [])
        assert list(Path(storage.uploads).iterdir()) == []
        assert list(Path(root, "blobs").rglob(".*")) == []


def delete_all(root) -> None:
    """Delete what `push_all` pushed, as far as it is there."""
    with Storage.open(root) as storage:
        storage.delete_manifest("a/b", DIGEST)
        for blob in (IMAGE.config, IMAGE.layer):
            storage.delete_blob("a/b", Digest.of(blob))


def contents(root) -> list[Path]:
    return [path for path in Path(root, "blobs").rglob("*") if path.is_file()]


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


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", ["kill", "enospc"])
def test_whatever_a_push_that_was_ended_leaves_can_be_deleted(tmp_path, push_with_fault, step, fault):
    root = tmp_path / "registry"
    assert push_with_fault(f"{step}*{fault}", root) != 0
    with Storage.open(root) as storage:  # another image, so that there is something to delete
        path = Path(storage.uploads) / "other"
        path.write_bytes(b"other")
        storage.put_blob("c/d", Digest.of(b"other"), str(path), 5)
        assert storage.delete_blob("c/d", Digest.of(b"other"))
    delete_all(root)
    assert contents(root) == []


@pytest.mark.parametrize("step", ["registry.link.fsync=1", "registry.link.rename=1"])
def test_a_blob_that_found_no_space_can_be_deleted_by_the_same_process(tmp_path, monkeypatch, step):
    monkeypatch.setattr(durable, "_passages", {})
    with Storage.open(tmp_path / "registry") as storage:
        assert not storage.delete_blob("a/b", DIGEST)  # from now on links are counted
        monkeypatch.setenv("SIGKIT_FAILPOINTS", f"{step}*enospc")
        path = Path(storage.uploads) / "blob"
        path.write_bytes(b"blob")
        with pytest.raises(FileUnwritable):
            storage.put_blob("a/b", Digest.of(b"blob"), str(path), 4)
        assert not storage.has_blob("a/b", Digest.of(b"blob"))
        assert contents(tmp_path / "registry") == []


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


@pytest.mark.parametrize("name", ["precious", "precious.tmp", ".version.mine"])
def test_directory_of_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("x")
    with pytest.raises(DatabaseUnusable), Storage.open(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {name, "lock"}


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


# --- what many requests may cost


@pytest.fixture
def storage(tmp_path):
    with Storage.open(tmp_path / "registry") as opened:
        yield opened


@pytest.mark.attack("upload cancelled while it comes")
def test_file_of_another_size_than_was_hashed_does_not_replace_good_content(storage):
    digest = put_blob(storage, "a/b", b"good")
    cut = Path(storage.uploads, "cut")
    cut.write_bytes(b"go")
    with pytest.raises(DigestMismatch) as caught:
        storage.put_blob("evil/x", digest, str(cut), len(b"good"))
    assert storage.root not in str(caught.value)  # whoever pushes is told
    content = storage.open_blob("a/b", digest)
    assert content is not None
    with content.file:
        assert content.file.read() == b"good"
    assert not storage.has_blob("evil/x", digest)


def put_blob(storage, name: str, data: bytes = b"x") -> Digest:
    path = Path(storage.uploads, "put")
    path.write_bytes(data)
    storage.put_blob(name, Digest.of(data), str(path), len(data))
    return Digest.of(data)


def attach(storage, count: int) -> list[Digest]:
    found = []
    for number in range(count):
        raw = encode_manifest(describe(b"{}"), [], subject=SUBJECT, annotations={"n": str(number)})
        storage.put_manifest("a/b", parse_manifest(raw, Digest.of(raw), Place("test")), None)
        found.append(Digest.of(raw))
    return sorted(found, key=str)


def paths_of(call) -> list[str]:
    """Return what the interpreter opened or listed during a call."""
    found: list[str] = []
    _audit.paths = found
    try:
        call()
    finally:
        _audit.paths = None
    return found


class _Audit:
    """An audit hook: there for good once it is added, so it listens only when told."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self)

    def __call__(self, event, arguments) -> None:
        if self.paths is not None and event in {"open", "os.listdir", "os.scandir"}:
            self.paths.append(str(arguments[0]))


_audit = _Audit()


@pytest.mark.attack("lists of thousands")
@pytest.mark.parametrize("after", [0, 7])
def test_only_the_referrers_of_one_page_are_read(storage, after):
    attached = attach(storage, 12)
    page = Page(3, 1 << 20, str(attached[after - 1]) if after else "")
    opened = {Path(path).name for path in paths_of(lambda: storage.list_referrers("a/b", SUBJECT.digest, page))}
    found = storage.list_referrers("a/b", SUBJECT.digest, page)
    assert [referrer.digest for referrer in found.found] == attached[after : after + 3]
    assert found.last == str(attached[after + 2])
    assert opened == {str(SUBJECT.digest), *map(str, attached[after : after + 3])}


@pytest.mark.attack("lists of thousands")
def test_page_of_referrers_ends_where_its_bytes_do(storage):
    attached = attach(storage, 5)
    found = storage.list_referrers("a/b", SUBJECT.digest, Page(1_000, 500))
    assert 1 <= len(found.found) < 5
    assert found.last == str(attached[len(found.found) - 1])


@pytest.mark.attack("lists of one client")
def test_a_list_that_was_read_is_not_read_again_but_for_what_has_come(storage):
    attached = attach(storage, 12)

    def ask():
        return storage.list_referrers("a/b", SUBJECT.digest, ALL)

    first = ask()
    assert [referrer.digest for referrer in first.found] == attached
    assert paths_of(ask) == []
    assert ask() == first
    raw = encode_manifest(describe(b"{}"), [], subject=SUBJECT, annotations={"n": "new"})
    storage.put_manifest("a/b", parse_manifest(raw, Digest.of(raw), Place("test")), None)
    assert {Path(path).name for path in paths_of(ask)} == {str(SUBJECT.digest), str(Digest.of(raw))}
    assert {referrer.digest for referrer in ask().found} == {*attached, Digest.of(raw)}


@pytest.mark.attack("lists of one client")
def test_a_referrer_that_goes_while_the_list_is_read_is_in_no_later_list(storage):
    attached = attach(storage, 3)
    _audit.paths = meanwhile = Meanwhile("/_referrers/", lambda: storage.delete_manifest("a/b", attached[1]))
    try:
        storage.list_referrers("a/b", SUBJECT.digest, ALL)
    finally:
        _audit.paths = None
    assert meanwhile.done
    for _ in range(2):
        found = storage.list_referrers("a/b", SUBJECT.digest, ALL).found
        assert [referrer.digest for referrer in found] == [attached[0], attached[2]]


@pytest.mark.attack("deletions that walk")
def test_no_tag_is_read_to_delete_what_is_not_there(storage):
    storage.put_manifest("a", parse_manifest(RAW, DIGEST, Place("test")), "v1")
    assert not any("_tags" in path for path in paths_of(lambda: storage.delete_manifest("a", Digest.of(OTHER))))


@pytest.mark.attack("deletions that walk")
def test_all_tags_are_read_for_the_first_deletion_only_and_tags_that_move_go_with_what_they_name(storage):
    documents = []
    for number in range(5):
        raw = encode_manifest(describe(b"{}"), [], annotations={"n": str(number)})
        documents.append(parse_manifest(raw, Digest.of(raw), Place("test")))
        storage.put_manifest("a", documents[-1], f"v{number}")

    def tags_read(number: int) -> set[str]:
        found = paths_of(lambda: storage.delete_manifest("a", documents[number].digest))
        return {Path(path).name for path in found if "/_tags/" in path and not Path(path).name.startswith(".")}

    assert tags_read(0) == {"v0", "v1", "v2", "v3", "v4"}
    storage.put_manifest("a", documents[2], "v1")
    storage.put_manifest("a", documents[2], "new")
    assert storage.delete_tag("a", "v2")
    assert tags_read(1) == set()
    assert storage.list_tags("a") == ("new", "v1", "v3", "v4")
    assert tags_read(2) == {"v1", "new"}
    assert storage.list_tags("a") == ("v3", "v4")


@pytest.mark.attack("deletions that walk")
@pytest.mark.parametrize("step", ["registry.link.rename", "registry.link.directory"])
def test_a_tag_that_a_failing_disk_may_have_moved_goes_with_what_it_names(storage, monkeypatch, step):
    document, other = (parse_manifest(raw, Digest.of(raw), Place("test")) for raw in (RAW, OTHER))
    storage.put_manifest("a", document, "v1")
    storage.put_manifest("a", other, None)
    third = parse_manifest(raw := encode_manifest(describe(b"{}"), []), Digest.of(raw), Place("test"))
    storage.put_manifest("a", third, "x")
    assert storage.delete_manifest("a", third.digest)  # from now on its tags are known
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", f"{step}=2*eio")  # the manifest's link is the first
    with pytest.raises(FileUnwritable):
        storage.put_manifest("a", other, "v1")
    named = storage.find_tag("a", "v1")
    assert named is not None
    assert storage.delete_manifest("a", named)
    assert storage.list_tags("a") == ()


@pytest.mark.attack("deletions that walk")
def test_repositories_are_walked_for_the_first_deletion_only(storage):
    digests = [put_blob(storage, "a/b", bytes([number])) for number in range(3)]
    for number in range(20):
        put_blob(storage, f"many/{number}")
    walked = [paths_of(lambda digest=digest: storage.delete_blob("a/b", digest)) for digest in digests]
    assert len(walked[0]) > 20
    assert not any("many" in path for paths in walked[1:] for path in paths)


class Meanwhile(list[str]):
    """Does something in another thread when a file below a directory is first read, and waits for it."""

    def __init__(self, where: str, act) -> None:
        self._where = where
        self._act = act
        self.done = False

    def append(self, path: str) -> None:
        if self._where in path and not self.done:
            self.done = True
            _audit.paths = None
            thread = threading.Thread(target=self._act, daemon=True)
            thread.start()
            thread.join(5)
            self.done = not thread.is_alive()


@pytest.mark.attack("deletions that walk")
def test_tags_are_read_before_a_deletion_while_others_push_and_one_that_was_put_meanwhile_goes_too(storage):
    document, other = (parse_manifest(raw, Digest.of(raw), Place("test")) for raw in (RAW, OTHER))
    storage.put_manifest("a", document, "v1")
    storage.put_manifest("a", document, "v2")

    def push():
        storage.put_manifest("a", document, "v3")
        storage.put_manifest("a", other, "v2")
        storage.put_manifest("b", document, "v4")

    _audit.paths = meanwhile = Meanwhile("/_tags/", push)
    try:
        assert storage.delete_manifest("a", document.digest)
    finally:
        _audit.paths = None
    assert meanwhile.done
    assert storage.list_tags("a") == ("v2",)
    assert storage.find_tag("a", "v2") == other.digest
    assert storage.find_tag("b", "v4") == document.digest


@pytest.mark.parametrize("deleted_before", [True, False])
def test_content_stays_while_any_repository_links_it_however_links_came_and_went(storage, deleted_before):
    if deleted_before:
        storage.delete_blob("z", put_blob(storage, "z", b"counted"))
    content = Path(storage.root, "blobs", "sha256")
    digest = put_blob(storage, "a")
    put_blob(storage, "a")  # once more, which is no second link
    put_blob(storage, "b")
    assert storage.mount_blob("c", digest, "a")
    assert storage.mount_blob("c", digest, "b")
    for name in ("a", "c"):
        assert storage.delete_blob(name, digest)
        assert not storage.delete_blob(name, digest)
        assert (content / digest.hex).exists()
    assert storage.mount_blob("a", digest, "b")
    assert storage.delete_blob("b", digest)
    assert storage.has_blob("a", digest)
    assert storage.delete_blob("a", digest)
    assert list(content.iterdir()) == []


def test_content_of_a_manifest_that_is_a_blob_elsewhere_stays(storage):
    put_blob(storage, "a", RAW)
    storage.put_manifest("b", parse_manifest(RAW, DIGEST, Place("test")), "v1")
    assert storage.delete_manifest("b", DIGEST)
    assert storage.has_blob("a", DIGEST)
    assert storage.delete_blob("a", DIGEST)
    assert list(Path(storage.root, "blobs", "sha256").iterdir()) == []


def test_nothing_is_deleted_when_a_repository_cannot_be_looked_into(storage):
    digest = put_blob(storage, "a")
    loop = Path(storage.root, "repositories", "loop")
    loop.symlink_to(loop)  # to list it fails for root too
    with pytest.raises(FileUnreadable):
        storage.delete_blob("a", digest)
    assert storage.has_blob("a", digest)


def test_link_that_could_not_be_written_costs_nobody_the_content(storage):
    storage.delete_blob("z", put_blob(storage, "z", b"counted"))
    digest = put_blob(storage, "a")
    Path(storage.root, "repositories", "b").write_bytes(b"")  # no directory can be made below it
    with pytest.raises(FileUnwritable):
        storage.mount_blob("b", digest, "a")
    assert storage.mount_blob("c", digest, "a")
    assert storage.delete_blob("a", digest)
    assert storage.has_blob("c", digest)
