"""Lines of the audit log are durable, chained, and never dropped in silence."""

import json
import os
import stat
import subprocess
import sys

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import EXIT_UNCHECKED, AuditDamaged, FileUnreadable, FileUnwritable, TooLarge
from sigkit.gate.audit import AuditLog, read_log
from tests.simulators.verdicts import StoppedClock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log(path):
    return AuditLog(path, StoppedClock())


def test_each_line_names_the_digest_of_the_one_before(log, path):
    ids = [log.append("admit", {"n": n}) for n in range(3)]
    lines = path.read_bytes().splitlines()
    documents = [json.loads(line) for line in lines]
    assert [document["sequence"] for document in documents] == [1, 2, 3]
    assert [document["previous"] for document in documents] == [None, *ids[:2]]
    assert [str(Digest.of(line)) for line in lines] == ids
    assert documents[0]["time"] == "2026-11-25T12:00:00Z"
    assert documents[0]["schema"] == "sigkit.audit/1"


def test_what_was_written_is_read_back(log, path):
    log.append("admit", {"text": "line\nfeed \x1b[2J", "list": [1, None, "x"]})
    log.append("deny", {})
    assert [(entry.event, dict(entry.body)) for entry in read_log(path)] == [
        ("admit", {"text": "line\nfeed \x1b[2J", "list": [1, None, "x"]}),
        ("deny", {}),
    ]
    assert path.read_bytes().count(b"\n") == 2


def test_nobody_else_may_read_it(log, path):
    log.append("admit", {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param(lambda lines: [lines[0], lines[1].replace(b'"n":1', b'"n":7'), lines[2]], "line 3", id="changed"),
        pytest.param(lambda lines: [lines[0], lines[2]], "line 2", id="removed"),
        pytest.param(lambda lines: lines[1:], "line 1", id="beginning-cut"),
        pytest.param(lambda lines: [lines[0], lines[0], *lines[1:]], "line 2", id="repeated"),
        pytest.param(lambda lines: [lines[1], lines[0], lines[2]], "line 1", id="swapped"),
        pytest.param(lambda lines: [lines[0], b"{}\n", *lines[1:]], "line 2", id="foreign"),
        pytest.param(lambda lines: [*lines, lines[2][:-1]], "line 4", id="torn"),
        pytest.param(lambda lines: [*lines, b"\n"], "line 4", id="empty"),
    ],
)
def test_a_line_that_was_touched_is_found(log, path, change, line):
    for n in range(3):
        log.append("admit", {"n": n})
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(AuditDamaged) as caught:
        list(read_log(path))
    assert caught.value.place.inside == line
    assert caught.value.status() == EXIT_UNCHECKED


def test_nothing_is_appended_behind_a_last_line_that_is_none(log, path):
    log.append("admit", {})
    path.write_bytes(path.read_bytes() + b"junk\n")
    with pytest.raises(AuditDamaged):
        log.append("admit", {})
    assert path.read_bytes().endswith(b"junk\n")


@pytest.mark.parametrize("whole", [0, 1, 3])
def test_a_torn_last_line_is_kept_aside_and_said(log, path, tmp_path, whole):
    for n in range(whole):
        log.append("admit", {"n": n})
    torn = b'{"schema":"sigkit.audit/1","sequ'
    with path.open("ab") as file:
        file.write(torn)
    path.chmod(0o600)
    log.append("deny", {})
    entries = list(read_log(path))
    assert [entry.event for entry in entries] == ["admit"] * whole + ["recovered", "deny"]
    kept = tmp_path / entries[whole].body["kept"]
    assert kept.read_bytes() == torn
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


APPEND = """
import sys
from sigkit.clock import SystemClock
from sigkit.gate.audit import AuditLog
AuditLog(sys.argv[1], SystemClock()).append("admit", {"by": sys.argv[2]})
"""


def append(path, name, **environment):
    return subprocess.run(
        [sys.executable, "-c", APPEND, str(path), name], env={**os.environ, **environment}, capture_output=True, check=False
    )


@pytest.mark.parametrize("step", ["audit.write", "audit.fsync"])
def test_a_process_killed_at_any_step_leaves_a_log_that_goes_on(log, path, step):
    log.append("admit", {})
    assert append(path, "killed", SIGKIT_FAILPOINTS=f"{step}=kill").returncode == -9
    assert append(path, "next").returncode == 0
    entries = list(read_log(path))
    assert entries[-1].body == {"by": "next"}


@pytest.mark.parametrize("step", ["audit.torn.fsync", "audit.torn.rename", "audit.torn.directory"])
def test_a_recovery_that_was_killed_is_done_again(log, path, step):
    log.append("admit", {})
    with path.open("ab") as file:
        file.write(b"torn")
    assert append(path, "killed", SIGKIT_FAILPOINTS=f"{step}=kill").returncode == -9
    assert append(path, "next").returncode == 0
    assert [entry.event for entry in read_log(path)] == ["admit", "recovered", "admit"]


@pytest.mark.parametrize("step", ["audit.write", "audit.fsync"])
@pytest.mark.parametrize("fault", ["enospc", "eio"])
def test_a_line_that_could_not_be_made_durable_is_an_error_and_not_in_the_log(log, path, monkeypatch, step, fault):
    log.append("admit", {})
    before = path.read_bytes()
    done = append(path, "lost", SIGKIT_FAILPOINTS=f"{step}={fault}")
    assert done.returncode != 0
    assert b"FileUnwritable" in done.stderr
    assert path.read_bytes() == before


def test_a_line_is_synced_before_append_returns(log, path, monkeypatch):
    sizes = []
    real = os.fsync

    def fsync(descriptor):
        real(descriptor)
        sizes.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    log.append("admit", {})
    assert (path.stat().st_ino, path.stat().st_size) in sizes
    assert path.parent.stat().st_ino in [inode for inode, _ in sizes]  # the new file's name is durable too


def test_many_processes_write_one_chain(path):
    writers = [subprocess.Popen([sys.executable, "-c", APPEND, str(path), str(n)]) for n in range(8)]
    assert [writer.wait() for writer in writers] == [0] * 8
    assert sorted(str(entry.body["by"]) for entry in read_log(path)) == [str(n) for n in range(8)]


def test_a_log_that_others_may_write_is_not_used(log, path):
    path.touch()
    path.chmod(0o620)
    with pytest.raises(AuditDamaged):
        log.append("admit", {})
    assert path.read_bytes() == b""


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_only_a_regular_file_is_a_log(log, path, tmp_path, kind):
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.mkdir()
    with pytest.raises((FileUnwritable, AuditDamaged)):
        log.append("admit", {})
    assert not (tmp_path / "elsewhere").exists()


def test_a_line_longer_than_is_read_back_is_not_written(log, path):
    with pytest.raises(TooLarge):
        log.append("admit", {"x": "x" * limits.AUDIT_RECORD_BYTES})
    log.append("admit", {"x": "x" * (limits.AUDIT_RECORD_BYTES - 1000)})
    log.append("admit", {})
    assert len(list(read_log(path))) == 2


def test_an_absent_log_cannot_be_read(path):
    with pytest.raises(FileUnreadable):
        list(read_log(path))
