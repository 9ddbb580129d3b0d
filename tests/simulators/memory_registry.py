"""A registry in memory behind the `Registry` port, for tests of what stands above the client.

It runs the same contract suite as the real ones (tests/contracts/test_registry_contract.py). It records what was asked for, and can be made
to answer a digest or tag with other bytes, which the port forbids for digests: a caller's own re-hashing is tested with that.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from sigkit.digest import Digest, VerifyingReader, check_digest
from sigkit.errors import BlobAbsent, Place, SizeMismatch, TooLarge
from sigkit.oci.manifest import describe_referrer, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.oci.descriptor import Descriptor
    from sigkit.oci.reference import Repository


class Referrers(Enum):
    """Whether the registry has the referrers API."""

    API = "api"
    NONE = "none"


@dataclass
class MemoryRegistry:
    """Implements `sigkit.oci.registry.Registry`. Its dictionaries are open to the test."""

    referrers: Referrers = Referrers.API
    blobs: dict[tuple[Repository, Digest], bytes] = field(default_factory=dict)
    manifests: dict[tuple[Repository, Digest], tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[tuple[Repository, str], Digest] = field(default_factory=dict)
    lies: dict[str, bytes] = field(default_factory=dict)  # by tag or digest: answered instead of the truth
    asked: list[str] = field(default_factory=list)  # every tag and digest that fetch_manifest was asked for

    def fetch_manifest(self, repository: Repository, what: str | Digest) -> bytes | None:
        self.asked.append(str(what))
        if str(what) in self.lies:
            return self.lies[str(what)]
        digest = self.tags.get((repository, what)) if isinstance(what, str) else what
        found = self.manifests.get((repository, digest)) if digest else None
        return found[0] if found else None

    def fetch_blob(self, repository: Repository, descriptor: Descriptor, *, most_bytes: int) -> bytes:
        place = Place(f"{repository}@{descriptor.digest}")
        if descriptor.size > most_bytes:
            raise TooLarge(f"the blob has more than {most_bytes} bytes", place=place)
        data = self._blob(repository, descriptor)
        if len(data) != descriptor.size:
            raise SizeMismatch("not the promised size", place=place, expected=str(descriptor.size), got=str(len(data)))
        return check_digest(data, descriptor.digest, place)

    @contextmanager
    def open_blob(self, repository: Repository, descriptor: Descriptor) -> Iterator[VerifyingReader]:
        data = io.BytesIO(self._blob(repository, descriptor))
        place = Place(f"{repository}@{descriptor.digest}")
        yield VerifyingReader(data, digest=descriptor.digest, size_bytes=descriptor.size, place=place)

    def has_blob(self, repository: Repository, digest: Digest) -> bool:
        return (repository, digest) in self.blobs

    def check_push(self, repository: Repository) -> None:
        """Everything may be pushed."""

    def push_blob(self, repository: Repository, digest: Digest, source: bytes | Path) -> None:
        data = source if isinstance(source, bytes) else source.read_bytes()
        self.blobs[repository, digest] = check_digest(data, digest, Place("pushed blob"))

    def push_manifest(self, repository: Repository, what: str | Digest, raw: bytes, media_type: str) -> Digest | None:
        digest = Digest.of(raw, what.algorithm if isinstance(what, Digest) else "sha256")
        if isinstance(what, Digest):
            check_digest(raw, what, Place("pushed manifest"))
        self.manifests[repository, digest] = (raw, media_type)
        if isinstance(what, str):
            self.tags[repository, what] = digest
        subject = parse_manifest(raw, digest, Place(str(digest))).subject
        return subject.digest if subject and self.referrers is Referrers.API else None

    def list_referrers(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...] | None:
        if self.referrers is Referrers.NONE:
            return None
        return tuple(describe_referrer(found) for found in self._documents(repository) if found.subject and found.subject.digest == digest)

    def _blob(self, repository: Repository, descriptor: Descriptor) -> bytes:
        if (repository, descriptor.digest) not in self.blobs:
            raise BlobAbsent("no such blob", place=Place(f"{repository}@{descriptor.digest}"))
        return self.blobs[repository, descriptor.digest]

    def _documents(self, repository: Repository):
        for (where, digest), (raw, _) in self.manifests.items():
            if where == repository:
                yield parse_manifest(raw, digest, Place(str(digest)))
