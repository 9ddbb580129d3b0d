"""The end of a login in a browser: one answer, taken on loopback.

Only a GET of the callback's path with the state of this login counts; whatever else arrives (a favicon, a port scan, what another page or
user sends to end the login) is answered 404 and waiting goes on. What the browser is shown says nothing of what was brought. All
connections are listened to at once: browsers open some ahead that they never use.

Source: RFC 8252 section 7.3.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import TYPE_CHECKING, Final, Self

from sigkit.signing.interactive import CALLBACK, is_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST_BYTES: Final = 16 << 10  # of a request's head; a code and a state are under 1 KB
CONNECTIONS: Final = 32  # at once; a browser opens six to one host. Beyond, the oldest is closed
ANSWER_S: Final = 1.0  # a page of 200 bytes goes into the kernel's buffer
_PAGE: Final = b"<!doctype html><meta charset=utf-8><title>sigkit</title><p>You can close this page and go back to the terminal."


class LoopbackListener:
    """A socket on a free port of 127.0.0.1, for one login."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0)  # who was there when the selector looked may have gone
        # `localhost`, not the address: issuers have the name registered (RFC 8252 advises otherwise; Dex and Fulcio's clients use it).
        self.redirect_uri = f"http://localhost:{self._socket.getsockname()[1]}{CALLBACK}"

    def wait(self, timeout_s: float, state: str) -> str | None:
        """Return the query that the browser brought to the callback for the login with this state, or None when it brought none in time."""
        with _Callers(self._socket) as callers:
            for connection, head in callers.heads(time.monotonic() + timeout_s):
                query = _answer(connection, head, state)
                if query is not None:
                    return query
        return None

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Callers:
    """The connections that are open, the oldest first, and what each has said so far."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._said: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)

    def heads(self, end: float) -> Iterator[tuple[socket.socket, bytes]]:
        """Give each head of a request, and whose it is, until `end`; the connection is closed behind it."""
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.fileobj is self._listening:
                    self._accept()
                    continue
                connection = key.fileobj
                if isinstance(connection, socket.socket) and connection in self._said:  # else closed in this round, to make room
                    head = self._read(connection)
                    if head is not None:
                        yield connection, head
                        self._drop(connection)

    def _accept(self) -> None:
        if len(self._said) >= CONNECTIONS:
            self._drop(next(iter(self._said)))
        try:
            connection, _ = self._listening.accept()
        except OSError:  # whoever it was has gone
            return
        connection.settimeout(ANSWER_S)
        self._said[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> bytes | None:
        """Return a connection's head if it is whole, or is longer than any."""
        try:
            data = connection.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return None
        head = self._said[connection] = self._said[connection] + data
        return head if b"\r\n\r\n" in head or len(head) >= REQUEST_BYTES else None

    def _drop(self, connection: socket.socket) -> None:
        del self._said[connection]
        self._selector.unregister(connection)
        connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in tuple(self._said):
            self._drop(connection)
        self._selector.close()


def _answer(connection: socket.socket, head: bytes, state: str) -> str | None:
    """Answer one request, and return its query if it is for the callback of this login."""
    words = head.partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
    path, _, query = words[1].partition("?") if len(words) == 3 and words[0] == "GET" else ("", "", "")
    found = path == CALLBACK and is_answer(query, state)
    status = b"200 OK" if found else b"404 Not Found"
    page = _PAGE if found else b""
    length = str(len(page)).encode("ascii")
    try:
        connection.sendall(
            b"HTTP/1.1 " + status + b"\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: " + length + b"\r\n\r\n" + page
        )
    except OSError:  # it has gone, and has brought what it brought
        pass
    return query if found else None
