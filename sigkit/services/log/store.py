"""A transparency log in one directory: what it answered is durable, and it never signs two trees that are not one.

    version               the version of this layout, and the log's origin
    lock                  held by the one process that uses the log
    journal               the newest entries and checkpoints, synced once for each batch
    tile/…                whole tiles and bundles of entries (C2SP tlog-tiles), written when the journal has grown
    index.sqlite          from a leaf or a term to its entries; made from the entries

A batch goes this way: duplicates are found; the tree grows in memory; every new entry's proof and the proof that the new tree begins with
the old one are checked as a client would (so a bit that flipped in memory is met here, and not signed, as it was by Yeti in 2022); the
checkpoint is signed; entries and checkpoint go to the journal with one sync; then, and not before, they are seen by readers. Filing moves
what the journal holds into tiles and index, and begins the journal anew; each step of it can be repeated, so a process may end anywhere.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final, Self

from sigkit import durable, strict
from sigkit.clock import format_time
from sigkit.data import Data
from sigkit.errors import (
    BadConsistencyProof,
    BadInclusionProof,
    CheckpointNotSigned,
    DatabaseUnusable,
    FileUnwritable,
    LogDamaged,
    MalformedTile,
    Place,
    TlogError,
    TooLarge,
    UnsupportedKey,
)
from sigkit.keys.public import ED25519
from sigkit.services.log.files import TileFiles
from sigkit.services.log.index import Index, leaf_term
from sigkit.services.log.journal import Journal, Record
from sigkit.services.log.tree import Tree
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.tlog.note import ED25519_TYPE, encode_line, key_id_of
from sigkit.tlog.proof import prove_consistency, prove_inclusion, root_of, verify_consistency
from sigkit.tlog.tile import ENTRIES, ENTRY_BYTES, HEIGHT, WIDTH, Tile, count_at, encode_entries, parse_tile_path, tile_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sigkit.clock import Clock
    from sigkit.keys.private import Signer

SCHEMA: Final = "sigkit.log/1"
FILED_AT: Final = 1_024  # entries in the journal; each filing costs about twenty syncs
_LOCK_TIMEOUT_S: Final = 1.0  # for one that is just stopping
_REINDEXED_TILES: Final = 64  # in one transaction
_ED25519_RAW_BYTES: Final = 32


class Head(Data):
    """The newest tree that readers see, and the checkpoint that the log signed for it."""

    size: int
    root: bytes
    checkpoint: str


class Appended(Data):
    """Where an entry is, and what proves it in the tree of `size` leaves. `added` is False for one that was there before."""

    index: int
    size: int
    root: bytes
    proof: tuple[bytes, ...]
    checkpoint: str
    added: bool


def no_terms(_: bytes) -> tuple[bytes, ...]:
    """Give no terms: the log's entries are found by their index only."""
    return ()


class TileLog:
    """A log. Its methods block on the disk and may be called from any thread; batches are taken one after the other."""

    def __init__(self, root: str, origin: str, key: Signer, terms: Callable[[bytes], Sequence[bytes]], filed_at: int) -> None:
        """Take a directory that `open` holds the lock of."""
        self.origin = origin
        self.log_id = _log_id(origin, key)
        self._root = root
        self._key = key
        self._terms = terms
        self._filed_at = filed_at
        self._files = TileFiles(root)
        self._appending = threading.Lock()
        self._guard = threading.Lock()  # of what follows, which readers and the appending thread share; never held during a sync
        self._recent: dict[bytes, list[int]] = {}  # terms of what is not in the index yet
        self._damage: TlogError | None = None
        self._journal, records = Journal.open(os.path.join(root, "journal"))
        try:
            self._base = records[0].start
            self._tail = self._replay(records)
            self._tree = Tree(self._tile_hashes(self._base), self._files.leaf_hashes)
            self._tree.extend(map(leaf_hash, self._tail))
            self._head = self._check_head(records[-1].checkpoint)
            self._check_files()
            self._index = Index(os.path.join(root, "index.sqlite"))
        except BaseException:
            self._journal.close()
            raise

    @classmethod
    def create(cls, root: str | os.PathLike[str], origin: str, key: Signer, clock: Clock) -> None:
        """Make a log with its first entry, which is its own: clients mishandle index 0 (protobuf's JSON leaves it out).

        What an earlier call that was ended left half-made is made anew.

        Raises:
            FileUnwritable: (UNAVAIL) there is a log, or something else, or the directory cannot be written.
            UnsupportedKey: (SIG) the key is not Ed25519.
        """
        path = os.path.abspath(root)
        place = Place(path)
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            there = set(os.listdir(path))
        except OSError as err:
            raise FileUnwritable(f"cannot make the log's directory: {err.strerror}", place=place) from err
        if "version" in there or not all(name in {"journal", "lock"} or name.endswith(".tmp") for name in there):
            raise FileUnwritable("there is a log already, or something else", place=place, expected="an absent or empty directory")
        first = strict.encode_json(
            {"apiVersion": "0.0.1", "kind": "sigkit-log", "spec": {"origin": origin, "time": format_time(clock.now())}}
        )
        with durable.lock(os.path.join(path, "lock"), timeout_s=_LOCK_TIMEOUT_S):
            checkpoint = _sign(origin, key, 1, leaf_hash(first))
            Journal.write(os.path.join(path, "journal"), Record(0, (first,), checkpoint))
            durable.write(os.path.join(path, "version"), f"{SCHEMA}\n{origin}\n".encode(), point="log.version")

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        root: str | os.PathLike[str],
        key: Signer,
        *,
        terms: Callable[[bytes], Sequence[bytes]] = no_terms,
        filed_at: int = FILED_AT,
    ) -> Iterator[Self]:
        """Own the log in `root` until the block ends. It is checked first: its files must make the tree that it signed last.

        Args:
            root: its directory.
            key: the log's.
            terms: what an entry can be searched by, from the leaf.
            filed_at: how many entries the journal takes before tiles are written.

        Raises:
            DatabaseUnusable: (UNAVAIL) no log, one that is half-made, or of another version.
            LockTimeout: (UNAVAIL) another process uses it.
            LogDamaged: (TLOG) the files do not make the tree that was signed, or the key is another.
            FileUnreadable, FileUnwritable: (UNAVAIL) the directory.
        """
        path = os.path.abspath(root)
        origin = _read_version(path)
        with durable.lock(os.path.join(path, "lock"), timeout_s=_LOCK_TIMEOUT_S):
            try:
                log = cls(path, origin, key, terms, filed_at)
            except (MalformedTile, CheckpointNotSigned) as err:
                raise LogDamaged(err.problem, place=err.place, expected=err.expected, got=err.got) from err
            try:
                log._catch_up()
                yield log
            finally:
                log._close()

    # --- appending

    def append_many(self, leaves: Sequence[bytes]) -> tuple[Appended, ...]:
        """Append a batch, and return when all of it is durable; a leaf that is there already is answered with its first entry.

        Raises:
            TooLarge: (LIMIT) a leaf is larger than a bundle can hold; nothing was appended.
            FileUnwritable: (UNAVAIL) no space; nothing was appended, and the log goes on when there is some.
            LogHalted: (UNAVAIL) the disk failed: the log must be opened anew.
            LogDamaged: (TLOG) the log found itself damaged; it signs nothing more.
        """
        for leaf in leaves:
            if len(leaf) > ENTRY_BYTES:
                raise TooLarge(f"an entry of more than {ENTRY_BYTES} bytes", place=Place("entry"), got=f"{len(leaf)} bytes")
        with self._appending:
            if self._damage:
                raise self._damage
            places, new = self._find_places(leaves)
            try:
                proofs = self._integrate(new) if new else {}
                answers = self._answers(places, proofs)
            except (BadInclusionProof, BadConsistencyProof, MalformedTile) as err:
                self._damage = LogDamaged(err.problem, place=Place(self._root), expected=err.expected, got=err.got)
                raise self._damage from err
            if len(self._tail) >= self._filed_at:
                self._try_filing()
            return answers

    def _find_places(self, leaves: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
        """Return for each leaf its index, and those leaves that are new, in order."""
        terms = [leaf_term(leaf) for leaf in leaves]
        filed = self._index.find(terms, 4) if self._index.size else {}
        size = self._head.size
        coming: dict[bytes, int] = {}
        places: list[int] = []
        new: list[bytes] = []
        for leaf, term in zip(leaves, terms, strict=True):
            candidates = (*filed.get(term, ()), *self._recent.get(term, ()))
            place = next((index for index in candidates if self.find(index) == leaf), coming.get(leaf))
            if place is None:
                place = coming[leaf] = size + len(new)
                new.append(leaf)
            places.append(place)
        return places, new

    def _integrate(self, new: Sequence[bytes]) -> dict[int, tuple[bytes, ...]]:
        """Let the tree grow, durably, and return the proof of each new entry."""
        old = self._head
        size = old.size + len(new)
        with self._guard:
            self._tree.extend(map(leaf_hash, new))
            try:
                root, proofs = self._check_growth(old, size, new)
                checkpoint = _sign(self.origin, self._key, size, root)
            except BaseException:
                self._tree.truncate(old.size)
                raise
        try:
            self._journal.append(Record(old.size, tuple(new), checkpoint))
        except BaseException:
            with self._guard:
                self._tree.truncate(old.size)
            raise
        with self._guard:
            self._remember(old.size, new)
            self._tail += new
            self._head = Head(size, root, checkpoint)
        return proofs

    def _check_growth(self, old: Head, size: int, new: Sequence[bytes]) -> tuple[bytes, dict[int, tuple[bytes, ...]]]:
        """Return the new tree's root hash and the proofs in it, each checked as a client would."""
        place = Place(self._root)
        node = self._tree.node
        root = root_of(size, node)
        verify_consistency(old.size, old.root, size, root, prove_consistency(old.size, size, node), place)
        proofs = {}
        for index, leaf in enumerate(new, old.size):
            proofs[index] = prove_inclusion(index, size, node)
            verify_inclusion(leaf_hash(leaf), index, size, proofs[index], root, place)
        return root, proofs

    def _answers(self, places: Sequence[int], proofs: dict[int, tuple[bytes, ...]]) -> tuple[Appended, ...]:
        head = self._head
        answers = []
        fresh = set(proofs)
        for index in places:
            if index not in proofs:
                proofs[index] = self.prove(index, head.size)
                leaf = self.find(index) or b""
                verify_inclusion(leaf_hash(leaf), index, head.size, proofs[index], head.root, Place(self._root))
            answers.append(Appended(index, head.size, head.root, proofs[index], head.checkpoint, index in fresh))
            fresh.discard(index)  # the same leaf twice in one batch: the second is a duplicate
        return tuple(answers)

    def _remember(self, start: int, leaves: Sequence[bytes]) -> None:
        for index, leaf in enumerate(leaves, start):
            for term in (leaf_term(leaf), *self._terms(leaf)):
                self._recent.setdefault(term, []).append(index)

    # --- filing

    def _try_filing(self) -> None:
        try:
            self._file()
        except (FileUnwritable, DatabaseUnusable):
            pass  # the entries are durable where they are; the next batch tries again, and says so if the journal has no space either

    def _file(self) -> None:
        """Move what the journal holds into tiles and index. Each step may be repeated."""
        size, start, end = self._head.size, self._base, self._head.size // WIDTH * WIDTH
        for tile, data in self._whole_tiles(start, end):
            self._files.put(tile, data)
        self._index.add([(term, entry) for term, entries in self._recent.items() for entry in entries], size)
        self._journal.replace(Record(end, tuple(self._tail[end - start :]), self._head.checkpoint))
        with self._guard:
            self._tree.forget(end)
            del self._tail[: end - start]
            self._base = end
            self._recent.clear()

    def _whole_tiles(self, start: int, end: int) -> Iterator[tuple[Tile, bytes]]:
        """Give the tiles that become whole between two sizes, and what they hold: entries first, the highest level last."""
        for number in range(start // WIDTH, end // WIDTH):
            at = number * WIDTH - self._base
            yield Tile(ENTRIES, number, WIDTH), encode_entries(self._tail[at : at + WIDTH])
        level = 0
        while count_at(level, end) >= WIDTH:
            for number in range(count_at(level, start) // WIDTH, count_at(level, end) // WIDTH):
                yield Tile(level, number, WIDTH), self._tree.row(HEIGHT * level, number * WIDTH, (number + 1) * WIDTH)
            level += 1

    # --- reading

    def head(self) -> Head:
        """Return the newest tree."""
        return self._head

    def checkpoint(self) -> str:
        """Return the newest checkpoint, a signed note."""
        return self._head.checkpoint

    def read(self, path: str) -> bytes | None:
        """Return a static file of the log, `checkpoint` or `tile/…`; None if there is none, or not yet."""
        if path == "checkpoint":
            return self._head.checkpoint.encode("utf-8")
        tile = parse_tile_path(path)
        if tile is None:
            return None
        with self._guard:
            first = tile.number * WIDTH
            if first + tile.width > count_at(tile.level, self._head.size):
                return None
            if tile.level > 0 or first >= self._base:
                return self._read_memory(tile)
        if tile.level == ENTRIES:
            return encode_entries(self._files.entries(tile.number)[: tile.width])
        return b"".join(self._files.leaf_hashes(tile.number)[: tile.width])

    def _read_memory(self, tile: Tile) -> bytes:
        first = tile.number * WIDTH
        if tile.level == ENTRIES:
            return encode_entries(self._tail[first - self._base : first - self._base + tile.width])
        return self._tree.row(HEIGHT * tile.level, first, first + tile.width)

    def find(self, index: int) -> bytes | None:
        """Return the entry at `index`, if there is such a one."""
        with self._guard:
            if not 0 <= index < self._head.size:
                return None
            if index >= self._base:
                return self._tail[index - self._base]
        return self._files.entries(index // WIDTH)[index % WIDTH]

    def search(self, term: bytes, most: int) -> tuple[int, ...]:
        """Return the first `most` entries that have a term, in order."""
        with self._guard:
            recent = tuple(self._recent.get(term, ()))
        filed = self._index.find([term], most).get(term, ())
        return tuple(sorted({*filed, *recent}))[:most]

    def prove(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof of an entry in the tree that had `size` leaves."""
        with self._guard:
            return prove_inclusion(index, size, self._tree.node)

    def prove_growth(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `old` leaves is the beginning of that of `new`."""
        with self._guard:
            return prove_consistency(old, new, self._tree.node)

    # --- opening and closing

    def _replay(self, records: Sequence[Record]) -> list[bytes]:
        tail: list[bytes] = []
        if self._base % WIDTH:
            raise LogDamaged("the journal begins within a tile", place=Place(self._root, "journal"), got=str(self._base))
        for record in records:
            if record.start != self._base + len(tail):
                raise LogDamaged("the journal leaves entries out", place=Place(self._root, "journal"))
            tail += record.leaves
            self._remember(record.start, record.leaves)
        return tail

    def _tile_hashes(self, base: int) -> Iterator[bytes]:
        """Give the hash of each whole tile of leaves: from the tiles above where those are whole, else by hashing."""
        tiles = base // WIDTH
        for number in range(tiles // WIDTH):
            yield from self._files.hashes(Tile(1, number, WIDTH))
        for number in range(tiles // WIDTH * WIDTH, tiles):
            yield tile_root(self._files.leaf_hashes(number))

    def _check_head(self, text: str) -> Head:
        """Return the head if the log's key signed it and the tree is the one that it signed."""
        place = Place(self._root)
        signed = verify_checkpoint(text, self._key.public, self.log_id, self.origin, place).checkpoint
        size = self._tree.size
        root = root_of(size, self._tree.node)
        if (signed.size, signed.root) != (size, root):
            raise LogDamaged(
                "the log's files do not make the tree that it signed last",
                place=place,
                expected=f"{signed.size} {signed.root.hex()}",
                got=f"{size} {root.hex()}",
            )
        return Head(size, root, text)

    def _check_files(self) -> None:
        """Compare the files that the journal would write, if they are there, and find out whether the journal is older than they are."""
        start, end = self._base, self._head.size // WIDTH * WIDTH
        for tile, data in self._whole_tiles(start, end):
            if self._files.holds(tile) and self._files.read(tile) != data:
                raise LogDamaged("a file of the log is of another tree", place=Place(self._root, tile.path))
        beyond = Tile(ENTRIES, end // WIDTH, WIDTH)
        if self._files.holds(beyond):
            raise LogDamaged(
                "the log's files go beyond what it signed last: its journal is an old copy", place=Place(self._root, beyond.path)
            )

    def _catch_up(self) -> None:
        """Let the index cover all that is filed, also one that was removed."""
        if self._index.size > self._head.size:
            raise LogDamaged(
                "the log's index knows entries that the log does not have: its journal is an old copy", place=Place(self._root)
            )
        start = self._index.size // WIDTH
        for first in range(start, self._base // WIDTH, _REINDEXED_TILES):
            last = min(first + _REINDEXED_TILES, self._base // WIDTH)
            rows = [
                (term, number * WIDTH + at)
                for number in range(first, last)
                for at, leaf in enumerate(self._files.entries(number))
                for term in (leaf_term(leaf), *self._terms(leaf))
            ]
            self._index.add(rows, last * WIDTH)

    def check(self) -> None:
        """Prove every file of the log: entries against leaf hashes, and those against the tree. A million entries take seconds.

        Raises:
            LogDamaged: (TLOG) the first that does not fit.
        """
        for number in range(self._base // WIDTH):
            hashes = self._files.leaf_hashes(number)
            with self._guard:
                known = self._tree.node(HEIGHT, number)
            if tuple(map(leaf_hash, self._files.entries(number))) != hashes or tile_root(hashes) != known:
                raise LogDamaged("a file of the log is of another tree", place=Place(self._root, Tile(0, number, WIDTH).path))

    def _close(self) -> None:
        self._index.close()
        self._journal.close()


def _read_version(root: str) -> str:
    path = os.path.join(root, "version")
    place = Place(path)
    if not os.path.exists(path):
        raise DatabaseUnusable("there is no log, or one that was never made to the end", place=place, remedy="make it again")
    version, _, rest = strict.decode_utf8(durable.read(path, most_bytes=4_096, place=place), place).partition("\n")
    origin = rest.removesuffix("\n")
    if version != SCHEMA or not origin or "\n" in origin:
        raise DatabaseUnusable("written by another version of sigkit", place=place, expected=SCHEMA, got=version[:80])
    return origin


def _log_id(origin: str, key: Signer) -> bytes:
    if key.public.kind != ED25519:
        raise UnsupportedKey("a log signs its checkpoints with Ed25519", place=Place(origin), got=key.public.kind)
    return key_id_of(origin, ED25519_TYPE, key.public.spki[-_ED25519_RAW_BYTES:])


def _sign(origin: str, key: Signer, size: int, root: bytes) -> str:
    text = f"{origin}\n{size}\n{strict.encode_base64(root)}\n"
    return f"{text}\n{encode_line(origin, _log_id(origin, key), key.sign(text.encode()))}"
