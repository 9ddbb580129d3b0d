"""The registry as the rest of sigkit sees it, a port, and the client that implements it over the network.

What the registry says about content is a hint: bytes asked for by digest are hashed here, and the digest header of an answer is not read.
"Not there" is None, "could not ask" is an error, and the two are never mixed up: a list that cannot be read whole is not an empty list.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from sigkit import limits, strict
from sigkit.digest import Digest, check_digest, parse_digest
from sigkit.errors import ManifestRefused, SigkitError, TooMany
from sigkit.net.retry import ATTEMPTS
from sigkit.net.session import Redirects
from sigkit.oci import blobs
from sigkit.oci.descriptor import Descriptor, parse_descriptor
from sigkit.oci.exchange import Access, Exchange, RegistryOptions, Request, failed, parse_error, unusable
from sigkit.oci.manifest import ACCEPTED_TYPES, OCI_INDEX
from sigkit.oci.referrers import is_fallback_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sigkit.digest import VerifyingReader
    from sigkit.net.address import Deadline
    from sigkit.net.session import Reply
    from sigkit.net.url import Url
    from sigkit.oci.reference import Repository

# docker-registry answers 404, as if nothing were there, when the type that it has is not named word for word.
_ACCEPT: Final = (("Accept", ", ".join(ACCEPTED_TYPES)),)
_NEXT: Final = r"(?i)<([^<>]*)>\s*;[^,]*\brel\s*=\s*\"?next\"?"


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

    def check_push(self, repository: Repository) -> None:
        """Raise unless something may be stored there; nothing is."""
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


class RegistryClient:
    """A `Registry` over the network. Safe to use from several threads; close it when done."""

    def __init__(self, options: RegistryOptions, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the user's options, and a way to wait between attempts."""
        self._exchange = Exchange(options, sleep=sleep)

    def fetch_manifest(self, repository: Repository, what: str | Digest) -> bytes | None:
        """Return the manifest or index under a tag or digest, or None when the registry says 404.

        Raises:
            TooLarge: (LIMIT) it is larger than a manifest may be; nothing was parsed.
            DigestMismatch: (DIGEST) the bytes are not those that `what` names.
            AccessDenied, ServerFailed, Unreachable, TimedOut: (UNAVAIL) the registry does not say.
        """
        url = self._exchange.url(repository, f"manifests/{what}")
        request = Request("GET", repository, url, self._exchange.deadline(), headers=_ACCEPT, redirects=Redirects.FOLLOW)
        reply, raw = self._exchange.fetch(request, limits.MANIFEST_BYTES)
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise failed(reply, raw, "the manifest cannot be fetched")
        return check_digest(raw, what, url.place()) if isinstance(what, Digest) else raw

    def fetch_blob(self, repository: Repository, descriptor: Descriptor, *, most_bytes: int) -> bytes:
        """Return the whole blob, verified; see `blobs.fetch_blob`."""
        return blobs.fetch_blob(self._exchange, repository, descriptor, most_bytes=most_bytes)

    def open_blob(self, repository: Repository, descriptor: Descriptor) -> AbstractContextManager[VerifyingReader]:
        """Give the blob as a stream that ends only if size and digest fit; see `blobs.open_blob`."""
        return blobs.open_blob(self._exchange, repository, descriptor)

    def has_blob(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether the registry says that it has this blob."""
        return blobs.has_blob(self._exchange, repository, digest)

    def check_push(self, repository: Repository) -> None:
        """Raise unless something may be stored there; see `blobs.check_push`."""
        blobs.check_push(self._exchange, repository)

    def push_blob(self, repository: Repository, digest: Digest, source: bytes | Path) -> None:
        """Store a blob; see `blobs.push_blob`."""
        blobs.push_blob(self._exchange, repository, digest, source)

    def push_manifest(self, repository: Repository, what: str | Digest, raw: bytes, media_type: str) -> Digest | None:
        """Store a manifest, and return the subject whose referrers list the registry says it updated.

        Raises:
            ManifestRefused: (UNAVAIL) the registry does not take it, or not under this tag.
            ServerFailed, Unreachable, TimedOut: (UNAVAIL) it is not known to be stored.
        """
        url = self._exchange.url(repository, f"manifests/{what}")
        if isinstance(what, Digest):
            check_digest(raw, what, url.place())
        request = Request(
            "PUT",
            repository,
            url,
            self._exchange.deadline(len(raw)),
            access=Access.PUSH,
            headers=(("Content-Type", media_type),),
            body=raw,
            # A list that several write must not be sent again when it has become old: `referrers` decides about that.
            attempts=1 if isinstance(what, str) and is_fallback_tag(what) else ATTEMPTS,
        )
        reply, body = self._exchange.fetch(request, limits.MANIFEST_BYTES)
        if reply.status in {200, 201, 202, 204}:
            subject = reply.headers.find("oci-subject")
            return parse_digest(subject, url.place()) if subject else None
        if 400 <= reply.status < 500 and reply.status != 429:
            said = reply.cleaned(str(parse_error(body)))
            raise ManifestRefused(f"the registry does not take the manifest: {said}", place=url.place(), got=str(reply.status))
        raise failed(reply, body, "the manifest was not stored")

    def list_referrers(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...] | None:
        """Return all referrers, of all pages, or None when the registry has no referrers API.

        Raises:
            TooMany: (LIMIT) more pages or referrers than are followed, or pages in a circle.
            OtherHostRefused: (NET) a page is said to be on another host.
            AnswerUnusable, AccessDenied, ServerFailed, Unreachable, TimedOut: (UNAVAIL) the list cannot be read whole.

        Source: OCI distribution-spec 1.1 "Listing Referrers".
        """
        url = self._exchange.url(repository, f"referrers/{digest}")
        # GHCR has no such API and answers 303 to a page for people (github.com/-/v2/packages/…).
        deadline = self._exchange.deadline()
        first = self._get(repository, url, deadline, Redirects.RETURN)
        if first[0].status in {404, 303}:
            return None
        if 300 <= first[0].status < 400:
            first = self._get(repository, url, deadline)
        found: list[Descriptor] = []
        for reply, raw in self._pages(repository, first, deadline, limits.REFERRER_PAGES):
            found += _parse_referrers(reply, raw)
            if len(found) > limits.REFERRERS:
                raise TooMany(f"more than {limits.REFERRERS} referrers", place=url.place())
        return tuple(found)

    def close(self) -> None:
        """Close all connections."""
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, repository: Repository, url: Url, deadline: Deadline, redirects: Redirects = Redirects.FOLLOW) -> tuple[Reply, bytes]:
        request = Request("GET", repository, url, deadline, redirects=redirects)
        return self._exchange.fetch(request, limits.MANIFEST_BYTES)

    def _pages(self, repository: Repository, first: tuple[Reply, bytes], deadline: Deadline, most: int) -> Iterator[tuple[Reply, bytes]]:
        """Give each page of a list. A page that is not 200 ends in an error, so nobody takes a part for the whole."""
        reply, raw = first
        seen = set()
        while True:
            if reply.status != 200:
                raise failed(reply, raw, "the list cannot be read whole")
            yield reply, raw
            seen.add(reply.url)
            following = _next_page(reply)
            if following is None:
                return
            if following in seen or len(seen) >= most:
                raise TooMany(f"the list goes in a circle, or has more than {most} pages", place=reply.url.place(), got=following.shown)
            reply, raw = self._get(repository, following, deadline)


@contextlib.contextmanager
def open_registry(options: RegistryOptions) -> Iterator[RegistryClient]:
    """Give a client for all registries, and close its connections at the end."""
    with RegistryClient(options) as client:
        yield client


def _next_page(reply: Reply) -> Url | None:
    for link in reply.headers.all("link"):
        if found := re.search(_NEXT, link):
            return reply.url.join_own(found[1], "the next page")
    return None


def _parse_referrers(reply: Reply, raw: bytes) -> tuple[Descriptor, ...]:
    media_type = (reply.headers.find("content-type") or "").partition(";")[0].strip().lower()
    if media_type != OCI_INDEX:
        raise unusable(reply, OCI_INDEX, media_type or "no Content-Type")
    try:
        manifests = strict.parse_json(raw, most_bytes=limits.MANIFEST_BYTES, place=reply.url.place()).object()
        listed = strict.Cursor(manifests.get("manifests"), "$.manifests", reply.url.place())
        # Go writes an empty list as null.
        items = () if listed.value is None and "manifests" in manifests else listed.items(limits.REFERRERS)
        return tuple(parse_descriptor(item) for item in items)
    except TooMany:
        raise
    except SigkitError as err:
        raise unusable(reply, "an index of referrers", err.problem) from err
