"""cosign beside sigkit, on every bundle of the conformance suite and on changed ones, by keys and by identities.

sigkit never accepts what cosign refuses, but for the exceptions that are argued. Both demand what sigstore's clients demand: a log entry,
and of identities a certificate log.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import Place, SigkitError
from sigkit.evidence.form import Found, evidence_of_bundle
from sigkit.keys.public import parse_public_key
from sigkit.trust import bundled
from sigkit.trust.root import TrustedKey, root_of_keys, with_keys
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify
from tests.simulators.changes import difference, mutated
from tests.simulators.sigstore import FILE, Simulator

pytestmark = pytest.mark.peers

ASSETS = Path(os.environ.get("SIGKIT_VECTORS", "/nowhere"), "sigstore-conformance/test/assets/bundle-verify")
CASES = sorted(path.name for path in ASSETS.iterdir() if path.is_dir()) if ASSETS.is_dir() else []
ROUNDS = int(os.environ.get("SIGKIT_DIFFERENTIAL_ROUNDS", "25"))  # of each; the long run sets 500
MADE = [
    *(("message", logs, by) for logs in (("hashedrekord",), ("v2",), ("hashedrekord", "v2")) for by in ("key", "identity")),
    *(("dsse", logs, by) for logs in (("dsse",), ("intoto",), ("v2",)) for by in ("key", "identity")),
]

# What sigkit accepts and cosign refuses when it is gone or empty, by a member of its path, and why that is right.
ARGUED = {
    "messageDigest": "not signed, and sigstore_common.proto calls it a hint: the signature is over the file",
    "canonicalizedBody": "sigstore_rekor.proto: where it is not set, clients make it of the evidence, as for the second generation",
    "inclusionPromise": "by key: the proof says that the entry is there, and nobody asked when; cosign wants the log's time",
    "keyid": "not signed; cosign takes the fingerprint of an SSH key there and nothing else",
}
# A case that sigkit refuses and cosign accepts.
STRICTER_CASES = {"intoto-tsa-timestamp-outside-cert-validity_fail": "a good time of the log does not hide a timestamp that does not fit"}
# What sigkit refuses and cosign accepts, by code, and why.
STRICTER = {
    "SK-PARSE-002": "a member that is missing, empty or repeated",
    "SK-PARSE-003": "base64 with line breaks, other characters or stray bits: two texts for the same bytes",
    "SK-BIND-003": "an index of the entry that is not that of its proof",
    "SK-TLOG-001": "a proof that is wrong beside a promise that is right",
    "SK-TLOG-002": "a note with a line that is no signature, which cosign passes over",
    "SK-TLOG-003": "a checkpoint that is wrong beside a promise that is right",
    "SK-TLOG-004": "a checkpoint of another tree beside a promise that is right",
    "SK-TLOG-005": "a promise that is wrong beside a good timestamp",
    "SK-TLOG-006": "the kind of an entry, which cosign reads from the body",
    "SK-TIME-005": "a timestamp that is wrong beside a promise that is right",
}


@dataclass(frozen=True)
class Question:
    """A bundle about a file, under a trusted root and perhaps a key."""

    bundle: bytes
    root: bytes
    content: bytes
    key: bytes
    subject: str

    def sigkit(self) -> str:
        """Return "" for accepted, or the code of the refusal."""
        place = Place("question")
        try:
            keys = [TrustedKey("key", parse_public_key(self.key, place))] if self.key else []
            root = with_keys(parse_trusted_root(self.root, "root", place, limits.DEFAULT), root_of_keys(keys, "keys"))
            artifact = Artifact((Digest("sha256", bytes.fromhex(self.subject)),), self.content)
            facts = verify(evidence_of_bundle(self.bundle, Found("b", None, "file")), artifact, root, datetime.now(UTC), limits.DEFAULT)
        except SigkitError as err:
            return err.code
        demanded = (facts.inclusions or facts.promises) and (keys or facts.certificate_logs)
        return "" if demanded else "demands"


@pytest.fixture
def cosign(peer, tmp_path):
    """Return a function that tells whether cosign accepts, and what it says."""

    def ask(question):
        parts = {"bundle": question.bundle, "root": question.root, "file": question.content, "key": question.key}
        for name, content in parts.items():
            (tmp_path / name).write_bytes(content)
        anybody = ("--certificate-identity-regexp", ".*", "--certificate-oidc-issuer-regexp", ".*")
        who = ("--key", tmp_path / "key") if question.key else anybody
        fixed = ("--bundle", tmp_path / "bundle", "--trusted-root", tmp_path / "root", *who)
        if b'"dsseEnvelope"' not in question.bundle:
            done = peer("cosign", "verify-blob", *fixed, tmp_path / "file")
        else:
            kind = ("--check-claims=true", "--type", _predicate_type(question.bundle))
            done = peer("cosign", "verify-blob-attestation", *fixed, *kind, "--digest", question.subject, "--digestAlg", "sha256")
        return done.returncode == 0, done.stderr

    return ask


def _predicate_type(bundle: bytes) -> str:
    try:
        payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
        return str(payload["predicateType"]) or "custom"
    except (ValueError, LookupError, TypeError):
        return "custom"


def question_of(name: str) -> Question:
    """Return a case of the conformance suite."""
    folder = ASSETS / name
    root, key = folder / "trusted_root.json", folder / "key.pub"
    artifact = folder / "artifact" if (folder / "artifact").exists() else ASSETS / "a.txt"
    public_good = Path(bundled.__file__).parent / "public_good.json"
    content = artifact.read_bytes()
    return Question(
        (folder / "bundle.sigstore.json").read_bytes(),
        (root if root.exists() else public_good).read_bytes(),
        content,
        key.read_bytes() if key.exists() else b"",
        Digest.of(content).hex,
    )


@pytest.mark.parametrize("name", CASES or [pytest.param("", marks=pytest.mark.skip(reason="SIGKIT_VECTORS names no directory"))])
def test_both_say_the_same_about_every_case(name, cosign):
    question = question_of(name)
    accepted, said = cosign(question)
    refused = question.sigkit()
    if name in STRICTER_CASES:
        assert accepted, said
        assert refused
    else:
        assert accepted == (not refused), (refused, said)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("form", "logs", "by"), MADE, ids=[f"{form}-{'+'.join(logs)}-{by}" for form, logs, by in MADE])
def test_no_changed_bundle_is_accepted_that_cosign_refuses(form, logs, by, cosign):
    sim = Simulator()
    case, donor = sim.make(form, logs, by), json.loads(sim.make(form, logs, by).parts["bundle"])
    document = json.loads(case.parts["bundle"])
    key = case.keys[0] if case.keys else b""
    dice = random.Random(f"{form}{logs}{by}")  # noqa: S311 - the same every time
    stricter: Counter[str] = Counter()
    for _ in range(ROUNDS):
        while (changed := mutated(document, donor, dice)) is None:
            pass
        question = Question(json.dumps(changed).encode(), case.root, FILE, key, case.digests[0].partition(":")[2])
        refused = question.sigkit()
        accepted, said = cosign(question)
        if not refused and not accepted:
            assert _is_argued(document, changed), (difference(document, changed), said)
        if refused and accepted:
            stricter[refused] += 1
    assert set(stricter) <= set(STRICTER), stricter


def _is_argued(document, changed) -> bool:
    path, now = difference(document, changed)
    return not ARGUED.keys().isdisjoint(map(str, path)) and (now in {"removed", ""} or path[-1] == "keyid")
