"""The registry as the rest of sigkit sees it: a port.

Every method takes a `Repository` and a digest; the tag is used by `fetch_manifest` for resolving, and by `push_manifest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sigkit.digest import Digest, VerifyingReader
    from sigkit.oci.descriptor import Descriptor
    from sigkit.oci.reference import Repository


class Registry(Protocol):
    """Where manifests, blobs and referrers of repositories are kept."""

    def fetch_manifest(self, repository: Repository, what: str | Digest) -> bytes | None:
        """Return the manifest or index under a tag or digest, or None when the registry says that it has none.

        For a digest the bytes were hashed again and are those. For a tag nobody vouches for them: the caller names them by hashing.
        """
        ...

    def fetch_blob(self, repository: Repository, descriptor: Descriptor, *, most_bytes: int) -> bytes:
        """Return the whole blob, verified; refused before it is read when it has more than `most_bytes` bytes."""
        ...

    def open_blob(self, repository: Repository, descriptor: Descriptor) -> AbstractContextManager[VerifyingReader]:
        """Give the blob as a stream that ends only if size and digest fit."""
        ...

    def has_blob(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether the registry says that it has this blob."""
        ...

    def push_blob(self, repository: Repository, digest: Digest, source: bytes | Path) -> None:
        """Store a blob; storing it again changes nothing."""
        ...

    def push_manifest(self, repository: Repository, what: str | Digest, raw: bytes, media_type: str) -> Digest | None:
        """Store a manifest under a tag or digest, and return the subject whose referrers list the registry says it updated."""
        ...

    def list_referrers(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...] | None:
        """Return all referrers of `digest`, of all pages, or None when the registry has no referrers API."""
        ...

    def list_tags(self, repository: Repository) -> tuple[str, ...]:
        """Return all tags of the repository."""
        ...
