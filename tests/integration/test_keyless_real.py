"""sigkit signs keyless with the real Fulcio, TesseraCT, Rekor and timestamp authority, and verifies what it made; so does cosign."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.simulators import real_sigstore
from tests.simulators.command import SIGKIT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.peers, pytest.mark.slow]

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


def test_a_key_is_vouched_for(real, sigkit, home):
    sigkit("key", "generate", "--output-key-prefix", "k")
    document = json.loads(sigkit(*SIGN, "--key", "k.key", "-o", "json", "file"))
    assert (len(document["logs"]), len(document["times"])) == (1, 1)


def test_the_real_authoritys_words_are_handed_on(real, home):
    """A token that no key of the issuer signed: all that can be seen here is right."""
    token = real.people.token(sub="x", email=PERSON, email_verified=True)
    (home / "token").write_text(token[:-6] + "AAAAAA")
    line = [*SIGKIT, *SIGN, "--identity-token", "token", "file"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, cwd=home)
    assert done.returncode == 3
    assert "There was an error processing the identity token" in done.stderr
    assert not (home / "b.json").exists()
