"""A tree that grows: what is checked before a larger one is signed, and the files that become whole with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import LogDamaged
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.tlog.proof import prove_consistency, prove_inclusion, root_of, verify_consistency
from sigkit.tlog.tile import ENTRIES, HEIGHT, WIDTH, Tile, count_at, encode_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sigkit.errors import Place
    from sigkit.services.log.head import Head
    from sigkit.services.log.tree import Tree


def check_growth(tree: Tree, old: Head, new: Sequence[bytes], place: Place) -> tuple[bytes, dict[int, tuple[bytes, ...]]]:
    """Return a tree's root hash and the proofs of its newest leaves, each checked as a client would.

    Raises:
        BadConsistencyProof: (TLOG) it does not begin with the old one.
        BadInclusionProof: (TLOG) a leaf is not in it.
        MalformedTile, LogDamaged: (TLOG) a file that a proof needs is cut or gone.
    """
    size, node = tree.size, tree.node
    root = root_of(size, node)
    verify_consistency(old.size, old.root, size, root, prove_consistency(old.size, size, node), place)
    proofs = {}
    for index, leaf in enumerate(new, old.size):
        proofs[index] = prove_inclusion(index, size, node)
        verify_inclusion(leaf_hash(leaf), index, size, proofs[index], root, place)
    return root, proofs


def whole_tiles(tree: Tree, tail: Sequence[bytes], start: int, end: int, place: Place) -> Iterator[tuple[Tile, bytes]]:
    """Give the tiles that become whole between two sizes, and what they hold: entries first, the highest level last.

    Args:
        tree: of all leaves.
        tail: the entries from `start` on.
        start: the end of the last whole tile before.
        end: of the last whole tile now.
        place: of the log.

    Raises:
        LogDamaged: (TLOG) an entry in memory is not the one whose hash is in the tree, which the journal has.
    """
    for number in range(start // WIDTH, end // WIDTH):
        at = number * WIDTH - start
        leaves = tail[at : at + WIDTH]
        if b"".join(map(leaf_hash, leaves)) != tree.row(0, number * WIDTH, (number + 1) * WIDTH):
            raise LogDamaged("an entry in memory is not the one that was signed", place=place)
        yield Tile(ENTRIES, number, WIDTH), encode_entries(leaves)
    yield from hash_tiles(tree, start, end, 0)


def hash_tiles(tree: Tree, start: int, end: int, level: int) -> Iterator[tuple[Tile, bytes]]:
    """Give the tiles of hashes of a level, and of those above, that become whole between two sizes: the highest last."""
    while count_at(level, end) >= WIDTH:
        for number in range(count_at(level, start) // WIDTH, count_at(level, end) // WIDTH):
            yield Tile(level, number, WIDTH), tree.row(HEIGHT * level, number * WIDTH, (number + 1) * WIDTH)
        level += 1
