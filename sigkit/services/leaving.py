"""Answers that lie in memory until their clients have read them, of which all together may take so much.

Small ones are not counted: the number of connections bounds them. Of a larger one the bytes are counted that are in memory for it alone,
from before the first is sent until the client has read nearly all. When there is no room for another one, those give way that read slower
than the least rate, the furthest behind first: whoever reads loses nothing to those who do not. If that makes not enough room, nobody is
ended and the new one is told to come again: of clients that all read, those get their answers to whom they were promised first.

The time that `protocol` waits for a reader is no such bound: very many can wait so long at once. Ending nobody would be none either: a few
clients that do not read could keep all others from large answers for that time. With TLS a last piece may lie in the transport uncounted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_EXTENSION: Final = "sigkit.reader"


class Reader(Protocol):
    """A client whose connection an answer goes to."""

    def behind_bytes(self) -> float:
        """Return how many bytes less it has read than it should have by now; 0 while it is in time."""
        ...

    def abort(self) -> None:
        """End its connection at once: closing it would wait for the client."""
        ...


class _Leaving:
    """One answer, until it is sent."""

    def __init__(self, size_bytes: int, reader: Reader) -> None:
        self.size_bytes = size_bytes
        self.reader = reader


class Departures:
    """All answers that are counted. In one event loop."""

    def __init__(self, most_bytes: int) -> None:
        """Hold no more than `most_bytes`."""
        self._most_bytes = most_bytes
        self._all: set[_Leaving] = set()
        self._bytes = 0

    @contextlib.contextmanager
    def holding(self, size_bytes: int, reader: Reader) -> Iterator[bool]:
        """Count an answer until the block ends, and give whether there is room for it."""
        if not self._make_room(size_bytes):
            yield False
            return
        answer = _Leaving(size_bytes, reader)
        self._all.add(answer)
        self._bytes += size_bytes
        try:
            yield True
        finally:
            self._free(answer)

    def _make_room(self, size_bytes: int) -> bool:
        beyond_bytes = self._bytes + size_bytes - self._most_bytes
        if beyond_bytes <= 0:
            return True
        behind = sorted(((answer.reader.behind_bytes(), answer) for answer in self._all), key=lambda item: item[0], reverse=True)
        giving_way: list[_Leaving] = []
        for bytes_behind, answer in behind:
            if beyond_bytes <= 0 or bytes_behind <= 0:
                break
            giving_way.append(answer)
            beyond_bytes -= answer.size_bytes
        if beyond_bytes > 0:
            return False
        for answer in giving_way:
            self._free(answer)
            answer.reader.abort()
        return True

    def _free(self, answer: _Leaving) -> None:
        if answer in self._all:
            self._all.remove(answer)
            self._bytes -= answer.size_bytes


class _Unknown:
    """The client of a server that tells nothing of it: it is never behind, and its answers use up the room."""

    def behind_bytes(self) -> float:
        return 0

    def abort(self) -> None:
        pass


_UNKNOWN: Final = _Unknown()


def extensions(reader: Reader) -> dict[str, dict[object, object]]:
    """Return what a server adds to a request's scope so that its client is known here."""
    return {_EXTENSION: {"client": reader}}


def reader_of(scope: Mapping[str, Any]) -> Reader:
    """Return the client of a request."""
    found: Reader = scope.get("extensions", {}).get(_EXTENSION, {}).get("client", _UNKNOWN)
    return found
