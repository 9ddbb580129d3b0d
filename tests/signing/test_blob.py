"""Signing files and what is said about them: nothing leaves that does not verify."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sigkit import limits, strict
from sigkit.digest import Digest
from sigkit.errors import BadSignature, Place, TooDeep, TooLarge
from sigkit.evidence.bundle import KeyMaterial, MessageSignature, parse_bundle
from sigkit.evidence.envelope import Envelope
from sigkit.keys.private import GENERATED_KINDS, generate
from sigkit.limits import Limits
from sigkit.signing.blob import attest_file, sign_file
from sigkit.signing.keyed import BESIDE_BYTES, KeySignatory, Made, ToSign
from sigkit.signing.payload import statement_for_file
from sigkit.signing.predicate import Predicate, parse_predicate

CONTENT = b"some content"
KEY = generate("ecdsa-p256")
PREDICATE = Predicate("https://example.com/t", {"a": 1})


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 25, tzinfo=UTC)


class Broken:
    """Says that it is one key and signs with another."""

    public = generate("ecdsa-p256").public

    def sign(self, message: bytes) -> bytes:
        return KEY.sign(message)


@pytest.mark.parametrize("kind", GENERATED_KINDS)
def test_a_files_signature_names_its_digest_by_the_hash_of_the_key(kind):
    key = generate(kind)
    signed = sign_file(CONTENT, KeySignatory(key), Clock())
    bundle = parse_bundle(signed.bundle, limits.DEFAULT, Place("b"))
    algorithm = {"ecdsa-p384": "sha384", "ecdsa-p521": "sha512"}.get(kind, "sha256")
    assert bundle.content == MessageSignature(signed.signature, Digest.of(CONTENT, algorithm))
    assert bundle.material == KeyMaterial(strict.encode_base64(key.public.fingerprint.value))
    assert signed.digest == Digest.of(CONTENT)
    key.public.verify(signed.signature, CONTENT)


def test_an_attestation_of_a_file_names_its_digest_and_name_and_no_repository():
    attested = attest_file(CONTENT, "file.txt", PREDICATE, KeySignatory(KEY), Clock())
    content = parse_bundle(attested.bundle, limits.DEFAULT, Place("b")).content
    assert isinstance(content, Envelope)
    assert json.loads(content.payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "file.txt", "digest": {"sha256": Digest.of(CONTENT).hex}, "annotations": {}}],
        "predicateType": "https://example.com/t",
        "predicate": {"a": 1},
    }
    assert attested.signature == content.signature


def test_standard_input_has_no_name():
    content = parse_bundle(attest_file(CONTENT, None, PREDICATE, KeySignatory(KEY), Clock()).bundle, limits.DEFAULT, Place("b")).content
    assert isinstance(content, Envelope)
    assert "name" not in json.loads(content.payload)["subject"][0]


def test_a_signature_that_does_not_verify_is_not_handed_out():
    with pytest.raises(BadSignature):
        sign_file(CONTENT, KeySignatory(Broken()), Clock())
    with pytest.raises(BadSignature):
        attest_file(CONTENT, None, PREDICATE, KeySignatory(Broken()), Clock())


def test_an_attestation_larger_than_evidence_may_be_is_refused_as_LIMIT():
    large = Predicate("https://example.com/t", {"a": "x" * 2_000})
    with pytest.raises(TooLarge):
        attest_file(CONTENT, None, large, KeySignatory(KEY), Clock(), Limits(bundle_bytes=2_000))


class Counted(KeySignatory):
    """Counts what it signs."""

    made = 0

    def make(self, thing: ToSign) -> Made:
        self.made += 1
        return super().make(thing)


def test_what_is_signed_leaves_room_in_evidence_for_what_comes_beside_it():
    few = Limits(bundle_bytes=BESIDE_BYTES + 4_000)
    bare = len(statement_for_file(Digest.of(CONTENT), None, PREDICATE.type).encode({"a": ""}))
    signatory = Counted(KEY)
    largest, larger = (Predicate(PREDICATE.type, {"a": "x" * (3_000 - bare + more)}) for more in (0, 1))  # 3,000 bytes are 4,000 in base64
    attest_file(CONTENT, None, largest, signatory, Clock(), few)
    with pytest.raises(TooLarge):
        attest_file(CONTENT, None, larger, signatory, Clock(), few)
    assert signatory.made == 1


def test_what_is_too_deep_for_evidence_is_refused_as_LIMIT_before_it_is_signed():
    members: dict[str, strict.Json] = {}
    for _ in range(limits.JSON_DEPTH - 1):
        members = {"a": members}
    signatory = Counted(KEY)
    predicate = parse_predicate(strict.encode_json(members), "https://example.com/t", Clock().now(), limits.DEFAULT, Place("p"))
    with pytest.raises(TooDeep):
        attest_file(CONTENT, None, predicate, signatory, Clock())
    assert signatory.made == 0
