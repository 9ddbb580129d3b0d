"""cosign's older bundle of a file's attestation, with certificate and the log's promise: both programs verify a simulated one.

So what tests/evidence/test_older_attestations.py changes is what cosign reads. It takes authorities for this form from its environment.
"""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sigkit.cli.main import run
from sigkit.evidence.form import CERTIFICATE_PART, LAYER_PART, REKOR_BUNDLE_PART
from tests.simulators.attached import PREDICATE
from tests.simulators.cosign import READ_OLDER
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

pytestmark = pytest.mark.peers


def pem(key) -> bytes:
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def chain(*certificates: x509.Certificate) -> bytes:
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in certificates)


class Bench:
    """A simulated instance's attestation of a file in `home`, and both programs."""

    def __init__(self, peer, home, by: str) -> None:
        self._peer, self._home = peer, home
        self._sim = Simulator()
        subject = [{"digest": {"sha256": hashlib.sha256(FILE).hexdigest()}}]
        self._sim.change["statement"] = lambda document: {**document, "subject": subject}
        self.first, self.second = (self._document(by) for _ in range(2))
        identity = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)
        self._who = identity if by == "identity" else ("--key", "signer.pub")
        sim = self._sim
        self._environment = {
            "SIGSTORE_ROOT_FILE": ("ca.pem", chain(sim.ca.intermediate.certificate, sim.ca.anchor.certificate)),
            "SIGSTORE_REKOR_PUBLIC_KEY": ("rekor.pub", pem(sim.log1.key)),
            "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE": ("ct.pub", pem(sim.ct.key)),
        }
        more = {"signer.pub": pem(sim.key), "root.json": sim.root(), "file": FILE}
        for name, raw in (*self._environment.values(), *more.items()):
            (home / name).write_bytes(raw)

    def _document(self, by: str) -> dict[str, object]:
        parts = self._sim.make("att", ("dsse",), by).parts
        signer = parts[CERTIFICATE_PART] if by == "identity" else pem(self._sim.key)
        return {
            "base64Signature": base64.b64encode(parts[LAYER_PART]).decode(),
            "cert": base64.b64encode(signer).decode(),
            "rekorBundle": json.loads(parts[REKOR_BUNDLE_PART]),
        }

    def judge(self, document: dict[str, object], kind: str = PREDICATE) -> tuple[int, int]:
        """Return what sigkit and cosign end with."""
        (self._home / "bundle.json").write_text(json.dumps(document))
        asked = ("verify-blob-attestation", *self._who, "--type", kind, "--bundle", "bundle.json")
        environment = {name: str(self._home / file) for name, (file, _) in self._environment.items()}
        done = self._peer("cosign", *asked, READ_OLDER, "file", cwd=self._home, env=environment)
        return run([*asked, "--trusted-root", "root.json", "file"]), done.returncode


@pytest.fixture
def bench(peer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda by: Bench(peer, tmp_path, by)


@pytest.mark.parametrize("by", ["identity", "key"])
def test_both_verify_it_as_the_attestation_that_it_is(bench, by):
    made = bench(by)
    assert made.judge(made.first) == (0, 0)
    assert made.judge(made.first, "https://example.com/another") == (1, 1)


@pytest.mark.parametrize("by", ["identity", "key"])
@pytest.mark.parametrize("name", ["rekorBundle", "base64Signature"])
def test_both_refuse_it_with_a_part_of_another(bench, by, name):
    made = bench(by)
    assert made.judge({**made.first, name: made.second[name]}) == (1, 1)


def test_both_refuse_it_with_another_certificate(bench):
    made = bench("identity")
    assert made.judge({**made.first, "cert": made.second["cert"]}) == (1, 1)
