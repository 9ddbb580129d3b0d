"""Find all evidence that a registry holds about a digest.

Four lists are read and united by digest: the referrers API, the index under the referrers tag, and cosign's older `.sig` and `.att` tags.
A registry may have been upgraded, so the API does not replace the tags, and one form never hides another.

Lists are hints: every referrer is opened whatever its descriptor says (cosign 3 writes useless types there), hashed again, and counts only
if it names the digest as its subject. But a list that cannot be read whole is an error: the part that is missing could change the answer.

A referrer holds one bundle, or signatures of the older form, as cosign stores them with `--registry-referrers-mode oci-1-1`.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard

from sigkit.data import Data
from sigkit.digest import Digest, check_digest
from sigkit.errors import (
    AbsentReference,
    BlobAbsent,
    DigestError,
    EvidenceUnlistable,
    LimitError,
    ParseError,
    Place,
    RefError,
    SigkitError,
    TooLarge,
    TooMany,
    UnsupportedEvidence,
)
from sigkit.evidence import simple_signing
from sigkit.evidence.bundle import BUNDLE_TYPE_PREFIX
from sigkit.evidence.envelope import LAYER_TYPE as ENVELOPE_LAYER_TYPE
from sigkit.evidence.form import LAYER_PART, Evidence, Form, Found, evidence_of_bundle
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import Index, Manifest, parse_manifest
from sigkit.oci.referrers import fallback_tag, read_fallback_index

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from sigkit.limits import Limits
    from sigkit.oci.reference import Repository
    from sigkit.oci.registry import Registry


class _Older(NamedTuple):
    """One of cosign's tags beside the digest's: its layers are evidence of one form."""

    suffix: str
    layer_type: str
    form: Form
    via: str


_OLDER: Final = (
    _Older(".sig", simple_signing.LAYER_TYPE, Form.SIMPLE_SIGNING, "sig-tag"),
    _Older(".att", ENVELOPE_LAYER_TYPE, Form.ENVELOPE, "att-tag"),
)
_COSIGN_ANNOTATIONS: Final = ("dev.cosignproject.cosign/", "dev.sigstore.cosign/")
# Of many referrers some are fetched ahead of the one that is read: most of their time is the way to the registry.
_MANY: Final = 4
_AT_A_TIME: Final = 4
_AHEAD: Final = 8
_SMALL_BYTES: Final = 64 << 10  # a larger bundle is fetched in its turn, so that what is ahead stays small
# Faults of one item; a fault of the network or the registry ends the collection instead.
_UNREADABLE: Final = (ParseError, LimitError, DigestError, RefError, BlobAbsent)


class Unread(Data):
    """Something that is listed as a referrer and could not be read; `error` says why.

    It may have been evidence. It never turns a deny into an allow, but it makes "refused" into "could not check".
    """

    place: Place
    error: SigkitError


class Collected(Data):
    """All evidence about a digest; notes on what was passed over as something else; what could not be read."""

    evidence: tuple[Evidence, ...]
    notes: tuple[str, ...] = ()
    unread: tuple[Unread, ...] = ()


def collect(registry: Registry, repository: Repository, digest: Digest, limits: Limits) -> Collected:
    """Return all evidence that `repository` holds about `digest`; the same evidence comes in the same order.

    Raises:
        EvidenceUnlistable: (UNAVAIL) a list could not be read whole, or there is more than is examined.
        NetError, UnavailError: the registry failed in between; trying again may help.
    """
    collection = _Collection(registry, repository, digest, limits)
    try:
        listed = collection.list_referrers()
        older = [(kind, manifest) for kind in _OLDER if (manifest := collection.find_older(kind))]
    except SigkitError as err:
        raise _unlistable(err) from err
    collection.check_count(len(listed) + sum(len(manifest.layers) for _, manifest in older))
    collection.read_referrers(sorted(listed.items(), key=lambda item: str(item[0])))
    for kind, manifest in older:
        collection.read_older(kind, manifest)
    return Collected(tuple(collection.evidence), tuple(collection.notes), tuple(collection.unread))


if TYPE_CHECKING:
    # What became of one referrer: a refusal, signatures of the older form, why it is something else, or a bundle's layer, with its bytes
    # where they are small.
    _Fetched: TypeAlias = SigkitError | Manifest | str | Descriptor | tuple[Descriptor, bytes]


class _Collection:
    """What was found so far about one digest, and how many bytes of it."""

    def __init__(self, registry: Registry, repository: Repository, digest: Digest, limits: Limits) -> None:
        self.evidence: list[Evidence] = []
        self.notes: list[str] = []
        self.unread: list[Unread] = []
        self._registry = registry
        self._repository = repository
        self._digest = digest
        self._limits = limits
        self._bytes_left = limits.evidence_bytes
        self._blobs: dict[Digest, bytes] = {}

    def place(self, digest: Digest) -> Place:
        return Place(f"{self._repository}@{digest}")

    def check_count(self, count: int) -> None:
        """Stop at more pieces than are examined: what is left could change the answer.

        Raises:
            EvidenceUnlistable: (UNAVAIL) there are.
        """
        if count > self._limits.evidence_items:
            raise _unlistable(TooMany(f"more than {self._limits.evidence_items} items", place=self.place(self._digest), got=str(count)))

    def list_referrers(self) -> dict[Digest, str]:
        """Return the digests of all referrers, and the list that named each."""
        tagged = read_fallback_index(self._registry, self._repository, self._digest)
        listed = {child.digest: "referrers-tag" for child in tagged.manifests} if tagged else {}
        referrers = self._registry.list_referrers(self._repository, self._digest)
        listed.update((child.digest, "referrers") for child in referrers or ())
        return listed

    def find_older(self, kind: _Older) -> Manifest | None:
        """Return the manifest whose layers are evidence of one of cosign's older forms."""
        tag = f"{fallback_tag(self._digest)}{kind.suffix}"
        place = Place(f"{self._repository}:{tag}")
        raw = self._registry.fetch_manifest(self._repository, tag)
        if raw is None:
            return None
        found = parse_manifest(raw, Digest.of(raw), place)
        if isinstance(found, Index):
            raise UnsupportedEvidence("the tag of older evidence names an index", place=place)
        return found

    def read_referrers(self, listed: list[tuple[Digest, str]]) -> None:
        """Open referrers, and keep what they hold, in the order in which they are listed; of many some are fetched ahead."""
        digests = [digest for digest, _ in listed]
        if len(digests) < _MANY:
            fetched: Generator[_Fetched, None, None] = (self._fetch_referrer(digest) for digest in digests)
        else:
            from sigkit.in_order import results_in_order

            fetched = results_in_order(self._fetch_referrer, digests, _AT_A_TIME, _AHEAD, lambda _: None)
        with closing(fetched):
            for (digest, via), found in zip(listed, fetched, strict=True):
                self._read_referrer(digest, via, found)
                self.check_count(len(self.evidence))

    def _fetch_referrer(self, digest: Digest) -> _Fetched:
        """Fetch one referrer, and its bundle if that is small; in any thread, so nothing is counted or kept."""
        place = self.place(digest)
        try:
            raw = self._registry.fetch_manifest(self._repository, digest)
            if raw is None:
                raise AbsentReference("a listed referrer is not there", place=place)
            document = parse_manifest(check_digest(raw, digest, place), digest, place)
            if _holds_older(document, self._digest):
                return document
            layer = _bundle_layer(document, self._digest)
            if isinstance(layer, str) or layer.size > _SMALL_BYTES:
                return layer
            return layer, self._registry.fetch_blob(self._repository, layer, most_bytes=self._limits.bundle_bytes)
        except _UNREADABLE as err:
            return err

    def _read_referrer(self, digest: Digest, via: str, found: _Fetched) -> None:
        """Keep what a referrer holds: a bundle about the digest, or signatures of the older form."""
        place = self.place(digest)
        try:
            match found:
                case SigkitError():
                    raise found
                case Manifest():
                    self.read_older(_Older("", simple_signing.LAYER_TYPE, Form.SIMPLE_SIGNING, via), found)
                    return
                case str():
                    self.notes.append(f"{place}: passed over: {found}")
                    return
                case Descriptor():
                    bundle = self._fetch_layer(found)
                case (layer, fetched):
                    bundle = self._count_layer(layer, lambda: fetched)
        except _UNREADABLE as err:
            self.unread.append(Unread(place, err))
            return
        self.evidence.append(evidence_of_bundle(bundle, Found(str(self._repository), digest, via)))

    def read_older(self, kind: _Older, manifest: Manifest) -> None:
        """Keep every layer that is evidence of that older form."""
        for number, layer in enumerate(manifest.layers):
            found = Found(str(self._repository), manifest.digest, kind.via, f"layers[{number}]")
            place = Place(f"{self._repository}@{manifest.digest}", found.inside)
            if layer.media_type != kind.layer_type:
                self.notes.append(f"{place}: passed over: a layer of type {layer.media_type}")
                continue
            try:
                signed = self._fetch_layer(layer)
            except _UNREADABLE as err:
                self.unread.append(Unread(place, err))
                continue
            parts = {name: value.encode("utf-8") for name, value in layer.annotations.items() if name.startswith(_COSIGN_ANNOTATIONS)}
            self.evidence.append(Evidence(kind.form, {**parts, LAYER_PART: signed}, found))

    def _fetch_layer(self, layer: Descriptor) -> bytes:
        return self._count_layer(layer, lambda: self._registry.fetch_blob(self._repository, layer, most_bytes=self._limits.bundle_bytes))

    def _count_layer(self, layer: Descriptor, fetch: Callable[[], bytes]) -> bytes:
        """Return a layer's bytes, and count them once.

        Raises:
            EvidenceUnlistable: (UNAVAIL) there are more than are examined.
        """
        known = self._blobs.get(layer.digest)
        if known is not None:  # several signers of one image have signed the same bytes in the older form
            return known
        if layer.size > self._bytes_left:
            raise _unlistable(TooLarge(f"more than {self._limits.evidence_bytes} bytes of evidence", place=self.place(self._digest)))
        self._bytes_left -= layer.size
        blob = fetch()
        self._blobs[layer.digest] = blob
        return blob


def _holds_older(document: Manifest | Index, digest: Digest) -> TypeGuard[Manifest]:
    if isinstance(document, Index) or document.subject is None or document.subject.digest != digest:
        return False
    return any(layer.media_type == simple_signing.LAYER_TYPE for layer in document.layers)


def _bundle_layer(document: Manifest | Index, digest: Digest) -> Descriptor | str:
    """Return the layer that holds a bundle about `digest`, or why the referrer is something else."""
    if isinstance(document, Index):
        return "an index"
    if document.subject is None or document.subject.digest != digest:
        return f"its subject is {document.subject.digest if document.subject else 'missing'}"
    if len(document.layers) != 1 or not document.layers[0].media_type.startswith(BUNDLE_TYPE_PREFIX):
        types = ", ".join(layer.media_type for layer in document.layers[:4])
        return f"no bundle, but {document.artifact_type or document.config.media_type} with layers {types or '(none)'}"
    return document.layers[0]


def _unlistable(err: SigkitError) -> EvidenceUnlistable:
    return EvidenceUnlistable(
        f"could not list all evidence: {err.problem}", place=err.place, expected=err.expected, got=err.got, remedy=err.remedy
    )
