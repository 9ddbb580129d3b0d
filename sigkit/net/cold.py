"""A hop over http.client: what a cold `sigkit verify` can afford (it costs 29 ms to import, `requests` 92).

Connections are kept and used again, each by one thread at a time.
"""

from __future__ import annotations

import http.client
import select
from typing import TYPE_CHECKING

from sigkit.errors import Place, Unreachable
from sigkit.net.address import connect
from sigkit.net.failures import turn_failure
from sigkit.net.hop import Headers, HopReply, HopRequest, body_blocks

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sigkit.net.url import Origin

_REPEATABLE = frozenset({"GET", "HEAD"})


class ColdHop:
    """Sends requests with http.client. Safe to use from several threads."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        """Take the maker of the TLS context, called for the first https URL."""
        self._tls = tls
        self._idle: dict[Origin, list[_Connection]] = {}

    def send(self, request: HopRequest) -> HopReply:
        """Send a request and return the reply as soon as its headers are there."""
        kept = self._take(request.url.origin)
        if kept is not None:
            try:
                return self._exchange(kept, request)
            except Unreachable:
                # The server had closed the connection that we kept: nobody's fault, and nothing was done if it may be asked again.
                if request.method not in _REPEATABLE:
                    raise
        return self._exchange(_Connection(request.url.origin, self._tls), request)

    def close(self) -> None:
        """Close all connections that are kept."""
        for kept in self._idle.values():
            while kept:
                kept.pop().close()

    def _take(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin, [])
        while True:
            try:
                kept = idle.pop()
            except IndexError:
                return None
            if not kept.is_dropped():
                return kept
            kept.close()

    def _keep(self, connection: _Connection) -> None:
        self._idle.setdefault(connection.origin, []).append(connection)

    def _exchange(self, connection: _Connection, request: HopRequest) -> HopReply:
        try:
            connection.putrequest(request.method, request.url.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                connection.putheader(name, value)
            connection.endheaders(body_blocks(request.body))
            return _ColdReply(connection, connection.getresponse(), self._keep, request.url.place())
        except (OSError, http.client.HTTPException, ValueError) as err:
            connection.close()
            raise turn_failure(err, request.url.place()) from err
        except BaseException:
            connection.close()
            raise


class _Connection(http.client.HTTPConnection):
    def __init__(self, origin: Origin, tls: Callable[[], ssl.SSLContext]) -> None:
        super().__init__(origin.host, origin.port)
        self.origin = origin
        self._tls = tls

    def is_dropped(self) -> bool:
        """Tell whether the server has ended a connection on which nothing is due: then there is something to read, if only the end."""
        if self.sock is None:
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def connect(self) -> None:
        sock = connect(self.origin.host, self.origin.port)
        if self.origin.scheme == "https":
            from sigkit.net.tls import wrap

            self.sock = wrap(sock, self._tls(), self.origin.host)
        else:
            self.sock = sock


class _ColdReply:
    def __init__(
        self, connection: _Connection, response: http.client.HTTPResponse, keep: Callable[[_Connection], None], place: Place
    ) -> None:
        self._connection = connection
        self._response = response
        self._keep = keep
        self._place = place
        self._open = True
        self.status = response.status
        self.headers = Headers(tuple(response.getheaders()))

    def read(self, size: int) -> bytes:
        try:
            return self._response.read(size)
        except (OSError, http.client.HTTPException, ValueError) as err:
            self._open = False
            self._connection.close()
            raise turn_failure(err, self._place) from err

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._response.isclosed() and not self._response.will_close:
            self._keep(self._connection)
        else:
            self._response.close()
            self._connection.close()
