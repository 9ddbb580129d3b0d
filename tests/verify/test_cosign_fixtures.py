"""What cosign 3.1.1 wrote once is verified for ever, also where no cosign is at hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.digest import Digest, parse_digest
from sigkit.errors import OtherArtifact, WrongPassword
from sigkit.evidence.form import LAYER_PART, SIGNATURE_PART, Evidence, Form, Found, evidence_of_bundle
from sigkit.evidence.statement import PREDICATE_SIGNATURE, REPOSITORY_ANNOTATION
from sigkit.keys.load import load_private, load_public
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "cosign"
KINDS = {"p256": "ecdsa-p256", "p384": "ecdsa-p384", "ed25519": "ed25519"}
NOW = datetime(2026, 11, 25, tzinfo=UTC)

each = pytest.mark.parametrize("name", list(KINDS))
both = pytest.mark.parametrize("form", [Form.BUNDLE, Form.SIMPLE_SIGNING])


def evidence(name: str, form: Form) -> Evidence:
    if form is Form.BUNDLE:
        return evidence_of_bundle((FIXTURES / f"{name}.bundle.json").read_bytes(), Found("fixture", None, "file"))
    parts = {LAYER_PART: f"{name}.simple-signing.json", SIGNATURE_PART: f"{name}.simple-signing.sig"}
    return Evidence(form, {part: (FIXTURES / file).read_bytes() for part, file in parts.items()}, Found("fixture", None, "file"))


def facts_of(name: str, form: Form, artifact: Digest | None = None):
    key = load_public(str(FIXTURES / f"{name}.pub"))
    digest = artifact or parse_digest((FIXTURES / f"{name}.digest").read_text().strip())
    return verify(evidence(name, form), Artifact.of(digest), root_of_keys([TrustedKey("fixture", key)], "test"), NOW, limits.DEFAULT)


@each
@both
def test_it_proves_key_artifact_annotations_and_name(name, form):
    facts = facts_of(name, form)
    assert facts.signer.signer.kind == KINDS[name]
    assert facts.signature.predicate_type == PREDICATE_SIGNATURE
    assert facts.signature.repository == f"registry.example/fixtures/{name}"
    assert {key: value for key, value in facts.signature.annotations.items() if key != REPOSITORY_ANNOTATION} == {"build": "7"}
    assert facts.unchecked == ()


@each
@both
def test_it_proves_nothing_about_another_artifact(name, form):
    with pytest.raises(OtherArtifact):
        facts_of(name, form, Digest.of(b"another"))


@each
def test_the_private_key_opens_with_its_password_only(name):
    path = str(FIXTURES / f"{name}.key")
    assert load_private(path, lambda: "fixture").public == load_public(str(FIXTURES / f"{name}.pub"))
    with pytest.raises(WrongPassword) as caught:
        load_private(path, lambda: "wrong")
    assert caught.value.status() == 2
