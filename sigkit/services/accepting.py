"""uvicorn's server with TLS, where a connection is counted from the moment in which it is accepted.

To asyncio's and uvicorn's own a connection is one only after its handshake, for which each client has a minute: whoever connects and says
nothing is counted by nobody and uses up the descriptors of all. So connections are accepted here. Those in their handshake, which has a
time of its own, and those after it are counted together. For one too many the one gives way that is there for longest without asking
anything; where all have asked it is closed, before its handshake, which is the costly part. So any number that says nothing keeps out
nobody who asks soon. Whoever has a request on each connection does, for as long as slow bodies and slow readers are waited for.

Source: Python library reference, asyncio event loop, `connect_accepted_socket`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Final

import uvicorn

from sigkit import limits
from sigkit.services.protocol import end_silent
from sigkit.text import escape

if TYPE_CHECKING:
    import socket

    from sigkit.services.protocol import BoundedProtocol

_LINE_CHARACTERS: Final = 200
_LOG: Final = logging.getLogger("sigkit.services")
_PAUSE_S: Final = 0.1  # before it is tried again, when the kernel gives no connection


class TlsServer(uvicorn.Server):
    """Serves what its configuration has, with the certificate that is named there."""

    def __init__(self, config: uvicorn.Config, most: int) -> None:
        """Have no more than `most` connections."""
        super().__init__(config)
        self._most = most
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets=[])
        for listener in sockets or ():
            listener.settimeout(0)
            self._accepting.append(asyncio.create_task(self._accept(listener)))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and let requests end that are under way."""
        tasks = (*self._accepting, *self._handshakes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # it is gone again, or the process has no descriptors
                await asyncio.sleep(_PAUSE_S)
                continue
            connected: set[BoundedProtocol] = self.server_state.connections  # type: ignore[assignment]
            if len(connected) >= self._most and not end_silent(connected):
                connection.close()
                continue
            protocol: BoundedProtocol = self.config.http_protocol_class(  # type: ignore[assignment,call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            connected.add(protocol)  # it does so itself, but after the handshake
            task = loop.create_task(self._shake_hands(protocol, connection))
            protocol.shake_hands(task.cancel)
            self._handshakes.add(task)
            task.add_done_callback(functools.partial(self._have_shaken, protocol, connection))

    async def _shake_hands(self, protocol: BoundedProtocol, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol, connection, ssl=self.config.ssl, ssl_handshake_timeout=limits.TLS_HANDSHAKE_S
        )

    def _have_shaken(self, protocol: BoundedProtocol, connection: socket.socket, task: asyncio.Task[None]) -> None:
        """End what came to nothing. Not in the task: one that is cancelled before it began runs none of its code."""
        self._handshakes.discard(task)
        err = asyncio.CancelledError() if task.cancelled() else task.exception()
        if err is None:
            return
        self.server_state.connections.discard(protocol)
        connection.close()
        if not isinstance(err, OSError | asyncio.CancelledError):  # else the client went away, took too long, or speaks other TLS
            _LOG.error("a TLS handshake failed: %s", escape(f"{type(err).__name__}: {err}", _LINE_CHARACTERS))
