"""What `cosign save` writes is verified where it lies, and from where it is copied to: images and indexes, both forms, either registry.

cosign itself cannot verify the bundles of an index that it saved; sigkit can.
"""

from __future__ import annotations

import json
import shutil
from functools import cache

import pytest

from sigkit.cli.main import run
from sigkit.digest import Digest
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from sigkit.services.serve import running_registry
from tests.simulators import peer_root
from tests.simulators.attached import FORMS, PREDICATE, attach_signed
from tests.simulators.cosign import OLDER_FORM, PLAIN_HTTP, READ_OLDER, Cosign
from tests.simulators.images import AMD64, ARM64, push_index, small_image
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

pytestmark = pytest.mark.peers

WRITING = {"bundle": (), "older": OLDER_FORM}
TYPE = ("--type", "cyclonedx")
ABSENT = "registry.example/nobody/asks:v1"  # a layout is not asked by name, and nothing is connected to


class Shop:
    """Both registries, cosign, and what it saved so far: signed once and attested once."""

    def __init__(self, peer, home, addresses: dict[str, str]) -> None:
        self.home = home
        (home / "predicate.json").write_text('{"bomFormat":"CycloneDX","specVersion":"1.5"}')
        self.cosign = Cosign(peer, home, generate("ecdsa-p256"))
        self.other = Cosign(peer, home, generate("ecdsa-p256"), "other")
        self._addresses = addresses
        self.saved = cache(self._saved)

    def push(self, registry: str, name: str, thing: str = "image") -> str:
        repository = Repository(self._addresses[registry], name)
        with open_registry(RegistryOptions()) as client:
            if thing == "index":
                raw = push_index(client, repository, {AMD64: small_image(b"amd"), ARM64: small_image(name.encode(), ARM64)}, "v1")
                return f"{repository}@{Digest.of(raw)}"
            return f"{repository}@{small_image(name.encode()).push(client, repository, 'v1')}"

    def save(self, pinned: str, name: str) -> str:
        done = self.cosign("save", PLAIN_HTTP, "--dir", name, pinned)
        assert done.returncode == 0, done.stderr
        return name

    def _saved(self, registry: str, form: str, thing: str) -> tuple[str, str]:
        """Return the directory, and the digest of what was saved there."""
        pinned = self.push(registry, f"saved/{form}-{thing}", thing)
        self.cosign.makes("sign", PLAIN_HTTP, *WRITING[form], pinned)
        self.cosign.makes("attest", PLAIN_HTTP, *WRITING[form], *TYPE, "--predicate", "predicate.json", pinned)
        return self.save(pinned, f"{registry}-{form}-{thing}"), pinned.partition("@")[2]


@pytest.fixture(scope="module")
def shop(peer, tmp_path_factory):
    home = tmp_path_factory.mktemp("saved")
    with running_registry(home / "api") as ours, peer_root.docker_registry(peer, home) as theirs:
        yield Shop(peer, home, {"referrers-api": ours, "fallback-tag": theirs.address})


@pytest.fixture(autouse=True)
def inside(shop, monkeypatch):
    monkeypatch.chdir(shop.home)


def verify(layout: str, *args: str, key: str = "release.pub") -> int:
    """Verify in a layout that knows no repository's name."""
    return run(["verify", "--offline", "--layout", layout, "--key", key, "--name", "any", *args])


def attested(layout: str, image: str) -> int:
    return run(["verify-attestation", "--offline", "--layout", layout, "--key", "release.pub", "--name", "any", *TYPE, image])


@pytest.mark.parametrize("registry", ["referrers-api", "fallback-tag"])
@pytest.mark.parametrize("thing", ["image", "index"])
@pytest.mark.parametrize("form", WRITING)
def test_what_cosign_saved_is_verified_without_a_connection(shop, form, thing, registry):
    layout, digest = shop.saved(registry, form, thing)
    for image in (ABSENT, f"registry.example/nobody/asks@{digest}"):
        assert verify(layout, image) == 0
        assert attested(layout, image) == 0
        assert verify(layout, image, key="other.pub") == 1
    reading = ("--local-image", *((READ_OLDER,) if form == "older" else ()))
    by_cosign = shop.cosign.asked("verify", *reading, layout).returncode
    assert (by_cosign != 0) is ((form, thing) == ("bundle", "index"))


@pytest.mark.parametrize("registry", ["referrers-api", "fallback-tag"])
@pytest.mark.parametrize("thing", ["image", "index"])
def test_a_layout_that_oras_wrote_with_its_referrers_is_verified_too(shop, peer, thing, registry):
    pinned = shop.push(registry, f"oras/{thing}", thing)
    shop.cosign.makes("sign", PLAIN_HTTP, pinned)
    layout = f"oras-{registry}-{thing}"
    tagged = f"{pinned.partition('@')[0]}:v1"
    done = peer("oras", "cp", "-r", "--from-plain-http", tagged, "--to-oci-layout", f"{layout}:v1", cwd=shop.home)
    assert done.returncode == 0, done.stderr
    for image in (ABSENT, f"registry.example/nobody/asks@{pinned.partition('@')[2]}"):
        assert verify(layout, image) == 0
        assert verify(layout, image, key="other.pub") == 1


@pytest.mark.parametrize("thing", ["image", "index"])
@pytest.mark.parametrize("form", WRITING)
def test_what_cosign_saved_is_copied_on_with_its_evidence(shop, form, thing, capsys):
    layout, digest = shop.saved("fallback-tag", form, thing)
    target = f"{shop.push('referrers-api', f'copied/{form}-{thing}').partition('@')[0]}:copied"
    assert run(["copy", f"oci:{layout}", target]) == 0
    assert run(["verify", "--key", "release.pub", "--name", "any", target]) == 0
    assert run(["copy", target, f"oci:again-{form}-{thing}"]) == 0
    copied = f"{ABSENT.rpartition(':')[0]}:copied"  # the tag goes with it
    assert verify(f"again-{form}-{thing}", copied) == 0
    assert attested(f"again-{form}-{thing}", copied) == 0
    reading = () if form == "bundle" else (READ_OLDER,)
    done = shop.cosign.asked("verify", PLAIN_HTTP, *reading, f"{target.rpartition(':')[0]}@{digest}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", WRITING)
def test_whatever_verification_reads_of_it_is_not_believed_when_it_was_changed(shop, form, tmp_path):
    layout, digest = shop.saved("fallback-tag", form, "image")
    blobs = {path.name: path.read_bytes() for path in (shop.home / layout / "blobs" / "sha256").iterdir()}
    documents = {name: json.loads(raw) for name, raw in blobs.items() if b'"layers":' in raw}
    image = digest.removeprefix("sha256:")
    # The image's manifest, each that holds evidence, and the signature; not the attestation, nor the image's config and layer.
    signed = ("https://sigstore.dev/cosign/sign/v1", "application/vnd.dev.cosign.simplesigning.v1+json")
    of_signature = [item for name, item in documents.items() if name != image and any(text in json.dumps(item) for text in signed)]
    read = {*documents, *(layer["digest"].removeprefix("sha256:") for item in of_signature for layer in item["layers"])}
    assert len(read) == 4
    for name, raw in blobs.items():
        changed = bytearray(raw)
        changed[len(raw) // 2] ^= 1
        copied = shutil.copytree(shop.home / layout, tmp_path / name)
        (copied / "blobs" / "sha256" / name).write_bytes(changed)
        assert (verify(str(copied), ABSENT) != 0) is (name in read), (name, raw)


@pytest.mark.parametrize("form", WRITING)
def test_c21_two_saved_signatures_by_one_key_are_one_of_two(shop, form, capsys):
    pinned = shop.push("referrers-api", f"c21/{form}")
    for number in ("1", "2"):
        shop.cosign.makes("sign", PLAIN_HTTP, *WRITING[form], "-a", f"n={number}", pinned)
    two = ("--key", "other.pub", "--threshold", "2", ABSENT)
    assert verify(shop.save(pinned, f"c21-{form}-1"), *two) == 1
    assert "1 of 2 distinct" in capsys.readouterr().out
    shop.other.makes("sign", PLAIN_HTTP, *WRITING[form], pinned)
    layout = shop.save(pinned, f"c21-{form}-2")
    assert verify(layout, *two) == 0
    assert run(["copy", f"oci:{layout}", f"oci:c21-{form}-3"]) == 0
    assert verify(f"c21-{form}-3", *two) == 0


@pytest.mark.parametrize("form", FORMS)
def test_c14_expressions_fit_saved_identities_whole_or_not_at_all(shop, form, capsys):
    pinned = shop.push("referrers-api", f"c14/{form}")
    address, _, path = pinned.partition("@")[0].partition("/")
    with open_registry(RegistryOptions()) as client:
        attached = attach_signed(client, Repository(address, path), shop.home, form, "identity")
    layout = shop.save(attached.typed()["digest"], f"c14-{form}")
    command = ["verify-attestation", "--type", PREDICATE] if form.endswith("attestation") else ["verify"]
    fixed = [*command, "--offline", "--layout", layout, "--trusted-root", "root.json", "--name", "any", "--certificate-oidc-issuer", ISSUER]
    whole = SUBJECT.replace(".", r"\.")
    for expression, status in ((whole, 0), (f"^{whole}$", 0), (whole[:-4], 1), (whole[5:], 1), (f"{whole}\n", 1)):
        assert run([*fixed, "--certificate-identity-regexp", expression, ABSENT]) == status, expression
        out = capsys.readouterr().out
        assert SUBJECT in out


def test_a_saved_layout_is_one_image_and_no_more(shop):
    layout, digest = shop.saved("referrers-api", "older", "image")
    entries = json.loads((shop.home / layout / "index.json").read_bytes())["manifests"]
    kinds = [entry["annotations"]["kind"].rpartition("/")[2] for entry in entries]
    assert kinds == ["image", "sigs", "atts"]
    assert entries[0]["digest"] == digest
