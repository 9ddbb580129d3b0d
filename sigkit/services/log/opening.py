"""What is proved of a log's files before anything is done with them, and what is made anew from them."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from sigkit.errors import FileUnwritable, LogDamaged, MalformedTile, Place
from sigkit.services.log.head import Head
from sigkit.services.log.index import leaf_term
from sigkit.text import escape
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.merkle import leaf_hash
from sigkit.tlog.note import ED25519_TYPE, key_id_of
from sigkit.tlog.proof import root_of
from sigkit.tlog.tile import ENTRIES, WIDTH, Tile, tile_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sigkit.keys.public import PublicKey
    from sigkit.services.log.files import TileFiles
    from sigkit.services.log.tree import Tree

_LOG: Final = logging.getLogger("sigkit.services")


def tile_hashes(files: TileFiles, base: int) -> Iterator[bytes]:
    """Give the hash of each whole tile of the first `base` leaves: from the tiles above where those are whole, else by hashing.

    Raises:
        LogDamaged, MalformedTile: (TLOG) a file is gone or cut.
    """
    tiles = base // WIDTH
    for number in range(tiles // WIDTH):
        yield from files.hashes(Tile(1, number, WIDTH))
    for number in range(tiles // WIDTH * WIDTH, tiles):
        yield tile_root(files.leaf_hashes(number))


def entry_hashes(files: TileFiles, base: int) -> Iterator[bytes]:
    """Give the hash of each whole tile of the first `base` leaves, made from all entries: a million take seconds.

    Raises:
        LogDamaged, MalformedTile: (TLOG) a bundle is gone or cut.
    """
    for number in range(base // WIDTH):
        yield tile_root(tuple(map(leaf_hash, files.entries(number))))


def proved_leaves(files: TileFiles, number: int, root: bytes) -> tuple[bytes, ...]:
    """Return the hashes of a whole tile of leaves, over which the tree that was signed has `root`.

    Where its file has others, or is gone, they are made from the entries, and the file from them.

    Raises:
        LogDamaged, MalformedTile: (TLOG) the bundle of entries is gone, cut, or holds others too.
    """
    with contextlib.suppress(LogDamaged, MalformedTile):
        found = files.leaf_hashes(number)
        if tile_root(found) == root:
            return found
    made = tuple(map(leaf_hash, files.entries(number)))
    if tile_root(made) != root:
        raise _other_entries(files, number)
    _put_again(files, Tile(0, number, WIDTH), b"".join(made))
    return made


def remake(files: TileFiles, roots: Iterable[bytes], higher: Iterable[tuple[Tile, bytes]]) -> None:
    """Write all tiles of hashes anew that are not what the tree that was signed has: its nodes over tiles of leaves, and those above.

    Raises:
        LogDamaged, MalformedTile: (TLOG) as `proved_leaves`.
    """
    for number, root in enumerate(roots):
        proved_leaves(files, number, root)
    for tile, data in higher:
        with contextlib.suppress(LogDamaged, MalformedTile):
            if files.read(tile) == data:
                continue
        _put_again(files, tile, data)


def _put_again(files: TileFiles, tile: Tile, data: bytes) -> None:
    _LOG.warning(
        "a tile of hashes was lost or damaged, and is made anew from the entries; look at the disk: %s", escape(str(files.place(tile)))
    )
    with contextlib.suppress(FileUnwritable):  # it is needed by nobody who has `data`, and made the next time
        files.put(tile, data)


def _other_entries(files: TileFiles, number: int) -> LogDamaged:
    return LogDamaged("a bundle holds other entries than the tree", place=files.place(Tile(ENTRIES, number, WIDTH)))


def check_head(text: str, tree: Tree, key: PublicKey, origin: str, place: Place) -> Head:
    """Return the head if the log's key signed it and the tree is the one that it signed.

    Raises:
        LogDamaged: (TLOG) it is another.
        CheckpointNotSigned: (TLOG) another key signed it.
    """
    signed = verify_checkpoint(text, key, key_id_of(origin, ED25519_TYPE, key.spki[-32:]), origin, place).checkpoint
    root = root_of(tree.size, tree.node)
    if (signed.size, signed.root) != (tree.size, root):
        raise LogDamaged(
            "the log's files do not make the tree that it signed last",
            place=place,
            expected=f"{signed.size} {signed.root.hex()}",
            got=f"{tree.size} {root.hex()}",
        )
    return Head(tree.size, root, text)


def check_files(files: TileFiles, planned: Iterable[tuple[Tile, bytes]], end: int, root: str) -> None:
    """Compare the files that the journal would write with those that are there, and find out whether it is older than they are.

    Raises:
        LogDamaged: (TLOG) one is of another tree, or lies beyond the log's end.
    """
    for tile, data in planned:
        if files.holds(tile) and files.read(tile) != data:
            raise LogDamaged("a file of the log is of another tree", place=Place(root, tile.path))
    beyond = Tile(ENTRIES, end // WIDTH, WIDTH)
    if files.holds(beyond):
        problem = "the log's files go beyond what it signed last: its journal is an old copy"
        raise LogDamaged(problem, place=Place(root, beyond.path))


def index_rows(files: TileFiles, terms: Callable[[bytes], Sequence[bytes]], first: int, roots: Iterable[bytes]) -> list[tuple[bytes, int]]:
    """Return what the index holds of the entries in whole bundles from number `first` on, over which the tree has `roots`.

    Raises:
        LogDamaged, MalformedTile: (TLOG) a file is gone, cut, or of other entries than the tree's.
    """
    rows: list[tuple[bytes, int]] = []
    for number, root in enumerate(roots, first):
        leaves = files.entries(number)
        if tile_root(tuple(map(leaf_hash, leaves))) != root:
            raise _other_entries(files, number)
        for at, leaf in enumerate(leaves, number * WIDTH):
            rows += ((term, at) for term in (leaf_term(leaf), *terms(leaf)))
    return rows
