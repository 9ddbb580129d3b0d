"""The static files of a log: whole tiles and whole bundles of entries, each written once, durably, under the path it is served at.

Partial ones are never written: they are the beginning of what the journal keeps in memory.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sigkit import durable
from sigkit.errors import FileUnreadable, LogDamaged, MalformedTile, Place, TooLarge
from sigkit.services.exchange import Slice
from sigkit.tlog.merkle import HASH_BYTES
from sigkit.tlog.tile import ENTRIES, ENTRY_BYTES, WIDTH, Tile, parse_entries, split_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TILE_BYTES = WIDTH * HASH_BYTES
_LENGTH_BYTES = 2  # before each entry
_BUNDLE_BYTES = WIDTH * (ENTRY_BYTES + _LENGTH_BYTES)
_READ_BYTES = 1 << 18


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
            LogDamaged, MalformedTile: (TLOG) it is absent, or larger than any.
            FileUnreadable: (UNAVAIL) it cannot be read now.
        """
        path, place = self._path(tile), self.place(tile)
        try:
            return durable.read(path, most_bytes=_BUNDLE_BYTES if tile.level == ENTRIES else _TILE_BYTES, place=place)
        except TooLarge as err:
            raise MalformedTile(err.problem, place=place) from err
        except FileUnreadable as err:
            if isinstance(err.__cause__, FileNotFoundError):
                raise _gone(place) from err
            raise

    def open_entries(self, tile: Tile) -> Slice:
        """Open a whole bundle of entries, at its beginning which is `tile`. No more than a few entries of it are in memory at a time.

        Raises:
            LogDamaged, MalformedTile: (TLOG) it is absent, or cut.
            FileUnreadable: (UNAVAIL) it cannot be read now.
        """
        place = self.place(tile.whole)
        try:
            file = open(self._path(tile.whole), "rb", buffering=0)  # noqa: SIM115 - the receiver of the answer closes it
        except FileNotFoundError as err:
            raise _gone(place) from err
        except OSError as err:
            raise FileUnreadable(f"cannot read a file of the log: {err.strerror}", place=place) from err
        try:
            ends = list(_ends(file.fileno()))
            if ends[-1] != os.fstat(file.fileno()).st_size:
                raise MalformedTile("a bundle of entries is cut or too long", place=place)
        except BaseException:
            file.close()
            raise
        return Slice(file, 0, ends[tile.width - 1])

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


def _gone(place: Place) -> LogDamaged:
    return LogDamaged("a file of the log is gone", place=place)


def _ends(descriptor: int) -> Iterator[int]:
    """Give where each entry of a whole bundle ends, or would end if the file went on."""
    at, raw, start = 0, b"", 0  # many are read at once: with each call this thread gives up its turn
    for _ in range(WIDTH):
        if at + _LENGTH_BYTES > start + len(raw):
            raw, start = os.pread(descriptor, _READ_BYTES, at), at
        at += _LENGTH_BYTES + int.from_bytes(raw[at - start : at - start + _LENGTH_BYTES], "big")
        yield at
