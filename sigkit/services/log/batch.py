"""Entries on their way into a log, and what is answered for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.data import Data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sigkit.services.log.head import Head
    from sigkit.tlog.tile import Tile


class Appended(Data):
    """Where an entry is, and what proves it in the tree of `size` leaves. `added` is False for one that was there before."""

    index: int
    size: int
    root: bytes
    proof: tuple[bytes, ...]
    checkpoint: str
    added: bool


class Filed(Data):
    """What the index has of leaves, by their terms, after so many filings: see `TileLog.look_up`."""

    filings: int
    entries: Mapping[bytes, tuple[int, ...]]


NOT_LOOKED_UP: Final = Filed(-1, {})


class Batch(Data):
    """Entries that are proved and whose tree is signed, and nobody has seen: see `TileLog.batch`."""

    old: Head
    head: Head
    leaves: tuple[bytes, ...]  # those that are new
    terms: tuple[Sequence[bytes], ...]  # of each of them
    places: tuple[int, ...]  # the index of each leaf that was given
    hashes: tuple[bytes, ...]  # of each leaf that was given
    proofs: Mapping[int, tuple[bytes, ...]]  # of each that is new


class Filing(Data):
    """What is moved from the journal into files: see `TileLog.begin_filing`."""

    size: int  # of the tree; the index then covers as much
    end: int  # of the last whole tile
    tiles: tuple[tuple[Tile, bytes], ...]
    rows: tuple[tuple[bytes, int], ...]  # of the index
