"""cosign 3 verifies the attestations and the signatures of files that sigkit makes, and sigkit reads cosign's, by every kind of key."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sigkit import limits, strict
from sigkit.digest import Digest
from sigkit.errors import NOWHERE
from sigkit.evidence.bundle import MessageSignature, parse_bundle
from sigkit.evidence.collect import collect
from sigkit.evidence.envelope import parse_envelope_document, pre_authentication_encoding
from sigkit.evidence.form import BUNDLE_PART, LAYER_PART, SIGNATURE_PART, Form
from sigkit.evidence.local import evidence_of_file
from sigkit.evidence.statement import parse_statement
from sigkit.keys.cosign_pem import encode_private
from sigkit.keys.load import load_public
from sigkit.keys.private import GENERATED_KINDS, generate, parse_private_key
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from tests.simulators.hand import Hand

pytestmark = pytest.mark.peers

KINDS = (*GENERATED_KINDS, "rsa")
HASH_FLAGS = {"ecdsa-p384": ("--signature-digest-algorithm", "sha384"), "ecdsa-p521": ("--signature-digest-algorithm", "sha512")}
OLDER_FORM = ("--use-signing-config=false", "--new-bundle-format=false", "--tlog-upload=false")
NO_SERVICES = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json", "rekorTlogConfig": {}, "tsaConfig": {}}
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

    def by_cosign(self, command: str, *args: str):
        """Sign or attest with the private key."""
        return self._peer("cosign", command, "--key", f"{self.home}/release.key", *args, cwd=self.home, env={"COSIGN_PASSWORD": "hand"})

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


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_attestation_by_cosign_is_found_read_and_by_its_key(peer, tmp_path, docker_registry, kind):
    bench = Bench(peer, tmp_path, kind)
    image = f"{docker_registry.address}/demo/hello"
    digest = bench.hand.image("image", "hello")
    bench.hand("copy", "oci:image", f"{image}:1.0")
    (tmp_path / "p.json").write_text(PREDICATES["cyclonedx"])
    how = ("--predicate", "p.json", "--type", "cyclonedx", "--allow-http-registry", "-y", *OLDER_FORM)
    done = bench.by_cosign("attest", *how, f"{image}@{digest}")
    assert done.returncode == 0, done.stderr
    bench.hand("copy", f"{image}:1.0", f"{docker_registry.address}/demo/copied:1.0")
    for name in ("hello", "copied"):
        (found,) = collected(f"{docker_registry.address}/demo/{name}:1.0")
        assert (found.form, found.found.via) == (Form.ENVELOPE, "att-tag")
        envelope = parse_envelope_document(found.parts[LAYER_PART], limits.DEFAULT, found.place)
        message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
        load_public(str(tmp_path / "release.pub")).verify(envelope.signature, message)
        statement = parse_statement(envelope.payload, limits.DEFAULT, found.place)
        assert statement.predicate_type == "https://cyclonedx.org/bom"
        assert [str(subject.digests[0]) for subject in statement.subjects] == [digest]


@pytest.mark.parametrize("kind", KINDS)
def test_a_files_signature_by_cosign_is_read_in_both_its_forms(peer, tmp_path, kind):
    bench = Bench(peer, tmp_path, kind)
    (tmp_path / "sc.json").write_text(json.dumps(NO_SERVICES))
    key = load_public(str(tmp_path / "release.pub"))
    content = (tmp_path / "file.txt").read_bytes()
    done = bench.by_cosign("sign-blob", "--bundle", "b.json", "--signing-config", "sc.json", "-y", "file.txt")
    assert done.returncode == 0, done.stderr
    evidence = evidence_of_file((tmp_path / "b.json").read_bytes(), "b.json", limits.DEFAULT)
    bundle = parse_bundle(evidence.parts[BUNDLE_PART], limits.DEFAULT, evidence.place)
    assert isinstance(bundle.content, MessageSignature)
    key.verify(bundle.content.signature, content)
    if bundle.content.digest:
        assert bundle.content.digest == Digest.of(content, bundle.content.digest.algorithm)
    else:
        assert kind == "ed25519"
    done = bench.by_cosign("sign-blob", "--bundle", "old.json", "-y", *OLDER_FORM, "file.txt")
    assert done.returncode == 0, done.stderr
    older = evidence_of_file((tmp_path / "old.json").read_bytes(), "old.json", limits.DEFAULT)
    assert older.form is Form.BLOB_SIGNATURE
    key.verify(strict.decode_base64(older.parts[SIGNATURE_PART].decode()), content)


def collected(image: str):
    reference = parse_reference(image)
    with open_registry(RegistryOptions()) as client:
        resolved = resolve(client, reference)
        return collect(client, resolved.repository, resolved.digest, limits.DEFAULT).evidence
