from __future__ import annotations

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    EXIT_UNCHECKED,
    AbsentReference,
    AmbiguousDocument,
    DigestMismatch,
    NoSuchPlatform,
    NotAnImage,
    SizeMismatch,
    TooDeep,
)
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, Index, Manifest, encode_index, encode_manifest
from sigkit.oci.reference import parse_reference
from sigkit.oci.resolve import resolve, resolve_and_pin
from tests.simulators.images import AMD64, ARM64, describe, push_index, small_image
from tests.simulators.memory_registry import MemoryRegistry

REPOSITORY = parse_reference("r.x/t/app").repository


@pytest.fixture
def registry():
    return MemoryRegistry()


def reference(what: str):
    return parse_reference(f"r.x/t/app{what}")


def nested_index(registry: MemoryRegistry, levels: int, tag: str) -> Digest:
    """Store an image below `levels` indexes."""
    image = small_image()
    image.push(registry, REPOSITORY)
    child = describe(image.manifest, platform=AMD64)
    for level in range(levels):
        raw = encode_index([child], annotations={"level": str(level)})
        child = describe(raw, OCI_INDEX, AMD64)
        registry.push_manifest(REPOSITORY, child.digest, raw, OCI_INDEX)
    registry.tags[REPOSITORY, tag] = child.digest
    return image.digest


def test_tag_becomes_the_digest_of_the_bytes_that_came(registry):
    digest = small_image().push(registry, REPOSITORY, "v1")
    found = resolve(registry, reference(":v1"))
    assert (found.digest, found.repository) == (digest, REPOSITORY)
    assert isinstance(found.document, Manifest)


def test_index_is_resolved_as_an_index(registry):
    raw = push_index(registry, REPOSITORY, {AMD64: small_image()}, "v1")
    found = resolve(registry, reference(":v1"))
    assert found.digest == Digest.of(raw)
    assert isinstance(found.document, Index)


def test_image_without_index_pins_to_one_digest(registry):
    image = small_image()
    image.push(registry, REPOSITORY, "v1")
    pinned = resolve_and_pin(registry, reference(":v1"), AMD64)
    assert pinned.chain == (image.digest,)
    assert (pinned.top, pinned.manifest_digest) == (image.digest, image.digest)
    assert pinned.manifest.config.digest == Digest.of(image.config)
    assert pinned.platform == AMD64


def test_index_pins_to_all_digests_down_to_the_platforms_image(registry):
    images = {AMD64: small_image(b"a", AMD64), ARM64: small_image(b"b", ARM64)}
    raw = push_index(registry, REPOSITORY, images, "v1")
    for platform, image in images.items():
        pinned = resolve_and_pin(registry, reference(":v1"), platform)
        assert pinned.chain == (Digest.of(raw), image.digest)
        assert pinned.top == Digest.of(raw)
        assert pinned.manifest.digest == image.digest


def test_with_a_digest_the_tag_is_never_asked_for(registry):
    digest = small_image().push(registry, REPOSITORY, "v1")
    for tag in (":v1", ":other", ""):
        assert resolve_and_pin(registry, reference(f"{tag}@{digest}"), AMD64).top == digest
    assert registry.asked == [str(digest)] * 3


def test_tag_is_asked_for_once(registry):
    push_index(registry, REPOSITORY, {AMD64: small_image()}, "v1")
    resolve_and_pin(registry, reference(":v1"), AMD64)
    assert registry.asked.count("v1") == 1


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_other_algorithms_pin_as_they_are_written(registry, algorithm):
    image = small_image()
    image.push(registry, REPOSITORY)
    digest = Digest.of(image.manifest, algorithm)
    registry.push_manifest(REPOSITORY, digest, image.manifest, "application/vnd.oci.image.manifest.v1+json")
    assert resolve_and_pin(registry, reference(f"@{digest}"), AMD64).top == digest


@pytest.mark.parametrize("what", [":v1", f"@{Digest.of(b'x')}"])
def test_absent_reference_is_could_not_check(registry, what):
    with pytest.raises(AbsentReference) as caught:
        resolve(registry, reference(what))
    assert caught.value.status() == EXIT_UNCHECKED


def test_child_that_is_not_there_is_could_not_check(registry):
    raw = encode_index([describe(b"gone", platform=AMD64)])
    registry.push_manifest(REPOSITORY, "v1", raw, OCI_INDEX)
    with pytest.raises(AbsentReference) as caught:
        resolve_and_pin(registry, reference(":v1"), AMD64)
    assert caught.value.status() == EXIT_UNCHECKED


def test_platform_that_is_not_there_is_refused_with_those_that_are(registry):
    push_index(registry, REPOSITORY, {ARM64: small_image(platform=ARM64)}, "v1")
    with pytest.raises(NoSuchPlatform) as caught:
        resolve_and_pin(registry, reference(":v1"), AMD64)
    assert caught.value.got == "linux/arm64/v8"
    assert caught.value.place.source == str(reference(":v1"))
    assert caught.value.status() == EXIT_UNCHECKED


def test_artifact_is_no_image(registry):
    config = describe(b"{}", "application/vnd.oci.empty.v1+json")
    raw = encode_manifest(config, [], artifact_type="application/vnd.dev.sigstore.bundle.v0.3+json")
    registry.push_manifest(REPOSITORY, "sig", raw, "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(NotAnImage) as caught:
        resolve_and_pin(registry, reference(":sig"), AMD64)
    assert caught.value.got == "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_lying_answer_for_a_digest_is_refused(registry):
    digest = small_image().push(registry, REPOSITORY)
    registry.lies[str(digest)] = small_image(b"other").manifest
    with pytest.raises(DigestMismatch):
        resolve(registry, reference(f"@{digest}"))


def test_lying_answer_for_a_child_is_refused(registry):
    image = small_image()
    push_index(registry, REPOSITORY, {AMD64: image}, "v1")
    registry.lies[str(image.digest)] = small_image(b"other").manifest
    with pytest.raises(DigestMismatch):
        resolve_and_pin(registry, reference(":v1"), AMD64)


@pytest.mark.parametrize("difference", [-1, 1])
def test_child_must_have_the_size_that_the_index_names(registry, difference):
    image = small_image()
    image.push(registry, REPOSITORY)
    true = describe(image.manifest, platform=AMD64)
    raw = encode_index([Descriptor(true.media_type, true.digest, true.size + difference, platform=AMD64)])
    registry.push_manifest(REPOSITORY, "v1", raw, OCI_INDEX)
    with pytest.raises(SizeMismatch):
        resolve_and_pin(registry, reference(":v1"), AMD64)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_MANIFEST])
def test_child_must_be_of_the_type_that_the_index_names(registry, media_type):
    image = small_image()
    image.push(registry, REPOSITORY)
    raw = encode_index([describe(image.manifest, media_type, AMD64)])
    registry.push_manifest(REPOSITORY, "v1", raw, OCI_INDEX)
    with pytest.raises(AmbiguousDocument):
        resolve_and_pin(registry, reference(":v1"), AMD64)


@pytest.mark.parametrize("levels", [2, limits.INDEX_DEPTH])
def test_indexes_inside_indexes_are_followed(registry, levels):
    digest = nested_index(registry, levels, "v1")
    pinned = resolve_and_pin(registry, reference(":v1"), AMD64)
    assert pinned.manifest_digest == digest
    assert len(pinned.chain) == levels + 1


def test_indexes_nested_more_deeply_are_refused(registry):
    nested_index(registry, limits.INDEX_DEPTH + 1, "v1")
    with pytest.raises(TooDeep):
        resolve_and_pin(registry, reference(":v1"), AMD64)
