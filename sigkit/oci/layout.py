"""OCI image layouts: a repository as a directory, behind the same port as a registry.

`index.json` lists what can be found: each tagged document, and each that names a subject, which is how signatures stay with their
image. A layout is one repository, so the repository that is asked for makes no difference. Whatever is read by digest is hashed, as
from a registry.

What `cosign save` writes is read too. Its `index.json` lists one image, and by an annotation what a registry has under the older tags
`.sig` and `.att` beside the image's; the manifests of bundles lie among the blobs, listed nowhere.

Source: OCI image-spec 1.1, image-layout.md; sigstore/cosign pkg/oci/layout.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.digest import SIZES, Digest, VerifyingReader, check_digest
from sigkit.errors import (
    AbsentReference,
    DigestError,
    FileUnreadable,
    FileUnwritable,
    LimitError,
    ParseError,
    Place,
    SizeMismatch,
    TooLarge,
    TooMany,
    WrongShape,
)
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import Index, describe_referrer, encode_index, parse_manifest
from sigkit.oci.referrers import fallback_tag, is_fallback_tag
from sigkit.strict import encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sigkit.oci.manifest import Manifest
    from sigkit.oci.reference import Repository

VERSION: Final = "1.0.0"
TAG_ANNOTATION: Final = "org.opencontainers.image.ref.name"
_MARKER_BYTES = 4_096
_KIND: Final = "kind"  # the annotation by which cosign tells entries apart
_KINDS_OF_IMAGES: Final = ("dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex")
_KINDS_OF_EVIDENCE: Final = {".sig": "dev.cosignproject.cosign/sigs", ".att": "dev.cosignproject.cosign/atts"}
_OLDER_SUFFIXES: Final = (*_KINDS_OF_EVIDENCE, ".sbom")
_HEX: Final = frozenset("0123456789abcdef")


class Layout:
    """A layout in a directory. It implements `sigkit.oci.registry.Registry`."""

    def __init__(self, path: str) -> None:
        """Take a directory that is a layout already; `open_layout` and `create_layout` see to that."""
        self.path = path

    def find_entry(self, tag: str | None) -> Descriptor:
        """Return the descriptor of the document with that tag, or without one of the only image there is.

        Raises:
            AbsentReference: (REF) there is none, or more than one to choose from; the error lists the tags.
        """
        entries = self._index().manifests
        if tag is not None:
            found = [entry for entry in entries if entry.annotations.get(TAG_ANNOTATION) == tag]
        else:
            found = [entry for entry in entries if not _is_attached(entry) and self._subject(entry) is None]
        if len({entry.digest for entry in found}) != 1:
            problem = f"no tag {tag!r} in the layout" if tag is not None else f"the layout holds {len(found)} images"
            images = (entry for entry in entries if not _is_attached(entry))
            tags = ", ".join(sorted({entry.annotations.get(TAG_ANNOTATION, "") for entry in images} - {""}))
            raise AbsentReference(problem, place=Place(self.path), expected="one image", got=f"tags: {tags or 'none'}")
        return found[0]

    def fetch_manifest(self, repository: Repository, what: str | Digest) -> bytes | None:  # noqa: ARG002 - see above
        """Return a manifest or index by tag or digest, hashed, or None when it is not there."""
        if isinstance(what, str):
            entries = self._index().manifests
            found = next((entry for entry in entries if entry.annotations.get(TAG_ANNOTATION) == what), None) or self._saved(entries, what)
            if found is None:
                return None
            what = found.digest
        path = self._blob(what)
        if not os.path.exists(path):
            return None
        place = Place(path)
        return check_digest(durable.read(path, most_bytes=limits.MANIFEST_BYTES, place=place), what, place)

    def fetch_blob(self, repository: Repository, descriptor: Descriptor, *, most_bytes: int) -> bytes:  # noqa: ARG002 - see above
        """Return a whole blob, verified."""
        path = self._blob(descriptor.digest)
        place = Place(path)
        if descriptor.size > most_bytes:
            raise TooLarge(f"the blob has more than {most_bytes} bytes", place=place)
        data = durable.read(path, most_bytes=most_bytes, place=place)
        if len(data) != descriptor.size:
            raise SizeMismatch("not the promised size", place=place, expected=f"{descriptor.size} bytes", got=f"{len(data)} bytes")
        return check_digest(data, descriptor.digest, place)

    @contextmanager
    def open_blob(self, repository: Repository, descriptor: Descriptor) -> Iterator[VerifyingReader]:  # noqa: ARG002 - see above
        """Give a blob as a stream that ends only if size and digest fit."""
        path = self._blob(descriptor.digest)
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below; opening alone may fail this way
        except OSError as err:
            raise FileUnreadable(f"cannot read the blob: {err.strerror}", place=Place(path)) from err
        with file:
            yield VerifyingReader(file, digest=descriptor.digest, size_bytes=descriptor.size, place=Place(path))

    def has_blob(self, repository: Repository, digest: Digest) -> bool:  # noqa: ARG002 - see above
        """Tell whether there is a file of that name."""
        return os.path.exists(self._blob(digest))

    def check_push(self, repository: Repository) -> None:  # noqa: ARG002 - see above
        """Raise unless the directory of blobs is there or can be made."""
        _make_directory(os.path.join(self.path, "blobs"))

    def push_blob(self, repository: Repository, digest: Digest, source: bytes | Path) -> None:  # noqa: ARG002 - see above
        """Store a blob, if its bytes have that digest."""
        path = self._blob(digest)
        _make_directory(os.path.dirname(path))
        if isinstance(source, bytes):
            durable.write(path, check_digest(source, digest, Place(path)), point="layout.blob")
            return
        place = Place(str(source))
        try:
            file = open(source, "rb")  # noqa: SIM115 - the same
        except OSError as err:
            raise FileUnreadable(f"cannot read the blob: {err.strerror}", place=place) from err
        with file, durable.create(path, point="layout.blob") as target:
            for chunk in VerifyingReader(file, digest=digest, size_bytes=os.fstat(file.fileno()).st_size, place=place):
                target.write(chunk)

    def push_manifest(self, repository: Repository, what: str | Digest, raw: bytes, media_type: str) -> Digest | None:
        """Store a manifest under a tag or digest; list it if it has a tag or a subject."""
        digest = what if isinstance(what, Digest) else Digest.of(raw)
        document = parse_manifest(raw, digest, Place(str(digest)))
        if document.media_type != media_type:
            raise WrongShape("another media type", place=Place(str(digest)), expected=media_type, got=document.media_type)
        self.push_blob(repository, digest, raw)
        subject = document.subject.digest if document.subject else None
        if isinstance(what, str) or subject:
            self._list(document, what if isinstance(what, str) else None)
        return subject

    def list_untagged(self, digest: Digest) -> None:
        """List a document that is stored, so that it can be found though it has no tag; once."""
        entries = self._index().manifests
        if not any(entry.digest == digest for entry in entries):
            place = Place(self._blob(digest))
            raw = durable.read(place.source, most_bytes=limits.MANIFEST_BYTES, place=place)
            self._list(parse_manifest(check_digest(raw, digest, place), digest, place), None)

    def list_referrers(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...] | None:  # noqa: ARG002 - see above
        """Return the descriptors of all listed documents whose subject is `digest`; of cosign's layouts of those among the blobs too."""
        found: dict[Digest, Descriptor] = {}
        entries = self._index().manifests
        for entry in entries:
            document = self._document(entry)
            if document.subject and document.subject.digest == digest:
                found[entry.digest] = describe_referrer(document)
        if any(entry.annotations.get(_KIND) in _KINDS_OF_IMAGES for entry in entries):
            found.update((document.digest, describe_referrer(document)) for document in self._unlisted(digest))
        return tuple(found.values())

    def _blob(self, digest: Digest) -> str:
        return os.path.join(self.path, "blobs", digest.algorithm, digest.hex)

    def _index(self) -> Index:
        path = os.path.join(self.path, "index.json")
        raw = durable.read(path, most_bytes=limits.MANIFEST_BYTES, place=Place(path))
        document = parse_manifest(raw, Digest.of(raw), Place(path))
        if not isinstance(document, Index):
            raise WrongShape("not an index", place=Place(path), expected="an index", got="a manifest")
        return document

    def _document(self, entry: Descriptor) -> Manifest | Index:
        place = Place(self._blob(entry.digest))
        raw = check_digest(durable.read(place.source, most_bytes=limits.MANIFEST_BYTES, place=place), entry.digest, place)
        return parse_manifest(raw, entry.digest, place)

    def _saved(self, entries: Sequence[Descriptor], tag: str) -> Descriptor | None:
        """Return what cosign saved in the place of a tag beside the image's."""
        for suffix, kind in _KINDS_OF_EVIDENCE.items():
            tags = [f"{fallback_tag(entry.digest)}{suffix}" for entry in entries if entry.annotations.get(_KIND) in _KINDS_OF_IMAGES]
            found = [entry for entry in entries if entry.annotations.get(_KIND) == kind] if tag in tags else []
            if len(found) > 1:  # cosign saves one image a layout; the first would hide the others
                raise WrongShape("several lists of older evidence", place=Place(self.path), expected=f"one {kind}", got=str(len(found)))
            if found:
                return found[0]
        return None

    def _unlisted(self, subject: Digest) -> Iterator[Manifest | Index]:
        """Read among all blobs the documents whose subject is `subject`."""
        name = str(subject).encode("ascii")
        for digest in self._blobs():
            place = Place(self._blob(digest))
            try:
                if os.path.getsize(place.source) > limits.MANIFEST_BYTES:  # a layer
                    continue
            except OSError as err:
                raise FileUnreadable(f"cannot read the blob: {err.strerror}", place=place) from err
            raw = durable.read(place.source, most_bytes=limits.MANIFEST_BYTES, place=place)
            if name not in raw:
                continue
            check_digest(raw, digest, place)
            try:
                document = parse_manifest(raw, digest, place)
            except (ParseError, LimitError, DigestError):  # a payload or an SBOM that mentions the image
                continue
            if document.subject and document.subject.digest == subject:
                yield document

    def _blobs(self) -> list[Digest]:
        found = []
        for algorithm, size in SIZES.items():
            directory = os.path.join(self.path, "blobs", algorithm)
            if os.path.isdir(directory):
                names = os.listdir(directory)
                found += [Digest(algorithm, bytes.fromhex(name)) for name in names if len(name) == 2 * size and _HEX.issuperset(name)]
        if len(found) > limits.LAYOUT_BLOBS:
            raise TooMany(f"more than {limits.LAYOUT_BLOBS} blobs", place=Place(self.path), got=str(len(found)))
        return sorted(found, key=str)

    def _subject(self, entry: Descriptor) -> Digest | None:
        subject = self._document(entry).subject
        return subject.digest if subject else None

    def _list(self, document: Manifest | Index, tag: str | None) -> None:
        """Add a document to index.json; a tag moves."""
        named = document.descriptor()
        annotations = {TAG_ANNOTATION: tag} if tag is not None else {}
        new = Descriptor(named.media_type, named.digest, named.size, annotations, document.artifact_type)
        with durable.lock(os.path.join(self.path, ".lock")):
            before = self._index()
            kept = [entry for entry in before.manifests if not _replaces(new, entry)]
            raw = encode_index([*kept, new], annotations=before.annotations)
            durable.write(os.path.join(self.path, "index.json"), raw, point="layout.index")


def open_layout(path: str | os.PathLike[str]) -> Layout:
    """Open the layout in a directory.

    Raises:
        FileUnreadable: (UNAVAIL) there is none.
        WrongShape: (PARSE) it is of another version.
    """
    where = os.fspath(path)
    marker = os.path.join(where, "oci-layout")
    if os.path.isdir(where) and not os.path.exists(marker):
        raise FileUnreadable("not an OCI layout: the directory has no oci-layout file", place=Place(where))
    raw = durable.read(marker, most_bytes=_MARKER_BYTES, place=Place(marker))
    version = parse_json(raw, most_bytes=_MARKER_BYTES, place=Place(marker)).member("imageLayoutVersion")
    if version.text() != VERSION:
        version.fail("a layout of another version", expected=VERSION)
    return Layout(where)


def create_layout(path: str | os.PathLike[str]) -> Layout:
    """Make an empty layout in a directory, or open the one that is there.

    Raises:
        FileUnwritable: (UNAVAIL) the directory cannot be made, or holds something else.
    """
    where = os.fspath(path)
    _make_directory(where)
    found = set(os.listdir(where))
    if "oci-layout" in found:
        return open_layout(where)
    if found - {"index.json", "blobs"}:
        raise FileUnwritable("the directory holds something else", place=Place(where), expected="an empty directory or a layout")
    _make_directory(os.path.join(where, "blobs"))
    durable.write(os.path.join(where, "index.json"), encode_index([]), point="layout.index")
    # Last: the marker makes a directory a layout.
    durable.write(os.path.join(where, "oci-layout"), encode_json({"imageLayoutVersion": VERSION}), point="layout.marker")
    return Layout(where)


def _is_attached(entry: Descriptor) -> bool:
    """Tell whether an entry is a list of evidence about another one, which names no subject."""
    tag = entry.annotations.get(TAG_ANNOTATION, "")
    stem, dot, _ = tag.partition(".")
    older = dot == "" or tag.endswith(_OLDER_SUFFIXES)
    return entry.annotations.get(_KIND) in _KINDS_OF_EVIDENCE.values() or (older and is_fallback_tag(stem))


def _replaces(new: Descriptor, old: Descriptor) -> bool:
    tag = new.annotations.get(TAG_ANNOTATION)
    if tag is not None:
        return old.annotations.get(TAG_ANNOTATION) == tag
    return old.digest == new.digest and TAG_ANNOTATION not in old.annotations


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as err:
        raise FileUnwritable(f"cannot make the directory: {err.strerror}", place=Place(path)) from err
