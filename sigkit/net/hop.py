"""One request to one server: the port under the rules.

A hop follows no redirect, keeps no cookie, reads no environment, decodes no content. It sends what it is given to the host that it is
given, over sockets that obey the current `Guard`, and hands back status, headers and a bounded stream.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from sigkit.data import Data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.net.url import Url

BLOCK_BYTES = 1 << 16


class FilePart(Data):
    """A part of a file to send: opened anew for each attempt."""

    path: str
    offset: int
    size_bytes: int

    def blocks(self) -> Iterator[bytes]:
        """Give the part in blocks; shorter when the file shrank meanwhile, which the server will notice by Content-Length."""
        left = self.size_bytes
        with open(self.path, "rb") as file:
            file.seek(self.offset, os.SEEK_SET)
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                left -= len(block)
                yield block


Body = bytes | FilePart | None


def body_blocks(body: Body) -> Iterator[bytes] | bytes | None:
    """Return a body as the senders take it: a large one in blocks, because the time allowed counts for each."""
    if isinstance(body, FilePart):
        return body.blocks()
    if body is not None and len(body) > BLOCK_BYTES:
        return (body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES))
    return body


def body_bytes(body: Body) -> int:
    """Return how many bytes a body has."""
    return body.size_bytes if isinstance(body, FilePart) else len(body or b"")


def unsendable(value: str) -> str:
    """Return what in a header's value cannot be sent, in words, for it may be secret; "" where all can (RFC 9110 section 5.5)."""
    found = next((character for character in value if character != "\t" and not " " <= character <= "~"), "")
    if found in {"\r", "\n"}:
        return "a line break"
    if found and not found.isascii():
        return "a character that is not ASCII"
    return "a control character" if found else ""


class Headers:
    """Header fields in the order received; names without regard to case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        self._fields = fields

    def find(self, name: str) -> str | None:
        """Return the first value of a field, or None."""
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a field."""
        wanted = name.lower()
        return tuple(value.strip() for key, value in self._fields if key.lower() == wanted)


class HopRequest(Data):
    """What is sent: complete, Host and Content-Length included."""

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...]
    body: Body


class HopReply(Protocol):
    """What came back. The connection is used again only if the body was read to its end."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def headers(self) -> Headers:
        """The header fields."""
        ...

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, as they came over the wire but for chunk framing; empty at the end.

        Raises:
            Unreachable, TimedOut: the transfer broke or took too long.
        """
        ...

    def close(self) -> None:
        """Give the connection back, or close it if there is more to read."""
        ...


class Hop(Protocol):
    """A way to send one request."""

    def send(self, request: HopRequest) -> HopReply:
        """Send a request and return the reply as soon as its headers are there.

        Raises:
            Unreachable, TimedOut: (UNAVAIL) no connection, no answer, or one that is not HTTP.
            AddressRefused, TlsFailed: (NET) by the rules.
        """
        ...

    def close(self) -> None:
        """Close all connections that are kept."""
        ...
