"""An image that is named by its own digest and found through the index that names it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.errors import MalformedReference, NotInIndex, Place, TooDeep, TooMany
from sigkit.oci.manifest import INDEX_TYPES, Index
from sigkit.oci.resolve import Pinned, check_child, fetch_child, resolve, resolve_and_pin

if TYPE_CHECKING:
    from sigkit.digest import Digest
    from sigkit.oci.descriptor import Descriptor, Platform
    from sigkit.oci.manifest import Manifest
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import Registry


def pin_child(registry: Registry, child: Reference, index: Reference, platform: Platform) -> Pinned:
    """Look the image `child` up through `index`, and return it with every digest from the index down to it.

    Args:
        registry: what is asked.
        child: has a digest.
        index: of the same repository.
        platform: of what is named by the digest, if that is an index; else written down.

    Raises:
        MalformedReference: (REF) the child has no digest, or the index is in another repository; the place is the operator's.
        NotInIndex: (REF) the index does not name it, nor does an index within.
        SizeMismatch: (DIGEST), AmbiguousDocument: (PARSE) the image, or an index on the way, has not the size or type that is named.
        TooDeep, TooMany: (LIMIT) more indexes inside each other than are followed, or than are read.
        SigkitError: as `resolve_and_pin`.
    """
    if child.digest is None:
        place = Place.operator(child.text)
        raise MalformedReference(
            "an image found through an index is named by its digest",
            place=place,
            expected=f"{child.repository}@sha256:…",
            remedy=f"add the digest: `sigkit tree {child.text}` prints it",
        )
    if child.repository != index.repository:
        place = Place.operator(index.text)
        raise MalformedReference("the index is in another repository", place=place, expected=str(child.repository))
    chain, named = _find(registry, index, child.digest)
    own = resolve_and_pin(registry, child, platform)
    found = own.manifest if own.manifest_digest == child.digest else resolve(registry, child).document
    check_child(found, named, Place(child.text))
    return Pinned(child, (*chain, *own.chain[1:]), platform, own.manifest, own.built_for or named.platform)


def _find(registry: Registry, index: Reference, wanted: Digest) -> tuple[tuple[Digest, ...], Descriptor]:
    """Return the digests from the index to what is wanted, and how it is named there; the shortest way first."""
    top = resolve(registry, index)
    waiting: deque[tuple[Manifest | Index, tuple[Digest, ...]]] = deque([(top.document, (top.digest,))])
    seen = {top.digest}
    while waiting:
        document, chain = waiting.popleft()
        if not isinstance(document, Index):
            continue
        if len(chain) > limits.INDEX_DEPTH:
            raise TooDeep(f"more than {limits.INDEX_DEPTH} indexes inside each other", place=Place(index.text))
        for entry in document.manifests:
            if entry.digest == wanted:
                return (*chain, wanted), entry
        for entry in document.manifests:
            if entry.media_type not in INDEX_TYPES or entry.digest in seen:
                continue
            seen.add(entry.digest)
            if len(seen) > limits.INDEXES_READ:
                raise TooMany(f"more than {limits.INDEXES_READ} indexes in one", place=Place(index.text))
            waiting.append((fetch_child(registry, index.repository, entry), (*chain, entry.digest)))
    raise NotInIndex("the index does not name this image", place=Place(index.text), expected=str(wanted), got=str(top.digest))
