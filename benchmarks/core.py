"""The core alone: one bundle parsed and verified in this process, beside the signature checks that it cannot do without.

The subjects are taken in turns. Before each sample the one cache that could remember a key of the bundle is emptied, and holds only what
the trust root holds, whose links were checked when it was parsed.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from sigkit import limits
from sigkit.errors import NOWHERE
from sigkit.evidence.bundle import CertificateMaterial, parse_bundle
from sigkit.evidence.form import Found, evidence_of_bundle
from sigkit.keys import public
from sigkit.keys.public import parse_public_key
from sigkit.trust import bundled
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.trust.root import TrustedRoot

ROUNDS = 300
RAW = "its raw signature checks"
_ASSETS = "sigstore-conformance/test/assets/bundle-verify"


def why_absent() -> str:
    """Return why the core cannot be measured here, or nothing when it can."""
    return "" if os.environ.get("SIGKIT_VECTORS") else "SIGKIT_VECTORS names no directory of vectors"


def measure(name: str = "happy-path-v0.3") -> str:
    """Measure one bundle of the conformance suite, and return the table."""
    assets = Path(os.environ["SIGKIT_VECTORS"]) / _ASSETS
    raw, content = (assets / name / "bundle.sigstore.json").read_bytes(), (assets / "a.txt").read_bytes()
    root, now = bundled.load_public_good(), datetime.now(UTC)
    artifact, found = Artifact.of_content(content), Found("bundle", None, "file")

    def whole() -> object:
        return verify(evidence_of_bundle(raw, found), artifact, root, now, limits.DEFAULT)

    checks = {**_key_checks(whole), "ecdsa-p384 of the leaf": _leaf_check(raw, root)}
    read = _reading(raw)

    def least() -> None:
        for check in checks.values():
            check()
        read()

    subjects = {
        RAW: lambda: [check() for check in checks.values()],
        "(and read by the libraries alone)": least,
        "sigkit, parse and verify": whole,
    }
    if oracle := _oracle(raw, content):
        subjects["sigstore-python, parse and verify"] = oracle
    return _table(name, _samples(subjects, root), list(checks))


def _key_checks(whole: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """Return the checks by plain keys that `whole` makes, each by the library alone with its key loaded."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    made: list[tuple[public.PublicKey, bytes, bytes]] = []
    original = public.PublicKey.verify

    def spy(key: public.PublicKey, signature: bytes, message: bytes) -> None:
        made.append((key, signature, message))
        original(key, signature, message)

    with mock.patch.object(public.PublicKey, "verify", spy):
        whole()

    def check(spki: bytes, signature: bytes, message: bytes) -> Callable[[], object]:
        key = load_der_public_key(spki)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return lambda: key.verify(signature, message, ec.ECDSA(hashes.SHA256()))

    return {f"{key.kind} {number}": check(key.spki, sig, msg) for number, (key, sig, msg) in enumerate(made, 1)}


def _leaf_check(raw: bytes, root: TrustedRoot) -> Callable[[], object]:
    from cryptography import x509

    material = parse_bundle(raw, limits.DEFAULT, NOWHERE).material
    assert isinstance(material, CertificateMaterial)
    leaf = x509.load_der_x509_certificate(material.chain[0])
    known = [certificate for authority in root.certificate_authorities for certificate in authority.certificates]
    issuer = next(certificate for certificate in known if certificate.subject == leaf.issuer)
    return lambda: leaf.verify_directly_issued_by(issuer)


def _reading(raw: bytes) -> Callable[[], object]:
    """Return what nobody who verifies in Python goes without, by the libraries alone: JSON, base64, the certificate's fields."""
    from cryptography import x509

    def read() -> None:
        document = json.loads(raw)["verificationMaterial"]
        (entry,) = document["tlogEntries"]
        body = json.loads(base64.b64decode(entry["canonicalizedBody"]))
        base64.b64decode(
            base64.b64decode(body["spec"]["signature"]["publicKey"]["content"]).partition(b"-\n")[2].rpartition(b"-----END")[0]
        )
        for item in (entry["inclusionProof"]["rootHash"], *entry["inclusionProof"]["hashes"]):
            base64.b64decode(item)
        leaf = x509.load_der_x509_certificate(base64.b64decode(document["certificate"]["rawBytes"]))
        for extension in leaf.extensions:
            _ = extension.oid, extension.value
        _ = leaf.public_key(), leaf.issuer, leaf.subject, leaf.tbs_precertificate_bytes

    return read


def _oracle(raw: bytes, content: bytes) -> Callable[[], object] | None:
    try:
        from sigstore.models import Bundle, TrustedRoot
        from sigstore.verify import Verifier
        from sigstore.verify.policy import UnsafeNoOp
    except ImportError:
        return None
    logging.disable(logging.CRITICAL)
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(Path(bundled.__file__).with_name("public_good.json"))))  # the same for both
    return lambda: verifier.verify_artifact(content, Bundle.from_json(raw), UnsafeNoOp())


def _forget_the_bundle(root: TrustedRoot) -> None:
    public._kept.clear()  # noqa: SLF001 - as if the bundle were the first of its kind
    for log in (*root.logs, *root.ct_logs):
        parse_public_key(log.key.spki, NOWHERE)


def _samples(subjects: dict[str, Callable[[], object]], root: TrustedRoot) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(ROUNDS + 1):
        for name, subject in subjects.items():
            _forget_the_bundle(root)
            started = time.perf_counter()
            subject()
            if turn:  # the first is unmeasured
                taken[name].append((time.perf_counter() - started) * 1000)
    return taken


def _table(name: str, taken: dict[str, list[float]], checks: list[str]) -> str:
    base, least = statistics.median(taken[RAW]), min(taken[RAW])
    head = [
        f"### The core, in one process: `{name}`, {ROUNDS} samples in turns",
        "",
        f"Goal: ≤ 1.3 times {RAW} ({'; '.join(checks)}), and faster than sigstore-python.",
        "",
        f"| what | ms, median (least) | ratio of medians (of the least) to {RAW} |",
        "|---|---|---|",
    ]
    rows = [
        f"| {name} | {statistics.median(of):.2f} ({min(of):.2f}) | {statistics.median(of) / base:.2f} ({min(of) / least:.2f}) |"
        for name, of in taken.items()
    ]
    return "\n".join([*head, *rows, ""])
