"""Logs read over the network: what is asked for, and what of it is believed."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sigkit.errors import (
    AnswerUnusable,
    BadInclusionProof,
    CheckpointMismatch,
    CheckpointNotSigned,
    EntryAbsent,
    IndexNotProved,
    LogUnsearchable,
    MalformedTile,
    OtherLogEntry,
    Place,
    ServerFailed,
    TooLarge,
    Unreachable,
)
from sigkit.keys.private import generate
from sigkit.net.session import Session
from sigkit.services.exchange import json_answer, whole_answer
from sigkit.services.log.index import term_of
from sigkit.tlog.checkpoint import parse_checkpoint
from sigkit.tlog.client import Found, Search, fetch_tile, find_log, is_uuid
from sigkit.tlog.entry import LogEntry
from sigkit.tlog.known import KnownLog, prove_entry, verify_head
from sigkit.tlog.note import parse_note
from sigkit.tlog.proof import verify_consistency
from sigkit.tlog.tile import Tile
from tests.simulators.log_server import RekorV1, serving, tile_log

PLACE = Place("log")
LEAVES = [b"entry %d" % number for number in range(700)]


@pytest.fixture
def session():
    with Session() as opened:
        yield opened


@pytest.fixture
def tiles(tmp_path):
    def terms(leaf):
        return (term_of("identity", leaf),)

    with tile_log(tmp_path / "log", LEAVES, terms=terms) as served:
        yield served


def reader_of(session, url):
    return find_log(session, url, PLACE, 60)


@pytest.mark.parametrize("index", [0, 1, 255, 256, 700])
def test_an_entry_is_read_and_proved_from_the_tiles(tiles, session, index):
    log, _, url, known = tiles
    entry = reader_of(session, url).fetch_entry(str(index))
    assert entry.body == log.find(index)
    assert prove_entry(entry, known, PLACE).checkpoint.size == 701


def test_growth_is_proved_from_the_tiles(tiles, session):
    log, _, url, known = tiles
    old = log.head()
    log.append_many([b"one more", b"and another"])
    reader = reader_of(session, url)
    new = verify_head(reader.fetch_checkpoint(), known, PLACE)
    verify_consistency(old.size, old.root, new.size, new.root, reader.fetch_growth(old.size, new), PLACE)


@pytest.mark.parametrize("name", ["701", "9999999999999999999", "-1", "x", "", "0x1", "a" * 64])
def test_an_entry_that_the_log_does_not_have_is_absent(tiles, session, name):
    with pytest.raises(EntryAbsent):
        reader_of(session, tiles[2]).fetch_entry(name)


def test_the_whole_tile_is_asked_for_where_its_beginning_is_gone(tiles, session):
    log, front, url, known = tiles
    reader = reader_of(session, url)
    note = reader.fetch_checkpoint()
    log.append_many([b"later %d" % number for number in range(400)])
    front.altered("/checkpoint", lambda _: note.encode())
    front.absent("002.p/")
    # Only what is whole by now is left, as on a server that cleans up: the old checkpoint is proved from that.
    entry = reader.fetch_entry("600")
    assert entry.body == LEAVES[599]
    front.change.pop("002.p/")
    assert prove_entry(reader.fetch_entry("600"), known, PLACE).checkpoint.size == 701


def flip_last(raw):
    return raw[:-1] + bytes((raw[-1] ^ 1,))


@pytest.mark.parametrize("part", ["tile/0/000", "tile/1/000", "tile/entries/000"])
def test_an_altered_tile_proves_nothing(tiles, session, part):
    _, front, url, known = tiles
    front.altered(part, flip_last if part != "tile/0/000" else (lambda raw: bytes((raw[0] ^ 1,)) + raw[1:]))
    index = {"tile/0/000": "1", "tile/1/000": "700", "tile/entries/000": "255"}[part]
    with pytest.raises(BadInclusionProof):
        prove_entry(reader_of(session, url).fetch_entry(index), known, PLACE)


@pytest.mark.parametrize(("part", "refusal"), [("tile/0", MalformedTile), ("tile/entries", MalformedTile)])
def test_a_cut_tile_is_refused(tiles, session, part, refusal):
    _, front, url, _ = tiles
    front.altered(part, lambda raw: raw[:-1])
    with pytest.raises(refusal):
        reader_of(session, url).fetch_entry("1")


@pytest.mark.parametrize(("part", "size"), [("checkpoint", 70_000), ("tile/0", 9_000), ("tile/entries", 17 << 20)])
def test_a_huge_answer_is_refused(tiles, session, part, size):
    _, front, url, _ = tiles
    reader = reader_of(session, url)
    front.altered(part, lambda _: bytes(size))
    with pytest.raises(TooLarge):
        reader.fetch_entry("1")


def test_a_log_without_one_of_its_files_proves_nothing(tiles, session):
    _, front, url, _ = tiles
    reader = reader_of(session, url)
    front.absent("tile/0")
    with pytest.raises(AnswerUnusable):
        reader.fetch_entry("1")


def test_a_checkpoint_of_another_key_proves_nothing(tiles, session):
    _, _, url, known = tiles
    other = KnownLog(generate("ed25519").public, known.log_id, known.origin)
    with pytest.raises(CheckpointNotSigned):
        prove_entry(reader_of(session, url).fetch_entry("1"), other, PLACE)


def test_the_stacks_log_is_searched_by_its_own_index(tiles, session):
    reader = reader_of(session, tiles[2])
    assert reader.search(Search(identity="entry 7")) == Found(("8",))
    assert reader.search(Search(identity="nobody")) == Found(())


def test_an_index_that_knows_more_is_not_taken_for_whole(tiles, session):
    _, front, url, _ = tiles
    front.altered("index/retrieve", lambda raw: raw.replace(b"false", b"true"))
    assert reader_of(session, url).search(Search(identity="entry 7")) == Found(("8",), truncated=True)


@pytest.mark.attack("entries that hide an entry")
def test_what_an_index_does_not_name_at_once_is_asked_for_until_it_is(tiles, session):
    named = [str(number) for number in range(1, 2500)]

    class Paged:
        def __init__(self) -> None:
            self.goes_on = True

        async def answer(self, request):
            if not request.path.endswith("index/retrieve"):
                return await tiles[1].answer(request)
            first = json.loads(b"".join([piece async for piece in request.body])).get("from", 0) if self.goes_on else 0
            left = [name for name in named if int(name) >= first]
            return json_answer(200, {"logIndexes": [*left[:1000]], "truncated": len(left) > 1000})

    index = Paged()
    with serving(index) as url:
        assert reader_of(session, url).search(Search(identity="mia@acme.example")) == Found(tuple(named))
        index.goes_on = False
        with pytest.raises(AnswerUnusable):
            reader_of(session, url).search(Search(identity="mia@acme.example"))


def test_a_log_in_an_object_store_that_may_not_be_listed_is_found(tiles, session):
    class Store:
        async def answer(self, request):
            path = f"/api/v2{request.path}"
            found = request.path == "/checkpoint" or request.path.startswith("/tile/")
            return await tiles[1].answer(dataclasses.replace(request, path=path)) if found else whole_answer(403, b"", ())

    with serving(Store()) as url:
        reader = reader_of(session, url)
        assert prove_entry(reader.fetch_entry("1"), tiles[3], PLACE).checkpoint.size == 701


def test_once_a_log_is_found_it_may_not_forbid(tiles, session):
    _, front, url, _ = tiles
    reader = reader_of(session, url)
    front.change["tile/"] = lambda _: whole_answer(403, b"", ())
    with pytest.raises(ServerFailed):
        reader.fetch_entry("1")


def test_a_tile_is_its_beginning_or_that_of_the_whole_one_or_nothing():
    whole = bytes(range(256)) * 32
    beginning = Tile(0, 0, 3)

    def fetched(files: dict[str, bytes], tile: Tile) -> bytes | None:
        def find(path: str) -> bytes | None:
            return files.get(path)

        return fetch_tile(find, tile)

    assert fetched({beginning.path: b"x" * 96}, beginning) == b"x" * 96
    assert fetched({beginning.whole.path: whole}, beginning) == whole[:96]
    assert fetched({beginning.whole.path: whole[1:]}, beginning) == whole[1:]  # for `split_hashes` to refuse
    assert fetched({}, beginning) is None
    assert fetched({beginning.path: whole}, beginning.whole) is None


@pytest.mark.parametrize(("text", "known"), [("0" * 64, True), ("f" * 80, True), ("0" * 63, False), ("F" * 64, False), ("", False)])
def test_an_entry_is_called_by_64_or_80_digits(text, known):
    assert is_uuid(text) is known


def test_a_log_of_tiles_without_an_index_says_that_nothing_can_search_it(tiles, session):
    _, front, url, _ = tiles
    front.absent("index/retrieve")
    with pytest.raises(LogUnsearchable) as caught:
        reader_of(session, url).search(Search(identity="entry 7"))
    assert caught.value.status() == 2


def test_a_server_that_fails_is_not_a_log_that_has_nothing(tiles, session):
    _, front, url, _ = tiles
    reader = reader_of(session, url)
    front.change["tile/"] = lambda _: whole_answer(500, b"", ())
    with pytest.raises(ServerFailed):
        reader.fetch_entry("1")


def test_what_is_no_log_is_said_to_be_none(session):
    class Nothing:
        async def answer(self, _):
            return whole_answer(404, b"", ())

    with serving(Nothing()) as url, pytest.raises(AnswerUnusable):
        reader_of(session, url)


def test_a_log_that_is_not_there_is_unreachable(session):
    with pytest.raises(Unreachable):
        reader_of(session, "http://127.0.0.1:9")


BODY = {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {"x": 1}}


@pytest.fixture
def first_generation():
    core = RekorV1()
    uuid, entry = core.add(BODY)
    core.entries = {uuid: entry}
    core.found = [uuid]
    with serving(core) as url:
        yield core, url, uuid, entry


def test_an_entry_of_the_first_generation_is_read_by_index_and_by_uuid(first_generation, session):
    core, url, uuid, entry = first_generation
    reader = reader_of(session, url)
    for name in (str(entry["logIndex"]), uuid):
        proved = prove_entry(reader.fetch_entry(name), core.known, PLACE)
        assert proved.promised == core.log.clock.now
        assert proved.checkpoint.origin == "127.0.0.1 - 4711"


def test_growth_of_the_first_generation_is_proved(first_generation, session):
    core, url, *_ = first_generation
    reader = reader_of(session, url)
    old = parse_checkpoint(parse_note(reader.fetch_checkpoint(), PLACE).text, PLACE)
    core.add(BODY)
    new = verify_head(reader.fetch_checkpoint(), core.known, PLACE)
    verify_consistency(old.size, old.root, new.size, new.root, reader.fetch_growth(old.size, new), PLACE)


def test_the_first_generation_is_searched_by_its_index(first_generation, session):
    _, url, uuid, _ = first_generation
    assert reader_of(session, url).search(Search(digest="sha256:" + "0" * 64)) == Found((uuid,))


def test_another_entry_than_was_asked_for_is_refused(first_generation, session):
    core, url, uuid, entry = first_generation
    other, second = core.add({**BODY, "spec": {"x": 2}})
    core.entries = {uuid: second, other: {**entry, "logIndex": second["logIndex"]}}
    core.entries[other]["logIndex"] += 7
    reader = reader_of(session, url)
    with pytest.raises(OtherLogEntry):
        reader.fetch_entry(uuid)
    core.entries = {uuid: entry}

    async def answer(_):
        return whole_answer(200, json.dumps({uuid: entry}).encode(), ())

    core.answer = answer
    with pytest.raises(OtherLogEntry):
        reader.fetch_entry(str(entry["logIndex"] + 1))


@pytest.mark.parametrize("name", ["5", "0" * 64, "x", "1" * 19])
def test_an_entry_that_the_first_generation_does_not_have_is_absent(first_generation, session, name):
    with pytest.raises(EntryAbsent):
        reader_of(session, first_generation[1]).fetch_entry(name)


def test_a_genuine_checkpoint_of_another_tree_proves_nothing(first_generation, session):
    core, url, uuid, entry = first_generation
    core.add(BODY)
    entry["verification"]["inclusionProof"]["checkpoint"] = core.log.note(core.log.leaves)
    with pytest.raises(CheckpointMismatch):
        prove_entry(reader_of(session, url).fetch_entry(uuid), core.known, PLACE)


@pytest.mark.attack("another entry under the index")
def test_the_index_of_an_entry_of_the_first_generation_is_proved_by_the_promise_alone(first_generation, session):
    core, url, uuid, entry = first_generation
    del entry["verification"]["signedEntryTimestamp"]
    for index in (entry["verification"]["inclusionProof"]["logIndex"], 25_579):
        entry["logIndex"] = index
        for name in (str(index), uuid):
            with pytest.raises(IndexNotProved):
                prove_entry(reader_of(session, url).fetch_entry(name), core.known, PLACE)


def test_an_entry_that_is_proved_at_another_place_of_a_log_of_tiles_is_not_the_one_with_this_index(tiles, session):
    entry = reader_of(session, tiles[2]).fetch_entry("5")
    assert prove_entry(entry, tiles[3], PLACE).checkpoint.size == 701
    with pytest.raises(IndexNotProved):
        prove_entry(LogEntry(6, b"", "", "", 0, None, entry.proof, entry.body), tiles[3], PLACE)
