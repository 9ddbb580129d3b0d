"""Other programs use the embedded registry and our layouts, and we read theirs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sigkit.digest import Digest
from sigkit.evidence.copy import Side, copy_image
from sigkit.oci.descriptor import host_platform
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.image import encode_image_config
from sigkit.oci.layout import create_layout, open_layout
from sigkit.oci.manifest import OCI_CONFIG, OCI_LAYER_TAR, OCI_MANIFEST, encode_manifest
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve_and_pin
from sigkit.services.registry import ReferrersApi, RegistryVariant
from sigkit.services.serve import running_registry
from tests.simulators.images import SmallImage, describe
from tests.simulators.layers import file, layer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("embedded") / "registry") as running:
        yield running


@pytest.fixture
def client():
    with open_registry(RegistryOptions()) as opened:
        yield opened


@pytest.fixture
def image() -> SmallImage:
    """Return an image of one real layer, for this machine."""
    archive = layer(file("hello", b"hello", mode=0o755))
    config = encode_image_config(host_platform(), (Digest.of(archive),), cmd=("/hello",))
    return SmallImage(encode_manifest(describe(config, OCI_CONFIG), (describe(archive, OCI_LAYER_TAR),)), config, archive)


def done(finished) -> str:
    assert finished.returncode == 0, finished.stderr
    out: str = finished.stdout
    return out


def test_skopeo_copies_in_and_out(peer, address, client, image, tmp_path):
    repository = Repository(address, "skopeo/app")
    image.push(create_layout(tmp_path / "in"), repository, "v1")
    done(peer("skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{tmp_path}/in:v1", f"docker://{repository}:v1"))
    assert resolve_and_pin(client, parse_reference(f"{repository}:v1"), host_platform()).manifest_digest == image.digest
    done(
        peer(
            "skopeo",
            "copy",
            "--preserve-digests",
            "--src-tls-verify=false",
            f"docker://{repository}@{image.digest}",
            f"oci:{tmp_path}/out:v2",
        )
    )
    layout = open_layout(tmp_path / "out")
    assert layout.find_entry("v2").digest == image.digest
    assert layout.fetch_manifest(repository, image.digest) == image.manifest


def test_skopeo_lists_inspects_and_deletes(peer, address, client, image):
    repository = Repository(address, "skopeo/lists")
    image.push(client, repository, "v1")
    image.push(client, repository, "v2")
    assert json.loads(done(peer("skopeo", "list-tags", "--tls-verify=false", f"docker://{repository}")))["Tags"] == ["v1", "v2"]
    assert json.loads(done(peer("skopeo", "inspect", "--tls-verify=false", f"docker://{repository}:v1")))["Digest"] == str(image.digest)
    done(peer("skopeo", "delete", "--tls-verify=false", f"docker://{repository}:v1"))
    assert client.fetch_manifest(repository, image.digest) is None


@pytest.mark.parametrize("referrers", [ReferrersApi.ON, ReferrersApi.OFF], ids=["API", "tag"])
def test_oras_attaches_and_discovers(peer, tmp_path, client, image, referrers):
    with running_registry(tmp_path / "registry", variant=RegistryVariant(referrers=referrers)) as running:
        repository = Repository(running, "oras/app")
        image.push(client, repository, "v1")
        (tmp_path / "sbom.json").write_text('{"sbom": true}')
        kind = "application/spdx+json"
        attach = ("attach", "--plain-http", "--artifact-type", kind, f"{repository}:v1", f"sbom.json:{kind}")
        done(peer("oras", *attach, cwd=tmp_path))
        found = json.loads(done(peer("oras", "discover", "--plain-http", "--format", "json", f"{repository}:v1")))
        assert [referrer["artifactType"] for referrer in found["referrers"]] == [kind]
        listed = client.list_referrers(repository, image.digest)
        if referrers is ReferrersApi.OFF:
            assert listed is None
            assert client.fetch_manifest(repository, f"sha256-{image.digest.hex}") is not None
        else:
            assert listed is not None
            assert [referrer.artifact_type for referrer in listed] == [kind]


def test_podman_pulls_tags_and_pushes(peer, address, client, image, tmp_path):
    repository = Repository(address, "podman/app")
    image.push(client, repository, "v1")
    where = ("--root", tmp_path / "storage", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    done(peer("podman", *where, "pull", "--tls-verify=false", f"{repository}@{image.digest}"))
    done(peer("podman", *where, "push", "--tls-verify=false", Digest.of(image.config).hex, f"{repository}:v2"))
    pushed = resolve_and_pin(client, parse_reference(f"{repository}:v2"), host_platform())
    assert pushed.manifest.config.digest == Digest.of(image.config)


def test_umoci_unpacks_our_layout(peer, image, tmp_path):
    image.push(create_layout(tmp_path / "layout"), Repository("layout.example", "app"), "v1")
    done(peer("umoci", "raw", "unpack", "--image", f"{tmp_path}/layout:v1", f"{tmp_path}/rootfs"))
    assert (tmp_path / "rootfs" / "hello").read_bytes() == b"hello"


def test_image_and_what_is_attached_go_through_a_layout(address, client, image, tmp_path):
    source, target = Repository(address, "layout/from"), Repository(address, "layout/to")
    image.push(client, source, "v1")
    config = describe(b"{}", "application/vnd.oci.empty.v1+json")
    client.push_blob(source, config.digest, b"{}")
    signature = encode_manifest(config, [config], subject=describe(image.manifest), artifact_type="application/x")
    client.push_manifest(source, Digest.of(signature), signature, OCI_MANIFEST)
    layout = create_layout(tmp_path / "layout")
    copy_image(Side(client, source), image.digest, Side(layout, source), "v1")
    copy_image(Side(layout, source), layout.find_entry(None).digest, Side(client, target), "v1")
    assert client.fetch_manifest(target, "v1") == image.manifest
    listed = client.list_referrers(target, image.digest)
    assert listed is not None
    assert [referrer.digest for referrer in listed] == [Digest.of(signature)]
