"""As much DER as the authorities need: a timestamp's answer is written, a query and a precertificate are read.

No library that is kept writes RFC 3161 answers: rfc3161-client reads them, `cryptography` writes CMS over plain data alone. What is written
here is a fixed structure of nine types; what is read is taken apart into elements with every length checked and minimal, so that bytes
which two readers could see differently are refused. Tests hold the result against rfc3161-client and OpenSSL.

Source: X.690 sections 8.1 to 8.19, 10.1, 11.1, 11.6, 11.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18

_MOST_LENGTH_BYTES: Final = 4
_MOST_IDENTIFIER_BYTES: Final = 64  # the longest in use have 20; beyond, a number costs time that grows with its square


class MalformedDer(ValueError):
    """The bytes are not DER, or not of the structure that was asked for."""


class Element(NamedTuple):
    """One element: its tag, its content, and all of its bytes."""

    tag: int
    content: bytes
    whole: bytes


def element(tag: int, *parts: bytes) -> bytes:
    """Write an element whose content is these parts."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    """Write a SEQUENCE."""
    return element(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """Write a SET OF, in DER's order."""
    return element(SET, *sorted(parts))


def integer(value: int) -> bytes:
    """Write a non-negative INTEGER."""
    return element(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes) -> bytes:
    """Write an OCTET STRING."""
    return element(OCTET_STRING, value)


def identifier(dotted: str) -> bytes:
    """Write an OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray()
    for number in (first * 40 + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return element(OBJECT_IDENTIFIER, bytes(out))


def generalized_time(when: datetime) -> bytes:
    """Write an aware UTC time in whole seconds as RFC 5280 and RFC 3161 want it."""
    return element(GENERALIZED_TIME, f"{when:%Y%m%d%H%M%SZ}".encode("ascii"))


def time(when: datetime) -> bytes:
    """Write an aware UTC time from 1950 on in whole seconds as CMS wants it: as UTCTime until 2049, whose years have two digits.

    Source: RFC 5652 section 11.3.
    """
    if when.year >= 2050:
        return generalized_time(when)
    return element(UTC_TIME, f"{when:%y%m%d%H%M%SZ}".encode("ascii"))


def read_one(raw: bytes, tag: int) -> Element:
    """Read one element of this tag, and nothing after it.

    Raises:
        MalformedDer: something else.
    """
    found, end = _read(raw, 0)
    if found.tag != tag or end != len(raw):
        raise MalformedDer(f"expected one element of tag {tag:#04x}")
    return found


def read_all(content: bytes) -> list[Element]:
    """Read the elements of a constructed one.

    Raises:
        MalformedDer: they do not end where it ends.
    """
    found: list[Element] = []
    at = 0
    while at < len(content):
        item, at = _read(content, at)
        found.append(item)
    return found


def read_identifier(item: Element) -> str:
    """Return an OBJECT IDENTIFIER as it is written in text.

    Raises:
        MalformedDer: malformed, or longer than any in use (CVE-2025-66564).
    """
    content = item.content
    if item.tag != OBJECT_IDENTIFIER or not content or len(content) > _MOST_IDENTIFIER_BYTES or content[-1] & 0x80:
        raise MalformedDer("expected an object identifier")
    numbers: list[int] = []
    value = 0
    fresh = True
    for byte in content:
        if fresh and byte == 0x80:
            raise MalformedDer("a number of an object identifier starts with zeros")
        value = value << 7 | byte & 0x7F
        fresh = not byte & 0x80
        if fresh:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def read_boolean(item: Element) -> bool:
    """Return a BOOLEAN.

    Raises:
        MalformedDer: not one byte of all zeros or all ones, or another type.
    """
    if item.tag != BOOLEAN or item.content not in {b"\x00", b"\xff"}:
        raise MalformedDer("expected a boolean")
    return item.content == b"\xff"


def read_integer(item: Element) -> int:
    """Return an INTEGER.

    Raises:
        MalformedDer: not the shortest form, or another type.
    """
    content = item.content
    if item.tag != INTEGER or not content or (len(content) > 1 and (content[0], content[1] & 0x80) in {(0, 0), (0xFF, 0x80)}):
        raise MalformedDer("expected an integer")
    return int.from_bytes(content, "big", signed=True)


def _read(raw: bytes, at: int) -> tuple[Element, int]:
    if len(raw) - at < 2:
        raise MalformedDer("cut off")
    tag, length = raw[at], raw[at + 1]
    start = at + 2
    if tag & 0x1F == 0x1F:
        raise MalformedDer("a tag of several bytes")
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= _MOST_LENGTH_BYTES or len(raw) - start < size:
            raise MalformedDer("a length that DER does not have")
        length = int.from_bytes(raw[start : start + size], "big")
        if length < 0x80 or length >> 8 * (size - 1) == 0:
            raise MalformedDer("a length that is not the shortest")
        start += size
    end = start + length
    if end > len(raw):
        raise MalformedDer("cut off")
    return Element(tag, raw[start:end], raw[at:end]), end
