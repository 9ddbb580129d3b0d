"""Bodies that are read whole into memory, of which all together may take so much.

Whoever sends fast finds room: when there is none left, the one that has been arriving for longest gives way, if it had the time that a body
needs from a client that sends. Large ones may take three quarters of the room: those that came wait for their turn to be parsed, and who
pushes an ordinary image is not to wait for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from sigkit.services.exchange import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sigkit.limits import ServedLimits

SMALL_BYTES: Final = 64 << 10  # of a manifest: parsed in 10 ms, whatever it is made of; an image's of a hundred layers has 20 KiB


class Arriving:
    """One body, from its first byte until its request is answered."""

    def __init__(self) -> None:
        """Start empty."""
        self.raw = bytearray()
        self.began_s = time.monotonic()
        self.deadline: asyncio.Timeout | None = None  # while it is coming; what has come gives way to nothing
        self.gave_way = False


class Arrivals:
    """All bodies that are in memory, in the order in which they began. In one event loop."""

    def __init__(self, limits: ServedLimits) -> None:
        """Hold no more than `limits` says."""
        self._limits = limits
        self._all: dict[Arriving, None] = {}
        self._bytes = 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[Arriving]:
        """Hold a body until the block ends."""
        body = Arriving()
        self._all[body] = None
        try:
            yield body
        finally:
            del self._all[body]
            self._free(body)

    async def read(self, body: Arriving, pieces: AsyncIterator[bytes], most_bytes: int) -> None:
        """Read a body.

        Raises:
            Refused: it is too large, too slow, or there is no room for it.
        """
        try:
            async with asyncio.timeout(self._limits.manifest_s) as body.deadline:
                async for piece in pieces:
                    body.raw += piece
                    self._bytes += len(piece)
                    if len(body.raw) > most_bytes:
                        raise Refused(413, "SIZE_INVALID", f"a manifest has at most {most_bytes} bytes")
                    if not self._has_room(self._limits.manifests_bytes * (4 if len(body.raw) <= SMALL_BYTES else 3) // 4):
                        raise Refused(429, "TOOMANYREQUESTS", "too many manifests are coming at once, try again", (("Retry-After", "1"),))
                if body.gave_way:  # its last piece came before it could be told
                    raise TimeoutError
        except TimeoutError as err:
            raise Refused(408, "SIZE_INVALID", "the manifest did not come in time") from err
        finally:
            body.deadline = None

    def _has_room(self, most_bytes: int) -> bool:
        """Tell whether all have room in `most_bytes`, once those have given way that are coming for longest."""
        if self._bytes <= most_bytes:
            return True
        before_s = time.monotonic() - self._limits.manifest_safe_s
        for body in self._all:
            if body.deadline is not None and not body.deadline.expired() and not body.gave_way and body.began_s <= before_s:
                body.gave_way = True
                body.deadline.reschedule(0)
                self._free(body)
                if self._bytes <= most_bytes:
                    return True
        return False

    def _free(self, body: Arriving) -> None:
        self._bytes -= len(body.raw)
        body.raw.clear()
