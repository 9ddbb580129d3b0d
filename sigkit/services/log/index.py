"""What leads to an entry: the leaf itself, so that a duplicate finds the first one, and the terms that its kind gives it.

A term is kept as 16 bytes of a hash, so a hit is a candidate: whoever asks compares the entry. The database is made from the entries and
may be removed; it lags behind the log by what is in the journal, which `TileLog` keeps in memory.

One thread owns the connection, because SQLite's may not wander between threads, and the appending and searching ones are several.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from sigkit import durable
from sigkit.errors import DatabaseUnusable, Place

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    T = TypeVar("T")

_APPLICATION: Final = 0x534B4C47  # "SKLG"
_STEPS: Final = (
    """
    CREATE TABLE terms (term BLOB NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (term, entry)) WITHOUT ROWID;
    CREATE TABLE covered (size INTEGER NOT NULL);
    INSERT INTO covered VALUES (0)
    """,
)
_CACHE_KIB: Final = 64 << 10  # terms are random: without their pages in memory each insertion reads one
_TERM_BYTES: Final = 16
_LEAF: Final = "leaf"


def term_of(kind: str, value: bytes) -> bytes:
    """Return the term for a value of a kind, such as a digest or an identity."""
    return hashlib.sha256(kind.encode("ascii") + b"\n" + value).digest()[:_TERM_BYTES]


def leaf_term(leaf: bytes) -> bytes:
    """Return the term of a whole leaf."""
    return term_of(_LEAF, leaf)


class Index:
    """The database. Its methods may be called from any thread."""

    def __init__(self, path: str) -> None:
        """Open the database at `path`, made if it is absent.

        Raises:
            DatabaseUnusable: (UNAVAIL) damaged, or of another version.
        """
        self._place = Place(path)
        self._thread = ThreadPoolExecutor(1, "sigkit-log-index")
        try:
            self._connection = self._run(lambda: _open(path))
            (self.size,) = self._run(lambda: self._connection.execute("SELECT size FROM covered").fetchone())
        except BaseException:
            self._thread.shutdown()
            raise

    def find(self, terms: Sequence[bytes], most: int) -> dict[bytes, tuple[int, ...]]:
        """Return for each of the terms that are known the first `most` entries, in order."""

        def ask() -> dict[bytes, tuple[int, ...]]:
            found = {}
            for term in terms:
                rows = self._connection.execute("SELECT entry FROM terms WHERE term = ? ORDER BY entry LIMIT ?", (term, most)).fetchall()
                if rows:
                    found[term] = tuple(row[0] for row in rows)
            return found

        return self._run(ask)

    def add(self, rows: Iterable[tuple[bytes, int]], size: int) -> None:
        """Add terms and the entries that have them, durably; the index then covers the log's first `size` entries."""

        def put() -> None:
            with durable.transaction(self._connection):
                self._connection.executemany("INSERT OR IGNORE INTO terms VALUES (?, ?)", sorted(rows))
                self._connection.execute("UPDATE covered SET size = ?", (size,))

        self._run(put)
        self.size = size

    def close(self) -> None:
        """Close the database."""
        self._run(self._connection.close)
        self._thread.shutdown()

    def _run(self, act: Callable[[], T]) -> T:
        import sqlite3

        try:
            return self._thread.submit(act).result()
        except sqlite3.Error as err:
            raise DatabaseUnusable(f"cannot use the log's index: {err}", place=self._place) from err


def _open(path: str) -> sqlite3.Connection:
    connection = durable.open_database(path, application=_APPLICATION, steps=_STEPS)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection
