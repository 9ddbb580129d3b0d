"""Manifests and indexes: OCI and Docker's schema 2.

What a document is follows from its own bytes, never from a registry's header. A document that could be read both ways is refused
(CVE-2021-41190), so is one whose `mediaType` says one thing and whose members say another.

Source: OCI image-spec 1.1, manifest.md and image-index.md; Docker distribution, manifest-v2-2.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits
from sigkit.data import NOTHING, Data
from sigkit.errors import AmbiguousDocument, NoSuchPlatform, Place, UnsupportedDocument
from sigkit.oci.descriptor import Descriptor, check_spelling, parse_descriptor, parse_media_type
from sigkit.strict import encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sigkit.digest import Digest
    from sigkit.oci.descriptor import Platform
    from sigkit.strict import Cursor, Json

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_TAR: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

MANIFEST_TYPES: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES: Final = (OCI_INDEX, DOCKER_LIST)
CONFIG_TYPES: Final = (OCI_CONFIG, DOCKER_CONFIG)
ACCEPTED_TYPES: Final = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)  # what a client asks a registry for

# Docker's builder stores attestations as children of the index; they are no images.
ATTESTATION_ANNOTATION: Final = "vnd.docker.reference.type"

_SCHEMA_1_TYPES = ("application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws")
_MEMBERS = ("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers", "blobs")


class Manifest(Data):
    """One image, or one artifact: a configuration and layers. `raw` is exactly what `digest` names."""

    raw: bytes
    digest: Digest
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = NOTHING

    def descriptor(self) -> Descriptor:
        """Return the descriptor that names this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def is_image(self) -> bool:
        """Whether its configuration is that of a container image, and so whether it can be run."""
        return self.config.media_type in CONFIG_TYPES


class Index(Data):
    """Several manifests under one name, most often one for each platform. `raw` is exactly what `digest` names."""

    raw: bytes
    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = NOTHING

    def descriptor(self) -> Descriptor:
        """Return the descriptor that names this index."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    def select(self, platform: Platform) -> Descriptor:
        """Return the child that suits `platform` best; among equals the first.

        A single child without platform is taken when no child names one: its own content says later what it is for.

        Raises:
            NoSuchPlatform: (REF) none runs there; the error lists what the index offers.

        Source: OCI image-spec 1.1 image-index.md "the first matching entry SHOULD be used".
        """
        images = tuple(child for child in self.manifests if _may_be_image(child))
        best: Descriptor | None = None
        best_fit = -1
        for child in images:
            fit = platform.fit(child.platform) if child.platform else -1
            if fit > best_fit:
                best, best_fit = child, fit
        if best:
            return best
        if len(images) == 1 and images[0].platform is None:
            return images[0]
        offered = ", ".join(str(child.platform) for child in images if child.platform)
        raise NoSuchPlatform(
            f"the image is not there for {platform}",
            place=Place(str(self.digest)),
            expected=str(platform),
            got=offered or "no platform",
            remedy="choose one that is offered with --platform" if offered else "",
        )


def describe_referrer(document: Manifest | Index) -> Descriptor:
    """Return what a list of referrers says about a document that has a subject.

    Source: OCI distribution-spec 1.1 "Listing Referrers".
    """
    of_config = document.config.media_type if isinstance(document, Manifest) else None
    plain = document.descriptor()
    return Descriptor(plain.media_type, plain.digest, plain.size, document.annotations, document.artifact_type or of_config)


def parse_manifest(raw: bytes, digest: Digest, place: Place) -> Manifest | Index:
    """Read a manifest or an index.

    Args:
        raw: the whole document.
        digest: of `raw`, which the caller has computed or checked.
        place: where `raw` came from.

    Raises:
        TooLarge, TooMany, TooDeep: (LIMIT).
        AmbiguousDocument: (PARSE) manifest and index at once, or a media type that contradicts the members.
        UnsupportedDocument: (PARSE) Docker's schema 1, OCI's withdrawn artifact manifest, or another type.
        MalformedJson, WrongShape: (PARSE) anything else that is wrong.
        MalformedDigest: (DIGEST) a digest inside.
    """
    top = parse_json(raw, most_bytes=limits.MANIFEST_BYTES, place=place)
    check_spelling(top, _MEMBERS)
    members = top.object()
    media_type_at = top.find("mediaType")
    media_type = parse_media_type(media_type_at) if media_type_at else ""
    _refuse_unsupported(top, media_type)
    like_index = "manifests" in members
    like_manifest = "layers" in members or "config" in members
    if like_index and like_manifest:
        raise AmbiguousDocument("manifest and index in one document", place=top.at(), expected="layers or manifests", got="both")
    if (like_index and media_type in MANIFEST_TYPES) or (like_manifest and media_type in INDEX_TYPES):
        shape = "manifests" if like_index else "config and layers"
        raise AmbiguousDocument("the media type contradicts the content", place=top.at(), expected=media_type, got=shape)
    top.member("schemaVersion").integer(2, 2)
    if like_index:
        return _parse_index(top, raw, digest, media_type or OCI_INDEX)
    return _parse_image_manifest(top, raw, digest, media_type or OCI_MANIFEST)


def encode_manifest(
    config: Descriptor,
    layers: Sequence[Descriptor],
    *,
    subject: Descriptor | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of an OCI manifest; the same arguments give the same bytes."""
    members: dict[str, Json] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    if artifact_type:
        members["artifactType"] = artifact_type
    members["config"] = config.encode()
    members["layers"] = [layer.encode() for layer in layers]
    _add_common(members, subject, annotations)
    return encode_json(members)


def encode_index(
    manifests: Sequence[Descriptor],
    *,
    subject: Descriptor | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of an OCI index; the same arguments give the same bytes."""
    members: dict[str, Json] = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    if artifact_type:
        members["artifactType"] = artifact_type
    members["manifests"] = [child.encode() for child in manifests]
    _add_common(members, subject, annotations)
    return encode_json(members)


def _add_common(members: dict[str, Json], subject: Descriptor | None, annotations: Mapping[str, str] | None) -> None:
    if subject:
        members["subject"] = subject.encode()
    if annotations:
        members["annotations"] = dict(annotations)


def _may_be_image(child: Descriptor) -> bool:
    if ATTESTATION_ANNOTATION in child.annotations or child.media_type not in ACCEPTED_TYPES:
        return False
    return child.platform is None or "unknown" not in {child.platform.os, child.platform.architecture}


def _refuse_unsupported(top: Cursor, media_type: str) -> None:
    members = top.object()
    if media_type in _SCHEMA_1_TYPES or members.get("schemaVersion") == 1 or "fsLayers" in members:
        raise UnsupportedDocument(
            "an image of Docker's schema 1", place=top.at(), expected="schema 2", remedy="pull and push it again with a current engine"
        )
    if "blobs" in members:
        raise UnsupportedDocument("an OCI artifact manifest, which was withdrawn", place=top.at(), expected=OCI_MANIFEST, got=media_type)
    if media_type and media_type not in ACCEPTED_TYPES:
        raise UnsupportedDocument("neither manifest nor index", place=top.at(), expected=" or ".join(ACCEPTED_TYPES), got=media_type)


def _parse_index(top: Cursor, raw: bytes, digest: Digest, media_type: str) -> Index:
    return Index(
        raw=raw,
        digest=digest,
        media_type=media_type,
        manifests=tuple(parse_descriptor(child) for child in top.member("manifests").items(limits.INDEX_MANIFESTS)),
        subject=_subject(top),
        artifact_type=_artifact_type(top),
        annotations=_annotations(top),
    )


def _parse_image_manifest(top: Cursor, raw: bytes, digest: Digest, media_type: str) -> Manifest:
    return Manifest(
        raw=raw,
        digest=digest,
        media_type=media_type,
        config=parse_descriptor(top.member("config")),
        layers=tuple(parse_descriptor(layer) for layer in top.member("layers").items(limits.MANIFEST_LAYERS)),
        subject=_subject(top),
        artifact_type=_artifact_type(top),
        annotations=_annotations(top),
    )


def _subject(top: Cursor) -> Descriptor | None:
    found = top.find("subject")
    return parse_descriptor(found) if found else None


def _artifact_type(top: Cursor) -> str | None:
    found = top.find("artifactType")
    return parse_media_type(found) if found and found.value != "" else None


def _annotations(top: Cursor) -> dict[str, str]:
    found = top.find("annotations")
    return found.texts(limits.ANNOTATIONS) if found else {}
