"""An image that is named by its own digest and found through the index that names it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.errors import MalformedReference, NotInIndex, Place, SizeMismatch, TooDeep, TooMany
from sigkit.oci.manifest import INDEX_TYPES, Index
from sigkit.oci.reference import Reference
from sigkit.oci.resolve import Pinned, resolve, resolve_and_pin

if TYPE_CHECKING:
    from sigkit.digest import Digest
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.manifest import Manifest
    from sigkit.oci.registry import Registry


def pin_child(registry: Registry, child: Reference, index: Reference, platform: Platform) -> Pinned:
    """Look the image `child` up through `index`, and return it with every digest from the index down to it.

    Args:
        registry: what is asked.
        child: has a digest.
        index: of the same repository.
        platform: written down; what was asked for is the digest.

    Raises:
        MalformedReference: (REF) the child has no digest, or the index is in another repository; the place is the operator's.
        NotInIndex: (REF) the index does not name it, nor does an index within.
        SizeMismatch: (DIGEST) the image has not the size that the index names.
        TooDeep, TooMany: (LIMIT) more indexes inside each other than are followed, or than are read.
        SigkitError: as `resolve_and_pin`.
    """
    if child.digest is None:
        place = Place.operator(child.text)
        raise MalformedReference("an image found through an index is named by its digest", place=place, expected=f"{child.repository}@…")
    if child.repository != index.repository:
        place = Place.operator(index.text)
        raise MalformedReference("the index is in another repository", place=place, expected=str(child.repository))
    chain, size = _find(registry, index, child.digest)
    own = resolve_and_pin(registry, child, platform)
    if own.manifest_digest == child.digest and len(own.manifest.raw) != size:
        got = f"{len(own.manifest.raw)} bytes"
        raise SizeMismatch("not the size that the index names", place=Place(child.text), expected=f"{size} bytes", got=got)
    return Pinned(child, (*chain, *own.chain[1:]), platform, own.manifest)


def _find(registry: Registry, index: Reference, wanted: Digest) -> tuple[tuple[Digest, ...], int]:
    """Return the digests from the index to what is wanted, and the size that is named there; the shortest way first."""
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
                return (*chain, wanted), entry.size
        inner = [entry.digest for entry in document.manifests if entry.media_type in INDEX_TYPES and entry.digest not in seen]
        for digest in inner:
            seen.add(digest)
            if len(seen) > limits.INDEXES_READ:
                raise TooMany(f"more than {limits.INDEXES_READ} indexes in one", place=Place(index.text))
            # The digest is the whole reference here: nothing but it is looked up.
            found = resolve(registry, Reference(f"{index.repository}@{digest}", index.repository, None, digest))
            waiting.append((found.document, (*chain, digest)))
    raise NotInIndex("the index does not name this image", place=Place(index.text), expected=str(wanted), got=str(top.digest))
