"""All evidence about a digest is found, or the collection says that it could not find all."""

from __future__ import annotations

import json
import threading

import pytest

from sigkit import limits
from sigkit.digest import Digest, parse_digest
from sigkit.errors import (
    AbsentReference,
    BlobAbsent,
    DigestMismatch,
    EvidenceUnlistable,
    FileUnreadable,
    MalformedJson,
    Place,
    TooLarge,
    UnavailError,
)
from sigkit.evidence.collect import collect
from sigkit.evidence.form import BUNDLE_PART, LAYER_PART, SIGNATURE_PART, TIMESTAMP_PART, Form
from sigkit.limits import Limits
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, encode_index, encode_manifest
from sigkit.oci.reference import Repository
from tests.simulators.memory_registry import MemoryRegistry, Referrers

HERE = Repository("registry.example", "acme/app")
BUNDLE_LAYER = "application/vnd.dev.sigstore.bundle.v0.3+json"
ENVELOPE_LAYER = "application/vnd.dsse.envelope.v1+json"
SIMPLE_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"


class Shop(MemoryRegistry):
    """A registry with one image, to which evidence is attached by hand."""

    def __init__(self, referrers: Referrers = Referrers.API) -> None:
        super().__init__(referrers)
        self.unlisted: set[Digest] = set()
        config = Descriptor(OCI_CONFIG, Digest.of(b"config"), 6)
        self.raw = encode_manifest(config, [])
        self.image = Digest.of(self.raw)
        self.push_manifest(HERE, "v1", self.raw, OCI_MANIFEST)

    def list_referrers(self, repository: Repository, digest: Digest) -> tuple[Descriptor, ...] | None:
        listed = super().list_referrers(repository, digest)
        return None if listed is None else tuple(child for child in listed if child.digest not in self.unlisted)

    @property
    def tag(self) -> str:
        return f"sha256-{self.image.hex}"

    def blob(self, raw: bytes, media_type: str, **annotations: str) -> Descriptor:
        digest = Digest.of(raw)
        self.push_blob(HERE, digest, raw)
        return Descriptor(media_type, digest, len(raw), annotations)

    def attach(self, *layers: Descriptor, subject: Digest | None = None) -> Descriptor:
        about = Descriptor(OCI_MANIFEST, subject or self.image, len(self.raw))
        raw = encode_manifest(self.blob(b"{}", OCI_EMPTY), layers, subject=about)
        self.push_manifest(HERE, Digest.of(raw), raw, OCI_MANIFEST)
        return Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw))

    def bundle(self, raw: bytes = b'{"bundle":1}') -> Descriptor:
        return self.attach(self.blob(raw, BUNDLE_LAYER))

    def list_under_tag(self, *children: Descriptor) -> None:
        self.push_manifest(HERE, self.tag, encode_index(children), OCI_INDEX)

    def older(self, *layers: Descriptor, suffix: str = ".sig") -> None:
        raw = encode_manifest(self.blob(b"{}", OCI_CONFIG), layers)
        self.push_manifest(HERE, f"{self.tag}{suffix}", raw, OCI_MANIFEST)

    def collect(self, within: limits.Limits = limits.DEFAULT):
        return collect(self, HERE, self.image, within)


def bundles(collected) -> list[bytes]:
    return [item.parts[BUNDLE_PART] for item in collected.evidence if item.form is Form.BUNDLE]


def test_an_image_without_evidence_has_none():
    collected = Shop().collect()
    assert (collected.evidence, collected.notes, collected.unread) == ((), (), ())


def test_a_referrer_is_found_with_its_place():
    shop = Shop()
    manifest = shop.bundle()
    (found,) = shop.collect().evidence
    assert found.parts == {BUNDLE_PART: b'{"bundle":1}'}
    assert (found.found.repository, found.found.digest, found.found.via) == (str(HERE), manifest.digest, "referrers")
    assert found.place == Place(f"{HERE}@{manifest.digest}")


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(lambda d: Descriptor(d.media_type, d.digest, d.size, artifact_type=OCI_EMPTY), id="cosign's: the config's type"),
        pytest.param(lambda d: d, id="no type and no annotations"),
        pytest.param(lambda d: Descriptor(d.media_type, d.digest, d.size, artifact_type="application/spdx+json"), id="typed as an SBOM"),
    ],
)
def test_a_bundle_behind_the_tag_is_found_whatever_its_descriptor_says(listed):
    shop = Shop(Referrers.NONE)
    shop.list_under_tag(listed(shop.bundle()))
    collected = shop.collect()
    assert bundles(collected) == [b'{"bundle":1}']
    assert collected.evidence[0].found.via == "referrers-tag"


def test_api_and_tag_are_both_read_and_united_by_digest():
    shop = Shop()
    both, tag_only = shop.bundle(b"both"), shop.bundle(b"tag only")
    shop.bundle(b"api only")
    shop.unlisted.add(tag_only.digest)
    shop.list_under_tag(both, tag_only)
    assert sorted(bundles(shop.collect())) == [b"api only", b"both", b"tag only"]


def test_the_older_form_is_found_beside_bundles():
    shop = Shop()
    shop.bundle()
    signature = {"dev.cosignproject.cosign/signature": "c2ln", "dev.sigstore.cosign/bundle": "{}", "foreign": "x"}
    shop.older(shop.blob(b"signed", SIMPLE_LAYER, **signature), shop.blob(b"signed", SIMPLE_LAYER, **signature))
    collected = shop.collect()
    assert [item.form for item in collected.evidence] == [Form.BUNDLE, Form.SIMPLE_SIGNING, Form.SIMPLE_SIGNING]
    last = collected.evidence[-1]
    assert last.parts == {LAYER_PART: b"signed", SIGNATURE_PART: b"c2ln", "dev.sigstore.cosign/bundle": b"{}"}
    assert last.place.inside == "layers[1]"


def test_attestations_of_the_older_form_are_found_beside_its_signatures():
    shop = Shop()
    shop.older(shop.blob(b"signed", SIMPLE_LAYER, **{SIGNATURE_PART: "c2ln"}))
    stamped = {SIGNATURE_PART: "", TIMESTAMP_PART: "{}", "predicateType": "https://spdx.dev/Document"}
    shop.older(shop.blob(b"envelope", ENVELOPE_LAYER, **stamped), shop.blob(b"x", SIMPLE_LAYER), suffix=".att")
    collected = shop.collect()
    assert [item.form for item in collected.evidence] == [Form.SIMPLE_SIGNING, Form.ENVELOPE]
    found = collected.evidence[-1]
    assert found.parts == {LAYER_PART: b"envelope", SIGNATURE_PART: b"", TIMESTAMP_PART: b"{}"}
    assert (found.found.via, found.place.inside) == ("att-tag", "layers[0]")
    assert len(collected.notes) == 1  # a layer of another type says nothing, whatever its annotations are


def test_an_index_under_a_tag_of_older_evidence_is_could_not_check():
    shop = Shop()
    shop.push_manifest(HERE, f"{shop.tag}.att", encode_index([]), OCI_INDEX)
    with pytest.raises(EvidenceUnlistable):
        shop.collect()


def test_layers_of_both_older_tags_count_together():
    shop = Shop()
    layers = [shop.blob(b"%d" % number, SIMPLE_LAYER) for number in range(3)]
    shop.older(*layers)
    shop.older(*layers, suffix=".att")
    shop.collect(Limits(evidence_items=6))
    with pytest.raises(EvidenceUnlistable):
        shop.collect(Limits(evidence_items=5))


def test_an_annotation_cannot_take_the_place_of_the_layer():
    shop = Shop()
    shop.older(shop.blob(b"signed", SIMPLE_LAYER, **{LAYER_PART: "evil", "dev.sigstore.cosign/x": "y"}))
    assert shop.collect().evidence[0].parts[LAYER_PART] == b"signed"


def test_other_artifacts_are_passed_over_with_a_note():
    shop = Shop()
    shop.attach(shop.blob(b"{}", "application/spdx+json"))
    shop.attach()
    shop.attach(shop.blob(b"one", BUNDLE_LAYER), shop.blob(b"two", BUNDLE_LAYER))
    shop.older(shop.blob(b"x", "text/plain"))
    collected = shop.collect()
    assert (collected.evidence, collected.unread) == ((), ())
    assert len(collected.notes) == 4


def test_a_listed_manifest_about_another_digest_is_no_evidence():
    shop = Shop(Referrers.NONE)
    foreign = shop.attach(shop.blob(b"bundle", BUNDLE_LAYER), subject=Digest.of(b"another image"))
    shop.list_under_tag(foreign)
    collected = shop.collect()
    assert collected.evidence == ()
    assert str(Digest.of(b"another image")) in collected.notes[0]


def test_a_manifest_without_subject_and_an_index_are_no_evidence():
    shop = Shop(Referrers.NONE)
    index = encode_index([])
    shop.push_manifest(HERE, Digest.of(index), index, OCI_INDEX)
    shop.list_under_tag(Descriptor(OCI_MANIFEST, shop.image, len(shop.raw)), Descriptor(OCI_INDEX, Digest.of(index), len(index)))
    collected = shop.collect()
    assert collected.evidence == ()
    assert len(collected.notes) == 2


def test_a_referrer_that_is_not_there_is_unread_and_hides_no_other():
    shop = Shop(Referrers.NONE)
    shop.list_under_tag(shop.bundle(), Descriptor(OCI_MANIFEST, Digest.of(b"gone"), 4))
    collected = shop.collect()
    assert bundles(collected) == [b'{"bundle":1}']
    assert [type(item.error) for item in collected.unread] == [AbsentReference]


def test_other_bytes_than_the_digest_names_are_unread():
    shop = Shop()
    manifest = shop.bundle()
    shop.lies[str(manifest.digest)] = encode_manifest(Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2), [])
    collected = shop.collect()
    assert collected.evidence == ()
    assert [type(item.error) for item in collected.unread] == [DigestMismatch]


def test_a_bundle_that_is_gone_or_too_large_is_unread():
    shop = Shop()
    shop.attach(Descriptor(BUNDLE_LAYER, Digest.of(b"gone"), 4))
    shop.attach(shop.blob(b"x" * 50, BUNDLE_LAYER))
    collected = shop.collect(Limits(bundle_bytes=49))
    assert {type(item.error) for item in collected.unread} == {BlobAbsent, TooLarge}


def test_a_malformed_referrer_is_unread():
    shop = Shop(Referrers.NONE)
    shop.manifests[HERE, Digest.of(b"{")] = (b"{", OCI_MANIFEST)
    shop.list_under_tag(Descriptor(OCI_MANIFEST, Digest.of(b"{"), 1))
    assert [type(item.error) for item in shop.collect().unread] == [MalformedJson]


def test_a_list_that_fails_is_could_not_check_and_never_unsigned():
    class Failing(Shop):
        def list_referrers(self, *_):
            raise FileUnreadable("page 2: status 500")

    with pytest.raises(EvidenceUnlistable) as caught:
        Failing().collect()
    assert caught.value.status() == 3
    assert "page 2" in caught.value.problem


@pytest.mark.parametrize("suffix", ["", ".sig"])
@pytest.mark.parametrize("raw", [b"{", b"[]", json.dumps({"schemaVersion": 2, "layers": [], "manifests": []}).encode()])
def test_a_tag_that_cannot_be_read_is_could_not_check(suffix, raw):
    shop = Shop()
    shop.lies[shop.tag + suffix] = raw
    with pytest.raises(EvidenceUnlistable) as caught:
        shop.collect()
    assert caught.value.place.source == f"{HERE}:{shop.tag}{suffix}"


def test_a_tag_of_the_other_kind_is_could_not_check():
    shop = Shop()
    shop.lies[shop.tag] = shop.raw
    with pytest.raises(EvidenceUnlistable):
        shop.collect()
    shop = Shop()
    shop.lies[f"{shop.tag}.sig"] = encode_index([])
    with pytest.raises(EvidenceUnlistable):
        shop.collect()


def test_more_items_than_are_examined_are_could_not_check():
    shop = Shop()
    for number in range(3):
        shop.bundle(b"%d" % number)
    shop.older(shop.blob(b"signed", SIMPLE_LAYER))
    assert len(shop.collect(Limits(evidence_items=4)).evidence) == 4
    with pytest.raises(EvidenceUnlistable):
        shop.collect(Limits(evidence_items=3))


def test_more_bytes_than_are_held_are_could_not_check():
    shop = Shop()
    shop.bundle(b"x" * 60)
    shop.bundle(b"y" * 60)
    assert len(shop.collect(Limits(evidence_bytes=120)).evidence) == 2
    with pytest.raises(EvidenceUnlistable):
        shop.collect(Limits(evidence_bytes=119))


def test_a_registry_that_fails_in_between_is_could_not_check():
    class Failing(Shop):
        def fetch_blob(self, *_, **__):
            raise FileUnreadable("connection reset")

    shop = Failing()
    shop.bundle()
    with pytest.raises(UnavailError):
        shop.collect()


def test_few_requests_are_made():
    shop = Shop()
    for number in range(3):
        shop.bundle(b"%d" % number)
    shop.collect()
    assert len(shop.asked) == 3 + 3  # three tags and three manifests


def test_the_same_bytes_are_fetched_once():
    class Counting(Shop):
        fetched = 0

        def fetch_blob(self, repository, descriptor, *, most_bytes):
            self.fetched += 1
            return super().fetch_blob(repository, descriptor, most_bytes=most_bytes)

    shop = Counting()
    shop.older(*(shop.blob(b"signed", SIMPLE_LAYER, **{SIGNATURE_PART: str(number)}) for number in range(5)))
    assert len(shop.collect().evidence) == 5
    assert shop.fetched == 1


@pytest.mark.parametrize(("referrers", "via"), [(Referrers.API, "referrers"), (Referrers.NONE, "referrers-tag")])
def test_a_referrer_with_signatures_of_the_older_form_is_found_whichever_list_names_it(referrers, via):
    shop = Shop(referrers)
    layers = [shop.blob(raw, SIMPLE_LAYER, **{SIGNATURE_PART: "c2ln", "foreign": "x"}) for raw in (b"one", b"two")]
    held = shop.attach(*layers, shop.blob(b"x", "x/y"))
    if referrers is Referrers.NONE:
        shop.list_under_tag(held)
    collected = shop.collect()
    assert [(item.form, item.found.via, item.found.digest) for item in collected.evidence] == [(Form.SIMPLE_SIGNING, via, held.digest)] * 2
    assert [item.place.inside for item in collected.evidence] == ["layers[0]", "layers[1]"]
    assert collected.evidence[0].parts == {LAYER_PART: b"one", SIGNATURE_PART: b"c2ln"}
    assert len(collected.notes) == 1


def test_a_referrer_of_the_older_form_about_another_digest_is_no_evidence():
    shop = Shop(Referrers.NONE)
    shop.list_under_tag(shop.attach(shop.blob(b"one", SIMPLE_LAYER), subject=Digest.of(b"another image")))
    assert shop.collect().evidence == ()


def test_signatures_inside_referrers_count_one_by_one():
    shop = Shop()
    for number in range(2):
        shop.attach(*(shop.blob(b"%d %d" % (number, layer), SIMPLE_LAYER) for layer in range(3)))
    assert len(shop.collect(Limits(evidence_items=6)).evidence) == 6
    with pytest.raises(EvidenceUnlistable):
        shop.collect(Limits(evidence_items=5))


def many(shop: Shop) -> list[Digest]:
    """Attach 24 bundles, every third of them gone, every fifth too large to be fetched ahead; return what refers, as it is read."""
    made = []
    for number in range(24):
        raw = b"%d" % number * (70_000 if number % 5 == 0 else 1)
        layer = Descriptor(BUNDLE_LAYER, Digest.of(raw), len(raw)) if number % 3 == 0 else shop.blob(raw, BUNDLE_LAYER)
        made.append(shop.attach(layer).digest)
    return sorted(made, key=str)


def test_many_referrers_come_in_their_order_whatever_comes_first():
    class Uneven(Shop):
        def fetch_manifest(self, repository, what):
            if what == referrers[2]:
                overtaken.set()
            assert what != referrers[0] or overtaken.wait(10)
            return super().fetch_manifest(repository, what)

    shop, overtaken = Uneven(), threading.Event()
    referrers = many(shop)
    collected = shop.collect()
    assert len(collected.evidence) == 16
    assert [type(item.error) for item in collected.unread] == [BlobAbsent] * 8
    for found in (collected.evidence, collected.unread):
        at = [referrers.index(parse_digest(item.place.source.partition("@")[2])) for item in found]
        assert at == sorted(at)


def test_of_many_referrers_few_are_fetched_ahead_of_the_one_that_fails():
    class Failing(Shop):
        def fetch_manifest(self, repository, what):
            if what == referrers[2]:
                raise FileUnreadable("connection reset")
            return super().fetch_manifest(repository, what)

    shop = Failing()
    referrers = many(shop)
    with pytest.raises(UnavailError):
        shop.collect()
    asked = {what for what in shop.asked if what in map(str, referrers)}
    assert len(asked) <= 2 + 8 + 4


def test_many_bytes_are_counted_as_if_each_were_fetched_in_its_turn():
    shop = Shop()
    for number in range(10):
        shop.bundle(b"%d" % number * 60)
    assert len(shop.collect(Limits(evidence_bytes=600)).evidence) == 10
    with pytest.raises(EvidenceUnlistable):
        shop.collect(Limits(evidence_bytes=599))
