"""uvicorn's HTTP protocol, with an end to what no core sees: a request's head, what surrounds its body, and a client that does not read.

uvicorn takes any number of bytes of these, for any time, and any number of connections; each costs memory and a descriptor. So here it is
bounded how many are connected: for one too many the one gives way that is there for longest without asking anything, and where all have
asked it is told to come again. And how large a head is, in bytes and in headers, and how long a client may take for it; and how many bytes
may come of a body without bringing any of it: sizes and extensions of chunks, and trailers, which no core reads and which are thrown away.
Bodies are bounded by `app`, which also waits for their end, trailers included, no longer than it waits for bodies.

Requests that come before an earlier one is answered are queued, and each of 18 bytes costs a hundred times as many, so only a few are: the
last of them is answered as the last of its connection, and nothing behind it is looked at.

An answer is waited for as a body is: as long as its bytes need at the least rate and some time beside, the connection's answers counted
together. Then the connection ends without what is left: closing it would wait for the client as well.

Source: RFC 6585 section 5 (431); RFC 9110 sections 6.5.1 (trailers may be discarded), 15.5.9 (408), 15.6.4 (503); RFC 9112 sections 7.1,
9.3.2 (a client asks again for what a closed connection left of its pipeline).
"""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sigkit import limits
from sigkit.services.leaving import extensions

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection


def _refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()


class _Stopped(Exception):
    """The parser is to look at nothing more."""


_BYTES_ACKNOWLEDGED: Final = 120  # where tcpi_bytes_acked stands, since Linux 4.1
# A client's kernel says that it has room again once that is a sixteenth of the connection's buffer (Linux, __tcp_select_window), which has
# up to 6 MiB (tcp(7), tcp_rmem).
_WINDOW_STEP_BYTES: Final = 384 << 10
_CONTINUE: Final = b"HTTP/1.1 100 "
_MALFORMED: Final = _refusal("400 Bad Request")
_TOO_LARGE: Final = _refusal("431 Request Header Fields Too Large")
_TOO_SLOW: Final = _refusal("408 Request Timeout")
_TOO_MANY: Final = _refusal("503 Service Unavailable")


class _Gathered:
    """Where one answer is written to: its head goes out together with what comes first of its body.

    uvicorn writes them one after the other, and uvloop each at once: two calls of the kernel, and a client that is woken twice.
    """

    def __init__(self, transport: asyncio.Transport, on_response: Callable[[], None]) -> None:
        self._transport = transport
        self._on_response = on_response
        self._head: bytes | None = None  # empty once it is written

    def write(self, data: bytes) -> None:
        """Write the next part."""
        if self._head:
            self._transport.writelines((self._head, data))
            self._head = b""
        elif self._head is None and not data.startswith(_CONTINUE):
            self._head = data
        else:
            self._transport.write(data)

    def end(self) -> None:
        """End the answer."""
        self._flush()
        self._on_response()

    def close(self) -> None:
        """Close the connection behind what is written."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Tell whether the connection is being closed."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        """Take uvicorn's arguments."""
        super().__init__(*args, **kwargs)
        self._most = self.limit_concurrency or limits.HTTP_CONNECTIONS
        self.limit_concurrency = None  # by it uvicorn refuses those who are connected, too, for as long as one too many is there
        self.accepted_s = time.monotonic()  # the loop's clock stands still while it accepts many
        self._end_handshake: Callable[[], object] | None = None
        self._unread_bytes = 0  # of a head, or since the last of a body came
        self._in_head = True
        self._moved = False  # a head began or ended, or some of a body came
        self._is_last = False  # the newest request is the last that is answered here
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None  # until when the client may read what it has not
        self._unsent_bytes, self._acknowledged_bytes, self._unsent_since_s = 0, 0, 0.0  # when that began
        self._read_bytes, self._waited_s = 0, 0.0  # all that was waited for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._end_handshake = None
        transport.set_write_buffer_limits(limits.HTTP_BUFFER_BYTES)  # TLS would take eight times as much before it pauses
        self._extensions = extensions(self)
        connected: set[BoundedProtocol] = self.connections  # type: ignore[assignment]
        if len(connected) > self._most and not end_silent(connected - {self}):
            self._end(_TOO_MANY)
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and count them; a piece in which a head began or ended, or some of a body came, is small and not counted."""
        if self.transport.is_closing() or self._is_last:
            return
        self._moved = False
        super().data_received(data)
        self._unread_bytes = 0 if self._moved else self._unread_bytes + len(data)
        if self._unread_bytes > limits.HTTP_HEAD_BYTES:
            self._end(_TOO_LARGE)
        elif self.transport.is_closing():  # it was no request
            self._wait_for_reader()
        elif self._timer is None and (self._in_head or (not self._moved and self._is_idle())):
            self._wait()  # now, for most heads come whole; and empty lines before one end uvicorn's own wait for it, and begin none

    def on_message_begin(self) -> None:
        """Begin a head, unless too many wait for an answer."""
        if len(self.pipeline) >= limits.HTTP_QUEUED:
            self._is_last = True
            self.cycle.keep_alive = False
            raise _Stopped
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._in_head, self._moved = True, True
        self._stop_waiting()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and no trailer: those would become headers of a request that is being answered."""
        if self._in_head:
            if len(self.headers) >= limits.HTTP_HEADERS:
                self._end(_TOO_LARGE)
                raise _Stopped
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head."""
        self._in_head, self._moved = False, True
        self._stop_waiting()
        super().on_headers_complete()
        gathered = _Gathered(self.transport, self.cycle.on_response)
        self.cycle.transport, self.cycle.on_response = gathered, gathered.end  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Take some of a body."""
        self._moved = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request. Of one that the parser was stopped at, it says the same."""
        del msg
        if not self._is_last:
            self._end(_MALFORMED)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if not self.transport.is_closing():  # else what is left has to be read, too
            self._stop_waiting_for_reader()

    def on_response_complete(self) -> None:
        """End an answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._wait_for_reader()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that nobody uses any more."""
        super().timeout_keep_alive_handler()
        self._wait_for_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._stop_waiting_for_reader()
        self._unset_keepalive_if_required()  # uvicorn lets that of a connection that was reset run, and it looks for a socket
        super().connection_lost(exc)

    @property
    def has_asked(self) -> bool:
        """Whether the head of a request came whole."""
        return self.cycle is not None

    def behind_bytes(self) -> float:
        """Return how many bytes less the client has read, of what is waited for, than at the least rate; 0 before it had time to."""
        waited_s = self.loop.time() - self._unsent_since_s
        if self._reading is None or waited_s < limits.HTTP_UNSENT_SAFE_S:
            return 0
        read_bytes = _acknowledged_bytes(self.transport) - self._acknowledged_bytes
        return max(waited_s * limits.LEAST_BYTES_PER_S - read_bytes - _WINDOW_STEP_BYTES, 0)

    def shake_hands(self, end: Callable[[], object]) -> None:
        """Take what ends the connection until its handshake has made a transport of it."""
        self._end_handshake = end

    def abort(self) -> None:
        """End the connection at once, and count it no more."""
        self.connections.discard(self)
        (self._end_handshake or self.transport.abort)()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

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
            if self._is_idle() or not (self.pipeline or self.cycle.response_started):  # else it would stand within another answer
                self.transport.write(answer)
            self.transport.close()
            self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        if self._reading is None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._acknowledged_bytes = _acknowledged_bytes(self.transport)
            self._unsent_since_s = self.loop.time()
            # What was read fast earns no pause that is longer than the first one.
            slack_s = limits.HTTP_UNREAD_S + min(self._read_bytes / limits.LEAST_BYTES_PER_S - self._waited_s, 0)
            needed_s = self._unsent_bytes / limits.LEAST_BYTES_PER_S
            self._reading = self.loop.call_later(max(slack_s, 0) + needed_s, self.transport.abort)

    def _stop_waiting_for_reader(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            self._waited_s += self.loop.time() - self._unsent_since_s
            self._read_bytes += self._unsent_bytes - self.transport.get_write_buffer_size()


def _acknowledged_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes the client's kernel has taken, since it connected.

    What the transport still holds tells less: the kernel takes more of it in steps of a megabyte, and under TLS a part is not counted.

    Source: Linux, struct tcp_info.
    """
    connection = transport.get_extra_info("socket")
    if connection is None:  # a lost one's, under TLS
        return 0
    try:
        raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKNOWLEDGED + 8)
    except OSError:  # it has just been closed
        return 0
    return int.from_bytes(raw[_BYTES_ACKNOWLEDGED:], sys.byteorder)


def end_silent(connections: Collection[BoundedProtocol]) -> bool:
    """End the connection that is there for longest of those that have not asked anything; tell whether there was one."""
    oldest = min((found for found in connections if not found.has_asked), key=lambda found: found.accepted_s, default=None)
    if oldest is not None:
        oldest.abort()
    return oldest is not None
