"""uvicorn's HTTP protocol, with an end to a request's head: it takes any number of bytes, for any time.

Every connection costs memory and a descriptor before any core sees it, so this is bounded here: how large a head is, how long a client may
take for it, and how many are connected. Bodies are bounded by `app`.

Source: RFC 6585 section 5 (431); RFC 9110 section 15.5.9 (408).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sigkit import limits

if TYPE_CHECKING:
    import asyncio

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Take uvicorn's arguments."""
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._began = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and count those of a head; the chunk in which it began may hold another request's body before it."""
        self._began = False
        super().data_received(data)
        if self._in_head and not self._began:
            self._head_bytes += len(data)
            if self._head_bytes > limits.HTTP_HEAD_BYTES:
                self._end(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._began, self._head_bytes = True, True, 0
        self._wait()

    def on_headers_complete(self) -> None:
        """End a head."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(limits.HTTP_HEAD_S, self._end, _TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, answer: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
