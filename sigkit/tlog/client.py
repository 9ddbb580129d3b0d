"""Reading logs over the network: checkpoints, entries with their proofs, proofs of growth, and what an index knows.

Two kinds: logs that publish static tiles (C2SP; Rekor of the second generation is one), and Rekor of the first generation, which answers
questions. What is read is unproved until `known` has proved it; only that an answer is about what was asked is checked here.

Source: C2SP tlog-tiles.md; sigstore/rekor-tiles CLIENTS.md; sigstore/rekor openapi.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import AnswerUnusable, EntryAbsent, LogUnsearchable, OtherLogEntry, Place, ServerFailed
from sigkit.net.address import Deadline
from sigkit.net.session import Call, Redirects
from sigkit.net.url import parse_url
from sigkit.tlog.checkpoint import parse_checkpoint
from sigkit.tlog.entry import InclusionProof, LogEntry
from sigkit.tlog.entry_v1 import parse_hash, parse_logged
from sigkit.tlog.merkle import HASH_BYTES, leaf_hash
from sigkit.tlog.note import parse_note
from sigkit.tlog.proof import prove_consistency, prove_inclusion
from sigkit.tlog.tile import ENTRIES, ENTRY_BYTES, WIDTH, Tile, TileNodes, parse_entries, tile_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.net.session import Session
    from sigkit.strict import Cursor, Json
    from sigkit.tlog.checkpoint import Checkpoint

TILE_BYTES: Final = WIDTH * HASH_BYTES
_BUNDLE_BYTES: Final = WIDTH * (ENTRY_BYTES + 2)
_SEARCH_BYTES: Final = 4 << 20
_MOST_FOUND: Final = 50_000
_UUID_CHARACTERS: Final = (64, 80)  # the leaf's hash, without or with the number of its tree before it
_HEX: Final = frozenset("0123456789abcdef")
_NOT_THERE: Final = frozenset({404, 405, 501})
# Object stores that may not be listed answer 403 for what is absent. From a log that was found it is an error: it may hide an entry.
_NOT_THERE_PROBED: Final = _NOT_THERE | {403}


class Search(Data):
    """What an index is asked for: the digest of an artifact, an identity, or a key; one of them, the others empty."""

    digest: str = ""
    identity: str = ""
    spki: bytes = b""

    def encode(self) -> dict[str, Json]:
        """Write it as an index reads it.

        Source: sigstore/rekor openapi.yaml, SearchIndex.
        """
        if self.digest:
            return {"hash": self.digest}
        if self.identity:
            return {"email": self.identity}
        from sigkit.keys.pem import encode_pem

        return {"publicKey": {"format": "x509", "content": strict.encode_base64(encode_pem("PUBLIC KEY", self.spki))}}


class Found(Data):
    """What an index named, and whether it said that it knows more."""

    names: tuple[str, ...]
    truncated: bool = False


class LogReader(Protocol):
    """Reads one log."""

    def fetch_checkpoint(self) -> str:
        """Return the newest checkpoint, a signed note."""
        ...

    def fetch_entry(self, name: str) -> LogEntry:
        """Return an entry by its index, or by what else the log calls it, with a proof."""
        ...

    def fetch_growth(self, old: int, new: Checkpoint) -> tuple[bytes, ...]:
        """Return the proof that a tree continues that of `old` leaves."""
        ...

    def search(self, what: Search) -> Found:
        """Return the names of the entries that an index knows."""
        ...


def find_log(session: Session, url: str, place: Place, seconds: float) -> LogReader:
    """Find out which kind of log is at a URL, and return its reader.

    Args:
        session: which connections are made by.
        url: of the log, as a trusted root or the user has it.
        place: where the URL was written.
        seconds: for everything that is asked, in all.

    Raises:
        AnswerUnusable: (UNAVAIL) no log of a kind that is read.
        SigkitError: as `Session.send`.
    """
    asker = _Asker(session, url.rstrip("/"), place, Deadline(seconds))
    if asker.probe("/api/v2/checkpoint", limits.NOTE_BYTES) is not None:
        return TileReader(asker, "/api/v2")
    if asker.probe("/api/v1/log", limits.LOG_ANSWER_BYTES) is not None:
        return RekorV1Reader(asker)
    if asker.probe("/checkpoint", limits.NOTE_BYTES) is not None:
        return TileReader(asker, "")
    raise AnswerUnusable("no log of a kind that is read is there", place=place, expected="Rekor of either generation, or a log of tiles")


class _Asker:
    """Asks one server, by one deadline."""

    def __init__(self, session: Session, base: str, place: Place, deadline: Deadline) -> None:
        parse_url(base, place)
        self.base = base
        self.place = place
        self._session = session
        self._deadline = deadline

    def ask(self, path: str, most_bytes: int, body: Json = None) -> bytes | None:
        """Return an answer, or None where the server says that there is nothing."""
        return self._send(path, most_bytes, body, _NOT_THERE)

    def probe(self, path: str, most_bytes: int) -> bytes | None:
        """Return an answer, or None where nothing is, also by the word of an object store."""
        return self._send(path, most_bytes, None, _NOT_THERE_PROBED)

    def _send(self, path: str, most_bytes: int, body: Json, absent: frozenset[int]) -> bytes | None:
        url = parse_url(f"{self.base}{path}", self.place)
        raw = None if body is None else strict.encode_json(body)
        redirects = Redirects.FOLLOW if raw is None else Redirects.REFUSE
        headers = () if raw is None else (("Content-Type", "application/json"),)
        call = Call("GET" if raw is None else "POST", url, self._deadline, headers, body=raw, redirects=redirects)
        with self._session.send(call) as reply:
            if reply.status in absent:
                return None
            if reply.status != 200:
                raise ServerFailed("the log answers with an error", place=url.place(), got=str(reply.status))
            return reply.read_all(most_bytes)

    def json(self, path: str, body: Json = None) -> Cursor | None:
        """Return an answer in JSON, or None where there is nothing."""
        raw = self.ask(path, limits.LOG_ANSWER_BYTES, body)
        return None if raw is None else strict.parse_json(raw, most_bytes=limits.LOG_ANSWER_BYTES, place=self.at(path))

    def at(self, path: str) -> Place:
        return parse_url(f"{self.base}{path}", self.place).place()


def fetch_tile(fetch: Callable[[str], bytes | None], tile: Tile) -> bytes | None:
    """Return the hashes of a tile, of its whole form where the partial one is gone, cut to the width; None where the log has neither.

    Args:
        fetch: gives the file at a path below the log's prefix, at most `TILE_BYTES` of it, or None where there is none.
        tile: of hashes, not a bundle of entries.

    Source: C2SP tlog-tiles.md "Partial tiles": a partial tile may go when the whole one is there.
    """
    raw = fetch(tile.path)
    if raw is None and tile.width < WIDTH:
        raw = fetch(tile.whole.path)
        # Another size stays as it is: `split_hashes` refuses it.
        return raw[: tile.width * HASH_BYTES] if raw is not None and len(raw) == TILE_BYTES else raw
    return raw


def is_index(text: str) -> bool:
    """Tell whether a log could count an entry so."""
    return text.isascii() and text.isdecimal() and len(text) < limits.INTEGER_DIGITS


def is_uuid(text: str) -> bool:
    """Tell whether a log of the first generation could call an entry so: the leaf's hash, perhaps with its tree's number before it."""
    return len(text) in _UUID_CHARACTERS and _HEX.issuperset(text)


class TileReader:
    """Reads a log of static tiles. Proofs are made from the tiles."""

    def __init__(self, asker: _Asker, prefix: str) -> None:
        self._asker = asker
        self._prefix = prefix

    def fetch_checkpoint(self) -> str:
        """Return the newest checkpoint, a signed note.

        Raises:
            SigkitError: no answer, or no text.
        """
        path = f"{self._prefix}/checkpoint"
        raw = self._asker.ask(path, limits.NOTE_BYTES)
        if raw is None:
            raise AnswerUnusable("the log has no checkpoint any more", place=self._asker.at(path))
        return strict.decode_utf8(raw, self._asker.at(path))

    def fetch_entry(self, name: str) -> LogEntry:
        """Return the entry at an index, and its proof under the newest checkpoint.

        Raises:
            EntryAbsent: (UNAVAIL) the log is smaller.
            MalformedTile, MalformedCheckpoint: (TLOG).
            SigkitError: as `Session.send`.
        """
        place = self._asker.at(f"{self._prefix}/tile/entries")
        note = self.fetch_checkpoint()
        head = parse_checkpoint(parse_note(note, place).text, place)
        if not is_index(name) or int(name) >= head.size:
            raise EntryAbsent("the log has no such entry", place=place, expected=f"an index below {head.size}", got=name[:100])
        index = int(name)
        tile = tile_at(ENTRIES, index // WIDTH, head.size)
        body = self._fetch_entries(tile)[index % WIDTH]
        hashes = prove_inclusion(index, head.size, TileNodes(head.size, self._fetch_tile, place))
        return LogEntry(index, b"", "", "", 0, None, InclusionProof(index, head.size, head.root, hashes, note), body)

    def fetch_growth(self, old: int, new: Checkpoint) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new` continues that of `old` leaves.

        Raises:
            MalformedTile: (TLOG).
            SigkitError: as `Session.send`.
        """
        return prove_consistency(old, new.size, TileNodes(new.size, self._fetch_tile, self._asker.at(f"{self._prefix}/tile/0")))

    def search(self, what: Search) -> Found:
        """Return the indexes of the entries that the log's own index knows, as the stack's log has one.

        Raises:
            LogUnsearchable: (UNAVAIL, usage) there is none.
            SigkitError: as `Session.send`.
        """
        found = self._search_from(what, 0)
        names = list(found.names)
        # Or whoever has many entries made under a name hides those that came after them.
        while found.truncated and found.names and len(names) < _MOST_FOUND:
            last = int(names[-1])
            found = self._search_from(what, last + 1)
            if not all(int(name) > last for name in found.names):
                raise AnswerUnusable("the index names entries that it was not asked for", place=self._asker.at(self._prefix))
            names += found.names
        return Found(tuple(names), found.truncated)

    def _search_from(self, what: Search, first: int) -> Found:
        path = f"{self._prefix}/index/retrieve"
        asked = {**what.encode(), **({"from": first} if first else {})}
        answer = self._asker.json(path, asked) if self._prefix else None
        if answer is None:
            raise _unsearchable(self._asker)
        truncated = answer.find("truncated")
        names = tuple(_checked_index(item) for item in answer.member("logIndexes").items(_MOST_FOUND))
        return Found(names, truncated is not None and truncated.value is not False)

    def _fetch_tile(self, tile: Tile) -> bytes:
        raw = fetch_tile(lambda path: self._asker.ask(f"{self._prefix}/{path}", TILE_BYTES), tile)
        return self._published(raw, tile)

    def _fetch_entries(self, tile: Tile) -> tuple[bytes, ...]:
        place = Place("", tile.path).within(self._asker.at(f"{self._prefix}/tile/entries"))
        raw = self._asker.ask(f"{self._prefix}/{tile.path}", _BUNDLE_BYTES)
        if raw is not None or tile.width == WIDTH:
            return parse_entries(self._published(raw, tile), tile.width, place)
        raw = self._asker.ask(f"{self._prefix}/{tile.whole.path}", _BUNDLE_BYTES)
        return parse_entries(self._published(raw, tile), WIDTH, place)

    def _published(self, raw: bytes | None, tile: Tile) -> bytes:
        if raw is None:
            raise AnswerUnusable("the log does not publish a file of its tree", place=self._asker.at(f"{self._prefix}/{tile.path}"))
        return raw


class RekorV1Reader:
    """Reads a log of the first generation. Entries are called by an index over all its trees, or by the hash of the leaf."""

    def __init__(self, asker: _Asker) -> None:
        self._asker = asker

    def fetch_checkpoint(self) -> str:
        """Return the newest checkpoint of the tree that is written to, a signed note.

        Raises:
            SigkitError: no answer, or none of the form.
        """
        answer = self._asker.json("/api/v1/log")
        if answer is None:
            raise AnswerUnusable("the log has no checkpoint any more", place=self._asker.at("/api/v1/log"))
        return answer.member("signedTreeHead").text()

    def fetch_entry(self, name: str) -> LogEntry:
        """Return an entry by its index or UUID, with the proof that the log gave.

        Raises:
            EntryAbsent: (UNAVAIL) the log has no such entry.
            OtherLogEntry: (TLOG) it answered with another.
            SigkitError: as `Session.send`.
        """
        by_hash = is_uuid(name)
        if not by_hash and not is_index(name):
            raise EntryAbsent("no name of an entry", place=self._asker.place, expected="an index, or 64 or 80 hex digits", got=name[:100])
        path = f"/api/v1/log/entries/{name}" if by_hash else f"/api/v1/log/entries?logIndex={name}"
        answer = self._asker.json(path)
        if answer is None:
            raise EntryAbsent("the log has no such entry", place=self._asker.at(path), got=name)
        entry = parse_logged(answer)
        fits = leaf_hash(entry.body).hex() == name[-64:] if by_hash else entry.index == int(name)
        if not fits:
            raise OtherLogEntry("the log answered with another entry", place=self._asker.at(path), expected=name, got=str(entry.index))
        return entry

    def fetch_growth(self, old: int, new: Checkpoint) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new` continues that of `old` leaves.

        Raises:
            SigkitError: no answer, or none of the form.
        """
        tree = new.origin.rpartition(" - ")[2]
        path = f"/api/v1/log/proof?firstSize={old}&lastSize={new.size}&treeID={tree}"
        answer = self._asker.json(path)
        if answer is None:
            raise AnswerUnusable("the log proves no growth of this tree", place=self._asker.at(path))
        return tuple(parse_hash(item) for item in answer.member("hashes").items(limits.PROOF_HASHES + 1))

    def search(self, what: Search) -> Found:
        """Return the UUIDs that the log's index knows; it promises no completeness.

        Raises:
            LogUnsearchable: (UNAVAIL, usage) the service runs without an index.
            SigkitError: as `Session.send`.
        """
        raw = self._asker.ask("/api/v1/index/retrieve", _SEARCH_BYTES, what.encode())
        if raw is None:
            raise _unsearchable(self._asker)
        answer = strict.parse_json(raw, most_bytes=_SEARCH_BYTES, place=self._asker.at("/api/v1/index/retrieve"))
        return Found(tuple(item.text() for item in answer.items(_MOST_FOUND)))


def _checked_index(item: strict.Cursor) -> str:
    if not is_index(item.text()):
        item.fail("no index of an entry", expected="a number")
    return item.text()


def _unsearchable(asker: _Asker) -> LogUnsearchable:
    return LogUnsearchable("nothing can search this log", place=Place.operator(asker.base), expected="a log with an index")
