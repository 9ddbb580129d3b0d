"""C1, tag and digest: the digest decides, the tag is never asked for, and what is malformed is the user's to mend."""

from __future__ import annotations

import pytest

from sigkit.digest import Digest
from sigkit.errors import EXIT_USAGE, Kind, SigkitError
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.manifest import OCI_LAYER_TAR
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve_and_pin
from tests.simulators.images import AMD64, small_image
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release

HEX = "0123456789abcdef" * 4


@pytest.fixture
def client():
    with open_registry(RegistryOptions()) as opened:
        yield opened


@pytest.mark.parametrize("tag", ["v1", "v2", "none"])
def test_c01_digest_is_pulled_and_no_tag_is_asked_for(client, tag):
    with MisbehavingRegistry() as registry:
        repository = Repository(registry.address, "t/app")
        image, other = small_image(b"image"), small_image(b"other")
        image.push(client, repository, "v1")
        other.push(client, repository, "v2")
        before = len(registry.log)
        text = f"{registry.address}/t/app:{tag}@{image.digest}"
        reference = parse_reference(text)
        pinned = resolve_and_pin(client, reference, AMD64)
        (layer,) = pinned.manifest.layers
        assert client.fetch_blob(repository, layer, most_bytes=100) == image.layer
        assert (pinned.top, layer) == (image.digest, Descriptor(OCI_LAYER_TAR, Digest.of(image.layer), len(image.layer)))
        assert not [seen for seen in registry.log[before:] if seen.path.endswith(f"/{tag}")]
        assert (str(reference), reference.tag, reference.digest) == (text, tag, image.digest)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"app:sha256:{HEX}", id="colon before the digest"),
        pytest.param(f"app@sha256:{HEX[:63]}", id="63 digits"),
        pytest.param(f"app@sha256:{HEX.upper()}", id="upper case"),
        pytest.param("127.0.0.1:5000/App", id="upper-case repository"),
    ],
)
def test_c01_malformed_reference_is_a_usage_error_that_helps(text):
    with pytest.raises(SigkitError) as caught:
        parse_reference(text)
    assert (caught.value.kind, caught.value.status()) == (Kind.REF, EXIT_USAGE)
    assert caught.value.remedy


@pytest.mark.parametrize("tag", ["v2", "none"])
def test_c01_output_shows_name_digest_and_the_tag_as_unchecked(tmp_path, tag):
    with MisbehavingRegistry() as registry:
        release = Release.prepare(tmp_path, registry.address)
        release.sign()
        name = f"{registry.address}/t/app"
        reference = f"{name}:{tag}@{release.image.digest}"
        registry.forget()
        done = release.sigkit("verify", "--key", "K.pub", reference)
        assert done.status == 0, done.said
        assert done.out.startswith(f"verified  {name}@{release.image.digest}\n")
        assert reference in done.out
        assert f"unchecked   tag {tag}: never looked up" in done.out
        assert not [seen for seen in registry.log if seen.path.endswith(f"/{tag}")]
