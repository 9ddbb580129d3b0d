"""The state port: small values under keys, changed only by compare-and-set, and its SQLite.

It keeps what must not be forgotten or done twice on this host: single-use admissions now, tag memory and revocations later. Replicas need
the same port over a shared database.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Protocol, Self

from sigkit import durable
from sigkit.errors import DatabaseUnusable, FileUnwritable, Place

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from types import TracebackType

APPLICATION: Final = 0x5347_5354  # "SGST"
_STEPS: Final = ("CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",)


class State(Protocol):
    """Durable small values. A change is durable when the call returns."""

    def get(self, key: str) -> bytes | None:
        """Return the value under `key`, or None."""
        ...

    def compare_and_set(self, key: str, old: bytes | None, new: bytes | None) -> bool:
        """Set `key` to `new` if it is `old`, in one step; None stands for no value.

        Returns:
            Whether it was `old`. When two callers compete, one gets True.
        """
        ...

    def forget(self, first: str, end: str) -> None:
        """Remove every key from `first` on that comes before `end`, in the order of their code points."""
        ...


class SqliteState:
    """State in one SQLite file, mode 0600; for the thread that opened it. A context manager."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or make the database.

        Raises:
            DatabaseUnusable: (UNAVAIL) damaged, of another kind or version, or locked.
            FileUnwritable: (UNAVAIL) it cannot be made.
        """
        self._place = Place(os.fspath(path))
        try:
            # SQLite gives its journal the mode of the database.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as err:
            raise FileUnwritable(f"cannot open the state: {err.strerror}", place=self._place) from err
        self._connection = durable.open_database(path, application=APPLICATION, steps=_STEPS)

    def get(self, key: str) -> bytes | None:
        """Return the value under `key`, or None."""
        with self._usable():
            row = self._connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return bytes(row[0]) if row else None

    def compare_and_set(self, key: str, old: bytes | None, new: bytes | None) -> bool:
        """Set `key` to `new` if it is `old`, durably and in one step."""
        with self._usable(), durable.transaction(self._connection):
            row = self._connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
            if (bytes(row[0]) if row else None) != old:
                return False
            if new is None:
                self._connection.execute("DELETE FROM state WHERE key = ?", (key,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO state (key, value) VALUES (?, ?)", (key, new))
        return True

    def forget(self, first: str, end: str) -> None:
        """Remove every key from `first` on that comes before `end`; nothing is written where there is none."""
        between = "FROM state WHERE key >= ? AND key < ?"
        with self._usable():
            if self._connection.execute(f"SELECT 1 {between} LIMIT 1", (first, end)).fetchone():
                self._connection.execute(f"DELETE {between}", (first, end))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @contextlib.contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        import sqlite3

        try:
            yield self._connection
        except sqlite3.Error as err:
            raise DatabaseUnusable(f"cannot use the state: {err}", place=self._place) from err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
