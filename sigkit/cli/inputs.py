"""Reading what an argument names: a file, or `-` for standard input."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sigkit.errors import Place

STDIN: Final = "-"


def place_of(path: str) -> Place:
    """Name an input for refusals; the operator chose it."""
    from sigkit.errors import Place

    return Place.operator("standard input" if path == STDIN else path)


def read_input(path: str, most_bytes: int) -> bytes:
    """Read a file, or all of standard input for `-`.

    Raises:
        FileUnreadable: (UNAVAIL) absent, no regular file, or not readable; the place is the operator's.
        TooLarge: (LIMIT) more than `most_bytes`.
    """
    from sigkit import durable
    from sigkit.errors import FileUnreadable, TooLarge

    place = place_of(path)
    if path != STDIN:
        return durable.read(path, most_bytes=most_bytes, place=place)
    try:
        data = sys.stdin.buffer.read(most_bytes + 1)
    except OSError as err:
        raise FileUnreadable(f"cannot read it: {err.strerror or err}", place=place) from err
    if len(data) > most_bytes:
        raise TooLarge(f"more than {most_bytes} bytes", place=place)
    return data
