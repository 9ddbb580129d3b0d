"""C7, a fallback index with useless types: what a descriptor says decides nothing, every referrer is opened."""

from __future__ import annotations

import json

import pytest

from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.fixture(scope="module")
def shared():
    with MisbehavingRegistry(referrers_api=False) as running:
        yield running


@pytest.fixture(scope="module")
def release(shared, tmp_path_factory):
    made = Release.prepare(tmp_path_factory.mktemp("release"), shared.address)
    done = made.sign()
    assert done.status == 0, done.said
    return made


@pytest.fixture
def reg(shared, release):
    """Give the registry, and put its list back as it was."""
    tags = dict(shared.state.tags)
    yield shared
    shared.state.tags = tags


def rewrite(reg, release, change):
    """Change the entries of the list and put it under its tag again."""
    tag = f"sha256-{release.image.digest.hex}"
    raw, media_type = reg.state.manifests["t/app", reg.state.tags["t/app", tag]]
    index = json.loads(raw)
    index["manifests"] = change(index["manifests"])
    reg.state.put_manifest("t/app", json.dumps(index).encode(), media_type, tag)


def with_type(artifact_type):
    return lambda entries: [{**entry, "artifactType": artifact_type} for entry in entries]


def without(*names):
    return lambda entries: [{name: value for name, value in entry.items() if name not in names} for entry in entries]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(with_type("application/vnd.oci.empty.v1+json"), id="empty"),
        pytest.param(without("artifactType"), id="absent"),
        pytest.param(without("annotations"), id="no-annotations"),
        pytest.param(without("artifactType", "annotations"), id="neither"),
    ],
)
def test_c07_a_signature_is_found_whatever_its_descriptor_says(reg, release, change):
    rewrite(reg, release, change)
    done = release.verify()
    assert done.status == 0, done.said


def test_c07_an_sbom_that_is_listed_as_a_bundle_is_passed_over_with_a_note(reg, release):
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": reg.state.put_blob("t/app", b"{}"), "size": 2}
    sbom = {"mediaType": "application/spdx+json", "digest": reg.state.put_blob("t/app", b"sbom"), "size": 4}
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(release.image.digest), "size": 1}
    raw = json.dumps({"schemaVersion": 2, "config": empty, "layers": [sbom], "subject": subject}).encode()
    lie = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": reg.state.put_manifest("t/app", raw),
        "size": len(raw),
        "artifactType": BUNDLE_TYPE,
    }
    rewrite(reg, release, lambda entries: [lie, *entries])
    done = release.verify()
    assert done.status == 0, done.said
    assert [note for note in release.tree()["notes"] if lie["digest"] in note and "spdx" in note]
