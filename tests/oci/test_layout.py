from __future__ import annotations

import json
from pathlib import Path

import pytest

from sigkit.digest import Digest
from sigkit.errors import AbsentReference, DigestMismatch, FileUnreadable, FileUnwritable, SizeMismatch, TooLarge, WrongShape
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.layout import TAG_ANNOTATION, create_layout, open_layout
from sigkit.oci.manifest import OCI_INDEX, OCI_MANIFEST, encode_manifest
from sigkit.oci.reference import parse_reference
from sigkit.oci.resolve import resolve_and_pin
from tests.simulators.images import AMD64, ARM64, describe, push_index, small_image

REPOSITORY = parse_reference("r.x/t/app").repository


@pytest.fixture
def layout(tmp_path):
    return create_layout(tmp_path / "layout")


def test_layout_has_the_files_that_others_look_for(layout, tmp_path):
    image = small_image()
    image.push(layout, REPOSITORY, "v1")
    path = tmp_path / "layout"
    assert json.loads((path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert (path / "blobs" / "sha256" / image.digest.hex).read_bytes() == image.manifest
    (entry,) = json.loads((path / "index.json").read_text())["manifests"]
    assert (entry["digest"], entry["mediaType"], entry["size"]) == (str(image.digest), OCI_MANIFEST, len(image.manifest))
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "v1"}


def test_image_in_a_layout_is_pinned_as_in_a_registry(layout):
    raw = push_index(layout, REPOSITORY, {AMD64: small_image(b"a"), ARM64: small_image(b"b", ARM64)}, "latest")
    pinned = resolve_and_pin(open_layout(layout.path), parse_reference("r.x/t/app"), AMD64)
    assert pinned.chain == (Digest.of(raw), small_image(b"a").digest)


def test_tag_moves(layout):
    small_image(b"old").push(layout, REPOSITORY, "v1")
    new = small_image(b"new").push(layout, REPOSITORY, "v1")
    assert layout.find_entry("v1").digest == new
    assert json.loads((Path(layout.path) / "index.json").read_bytes())["manifests"][0]["annotations"] == {TAG_ANNOTATION: "v1"}


def test_only_image_needs_no_tag_even_beside_its_signature(layout):
    image = small_image()
    image.push(layout, REPOSITORY, "v1")
    signature = encode_manifest(describe(b"{}", "application/vnd.oci.empty.v1+json"), [], subject=describe(image.manifest))
    layout.push_manifest(REPOSITORY, Digest.of(signature), signature, OCI_MANIFEST)
    assert layout.find_entry(None).digest == image.digest


@pytest.mark.parametrize("tag", [None, "v3"])
def test_choice_among_several_images_is_refused_with_their_tags(layout, tag):
    small_image(b"a").push(layout, REPOSITORY, "v1")
    small_image(b"b").push(layout, REPOSITORY, "v2")
    with pytest.raises(AbsentReference) as caught:
        layout.find_entry(tag)
    assert caught.value.got == "tags: v1, v2"


def test_changed_manifest_is_refused(layout, tmp_path):
    image = small_image()
    image.push(layout, REPOSITORY, "v1")
    (tmp_path / "layout" / "blobs" / "sha256" / image.digest.hex).write_bytes(small_image(b"other").manifest)
    with pytest.raises(DigestMismatch):
        layout.fetch_manifest(REPOSITORY, image.digest)
    with pytest.raises(DigestMismatch):
        layout.fetch_manifest(REPOSITORY, "v1")


def test_changed_blob_is_refused(layout, tmp_path):
    layer = b"layer"
    descriptor = Descriptor("application/x", Digest.of(layer), len(layer))
    layout.push_blob(REPOSITORY, descriptor.digest, layer)
    file = tmp_path / "layout" / "blobs" / "sha256" / descriptor.digest.hex
    for content, error in ((b"Layer", DigestMismatch), (b"laye", SizeMismatch), (b"layer!", SizeMismatch)):
        file.write_bytes(content)
        with pytest.raises(error), layout.open_blob(REPOSITORY, descriptor) as reader:
            list(reader)
        with pytest.raises(error):
            layout.fetch_blob(REPOSITORY, descriptor, most_bytes=100)


def test_blob_larger_than_asked_for_is_not_read(layout):
    descriptor = Descriptor("application/x", Digest.of(b"layer"), 5)
    layout.push_blob(REPOSITORY, descriptor.digest, b"layer")
    with pytest.raises(TooLarge):
        layout.fetch_blob(REPOSITORY, descriptor, most_bytes=4)


def test_absent_blob_is_could_not_check(layout):
    descriptor = Descriptor("application/x", Digest.of(b"gone"), 4)
    assert not layout.has_blob(REPOSITORY, descriptor.digest)
    assert layout.fetch_manifest(REPOSITORY, descriptor.digest) is None
    with pytest.raises(FileUnreadable), layout.open_blob(REPOSITORY, descriptor):
        pass


def test_bytes_of_another_digest_are_not_stored(layout, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(b"other")
    for content in (b"other", source):
        with pytest.raises(DigestMismatch):
            layout.push_blob(REPOSITORY, Digest.of(b"layer"), content)
    assert not layout.has_blob(REPOSITORY, Digest.of(b"layer"))
    assert list((tmp_path / "layout" / "blobs" / "sha256").iterdir()) == []


def test_manifest_is_not_stored_under_another_type(layout):
    with pytest.raises(WrongShape):
        layout.push_manifest(REPOSITORY, "v1", small_image().manifest, OCI_INDEX)
    assert layout.fetch_manifest(REPOSITORY, "v1") is None


def test_directory_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(FileUnwritable):
        create_layout(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_what_is_no_layout_is_refused(tmp_path):
    with pytest.raises(FileUnreadable):
        open_layout(tmp_path)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(WrongShape):
        open_layout(tmp_path)
