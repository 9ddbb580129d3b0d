"""What the registry's routes and the HTTP server hand each other: requests and answers.

Errors have the form and the codes of OCI distribution-spec 1.1 "Error Codes".
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, TypeAlias

from sigkit.errors import DigestError, LimitError, ParseError, Place, RefError, SigkitError, TooMany
from sigkit.strict import encode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from sigkit.services.storage import Content
    from sigkit.strict import Json

_NETWORK_BITS: Final = 48  # of IPv6, of which one site may have as much to itself (RFC 6177 section 2)
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are in lower case; `path` and `query` are decoded, each member of the query once and `+` as itself."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    query_string: str = ""  # as it came, for who reads it by other rules
    peer: str = ""  # the address that it came from, which may be a proxy's


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of an open file, which whoever sends the answer closes."""

    file: IO[bytes]
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Parts:
    """A body in small parts, which lie in memory for others, too, and are put together piece by piece."""

    parts: Sequence[bytes]
    length: int


Body: TypeAlias = bytes | Parts | Slice


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. To HEAD the same is answered as to GET; the body is not sent."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = b""


def network_of(peer: str) -> str:
    """Return what one customer has of addresses: one of IPv4, a network of IPv6; empty where the address is not known."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return ""
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address), _NETWORK_BITS), strict=False))


class Refused(Exception):
    """The request is answered with an error of the specification."""

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


def content_answer(request: Request, content: Content) -> Answer:
    """Answer content, or the range of it that is asked for."""
    headers = (
        ("Content-Type", content.media_type),
        ("Docker-Content-Digest", str(content.digest)),
        ("Accept-Ranges", "bytes"),
    )
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if not found or not (found[1] or found[2]) or request.method == "HEAD":
        return Answer(200, (*headers, ("Content-Length", str(content.size))), Slice(content.file, 0, content.size))
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or content.size), content.size - 1)
    else:
        first, last = max(content.size - int(found[2]), 0), content.size - 1
    if first > last:
        content.file.close()
        raise Refused(416, "SIZE_INVALID", "no such range", (("Content-Range", f"bytes */{content.size}"),))
    length = last - first + 1
    part = (("Content-Range", f"bytes {first}-{last}/{content.size}"), ("Content-Length", str(length)))
    return Answer(206, (*headers, *part), Slice(content.file, first, length))


# What a cache may do with an answer (RFC 9111): ask each time whether it still holds, or keep it as long as it likes.
FRESH: Final = ("Cache-Control", "no-cache")
FOREVER: Final = ("Cache-Control", "public, max-age=31536000, immutable")


def length_of(body: Body) -> int:
    """Return how many bytes a body has."""
    return len(body) if isinstance(body, bytes) else body.length


def whole_answer(status: int, body: Body, headers: tuple[tuple[str, str], ...]) -> Answer:
    """Answer a body that is there whole."""
    return Answer(status, (*headers, ("Content-Length", str(length_of(body)))), body)


def json_answer(status: int, value: Json, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Answer a JSON document."""
    return whole_answer(status, encode_json(value), (("Content-Type", "application/json"), *headers))


def error_answer(status: int, code: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Answer an error."""
    return json_answer(status, {"errors": [{"code": code, "message": message}]}, headers)


def translate(err: SigkitError) -> tuple[int, str, str, tuple[tuple[str, str], ...]] | None:
    """Return status, code, message and headers for what is wrong with a request; None if the request is not at fault, but this server."""
    match err:
        case TooMany() if err.place == Place("uploads"):
            return 429, "TOOMANYREQUESTS", err.problem, (("Retry-After", "1"),)
        case LimitError():
            return 413, "SIZE_INVALID", str(err), ()
        case DigestError():
            return 400, "DIGEST_INVALID", str(err), ()
        case RefError() | ParseError():
            return 400, "NAME_INVALID" if isinstance(err, RefError) else "MANIFEST_INVALID", str(err), ()
        case _:
            return None
