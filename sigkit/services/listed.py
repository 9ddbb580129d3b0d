"""What lists of referrers say, kept in memory for whoever asks next.

A list of a thousand is as many files that are looked for, opened, read and parsed, while everybody verifies the same images. What is kept
is forgotten when a referrer comes or goes, by who changes it; nobody else may write below the registry's directory. When there is too much,
that list goes which nobody asked for longest.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sigkit.digest import Digest

_MOST_BYTES: Final = 32 * 2**20  # 60,000 signatures; 16 lists that are as long as a page may be
_ENTRY_BYTES: Final = 400  # of a referrer, beside what is said of it: its name twice, its digest, and what holds them


@dataclass(frozen=True, slots=True)
class Referrer:
    """What a list says of one manifest."""

    digest: Digest
    artifact_type: str | None
    encoded: bytes


class Listing:
    """The list of one subject, as far as it was read."""

    def __init__(self, key: tuple[str, str]) -> None:
        """Start with nothing read."""
        self.key = key
        self.entries: tuple[str, ...] | None = None
        self.read: dict[str, Referrer | None] = {}
        self.size_bytes = 0
        self.changes = 0


class Listings:
    """The lists that are kept. Its methods may be called from several threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        """Keep no more than `most_bytes`, about."""
        self._most_bytes = most_bytes
        self._guard = threading.Lock()
        self._kept: dict[tuple[str, str], Listing] = {}  # last the one that was asked for last
        self._bytes = 0

    def open(self, repository: str, subject: str) -> Listing:
        """Return the list of a subject in a repository."""
        key = (repository, subject)
        with self._guard:
            listing = self._kept.pop(key, None) or Listing(key)
            self._kept[key] = listing
            return listing

    def entries(self, listing: Listing, read: Callable[[], Iterable[str]]) -> tuple[str, ...]:
        """Return the names of all that is in a list, in order, and `read` them if they are not known."""
        found = listing.entries
        if found is None:
            changes = listing.changes
            found = tuple(sorted(read()))
            with self._guard:
                if not found and self._is_current(listing, changes):
                    del self._kept[listing.key]  # there is no end to subjects that nothing refers to
                elif self._is_current(listing, changes):
                    listing.entries = found
                    self._grow(listing, len(found) * _ENTRY_BYTES)
        return found

    def referrer(self, listing: Listing, entry: str, read: Callable[[str], Referrer | None]) -> Referrer | None:
        """Return what a list says of one of its entries, None if it is not to be listed, and `read` that if it is not known."""
        with contextlib.suppress(KeyError):
            return listing.read[entry]
        changes = listing.changes
        found = read(entry)
        with self._guard:
            if self._is_current(listing, changes):
                listing.read[entry] = found
                self._grow(listing, len(found.encoded) if found else 0)
        return found

    def change(self, repository: str, subject: str, entry: str) -> None:
        """Forget what one entry of a list says, and which there are: it has come or gone, or may have. What is being read is not kept."""
        with self._guard:
            listing = self._kept.get((repository, subject))
            if listing is None:
                return
            listing.changes += 1
            known = listing.read.pop(entry, None)
            self._grow(listing, -len(listing.entries or ()) * _ENTRY_BYTES - (len(known.encoded) if known else 0))
            listing.entries = None

    def _is_current(self, listing: Listing, changes: int) -> bool:
        return listing.changes == changes and self._kept.get(listing.key) is listing

    def _grow(self, listing: Listing, size_bytes: int) -> None:
        listing.size_bytes += size_bytes
        self._bytes += size_bytes
        while self._bytes > self._most_bytes:
            self._bytes -= self._kept.pop(next(iter(self._kept))).size_bytes
