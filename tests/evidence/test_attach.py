"""A bundle is stored as cosign 3 stores it, and listed, or the caller is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import EvidenceNotAttached
from sigkit.evidence.attach import attach
from sigkit.evidence.collect import collect
from sigkit.evidence.form import BUNDLE_PART
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.oci.manifest import OCI_EMPTY, OCI_MANIFEST
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.resolve import resolve
from tests.simulators.images import AMD64, push_index, small_image
from tests.simulators.memory_registry import MemoryRegistry, Referrers

HERE = Repository("registry.example", "acme/app")
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
CREATED = datetime(2026, 11, 25, 15, 21, 40, tzinfo=UTC)


def shop(referrers: Referrers = Referrers.API):
    registry = MemoryRegistry(referrers)
    small_image().push(registry, HERE, "v1")
    return registry, resolve(registry, parse_reference(f"{HERE}:v1"))


@pytest.mark.parametrize("referrers", list(Referrers))
def test_what_is_attached_is_found_again(referrers):
    registry, resolved = shop(referrers)
    manifest = attach(registry, resolved, b"bundle", PREDICATE_SIGNATURE, CREATED)
    (found,) = collect(registry, HERE, resolved.digest, limits.DEFAULT).evidence
    assert found.parts == {BUNDLE_PART: b"bundle"}
    assert found.found.digest == manifest.digest


def test_the_manifest_is_cosigns():
    registry, resolved = shop()
    manifest = attach(registry, resolved, b"bundle", PREDICATE_SIGNATURE, CREATED)
    raw, media_type = registry.manifests[HERE, manifest.digest]
    assert media_type == OCI_MANIFEST
    assert json.loads(raw) == {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": BUNDLE_TYPE,
        "config": {"mediaType": OCI_EMPTY, "size": 2, "digest": str(Digest.of(b"{}")), "artifactType": BUNDLE_TYPE},
        "layers": [{"mediaType": BUNDLE_TYPE, "size": 6, "digest": str(Digest.of(b"bundle"))}],
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": PREDICATE_SIGNATURE,
            "org.opencontainers.image.created": "2026-11-25T15:21:40Z",
        },
        "subject": {"mediaType": OCI_MANIFEST, "size": len(resolved.document.raw), "digest": str(resolved.digest)},
    }


def test_an_index_is_a_subject_of_its_own_type():
    registry = MemoryRegistry()
    push_index(registry, HERE, {AMD64: small_image()}, "multi")
    resolved = resolve(registry, parse_reference(f"{HERE}:multi"))
    manifest = attach(registry, resolved, b"bundle", PREDICATE_SIGNATURE, CREATED)
    subject = json.loads(registry.manifests[HERE, manifest.digest][0])["subject"]
    assert (subject["mediaType"], subject["digest"]) == (resolved.document.media_type, str(resolved.digest))


def test_no_tag_is_written_where_the_registry_lists_referrers():
    registry, resolved = shop()
    attach(registry, resolved, b"bundle", PREDICATE_SIGNATURE, CREATED)
    assert list(registry.tags) == [(HERE, "v1")]


def test_the_tags_entry_says_what_the_manifest_is():
    registry, resolved = shop(Referrers.NONE)
    attach(registry, resolved, b"bundle", PREDICATE_SIGNATURE, CREATED)
    listed = registry.manifests[HERE, registry.tags[HERE, f"sha256-{resolved.digest.hex}"]][0]
    (entry,) = json.loads(listed)["manifests"]
    assert entry["artifactType"] == BUNDLE_TYPE
    assert entry["annotations"]["dev.sigstore.bundle.predicateType"] == PREDICATE_SIGNATURE


def test_a_registry_that_lists_without_saying_so_is_believed_when_it_lists():
    class Silent(MemoryRegistry):
        def push_manifest(self, repository, what, raw, media_type):
            super().push_manifest(repository, what, raw, media_type)

    registry = Silent()
    small_image().push(registry, HERE, "v1")
    resolved = resolve(registry, parse_reference(f"{HERE}:v1"))
    attach(registry, resolved, b"bundle", PREDICATE_SIGNATURE, CREATED)
    assert list(registry.tags) == [(HERE, "v1")]


def test_a_registry_that_takes_and_does_not_list_is_never_success():
    class Forgetful(MemoryRegistry):
        def push_manifest(self, repository, what, raw, media_type):
            super().push_manifest(repository, what, raw, media_type)

        def list_referrers(self, *_):
            return ()

    registry = Forgetful()
    small_image().push(registry, HERE, "v1")
    with pytest.raises(EvidenceNotAttached) as caught:
        attach(registry, resolve(registry, parse_reference(f"{HERE}:v1")), b"bundle", PREDICATE_SIGNATURE, CREATED)
    assert caught.value.status() == 3
