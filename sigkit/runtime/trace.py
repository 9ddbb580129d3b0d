"""What is being done right now: named in every refusal of the kernel, and written out for `--trace`.

A step announces itself before it acts. With a descriptor, each announcement is three lines: what, why, and the shell line that does
the same by hand.
"""

from __future__ import annotations

import os

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%")


def quote(word: bytes) -> str:
    """Quote one word for a shell; bytes that a terminal could obey become escapes."""
    if word and _PLAIN.issuperset(word):
        return word.decode("ascii")
    return "$'" + repr(b'"' + word)[3:-1].replace("\\'", "'").replace("'", "\\'") + "'"


class Trace:
    """The steps of one container's start."""

    __slots__ = ("_descriptor", "_who", "current")

    def __init__(self, who: str, descriptor: int) -> None:
        """Begin; `descriptor` is where the records go, or -1."""
        self._who = who
        self._descriptor = descriptor
        self.current = "start"

    def step(self, what: str, why: str, shell: str) -> None:
        """Say what is done next."""
        self.current = what
        if self._descriptor >= 0:
            record = f"{self._who}: {what}\n    why  {why}\n    sh   {shell}\n"
            os.write(self._descriptor, record.encode("ascii", "backslashreplace"))

    def named(self, who: str) -> Trace:
        """Return a trace to the same place for another process."""
        other = Trace(who, self._descriptor)
        other.current = self.current
        return other
