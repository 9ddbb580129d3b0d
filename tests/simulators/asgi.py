"""Calls an ASGI application without a server: one request, one answer, every message checked against the protocol."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Answered(NamedTuple):
    """What the application sent. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of the first error of the specification's form."""
        code: str = self.json()["errors"][0]["code"]
        return code


class Caller:
    """Sends requests to an application."""

    def __init__(self, app) -> None:
        self._app = app

    def __call__(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        gone_after: int | None = None,
    ) -> Answered | None:
        """Send one request and return its answer, or None when nothing was answered.

        Args:
            method: as sent.
            target: path and query.
            body: whole, or in pieces.
            headers: beside Content-Length, which a whole body gets.
            gone_after: the client closes the connection after that many pieces.
        """
        return asyncio.run(self._call(method, target, body, headers or {}, gone_after))

    async def _call(self, method, target, body, headers, gone_after) -> Answered | None:
        path, _, query = target.partition("?")
        pieces = [body] if isinstance(body, bytes) else list(body)
        all_headers = {"content-length": str(len(body))} if isinstance(body, bytes) else {}
        all_headers |= {name.lower(): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        }
        sent: list[dict[str, Any]] = []
        given = 0

        async def receive() -> dict[str, Any]:
            nonlocal given
            if gone_after is not None and given >= gone_after:
                return {"type": "http.disconnect"}
            if given >= len(pieces):
                await asyncio.Event().wait()  # a client that only waits
            given += 1
            return {"type": "http.request", "body": pieces[given - 1], "more_body": given < len(pieces) or gone_after is not None}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        if not sent:
            return None
        start, *rest = sent
        assert start["type"] == "http.response.start"
        assert [part.get("more_body", False) for part in rest] == [True] * (len(rest) - 1) + [False], "the body has one end"
        content = b"".join(part["body"] for part in rest)
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        if method != "HEAD" and start["status"] != 204:
            assert found["content-length"] == str(len(content)), "the promised length"
        return Answered(start["status"], found, content)
