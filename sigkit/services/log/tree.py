"""The nodes of a growing tree, in memory: all that stand on whole tiles of leaves, and the leaves' own of those that are in no file yet.

For a million leaves this is half a megabyte. What lies below whole tiles is read from their files when a proof needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.tlog.merkle import HASH_BYTES, node_hash
from sigkit.tlog.tile import HEIGHT, WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_EXPANDED_TILES: Final = 256  # 8 MiB: readers ask for neighbours, and old proofs for one tile each


class Tree:
    """Takes leaf hashes, and gives nodes. It is not safe for several threads at once."""

    def __init__(self, tile_hashes: Iterable[bytes], read_leaves: Callable[[int], Sequence[bytes]]) -> None:
        """Start with whole tiles.

        Args:
            tile_hashes: the hash of each whole tile of leaves, from the left.
            read_leaves: gives the leaf hashes of a whole tile by its number, when a node below it is asked for.
        """
        self._read_leaves = read_leaves
        self._base = 0  # the first leaf whose hash is here
        self._rows: list[bytearray] = [bytearray() for _ in range(HEIGHT + 1)]  # by height; those below HEIGHT begin at the base
        self._expanded: dict[int, list[list[bytes]]] = {}
        self.size = 0
        for item in tile_hashes:
            self._push(HEIGHT, item)
            self._base += WIDTH
        self.size = self._base

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Add leaves, by their hashes."""
        for item in hashes:
            self._push(0, item)
            self.size += 1

    def truncate(self, size: int) -> None:
        """Forget the leaves from `size` on, none of which is in a file."""
        self.size = size
        for height, row in enumerate(self._rows):
            del row[((size >> height) - self._offset(height)) * HASH_BYTES :]

    def forget(self, base: int) -> None:
        """Drop the leaf hashes before `base`, which ends a whole tile: they are in files now."""
        for height in range(HEIGHT):
            del self._rows[height][: ((base >> height) - self._offset(height)) * HASH_BYTES]
        self._base = base

    def node(self, height: int, number: int) -> bytes:
        """Return the hash of a whole subtree; see `tlog.proof`."""
        if height < HEIGHT and number << height < self._base:
            return self._below_tile(height, number)
        at = (number - self._offset(height)) * HASH_BYTES
        found = bytes(self._rows[height][at : at + HASH_BYTES])
        if len(found) != HASH_BYTES:
            raise IndexError(f"no node at height {height}, number {number}")
        return found

    def row(self, height: int, start: int, end: int) -> bytes:
        """Return the nodes of a height from `start` up to `end`, none of them below a tile that is in a file."""
        offset = self._offset(height)
        return bytes(self._rows[height][(start - offset) * HASH_BYTES : (end - offset) * HASH_BYTES])

    def _offset(self, height: int) -> int:
        return self._base >> height if height < HEIGHT else 0

    def _push(self, height: int, item: bytes) -> None:
        while True:
            if height == len(self._rows):
                self._rows.append(bytearray())
            row = self._rows[height]
            row += item
            if (len(row) // HASH_BYTES + self._offset(height)) & 1:
                return
            item = node_hash(bytes(row[-2 * HASH_BYTES : -HASH_BYTES]), item)
            height += 1

    def _below_tile(self, height: int, number: int) -> bytes:
        tile, at = divmod(number, WIDTH >> height)
        rows = self._expanded.get(tile)
        if rows is None:
            rows = [list(self._read_leaves(tile))]
            while len(rows[-1]) > 2:
                rows.append([node_hash(rows[-1][i], rows[-1][i + 1]) for i in range(0, len(rows[-1]), 2)])
            while len(self._expanded) >= _EXPANDED_TILES:
                del self._expanded[next(iter(self._expanded))]
            self._expanded[tile] = rows
        return rows[height][at]
