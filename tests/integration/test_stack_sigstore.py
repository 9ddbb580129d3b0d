"""sigstore-python signs and verifies against a stack, by its trust config and by its TUF repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.simulators import stacks
from tests.simulators.command import SIGKIT
from tests.simulators.stacks import WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("sigstore", reason="the oracle is not installed: dependency group `oracle`")

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[stacks.Stack]:
    with stacks.running(tmp_path_factory.mktemp("stacked") / "stack") as running:
        yield running


@pytest.fixture
def sigstore(tmp_path):
    """Run sigstore-python's command line in a home of its own."""
    (tmp_path / "file").write_bytes(b"release")
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def run(*arguments, status=0):
        line = [sys.executable, "-I", "-m", "sigstore", *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def wanted(stack, identity=WORKLOAD) -> tuple[str, ...]:
    return ("--cert-identity", identity, "--cert-oidc-issuer", stack.url)


def test_a_token_signs_and_the_identity_is_verified(sigstore, stack, tmp_path):
    trust = ("--trust-config", stack.client("trust_config.json"))
    sigstore(*trust, "sign", "--identity-token", stack.token(), "--bundle", "signature", "file")
    sigstore(*trust, "verify", "identity", *wanted(stack), "--bundle", "signature", "file")
    sigstore(*trust, "verify", "identity", *wanted(stack, "https://ci.acme.example/evil"), "--bundle", "signature", "file", status=1)
    (tmp_path / "file").write_bytes(b"another")
    sigstore(*trust, "verify", "identity", *wanted(stack), "--bundle", "signature", "file", status=1)


def test_the_trust_root_comes_from_the_stacks_tuf_repository(sigstore, stack):
    instance = ("--instance", f"{stack.url}/tuf")
    sigstore(*instance, "trust-instance", stack.client("root.json"))
    sigstore(*instance, "sign", "--identity-token", stack.token("mia@acme.example"), "--bundle", "signature", "file")
    sigstore(*instance, "verify", "identity", *wanted(stack, "mia@acme.example"), "--bundle", "signature", "file")


def test_what_sigstore_signs_sigkit_verifies(sigstore, stack, tmp_path):
    sigstore(
        "--trust-config", stack.client("trust_config.json"), "sign", "--identity-token", stack.token(), "--bundle", "signature", "file"
    )
    identity = ("--certificate-identity", WORKLOAD, "--certificate-oidc-issuer", stack.url)
    line = [*SIGKIT, "verify-blob", "--trusted-root", stack.client("trusted_root.json"), *identity, "--bundle", "signature", "file"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = json.loads((tmp_path / "signature").read_text())["verificationMaterial"]
    assert re.fullmatch("[1-9][0-9]*", bundle["tlogEntries"][0]["logIndex"])
