"""Text as people read it: times, sizes, counts, and outside text made safe to show.

A registry, an image or a certificate chooses its own strings; a terminal obeys some of them (CVE-2021-25743).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta

SHOWN_CHARACTERS = 512  # what a person reads of one value; the rest is counted

# Bidirectional controls and the like reorder or hide what stands beside them (Unicode TR 36); the second group are characters that
# `isprintable` takes for printable though nothing is seen of them (Default_Ignorable_Code_Point, and the blank of Braille).
_REORDERING = (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC), 0x061C, 0x180E)
_UNSEEN = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, *range(0xFE00, 0xFE10), 0xFFA0)
_INVISIBLE = frozenset((*_REORDERING, *_UNSEEN, *range(0xE0100, 0xE01F0)))


def escape(text: str, most: int = SHOWN_CHARACTERS) -> str:
    r"""Return `text` with every control, invisible and unpaired character written as an escape.

    Args:
        text: anything, from anyone.
        most: characters of `text` to keep; a longer one ends in a count of what was left out.

    Returns:
        Text without line breaks and terminal controls. Backslashes are doubled, so that escaped text is not mistaken for plain.
    """
    return _shown(text, most, r"\\")


def escape_own(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Do as `escape` with what the user wrote, an expression or a path: a backslash stays one, so that it can be pasted."""
    return _shown(text, most, "\\")


def _shown(text: str, most: int, backslash: str) -> str:
    kept = text[:most].replace("\\", backslash)
    shown = kept if kept.isascii() and kept.isprintable() else "".join(map(_escaped, kept))
    left = len(text) - most
    return f"{shown}…(+{left} characters)" if left > 0 else shown


def _escaped(character: str) -> str:
    point = ord(character)
    if character.isprintable() and point not in _INVISIBLE:
        return character
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def human_size(size_bytes: int) -> str:
    """Write a number of bytes for a person: `812 B`, `1.4 MiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def human_age(span: timedelta) -> str:
    """Write a span of time for a person, in the largest unit of which there are two or more."""
    seconds = int(span.total_seconds())
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return counted(seconds, "second", "seconds")


def format_time(when: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC, whole seconds, ending in Z."""
    from datetime import UTC

    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def counted(number: int, one: str, many: str) -> str:
    """Write how many there are: `1 entry`, `2 entries`."""
    return f"{number} {one if number == 1 else many}"
