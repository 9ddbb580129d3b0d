"""The last checkpoint that was seen: kept durably, replaced only by what continues it."""

from __future__ import annotations

import hashlib
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
from sigkit.tlog.known import KnownLog, of_first_generation
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
    """Return what is kept beside the locks: "" for a checkpoint that is remembered."""
    names = (name for name in os.listdir(tmp_path / "seen") if not name.endswith(".lock"))
    return sorted(name.partition(".")[2].partition("-")[0] for name in names)


def test_a_fork_is_an_alarm_and_both_checkpoints_are_kept(monitor, tmp_path):
    observe(monitor, Log(b"a", b"b", b"c"))
    for forked in (Log(b"a", b"b", b"X"), Log(b"a", b"b", b"X", b"d")):
        with pytest.raises(LogForked) as caught:
            observe(monitor, forked)
        assert caught.value.status() == 1
    assert kept(tmp_path) == ["", "alarm", "alarm"]
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
    assert kept(tmp_path) == [""]
    assert observe(monitor, log).seen is Seen.SAME


def test_a_late_checkpoint_of_another_tree_is_a_fork_whatever_is_shown_when_it_is_asked_for_again(monitor, tmp_path):
    log = Log(b"a", b"b", b"c")
    observe(monitor, log)
    with pytest.raises(LogForked):
        monitor.observe(Log(b"a", b"X").note(), known(), log.add(b"d"), PLACE)
    assert kept(tmp_path) == ["", "alarm"]


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
    assert kept(tmp_path) == [""]
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
    assert kept(tmp_path) == [""]
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


class Numbered(Log):
    """A log of the first generation: its checkpoints are signed under a name, and their first line has a tree's number behind it."""

    def __init__(self, number, *leaves, name=ORIGIN, line_id=None):
        super().__init__(*leaves or (b"a", b"b"))
        self.number, self.name, self.line_id = number, name, line_id

    def note(self, key=KEY, origin=""):
        name = origin or self.name
        text = f"{name} - {self.number}\n{len(self.leaves)}\n{encode_base64(root_hash(self.leaves))}\n"
        return f"{text}\n{encode_line(name, self.line_id or known(key, name).log_id, key.sign(text.encode()))}"


def observe_numbered(monitor, log, expected=""):
    return monitor.observe(log.note(), KnownLog(KEY.public, known().log_id, None, expected), log, PLACE)


@pytest.mark.attack("fork by a tree's number")
def test_a_number_behind_its_name_makes_no_new_log_of_one_that_was_seen(monitor):
    observe(monitor, Log(b"a", b"b", b"c"))
    with pytest.raises(LogForked):
        observe_numbered(monitor, Numbered(7))
    assert observe(monitor, Log(b"a", b"b", b"c")).seen is Seen.SAME


@pytest.mark.attack("fork by a tree's number")
def test_a_name_without_a_number_is_no_new_log_where_its_trees_have_one(monitor):
    observe_numbered(monitor, Numbered(7))
    with pytest.raises(LogForked):
        observe(monitor, Log(b"a", b"b", b"c"))
    assert observe_numbered(monitor, Numbered(7)).seen is Seen.SAME


OTHER_NAMES = ["log.example.", "LOG.example", "l\u043eg.example", "x"]


@pytest.mark.attack("fork by another name")
@pytest.mark.parametrize("name", OTHER_NAMES)
@pytest.mark.parametrize("expected", ["", ORIGIN])
def test_another_name_and_a_number_make_no_new_log_of_one_that_was_seen(monitor, tmp_path, name, expected):
    observe(monitor, Log(b"a", b"b", b"c"))
    forked = Numbered(7, name=name)
    with pytest.raises(LogForked) as caught:
        observe_numbered(monitor, forked, expected)
    assert kept(tmp_path) == ["", "alarm"]
    [alarm] = (tmp_path / "seen").glob("*.alarm-*")
    assert alarm.read_text() == forked.note()
    assert str(alarm) in caught.value.problem
    assert observe(monitor, Log(b"a", b"b", b"c")).seen is Seen.SAME


@pytest.mark.attack("fork by another name")
@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_tree_without_a_number_is_no_new_log_where_its_key_signed_numbered_ones_under_another_name(monitor, name):
    observe_numbered(monitor, Numbered(7, name=name), ORIGIN)
    with pytest.raises(LogForked):
        observe(monitor, Log(b"a", b"b", b"c"))


@pytest.mark.attack("fork by another name")
@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_tree_is_known_by_its_number_whatever_name_stands_before_it(monitor, name):
    observe_numbered(monitor, Numbered(7, b"a", b"b", b"c"))
    with pytest.raises(LogForked):
        observe_numbered(monitor, Numbered(7, b"a", b"b", b"X", name=name))
    with pytest.raises(LogForked):
        observe_numbered(monitor, Numbered(7, b"a", b"X", b"c", b"d", name=name))
    with pytest.raises(LogRolledBack):
        observe_numbered(monitor, Numbered(7, b"a", name=name))
    assert observe_numbered(monitor, Numbered(8, name=name)).other_trees == 1


def test_a_log_of_the_first_generation_may_change_its_name(monitor, tmp_path):
    """Rekor's default is the name of the machine that it runs on."""
    observe_numbered(monitor, Numbered(7, b"a", b"b", name="pod-1"))
    for name, leaves, seen in (
        ("pod-2", (b"a", b"b"), Seen.SAME),
        ("pod-2", (b"a", b"b", b"c"), Seen.GROWN),
        ("pod-1", (b"a", b"b", b"c"), Seen.SAME),
        ("pod-3", (b"a", b"b", b"c", b"d"), Seen.GROWN),
    ):
        assert observe_numbered(monitor, Numbered(7, *leaves, name=name), "log.example").seen is seen
    assert kept(tmp_path) == [""]
    assert [(item.origin, item.size) for item in monitor.remembered()] == [("pod-3 - 7", "4")]


def remember_as_before(directory, log):
    """Write a checkpoint where versions of sigkit wrote it that followed a tree under each name for itself."""
    directory.mkdir(exist_ok=True)
    family = hashlib.sha256(log.name.encode() + b"\n" + KEY.public.spki).hexdigest()
    (directory / f"{family}-{hashlib.sha256(str(log.number).encode()).hexdigest()[:16]}").write_text(log.note())


def test_what_earlier_versions_remembered_counts_and_of_one_tree_under_several_names_the_newest(monitor, tmp_path):
    for name, leaves in (("pod-1", (b"a",)), ("pod-2", (b"a", b"b", b"c")), ("pod-3", (b"a", b"b"))):
        remember_as_before(tmp_path / "seen", Numbered(7, *leaves, name=name))
    remember_as_before(tmp_path / "seen", Numbered(8, name="pod-1"))
    for name in ("pod-1", "pod-4"):
        with pytest.raises(LogRolledBack):
            observe_numbered(monitor, Numbered(7, b"a", b"b", name=name))
        assert observe_numbered(monitor, Numbered(7, b"a", b"b", b"c", name=name)).seen is Seen.SAME
    assert observe_numbered(monitor, Numbered(7, b"a", b"b", b"c", b"d", name="pod-4")).before == 3
    assert observe_numbered(monitor, Numbered(9, name="pod-4")).other_trees == 2


@pytest.mark.parametrize("order", [1, -1])
def test_logs_of_either_generation_that_the_caller_tells_apart_may_have_one_key(monitor, order):
    """Rekor of the first generation signs under its key's fingerprint, of the second under an id of name and key."""
    fingerprint = KEY.public.fingerprint.value
    old, new = Numbered(7, name="old.example", line_id=fingerprint), Log(b"X")
    observed = [
        lambda: monitor.observe(old.note(), KnownLog(KEY.public, fingerprint, None, "old.example"), old, PLACE),
        lambda: observe(monitor, new),
    ]
    for seen in (Seen.FIRST, Seen.SAME):
        assert [(found.seen, found.other_trees) for found in (act() for act in observed[::order])] == [(seen, 0)] * 2


@pytest.mark.attack("fork by another name")
def test_where_a_file_is_damaged_that_could_be_of_this_log_nothing_is_called_the_first_checkpoint(monitor, tmp_path):
    observe_numbered(monitor, Numbered(7))
    [file] = [path for path in (tmp_path / "seen").iterdir() if path.suffix != ".lock"]
    file.write_bytes(b"")
    for act in (lambda: observe_numbered(monitor, Numbered(7, b"X", name="x")), lambda: observe(monitor, Log(b"X"))):
        with pytest.raises(FileUnreadable) as caught:
            act()
        assert caught.value.remedy.endswith(f"sigkit log forget {file}")
    monitor.forget(str(file))
    assert observe_numbered(monitor, Numbered(7, b"X", name="x")).seen is Seen.FIRST


def test_another_tree_of_a_log_that_was_seen_is_told(monitor):
    assert observe_numbered(monitor, Numbered(7)).other_trees == 0
    second = observe_numbered(monitor, Numbered(8))
    assert (second.seen, second.other_trees) == (Seen.FIRST, 1)
    assert observe_numbered(monitor, Numbered(9)).other_trees == 2


def test_a_late_checkpoint_is_not_compared_with_another_tree_of_its_log(monitor):
    observe_numbered(monitor, Numbered(7, b"a", b"b", b"c"))
    note, known_log = Numbered(7, b"a", b"b").note(), KnownLog(KEY.public, known().log_id, None)
    with pytest.raises(LogRolledBack):
        monitor.observe(note, known_log, Numbered(8, b"v", b"w", b"x", b"y"), PLACE)
    assert observe_numbered(monitor, Numbered(7, b"a", b"b", b"c")).seen is Seen.SAME


def test_trees_of_another_key_are_none_of_this_log(monitor):
    observe_numbered(monitor, Numbered(7, b"a", b"b", b"c"))
    other, log = generate("ed25519"), Numbered(7, b"X")
    seen = monitor.observe(log.note(other), KnownLog(other.public, known(other).log_id, None), log, PLACE)
    assert (seen.seen, seen.other_trees) == (Seen.FIRST, 0)


@pytest.mark.attack("fork by another name")
def test_a_log_is_of_the_first_generation_only_by_its_keys_fingerprint():
    other = generate("ecdsa-p256").public
    first = KnownLog(other, other.fingerprint.value, ORIGIN)
    assert of_first_generation(first) == KnownLog(other, other.fingerprint.value, None, ORIGIN)
    assert of_first_generation(KnownLog(other, other.fingerprint.value[:4], ORIGIN)).origin is None
    assert of_first_generation(known()) == known()
    assert of_first_generation(KnownLog(KEY.public, known().log_id[:4], ORIGIN)).origin == ORIGIN
