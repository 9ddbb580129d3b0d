"""cosign 3 verifies the attestations and the signatures of files that sigkit makes, by every kind of key."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sigkit.errors import NOWHERE
from sigkit.keys.cosign_pem import encode_private
from sigkit.keys.private import GENERATED_KINDS, generate, parse_private_key
from tests.simulators.hand import Hand

pytestmark = pytest.mark.peers

KINDS = (*GENERATED_KINDS, "rsa")
HASH_FLAGS = {"ecdsa-p384": ("--signature-digest-algorithm", "sha384"), "ecdsa-p521": ("--signature-digest-algorithm", "sha512")}
PREDICATES = {
    "custom": "any text\n",
    "slsaprovenance": '{"builder":{"id":"https://b.example"},"buildType":"t","invocation":{},"materials":[]}',
    "slsaprovenance1": '{"buildDefinition":{"buildType":"t","externalParameters":{}},"runDetails":{"builder":{"id":"https://b.example"}}}',
    "spdxjson": '{"spdxVersion":"SPDX-2.3","name":"<&>\\u00e9"}',
    "cyclonedx": '{"bomFormat":"CycloneDX","specVersion":"1.5"}',
    "vuln": '{"invocation":{},"scanner":{"uri":"u","version":"1","db":{},"result":{}},"metadata":{}}',
    "openvex": '{"@context":"https://openvex.dev/ns/v0.2.0","@id":"i","author":"a","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[]}',
    "link": '{"_type":"link","name":"n","command":[],"materials":{},"products":{},"byproducts":{},"environment":{}}',
    "https://example.com/own/v1": '{"n":[1,2.5,true,null],"text":"\\u2028"}',
}


def make_key(kind: str):
    if kind != "rsa":
        return generate(kind)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return parse_private_key(der, NOWHERE)


class Bench:
    """A hand with a key, and cosign beside it."""

    def __init__(self, peer, home, kind: str) -> None:
        self.hand = Hand(home)
        self.home = home
        self.flags = HASH_FLAGS.get(kind, ())
        self._peer = peer
        key = make_key(kind)
        (home / "release.key").write_bytes(encode_private(key, "hand"))
        (home / "release.pub").write_bytes(key.public.encode_pem())
        (home / "file.txt").write_text("some content")

    def cosign(self, command: str, *args: str, **how):
        fixed = ("--key", f"{self.home}/release.pub", "--insecure-ignore-tlog", *self.flags)
        return self._peer("cosign", command, *fixed, *args, cwd=self.home, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_signed_by_sigkit_is_verified_by_cosign(peer, tmp_path, kind):
    bench = Bench(peer, tmp_path, kind)
    bench.hand("sign-blob", "--key", "release.key", "--bundle", "b.json", "--output-signature", "s.txt", "file.txt")
    done = bench.cosign("verify-blob", "--bundle", "b.json", "file.txt")
    assert done.returncode == 0, done.stderr
    done = bench.cosign("verify-blob", "--signature", "s.txt", "--new-bundle-format=false", "file.txt")
    assert done.returncode == 0, done.stderr
    (tmp_path / "file.txt").write_text("other content")
    assert bench.cosign("verify-blob", "--bundle", "b.json", "file.txt").returncode == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_attestation_of_a_file_by_sigkit_is_verified_by_cosign(peer, tmp_path, kind):
    bench = Bench(peer, tmp_path, kind)
    (tmp_path / "p.json").write_text(PREDICATES["slsaprovenance1"])
    bench.hand(
        "attest-blob", "--key", "release.key", "--predicate", "p.json", "--type", "slsaprovenance1", "--bundle", "b.json", "file.txt"
    )
    done = bench.cosign("verify-blob-attestation", "--bundle", "b.json", "--type", "slsaprovenance1", "file.txt")
    assert done.returncode == 0, done.stderr
    assert bench.cosign("verify-blob-attestation", "--bundle", "b.json", "--type", "vuln", "file.txt").returncode == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_attestation_of_an_image_by_sigkit_is_verified_by_cosign(peer, tmp_path, kind):
    bench = Bench(peer, tmp_path, kind)
    with bench.hand.registry() as address:
        attested = attest(bench, address, "custom")
        done = bench.cosign("verify-attestation", "--type", "custom", attested)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PREDICATES)
def test_every_type_of_predicate_is_verified_by_cosign_as_what_it_is(peer, tmp_path, docker_registry, name):
    bench = Bench(peer, tmp_path, "ecdsa-p256")
    attested = attest(bench, docker_registry.address, name)
    done = bench.cosign("verify-attestation", "--type", name, "--allow-http-registry", attested)
    assert done.returncode == 0, done.stderr
    envelope = json.loads(done.stdout.splitlines()[0])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    other = "vuln" if name != "vuln" else "openvex"
    assert bench.cosign("verify-attestation", "--type", other, "--allow-http-registry", attested).returncode == 1


def attest(bench: Bench, address: str, name: str) -> str:
    """Push an image, attest it twice, and return its pinned reference."""
    image = f"{address}/demo/hello:1.0"
    digest = bench.hand.image("image", "hello")
    bench.hand("copy", "oci:image", image)
    (bench.home / "p.json").write_text(PREDICATES[name])
    first, again = (bench.hand.json("attest", "--key", "release.key", "--predicate", "p.json", "--type", name, image) for _ in range(2))
    assert first["added"]
    assert not again["added"] or name == "custom"  # which holds the time
    return f"{address}/demo/hello@{digest}"
