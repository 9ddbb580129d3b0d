"""What leads to an entry: the leaf itself, so that a duplicate finds the first one, and the terms that its kind gives it.

A term is kept as 16 bytes of a hash, so a hit is a candidate. `TileLog` compares the hash of a leaf before it calls one a duplicate; a
search is answered with candidates, for nothing that an index says proves anything, and clients read the entries that it names. The database
is made from the entries and may be removed; it lags behind the log by what is in the journal, which `TileLog` keeps in memory.

A thread owns each connection, because SQLite's may not wander between threads. Reading has one of its own, so that it need not wait for the
disk while entries are added.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
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
_ROWS: Final = 400  # in one statement
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
        place = Place(path)
        with contextlib.ExitStack() as opened:
            self._writing, self._reading = (opened.enter_context(contextlib.closing(_Owner(path, place))) for _ in range(2))
            self.size = self._reading.run(_covered)
            if self.size < 0:
                remedy = f"rm {shlex.quote(path)}  # it is made anew from the entries"
                raise DatabaseUnusable("the log's index does not say what it covers", place=place, remedy=remedy)
            self._opened = opened.pop_all()

    def find(self, terms: Sequence[bytes]) -> dict[bytes, tuple[int, ...]]:
        """Return the entries of each term that is known; for terms that few entries have.

        Raises:
            DatabaseUnusable: (UNAVAIL) it cannot be read.
        """

        def ask(connection: sqlite3.Connection) -> list[tuple[bytes, int]]:
            # One statement: the thread gives way to others at each.
            marks = ",".join("?" * len(terms))
            return connection.execute(f"SELECT term, entry FROM terms WHERE term IN ({marks}) ORDER BY entry", terms).fetchall()  # noqa: S608

        found: dict[bytes, tuple[int, ...]] = {}
        for term, entry in self._reading.run(ask):
            found[term] = (*found.get(term, ()), entry)
        return found

    def search(self, term: bytes, most: int, first: int = 0) -> tuple[int, ...]:
        """Return `most` entries that have a term, in order, from the index `first` on.

        Raises:
            DatabaseUnusable: (UNAVAIL) it cannot be read.
        """

        def ask(connection: sqlite3.Connection) -> list[tuple[int]]:
            return connection.execute(
                "SELECT entry FROM terms WHERE term = ? AND entry >= ? ORDER BY entry LIMIT ?", (term, first, most)
            ).fetchall()

        return tuple(row[0] for row in self._reading.run(ask))

    def add(self, rows: Iterable[tuple[bytes, int]], size: int) -> None:
        """Add terms and the entries that have them, durably; the index then covers the log's first `size` entries.

        Raises:
            DatabaseUnusable: (UNAVAIL) no space; nothing was added, and more can be when there is some.
        """
        ordered = sorted(rows)

        def put(connection: sqlite3.Connection) -> None:
            with durable.transaction(connection):
                for at in range(0, len(ordered), _ROWS):
                    part = ordered[at : at + _ROWS]
                    marks = ",".join(["(?,?)"] * len(part))
                    connection.execute(f"INSERT OR IGNORE INTO terms VALUES {marks}", [value for row in part for value in row])  # noqa: S608
                connection.execute("UPDATE covered SET size = ?", (size,))

        self._writing.run(put)
        self.size = size

    def close(self) -> None:
        """Close the database."""
        self._opened.close()


class _Owner:
    """A connection and the one thread that uses it."""

    def __init__(self, path: str, place: Place) -> None:
        self._place = place
        self._thread = ThreadPoolExecutor(1, "sigkit-log-index")
        try:
            self._connection = self._thread.submit(_open, path).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def run(self, act: Callable[[sqlite3.Connection], T]) -> T:
        import sqlite3

        try:
            return self._thread.submit(act, self._connection).result()
        except sqlite3.Error as err:
            raise DatabaseUnusable(f"cannot use the log's index: {err}", place=self._place) from err

    def close(self) -> None:
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()


def _covered(connection: sqlite3.Connection) -> int:
    """Return how many entries the index covers; less than none where it does not say."""
    rows: list[tuple[int]] = connection.execute("SELECT size FROM covered").fetchall()
    return rows[0][0] if len(rows) == 1 else -1


def _open(path: str) -> sqlite3.Connection:
    connection = durable.open_database(path, application=_APPLICATION, steps=_STEPS)
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection
