"""cosign 3 and sigkit verify each other's signatures of images, on Debian's docker-registry, which has no referrers API."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sigkit import limits
from sigkit.clock import SystemClock
from sigkit.errors import NOWHERE, OtherKey, SigkitError
from sigkit.evidence.collect import collect
from sigkit.evidence.form import Form
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.keys.cosign_pem import encode_private
from sigkit.keys.load import load_private, load_public
from sigkit.keys.private import generate, parse_private_key
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.referrers import fallback_tag
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from sigkit.services.serve import running_registry
from sigkit.signing.session import sign_and_attach
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify
from tests.simulators.images import AMD64, ARM64, push_index, small_image

if TYPE_CHECKING:
    from pathlib import Path

    from sigkit.keys.private import PrivateKey
    from sigkit.oci.resolve import Resolved
    from sigkit.verify.facts import Facts

pytestmark = pytest.mark.peers

NO_SERVICES = {
    "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
    "rekorTlogConfig": {},
    "tsaConfig": {},
}
HASH_FLAGS = {"ecdsa-p384": ("--signature-digest-algorithm", "sha384"), "ecdsa-p521": ("--signature-digest-algorithm", "sha512")}
OLDER_FORM = ("--use-signing-config=false", "--new-bundle-format=false", "--tlog-upload=false")


class Bench:
    """A registry, both programs, and a key that both can read."""

    def __init__(self, peer, client, address: str, directory: Path) -> None:
        self.client = client
        self.repository = Repository(address, "acme/app")
        self._peer = peer
        self._directory = directory

    def push_image(self) -> Resolved:
        small_image().push(self.client, self.repository, "v1")
        return resolve(self.client, parse_reference(f"{self.repository}:v1"))

    def push_index(self) -> Resolved:
        push_index(self.client, self.repository, {AMD64: small_image(), ARM64: small_image(b"arm", ARM64)}, "multi")
        return resolve(self.client, parse_reference(f"{self.repository}:multi"))

    def write_key(self, key: PrivateKey, name: str = "release") -> Path:
        (self._directory / f"{name}.key").write_bytes(encode_private(key, "pw"))
        (self._directory / f"{name}.pub").write_bytes(key.public.encode_pem())
        return self._directory / name

    def sign(self, resolved: Resolved, key: PrivateKey, **annotations: str):
        return sign_and_attach(self.client, resolved, key, annotations, SystemClock())

    def cosign(self, *args: object, password: str = "pw"):
        return self._peer("cosign", *map(str, args), env={"COSIGN_PASSWORD": password})

    def skopeo_sign(self, resolved: Resolved, key: PrivateKey) -> None:
        """Copy the image onto itself, which is skopeo's way to sign."""
        registries, password = self._directory / "registries.d", self._directory / "password"
        registries.mkdir()
        (registries / "here.yaml").write_text(f"docker:\n  {self.repository.registry}:\n    use-sigstore-attachments: true\n")
        password.write_text("pw")
        signing = ("--sign-by-sigstore-private-key", f"{self.write_key(key)}.key", "--sign-passphrase-file", password)
        plain = ("--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false")
        image = f"docker://{self.repository}"
        done = self._peer(
            "skopeo", "--registries.d", registries, "copy", *signing, *plain, f"{image}@{resolved.digest}", f"{image}:by-skopeo"
        )
        assert done.returncode == 0, done.stderr

    def cosign_sign(self, resolved: Resolved, key: PrivateKey, *flags: str) -> None:
        form: tuple[object, ...] = flags
        if OLDER_FORM[0] not in flags:
            services = self._directory / "services.json"
            services.write_text(json.dumps(NO_SERVICES))
            form = (*flags, "--signing-config", services)
        path = self.write_key(key)
        done = self.cosign("sign", "--key", f"{path}.key", "-y", "--allow-http-registry", *form, self.pinned(resolved))
        assert done.returncode == 0, done.stderr

    def cosign_verify(self, resolved: Resolved, key: PrivateKey, *flags: str):
        path = self.write_key(key)
        fixed = ("--insecure-ignore-tlog", "--allow-http-registry", *HASH_FLAGS.get(key.public.kind, ()))
        return self.cosign("verify", "--key", f"{path}.pub", *fixed, *flags, self.pinned(resolved))

    def pinned(self, resolved: Resolved) -> str:
        return f"{self.repository}@{resolved.digest}"

    def facts(self, resolved: Resolved, key: PrivateKey) -> tuple[list[Facts], list[SigkitError]]:
        """Return what is proved with `key`, and the refusals."""
        root = root_of_keys([TrustedKey("release", key.public)], "test")
        proved, refused = [], []
        for evidence in collect(self.client, self.repository, resolved.digest, limits.DEFAULT).evidence:
            try:
                proved.append(verify(evidence, Artifact.of(resolved.digest), root, datetime.now(UTC), limits.DEFAULT))
            except SigkitError as err:
                refused.append(err)
        return proved, refused


def make_key(kind: str) -> PrivateKey:
    if kind != "rsa":
        return generate(kind)
    key = rsa.generate_private_key(65537, 2048)
    return parse_private_key(
        key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()), NOWHERE
    )


@pytest.fixture
def bench(peer, docker_registry, tmp_path):
    """Give both programs on a registry that lists referrers under a tag."""
    with open_registry(RegistryOptions()) as client:
        yield Bench(peer, client, docker_registry.address, tmp_path)


@pytest.fixture
def bench_with_api(peer, tmp_path):
    """Give both programs on our own registry, which has the referrers API."""
    with running_registry(tmp_path / "storage") as address, open_registry(RegistryOptions()) as client:
        yield Bench(peer, client, address, tmp_path)


def test_both_programs_verify_each_other_where_the_registry_has_the_referrers_api(bench_with_api):
    bench, key = bench_with_api, generate("ecdsa-p256")
    resolved = bench.push_index()
    bench.cosign_sign(resolved, key)
    bench.sign(resolved, key)
    assert {facts.signature.repository for facts in bench.facts(resolved, key)[0]} == {None, str(bench.repository)}
    assert len(json.loads(bench.cosign_verify(resolved, key).stdout)) == 2
    assert bench.client.fetch_manifest(bench.repository, fallback_tag(resolved.digest)) is None


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa"])
def test_cosign_verifies_what_sigkit_signs(kind, bench):
    key, resolved = make_key(kind), bench.push_image()
    assert bench.sign(resolved, key, build="7").added
    done = bench.cosign_verify(resolved, key)
    assert done.returncode == 0, done.stderr
    (printed,) = json.loads(done.stdout)
    assert printed["critical"]["image"]["docker-manifest-digest"] == str(resolved.digest)
    assert printed["optional"] == {"build": "7", "sigkit.dev/repository": str(bench.repository)}


def test_cosign_verifies_an_index_that_sigkit_signs(bench):
    key, resolved = generate("ecdsa-p256"), bench.push_index()
    bench.sign(resolved, key)
    done = bench.cosign_verify(resolved, key)
    assert done.returncode == 0, done.stderr


def test_cosign_enforces_the_signed_name(bench):
    key, resolved = generate("ecdsa-p256"), bench.push_image()
    bench.sign(resolved, key)
    assert bench.cosign_verify(resolved, key, "-a", f"sigkit.dev/repository={bench.repository}").returncode == 0
    assert bench.cosign_verify(resolved, key, "-a", "sigkit.dev/repository=evil.example/app").returncode != 0


def test_cosign_refuses_what_sigkit_signs_with_another_key(bench):
    resolved = bench.push_image()
    bench.sign(resolved, generate("ecdsa-p256"))
    assert bench.cosign_verify(resolved, generate("ecdsa-p256")).returncode != 0


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa"])
def test_sigkit_verifies_what_cosign_signs(kind, bench):
    key, resolved = make_key(kind), bench.push_image()
    bench.cosign_sign(resolved, key, "-a", "build=7")
    (facts,), refused = bench.facts(resolved, key)
    assert refused == []
    assert facts.form is Form.BUNDLE
    assert (facts.signature.artifact, facts.signature.predicate_type) == (resolved.digest, PREDICATE_SIGNATURE)
    assert facts.signature.annotations == {"build": "7"}
    assert facts.signature.repository is None
    assert facts.unchecked == ()


def test_sigkit_verifies_an_index_and_each_image_that_cosign_signs(bench):
    key, resolved = generate("ecdsa-p256"), bench.push_index()
    bench.cosign_sign(resolved, key, "--recursive")
    assert len(bench.facts(resolved, key)[0]) == 1
    for child in resolved.document.manifests:
        one = resolve(bench.client, parse_reference(f"{bench.repository}@{child.digest}"))
        assert len(bench.facts(one, key)[0]) == 1


def test_the_name_is_known_when_cosign_was_asked_to_sign_it(bench):
    key, resolved = generate("ecdsa-p256"), bench.push_image()
    bench.cosign_sign(resolved, key, "-a", f"sigkit.dev/repository={bench.repository}")
    assert bench.facts(resolved, key)[0][0].signature.repository == str(bench.repository)


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ed25519"])
def test_sigkit_verifies_the_older_form_that_cosign_signs(kind, bench):
    key, resolved = make_key(kind), bench.push_image()
    bench.cosign_sign(resolved, key, *OLDER_FORM, "-a", "build=7")
    (facts,), refused = bench.facts(resolved, key)
    assert refused == []
    assert facts.form is Form.SIMPLE_SIGNING
    assert facts.signature.repository == str(bench.repository)
    assert facts.signature.annotations == {"build": "7"}


def test_sigkit_verifies_what_skopeo_signs_with_sigkits_key(bench):
    key, resolved = generate("ecdsa-p256"), bench.push_image()
    bench.skopeo_sign(resolved, key)
    (facts,), refused = bench.facts(resolved, key)
    assert refused == []
    assert facts.form is Form.SIMPLE_SIGNING
    assert facts.signature.repository == str(bench.repository)
    assert [item.what for item in facts.unchecked] == ["annotation timestamp"]


def test_one_form_never_hides_the_other(bench):
    key, other, resolved = generate("ecdsa-p256"), generate("ecdsa-p256"), bench.push_image()
    bench.cosign_sign(resolved, key, *OLDER_FORM)
    bench.sign(resolved, other)
    proved, refused = bench.facts(resolved, key)
    assert [facts.form for facts in proved] == [Form.SIMPLE_SIGNING]
    assert [type(err) for err in refused] == [OtherKey]


def test_cosign_and_sigkit_sign_side_by_side(bench):
    key, resolved = generate("ecdsa-p256"), bench.push_image()
    bench.sign(resolved, key)
    bench.cosign_sign(resolved, key)
    bench.sign(resolved, key, more="1")
    assert len(bench.facts(resolved, key)[0]) == 3
    assert len(json.loads(bench.cosign_verify(resolved, key).stdout)) == 3


def test_signing_again_adds_nothing(bench):
    key, resolved = generate("ecdsa-p256"), bench.push_image()
    first, second = bench.sign(resolved, key), bench.sign(resolved, key)
    assert (first.added, second.added) == (True, False)
    assert second.manifest == first.manifest
    assert len(json.loads(bench.cosign_verify(resolved, key).stdout)) == 1


def test_an_attestation_by_the_key_is_no_signature(bench, tmp_path):
    key, resolved = generate("ecdsa-p256"), bench.push_image()
    predicate = tmp_path / "sbom.json"
    predicate.write_text("{}")
    services = tmp_path / "services.json"
    services.write_text(json.dumps(NO_SERVICES))
    fixed = ("-y", "--allow-http-registry", "--signing-config", services, "--type", "https://spdx.dev/Document", "--predicate", predicate)
    done = bench.cosign("attest", "--key", f"{bench.write_key(key)}.key", *fixed, bench.pinned(resolved))
    assert done.returncode == 0, done.stderr
    (facts,), _ = bench.facts(resolved, key)
    assert facts.signature.predicate_type == "https://spdx.dev/Document"


def test_cosigns_keys_are_read_and_sign(bench, tmp_path):
    done = bench.cosign("generate-key-pair", "--output-key-prefix", tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    key = load_private(str(tmp_path / "theirs.key"), lambda: "pw")
    assert load_public(str(tmp_path / "theirs.pub")) == key.public
    assert os.stat(tmp_path / "theirs.key").st_mode & 0o777 == 0o600
    resolved = bench.push_image()
    bench.sign(resolved, key)
    assert bench.cosign_verify(resolved, key).returncode == 0


def test_cosign_opens_sigkits_keys_with_the_password_and_not_without(bench):
    key = generate("ecdsa-p256")
    path = bench.write_key(key)
    done = bench.cosign("public-key", "--key", f"{path}.key")
    assert done.returncode == 0, done.stderr
    assert done.stdout.encode() == key.public.encode_pem()
    assert bench.cosign("public-key", "--key", f"{path}.key", password="wrong").returncode != 0
