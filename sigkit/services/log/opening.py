"""What is proved of a log's files before anything is done with them, and what is made anew from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import LogDamaged, Place
from sigkit.services.log.head import Head
from sigkit.services.log.index import leaf_term
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


def index_rows(files: TileFiles, terms: Callable[[bytes], Sequence[bytes]], first: int, last: int) -> list[tuple[bytes, int]]:
    """Return what the index holds of the entries in some whole bundles.

    Raises:
        LogDamaged, MalformedTile: (TLOG) a file is gone, cut, or of other entries than the tree's.
    """
    rows: list[tuple[bytes, int]] = []
    for number in range(first, last):
        leaves = files.entries(number)
        if tuple(map(leaf_hash, leaves)) != files.leaf_hashes(number):
            raise LogDamaged("a bundle holds other entries than the tree", place=files.place(Tile(ENTRIES, number, WIDTH)))
        for at, leaf in enumerate(leaves, number * WIDTH):
            rows += ((term, at) for term in (leaf_term(leaf), *terms(leaf)))
    return rows
