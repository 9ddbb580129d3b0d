"""The bundles of sigstore's conformance suite: what must be refused when it is read is refused there, and everything else is read whole."""

from __future__ import annotations

import json

import pytest

from sigkit import limits
from sigkit.errors import MalformedBase64, MalformedJson, ParseError, Place, UnsupportedEvidence, WrongShape
from sigkit.evidence.bundle import CertificateMaterial, KeyMaterial, MessageSignature, parse_bundle

CASES = 70

# Those that no reader may accept, whatever it trusts; the others are for verification to refuse.
REFUSED = {
    "bundle-empty-certificate-chain_fail": (WrongShape, "$.verificationMaterial.x509CertificateChain.certificates"),
    "bundle-invalid-base64-signature_fail": (MalformedBase64, "$.messageSignature.signature"),
    "bundle-malformed-json_fail": (MalformedJson, "1:4206"),
    "bundle-negative-log-index_fail": (WrongShape, "$.verificationMaterial.tlogEntries[0].logIndex"),
    "bundle-unknown-version_fail": (UnsupportedEvidence, "$.mediaType"),
    "bundle-with-root-cert_fail": (WrongShape, "$.verificationMaterial.x509CertificateChain.certificates[1]"),
    "intoto-missing-inclusion-proof_fail": (WrongShape, "$.verificationMaterial.tlogEntries[0]"),
    "invalid-inclusion-proof_fail": (WrongShape, "$.verificationMaterial.tlogEntries[0].inclusionProof"),
    # Line breaks in base64; as protojson. That its time is wrong besides needs a case of its own.
    "rekor2-timestamp-with-incorrect-time_fail": (
        MalformedBase64,
        "$.verificationMaterial.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp",
    ),
    "rekor2-no-inclusion-proof_fail": (WrongShape, "$.verificationMaterial.tlogEntries[0]"),
}


@pytest.fixture
def assets(vectors):
    return vectors / "sigstore-conformance/test/assets/bundle-verify"


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_bundle_that_its_version_does_not_allow_is_refused_with_its_json_path(assets, case):
    error, path = REFUSED[case]
    with pytest.raises(ParseError) as caught:
        parse_bundle((assets / case / "bundle.sigstore.json").read_bytes(), limits.DEFAULT, Place("b"))
    assert type(caught.value) is error
    assert (caught.value.place.source, caught.value.place.inside) == ("b", path)


def test_every_other_bundle_is_read_whole(assets):
    others = sorted(path for path in assets.iterdir() if path.is_dir() and path.name not in REFUSED)
    assert len(others) == CASES - len(REFUSED)
    for path in others:
        raw = (path / "bundle.sigstore.json").read_bytes()
        document = json.loads(raw)
        bundle = parse_bundle(raw, limits.DEFAULT, Place(path.name))
        material = document["verificationMaterial"]
        assert isinstance(bundle.material, KeyMaterial if "publicKey" in material else CertificateMaterial)
        assert isinstance(bundle.content, MessageSignature) == ("messageSignature" in document)
        for entry, written in zip(bundle.entries, material["tlogEntries"], strict=True):
            assert str(entry.index) == written["logIndex"]
            assert entry.integrated_time == int(written.get("integratedTime", 0))
            assert (entry.promise is not None) == ("inclusionPromise" in written)
            assert entry.proof
            assert len(entry.proof.hashes) == len(written["inclusionProof"]["hashes"])
        stamps = material.get("timestampVerificationData", {}).get("rfc3161Timestamps", [])
        assert len(bundle.timestamps) == len(stamps)
