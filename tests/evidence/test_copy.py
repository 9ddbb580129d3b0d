"""A copy has everything: the image, its children, what is attached to each; and nothing that a list only claims."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import AbsentReference, DigestMismatch, TooDeep
from sigkit.evidence import copy
from sigkit.evidence.attach import attach, push_referrer
from sigkit.evidence.collect import collect
from sigkit.evidence.copy import Side, copy_image
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, encode_index, encode_manifest
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.referrers import add_referrer, fallback_tag
from sigkit.oci.resolve import resolve, resolve_and_pin
from tests.simulators.images import AMD64, describe, push_index, small_image
from tests.simulators.memory_registry import MemoryRegistry, Referrers

HERE = Repository("registry.example", "acme/app")
THERE = Repository("mirror.example", "app")
CREATED = datetime(2026, 11, 25, tzinfo=UTC)


def signed_image(referrers: Referrers):
    registry = MemoryRegistry(referrers)
    small_image().push(registry, HERE, "v1")
    resolved = resolve(registry, parse_reference(f"{HERE}:v1"))
    attach(registry, resolved, b"bundle", PREDICATE_SIGNATURE, CREATED)
    return registry, resolved


def evidence_of(registry, repository, digest):
    return [item.parts for item in collect(registry, repository, digest, limits.DEFAULT).evidence]


@pytest.mark.parametrize("target_kind", list(Referrers))
@pytest.mark.parametrize("source_kind", list(Referrers))
def test_an_image_arrives_with_its_signature_and_its_tag(source_kind, target_kind):
    source, resolved = signed_image(source_kind)
    target = MemoryRegistry(target_kind)
    copied = copy_image(Side(source, HERE), resolved.digest, Side(target, THERE), "v2")
    assert copied.documents == (resolved.digest,)
    assert len(copied.attached) == 1
    pinned = resolve_and_pin(target, parse_reference(f"{THERE}:v2"), AMD64)
    assert pinned.manifest_digest == resolved.digest
    assert all(target.has_blob(THERE, blob.digest) for blob in (pinned.manifest.config, *pinned.manifest.layers))
    assert evidence_of(target, THERE, resolved.digest) == evidence_of(source, HERE, resolved.digest) != []


@pytest.mark.parametrize("by_file", [False, True], ids=["in memory", "by a file"])
def test_of_each_blob_is_told_how_far_it_is_and_of_one_that_is_there_only_that_it_is_whole(monkeypatch, by_file):
    monkeypatch.setattr(copy, "IN_MEMORY_BYTES", 1 if by_file else copy.IN_MEMORY_BYTES)
    source, resolved = signed_image(Referrers.API)
    target = MemoryRegistry()
    told: dict[Digest, list[tuple[int, int]]] = {}
    for _ in range(2):
        copy_image(Side(source, HERE), resolved.digest, Side(target, THERE), "v1", lambda blob, *far: told.setdefault(blob, []).append(far))
    for far in told.values():
        (size,) = {total for _, total in far}
        assert far[0] == (0, size)
        assert far[-2:] == [(size, size)] * 2
        assert (len(far) > 3) is (by_file and size > 1)
        assert far == sorted(far)


def test_an_index_arrives_with_its_children_and_the_signatures_of_each():
    source = MemoryRegistry()
    child = small_image()
    push_index(source, HERE, {AMD64: child}, "v1")
    for reference in (f"{HERE}:v1", f"{HERE}@{child.digest}"):
        attach(source, resolve(source, parse_reference(reference)), reference.encode(), PREDICATE_SIGNATURE, CREATED)
    top = resolve(source, parse_reference(f"{HERE}:v1"))
    target = MemoryRegistry()
    copy_image(Side(source, HERE), top.digest, Side(target, THERE), "v1")
    assert resolve_and_pin(target, parse_reference(f"{THERE}:v1"), AMD64).manifest_digest == child.digest
    assert evidence_of(target, THERE, top.digest)
    assert evidence_of(target, THERE, child.digest)


def test_what_is_attached_to_something_attached_arrives_too():
    source, resolved = signed_image(Referrers.API)
    (signature,) = source.list_referrers(HERE, resolved.digest)
    raw = encode_manifest(Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2), [], subject=signature, artifact_type="application/x.note")
    push_referrer(source, HERE, signature.digest, Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw)), raw)
    copied = copy_image(Side(source, HERE), resolved.digest, Side(MemoryRegistry(), THERE), "v1")
    assert len(copied.attached) == 2


def test_what_a_list_claims_and_another_subject_has_is_left_out():
    source, resolved = signed_image(Referrers.NONE)
    foreign = small_image(b"other")
    foreign.push(source, HERE)
    add_referrer(source, HERE, resolved.digest, describe(foreign.manifest))
    target = MemoryRegistry()
    copied = copy_image(Side(source, HERE), resolved.digest, Side(target, THERE), "v1")
    assert foreign.digest not in copied.attached
    assert target.fetch_manifest(THERE, foreign.digest) is None


def test_the_tag_comes_last_so_that_a_cut_copy_is_not_found_and_can_be_finished():
    source, resolved = signed_image(Referrers.API)
    layer = resolved.document.layers[0]
    good = source.blobs[HERE, layer.digest]
    source.blobs[HERE, layer.digest] = b"x" * layer.size
    target = MemoryRegistry()
    with pytest.raises(DigestMismatch):
        copy_image(Side(source, HERE), resolved.digest, Side(target, THERE), "v1")
    assert target.tags == {}
    assert target.manifests == {}
    source.blobs[HERE, layer.digest] = good
    copy_image(Side(source, HERE), resolved.digest, Side(target, THERE), "v1")
    assert target.tags[THERE, "v1"] == resolved.digest


def test_what_the_source_names_and_does_not_have_is_refused():
    source = MemoryRegistry()
    with pytest.raises(AbsentReference):
        copy_image(Side(source, HERE), Digest.of(b"nothing"), Side(MemoryRegistry(), THERE), "v1")


def test_indexes_inside_each_other_are_followed_to_a_limit():
    source = MemoryRegistry()
    child = describe(push_index(source, HERE, {AMD64: small_image()}, "v0"), OCI_INDEX)
    for _ in range(limits.INDEX_DEPTH):
        raw = encode_index([child])
        source.push_manifest(HERE, Digest.of(raw), raw, OCI_INDEX)
        child = describe(raw, OCI_INDEX)
    with pytest.raises(TooDeep):
        copy_image(Side(source, HERE), child.digest, Side(MemoryRegistry(), THERE), "v1")


def test_the_older_signatures_of_an_image_named_by_sha512_arrive_too():
    source, target = MemoryRegistry(), MemoryRegistry()
    image = small_image()
    image.push(source, HERE, "v1")
    top = Digest.of(image.manifest, "sha512")
    source.push_manifest(HERE, top, image.manifest, OCI_MANIFEST)
    older = small_image(b"signature")
    older.push(source, HERE, f"{fallback_tag(top)}.sig")
    copy_image(Side(source, HERE), top, Side(target, THERE), "v1")
    assert target.fetch_manifest(THERE, f"{fallback_tag(top)}.sig") == older.manifest
