"""sigkit signs keyless with the real Fulcio, TesseraCT, Rekor and timestamp authority, and verifies what it made; so does cosign."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.simulators import real_sigstore
from tests.simulators.command import SIGKIT
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

# Alone, for the timestamp server listens on *:2112, which nobody can choose.
pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.alone]

KEPT = ("Content-Type", "X-Log-Index", "x-log-index")
CURVES = {"ecdsa-p256": ec.SECP256R1(), "ecdsa-p384": ec.SECP384R1(), "ecdsa-p521": ec.SECP521R1()}
PERSON = "mia@acme.example"
WORKLOAD = f"spiffe://{real_sigstore.TRUST_DOMAIN}/builder"


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterator[real_sigstore.RealSigstore]:
    if missing := real_sigstore.missing():
        reason = f".ci/go-peers has not built {', '.join(missing)}"
        if os.environ.get("SIGKIT_REQUIRE_PEERS") == "1":
            pytest.fail(f"required here: {reason}", pytrace=False)
        pytest.skip(reason)
    with real_sigstore.running(tmp_path_factory.mktemp("real")) as running:
        yield running


@pytest.fixture
def home(real, tmp_path):
    (tmp_path / "file").write_bytes(b"release")
    for name in ("trusted_root.json", "signing_config.json"):
        (tmp_path / name).write_bytes((real.home / name).read_bytes())
    return tmp_path


@pytest.fixture
def sigkit(home):
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "SIGKIT_PASSWORD": ""}

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run([*SIGKIT, *arguments], capture_output=True, text=True, timeout=100, check=False, cwd=home, env=environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


SIGN = ("sign-blob", "--signing-config", "signing_config.json", "--trusted-root", "trusted_root.json", "--bundle", "b.json")


def who(identity, issuer):
    return ("--certificate-identity", identity, "--certificate-oidc-issuer", issuer)


@pytest.mark.parametrize("kind", ["person", "workload"])
def test_an_identity_signs_and_sigkit_and_cosign_verify_it(real, sigkit, peer, home, kind):
    identity, core = (PERSON, real.people) if kind == "person" else (WORKLOAD, real.workloads)
    claims = {"sub": "x", "email": PERSON, "email_verified": True} if kind == "person" else {"sub": WORKLOAD}
    (home / "token").write_text(core.token(**claims))
    document = json.loads(sigkit(*SIGN, "--identity-token", "token", "-o", "json", "file"))
    assert (document["identity"]["subject"], document["identity"]["issuer"]) == (identity, core.url)
    assert (len(document["logs"]), [time["kind"] for time in document["times"]]) == (1, ["timestamp"])
    trusted = ("--trusted-root", "trusted_root.json")
    sigkit("verify-blob", *trusted, *who(identity, core.url), "--use-signed-timestamps", "--bundle", "b.json", "file")
    given = ("--trusted-root=trusted_root.json", *who(identity, core.url), "--bundle=b.json", "file")
    done = peer("cosign", "verify-blob", *given, env={"HOME": str(home)}, cwd=home)
    assert done.returncode == 0, done.stderr


def test_a_statement_is_logged_and_cosign_verifies_it(real, sigkit, peer, home):
    (home / "token").write_text(real.people.token(sub="x", email=PERSON, email_verified=True))
    (home / "predicate").write_text("{}")
    kind = ("--type", "https://acme.example/p")
    sigkit("attest-blob", *SIGN[1:], *kind, "--predicate", "predicate", "--identity-token", "token", "file")
    given = ("--trusted-root=trusted_root.json", *who(PERSON, real.people.url), *kind, "--bundle=b.json", "file")
    done = peer("cosign", "verify-blob-attestation", *given, env={"HOME": str(home)}, cwd=home)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa"])
def test_a_key_of_any_kind_that_logs_take_is_vouched_for(real, sigkit, home, kind):
    key = rsa.generate_private_key(65537, 3072) if kind == "rsa" else ec.generate_private_key(CURVES[kind])
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (home / "k.key").write_bytes(private)
    (home / "k.pub").write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    document = json.loads(sigkit(*SIGN, "--key", "k.key", "-o", "json", "file"))
    assert (len(document["logs"]), len(document["times"])) == (1, 1)
    sigkit("verify-blob", "--key", "k.pub", "--trusted-root", "trusted_root.json", "--use-signed-timestamps", "--bundle", "b.json", "file")


def test_an_entry_that_rekor_has_already_is_read_from_its_tiles(real, sigkit, home):
    """An RSA signature is the same each time, so the second is a conflict. Rekor's own server serves no reads: its files do."""
    config = json.loads((home / "signing_config.json").read_text())
    rekor = urlsplit(config["rekorTlogUrls"][0]["url"])

    def core(seen: Seen) -> Reply:
        if seen.method == "GET":
            return Reply(200, (), (real.home / "rekor" / seen.path.removeprefix("/api/v2/")).read_bytes())
        connection = http.client.HTTPConnection("127.0.0.1", rekor.port, timeout=60)
        try:
            connection.request(seen.method, seen.target, seen.body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return Reply(answer.status, tuple((name, value) for name, value in answer.getheaders() if name in KEPT), answer.read())
        finally:
            connection.close()

    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    (home / "k.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    with MisbehavingServer(core) as front:
        config["rekorTlogUrls"][0]["url"] = front.url
        (home / "signing_config.json").write_text(json.dumps(config))
        first, second = (json.loads(sigkit(*SIGN, "--key", "k.key", "-o", "json", "file"))["logs"] for _ in range(2))
        assert first == second
        assert len(front.seen("POST")) == 2
        assert front.seen("GET", "/api/v2/checkpoint")


def test_the_real_authoritys_words_are_handed_on(real, home):
    """A token that no key of the issuer signed: all that can be seen here is right."""
    token = real.people.token(sub="x", email=PERSON, email_verified=True)
    (home / "token").write_text(token[:-6] + "AAAAAA")
    line = [*SIGKIT, *SIGN, "--identity-token", "token", "file"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, cwd=home)
    assert done.returncode == 1
    assert "There was an error processing the identity token" in done.stderr
    assert not (home / "b.json").exists()
