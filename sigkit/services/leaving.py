"""Answers that lie in memory until their clients have read them, of which all together may take so much.

Small ones are not counted: the number of connections bounds them. Of a larger one the bytes are counted that are in memory for it alone,
from before the first is sent until the client has read nearly all. When there is no room for another one, the client that has read nothing
for longest gives way, if that is some seconds: whoever reads loses nothing to those who do not. If there is none such, the new one is told
to come again: of clients that all read, those get their answers to whom they were promised first.

The time that `protocol` waits for a reader is no such bound: very many can wait so long at once. Ending nobody would be none either: a few
clients that do not read could keep all others from large answers for that time. With TLS a last piece may lie in the transport uncounted.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_EXTENSION: Final = "sigkit.abort"


class Leaving:
    """One answer, until it is sent."""

    def __init__(self, size_bytes: int, abort: Callable[[], object]) -> None:
        """Take what it holds, and what ends its connection at once."""
        self.size_bytes = size_bytes
        self.abort = abort
        self.moved_s = time.monotonic()


class Departures:
    """All answers that are counted, in the order in which their clients read last. In one event loop."""

    def __init__(self, most_bytes: int, safe_s: float) -> None:
        """Hold no more than `most_bytes`; a client that reads nothing for `safe_s` may have to give way."""
        self._most_bytes = most_bytes
        self._safe_s = safe_s
        self._all: dict[Leaving, None] = {}
        self._bytes = 0

    @contextlib.contextmanager
    def holding(self, size_bytes: int, abort: Callable[[], object]) -> Iterator[Leaving | None]:
        """Count an answer until the block ends; None if there is no room for it."""
        if not self._make_room(size_bytes):
            yield None
            return
        answer = Leaving(size_bytes, abort)
        self._all[answer] = None
        self._bytes += size_bytes
        try:
            yield answer
        finally:
            self._free(answer)

    def moved(self, answer: Leaving) -> None:
        """Note that the client has read some of it."""
        if answer in self._all:
            answer.moved_s = time.monotonic()
            del self._all[answer]
            self._all[answer] = None

    def _make_room(self, size_bytes: int) -> bool:
        before_s = time.monotonic() - self._safe_s
        while self._bytes + size_bytes > self._most_bytes:
            stalest = next(iter(self._all), None)
            if stalest is None or stalest.moved_s > before_s:
                return False
            self._free(stalest)
            stalest.abort()
        return True

    def _free(self, answer: Leaving) -> None:
        if answer in self._all:
            del self._all[answer]
            self._bytes -= answer.size_bytes


def extensions(abort: Callable[[], object]) -> dict[str, dict[object, object]]:
    """Return what a server adds to a request's scope so that its connection can be ended: closing it would wait for the client."""
    return {_EXTENSION: {"call": abort}}


def abort_of(scope: Mapping[str, Any]) -> Callable[[], object]:
    """Return what ends a request's connection; under another server nothing does, and its answers only use up the room."""
    found: Callable[[], object] = scope.get("extensions", {}).get(_EXTENSION, {}).get("call", _do_nothing)
    return found


def _do_nothing() -> None:
    """End nothing."""
