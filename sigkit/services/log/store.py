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
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from sigkit import durable
from sigkit.errors import (
    BadConsistencyProof,
    BadInclusionProof,
    CheckpointNotSigned,
    DatabaseUnusable,
    FileUnwritable,
    LogDamaged,
    LogHalted,
    MalformedCheckpoint,
    MalformedTile,
    Place,
    TlogError,
    TooLarge,
)
from sigkit.services.exchange import Parts
from sigkit.services.log.batch import NOT_LOOKED_UP, Appended, Batch, Filed, Filing
from sigkit.services.log.files import TileFiles
from sigkit.services.log.growing import check_growth, hash_tiles, whole_tiles
from sigkit.services.log.head import Head, log_id_of, sign_head
from sigkit.services.log.index import Index, leaf_term
from sigkit.services.log.journal import Journal, Record
from sigkit.services.log.layout import JOURNAL, LOCK, LOCK_TIMEOUT_S, make_log, read_origin
from sigkit.services.log.opening import check_files, check_head, entry_hashes, index_rows, proved_leaves, remake, tile_hashes
from sigkit.services.log.tree import Tree
from sigkit.text import escape
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.tlog.proof import prove_inclusion
from sigkit.tlog.tile import ENTRIES, ENTRY_BYTES, HEIGHT, WIDTH, Tile, count_at, entry_parts, parse_tile_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sigkit.clock import Clock
    from sigkit.errors import SigkitError
    from sigkit.keys.private import Signer
    from sigkit.services.exchange import Body

FILED_AT: Final = 1_024  # entries in the journal; each filing costs about twenty syncs
_REINDEXED_TILES: Final = 64  # in one transaction
_LINE_CHARACTERS: Final = 1000
_GOES_ON: Final = "it goes on by itself when that is mended"
_START_AGAIN: Final = "it is to be started again"
_LOG: Final = logging.getLogger("sigkit.services")


def no_terms(_: bytes) -> tuple[bytes, ...]:
    """Give no terms: the log's entries are found by their index only."""
    return ()


class TileLog:
    """A log. Its methods block on the disk and may be called from any thread; batches are taken one after the other."""

    def __init__(self, root: str, origin: str, key: Signer, terms: Callable[[bytes], Sequence[bytes]], filed_at: int) -> None:
        """Take a directory that `open` holds the lock of."""
        self.origin = origin
        self.log_id = log_id_of(origin, key)
        self._root = root
        self._key = key
        self._terms = terms
        self._filed_at = filed_at
        self._files = TileFiles(root)
        self._appending = threading.Lock()
        self._guard = threading.Lock()  # of what follows, shared by readers and the appending thread; held during no sync but a lost tile's
        self._recent: dict[bytes, list[int]] = {}  # terms of what is not in the index yet
        self._filings = 0  # how often the journal was begun anew
        self._not_before = 0  # the size of the log before which nothing is filed
        self._damage: TlogError | None = None
        self._in_doubt = False  # a batch may be in the journal that readers do not see
        self._halted = False  # it is, and will be until the journal is opened anew
        self._told = ""  # the code of why no entry is taken, once its operator has been told
        # For who serves it: one thread to sync, one to file. In an event loop's own, others' requests would come before them.
        self.threads = ThreadPoolExecutor(2, "sigkit-log")
        self._journal, records = Journal.open(os.path.join(root, JOURNAL))
        try:
            self._base = records[0].start
            self._tail = self._replay(records)
            try:
                self._tree, self._head = self._raise_tree(tile_hashes(self._files, self._base), records[-1])
            except (LogDamaged, MalformedTile):
                # Tiles of hashes can be made anew from entries, once those are proved to make the tree that was signed.
                self._tree, self._head = self._raise_tree(entry_hashes(self._files, self._base), records[-1])
                self._remake()
            end = self._head.size // WIDTH * WIDTH
            check_files(self._files, whole_tiles(self._tree, self._tail, self._base, end, Place(root)), end, root)
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
        make_log(os.path.abspath(root), origin, key, clock)

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
        origin = read_origin(path)
        with durable.lock(os.path.join(path, LOCK), timeout_s=LOCK_TIMEOUT_S):
            durable.settle(path)
            try:
                log = cls(path, origin, key, terms, filed_at)
            except (MalformedTile, MalformedCheckpoint, CheckpointNotSigned) as err:
                raise LogDamaged(err.problem, place=err.place, expected=err.expected, got=err.got) from err
            try:
                log._catch_up()
                yield log
            finally:
                log._close()

    # --- appending

    @property
    def takes_entries(self) -> bool:
        """Whether it goes on: not once its disk has failed, or it has found itself damaged."""
        return self._damage is None and not self._halted

    def append_many(self, leaves: Sequence[bytes]) -> tuple[Appended, ...]:
        """Append a batch, and return when all of it is durable; a leaf that is there already is answered with its first entry.

        Raises:
            TooLarge: (LIMIT) a leaf is larger than a bundle can hold; nothing was appended.
            FileUnwritable: (UNAVAIL) no space; nothing was appended, and the log goes on when there is some.
            LogHalted: (UNAVAIL) the disk failed: the log must be opened anew.
            DatabaseUnusable: (UNAVAIL) the index cannot be read; nothing was appended.
            LogDamaged: (TLOG) the log found itself damaged; it signs nothing more.
        """
        with self.batch(leaves, [self._terms(leaf) for leaf in leaves]) as batch:
            self.sync(batch)
            answers = self.finish(batch)
        self.file_if_due()
        return answers

    def look_up(self, leaves: Sequence[bytes]) -> Filed:
        """Return what the index has of leaves, for `batch`: waits for the disk.

        Raises:
            DatabaseUnusable: (UNAVAIL) the index cannot be read.
        """
        filings = self._filings  # before it is read: what is filed meanwhile may not be found
        try:
            return Filed(filings, self._index.find([leaf_term(leaf) for leaf in leaves]) if self._index.size else {})
        except DatabaseUnusable as err:
            self._tell_failure(err, _GOES_ON)
            raise

    @contextlib.contextmanager
    def batch(self, leaves: Sequence[bytes], terms: Sequence[Sequence[bytes]], filed: Filed = NOT_LOOKED_UP) -> Iterator[Batch]:
        """Give a batch that is proved and whose tree is signed, for `sync` and then `finish`.

        For a server: of the four `look_up` and `sync` wait for the disk, and need a thread of their own. The other two read a tile of 8 KiB
        for a duplicate that is in no tile that was read lately.

        Args:
            leaves: to append.
            terms: of each leaf.
            filed: what `look_up` returned for these leaves; without it, or if the journal was begun anew since, that is done here.

        Raises:
            TooLarge, LogHalted, LogDamaged: as `append_many`.
            DatabaseUnusable: (UNAVAIL) the index cannot be read; nothing was appended.
        """
        for leaf in leaves:
            if len(leaf) > ENTRY_BYTES:
                raise TooLarge(f"an entry of more than {ENTRY_BYTES} bytes", place=Place("entry"), got=f"{len(leaf)} bytes")
        with self._appending:
            if self._damage:
                raise self._damage
            if self._in_doubt:
                raise LogHalted("the log does not know whether its last batch is durable", place=Place(self._root))
            old = self._head
            try:
                hashes = tuple(map(leaf_hash, leaves))
                places, new = self._find_places(leaves, hashes, filed if filed.filings == self._filings else self.look_up(leaves))
                fresh = tuple(leaves[at] for at in new)
                head, proofs = self._grow(fresh, [hashes[at] for at in new]) if new else (old, {})
                yield Batch(old, head, fresh, tuple(terms[at] for at in new), tuple(places), hashes, proofs)
            except (BadInclusionProof, BadConsistencyProof, MalformedTile, LogDamaged) as err:
                self._damage = LogDamaged(err.problem, place=err.place, expected=err.expected, got=err.got)
                self._tell_failure(self._damage, _START_AGAIN)
                raise self._damage from err
            finally:
                if self._head is old:
                    with self._guard:
                        self._tree.truncate(old.size)

    def _find_places(self, leaves: Sequence[bytes], hashes: Sequence[bytes], filed: Filed) -> tuple[list[int], list[int]]:
        """Return for each leaf its index in the log, and which of the leaves are new, in order.

        Hashes are compared, and no bundle is read: one has up to 16 MiB, and whoever sends duplicates would have one read for each.
        """
        size = self._head.size
        coming: dict[bytes, int] = {}
        places: list[int] = []
        new: list[int] = []
        for at, (hashed, leaf) in enumerate(zip(hashes, leaves, strict=True)):
            term = leaf_term(leaf)
            candidates = (*filed.entries.get(term, ()), *self._recent.get(term, ()))
            place = next((index for index in candidates if self._has(index, hashed)), coming.get(hashed))
            if place is None:
                place = coming[hashed] = size + len(new)
                new.append(at)
            places.append(place)
        return places, new

    def _has(self, index: int, hashed: bytes) -> bool:
        with self._guard:
            return index < self._head.size and self._tree.node(0, index) == hashed

    def _grow(self, new: Sequence[bytes], hashes: Sequence[bytes]) -> tuple[Head, dict[int, tuple[bytes, ...]]]:
        """Let the tree grow in memory, and return its signed head and the proof of each new entry."""
        with self._guard:
            self._tree.extend(hashes)
            root, proofs = check_growth(self._tree, self._head, new, Place(self._root))
        return sign_head(self.origin, self._key, self._tree.size, root), proofs

    def sync(self, batch: Batch) -> None:
        """Make a batch durable: waits for the disk.

        Raises:
            FileUnwritable, LogHalted: (UNAVAIL) as `append_many`.
        """
        if batch.leaves:
            self._in_doubt = True
            try:
                self._journal.append(Record(batch.old.size, batch.leaves, batch.head.checkpoint))
            except FileUnwritable as err:
                self._in_doubt = False  # nothing was added
                self._tell_failure(err, _GOES_ON)
                raise
            except LogHalted as err:
                self._halted = True
                self._tell_failure(err, _START_AGAIN)
                raise
            if self._told:
                self._told = ""
                _LOG.warning("the log %s takes entries again", escape(self.origin))

    def _tell_failure(self, err: SigkitError, then: str) -> None:
        """Tell the operator, who learns it from users else; once, until it goes on or fails otherwise."""
        if self._told != err.code:
            self._told = err.code
            _LOG.error("the log %s takes no entry: %s; %s", escape(self.origin), escape(str(err), _LINE_CHARACTERS), then)

    def finish(self, batch: Batch) -> tuple[Appended, ...]:
        """Let readers see a batch, which is durable, and return the answer for each leaf that was given.

        Raises:
            BadInclusionProof, MalformedTile, LogDamaged: (TLOG) an earlier entry is not in the tree; `batch` makes LogDamaged of all three.
        """
        if batch.leaves:
            with self._guard:
                self._remember(batch.old.size, batch.leaves, batch.terms)
                self._tail += batch.leaves
                self._head = batch.head
            self._in_doubt = False
        head, answers = batch.head, []
        fresh = set(batch.proofs)
        for index, hashed in zip(batch.places, batch.hashes, strict=True):
            proof = batch.proofs.get(index) or self._prove_again(index, hashed, head)
            answers.append(Appended(index, head.size, head.root, proof, head.checkpoint, index in fresh))
            fresh.discard(index)  # the same leaf twice in one batch: the second is a duplicate
        return tuple(answers)

    def _prove_again(self, index: int, hashed: bytes, head: Head) -> tuple[bytes, ...]:
        proof = self.prove(index, head.size)
        verify_inclusion(hashed, index, head.size, proof, head.root, Place(self._root))
        return proof

    def _remember(self, start: int, leaves: Sequence[bytes], terms: Sequence[Sequence[bytes]]) -> None:
        for index, (leaf, others) in enumerate(zip(leaves, terms, strict=True), start):
            for term in (leaf_term(leaf), *others):
                self._recent.setdefault(term, []).append(index)

    # --- filing

    def file_if_due(self) -> None:
        """Write tiles and index if the journal has grown, which takes some twenty syncs."""
        filing = self.begin_filing()
        if filing is not None and self.write_filing(filing):
            self.end_filing(filing)

    def begin_filing(self) -> Filing | None:
        """Return what is to be filed, if the journal has grown. Of all steps of filing each may be repeated after a crash."""
        with self._guard:
            size, start, end = self._head.size, self._base, self._head.size // WIDTH * WIDTH
            if size < max(start + self._filed_at, self._not_before):
                return None
            rows = tuple((term, entry) for term, entries in self._recent.items() for entry in entries)
            try:
                return Filing(size, end, tuple(whole_tiles(self._tree, self._tail, start, end, Place(self._root))), rows)
            except LogDamaged as err:  # the journal still has what was signed
                self._damage = err
                self._tell_failure(err, _START_AGAIN)
                return None

    def write_filing(self, filing: Filing) -> bool:
        """Write tiles and index, and tell whether that was done. Batches may be appended meanwhile."""
        try:
            for tile, data in filing.tiles:
                self._files.put(tile, data)
            self._index.add(filing.rows, filing.size)
        except (FileUnwritable, DatabaseUnusable):
            self._give_up(filing)
            return False
        return True

    def end_filing(self, filing: Filing) -> None:
        """Begin the journal anew with what is in no tile. Between two batches."""
        with self._appending:
            try:
                self._journal.replace(Record(filing.end, tuple(self._tail[filing.end - self._base :]), self._head.checkpoint))
            except FileUnwritable:
                self._give_up(filing)
                return
            with self._guard:
                self._filings += 1
                self._tree.forget(filing.end)
                del self._tail[: filing.end - self._base]
                self._base = filing.end
                kept = ((term, [entry for entry in entries if entry >= filing.size]) for term, entries in self._recent.items())
                self._recent = {term: entries for term, entries in kept if entries}

    def _give_up(self, filing: Filing) -> None:
        # The entries are durable where they are, and a journal without space says so itself. It is tried again, but not for each batch.
        self._not_before = filing.size + self._filed_at

    # --- reading

    def head(self) -> Head:
        """Return the newest tree."""
        return self._head

    def checkpoint(self) -> str:
        """Return the newest checkpoint, a signed note."""
        return self._head.checkpoint

    def find_file(self, path: str) -> Body | None:
        """Return a static file of the log, `checkpoint` or `tile/…`; None if there is none, or not yet.

        A bundle of entries, which can have 16 MiB, is not built: it is sent from its file, or from the entries in memory.

        Raises:
            LogDamaged, MalformedTile: (TLOG) a file is gone or cut.
        """
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
            root = self._tree.node(HEIGHT, tile.number)
        if tile.level == ENTRIES:
            return self._files.open_entries(tile)
        return b"".join(proved_leaves(self._files, tile.number, root)[: tile.width])

    def _read_memory(self, tile: Tile) -> bytes | Parts:
        first = tile.number * WIDTH
        if tile.level == ENTRIES:
            parts = entry_parts(self._tail[first - self._base : first - self._base + tile.width])
            return Parts(parts, sum(map(len, parts)))
        return self._tree.row(HEIGHT * tile.level, first, first + tile.width)

    def find(self, index: int) -> bytes | None:
        """Return the entry at `index`, if there is such a one.

        Raises:
            LogDamaged, MalformedTile: (TLOG) its bundle is gone or cut.
        """
        with self._guard:
            if not 0 <= index < self._head.size:
                return None
            if index >= self._base:
                return self._tail[index - self._base]
        return self._files.entries(index // WIDTH)[index % WIDTH]

    def search(self, term: bytes, most: int, first: int = 0) -> tuple[int, ...]:
        """Return `most` entries that have a term, in order, from the index `first` on.

        Raises:
            DatabaseUnusable: (UNAVAIL) the index cannot be read.
        """
        with self._guard:
            recent = tuple(index for index in self._recent.get(term, ()) if index >= first)
        filed = self._index.search(term, most, first)
        return tuple(sorted({*filed, *recent}))[:most]

    def prove(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof of an entry in the tree that had `size` leaves.

        Raises:
            LogDamaged, MalformedTile: (TLOG) a file that it needs is gone or cut.
        """
        with self._guard:
            return prove_inclusion(index, size, self._tree.node)

    # --- opening and closing

    def _replay(self, records: Sequence[Record]) -> list[bytes]:
        tail: list[bytes] = []
        if self._base % WIDTH:
            raise LogDamaged("the journal begins within a tile", place=Place(self._root, "journal"), got=str(self._base))
        for record in records:  # that none is missing or there twice is seen by the tree that they make
            tail += record.leaves
            self._remember(record.start, record.leaves, [self._terms(leaf) for leaf in record.leaves])
        return tail

    def _raise_tree(self, hashes: Iterable[bytes], newest: Record) -> tuple[Tree, Head]:
        """Return the tree over whole tiles and what the journal has after them, which must be the one that was signed last."""
        tree = Tree(hashes, self._read_leaves)
        tree.extend(map(leaf_hash, self._tail))
        return tree, check_head(newest.checkpoint, tree, self._key.public, self.origin, Place(self._root))

    def _read_leaves(self, number: int) -> Sequence[bytes]:
        return proved_leaves(self._files, number, self._tree.node(HEIGHT, number))

    def _remake(self) -> None:
        with self._guard:
            roots = [self._tree.node(HEIGHT, number) for number in range(self._base // WIDTH)]
            higher = tuple(hash_tiles(self._tree, 0, self._base, 1))
        remake(self._files, roots, higher)

    def _catch_up(self) -> None:
        """Let the index cover all that is filed, also one that was removed."""
        if self._index.size > self._head.size:
            raise LogDamaged(
                "the log's index knows entries that the log does not have: its journal is an old copy", place=Place(self._root)
            )
        start = self._index.size // WIDTH
        for first in range(start, self._base // WIDTH, _REINDEXED_TILES):
            last = min(first + _REINDEXED_TILES, self._base // WIDTH)
            roots = [self._tree.node(HEIGHT, number) for number in range(first, last)]
            rows = index_rows(self._files, self._terms, first, roots)
            self._index.add(rows, last * WIDTH)

    def check(self) -> None:
        """Prove every entry of the log, and make each tile of hashes anew that is not the tree's. A million entries take seconds.

        Raises:
            LogDamaged, MalformedTile: (TLOG) the first bundle of entries that is gone, cut, or of another tree.
        """
        for number, made in enumerate(entry_hashes(self._files, self._base)):
            with self._guard:
                known = self._tree.node(HEIGHT, number)
            if made != known:
                raise LogDamaged("a file of the log is of another tree", place=Place(self._root, Tile(ENTRIES, number, WIDTH).path))
        self._remake()

    def _close(self) -> None:
        self.threads.shutdown()
        self._index.close()
        self._journal.close()
