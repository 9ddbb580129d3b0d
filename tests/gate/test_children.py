"""An image that is named by its own digest is found through an index of its repository, within limits, and only as the index names it."""

from __future__ import annotations

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    AbsentReference,
    AmbiguousDocument,
    DigestMismatch,
    MalformedReference,
    NotAnImage,
    NotInIndex,
    SizeMismatch,
    TooDeep,
    TooMany,
)
from sigkit.gate.children import pin_child
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, encode_index, encode_manifest
from sigkit.oci.reference import parse_reference
from tests.simulators.images import AMD64, ARM64, describe, small_image
from tests.simulators.memory_registry import MemoryRegistry

APP = "registry.example/acme/app"
HERE = parse_reference(APP).repository
AMD, ARM = small_image(b"amd"), small_image(b"arm", ARM64)


class Shop(MemoryRegistry):
    """A registry with images and indexes over them."""

    def index(self, *children: Descriptor, tag: str = "top") -> bytes:
        """Push an index under a tag, and return it."""
        raw = encode_index(children)
        self.push_manifest(HERE, tag, raw, OCI_INDEX)
        return raw

    def find(self, child: Digest, index: str = "top"):
        return pin_child(self, parse_reference(f"{APP}@{child}"), parse_reference(f"{APP}:{index}"), AMD64)


@pytest.fixture
def shop():
    made = Shop()
    for image in (AMD, ARM):
        image.push(made, HERE)
    return made


def of_index(raw: bytes, size: int | None = None) -> Descriptor:
    return Descriptor(OCI_INDEX, Digest.of(raw), len(raw) if size is None else size)


def both() -> tuple[Descriptor, Descriptor]:
    return describe(AMD.manifest, platform=AMD64), describe(ARM.manifest, platform=ARM64)


def test_each_child_is_found_whatever_the_platform_that_is_asked_for(shop):
    top = Digest.of(shop.index(*both()))
    for image in (AMD, ARM):
        assert shop.find(image.digest).chain == (top, image.digest)


def test_an_index_is_a_child_too_and_its_image_follows(shop):
    inner = shop.index(*both(), tag="inner")
    top = Digest.of(shop.index(of_index(inner)))
    assert shop.find(Digest.of(inner)).chain == (top, Digest.of(inner), AMD.digest)


def test_of_several_ways_the_shortest_is_taken(shop):
    inner = shop.index(*both(), tag="inner")
    top = Digest.of(shop.index(of_index(inner), describe(ARM.manifest, platform=ARM64)))
    assert shop.find(ARM.digest).chain == (top, ARM.digest)
    assert shop.find(AMD.digest).chain == (top, Digest.of(inner), AMD.digest)


@pytest.mark.parametrize(
    "children",
    [
        pytest.param((), id="an empty index"),
        pytest.param((describe(AMD.manifest, platform=AMD64),), id="an index of another image"),
    ],
)
def test_what_the_index_does_not_name_is_not_in_it(shop, children):
    raw = shop.index(*children)
    with pytest.raises(NotInIndex) as caught:
        shop.find(ARM.digest)
    assert (caught.value.expected, caught.value.got) == (str(ARM.digest), str(Digest.of(raw)))
    assert caught.value.status() == 1


def test_an_image_in_the_place_of_an_index_names_no_children(shop):
    ARM.push(shop, HERE, "top")
    with pytest.raises(NotInIndex):
        shop.find(ARM.digest)


def test_the_layers_and_the_config_of_an_image_are_no_children(shop):
    shop.index(*both())
    for blob in (AMD.layer, AMD.config):
        with pytest.raises(NotInIndex):
            shop.find(Digest.of(blob))


def test_an_index_that_is_not_there_is_could_not_check(shop):
    with pytest.raises(AbsentReference) as caught:
        shop.find(AMD.digest, "nowhere")
    assert caught.value.status() == 3


def test_a_child_that_the_index_names_and_the_registry_lacks_is_could_not_check(shop):
    gone = small_image(b"gone")
    shop.index(describe(gone.manifest, platform=AMD64))
    with pytest.raises(AbsentReference):
        shop.find(gone.digest)


@pytest.mark.parametrize("difference", [-1, 1])
def test_an_image_of_another_size_than_the_index_names_is_refused(shop, difference):
    shop.index(Descriptor(OCI_MANIFEST, AMD.digest, len(AMD.manifest) + difference, platform=AMD64))
    with pytest.raises(SizeMismatch):
        shop.find(AMD.digest)


@pytest.mark.parametrize("difference", [-1, 1])
def test_an_index_of_another_size_than_the_outer_one_names_is_refused_on_the_way_and_at_the_end(shop, difference):
    inner = shop.index(*both(), tag="inner")
    shop.index(of_index(inner, len(inner) + difference))
    for child in (AMD.digest, Digest.of(inner)):
        with pytest.raises(SizeMismatch):
            shop.find(child)


def test_a_document_of_another_type_than_the_index_names_is_refused(shop):
    shop.index(Descriptor(OCI_INDEX, AMD.digest, len(AMD.manifest)))
    with pytest.raises(AmbiguousDocument):
        shop.find(AMD.digest)
    with pytest.raises(AmbiguousDocument):
        shop.find(ARM.digest)


def test_other_bytes_than_an_inner_digest_names_are_refused(shop):
    inner = shop.index(*both(), tag="inner")
    shop.index(of_index(inner))
    shop.lies[str(Digest.of(inner))] = encode_index([])
    with pytest.raises(DigestMismatch):
        shop.find(AMD.digest)


def test_an_artifact_in_the_index_is_no_image(shop):
    artifact = encode_manifest(describe(b"{}", OCI_EMPTY), [])
    shop.push_manifest(HERE, Digest.of(artifact), artifact, OCI_MANIFEST)
    shop.index(describe(artifact))
    with pytest.raises(NotAnImage):
        shop.find(Digest.of(artifact))


def fan(shop: Shop, count: int) -> None:
    """Push an index over so many other indexes, the last of which names the image."""
    children = []
    for number in range(count):
        last = (describe(AMD.manifest, platform=AMD64),) if number == count - 1 else ()
        raw = encode_index(last, annotations={"n": str(number)})
        shop.push_manifest(HERE, Digest.of(raw), raw, OCI_INDEX)
        children.append(of_index(raw))
    shop.index(*children)


def test_as_many_indexes_are_read_as_the_limit_says_and_no_more(shop):
    fan(shop, limits.INDEXES_READ - 1)  # and the one above them
    assert len(shop.find(AMD.digest).chain) == 3
    shop.asked.clear()
    fan(shop, limits.INDEXES_READ)
    with pytest.raises(TooMany):
        shop.find(AMD.digest)
    assert len(shop.asked) <= limits.INDEXES_READ


def test_an_index_named_many_times_is_read_once(shop):
    inner = shop.index(tag="inner")
    shop.index(*(of_index(inner) for _ in range(500)))
    shop.asked.clear()
    with pytest.raises(NotInIndex):
        shop.find(AMD.digest)
    assert len(shop.asked) == 2


@pytest.mark.parametrize(("levels", "found"), [(limits.INDEX_DEPTH, True), (limits.INDEX_DEPTH + 1, False)])
def test_as_many_indexes_inside_each_other_are_followed_as_the_limit_says(shop, levels, found):
    raw = shop.index(describe(AMD.manifest, platform=AMD64), tag="level-1")
    for level in range(2, levels + 1):
        raw = shop.index(of_index(raw), tag=f"level-{level}")
    if found:
        assert len(shop.find(AMD.digest, f"level-{levels}").chain) == levels + 1
        return
    with pytest.raises(TooDeep):
        shop.find(AMD.digest, f"level-{levels}")


@pytest.mark.parametrize(
    ("child", "index"),
    [
        pytest.param(f"{APP}:v1", f"{APP}:top", id="a child without a digest"),
        pytest.param(f"{APP}@{AMD.digest}", "registry.example/acme/other:top", id="an index of another repository"),
        pytest.param(f"{APP}@{AMD.digest}", "other.example/acme/app:top", id="an index of another registry"),
    ],
)
def test_what_cannot_be_child_and_index_of_it_is_a_usage_error_and_nothing_is_asked(shop, child, index):
    with pytest.raises(MalformedReference) as caught:
        pin_child(shop, parse_reference(child), parse_reference(index), AMD64)
    assert caught.value.status() == 2
    assert shop.asked == []
