"""From a reference to digests, once: the only place in sigkit where a tag is looked up.

Everything later takes what is returned here. A tag that moves afterwards, or a registry that answers differently the second time, cannot
bring other bytes in: each document is hashed again, each child must have the digest and the size that its parent names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.data import Data
from sigkit.digest import Digest, check_digest
from sigkit.errors import AbsentReference, AmbiguousDocument, NoSuchPlatform, NotAnImage, Place, SizeMismatch, TooDeep
from sigkit.oci.manifest import Index, Manifest, parse_manifest

if TYPE_CHECKING:
    from sigkit.oci.descriptor import Descriptor, Platform
    from sigkit.oci.reference import Reference, Repository
    from sigkit.oci.registry import Registry


class Resolved(Data):
    """What a reference named when it was looked up: an index is signed as an index."""

    reference: Reference
    digest: Digest
    document: Manifest | Index

    @property
    def repository(self) -> Repository:
        """The repository that was asked."""
        return self.reference.repository


class Pinned(Data):
    """One image for one platform: all digests from the top document down to the image's manifest.

    `platform` is what was asked for, `built_for` what the index or the configuration says; None where neither was read.
    """

    reference: Reference
    chain: tuple[Digest, ...]
    platform: Platform
    manifest: Manifest
    built_for: Platform | None = None

    @property
    def repository(self) -> Repository:
        """The repository that was asked."""
        return self.reference.repository

    @property
    def top(self) -> Digest:
        """The digest that the reference named: of an index, or of the manifest."""
        return self.chain[0]

    @property
    def manifest_digest(self) -> Digest:
        """The digest of the image's manifest."""
        return self.chain[-1]


def resolve(registry: Registry, reference: Reference) -> Resolved:
    """Look `reference` up, and return the digest and document that it names.

    With a digest in the reference its tag is never asked for.

    Raises:
        AbsentReference: (REF) the registry has no such tag or digest.
        DigestMismatch: (DIGEST) the bytes are not those that the digest names.
        ParseError, LimitError, DigestError: the document is not one that sigkit reads.
    """
    place = Place(str(reference))
    if reference.digest is None:
        tag = reference.tag or ""
        raw = registry.fetch_manifest(reference.repository, tag)
        if raw is None:
            raise AbsentReference(f"no tag {tag!r} in {reference.repository}", place=place, remedy="check the spelling, or push it first")
        digest = Digest.of(raw)  # the server's digest header proves nothing
    else:
        digest = reference.digest
        raw = _fetch(registry, reference.repository, digest, place)
    return Resolved(reference, digest, parse_manifest(raw, digest, place))


def resolve_and_pin(registry: Registry, reference: Reference, platform: Platform) -> Pinned:
    """Look `reference` up, and follow its indexes down to the image for `platform`.

    Whether the image was built for `platform` is known for certain only from its configuration (`image.check_platform`).

    Raises:
        NoSuchPlatform: (REF) an index offers nothing that runs there.
        NotAnImage: (REF) it is an artifact.
        SizeMismatch, DigestMismatch: (DIGEST) a child is not what its parent names.
        TooDeep: (LIMIT) more indexes inside each other than are followed.
        AbsentReference, ParseError, LimitError: as `resolve`.
    """
    resolved = resolve(registry, reference)
    chain = [resolved.digest]
    document = resolved.document
    place = Place(str(reference))
    built_for: Platform | None = None
    while isinstance(document, Index):
        if len(chain) > limits.INDEX_DEPTH:
            raise TooDeep(f"more than {limits.INDEX_DEPTH} indexes inside each other", place=place)
        try:
            child = document.select(platform)
        except NoSuchPlatform as err:
            raise err.within(place) from err
        document = fetch_child(registry, reference.repository, child)
        chain.append(child.digest)
        built_for = child.platform
    return Pinned(reference, tuple(chain), platform, _expect_image(document, place), built_for)


def check_built_for(registry: Registry, pinned: Pinned) -> Pinned:
    """Read from the image's configuration what it was built for, and prove that this runs on the platform asked for.

    Raises:
        NoSuchPlatform: (REF) it does not.
        SigkitError: the configuration cannot be read, or is malformed.
    """
    from sigkit.oci.image import check_platform, parse_image_config

    config, place = pinned.manifest.config, Place(str(pinned.reference))
    raw = registry.fetch_blob(pinned.repository, config, most_bytes=limits.CONFIG_BYTES)
    parsed = parse_image_config(raw, Place(f"{pinned.repository}@{config.digest}"))
    check_platform(parsed, pinned.platform, place)
    return Pinned(pinned.reference, pinned.chain, pinned.platform, pinned.manifest, parsed.platform)


def fetch_child(registry: Registry, repository: Repository, child: Descriptor) -> Manifest | Index:
    """Fetch a document that an index names, and prove that it is what is named there.

    Raises:
        AbsentReference: (REF) it is not there.
        DigestMismatch, SizeMismatch: (DIGEST) other bytes.
        AmbiguousDocument: (PARSE) another type.
        ParseError, LimitError: as `resolve`.
    """
    place = Place(f"{repository}@{child.digest}")
    document = parse_manifest(_fetch(registry, repository, child.digest, place), child.digest, place)
    check_child(document, child, place)
    return document


def check_child(document: Manifest | Index, child: Descriptor, place: Place) -> None:
    """Prove that a document with the digest that an index names has the size and the type that are named with it.

    Raises:
        SizeMismatch: (DIGEST), AmbiguousDocument: (PARSE).
    """
    size = len(document.raw)
    if size != child.size:
        raise SizeMismatch("not the size that the index names", place=place, expected=f"{child.size} bytes", got=f"{size} bytes")
    if document.media_type != child.media_type:
        raise AmbiguousDocument("the index names another type", place=place, expected=child.media_type, got=document.media_type)


def _fetch(registry: Registry, repository: Repository, digest: Digest, place: Place) -> bytes:
    raw = registry.fetch_manifest(repository, digest)
    if raw is None:
        raise AbsentReference(f"no manifest {digest} in {repository}", place=place, remedy="check the digest and the repository")
    return check_digest(raw, digest, place)


def _expect_image(manifest: Manifest, place: Place) -> Manifest:
    if not manifest.is_image:
        got = manifest.artifact_type or manifest.config.media_type
        raise NotAnImage("an artifact, not a container image", place=place, expected="an image configuration", got=got)
    return manifest
