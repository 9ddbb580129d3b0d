"""The list of referrers as a tag, for registries without the referrers API, read as it is and written so that nobody's entry is lost.

The list is an index under the tag `sha256-<hex>`. Registries have no conditional write, so two writers that read the same list overwrite
each other: six parallel cosign signs, all with exit 0, left three to five entries. Here:

* A writer reads, adds its entry to what it found (everything of others stays as it is), writes, and reads again. What it does not find
  it adds again.
* It writes only if what it read is younger than half a pause; otherwise it reads again. So a writer that was suspended cannot bring back
  an old list over the entries of writers that are done.
* It is done only when its entry is still there after a pause, of random length and several times longer than its last requests took:
  whoever read the list before the entry was in it has written by then, or will read again.

* A write that fails is never sent again as it is: the list is read again first. The client helps by sending writes of such a tag once.

What is left: a write that the network holds for longer than another writer's pause. Then that writer's entry is lost although it reported
success; only a registry with the referrers API excludes that.

Source: OCI distribution-spec 1.1 "Pushing Manifests with Subject", "Unavailable Referrers API".
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, Final

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import (
    AccessDenied,
    ManifestRefused,
    Place,
    ReferrerLost,
    ReferrersImmutable,
    ServerFailed,
    TimedOut,
    TooMany,
    Unreachable,
    WrongShape,
)
from sigkit.oci.manifest import OCI_INDEX, Index, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.oci.descriptor import Descriptor
    from sigkit.oci.reference import Repository
    from sigkit.oci.registry import Registry
    from sigkit.strict import Json

WRITES: Final = 40  # twenty writers at once need at most twenty when one of them wins each round
WITHIN_S: Final = 120.0
PAUSE_S: Final = 0.8
PAUSE_MOST_S: Final = 10.0
PAUSE_ROUND_TRIPS: Final = 4  # two to write what was read, one for the write to arrive
FAILURES: Final = 4  # writes that fail in a row, as the client would try any other
RECENT: Final = 3  # requests before the last whose length still counts: the first ones pay for connections
_ENCODED_CHARACTERS: Final = 64  # the specification cuts sha512 to this

_TWO_WAYS: Final = "turn on the registry's referrers API (OCI distribution 1.1), or keep signatures in a repository with mutable tags"


class Pacing(Data):
    """How a writer waits: ports for the clock, for sleep and for chance."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


DEFAULT_PACING: Final = Pacing()


def fallback_tag(digest: Digest) -> str:
    """Return the tag under which the referrers of `digest` are listed."""
    return f"{digest.algorithm}-{digest.hex[:_ENCODED_CHARACTERS]}"


def is_fallback_tag(tag: str) -> bool:
    """Tell whether a tag has the form of those that list referrers."""
    return re.fullmatch(r"(?:sha256|sha384|sha512)-[0-9a-f]{64}", tag) is not None


def read_fallback_index(registry: Registry, repository: Repository, digest: Digest) -> Index | None:
    """Return the index under the fallback tag of `digest`, or None when there is no such tag.

    Raises:
        WrongShape: (PARSE) there is a manifest in its place.
        Everything that `parse_manifest` and the registry raise.
    """
    raw = registry.fetch_manifest(repository, fallback_tag(digest))
    return None if raw is None else _parse_index(raw, _place(repository, digest))


def add_referrer(
    registry: Registry, repository: Repository, subject: Digest, descriptor: Descriptor, pacing: Pacing = DEFAULT_PACING
) -> None:
    """Add `descriptor` to the list of referrers of `subject`; return only when it is there and stays there.

    Raises:
        ReferrersImmutable: (UNAVAIL) the tag exists and may not be written again; nothing was changed.
        ReferrerLost: (UNAVAIL) others kept overwriting it; it is not in the list.
        TooMany: (LIMIT) the list is full.
        Everything that reading and pushing a manifest raise.
    """
    _Writer(registry, repository, subject, descriptor, pacing).run()


class _Read(Data):
    raw: bytes | None
    document: Index | None
    began: float

    @property
    def listed(self) -> frozenset[Digest]:
        return frozenset(child.digest for child in self.document.manifests) if self.document else frozenset()


class _Writer:
    def __init__(self, registry: Registry, repository: Repository, subject: Digest, descriptor: Descriptor, pacing: Pacing) -> None:
        self._registry = registry
        self._repository = repository
        self._subject = subject
        self._descriptor = descriptor
        self._pacing = pacing
        self._tag = fallback_tag(subject)
        self._place = _place(repository, subject)
        self._took_s: tuple[float, ...] = (0.0,)
        self._failures = 0

    def run(self) -> None:
        end = self._pacing.monotonic() + WITHIN_S
        writes = waits = 0
        while self._pacing.monotonic() < end:
            read = self._read()
            if self._descriptor.digest in read.listed:
                if self._stays():
                    return
            elif writes > waits:
                # Whoever overwrote us is writing now, or the registry is busy; those who lost come back at different times.
                self._pacing.sleep(self._pause_s() * (self._failures + self._pacing.chance()))
                waits = writes
            elif writes == WRITES:
                break
            else:
                self._write(read)
                writes += 1
        raise ReferrerLost("the signature is stored but not listed: others kept replacing the list", place=self._place)

    def _stays(self) -> bool:
        self._pacing.sleep(self._pause_s() * (1 + self._pacing.chance()))
        return self._descriptor.digest in self._read().listed

    def _read(self) -> _Read:
        began = self._pacing.monotonic()
        raw = self._registry.fetch_manifest(self._repository, self._tag)
        self._note(began)
        return _Read(raw, None if raw is None else _parse_index(raw, self._place), began)

    def _write(self, read: _Read) -> None:
        raw = self._merged(read.raw)
        began = self._pacing.monotonic()
        if began - read.began > self._pause_s() / 2:
            return  # too old to write: somebody may have finished since
        try:
            self._registry.push_manifest(self._repository, self._tag, raw, read.document.media_type if read.document else OCI_INDEX)
        except (ManifestRefused, AccessDenied) as err:
            if read.raw is None and self._registry.fetch_manifest(self._repository, self._tag) is None:
                raise
            raise ReferrersImmutable(
                "the registry does not let the list of signatures be written again",
                place=self._place,
                got=err.problem,
                remedy=_TWO_WAYS,
            ) from err
        except (Unreachable, TimedOut, ServerFailed):
            # Perhaps it was stored, perhaps not, perhaps it arrives later: the next look tells.
            self._failures += 1
            if self._failures == FAILURES:
                raise
        else:
            self._failures = 0
        self._note(began)

    def _merged(self, raw: bytes | None) -> bytes:
        """Return the list with the entry at its end, everything else as it was."""
        entry: Json = self._descriptor.encode()
        if raw is None:
            return strict.encode_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
        top = strict.parse_json(raw, most_bytes=limits.MANIFEST_BYTES, place=self._place)
        listed = top.member("manifests").items(limits.INDEX_MANIFESTS)
        if len(listed) == limits.INDEX_MANIFESTS:
            raise TooMany(f"the list has {limits.INDEX_MANIFESTS} signatures already", place=self._place)
        kept = {item.member("digest").text(): item.value for item in listed}
        return strict.encode_json({**top.object(), "manifests": [*kept.values(), entry]})

    def _note(self, began: float) -> None:
        self._took_s = (*self._took_s[-RECENT:], self._pacing.monotonic() - began)

    def _pause_s(self) -> float:
        return min(max(PAUSE_S, PAUSE_ROUND_TRIPS * max(self._took_s)), PAUSE_MOST_S)


def _parse_index(raw: bytes, place: Place) -> Index:
    document = parse_manifest(raw, Digest.of(raw), place)
    if not isinstance(document, Index):
        raise WrongShape("the list of signatures is not an index", place=place, expected=OCI_INDEX, got=document.media_type)
    return document


def _place(repository: Repository, subject: Digest) -> Place:
    return Place(f"{repository}:{fallback_tag(subject)}")
