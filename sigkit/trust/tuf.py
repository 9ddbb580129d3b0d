"""The client of The Update Framework: from a pinned root to a target's bytes, over whatever fetches and keeps files.

Every time, everything is proved again from the pinned root, be it just fetched or kept since last year: what lies on disk is no more
trusted than what a mirror sends. What is fetched is kept only after it was proved, and one failed check ends the whole update. Without a
mirror the same steps read what is kept alone.

`when` is the time that expiry is judged at. Who grants that expired metadata may be used hands in an earlier one.

Source: TUF specification 1.0.33 section 5; the numbers in comments are its steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from urllib.parse import quote

from sigkit import limits
from sigkit.errors import MetadataMismatch, MetadataMissing, Place, SigkitError, TargetNotListed
from sigkit.trust import metadata as meta

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tuf.api.metadata import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

_TIMESTAMP: Final = "timestamp.json"
T = TypeVar("T")
S = TypeVar("S", "Snapshot", "Targets")


class Cache(Protocol):
    """Keeps files that were proved: `timestamp.json`, `5.root.json`, `role-NAME.json`, `target-NAME`."""

    def load(self, name: str) -> bytes | None:
        """Return a file, or None where there is none that can be used."""
        ...

    def save(self, name: str, raw: bytes) -> None:
        """Keep a file, durably, if anything can be kept."""
        ...

    def place(self, name: str) -> Place:
        """Return where the file lies, or would lie."""
        ...


class Mirror(Protocol):
    """Fetches files."""

    def fetch_metadata(self, name: str, most_bytes: int) -> bytes | None:
        """Return a file, or None where the mirror says that it has none.

        Raises:
            TooLarge: (LIMIT).
            UnavailError: no answer, or one that says something else.
            NetError: by the rules of connections.
        """
        ...

    def fetch_target(self, path: str, most_bytes: int) -> bytes | None:
        """As `fetch_metadata`, of a target by its path."""
        ...

    def place(self, name: str) -> Place:
        """Return where a file is fetched from."""
        ...


class Client:
    """One update: `refresh`, then any number of `target`."""

    def __init__(self, pinned: bytes, pinned_at: Place, cache: Cache, mirror: Mirror | None, when: datetime) -> None:
        """Trust the pinned root; without a mirror nothing is fetched.

        Raises:
            SigkitError: as `metadata.parse_pinned`.
        """
        self._cache = cache
        self._mirror = mirror
        self._when = when
        self._root = meta.parse_pinned(pinned, pinned_at)
        self._snapshot: Snapshot | None = None
        self._targets: Targets | None = None
        self._delegated: dict[tuple[int, str], Targets] = {}  # by delegator: another one's word is another question
        self._expiries: list[datetime] = []

    @property
    def root(self) -> Root:
        """The newest root that is proved."""
        return self._root

    @property
    def expires(self) -> datetime:
        """When the first of what was proved is not valid any more; `refresh` must have run."""
        return min(self._expiries)

    def refresh(self) -> None:
        """Prove the newest root, timestamp, snapshot and targets.

        Raises:
            MetadataNotSigned, MetadataRolledBack, MetadataExpired, MetadataMismatch: (ROOT).
            MetadataMissing: (UNAVAIL) a file is neither kept nor to be had.
            MalformedMetadata, ParseError: (PARSE).
            SigkitError: as the mirror.
        """
        self._refresh_root()
        timestamp = self._load_timestamp()
        self._snapshot = self._load_snapshot(timestamp)
        self._targets = self._load_targets(self._root, meta.TARGETS, self._snapshot)

    def target(self, path: str) -> bytes:
        """Return a target's bytes: the kept ones if they are those that are named now, else fetched and kept.

        Raises:
            TargetNotListed: (ROOT) no role lists it.
            MetadataMismatch: (ROOT) the mirror has other bytes.
            SigkitError: as `refresh`.
        """
        named = self._find(path)
        if named is None:
            raise TargetNotListed("the repository lists no such target", place=self._place("targets.json"), expected=path[:200])
        name = f"target-{quote(path, safe='')}"
        kept = self._kept(name, lambda raw, place: _checked(named, raw, place))
        if kept is not None:
            return kept
        most = min(named.length, limits.TUF_TARGET_BYTES)
        raw = self._mirror.fetch_target(self._served_path(named), most) if self._mirror else None
        if raw is None:
            raise MetadataMissing("the target is neither kept here nor to be had", place=self._place(name))
        meta.check_content(named, raw, self._place(path))
        self._cache.save(name, raw)
        return raw

    # --- top-level roles ---

    def _refresh_root(self) -> None:
        for _ in range(limits.TUF_ROOT_ROTATIONS):  # 5.3.3
            following = self._next_root(self._root)
            if following is None:
                break
            self._root = following
        meta.check_expiry(meta.ROOT, self._root, self._when, self._place(f"{self._root.version}.root.json"))  # 5.3.10
        self._expiries = [self._root.expires]

    def _next_root(self, trusted: Root) -> Root | None:
        name = f"{trusted.version + 1}.root.json"
        root = self._kept(name, lambda raw, place: meta.parse_next_root(trusted, raw, place))
        if root is not None:
            return root
        raw = self._mirror.fetch_metadata(name, limits.TUF_ROOT_BYTES) if self._mirror else None
        if raw is None:
            return None
        root = meta.parse_next_root(trusted, raw, self._place(name))  # 5.3.4, 5.3.5
        self._cache.save(name, raw)  # 5.3.8
        return root

    def _load_timestamp(self) -> Timestamp:
        name, raw = _TIMESTAMP, None
        timestamp = None
        if not self._is_recovering():
            timestamp = self._kept(name, lambda raw, place: meta.parse_timestamp(self._root, raw, place, None))
        if self._mirror is not None or timestamp is None:
            raw = self._fetch(name, limits.TUF_TIMESTAMP_BYTES)  # 5.4.1
            fetched = meta.parse_timestamp(self._root, raw, self._place(name), timestamp)  # 5.4.2, 5.4.3
            if timestamp is not None and fetched.version == timestamp.version:  # 5.4.3.1: the one that was seen stays
                raw = None
            else:
                timestamp = fetched
        meta.check_expiry(meta.TIMESTAMP, timestamp, self._when, self._place(name))  # 5.4.4
        if raw is not None:
            self._cache.save(name, raw)  # 5.4.5
        self._expiries.append(timestamp.expires)
        return timestamp

    def _is_recovering(self) -> bool:
        """Tell whether a kept snapshot is of keys that the root does not name any more: then the timestamp with it binds nobody (5.3.11).

        What is of the timestamp's own lost keys is not read by the new ones.
        """
        there = self._mirror is not None and self._cache.load("snapshot.json") is not None
        return there and self._kept("snapshot.json", lambda raw, place: meta.parse_seen_snapshot(self._root, raw, place)) is None

    def _load_snapshot(self, timestamp: Timestamp) -> Snapshot:
        named = timestamp.snapshot_meta
        seen = self._kept("snapshot.json", lambda raw, place: meta.parse_seen_snapshot(self._root, raw, place))
        return self._load(  # 5.5.1 to 5.5.7
            "snapshot.json", meta.SNAPSHOT, named, lambda raw, place: meta.parse_snapshot(self._root, raw, place, named, seen)
        )

    # --- targets ---

    def _load_targets(self, delegator: Root | Targets, role: str, snapshot: Snapshot) -> Targets:
        """Prove what a role says, by the word of the one that delegates to it (5.6)."""
        known = self._delegated.get((id(delegator), role))
        if known is not None:
            return known
        named = snapshot.meta.get(f"{role}.json")
        if named is None:
            raise MetadataMismatch(
                "the snapshot does not list a role", place=self._place("snapshot.json"), expected=role[:200], got="nothing"
            )
        kept = "targets.json" if role == meta.TARGETS else f"role-{quote(role, safe='')}.json"
        targets = self._load(kept, role, named, lambda raw, place: meta.parse_targets(delegator, role, raw, place, named))
        self._delegated[id(delegator), role] = targets
        return targets

    def _find(self, path: str) -> TargetFile | None:
        """Search the roles in the order of their precedence; each once, so that a circle ends (5.6.7)."""
        if self._snapshot is None or self._targets is None:
            self.refresh()
            return self._find(path)
        visit: list[tuple[Root | Targets, str]] = [(self._root, meta.TARGETS)]
        visited: set[str] = set()
        while visit and len(visited) <= limits.TUF_DELEGATIONS:
            delegator, role = visit.pop()
            if role in visited:
                continue
            targets = self._load_targets(delegator, role, self._snapshot)
            if path in targets.targets:
                return targets.targets[path]
            visited.add(role)
            below: list[tuple[Root | Targets, str]] = []
            for name, terminating in targets.delegations.get_roles_for_target(path) if targets.delegations else ():
                below.append((targets, name))
                if terminating:
                    visit = []
                    break
            visit += reversed(below)
        return None

    def _served_path(self, named: TargetFile) -> str:
        if not self._root.consistent_snapshot:
            return named.path
        directory, slash, name = named.path.rpartition("/")
        return f"{directory}{slash}{next(iter(named.hashes.values()))}.{name}"

    # --- files ---

    def _load(self, kept: str, role: str, named: MetaFile, parse: Callable[[bytes, Place], S]) -> S:
        """Return a role's metadata as it is kept, if that is what is named now, else as the mirror has it."""
        raw, name = None, f"{quote(role, safe='')}.json"
        signed = self._kept(kept, parse)
        if signed is None:
            served = f"{named.version}.{name}" if self._root.consistent_snapshot else name
            most = meta.MOST_BYTES.get(role, limits.TUF_TARGETS_BYTES)
            raw = self._fetch(served, min(named.length or most, most))
            signed = parse(raw, self._place(served))
        meta.check_expiry(role, signed, self._when, self._place(name))
        if raw is not None:
            self._cache.save(kept, raw)
        self._expiries.append(signed.expires)
        return signed

    def _kept(self, name: str, parse: Callable[[bytes, Place], T]) -> T | None:
        """Return a kept file as `parse` reads it, or None where there is none, or a mirror can be asked instead of a bad one."""
        raw = self._cache.load(name)
        if raw is None:
            return None
        try:
            return parse(raw, self._cache.place(name))
        except SigkitError:
            if self._mirror is None:
                raise
            return None

    def _fetch(self, name: str, most_bytes: int) -> bytes:
        raw = self._mirror.fetch_metadata(name, most_bytes) if self._mirror else None
        if raw is None:
            raise MetadataMissing(self._what_is_missing(name), place=self._place(name))
        return raw

    def _what_is_missing(self, name: str) -> str:
        if self._mirror is None:
            return "metadata is neither kept here nor to be had"
        # The timestamp is what every repository has, and what is asked for first that must be there.
        return f"there is no TUF repository at this address: no {_TIMESTAMP}" if name == _TIMESTAMP else "the mirror has no such file"

    def _place(self, name: str) -> Place:
        return self._mirror.place(name) if self._mirror else self._cache.place(name)


def _checked(named: TargetFile, raw: bytes, place: Place) -> bytes:
    meta.check_content(named, raw, place)
    return raw
