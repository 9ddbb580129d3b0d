"""The log's directory: what is answered is durable, proved, and found again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import zlib

import pytest

from sigkit import durable
from sigkit.errors import DatabaseUnusable, FileUnwritable, LockTimeout, LogDamaged, LogHalted, Place, TooLarge, UnsupportedKey
from sigkit.keys.private import generate
from sigkit.services.log.index import term_of
from sigkit.services.log.journal import Journal, Record
from sigkit.services.log.store import TileLog
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.tlog.proof import verify_consistency
from sigkit.tlog.tile import parse_entries, parse_tile_path
from tests.simulators.log_server import growth_by_tiles, read_file
from tests.simulators.sigstore_logs import Clock

PLACE = Place("log")
ORIGIN = "log.example"
KEY = generate("ed25519")


class Now:
    def now(self):
        return Clock().now


@pytest.fixture
def root(tmp_path):
    TileLog.create(tmp_path / "log", ORIGIN, KEY, Now())
    return tmp_path / "log"


def entries(count, start=0):
    return [b"entry %d" % number for number in range(start, start + count)]


def fill(root, *batches, **options):
    with TileLog.open(root, KEY, **options) as log:
        for batch in batches:
            log.append_many(batch)
        return log.head()


def check(log, appended, leaf):
    verify_inclusion(leaf_hash(leaf), appended.index, appended.size, appended.proof, appended.root, PLACE)
    signed = verify_checkpoint(appended.checkpoint, KEY.public, log.log_id, ORIGIN, PLACE)
    assert (signed.checkpoint.size, signed.checkpoint.root) == (appended.size, appended.root)


def test_every_entry_is_answered_with_a_proof_and_the_checkpoint_of_its_tree(root):
    with TileLog.open(root, KEY) as log:
        for batch in (entries(1), entries(40, 1), entries(700, 41)):
            for leaf, appended in zip(batch, log.append_many(batch), strict=True):
                assert appended.added
                assert log.find(appended.index) == leaf
                check(log, appended, leaf)


def test_the_first_entry_is_the_logs_own(root):
    with TileLog.open(root, KEY) as log:
        (appended,) = log.append_many([b"x"])
        assert appended.index == 1
        assert len(appended.proof) == 1


def test_a_duplicate_is_answered_with_the_first_entry_and_a_fresh_proof(root):
    with TileLog.open(root, KEY) as log:
        (first,) = log.append_many([b"x"])
        log.append_many(entries(2_000))
        size = log.head().size
        again, new, twice = log.append_many([b"x", b"y", b"y"])
        assert (again.index, again.added) == (first.index, False)
        assert (new.added, twice.added, twice.index) == (True, False, new.index)
        assert log.head().size == size + 1
        check(log, again, b"x")
    with TileLog.open(root, KEY) as log:
        (again,) = log.append_many([b"x"])
        assert (again.index, log.head().size) == (first.index, size + 1)
        check(log, again, b"x")


def test_what_was_answered_is_there_when_the_log_is_opened_again(root):
    before = fill(root, *(entries(97, at) for at in range(0, 3_000, 97)))
    with TileLog.open(root, KEY) as log:
        assert log.head() == before
        log.check()
        assert [log.find(number + 1) for number in range(3_000)] == entries(3_000)
        assert log.find(before.size) is None
        assert log.find(-1) is None


def test_every_tree_is_the_beginning_of_every_later_one(root):
    heads = []
    with TileLog.open(root, KEY) as log:
        for at in range(0, 2_600, 130):
            heads.append(log.head())
            log.append_many(entries(130, at))
        for old in heads:
            for new in heads:
                if old.size < new.size:
                    verify_consistency(old.size, old.root, new.size, new.root, growth_by_tiles(log, old.size, new.size), PLACE)


def test_every_file_of_every_published_size_can_be_read(root):
    with TileLog.open(root, KEY) as log:
        log.append_many(entries(2_000))
        for number in (0, 3, 7):
            for width in (1, 200, 256):
                name = f"00{number}" + (f".p/{width}" if width < 256 else "")
                raw = read_file(log, f"tile/entries/{name}")
                found = None if raw is None else parse_entries(raw, width, PLACE)
                hashes = read_file(log, f"tile/0/{name}")
                if number * 256 + width > 2_001:
                    assert (found, hashes) == (None, None)
                else:
                    assert found == tuple(log.find(number * 256 + at) for at in range(width))
                    assert hashes == b"".join(map(leaf_hash, found))
        assert len(read_file(log, "tile/1/000.p/7") or b"") == 7 * 32
        assert read_file(log, "tile/1/000.p/8") is None
        assert read_file(log, "checkpoint") == log.checkpoint().encode()
        assert read_file(log, "version") is None
        assert read_file(log, "tile/entries/../../journal") is None


def test_whole_tiles_lie_where_any_file_server_finds_them(root):
    fill(root, entries(2_000))
    for name in ("tile/0/000", "tile/0/006", "tile/entries/000"):
        assert parse_tile_path(name)
        assert (root / name).is_file()


def terms(leaf):
    return (term_of("last", leaf[-1:]),)


def test_entries_are_found_by_their_terms_in_order(root):
    fill(root, entries(2_000), terms=terms)
    with TileLog.open(root, KEY, terms=terms) as log:
        log.append_many([b"new 7"])
        assert log.search(term_of("last", b"7"), 3) == (8, 18, 28)
        assert log.search(term_of("last", b"7"), 1_000)[-1] == 2_001
        assert log.search(term_of("last", b"!"), 3) == ()


def test_an_index_that_was_removed_is_made_again(root):
    fill(root, entries(2_000), terms=terms)
    for path in root.glob("index.sqlite*"):
        path.unlink()
    with TileLog.open(root, KEY, terms=terms) as log:
        assert len(log.search(term_of("last", b"7"), 1_000)) == 200
        assert not log.append_many([b"entry 5"])[0].added


def test_an_entry_that_no_bundle_can_hold_is_refused_and_the_batch_with_it(root):
    with TileLog.open(root, KEY) as log:
        before = log.head()
        with pytest.raises(TooLarge):
            log.append_many([b"x", bytes(65_536)])
        assert log.head() == before
        log.append_many([bytes(65_535)])


def test_one_process_uses_a_log(root):
    with TileLog.open(root, KEY), pytest.raises(LockTimeout), TileLog.open(root, KEY):
        pass


def test_a_log_is_never_made_over_another(root):
    with pytest.raises(FileUnwritable):
        TileLog.create(root, ORIGIN, KEY, Now())


@pytest.mark.parametrize("name", ["letter", "letter.tmp", ".letter"])
def test_a_directory_of_something_else_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("dear")
    with pytest.raises(FileUnwritable):
        TileLog.create(tmp_path, ORIGIN, KEY, Now())
    with pytest.raises(DatabaseUnusable), TileLog.open(tmp_path, KEY):
        pass
    assert os.listdir(tmp_path) == [name]


def test_a_directory_of_another_version_is_refused(root):
    (root / "version").write_text(f"sigkit.log/2\n{ORIGIN}\n")
    with pytest.raises(DatabaseUnusable), TileLog.open(root, KEY):
        pass


def test_a_log_signs_with_ed25519_only(tmp_path):
    with pytest.raises(UnsupportedKey):
        TileLog.create(tmp_path / "log", ORIGIN, generate("ecdsa-p256"), Now())


def damaged(root):
    with pytest.raises(LogDamaged), TileLog.open(root, KEY):
        pass


def test_another_key_opens_no_log(root):
    with pytest.raises(LogDamaged), TileLog.open(root, generate("ed25519")):
        pass


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["002", "006"])
def test_a_log_whose_files_do_not_make_the_tree_it_signed_does_not_start_and_leaves_them_as_they_are(root, name):
    fill(root, entries(2_000))
    for part in ("0", "entries"):
        flip(root / "tile" / part / name, 77)
    before = files_of(root)
    damaged(root)
    assert files_of(root) == before


def files_of(root):
    return {path: path.read_bytes() for path in (root / "tile").rglob("*") if path.is_file()}


def cut(path):
    os.truncate(path, 100)


def lengthen(path):
    os.truncate(path, path.stat().st_size + 1)


def one_bit(path):
    flip(path, 77)


def lose(path):
    path.unlink()


DAMAGES = [cut, lengthen, one_bit, lose]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tile_of_hashes_that_was_lost_or_damaged_is_made_anew_from_the_entries_when_the_log_is_opened(root, damage):
    fill(root, entries(2_000))
    before = files_of(root)
    for name in ("002", "006"):
        damage(root / "tile" / "0" / name)
    fill(root)
    assert files_of(root) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_log_that_lacks_a_tile_of_hashes_and_the_entries_of_it_does_not_start(root, damage):
    fill(root, entries(2_000))
    for part in ("0", "entries"):
        damage(root / "tile" / part / "003")
    damaged(root)


def test_a_key_that_is_not_the_logs_makes_nothing_anew(root):
    fill(root, entries(2_000))
    (root / "tile/0/003").unlink()
    with pytest.raises(LogDamaged), TileLog.open(root, generate("ed25519")):
        pass
    assert not (root / "tile/0/003").exists()


def test_an_index_is_made_again_while_a_tile_of_hashes_is_damaged(root):
    fill(root, entries(2_000))
    flip(root / "tile/0/002", 77)
    remove_index(root)
    with TileLog.open(root, KEY) as log:
        assert not log.append_many([b"entry 600"])[0].added


@pytest.mark.parametrize("at", [0, 5, 20, 41, 60, 300, -1])
def test_a_journal_in_which_a_bit_flipped_is_refused(root, at):
    fill(root, entries(3), entries(3, 3))
    flip(root / "journal", at)
    damaged(root)


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_what_a_killed_process_left_unfinished_in_the_journal_is_cut_off(root, cut):
    before = fill(root, entries(3))
    whole = (root / "journal").stat().st_size
    fill(root, entries(3, 3))
    grown = (root / "journal").stat().st_size
    os.truncate(root / "journal", grown - cut)
    assert grown - whole > cut
    with TileLog.open(root, KEY) as log:
        assert log.head() == before
        assert [appended.index for appended in log.append_many(entries(6))] == [1, 2, 3, 4, 5, 6]


def test_zeros_that_a_file_system_left_at_the_journals_end_are_cut_off(root):
    before = fill(root, entries(3))
    with open(root / "journal", "ab") as file:
        file.write(bytes(5_000))
    assert fill(root) == before


@pytest.fixture
def torn(root):
    """Give what tears the journal's last record, of 20 sectors: only the file's bytes before an offset reached the disk."""
    before = fill(root, entries(3))
    begin = (root / "journal").stat().st_size
    fill(root, [b"\xff" * 10_000])
    raw = (root / "journal").read_bytes()

    def tear(offset):
        (root / "journal").write_bytes(raw[:offset].ljust(len(raw), b"\0"))
        return before

    return tear, begin, len(raw)


@pytest.mark.parametrize("sector", [0, 1, 8, -1])
def test_a_record_whose_last_sectors_never_reached_the_disk_is_cut_off(root, torn, sector):
    tear, begin, end = torn
    sectors = range(begin // 512 * 512 + 512, end, 512)
    before = tear(sectors[sector])
    with TileLog.open(root, KEY) as log:
        assert log.head() == before
        assert log.append_many([b"x"])[0].index == before.size


@pytest.mark.parametrize("came", [0, 1, 4, 30, 43, 44])
def test_a_record_is_cut_off_wherever_a_sector_ends_within_its_head(root, tmp_path, came):
    shutil.copytree(root, tmp_path / "measured")
    fill(tmp_path / "measured", [b"x"])
    wanted = -((tmp_path / "measured" / "journal").stat().st_size + came) % 512
    before = fill(root, [bytes(wanted) + b"x"])
    begin = (root / "journal").stat().st_size
    assert (begin + came) % 512 == 0
    fill(root, [b"\xff" * 1_000])
    raw = (root / "journal").read_bytes()
    (root / "journal").write_bytes(raw[: begin + came].ljust(len(raw), b"\0"))
    assert fill(root) == before


@pytest.mark.parametrize("zeros", [1, 20])
def test_a_record_that_ends_in_zeros_and_no_sector_of_them_was_damaged_later(root, torn, zeros):
    tear, _, end = torn
    assert end % 512 > 20
    tear(end - zeros)
    damaged(root)


def test_a_record_of_zeros_before_another_was_damaged_later(root, torn):
    tear, begin, _ = torn
    raw = (root / "journal").read_bytes()
    tear(begin // 512 * 512 + 1_024)
    with open(root / "journal", "ab") as file:
        file.write(raw[begin:])
    damaged(root)


def test_a_bit_that_flipped_in_a_head_after_which_the_file_was_grown_is_refused(root, torn):
    _, begin, _ = torn
    flip(root / "journal", begin + 20)
    with open(root / "journal", "ab") as file:
        file.write(bytes(4_096))
    damaged(root)


def test_an_older_copy_of_the_journal_is_refused(root):
    fill(root, entries(300))
    shutil.copy(root / "journal", root / "old")
    fill(root, entries(2_000, 300))
    os.replace(root / "old", root / "journal")
    damaged(root)


def test_an_entry_that_was_altered_on_the_disk_is_found_by_the_check(root):
    fill(root, entries(2_000))
    flip(root / "tile/entries/002", 5)
    with TileLog.open(root, KEY) as log, pytest.raises(LogDamaged):
        log.check()


def remove_index(root):
    for path in root.glob("index.sqlite*"):
        path.unlink()


@pytest.fixture
def rolled_back(root, tmp_path):
    """A log whose journal is older than its files and its index; nothing else is."""
    fill(root, entries(100))
    shutil.copy(root / "journal", tmp_path / "old")
    fill(root, entries(400, 100), filed_at=1)
    os.replace(tmp_path / "old", root / "journal")
    return root


def test_a_journal_older_than_the_files_is_refused_without_an_index(rolled_back):
    remove_index(rolled_back)
    damaged(rolled_back)


def test_a_journal_older_than_the_index_is_refused_without_the_files(rolled_back):
    shutil.rmtree(rolled_back / "tile")
    damaged(rolled_back)


def test_a_journal_that_goes_on_otherwise_than_the_files_is_refused(root, tmp_path):
    shutil.copytree(root, tmp_path / "other")
    fill(root, entries(300), filed_at=1)
    fill(tmp_path / "other", entries(300, 1_000))
    os.replace(tmp_path / "other" / "journal", root / "journal")
    remove_index(root)
    damaged(root)


def test_a_journal_that_leaves_entries_out_is_refused(root):
    fill(root, entries(3))
    head = fill(root)
    journal, _ = Journal.open(str(root / "journal"))
    journal.append(Record(head.size + 1, (b"x",), head.checkpoint))
    journal.close()
    damaged(root)


def test_a_batch_whose_end_nobody_heard_of_stops_the_log_and_is_there_when_it_is_opened_again(root):
    with TileLog.open(root, KEY) as log:
        with log.batch([b"x"], [()]) as batch:
            log.sync(batch)
        assert log.head().size == 1
        with pytest.raises(LogHalted):
            log.append_many([b"y"])
    with TileLog.open(root, KEY) as log:
        assert (log.head().size, log.find(1)) == (2, b"x")
        assert log.append_many([b"x"])[0].index == 1


def test_a_batch_that_was_never_synced_was_never_there(root):
    with TileLog.open(root, KEY) as log:
        with log.batch([b"x"], [()]):
            pass
        assert log.append_many([b"y"])[0].index == 1
    assert fill(root).size == 2


def test_a_journal_whose_sync_failed_takes_nothing_more():
    reading, writing = os.pipe()  # which can be written to and not be synced
    journal = Journal("journal", writing, 0)
    for _ in range(2):
        with pytest.raises(LogHalted):
            journal.append(Record(1, (b"x",), "checkpoint"))
    journal.close()
    with open(reading, "rb") as file:
        assert file.read().count(b"SKL1") == 1


@pytest.mark.attack("duplicates of large entries")
def test_a_duplicate_of_a_filed_entry_is_found_and_proved_without_reading_a_bundle_of_entries(root):
    fill(root, entries(600), filed_at=256)
    with TileLog.open(root, KEY) as log:
        for path in (root / "tile" / "entries").iterdir():  # what is gone cannot have been read
            path.unlink()
        before = log.head()
        for leaf, appended in zip(entries(600), log.append_many(entries(600)), strict=True):
            assert not appended.added
            check(log, appended, leaf)
        assert log.head() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_log_whose_tile_and_its_entries_are_damaged_while_it_runs_signs_nothing_more_when_a_duplicate_needs_it(root, damage):
    fill(root, entries(600), filed_at=256)
    with TileLog.open(root, KEY) as log:
        for part in ("0", "entries"):
            damage(root / "tile" / part / "000")
        for leaf in (b"entry 5", b"new"):
            with pytest.raises(LogDamaged):
                log.append_many([leaf])
        assert not log.takes_entries


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("read", ["by a duplicate", "by whoever fetches it", "by the check"])
def test_a_tile_that_is_damaged_while_the_log_runs_is_made_anew_when_it_is_read_and_the_operator_is_told(root, read, damage, caplog):
    fill(root, entries(600), filed_at=256)
    before = files_of(root)
    with TileLog.open(root, KEY) as log:
        damage(root / "tile" / "0" / "000")
        if read == "by a duplicate":
            check(log, log.append_many([b"entry 5"])[0], b"entry 5")
        elif read == "by whoever fetches it":
            assert log.find_file("tile/0/000") == before[root / "tile" / "0" / "000"]
        else:
            log.check()
        assert files_of(root) == before
    assert str(root / "tile" / "0" / "000") in caplog.text


def test_a_damaged_tile_is_read_right_where_it_cannot_be_written_anew(root, monkeypatch):
    fill(root, entries(600), filed_at=256)
    before = files_of(root)
    with TileLog.open(root, KEY) as log:
        (root / "tile" / "0" / "000").unlink()
        monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.tile.fsync=enospc")
        monkeypatch.setattr(durable, "_passages", {})
        for _ in range(2):
            assert log.find_file("tile/0/000") == before[root / "tile" / "0" / "000"]
    assert files_of(root) == before


def test_an_entry_that_was_filed_since_it_was_looked_up_is_no_new_one(root):
    with TileLog.open(root, KEY, filed_at=256) as log:
        before = log.look_up(entries(300))
        log.append_many(entries(300))
        with log.batch(entries(300), [()] * 300, before) as batch:
            log.sync(batch)
            answers = log.finish(batch)
        assert not any(appended.added for appended in answers)
        assert log.head().size == 301


def test_a_journal_whose_first_record_is_damaged_is_refused_and_left_as_it_is(root):
    fill(root, entries(100))
    journal = root / "journal"
    for spoil in (lambda raw: raw[:20], lambda raw: raw[:40] + bytes(len(raw) - 40), lambda raw: raw[:60] + b"x" + raw[61:]):
        whole = journal.read_bytes()
        journal.write_bytes(spoil(whole))
        with pytest.raises(LogDamaged), TileLog.open(root, KEY):
            pass
        assert journal.read_bytes() == spoil(whole)
        journal.write_bytes(whole)
    with TileLog.open(root, KEY) as log:
        assert log.head().size == 101


def test_whoever_waited_while_another_made_the_log_begins_nothing_anew(root, tmp_path):
    class Overtaken(Now):
        def now(self):
            shutil.copytree(root, tmp_path / "late", dirs_exist_ok=True)
            return super().now()

    fill(root, entries(10))
    with pytest.raises(FileUnwritable):
        TileLog.create(tmp_path / "late", ORIGIN, KEY, Overtaken())
    with TileLog.open(tmp_path / "late", KEY) as log:
        assert log.head().size == 11


def test_what_a_killed_process_was_writing_is_removed(root):
    fill(root, entries(600), filed_at=256)
    for directory in (root, root / "tile" / "entries"):
        (directory / ".journal.12.ab.tmp").write_bytes(b"x")
    with TileLog.open(root, KEY):
        assert not list(root.rglob("*.tmp"))


def test_an_entry_whose_bytes_changed_in_memory_is_not_filed_over_the_good_one(root):
    with TileLog.open(root, KEY, filed_at=256) as log:
        log.append_many(entries(200))
        log._tail[7] = b"flipped"  # noqa: SLF001 - as a bad memory does
        log.append_many(entries(100, 200))
        with pytest.raises(LogDamaged):
            log.append_many([b"another"])
    with TileLog.open(root, KEY, filed_at=256) as log:
        assert [log.find(number + 1) for number in range(300)] == entries(300)
        log.append_many([b"another"])
        log.check()


def test_a_damaged_tile_of_a_higher_level_is_made_anew_by_the_check_and_when_the_log_is_opened(root):
    with TileLog.open(root, KEY, filed_at=256) as log:
        log.append_many(entries(256 * 256))
        log.check()
        tile = root / "tile" / "1" / "000"
        whole = tile.read_bytes()
        for damage in DAMAGES:
            damage(tile)
            log.check()
            assert tile.read_bytes() == whole
    for damage in DAMAGES:
        damage(tile)
        fill(root)
        assert tile.read_bytes() == whole
    flip(tile, 100)
    flip(root / "tile" / "entries" / "007", 5)
    damaged(root)


@pytest.mark.parametrize("covered", ["DELETE FROM covered", "UPDATE covered SET size = -256", "INSERT INTO covered VALUES (0)"])
def test_an_index_that_does_not_say_what_it_covers_is_refused_with_the_command_that_makes_it_anew(root, covered):
    fill(root, entries(600), filed_at=256)
    with contextlib.closing(sqlite3.connect(root / "index.sqlite")) as database:
        database.execute(covered)
        database.commit()
    with pytest.raises(DatabaseUnusable) as caught, TileLog.open(root, KEY):
        pass
    subprocess.run(caught.value.remedy, shell=True, check=True)  # noqa: S602 - as its operator does
    with TileLog.open(root, KEY) as log:
        assert not log.append_many(entries(1))[0].added


@pytest.mark.parametrize("body", [bytes(8) + b"\xff" * 4, bytes(8) + b"\0\0\0\1\0\0\1\0x", bytes(12) + b"\xff\xfe", b""])
def test_a_record_with_right_sums_that_no_log_wrote_is_damage_and_nothing_else(root, body):
    journal = root / "journal"
    head = b"SKL1" + len(body).to_bytes(4, "big") + hashlib.sha256(body).digest()
    journal.write_bytes(journal.read_bytes() + head + zlib.crc32(head).to_bytes(4, "big") + body)
    with pytest.raises(LogDamaged), TileLog.open(root, KEY):
        pass
