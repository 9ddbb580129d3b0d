"""The last checkpoint that was seen: kept durably, replaced only by what continues it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.errors import (
    BadConsistencyProof,
    CheckpointNotSigned,
    FileUnreadable,
    FileUnwritable,
    LogForked,
    LogRolledBack,
    MalformedCheckpoint,
    Place,
    Unreachable,
)
from sigkit.keys.private import generate
from sigkit.strict import encode_base64
from sigkit.tlog.known import KnownLog
from sigkit.tlog.merkle import leaf_hash
from sigkit.tlog.monitor import Monitor, Seen
from sigkit.tlog.note import ED25519_TYPE, encode_line, key_id_of
from tests.simulators.log_server import growth
from tests.simulators.sigstore_logs import root_hash

PLACE = Place("log")
ORIGIN = "log.example"
KEY = generate("ed25519")


def known(key=KEY, origin=ORIGIN):
    return KnownLog(key.public, key_id_of(origin, ED25519_TYPE, key.public.spki[-32:]), origin)


class Log:
    """A tree that tests grow, cut and fork."""

    def __init__(self, *leaves):
        self.leaves = [leaf_hash(leaf) for leaf in leaves]

    def add(self, *leaves):
        self.leaves += [leaf_hash(leaf) for leaf in leaves]
        return self

    def note(self, key=KEY, origin=ORIGIN):
        text = f"{origin}\n{len(self.leaves)}\n{encode_base64(root_hash(self.leaves))}\n"
        return f"{text}\n{encode_line(origin, known(key, origin).log_id, key.sign(text.encode()))}"

    def fetch_checkpoint(self):
        return self.note()

    def fetch_growth(self, old, new):
        return growth(old, self.leaves[: new.size])


class Silent(Log):
    """A log that proves nothing."""

    def fetch_growth(self, _old, _new):
        return ()


@pytest.fixture
def monitor(tmp_path):
    return Monitor(str(tmp_path / "seen"))


def observe(monitor, log):
    return monitor.observe(log.note(), known(), log, PLACE)


def test_a_log_that_grows_is_followed(monitor):
    log = Log(b"a", b"b", b"c")
    assert observe(monitor, log).seen is Seen.FIRST
    assert observe(monitor, log).seen is Seen.SAME
    grown = observe(monitor, log.add(b"d", b"e"))
    assert (grown.seen, grown.before) == (Seen.GROWN, 3)
    assert observe(monitor, log).seen is Seen.SAME


def kept(tmp_path):
    return sorted(name.partition(".")[2].partition("-")[0] for name in os.listdir(tmp_path / "seen"))


def test_a_fork_is_an_alarm_and_both_checkpoints_are_kept(monitor, tmp_path):
    observe(monitor, Log(b"a", b"b", b"c"))
    for forked in (Log(b"a", b"b", b"X"), Log(b"a", b"b", b"X", b"d")):
        with pytest.raises(LogForked) as caught:
            observe(monitor, forked)
        assert caught.value.status() == 1
    assert kept(tmp_path) == ["", "alarm", "alarm", "lock"]
    notes = {path.read_text() for path in (tmp_path / "seen").iterdir() if not path.name.endswith(".lock")}
    assert notes == {Log(*leaves).note() for leaves in ((b"a", b"b", b"c"), (b"a", b"b", b"X"), (b"a", b"b", b"X", b"d"))}


def test_after_an_alarm_the_checkpoint_from_before_still_counts(monitor):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)
    with pytest.raises(LogForked):
        observe(monitor, Log(b"a", b"b", b"X", b"d"))
    assert observe(monitor, log.add(b"d")).before == 3


def test_a_smaller_tree_is_an_alarm(monitor):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)
    with pytest.raises(LogRolledBack):
        observe(monitor, Log(b"a", b"b"))


def test_a_checkpoint_that_is_late_is_no_rollback_and_the_newest_is_remembered(monitor, tmp_path):
    log = Log(b"a", b"b")
    late = log.note()
    observe(monitor, log.add(b"c"))  # another process was faster
    seen = monitor.observe(late, known(), log.add(b"d"), PLACE)
    assert (seen.seen, seen.before) == (Seen.GROWN, 3)
    assert kept(tmp_path) == ["", "lock"]
    assert observe(monitor, log).seen is Seen.SAME


def test_a_late_checkpoint_of_another_tree_is_a_fork_whatever_is_shown_when_it_is_asked_for_again(monitor, tmp_path):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)
    with pytest.raises(LogForked):
        monitor.observe(Log(b"a", b"X").note(), known(), log.add(b"d"), PLACE)
    assert len(kept(tmp_path)) == 3


def test_a_log_that_proves_nothing_is_not_followed(monitor):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)
    with pytest.raises(LogForked) as caught:
        monitor.observe(log.add(b"d").note(), known(), Silent(), PLACE)
    assert isinstance(caught.value.__cause__, BadConsistencyProof)


def test_a_log_that_cannot_be_asked_raises_no_alarm_and_changes_nothing(monitor, tmp_path):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)

    class Gone(Log):
        def fetch_growth(self, _old, _new):
            raise Unreachable("gone", place=PLACE)

    with pytest.raises(Unreachable):
        monitor.observe(log.add(b"d").note(), known(), Gone(), PLACE)
    assert kept(tmp_path) == ["", "lock"]
    assert observe(monitor, log).before == 3


def test_logs_are_told_apart_by_origin_and_by_key(monitor):
    observe(monitor, Log(b"a", b"b", b"c"))
    other = generate("ed25519")
    smaller = Log(b"X")
    for key, origin in ((other, ORIGIN), (KEY, "other.example")):
        seen = monitor.observe(smaller.note(key, origin), known(key, origin), smaller, PLACE)
        assert seen.seen is Seen.FIRST


def test_what_the_log_did_not_sign_is_not_remembered(monitor, tmp_path):
    with pytest.raises(CheckpointNotSigned):
        monitor.observe(Log(b"a").note(generate("ed25519")), known(), Silent(), PLACE)
    assert not (tmp_path / "seen").exists()


def test_a_kept_checkpoint_that_was_altered_could_not_be_compared_and_is_this_machines_fault(monitor, tmp_path):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)
    (path,) = [path for path in (tmp_path / "seen").iterdir() if path.suffix != ".lock"]
    path.write_text(path.read_text().replace("\n3\n", "\n2\n"))
    with pytest.raises(FileUnreadable) as caught:
        observe(monitor, log)
    assert (caught.value.place, caught.value.status()) == (Place(str(path)), 3)
    assert caught.value.remedy.endswith(f"sigkit log forget {path}")


@pytest.mark.attack("memory for forks switched off")
def test_a_checkpoint_that_could_not_be_read_again_is_not_kept(monitor, tmp_path):
    log = Log(b"a", b"b", b"c")
    junk = "".join(encode_line(f"w{number}.example", b"abcd", bytes(1_800)) for number in range(50))
    assert len(junk) > limits.NOTE_BYTES
    with pytest.raises(MalformedCheckpoint):
        monitor.observe(log.note() + junk, known(), log, PLACE)
    assert observe(monitor, log).seen is Seen.FIRST
    with pytest.raises(MalformedCheckpoint):
        monitor.observe(Log(b"X").note() + junk, known(), log, PLACE)
    assert kept(tmp_path) == ["", "lock"]
    assert [(item.origin, item.size) for item in monitor.remembered()] == [(ORIGIN, "3")]


@pytest.mark.attack("memory for forks switched off")
@pytest.mark.parametrize(
    "content", [b"", b"x" * (limits.NOTE_BYTES + 1), b"\xff", b"no note\n"], ids=["empty", "large", "no text", "no note"]
)
def test_a_kept_checkpoint_that_cannot_be_read_is_no_absent_one(monitor, tmp_path, content):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)
    (path,) = [path for path in (tmp_path / "seen").iterdir() if path.suffix != ".lock"]
    path.write_bytes(content)
    for shown in (log, Log(b"X")):
        with pytest.raises(FileUnreadable) as caught:
            observe(monitor, shown)
        assert caught.value.place.source == str(path)
        assert caught.value.remedy.endswith(f"sigkit log forget {path}")
    assert path.read_bytes() == content
    [item] = monitor.remembered()
    assert item.path == str(path)
    assert Path(monitor.forget(item.path)).read_bytes() == content
    assert observe(monitor, log).seen is Seen.FIRST


def test_a_checkpoint_that_cannot_be_kept_is_not_called_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "monitor.checkpoint.fsync=enospc")
    log = Log(b"a")
    with pytest.raises(FileUnwritable):
        observe(Monitor(str(tmp_path / "seen")), log)
    monkeypatch.delenv("SIGKIT_FAILPOINTS")
    assert observe(Monitor(str(tmp_path / "seen")), log).seen is Seen.FIRST


def numbered(number):
    """Return a log of the first generation: its checkpoints are signed under its name, and their first line has a number as well."""
    log = Log(b"a", b"b")
    text = f"{ORIGIN} - {number}\n2\n{encode_base64(root_hash(log.leaves))}\n"
    return f"{text}\n{encode_line(ORIGIN, known().log_id, KEY.sign(text.encode()))}"


def observe_numbered(monitor, number):
    return monitor.observe(numbered(number), KnownLog(KEY.public, known().log_id, None), Silent(), PLACE)


@pytest.mark.attack("fork by a tree's number")
def test_a_number_behind_its_name_makes_no_new_log_of_one_that_was_seen(monitor):
    observe(monitor, Log(b"a", b"b", b"c"))
    with pytest.raises(LogForked):
        observe_numbered(monitor, 7)
    assert observe(monitor, Log(b"a", b"b", b"c")).seen is Seen.SAME


@pytest.mark.attack("fork by a tree's number")
def test_a_name_without_a_number_is_no_new_log_where_its_trees_have_one(monitor):
    observe_numbered(monitor, 7)
    with pytest.raises(LogForked):
        observe(monitor, Log(b"a", b"b", b"c"))
    assert observe_numbered(monitor, 7).seen is Seen.SAME


def test_another_tree_of_a_log_that_was_seen_is_told(monitor):
    assert observe_numbered(monitor, 7).other_trees == 0
    second = observe_numbered(monitor, 8)
    assert (second.seen, second.other_trees) == (Seen.FIRST, 1)
    assert observe_numbered(monitor, 9).other_trees == 2
