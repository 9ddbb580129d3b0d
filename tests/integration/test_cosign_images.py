"""cosign 3 and sigkit on one image of Debian's docker-registry: names, children, other clients, both forms, and each other's keys.

That each verifies what the other signs, by every kind of key, form and registry, is shown in test_cosign_matrix.py.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigkit import limits
from sigkit.clock import SystemClock
from sigkit.errors import OtherKey, SigkitError
from sigkit.evidence.collect import collect
from sigkit.evidence.form import Form
from sigkit.keys.cosign_pem import encode_private
from sigkit.keys.load import load_private, load_public
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from sigkit.signing.keyed import KeySignatory
from sigkit.signing.session import sign_image
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify
from tests.simulators.cosign import OLDER_FORM, PASSWORD, PLAIN_HTTP, Cosign
from tests.simulators.images import AMD64, ARM64, push_index, small_image

if TYPE_CHECKING:
    from sigkit.keys.private import PrivateKey
    from sigkit.oci.resolve import Resolved
    from sigkit.verify.facts import Facts

pytestmark = pytest.mark.peers


class Bench:
    """A registry, both programs, and a key that both have."""

    def __init__(self, peer, client, address: str, home: Path) -> None:
        self.client = client
        self.repository = Repository(address, "acme/app")
        self.key = generate("ecdsa-p256")
        self.cosign = Cosign(peer, home, self.key)
        self._peer = peer

    def push_image(self) -> Resolved:
        small_image().push(self.client, self.repository, "v1")
        return resolve(self.client, parse_reference(f"{self.repository}:v1"))

    def push_index(self) -> Resolved:
        push_index(self.client, self.repository, {AMD64: small_image(), ARM64: small_image(b"arm", ARM64)}, "multi")
        return resolve(self.client, parse_reference(f"{self.repository}:multi"))

    def sign(self, resolved: Resolved, key: PrivateKey | None = None, **annotations: str):
        return sign_image(self.client, resolved, KeySignatory(key or self.key), annotations, SystemClock())

    def skopeo_sign(self, resolved: Resolved) -> None:
        """Copy the image onto itself, which is skopeo's way to sign."""
        registries, password = self.cosign.home / "registries.d", self.cosign.home / "password"
        registries.mkdir()
        (registries / "here.yaml").write_text(f"docker:\n  {self.repository.registry}:\n    use-sigstore-attachments: true\n")
        password.write_text(PASSWORD)
        signing = ("--sign-by-sigstore-private-key", self.cosign.home / "release.key", "--sign-passphrase-file", password)
        plain = ("--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false")
        image = f"docker://{self.repository}"
        done = self._peer(
            "skopeo", "--registries.d", registries, "copy", *signing, *plain, f"{image}@{resolved.digest}", f"{image}:by-skopeo"
        )
        assert done.returncode == 0, done.stderr

    def cosign_sign(self, resolved: Resolved, *flags: str) -> None:
        self.cosign.makes("sign", PLAIN_HTTP, *flags, self.pinned(resolved))

    def cosign_verify(self, resolved: Resolved, *flags: str):
        return self.cosign.asked("verify", PLAIN_HTTP, *flags, self.pinned(resolved))

    def pinned(self, resolved: Resolved) -> str:
        return f"{self.repository}@{resolved.digest}"

    def facts(self, resolved: Resolved) -> tuple[list[Facts], list[SigkitError]]:
        """Return what is proved with the key, and the refusals."""
        root = root_of_keys([TrustedKey("release", self.key.public)], "test")
        proved, refused = [], []
        for evidence in collect(self.client, self.repository, resolved.digest, limits.DEFAULT).evidence:
            try:
                proved.append(verify(evidence, Artifact.of(resolved.digest), root, datetime.now(UTC), limits.DEFAULT))
            except SigkitError as err:
                refused.append(err)
        return proved, refused


@pytest.fixture
def bench(peer, docker_registry, tmp_path):
    """Give both programs on a registry that lists referrers under a tag."""
    with open_registry(RegistryOptions()) as client:
        yield Bench(peer, client, docker_registry.address, tmp_path)


def test_cosign_enforces_the_signed_name(bench):
    resolved = bench.push_image()
    bench.sign(resolved)
    assert bench.cosign_verify(resolved, "-a", f"sigkit.dev/repository={bench.repository}").returncode == 0
    assert bench.cosign_verify(resolved, "-a", "sigkit.dev/repository=evil.example/app").returncode != 0


def test_cosign_refuses_what_sigkit_signs_with_another_key(bench):
    resolved = bench.push_image()
    bench.sign(resolved, generate("ecdsa-p256"))
    assert bench.cosign_verify(resolved).returncode != 0


def test_sigkit_verifies_an_index_and_each_image_that_cosign_signs(bench):
    resolved = bench.push_index()
    bench.cosign_sign(resolved, "--recursive")
    assert len(bench.facts(resolved)[0]) == 1
    for child in resolved.document.manifests:
        one = resolve(bench.client, parse_reference(f"{bench.repository}@{child.digest}"))
        assert len(bench.facts(one)[0]) == 1


def test_the_name_is_known_when_cosign_was_asked_to_sign_it(bench):
    resolved = bench.push_image()
    bench.cosign_sign(resolved, "-a", f"sigkit.dev/repository={bench.repository}")
    assert bench.facts(resolved)[0][0].signature.repository == str(bench.repository)


def test_sigkit_verifies_what_skopeo_signs_with_sigkits_key(bench):
    resolved = bench.push_image()
    bench.skopeo_sign(resolved)
    (facts,), refused = bench.facts(resolved)
    assert refused == []
    assert facts.form is Form.SIMPLE_SIGNING
    assert facts.signature.repository == str(bench.repository)
    assert [item.what for item in facts.unchecked] == ["annotation timestamp"]


def test_one_form_never_hides_the_other(bench):
    resolved = bench.push_image()
    bench.cosign_sign(resolved, *OLDER_FORM)
    bench.sign(resolved, generate("ecdsa-p256"))
    proved, refused = bench.facts(resolved)
    assert [facts.form for facts in proved] == [Form.SIMPLE_SIGNING]
    assert [type(err) for err in refused] == [OtherKey]


def test_cosign_and_sigkit_sign_side_by_side(bench):
    resolved = bench.push_image()
    bench.sign(resolved)
    bench.cosign_sign(resolved)
    bench.sign(resolved, more="1")
    assert len(bench.facts(resolved)[0]) == 3
    assert len(json.loads(bench.cosign_verify(resolved).stdout)) == 3


def test_signing_again_adds_nothing(bench):
    resolved = bench.push_image()
    first, second = bench.sign(resolved), bench.sign(resolved)
    assert (first.added, second.added) == (True, False)
    assert second.manifest == first.manifest
    assert len(json.loads(bench.cosign_verify(resolved).stdout)) == 1


def test_an_attestation_by_the_key_is_no_signature(bench):
    resolved = bench.push_image()
    (bench.cosign.home / "sbom.json").write_text("{}")
    bench.cosign.makes("attest", PLAIN_HTTP, "--type", "https://spdx.dev/Document", "--predicate", "sbom.json", bench.pinned(resolved))
    (facts,), _ = bench.facts(resolved)
    assert facts.signature.predicate_type == "https://spdx.dev/Document"


def test_cosigns_keys_are_read_and_sign(bench):
    prefix = bench.cosign.home / "theirs"
    done = bench.cosign("generate-key-pair", "--output-key-prefix", prefix)
    assert done.returncode == 0, done.stderr
    key = load_private(f"{prefix}.key", lambda: PASSWORD)
    assert load_public(f"{prefix}.pub") == key.public
    assert os.stat(f"{prefix}.key").st_mode & 0o777 == 0o600
    resolved = bench.push_image()
    bench.sign(resolved, key)
    done = bench.cosign("verify", "--key", f"{prefix}.pub", "--insecure-ignore-tlog", PLAIN_HTTP, bench.pinned(resolved))
    assert done.returncode == 0, done.stderr


def test_cosign_opens_sigkits_keys_with_the_password_and_not_without(bench):
    (bench.cosign.home / "ours.key").write_bytes(encode_private(bench.key, PASSWORD))
    done = bench.cosign("public-key", "--key", "ours.key")
    assert done.returncode == 0, done.stderr
    assert done.stdout.encode() == bench.key.public.encode_pem()
    assert bench.cosign("public-key", "--key", "ours.key", COSIGN_PASSWORD="wrong").returncode != 0
