"""The ASGI application: HTTP on one side, the cores on the other, each under its own beginnings of paths.

Bodies stream: memory for one request is bounded by a few pieces, whatever it sends or gets. What a core takes of a body is bounded here as
well, so that none can forget it, and so is what all answers together hold that their clients do not read: see `leaving`.

Source: ASGI 3.0, HTTP connection scope.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import unquote

from sigkit import limits
from sigkit.data import Data
from sigkit.errors import FileUnwritable, SigkitError, UnavailError
from sigkit.limits import BodyLimits
from sigkit.net.address import is_loopback_name, is_plain_address
from sigkit.services.exchange import Answer, Body, Parts, Refused, Request, Slice, error_answer, length_of, whole_answer
from sigkit.services.leaving import Departures, reader_of
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence

    Message = MutableMapping[str, Any]

_SEND_BYTES: Final = 1 << 20  # with a quarter of it a pull is half as fast
_AT_ONCE_BYTES: Final = 1 << 16  # sent whole and not counted; read without a thread: page cache, and less than switching costs
_QUERY_MEMBERS: Final = 16
_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_SPENT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # descriptors or memory; it has some again a moment later
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]*))(?::[0-9]*)?")
_TOO_SLOW: Final = 408  # its body was waited for, and is not waited for again
_LINE_CHARACTERS: Final = 1000
_LOG: Final = logging.getLogger("sigkit.services")  # to stderr, where nobody says otherwise: a line for the operator, without a traceback


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


class Core(Protocol):
    """Answers requests."""

    async def answer(self, request: Request) -> Answer:
        """Answer a request; whatever is wrong with it is answered too."""
        ...


class Mount(Data):
    """A core and the paths that are its own."""

    prefix: str  # whole components: `/ct` takes `/ct` and `/ct/…`, not `/cta`; the longest that fits wins
    core: Core
    limits: BodyLimits


class App:
    """The ASGI application."""

    def __init__(self, mounts: Sequence[Mount], names: frozenset[str] | None = None) -> None:
        """Serve each core under its prefix; what is under none is answered 404.

        Args:
            mounts: the cores.
            names: hosts that requests may name, beside addresses and `localhost`; None: any.
        """
        self._mounts = sorted(mounts, key=lambda mount: len(mount.prefix), reverse=True)
        self._names = names
        self._departures = Departures(limits.HTTP_UNSENT_BYTES)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        # Clients that join a base URL and a path by hand double the slash (sigstore-python, services' own base URLs).
        path = "/" + scope["path"].lstrip("/")
        mount = self._find(path) if _is_plain(scope.get("raw_path") or scope["path"].encode(), path) else _NOWHERE
        body = _Body(receive, mount.limits)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"]
        peer = scope["client"][0] if scope.get("client") else ""
        request = Request(scope["method"], path, _parse_query(query), headers, body.chunks(), query.decode("latin-1"), peer)
        try:
            answer = self._refusal(request) or await _ask(mount.core, request)
            try:
                if answer.status == _TOO_SLOW or not await body.drain():
                    answer = replace(answer, headers=(*answer.headers, ("Connection", "close")))
                await self._send(answer, scope, receive, send)
            finally:
                if isinstance(answer.body, Slice):
                    answer.body.file.close()
        except ClientGone:
            return

    async def _send(
        self,
        answer: Answer,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        size = 0 if scope["method"] == "HEAD" else length_of(answer.body)
        if size <= _AT_ONCE_BYTES:
            await send(_head(answer))
            await send({"type": "http.response.body", "body": await _join(answer.body) if size else b""})
            return
        held_bytes = (0 if isinstance(answer.body, Slice) else size) + min(size, 2 * _SEND_BYTES)  # one that is sent, and the next
        with self._departures.holding(held_bytes, reader_of(scope)) as has_room:
            if not has_room:
                await self._send(_NO_ROOM, scope, receive, send)
                return
            await send(_head(answer))
            await _stream(answer.body, receive, send)

    def _refusal(self, request: Request) -> Answer | None:
        if _is_from_a_page(request):
            return _FROM_A_PAGE
        host = _named_host(request)
        if self._names is None or not host or host in self._names or is_loopback_name(host):
            return None
        # 0.0.0.0, :: and ::ffff:127.0.0.1 reach loopback too, and of what a page asks them for a browser says nothing of the page.
        return None if is_plain_address(host) else _MISDIRECTED

    def _find(self, path: str) -> Mount:
        for mount in self._mounts:
            if path.startswith(mount.prefix) and path[len(mount.prefix) : len(mount.prefix) + 1] in {"", "/"}:
                return mount
        return _NOWHERE


class _Nothing:
    """Answers where no core is."""

    async def answer(self, request: Request) -> Answer:
        del request
        return whole_answer(404, b"404 page not found\n", (("Content-Type", "text/plain"),))


_NOWHERE: Final = Mount("", _Nothing(), BodyLimits(0))
_FROM_A_PAGE: Final = whole_answer(403, b"not from a web page\n", (("Content-Type", "text/plain"),))
_NO_ROOM: Final = error_answer(
    503, "TOOMANYREQUESTS", "too many answers are being read slowly, try again", (("Retry-After", "1"), ("Connection", "close"))
)
_MISDIRECTED: Final = whole_answer(
    421, b"this server has another name; its operator may give it yours\n", (("Content-Type", "text/plain"),)
)


def _is_plain(raw: bytes, path: str) -> bool:
    """Tell whether a path of the registry is written as it is: a proxy that asks in front of `/v2/` who it is compares what it sees."""
    return raw == b"/v2" or raw.startswith(b"/v2/") or not path.startswith("/v2")


def _is_from_a_page(request: Request) -> bool:
    """Tell whether a page in a browser sends a request that changes something, or that its reader does not see.

    A browser on this machine reaches loopback, so any page that it shows could push, delete and start logins. No page of a service here
    sends any but GET, and no client that is no browser has an origin. A login starts by GET: of what another site's page makes a browser
    fetch, only that is answered which takes the place of the page, as a login does, so no images, scripts, frames or pages fetched ahead.
    What a page could read, see `_named_host`.

    Source: Fetch standard, "append a request Origin header": with every method but GET and HEAD. W3C Fetch Metadata Request Headers,
    sections 2.1 (Dest: `document` for a page, `iframe` and others in one), 2.2 (Mode), 2.3 (Site: another port is `same-site`). Nav
    speculation, "Sec-Purpose".
    """
    headers = request.headers
    if request.method not in {"GET", "HEAD"} and "origin" in headers:
        return True
    if headers.get("sec-fetch-site", "none") in {"none", "same-origin"}:
        return False
    is_seen = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return not is_seen or "prefetch" in headers.get("sec-purpose", "")


def _named_host(request: Request) -> str:
    """Return the host that the client meant, in lower case, without the port.

    A page whose own name is made to resolve to loopback ("DNS rebinding") is of the same origin as what is served there and reads its
    answers; its requests name its host, for pages cannot choose that field.

    Source: RFC 9110 sections 7.2 and 15.5.20 (421 Misdirected Request).
    """
    named = request.headers.get("host", "").lower()
    match = _HOST.fullmatch(named)
    return match["v6"] or match["name"] or "" if match else named


async def _ask(core: Core, request: Request) -> Answer:
    try:
        return await core.answer(request)
    except Refused as err:  # of the body, in a core that has no form of its own for it
        return error_answer(err.status, err.code, err.message, err.headers)
    except SigkitError as err:  # a full disk, a damaged file: no core's form has a word for it
        _LOG.error("%s %s: %s", request.method, escape(request.path), escape(str(err), _LINE_CHARACTERS))
        return error_answer(503 if isinstance(err, UnavailError) else 500, "UNKNOWN", f"{err.code} {err.problem}")
    except OSError as err:
        if err.errno not in _DISK | _SPENT:
            raise
        _LOG.error("%s %s: %s", request.method, escape(request.path), escape(str(err), _LINE_CHARACTERS))
        if err.errno in _SPENT:
            return error_answer(503, "TOOMANYREQUESTS", f"this server is busy, try again: {err.strerror}", (("Retry-After", "1"),))
        return error_answer(503, "UNKNOWN", f"{FileUnwritable.code} this server's disk takes nothing: {err.strerror}")


class _Body:
    """A request's body, as it comes."""

    def __init__(self, receive: Callable[[], Awaitable[Message]], limits: BodyLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._more = True
        self._left = limits.most_bytes
        self._came_bytes = 0
        self._waited_s = 0.0  # for the client, and not for the disk: that is no fault of its own

    async def chunks(self) -> AsyncIterator[bytes]:
        while self._more:
            piece = await self._next()
            self._left -= len(piece)
            if self._left < 0:
                raise Refused(413, "SIZE_INVALID", f"a body has at most {self._limits.most_bytes} bytes here")
            yield piece

    async def drain(self) -> bool:
        """Read what the service left, and tell whether the connection can be used again.

        A client that is still sending does not read the answer; one that sends without end is cut off.
        """
        left = self._limits.drain_bytes
        while self._more and left > 0:
            try:
                left -= len(await self._next())
            except Refused:
                return False
        return not self._more

    async def _next(self) -> bytes:
        left_s = self._limits.slack_s + self._came_bytes / self._limits.least_bytes_per_s - self._waited_s
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(min(self._limits.idle_s, max(left_s, 0))):
                message = await self._receive()
        except TimeoutError as err:
            raise Refused(_TOO_SLOW, "SIZE_INVALID", "the request's body stopped coming, or comes too slowly") from err
        finally:
            self._waited_s += time.monotonic() - began_s
        if message["type"] != "http.request":
            raise ClientGone
        self._more = message.get("more_body", False)
        data: bytes = message.get("body", b"")
        self._came_bytes += len(data)
        return data


def _parse_query(raw: bytes) -> dict[str, str]:
    """Read a query string; `+` stands for itself, as in `application/spdx+json` written by hand."""
    found: dict[str, str] = {}
    for item in raw.decode("latin-1").split("&")[:_QUERY_MEMBERS]:
        name, _, value = item.partition("=")
        found.setdefault(unquote(name), unquote(value))
    return found


def _head(answer: Answer) -> Message:
    headers = [*answer.headers, ("X-Content-Type-Options", "nosniff")]
    if not answer.body and answer.status != 204 and not any(name == "Content-Length" for name, _ in headers):
        headers.append(("Content-Length", "0"))
    encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    return {"type": "http.response.start", "status": answer.status, "headers": encoded}


async def _stream(body: Body, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
    # To a client that is gone the server sends nothing and says nothing, so without this all would be read to its end.
    gone = asyncio.ensure_future(_wait_until_gone(receive))
    left = length_of(body)
    try:
        async for piece in _pieces(body):
            if gone.done():
                return
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    if left == 0:  # else the file was cut: the server closes the connection, because less came than was promised
        await send({"type": "http.response.body", "body": b""})  # has its turn once nearly all before it is read: until then it is counted


async def _wait_until_gone(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":  # what else comes is of a body that nobody takes
        pass


async def _join(body: Body) -> bytes:
    return body if isinstance(body, bytes) else b"".join([piece async for piece in _pieces(body)])


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    """Cut a body into pieces; of a file that was cut meanwhile they are fewer."""
    if isinstance(body, Parts):
        gathered = bytearray()
        for part in body.parts:
            gathered += part
            if len(gathered) >= _SEND_BYTES:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)
        return
    for start in range(0, length_of(body), _SEND_BYTES):
        piece = body[start : start + _SEND_BYTES] if isinstance(body, bytes) else await _read(body, start)
        if not piece:
            return
        yield piece


async def _read(part: Slice, start: int) -> bytes:
    size = min(part.length - start, _SEND_BYTES)
    if size <= _AT_ONCE_BYTES:
        return os.pread(part.file.fileno(), size, part.offset + start)
    return await asyncio.to_thread(os.pread, part.file.fileno(), size, part.offset + start)
