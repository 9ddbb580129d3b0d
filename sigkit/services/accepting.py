"""uvicorn's server with TLS, where a connection is counted from the moment in which it is accepted.

To asyncio's and uvicorn's own a connection is one only after its handshake, for which each client has a minute: whoever connects and says
nothing is counted by nobody and uses up the descriptors of all. So connections are accepted here. Those in their handshake, which has a
time of its own, and those after it are counted together, and one that is beyond is closed before its handshake, which is the costly part.

Source: Python library reference, asyncio event loop, `connect_accepted_socket`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import uvicorn

from sigkit import limits

if TYPE_CHECKING:
    import socket

    from sigkit.services.protocol import BoundedProtocol

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
            if len(self.server_state.connections) >= self._most:
                connection.close()
                continue
            task = loop.create_task(self._shake_hands(connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket) -> None:
        protocol: BoundedProtocol = self.config.http_protocol_class(  # type: ignore[assignment,call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        self.server_state.connections.add(protocol)  # it does so itself, but after the handshake
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, connection, ssl=self.config.ssl, ssl_handshake_timeout=limits.TLS_HANDSHAKE_S
            )
        except (OSError, asyncio.CancelledError):  # the client went away, took too long, or speaks other TLS; or the server stops
            self.server_state.connections.discard(protocol)
            connection.close()
