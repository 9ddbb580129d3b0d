"""The log killed at each step, or refused by the disk there: no answered entry is lost, no two trees are signed, and it opens again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sigkit import durable
from sigkit.errors import FileUnwritable, LogHalted, Place, SigkitError, UnavailError
from sigkit.keys.private import parse_private_key
from sigkit.services.log.store import TileLog
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.proof import EMPTY_ROOT, verify_consistency
from tests.simulators.sigstore_logs import Clock

CHECKOUT = Path(__file__).resolve().parents[2]
PLACE = Place("log")
ORIGIN = "log.example"
# The same in this process and in those that are killed.
KEY = parse_private_key(bytes.fromhex("302e020100300506032b657004220420") + b"sigkit's tests: a key of no one.", PLACE)
BATCH = 120
BATCHES = 6
FILED_AT = 260  # so that each third batch is filed, and with it a tile

# Forks a process for each line, so that a step costs no start of an interpreter: armed fail points and a directory in, a status out.
APPENDER = f"""
import os, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from tests.services.test_log_faults import make_and_append
for line in sys.stdin:
    armed, _, root = line.strip().partition(" ")
    child = os.fork()
    if not child:
        os.environ["SIGKIT_FAILPOINTS"] = armed
        make_and_append(root)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Now:
    def now(self):
        return Clock().now


def entry(number):
    return b"entry %d" % number


def make_and_append(root):
    """Make a log unless it is there, append batches, and write down each answer before the next is asked for."""
    if not os.path.exists(os.path.join(root, "version")):
        TileLog.create(root, ORIGIN, KEY, Now())
    with open(f"{root}.answers", "a") as answers, TileLog.open(root, KEY, filed_at=FILED_AT) as log:
        for batch in range(BATCHES):
            leaves = [entry(number) for number in range(batch * BATCH, (batch + 1) * BATCH)]
            try:
                done = log.append_many(leaves)
            except SigkitError as err:
                print("refused", err.code, file=answers, flush=True)
                continue
            head = done[0]
            print(head.index, head.size, head.root.hex(), batch, file=answers, flush=True)


@pytest.fixture(scope="module")
def append_with_fault():
    with subprocess.Popen([sys.executable, "-c", APPENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, answered = process.stdin, process.stdout
        assert asked is not None
        assert answered is not None

        def append(armed, root):
            print(armed, root, file=asked, flush=True)
            return int(answered.readline())

        yield append
        asked.close()


def answers_of(root):
    path = Path(f"{root}.answers")
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split() for line in lines if not line.startswith("refused")]


def check(root):
    """Open the log, and hold it to every answer that was given."""
    from tests.simulators.log_server import growth_by_tiles  # here: the process that is killed needs no server

    with TileLog.open(root, KEY) as log:
        head = log.head()
        signed = verify_checkpoint(head.checkpoint, KEY.public, log.log_id, ORIGIN, PLACE).checkpoint
        assert (signed.size, signed.root) == (head.size, head.root)
        for index, size, root_hash, batch in answers_of(root):
            assert log.find(int(index)) == entry(int(batch) * BATCH)
            assert log.find(int(index) + BATCH - 1) == entry((int(batch) + 1) * BATCH - 1)
            old = bytes.fromhex(root_hash)
            verify_consistency(int(size), old, head.size, head.root, growth_by_tiles(log, int(size), head.size), PLACE)
        log.check()
        # No entry is there twice, and all can be appended again.
        everything = [entry(number) for number in range(BATCHES * BATCH)]
        indexes = [appended.index for appended in log.append_many(everything)]
        assert sorted(indexes) == list(range(1, len(everything) + 1))
        for index, *_, batch in answers_of(root):
            assert indexes[int(batch) * BATCH] == int(index)
        assert log.head().size == len(everything) + 1


STEPS = [
    *(f"log.{name}=kill" for name in ("journal.fsync", "journal.rename", "journal.directory")),
    *(f"log.version.{name}=kill" for name in ("fsync", "rename", "directory")),
    *(f"log.journal.{name}={count}*kill" for name in ("append", "written", "sync", "synced") for count in (1, 2, 5)),
    *(f"log.{name}.{step}={count}*kill" for name in ("entries", "tile") for step in ("fsync", "rename", "directory") for count in (1, 2)),
    *(f"database.commit={count}*kill" for count in (1, 2, 3)),
    *(f"log.journal.{step}={count}*kill" for step in ("fsync", "rename", "directory") for count in (2, 3)),
]


QUICK = {
    "log.version.rename=kill",
    "log.journal.written=2*kill",
    "log.journal.synced=2*kill",
    "log.tile.rename=1*kill",
    "database.commit=2*kill",
}


def marked(armed):
    return armed if armed in QUICK else pytest.param(armed, marks=pytest.mark.slow)


@pytest.mark.parametrize("armed", [marked(armed) for armed in STEPS])
def test_killed_at_any_step_the_log_keeps_every_answer_and_goes_on(armed, append_with_fault, tmp_path):
    root = tmp_path / "log"
    assert append_with_fault(armed, root) == -9, "the step was not passed"
    assert append_with_fault("none=kill", root) == 0
    check(root)


@pytest.mark.slow
@pytest.mark.parametrize("armed", ["log.journal.sync=2*kill", "log.tile.rename=2*kill", "log.journal.rename=2*kill"])
def test_killed_again_and_again_it_still_keeps_every_answer(armed, append_with_fault, tmp_path):
    root = tmp_path / "log"
    for _ in range(4):
        append_with_fault(armed, root)
    check(root)


@pytest.mark.slow
@pytest.mark.parametrize(
    "armed",
    [f"log.{step}={count}*enospc" for step in ("journal.append", "journal.written", "tile.fsync", "entries.rename") for count in (1, 2)]
    + ["log.journal.fsync=2*enospc", "log.journal.rename=2*enospc", "log.tile.fsync=1*eio", "database.commit=3*enospc"],
)
def test_a_full_disk_loses_nothing_and_the_log_goes_on_when_there_is_space(armed, append_with_fault, tmp_path):
    root = tmp_path / "log"
    assert append_with_fault(armed, root) == 0
    refused = Path(f"{root}.answers").read_text().count("refused")
    assert refused == (1 if "journal.append" in armed or "journal.written" in armed else 0)
    check(root)


def test_a_log_whose_disk_failed_takes_nothing_more_until_it_is_opened_anew(tmp_path, monkeypatch):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.journal.sync=eio")
    with TileLog.open(root, KEY) as log:
        before = log.head()
        for _ in range(2):  # the fail point is passed once: the second refusal is the log's own
            with pytest.raises(LogHalted):
                log.append_many([b"x"])
        assert log.head() == before
        assert log.find(1) is None
    with TileLog.open(root, KEY) as log:
        # The entry was not answered; it may be there all the same, and then once.
        assert log.append_many([b"x"])[0].index == 1
        assert log.head().size == 2


def told(caplog):
    """Return what the operator was told since it was asked last."""
    lines = [(record.levelname, ORIGIN in record.message, record.message.count("SK-")) for record in caplog.records]
    caplog.clear()
    return lines


def test_the_operator_is_told_once_that_a_log_takes_nothing_and_once_that_it_goes_on(tmp_path, monkeypatch, caplog):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY) as log:
        monkeypatch.setattr(durable, "_passages", {})
        monkeypatch.setenv("SIGKIT_FAILPOINTS", ";".join(f"log.journal.append={count}*enospc" for count in (1, 3)))  # each item counts
        with pytest.raises(FileUnwritable):
            log.append_many([b"x"])
        assert told(caplog) == [("ERROR", True, 1)]
        with pytest.raises(FileUnwritable):
            log.append_many([b"y"])
        assert told(caplog) == []
        for leaf in (b"y", b"z"):
            log.append_many([leaf])
        assert told(caplog) == [("WARNING", True, 0)]


def test_the_operator_is_told_once_of_a_log_that_is_to_be_opened_anew(tmp_path, monkeypatch, caplog):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY) as log:
        monkeypatch.setattr(durable, "_passages", {})
        monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.journal.sync=eio")
        for leaf in (b"x", b"y"):
            with pytest.raises(LogHalted):
                log.append_many([leaf])
    assert told(caplog) == [("ERROR", True, 1)]


@pytest.mark.parametrize("step", ["append", "written"])
def test_what_found_no_space_is_not_in_the_journal_when_the_next_batch_follows(step, tmp_path, monkeypatch):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    monkeypatch.setenv("SIGKIT_FAILPOINTS", f"log.journal.{step}=enospc")
    with TileLog.open(root, KEY) as log:
        with pytest.raises(FileUnwritable):
            log.append_many([b"x"])
        assert log.append_many([b"y"])[0].index == 1
    with TileLog.open(root, KEY) as log:
        assert (log.head().size, log.find(1)) == (2, b"y")


def test_an_index_whose_commit_found_no_space_takes_the_entries_of_the_next_filing(tmp_path, monkeypatch):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY, filed_at=256) as log:
        monkeypatch.setattr(durable, "_passages", {})
        monkeypatch.setenv("SIGKIT_FAILPOINTS", "database.commit=enospc")
        for at in range(0, 600, 300):  # the first is not filed, the second is with it
            log.append_many([entry(number) for number in range(at, at + 300)])
        assert (root / "journal").stat().st_size < 300 * len(entry(0))
        assert log.append_many([entry(7)])[0].index == 8
    check_again = [entry(number) for number in range(600)]
    with TileLog.open(root, KEY) as log:
        assert not any(appended.added for appended in log.append_many(check_again))


def test_a_journal_that_was_begun_anew_and_cannot_be_opened_takes_entries_as_soon_as_it_can(tmp_path, monkeypatch):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY, filed_at=256) as log:
        monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.journal.reopen=enospc")
        monkeypatch.setattr(durable, "_passages", {})
        assert log.append_many([entry(number) for number in range(300)])[299].added  # and filed
        monkeypatch.setattr(durable, "_passages", {})
        with pytest.raises(FileUnwritable):
            log.append_many([entry(300)])
        assert log.append_many([entry(301)])[0].index == 301
    with TileLog.open(root, KEY) as log:
        assert (log.head().size, log.find(301), log.find(300)) == (302, entry(301), entry(299))


def test_a_log_without_space_to_be_made_in_leaves_nothing_that_looks_like_one(append_with_fault, tmp_path, monkeypatch):
    root = tmp_path / "log"
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.version.fsync=enospc")
    with pytest.raises(UnavailError):
        TileLog.create(root, ORIGIN, KEY, Now())
    with pytest.raises(UnavailError), TileLog.open(root, KEY):
        pass
    assert append_with_fault("none=kill", root) == 0
    check(root)


def test_the_empty_tree_is_no_tree_that_a_log_ever_shows(tmp_path):
    TileLog.create(tmp_path / "log", ORIGIN, KEY, Now())
    with TileLog.open(tmp_path / "log", KEY) as log:
        assert log.head().root != EMPTY_ROOT
