"""C16, no home and nowhere to write, as far as nothing is fetched: verification needs neither, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.simulators.command import CHECKOUT, SIGKIT
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

WHO = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")
OF_FILE = ("verify-blob", *WHO, "--bundle", "b.json", "file")
EMPTY = {"PATH": "/usr/bin:/bin"}

# Every attempt to write, make, move or remove a file raises an audit event before it happens (PEP 578), also for root.
WITHOUT_WRITING = f"""
import os, sys
CHANGES = set("os.mkdir os.rename os.remove os.rmdir os.link os.symlink os.truncate os.chmod os.utime tempfile.mkstemp".split())
def refuse(event, arguments):
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and arguments[0] != os.devnull
    if writes or event in CHANGES:
        print("WRITES", event, arguments, file=sys.stderr, flush=True)
        os._exit(99)
sys.path.insert(0, {str(CHECKOUT)!r})
sys.addaudithook(refuse)
from sigkit.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def evidence(tmp_path):
    case = Simulator().make("message", ("hashedrekord",))
    for name, raw in (("file", FILE), ("b.json", case.parts["bundle"]), ("root.json", case.root)):
        (tmp_path / name).write_bytes(raw)
    return tmp_path


def sigkit(home, line, environment=EMPTY):
    return subprocess.run(line, cwd=home, env=environment, capture_output=True, text=True, timeout=60, check=False)


def unable_to_write(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-B", "-c", WITHOUT_WRITING, *arguments]


@pytest.mark.parametrize("home", [{}, {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}], ids=["unset", "absent"])
def test_c16_without_a_home_the_verdict_is_the_same_and_no_file_is_made(evidence, home):
    done = sigkit(evidence, [*SIGKIT, *OF_FILE], {**EMPTY, **home})
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in evidence.iterdir()) == ["b.json", "file", "root.json"]


def test_c16_the_hook_sees_a_file_being_written(evidence):
    done = sigkit(evidence, unable_to_write("key", "generate", "--output-key-prefix", "k"), {**EMPTY, "SIGKIT_PASSWORD": "pw"})
    assert (done.returncode, done.stderr[:6]) == (99, "WRITES")


def test_c16_a_file_is_verified_without_writing_anything_anywhere(evidence):
    done = sigkit(evidence, unable_to_write(*OF_FILE))
    assert done.returncode == 0, done.stderr


def test_c16_a_refusal_writes_nothing_either_and_stays_one(evidence):
    (evidence / "file").write_bytes(FILE + b"!")
    done = sigkit(evidence, unable_to_write(*OF_FILE))
    assert done.returncode == 1, done.stderr


def test_c16_images_in_a_registry_are_verified_without_writing_anything_anywhere(tmp_path):
    with MisbehavingRegistry() as registry:
        release = Release.prepare(tmp_path, registry.address)
        assert release.sign().status == 0
        for more in ((), (release.reference,), ("--output", "json")):
            done = sigkit(tmp_path, unable_to_write("verify", "--key", "K.pub", release.reference, *more))
            assert done.returncode == 0, done.stderr
        done = sigkit(tmp_path, unable_to_write("inspect", release.reference))
        assert done.returncode == 0, done.stderr


@pytest.mark.root
def test_c16_on_a_disk_that_is_read_only_the_verdict_is_the_same(evidence):
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" && shift && ! touch it 2>/dev/null && exec "$@"'
    line = ["unshare", "--mount", "sh", "-c", script, "sh", str(evidence), *SIGKIT, *OF_FILE]
    done = sigkit(evidence, line, {**EMPTY, "HOME": str(evidence), "XDG_CACHE_HOME": str(evidence)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("verified  ")
