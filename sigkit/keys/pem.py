"""PEM, read so that two programs see the same key: exactly one block in a file.

Text before the block and CRLF line ends are allowed, as cosign allows them (RFC 7468 section 2: "explanatory text").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import MalformedBase64, MalformedPem, Place, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = 64

_BEGIN = re.compile(r"^-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*$", re.MULTILINE)


class PemBlock(Data):
    """A label and the bytes under it."""

    label: str
    data: bytes


def is_pem(raw: bytes) -> bool:
    """Tell PEM from DER."""
    return b"-----BEGIN" in raw


def parse_pem(raw: bytes, labels: Iterable[str], place: Place) -> PemBlock:
    """Parse a file that holds exactly one PEM block.

    Args:
        raw: the whole file.
        labels: those that are accepted here.
        place: the file.

    Raises:
        TooLarge: (LIMIT) more than a key file holds.
        NotUtf8: (PARSE) the file is no text.
        MalformedPem: (PARSE) no block, several, another label, or damaged.
    """
    if len(raw) > limits.KEY_FILE_BYTES:
        raise TooLarge(f"more than {limits.KEY_FILE_BYTES} bytes", place=place, got=f"{len(raw)} bytes")
    text = strict.decode_utf8(raw, place).replace("\r\n", "\n")
    wanted = tuple(labels)
    blocks = text.count("-----BEGIN")
    if blocks != 1:
        raise MalformedPem("the file holds several keys" if blocks else "the file holds no PEM block", place=place, got=f"{blocks} blocks")
    begin = _BEGIN.search(text)
    if begin is None:
        raise MalformedPem("malformed PEM", place=place, expected=_begins(wanted))
    label = begin[1]
    body, end, rest = text[begin.end() :].partition(f"\n-----END {label}-----")
    if not end or "-----END" in rest:
        raise MalformedPem("the PEM block has no end, or two", place=place, expected=f"-----END {label}-----")
    if label not in wanted:
        raise MalformedPem("a PEM block of another label", place=place, expected=_begins(wanted), got=f"-----BEGIN {label}-----")
    try:
        data = strict.decode_base64("".join(line.strip(" \t") for line in body.split("\n")), place)
    except MalformedBase64 as err:
        raise MalformedPem("the PEM block is not base64", place=place, got=err.got) from err
    return PemBlock(label, data)


def encode_pem(label: str, data: bytes) -> bytes:
    """Write one PEM block of 64 columns (RFC 7468 section 2)."""
    text = strict.encode_base64(data)
    lines = [text[at : at + COLUMNS] for at in range(0, len(text), COLUMNS)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode("ascii")


def _begins(labels: tuple[str, ...]) -> str:
    return " or ".join(f"-----BEGIN {label}-----" for label in labels)
