"""The two ends of a login in a browser, on loopback: where it is sent on to the issuer, and where it brings the answer.

The issuer's page is opened by way of a page here, since every user of the machine reads what stands on a command line: with the state and
the challenge of this login another could log in with them, as himself. The page here has a path that nobody guesses, and is shown to the
same user alone (or root, as which a relay of a virtual machine asks), and once: whoever asks again ends the login, for then two have seen
what one should have. Where no /proc says whose a connection is (macOS), that is all: who is faster than the browser, from asking to
bringing an answer, is not noticed.

Of answers only a GET of the callback's path with the state of this login counts; whatever else arrives (a favicon, a port scan, what
another page or user sends to end the login) is answered 404 and waiting goes on. What the browser is shown says nothing of what was
brought. All connections are listened to at once: browsers open some ahead that they never use.

Source: RFC 8252 sections 7.3 and 8.3; proc_pid_net(5).
"""

from __future__ import annotations

import errno
import os
import secrets
import selectors
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from sigkit.errors import AddressUnusable, LoginForged, Place
from sigkit.signing.interactive import CALLBACK, is_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REQUEST_BYTES: Final = 16 << 10  # of a request's head; a code and a state are under 1 KB
CONNECTIONS: Final = 32  # at once; a browser opens six to one host. Beyond, the oldest is closed
ANSWER_S: Final = 1.0  # a page of 200 bytes goes into the kernel's buffer
_HTML: Final = "<!doctype html><meta charset=utf-8><title>sigkit</title><p>"
_DONE: Final = f"{_HTML}You can close this page and go back to the terminal."
_TAKEN: Final = f"{_HTML}Somebody has opened this page before, so the login has ended. The terminal says more."
_NOT_YOURS: Final = f"{_HTML}This browser runs as another user than sigkit: open the address that the terminal shows."
_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_NO_INODE: Final = "0"
_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class LoopbackListener:
    """A free port of loopback, for one login."""

    def __init__(self) -> None:
        """Listen.

        Raises:
            AddressUnusable: (NET) another program has the port at one of loopback's addresses.
        """
        self._sockets = _listen()
        port = self._sockets[0].getsockname()[1]
        # `localhost`, not the address: issuers have the name registered (RFC 8252 advises otherwise; Dex and Fulcio's clients use it).
        self.redirect_uri = f"http://localhost:{port}{CALLBACK}"
        self._start = f"/{secrets.token_urlsafe(32)}"
        self._start_url = f"http://127.0.0.1:{port}{self._start}"
        self._leads_to = ""
        self._times_led = 0

    def lead_to(self, url: str) -> str:
        """Return the address of a page that sends the first who asks for it on to `url`."""
        self._leads_to = url
        return self._start_url

    def wait(self, timeout_s: float, state: str) -> str | None:
        """Return the query that the browser brought to the callback for the login with this state, or None when it brought none in time.

        Raises:
            LoginForged: (IDENT) the page that leads to the login was asked for twice.
        """
        with _Callers(self._sockets) as callers:
            for connection, head in callers.heads(time.monotonic() + timeout_s):
                path, _, query = _target(head).partition("?")
                if path == CALLBACK and is_answer(query, state):
                    _answer(connection, "200 OK", _DONE)
                    return query
                if self._leads_to and path == self._start:
                    self._lead(connection) if _is_of_this_user(connection) else _answer(connection, "403 Forbidden", _NOT_YOURS)
                else:
                    _answer(connection, "404 Not Found")
        return None

    def close(self) -> None:
        """Stop listening."""
        for listening in self._sockets:
            listening.close()

    def _lead(self, connection: socket.socket) -> None:
        self._times_led += 1
        if self._times_led > 1:
            _answer(connection, "410 Gone", _TAKEN)
            raise LoginForged(
                "the page that leads to the login was asked for twice, by whom is not known",
                place=Place("loopback"),
                remedy="log in again, or with a code: --login device",
            )
        _answer(connection, "303 See Other", "", f"Location: {self._leads_to}", "Referrer-Policy: no-referrer")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Callers:
    """The connections that are open, the oldest first, and what each has said so far."""

    def __init__(self, listening: Sequence[socket.socket]) -> None:
        self._said: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        for one in listening:
            self._selector.register(one, selectors.EVENT_READ, one)

    def heads(self, end: float) -> Iterator[tuple[socket.socket, bytes]]:
        """Give each head of a request, and whose it is, until `end`; the connection is closed behind it."""
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.data is not None:
                    self._accept(key.data)
                    continue
                connection = key.fileobj
                if isinstance(connection, socket.socket) and connection in self._said:  # else closed in this round, to make room
                    head = self._read(connection)
                    if head is not None:
                        yield connection, head
                        self._drop(connection)

    def _accept(self, listening: socket.socket) -> None:
        if len(self._said) >= CONNECTIONS:
            self._drop(next(iter(self._said)))
        try:
            connection, _ = listening.accept()
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


def _listen() -> tuple[socket.socket, ...]:
    """Listen on both addresses of loopback at one port: browsers try ::1 first for `localhost`, and anybody could listen there."""
    sockets = [socket.create_server(("127.0.0.1", 0))]
    port = sockets[0].getsockname()[1]
    try:
        sockets.append(socket.create_server(("::1", port), family=socket.AF_INET6))
    except OSError as err:
        if err.errno not in _NO_IPV6:
            sockets[0].close()
            raise AddressUnusable(
                f"cannot listen for the answer of the login: {os.strerror(err.errno or 0)}",
                place=Place(f"[::1]:{port}"),
                remedy="run it again",
            ) from err
    for listening in sockets:
        listening.settimeout(0)  # who was there when the selector looked may have gone
    return tuple(sockets)


def _is_of_this_user(connection: socket.socket) -> bool:
    """Tell whether the other end is a socket of this user's or root's; true where nothing on this system says whose it is."""
    try:
        ends = [f":{address[1]:04X}" for address in (connection.getpeername(), connection.getsockname())]
    except OSError:  # it has gone
        return False
    tables = [lines for lines in map(_rows, _TABLES) if lines]
    owners = {
        int(row[7])
        for rows in tables
        for row in rows
        # The ports alone, for an address may be written as one of IPv6; and none that nobody holds any more, which is told as root's.
        if row[1].endswith(ends[0]) and row[2].endswith(ends[1]) and row[9] != _NO_INODE
    }
    return not tables or (bool(owners) and owners <= {0, os.geteuid()})


def _rows(table: str) -> list[list[str]]:
    try:
        with open(table, encoding="ascii") as lines:
            return [line.split() for line in lines]
    except OSError:
        return []


def _target(head: bytes) -> str:
    """Return what a request asks for; "" if it is no GET."""
    words = head.partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
    return words[1] if len(words) == 3 and words[0] == "GET" else ""


def _answer(connection: socket.socket, status: str, page: str = "", *fields: str) -> None:
    """Answer one request. Whoever has gone has brought what it brought."""
    fields += ("Content-Type: text/html", "Cache-Control: no-store", "Connection: close", f"Content-Length: {len(page)}")
    with suppress(OSError):
        connection.sendall("\r\n".join((f"HTTP/1.1 {status}", *fields, "", page)).encode("ascii"))
