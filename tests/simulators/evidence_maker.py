"""Makes evidence for tests: good by default, and changed at one point where a test asks for it."""

from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

from sigkit.digest import Digest
from sigkit.evidence.envelope import IN_TOTO_TYPE, pre_authentication_encoding
from sigkit.evidence.form import LAYER_PART, SIGNATURE_PART, Evidence, Form, Found, evidence_of_bundle
from sigkit.evidence.statement import PREDICATE_SIGNATURE, REPOSITORY_ANNOTATION
from sigkit.trust.root import TrustedKey, root_of_keys

if TYPE_CHECKING:
    from sigkit.keys.private import PrivateKey
    from sigkit.trust.root import TrustedRoot

ARTIFACT = Digest.of(b"the image's manifest")
OTHER_ARTIFACT = Digest.of(b"another image's manifest")
REPOSITORY = "registry.example/acme/app"
FOUND = Found(REPOSITORY, Digest.of(b"the referrer"), "referrers")


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def root_of(*keys: PrivateKey) -> TrustedRoot:
    return root_of_keys([TrustedKey(f"key-{number}", key.public) for number, key in enumerate(keys)], "test")


def statement(**changes: Any) -> dict[str, Any]:
    """Return a signature's statement; a change to None takes the member out."""
    document = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": REPOSITORY, "digest": {"sha256": ARTIFACT.hex}, "annotations": {REPOSITORY_ANNOTATION: REPOSITORY}}],
        "predicateType": PREDICATE_SIGNATURE,
        "predicate": {},
    }
    return _changed(document, changes)


def subject(**changes: Any) -> dict[str, Any]:
    return _changed(statement()["subject"][0], changes)


def signed(key: PrivateKey, payload: dict[str, Any] | bytes | None = None) -> dict[str, Any]:
    """Return a bundle that `key` made over a statement."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload or statement()).encode()
    signature = key.sign(pre_authentication_encoding(IN_TOTO_TYPE, raw))
    return {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": b64(key.public.fingerprint.value)}},
        "dsseEnvelope": {"payload": b64(raw), "payloadType": IN_TOTO_TYPE, "signatures": [{"sig": b64(signature)}]},
    }


def log_entry(**changes: Any) -> dict[str, Any]:
    """Return an entry of the right shape, as a bundle holds it; a change to None takes the member out."""
    document = {
        "logIndex": "7",
        "logId": {"keyId": b64(b"log")},
        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
        "integratedTime": "1700000000",
        "inclusionPromise": {"signedEntryTimestamp": b64(b"promise")},
        "inclusionProof": log_proof(),
        "canonicalizedBody": b64(b"body"),
    }
    return _changed(document, changes)


def log_proof(**changes: Any) -> dict[str, Any]:
    document = {
        "logIndex": "3",
        "treeSize": "5",
        "rootHash": b64(b"r" * 32),
        "hashes": [b64(b"h" * 32)] * 3,
        "checkpoint": {"envelope": "note"},
    }
    return _changed(document, changes)


def bundle_evidence(bundle: dict[str, Any] | bytes) -> Evidence:
    raw = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    return evidence_of_bundle(raw, FOUND)


def simple_payload(**changes: Any) -> dict[str, Any]:
    document = {
        "critical": {
            "identity": {"docker-reference": REPOSITORY},
            "image": {"docker-manifest-digest": str(ARTIFACT)},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    return _changed(document, changes)


def simple_evidence(key: PrivateKey, payload: dict[str, Any] | None = None, **parts: bytes) -> Evidence:
    raw = json.dumps(payload or simple_payload()).encode()
    return Evidence(
        Form.SIMPLE_SIGNING,
        {LAYER_PART: raw, SIGNATURE_PART: b64(key.sign(raw)).encode(), **parts},
        Found(REPOSITORY, Digest.of(b"the older manifest"), "sig-tag", "layers[0]"),
    )


def _changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = {**copy.deepcopy(document), **changes}
    return {name: value for name, value in result.items() if value is not None or name == "optional"}
