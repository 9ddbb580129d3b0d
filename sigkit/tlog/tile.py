"""Tiles: the static files in which a log publishes its tree and its entries.

A tile of level L holds up to 256 hashes, each of a whole subtree of 256**L leaves; a bundle of entries holds up to 256 leaves themselves.
A full file never changes, and a partial one is the beginning of the full one, so every size that was ever published can be read back.

Source: C2SP tlog-tiles.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import MalformedTile, Place
from sigkit.strict import INT64_MAX
from sigkit.tlog.merkle import HASH_BYTES, node_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
ENTRIES: Final = -1  # the level of bundles of entries, which have none
MOST_LEVEL: Final = 63
ENTRY_BYTES: Final = 0xFFFF

_PATH: Final = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?", re.ASCII)


class Tile(Data):
    """One file: its level, its number from the left, and how many hashes or entries it holds, 1 to 256."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """Where a log serves it, below the log's prefix."""
        digits = str(self.number)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        level = "entries" if self.level == ENTRIES else str(self.level)
        return f"tile/{level}/{name}" + (f".p/{self.width}" if self.width < WIDTH else "")

    @property
    def whole(self) -> Tile:
        """The full tile of which this is the beginning."""
        return Tile(self.level, self.number, WIDTH)


def parse_tile_path(path: str) -> Tile | None:
    """Read the path of a tile; None if it is none, or not written canonically."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    level = ENTRIES if found[1] == "entries" else int(found[1])
    tile = Tile(level, int(found[2].replace("x", "").replace("/", "")), int(found[3]) if found[3] else WIDTH)
    # Leading zeros, a width of 0 or of 256, and a level beyond the last are not how the path of such a tile is written.
    return tile if level <= MOST_LEVEL and tile.width > 0 and tile.path == path else None


def tile_at(level: int, number: int, size: int) -> Tile:
    """Return the widest form of a tile that a log of `size` leaves serves; its width is 0 or less where it serves none."""
    return Tile(level, number, min(count_at(level, size) - number * WIDTH, WIDTH))


def count_at(level: int, size: int) -> int:
    """Return how many hashes, or entries, a level has in a log of `size` leaves."""
    return size >> (HEIGHT * max(level, 0))


def split_hashes(raw: bytes, width: int, place: Place) -> tuple[bytes, ...]:
    """Take a tile apart. The hashes prove nothing until they lead to a root hash that is trusted.

    Raises:
        MalformedTile: (TLOG) not as many hashes as the tile's name says.
    """
    if len(raw) != width * HASH_BYTES:
        raise MalformedTile("a tile of another size", place=place, expected=f"{width * HASH_BYTES} bytes", got=f"{len(raw)} bytes")
    return tuple(raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES))


def encode_entries(leaves: Sequence[bytes]) -> bytes:
    """Write a bundle of entries, each at most `ENTRY_BYTES` long."""
    return b"".join(entry_parts(leaves))


def entry_parts(leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return what a bundle of entries is made of, without copying them."""
    return tuple(part for leaf in leaves for part in (len(leaf).to_bytes(2, "big"), leaf))


def parse_entries(raw: bytes, width: int, place: Place) -> tuple[bytes, ...]:
    """Take a bundle of entries apart.

    Raises:
        MalformedTile: (TLOG) it ends within an entry, or holds another number of entries than its name says.
    """
    leaves: list[bytes] = []
    at = 0
    while at < len(raw) and len(leaves) < width:
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        leaves.append(raw[at + 2 : end])
        at = end
    if at != len(raw) or len(leaves) != width:
        raise MalformedTile(
            "a bundle of entries is cut or too long", place=place, expected=f"{width} entries", got=f"{len(leaves)} or more"
        )
    return tuple(leaves)


def tile_root(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of the subtree over a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


class TileNodes:
    """The nodes of a tree of `size` leaves, read from its tiles. What it gives is unproved."""

    def __init__(self, size: int, fetch: Callable[[Tile], bytes], place: Place) -> None:
        """Read tiles with `fetch`, each at most once."""
        self._size = size
        self._fetch = fetch
        self._place = place
        self._kept: dict[Tile, tuple[bytes, ...]] = {}

    def __call__(self, height: int, number: int) -> bytes:
        """Return the hash of the whole subtree of 2**height leaves, `number` such subtrees from the left.

        Raises:
            MalformedTile: (TLOG) a tile is malformed, or the tree has no such node.
        """
        level, above = divmod(height, HEIGHT)
        first = number << above
        tile = tile_at(level, first // WIDTH, self._size)
        at = first % WIDTH
        if not 0 <= number <= INT64_MAX or at + (1 << above) > tile.width:
            raise MalformedTile("the tree has no such node", place=self._place, got=f"height {height}, number {number}")
        hashes = self._kept.get(tile)
        if hashes is None:
            hashes = self._kept[tile] = split_hashes(self._fetch(tile), tile.width, Place("", tile.path).within(self._place))
        return tile_root(hashes[at : at + (1 << above)])
