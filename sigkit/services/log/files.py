"""The static files of a log: whole tiles and whole bundles of entries, each written once, durably, under the path it is served at.

Partial ones are never written: they are the beginning of what the journal keeps in memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sigkit import durable
from sigkit.errors import FileUnreadable, LogDamaged, Place
from sigkit.tlog.merkle import HASH_BYTES
from sigkit.tlog.tile import ENTRIES, ENTRY_BYTES, WIDTH, Tile, parse_entries, split_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence

_TILE_BYTES = WIDTH * HASH_BYTES
_BUNDLE_BYTES = WIDTH * (ENTRY_BYTES + 2)


class TileFiles:
    """The directory `tile/` of a log. Its methods block on the disk."""

    def __init__(self, root: str) -> None:
        """Keep files below `root`."""
        self._root = root

    def put(self, tile: Tile, data: bytes) -> None:
        """Write a whole tile, durably.

        Raises:
            FileUnwritable: (UNAVAIL) no space; nothing is half-written.
        """
        path = self._path(tile)
        durable.make_directory(os.path.dirname(path), 0o755)
        durable.write(path, data, point="log.entries" if tile.level == ENTRIES else "log.tile")

    def read(self, tile: Tile) -> bytes:
        """Return a whole tile.

        Raises:
            LogDamaged: (TLOG) it is absent, or cannot be read.
        """
        path, place = self._path(tile), self.place(tile)
        try:
            return durable.read(path, most_bytes=_BUNDLE_BYTES if tile.level == ENTRIES else _TILE_BYTES, place=place)
        except FileUnreadable as err:
            raise LogDamaged("a file of the log is gone", place=place) from err

    def holds(self, tile: Tile) -> bool:
        """Tell whether a whole tile is there."""
        return os.path.exists(self._path(tile))

    def leaf_hashes(self, number: int) -> tuple[bytes, ...]:
        """Return the hashes of a whole tile of leaves."""
        return self.hashes(Tile(0, number, WIDTH))

    def hashes(self, tile: Tile) -> tuple[bytes, ...]:
        """Return the hashes of a whole tile."""
        return split_hashes(self.read(tile), WIDTH, self.place(tile))

    def entries(self, number: int) -> Sequence[bytes]:
        """Return the entries of a whole bundle."""
        tile = Tile(ENTRIES, number, WIDTH)
        return parse_entries(self.read(tile), WIDTH, self.place(tile))

    def place(self, tile: Tile) -> Place:
        """Return where a tile lies."""
        return Place(self._path(tile))

    def _path(self, tile: Tile) -> str:
        return os.path.join(self._root, tile.path)
