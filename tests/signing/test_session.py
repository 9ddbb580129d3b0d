"""Signing an image: what is signed, that it is verified first, and that nothing is signed twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sigkit import limits, strict
from sigkit.errors import BadSignature, EvidenceUnlistable, FileUnreadable, WrongShape
from sigkit.evidence.collect import collect
from sigkit.evidence.form import BUNDLE_PART
from sigkit.keys.private import generate
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.resolve import resolve
from sigkit.signing import session
from sigkit.signing.keyed import KeySignatory, StatementToSign
from sigkit.signing.payload import statement_for
from sigkit.signing.predicate import Predicate
from tests.simulators.images import small_image
from tests.simulators.memory_registry import MemoryRegistry, Referrers

HERE = Repository("registry.example", "acme/app")
KEY = generate("ecdsa-p256")


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 25, tzinfo=UTC)


def shop(referrers: Referrers = Referrers.API, kind: type[MemoryRegistry] = MemoryRegistry):
    registry = kind(referrers)
    small_image().push(registry, HERE, "v1")
    return registry, resolve(registry, parse_reference(f"{HERE}:v1"))


def sign_image(registry, resolved, key=KEY, **annotations: str):
    return session.sign_image(registry, resolved, KeySignatory(key), annotations, Clock())


def attached(registry, resolved):
    return collect(registry, HERE, resolved.digest, limits.DEFAULT).evidence


def test_the_statement_names_digest_and_repository_twice_and_no_tag():
    _, resolved = shop()
    document = json.loads(statement_for(resolved, {"b": "2", "a": "1"}).encode())
    assert document == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {
                "name": str(HERE),
                "digest": {"sha256": resolved.digest.hex},
                "annotations": {"a": "1", "b": "2", "sigkit.dev/repository": str(HERE)},
            }
        ],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    }


@pytest.mark.parametrize("name", ["sigkit.dev/repository", "sigkit.dev/x", ""])
def test_a_reserved_annotation_is_a_usage_error_and_nothing_is_asked_of_the_registry(name):
    registry, resolved = shop()
    registry.asked.clear()
    with pytest.raises(WrongShape) as caught:
        sign_image(registry, resolved, **{name: "evil.example/app"})
    assert caught.value.status() == 2
    assert registry.asked == []


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ed25519"])
def test_the_hint_is_cosigns_and_no_key_id_is_written(kind):
    _, resolved = shop()
    key = generate(kind)
    bundle = json.loads(KeySignatory(key).make(StatementToSign(statement_for(resolved, {}).encode())).bundle)
    assert bundle["verificationMaterial"] == {"publicKey": {"hint": strict.encode_base64(key.public.fingerprint.value)}}
    assert list(bundle["dsseEnvelope"]["signatures"][0]) == ["sig"]


@pytest.mark.parametrize("referrers", list(Referrers))
@pytest.mark.parametrize("kind", ["ecdsa-p256", "ed25519"])
def test_the_same_signature_is_added_once(referrers, kind):
    registry, resolved = shop(referrers)
    key = generate(kind)
    first, second = (sign_image(registry, resolved, key, build="7") for _ in range(2))
    assert (first.added, second.added) == (True, False)
    assert second.manifest == first.manifest
    assert second.facts.signature == first.facts.signature
    assert len(attached(registry, resolved)) == 1


def test_another_key_annotation_or_repository_is_another_signature():
    registry, resolved = shop()
    assert sign_image(registry, resolved).added
    assert sign_image(registry, resolved, generate("ecdsa-p256")).added
    assert sign_image(registry, resolved, build="7").added
    assert sign_image(registry, resolved, build="8").added
    assert len(attached(registry, resolved)) == 4


def test_what_is_stored_is_what_was_verified():
    registry, resolved = shop()
    signed = sign_image(registry, resolved)
    (evidence,) = attached(registry, resolved)
    payload = strict.decode_base64(json.loads(evidence.parts[BUNDLE_PART])["dsseEnvelope"]["payload"])
    assert payload == statement_for(resolved, {}).encode()
    assert signed.facts.signature.repository == str(HERE)


def test_a_signature_that_does_not_verify_is_never_attached():
    class Broken:
        public = generate("ecdsa-p256").public

        def sign(self, message: bytes) -> bytes:
            return KEY.sign(message)

    registry, resolved = shop()
    with pytest.raises(BadSignature):
        sign_image(registry, resolved, Broken())
    assert attached(registry, resolved) == ()
    assert len(registry.manifests) == 1


def test_nothing_is_pushed_when_what_is_there_cannot_be_listed():
    class Failing(MemoryRegistry):
        def list_referrers(self, *_):
            raise FileUnreadable("status 500")

    registry, resolved = shop(kind=Failing)
    with pytest.raises(EvidenceUnlistable):
        sign_image(registry, resolved)
    assert len(registry.manifests) == 1


PREDICATE = Predicate("https://example.com/t", {"a": 1})


def attest_image(registry, resolved, key=KEY, predicate=PREDICATE):
    return session.attest_image(registry, resolved, KeySignatory(key), predicate, Clock())


def test_an_attestation_names_digest_and_repository_as_a_signature_does():
    registry, resolved = shop()
    attested = attest_image(registry, resolved)
    (evidence,) = attached(registry, resolved)
    payload = json.loads(strict.decode_base64(json.loads(evidence.parts[BUNDLE_PART])["dsseEnvelope"]["payload"]))
    assert payload["subject"] == json.loads(statement_for(resolved, {}).encode())["subject"]
    assert (payload["predicateType"], payload["predicate"]) == ("https://example.com/t", {"a": 1})
    assert attested.facts.signature.predicate_type == "https://example.com/t"
    assert attested.facts.signature.repository == str(HERE)


@pytest.mark.parametrize("referrers", list(Referrers))
def test_the_same_attestation_is_added_once_and_another_beside_it(referrers):
    registry, resolved = shop(referrers)
    first, second = (attest_image(registry, resolved) for _ in range(2))
    assert (first.added, second.added) == (True, False)
    assert second.manifest == first.manifest
    assert attest_image(registry, resolved, generate("ecdsa-p256")).added
    assert attest_image(registry, resolved, predicate=Predicate("https://example.com/t", {"a": 2})).added
    assert attest_image(registry, resolved, predicate=Predicate("https://example.com/u", {"a": 1})).added
    assert sign_image(registry, resolved).added
    assert len(attached(registry, resolved)) == 5


def test_an_attestation_that_does_not_verify_is_never_attached():
    class Broken:
        public = generate("ecdsa-p256").public

        def sign(self, message: bytes) -> bytes:
            return KEY.sign(message)

    registry, resolved = shop()
    with pytest.raises(BadSignature):
        attest_image(registry, resolved, Broken())
    assert attached(registry, resolved) == ()
