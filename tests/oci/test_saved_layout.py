"""Layouts as `cosign save` writes them: one image, its older evidence by kind, its bundles among the blobs and in no list.

Real ones are read in tests/integration/test_cosign_save.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import AbsentReference, DigestMismatch, FileUnreadable, TooMany, WrongShape
from sigkit.oci.layout import create_layout, open_layout
from sigkit.oci.manifest import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, encode_manifest
from sigkit.oci.reference import parse_reference
from sigkit.oci.referrers import fallback_tag
from tests.simulators.images import AMD64, describe, push_index, small_image

REPOSITORY = parse_reference("r.x/t/app").repository
KIND = "dev.cosignproject.cosign/"
IMAGE = small_image()


class Saved:
    """A layout with an image, whose index.json says what the test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = create_layout(path)
        IMAGE.push(self.layout, REPOSITORY, "v1")
        self.enter((IMAGE.manifest, "image"))

    def enter(self, *entries: tuple[bytes, str]) -> None:
        """Write index.json as cosign does: a kind for each entry, and no tag."""
        found = [
            {
                "mediaType": json.loads(raw)["mediaType"],
                "size": len(raw),
                "digest": str(Digest.of(raw)),
                "annotations": {"kind": KIND + kind},
            }
            for raw, kind in entries
        ]
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}))

    def blob(self, raw: bytes) -> Path:
        self.layout.push_blob(REPOSITORY, Digest.of(raw), raw)
        return self.path / "blobs" / "sha256" / Digest.of(raw).hex

    def referrer(self, about: bytes = IMAGE.manifest, name: bytes = b"{}") -> bytes:
        raw = encode_manifest(describe(b"{}", OCI_EMPTY), [describe(name, "application/x")], subject=describe(about))
        self.blob(raw)
        return raw

    def referrers(self, digest: Digest = IMAGE.digest) -> list[Digest]:
        return [item.digest for item in open_layout(self.path).list_referrers(REPOSITORY, digest) or ()]


@pytest.fixture
def saved(tmp_path):
    return Saved(tmp_path / "saved")


def older(name: bytes) -> bytes:
    return encode_manifest(describe(name, OCI_CONFIG), [describe(name, "application/x")])


def test_bundles_are_found_among_the_blobs(saved):
    held = {Digest.of(saved.referrer(name=b"%d" % number)) for number in range(3)}
    saved.referrer(about=b"another image")
    assert set(saved.referrers()) == held
    assert saved.referrers() == sorted(held, key=str)


def test_what_a_list_names_and_a_blob_is_counted_once(saved):
    raw = saved.referrer()
    saved.enter((IMAGE.manifest, "image"), (raw, "sigs"))
    assert saved.referrers() == [Digest.of(raw)]


def test_in_other_layouts_the_lists_are_all_there_is(saved):
    saved.referrer()
    index = json.loads((saved.path / "index.json").read_bytes())
    for kind in ({}, {"kind": "another"}):
        index["manifests"][0]["annotations"] = kind
        (saved.path / "index.json").write_text(json.dumps(index))
        assert saved.referrers() == []


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"subject":{"digest":"%s"}}' % str(IMAGE.digest).encode(), id="a document that mentions the image"),
        pytest.param(b"[" * 100 + str(IMAGE.digest).encode(), id="too deep"),
        pytest.param(encode_manifest(describe(b"{}", OCI_EMPTY), [describe(IMAGE.manifest)]), id="a manifest that holds the image"),
        pytest.param(b"\xff" + str(IMAGE.digest).encode(), id="no text"),
        pytest.param(b" " * limits.MANIFEST_BYTES + str(IMAGE.digest).encode(), id="too large for a manifest"),
    ],
)
def test_blobs_that_are_something_else_are_passed_over(saved, raw):
    held = saved.referrer()
    saved.blob(raw)
    (saved.path / "blobs" / "sha256" / "README").write_text("x")
    assert saved.referrers() == [Digest.of(held)]


def test_a_changed_document_about_the_image_is_refused_and_not_passed_over(saved):
    path = saved.blob(saved.referrer())
    path.write_bytes(path.read_bytes().replace(b'"application/x"', b'"application/y"'))
    with pytest.raises(DigestMismatch):
        saved.referrers()


def test_a_blob_that_cannot_be_read_is_could_not_check(saved):
    os.symlink("nowhere", saved.path / "blobs" / "sha256" / ("0" * 64))
    with pytest.raises(FileUnreadable):
        saved.referrers()


def test_more_blobs_than_are_looked_through_are_refused_as_LIMIT(saved, monkeypatch):
    monkeypatch.setattr(limits, "LAYOUT_BLOBS", 3)
    assert saved.referrers() == []
    saved.referrer()
    with pytest.raises(TooMany):
        saved.referrers()


@pytest.mark.parametrize(("suffix", "kind"), [(".sig", "sigs"), (".att", "atts")])
def test_older_evidence_is_found_under_the_tag_that_it_had(saved, suffix, kind):
    raw = older(kind.encode())
    saved.blob(raw)
    saved.enter((IMAGE.manifest, "image"), (raw, kind))
    tag = fallback_tag(IMAGE.digest)
    assert saved.layout.fetch_manifest(REPOSITORY, tag + suffix) == raw
    for other in ({".sig", ".att", ".sbom", ""} - {suffix}) | {"x"}:
        assert saved.layout.fetch_manifest(REPOSITORY, tag + other) is None
    assert saved.layout.fetch_manifest(REPOSITORY, fallback_tag(Digest.of(b"another")) + suffix) is None


def test_older_evidence_of_an_index_is_found_too(saved):
    index, raw = push_index(saved.layout, REPOSITORY, {AMD64: IMAGE}, "ix"), older(b"sigs")
    saved.blob(raw)
    saved.enter((index, "imageIndex"), (raw, "sigs"))
    assert saved.layout.fetch_manifest(REPOSITORY, f"{fallback_tag(Digest.of(index))}.sig") == raw
    assert saved.layout.fetch_manifest(REPOSITORY, f"{fallback_tag(IMAGE.digest)}.sig") is None


def test_two_lists_of_one_kind_are_refused_and_the_first_hides_nothing(saved):
    first, second = older(b"1"), older(b"2")
    saved.enter((IMAGE.manifest, "image"), (first, "sigs"), (second, "sigs"))
    with pytest.raises(WrongShape):
        saved.layout.fetch_manifest(REPOSITORY, f"{fallback_tag(IMAGE.digest)}.sig")


def test_the_only_image_needs_no_tag_beside_what_is_attached_to_it(saved):
    sigs, atts = older(b"sigs"), older(b"atts")
    for raw in (sigs, atts):
        saved.blob(raw)
    saved.enter((sigs, "sigs"), (IMAGE.manifest, "image"), (atts, "atts"))
    assert saved.layout.find_entry(None).digest == IMAGE.digest


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_the_only_image_needs_no_tag_beside_tags_of_evidence_about_it(saved, suffix):
    create_layout(saved.path.parent / "copied")
    layout = open_layout(saved.path.parent / "copied")
    IMAGE.push(layout, REPOSITORY, "v1")
    layout.push_manifest(REPOSITORY, fallback_tag(IMAGE.digest) + suffix, older(b"x"), OCI_MANIFEST)
    assert layout.find_entry(None).digest == IMAGE.digest


def test_a_tag_that_only_looks_like_one_of_evidence_names_an_image(saved):
    layout = create_layout(saved.path.parent / "plain")
    IMAGE.push(layout, REPOSITORY, "v1")
    layout.push_manifest(REPOSITORY, f"{fallback_tag(IMAGE.digest)}.other", older(b"x"), OCI_MANIFEST)
    with pytest.raises(AbsentReference):
        layout.find_entry(None)


def test_tags_of_evidence_are_no_choice_of_images(saved):
    layout = create_layout(saved.path.parent / "two")
    IMAGE.push(layout, REPOSITORY, "v1")
    small_image(b"other").push(layout, REPOSITORY, "v2")
    layout.push_manifest(REPOSITORY, f"{fallback_tag(IMAGE.digest)}.sig", older(b"x"), OCI_MANIFEST)
    with pytest.raises(AbsentReference) as caught:
        layout.find_entry(None)
    assert caught.value.got == "tags: v1, v2"
