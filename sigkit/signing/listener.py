"""The end of a login in a browser: one answer, taken on loopback.

Only a GET of the callback's path counts; whatever else arrives (a favicon, a port scan) is answered 404 and waiting goes on. What the
browser is shown says nothing of what was brought.

Source: RFC 8252 section 7.3.
"""

from __future__ import annotations

import socket
import time
from typing import Final, Self

from sigkit.signing.interactive import CALLBACK

REQUEST_BYTES: Final = 16 << 10  # of a request's head; a code and a state are under 1 KB
CONNECTION_S: Final = 10.0
_PAGE: Final = b"<!doctype html><meta charset=utf-8><title>sigkit</title><p>You can close this page and go back to the terminal."


class LoopbackListener:
    """A socket on a free port of 127.0.0.1, for one login."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        # `localhost`, not the address: issuers have the name registered (RFC 8252 advises otherwise; Dex and Fulcio's clients use it).
        self.redirect_uri = f"http://localhost:{self._socket.getsockname()[1]}{CALLBACK}"

    def wait(self, timeout_s: float) -> str | None:
        """Return the query that the browser brought to the callback, or None when it brought none in time."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                return None
            with connection:
                query = _serve(connection, min(left, CONNECTION_S))
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


def _serve(connection: socket.socket, timeout_s: float) -> str | None:
    """Answer one request, and return its query if it is for the callback."""
    end = time.monotonic() + timeout_s
    head = b""
    try:
        while b"\r\n\r\n" not in head and len(head) < REQUEST_BYTES:
            connection.settimeout(max(end - time.monotonic(), 0.001))
            data = connection.recv(4096)
            if not data:
                return None
            head += data
        words = head.partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
        path, _, query = words[1].partition("?") if len(words) == 3 and words[0] == "GET" else ("", "", "")
        found = path == CALLBACK and bool(query)
        status = b"200 OK" if found else b"404 Not Found"
        page = _PAGE if found else b""
        length = str(len(page)).encode("ascii")
        connection.sendall(
            b"HTTP/1.1 " + status + b"\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: " + length + b"\r\n\r\n" + page
        )
    except OSError:  # whoever it was has gone
        return None
    return query if found else None
