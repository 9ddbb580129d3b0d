"""sigstore-python beside sigkit, on every bundle of the conformance suite and on thousands of changed ones.

sigkit never accepts what the oracle refuses, but for the exceptions that are argued in `ARGUED`. What sigkit alone refuses is no danger,
and is counted by code, so that a new difference is seen.

The oracle demands what `sigkit verify` demands of identities: a log entry, a certificate log, a time. Keys it does not verify.
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import Place, SigkitError
from sigkit.evidence.form import Found, evidence_of_bundle
from sigkit.trust import bundled
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify
from tests.simulators.changes import difference, mutated

if TYPE_CHECKING:
    from sigkit.trust.root import TrustedRoot

sigstore = pytest.importorskip("sigstore", reason="the oracle is not installed: dependency group `oracle`")

# The oracle loads a certificate whose serial number was changed, and the library warns it.
pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")]

ASSETS = Path(os.environ.get("SIGKIT_VECTORS", "/nowhere"), "sigstore-conformance/test/assets/bundle-verify")
CASES = sorted(path.name for path in ASSETS.iterdir() if path.is_dir() and not (path / "key.pub").exists()) if ASSETS.is_dir() else []
MUTATED = ("happy-path-v0.3", "happy-path-v0.1", "happy-path-intoto-in-dsse-v3", "rekor2-happy-path", "rekor2-dsse-happy-path")
ROUNDS = int(os.environ.get("SIGKIT_DIFFERENTIAL_ROUNDS", "150"))  # of each; the long run sets 2000

# What sigkit accepts and sigstore-python 4.5.1 refuses, and why that is right.
ARGUED = {
    "bundle-with-sct-with-extensions": "RFC 6962 section 3.2: extensions of an SCT are signed with it; the oracle leaves them out",
    "happy-path-v0.1": "evidence.md: an entry of version 0.1 needs the promise alone",
    "intoto-with-custom-trust-root": "an intoto 0.0.2 entry, a kind that the oracle does not know",
    "happy-path-intoto-in-dsse-v3": "an intoto 0.0.2 entry, a kind that the oracle does not know",
    "trust-root-tsa-validity-end-inclusive": "sigstore_trustroot.proto, TimeRange: both ends belong to it",
}


# What sigkit refuses and sigstore-python accepts, by code, and why.
STRICTER = {
    "SK-PARSE-001": "bytes that are no JSON document",
    "SK-PARSE-002": "an unknown, missing or repeated member: cosign refuses it too",
    "SK-PARSE-003": "base64 with other characters, line breaks or stray bits: two texts for the same bytes",
    "SK-PARSE-008": "another version of bundle",
    "SK-BIND-001": "a digest beside the signature that is another file's",
    "SK-BIND-003": "an index of the entry that is not that of its proof",
    "demands": "the id of a log that is none of the root's: the oracle takes the log by its checkpoint's key",
    "SK-TLOG-002": "a note with a line that is no signature, which the oracle passes over",
    "SK-TLOG-003": "a checkpoint that is wrong beside a promise that is right",
    "SK-TLOG-005": "a promise that is wrong beside a proof that is right",
    "SK-TIME-001": "a promise that is gone, and the time with it",
}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", autouse=True)
def _vectors():
    if not CASES:
        pytest.skip("SIGKIT_VECTORS names no directory")


class Pair:
    """Both verifiers with the same trust root and artifact."""

    def __init__(self, case: str) -> None:
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier

        folder = ASSETS / case
        own = folder / "trusted_root.json"
        path = own if own.exists() else Path(bundled.__file__).parent / "public_good.json"
        self.content = ((folder / "a.txt") if (folder / "a.txt").exists() else ASSETS / "a.txt").read_bytes()
        self.raw = (folder / "bundle.sigstore.json").read_bytes()
        self.root: TrustedRoot | None = None
        self.oracle: Any = None
        try:
            self.root = parse_trusted_root(path.read_bytes(), "root", Place(str(path)), limits.DEFAULT)
        except SigkitError:
            pass  # and it stays without one
        try:
            self.oracle = Verifier(trusted_root=TrustedRoot.from_file(str(path)))
        except Exception:  # noqa: BLE001, S110 - whatever the oracle raises is a refusal
            pass

    def sigkit(self, raw: bytes) -> str:
        """Return "" for accepted, or the code of the refusal."""
        if self.root is None:
            return "the root is refused"
        try:
            artifact, now = Artifact.of_content(self.content), datetime.now(UTC)
            facts = verify(evidence_of_bundle(raw, Found("b", None, "file")), artifact, self.root, now, limits.DEFAULT)
        except SigkitError as err:
            return err.code
        if not facts.certificate_logs or not (facts.inclusions or facts.promises):
            return "demands"
        return ""

    def other(self, raw: bytes) -> bool:
        """Tell whether the oracle accepts."""
        from sigstore.models import Bundle
        from sigstore.verify import policy

        if self.oracle is None:
            return False
        try:
            bundle = Bundle.from_json(raw)
            if "dsseEnvelope" not in json.loads(raw):
                self.oracle.verify_artifact(self.content, bundle, policy.UnsafeNoOp())
                return True
            _, payload = self.oracle.verify_dsse(bundle, policy.UnsafeNoOp())
            wanted = Digest.of(self.content).hex
            return any(subject.get("digest", {}).get("sha256") == wanted for subject in json.loads(payload)["subject"])
        except Exception:  # noqa: BLE001 - whatever the oracle raises is a refusal
            return False


@pytest.mark.parametrize("case", CASES)
def test_no_case_is_accepted_that_the_oracle_refuses(case):
    pair = Pair(case)
    ours, theirs = pair.sigkit(pair.raw), pair.other(pair.raw)
    if not ours and not theirs:
        assert case in ARGUED
    if ours and theirs:
        assert case.endswith("_fail"), ours


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", MUTATED)
def test_no_changed_bundle_is_accepted_that_the_oracle_refuses(case):
    pair = Pair(case)
    document = json.loads(pair.raw)
    donors = [json.loads((ASSETS / name / "bundle.sigstore.json").read_bytes()) for name in MUTATED if name != case]
    dice = random.Random(case)  # noqa: S311 - the same every time
    stricter: Counter[str] = Counter()
    tried = 0
    while tried < ROUNDS:
        changed = mutated(document, dice.choice(donors), dice)
        if changed is None:
            continue
        tried += 1
        raw = json.dumps(changed).encode()
        ours = pair.sigkit(raw)
        theirs = pair.other(raw)
        if not ours and not theirs:
            assert _is_argued(case, document, changed), json.dumps(difference(document, changed))[:600]
        if ours and theirs:
            stricter[ours] += 1
    assert set(stricter) <= set(STRICTER), stricter


def _is_argued(case, document, changed) -> bool:
    """Tell whether the whole case is argued, or the change is one of those that nobody signed and that prove nothing."""
    path, now = difference(document, changed)
    # The leaf of such an entry is made from the evidence; sigstore-go does not look at the body either, whatever it holds.
    without_body = case.startswith("rekor2-") and path[-1:] == ("canonicalizedBody",) and now in {"removed", ""}
    # What cosign 3 writes for an Ed25519 key: nothing is said of the digest, and the signature is over the file.
    without_digest = changed.get("messageSignature", {}).get("messageDigest") == {}
    return case in ARGUED or without_body or without_digest or path == ("dsseEnvelope", "signatures", 0, "keyid")
