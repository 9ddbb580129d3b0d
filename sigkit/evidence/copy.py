"""Copying an image with everything attached to it.

Order: blobs, then the manifests that name them, children before their index, the image before its evidence; the tag last. So nothing that
can be found in the target ever names something that is not there yet, and a copy that was cut is finished by running it again.

Each document and blob is verified on the way by its digest; whether anybody signed it is not asked here.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import AbsentReference, Place, TooDeep
from sigkit.evidence.attach import push_referrer
from sigkit.oci.manifest import Index, Manifest, describe_referrer, parse_manifest
from sigkit.oci.referrers import fallback_tag, read_fallback_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.oci.descriptor import Descriptor
    from sigkit.oci.reference import Repository
    from sigkit.oci.registry import Registry

IN_MEMORY_BYTES = 8 << 20  # a larger blob goes by a file
OLDER_SUFFIXES = (".sig", ".att", ".sbom")  # cosign's tags beside the digest's


class Side(Data):
    """One end of a copy: a registry, or a layout that reads like one, and the repository in it."""

    registry: Registry
    repository: Repository


class Copied(Data):
    """What a copy stored: the digests of the image's documents, and of those attached to them."""

    documents: tuple[Digest, ...]
    attached: tuple[Digest, ...]


def _untold(blob: Digest, done_bytes: int, total_bytes: int) -> None:
    """Tell nobody how far a copy is."""


def copy_image(source: Side, top: Digest, target: Side, tag: str | None, advance: Callable[[Digest, int, int], None] = _untold) -> Copied:
    """Copy the manifest or index `top`, all that it names, and all that is attached to any of it.

    Args:
        source: where it is.
        top: what to copy; a tag was resolved before.
        target: where it goes.
        tag: the name that it gets there at the end; None leaves it without one.
        advance: told of each blob how many bytes are done, of how many.

    Raises:
        AbsentReference: (REF) the source names something that it does not have.
        TooDeep: (LIMIT) more levels than are followed.
        DigestError, NetError, UnavailError: as the registries raise them.
    """
    copy = _Copy(source, target, advance)
    document = copy.document(top, depth=1)
    images = tuple(copy.done)
    for digest in images:
        copy.attached_to(digest, depth=1)
    if tag is not None:
        target.registry.push_manifest(target.repository, tag, document.raw, document.media_type)
    return Copied(images, tuple(digest for digest in copy.done if digest not in images))


@dataclass(slots=True)
class _Copy:
    source: Side
    target: Side
    advance: Callable[[Digest, int, int], None]
    done: dict[Digest, None] = field(default_factory=dict)  # an ordered set

    def document(self, digest: Digest, depth: int) -> Manifest | Index:
        document = self._fetch(digest, depth)
        self._parts_of(document, depth)
        self.target.registry.push_manifest(self.target.repository, digest, document.raw, document.media_type)
        self.done[digest] = None
        return document

    def attached_to(self, subject: Digest, depth: int) -> None:
        """Copy what names `subject`, what names that in turn, and what cosign's older tags hold about it."""
        registry, repository = self.source.registry, self.source.repository
        fallback = read_fallback_index(registry, repository, subject)
        listed = (*(registry.list_referrers(repository, subject) or ()), *(fallback.manifests if fallback else ()))
        for digest in dict.fromkeys(item.digest for item in listed):
            if digest in self.done:
                continue
            document = self._fetch(digest, depth)
            if document.subject is None or document.subject.digest != subject:
                continue  # a list is a hint
            self._parts_of(document, depth)
            push_referrer(self.target.registry, self.target.repository, subject, describe_referrer(document), document.raw)
            self.done[digest] = None
            self.attached_to(digest, depth + 1)
        for suffix in OLDER_SUFFIXES:
            self._older(f"{fallback_tag(subject)}{suffix}")

    def _older(self, tag: str) -> None:
        raw = self.source.registry.fetch_manifest(self.source.repository, tag)
        if raw is None:
            return
        digest = Digest.of(raw)
        document = self.document(digest, depth=1)
        self.target.registry.push_manifest(self.target.repository, tag, document.raw, document.media_type)

    def _fetch(self, digest: Digest, depth: int) -> Manifest | Index:
        place = Place(f"{self.source.repository}@{digest}")
        if depth > limits.INDEX_DEPTH:
            raise TooDeep(f"more than {limits.INDEX_DEPTH} levels", place=place)
        raw = self.source.registry.fetch_manifest(self.source.repository, digest)
        if raw is None:
            raise AbsentReference("the source does not have it", place=place)
        return parse_manifest(raw, digest, place)

    def _parts_of(self, document: Manifest | Index, depth: int) -> None:
        if isinstance(document, Index):
            for child in document.manifests:
                if child.digest not in self.done:
                    self.document(child.digest, depth + 1)
            return
        for blob in dict.fromkeys((document.config, *document.layers)):
            self._blob(blob)

    def _blob(self, blob: Descriptor) -> None:
        if not self.target.registry.has_blob(self.target.repository, blob.digest):
            self.advance(blob.digest, 0, blob.size)
            self._move(blob)
        self.advance(blob.digest, blob.size, blob.size)

    def _move(self, blob: Descriptor) -> None:
        source, target = self.source, self.target
        if blob.size <= IN_MEMORY_BYTES:
            raw = source.registry.fetch_blob(source.repository, blob, most_bytes=IN_MEMORY_BYTES)
            target.registry.push_blob(target.repository, blob.digest, raw)
            return
        with tempfile.NamedTemporaryFile(prefix="sigkit-copy-") as file:
            with source.registry.open_blob(source.repository, blob) as reader:
                for chunk in reader:
                    file.write(chunk)
                    self.advance(blob.digest, file.tell() // 2, blob.size)  # the other half is done when it has been sent
            file.flush()
            target.registry.push_blob(target.repository, blob.digest, Path(file.name))
