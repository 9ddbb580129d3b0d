"""cosign verifies what sigkit signed with the simulated instance: both generations of logs, identities and keys, files and statements."""

from __future__ import annotations

import pytest

from sigkit.keys.private import generate
from sigkit.signing.blob import attest_file, sign_file
from sigkit.signing.predicate import Predicate
from tests.simulators.sessions import Session
from tests.simulators.sigstore_services import SUBJECT

pytestmark = pytest.mark.peers

TYPE = "https://acme.example/p"


@pytest.fixture
def session():
    with Session.open() as opened:
        yield opened


@pytest.fixture
def verifies(peer, session, tmp_path):
    """Return a function that asks cosign about a bundle over the file `file`."""

    def ask(bundle: bytes, *who: str, attested: bool) -> str:
        (tmp_path / "bundle").write_bytes(bundle)
        (tmp_path / "root").write_bytes(session.server.sim.root())
        command = ("verify-blob-attestation", f"--type={TYPE}") if attested else ("verify-blob",)
        done = peer("cosign", *command, "--bundle=bundle", "--trusted-root=root", *who, "file", env={"HOME": str(tmp_path)}, cwd=tmp_path)
        return "" if done.returncode == 0 else done.stderr or "failed"

    (tmp_path / "file").write_bytes(b"release")
    return ask


def make(signatory, session, *, attested: bool) -> bytes:
    if attested:
        return attest_file(b"release", "file", Predicate(TYPE, {"a": 1}), signatory, session.time).bundle
    return sign_file(b"release", signatory, session.time).bundle


def logs(session, generation):
    return {"rekorTlogUrls": [session.server.instance.service(f"/log{generation}", generation)]}


@pytest.mark.parametrize("attested", [False, True])
@pytest.mark.parametrize("generation", [1, 2])
def test_cosign_verifies_an_identitys_signature(session, verifies, generation, attested):
    with session.signatory(logs(session, generation)) as signatory:
        bundle = make(signatory, session, attested=attested)
    issuer = f"--certificate-oidc-issuer={session.server.instance.issuer}"
    assert verifies(bundle, f"--certificate-identity={SUBJECT}", issuer, attested=attested) == ""
    assert verifies(bundle, "--certificate-identity=https://git.example/other", issuer, attested=attested) != ""


@pytest.mark.parametrize("attested", [False, True])
@pytest.mark.parametrize("generation", [1, 2])
def test_cosign_verifies_a_keys_signature_with_log_and_timestamp(session, verifies, tmp_path, generation, attested):
    key = generate("ecdsa-p256")
    (tmp_path / "key").write_bytes(key.public.encode_pem())
    with session.key(key, config=logs(session, generation)) as signatory:
        bundle = make(signatory, session, attested=attested)
    assert verifies(bundle, "--key=key", attested=attested) == ""
