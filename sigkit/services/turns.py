"""Work that is done one at a time, in which clients take turns: whoever asks for much of it waits for itself, and not others for it.

A turn is waited for no longer than so long; then the client is told to come again. So what waits is bounded by what can be done meanwhile,
also where all come from one address, as behind a proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from sigkit.services.exchange import Refused, network_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Turns:
    """Who works, and who waits for it. In one event loop."""

    def __init__(self, wait_s: float) -> None:
        """Let nobody wait for longer than `wait_s`."""
        self._wait_s = wait_s
        self._is_taken = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by client, the next one's first

    @contextlib.asynccontextmanager
    async def turn(self, peer: str) -> AsyncIterator[None]:
        """Wait until it is the turn of a client at the address `peer`, and keep it until the block ends.

        Raises:
            Refused: it took too long.
        """
        if self._is_taken:
            await self._wait(network_of(peer))
        self._is_taken = True
        try:
            yield
        finally:
            self._give_on()

    async def _wait(self, client: str) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(mine)
        try:
            async with asyncio.timeout(self._wait_s):
                await mine
        except BaseException as err:
            if mine.done() and not mine.cancelled():  # it came just then
                self._give_on()
            if isinstance(err, TimeoutError):
                raise Refused(503, "TOOMANYREQUESTS", "too many ask for this at once, try again", (("Retry-After", "1"),)) from err
            raise

    def _give_on(self) -> None:
        """Give the turn to the first of the client that has waited for its turn longest, who then waits behind all others."""
        while self._waiting:
            client = next(iter(self._waiting))
            queue = self._waiting.pop(client)
            following = queue.popleft()
            if queue:
                self._waiting[client] = queue
            if not following.done():  # else it was given up
                following.set_result(None)
                return
        self._is_taken = False
