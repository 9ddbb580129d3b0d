"""C15, offline means offline: a file, its bundle and what is trusted are enough, and nothing is asked of anybody."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from tests.simulators.command import SIGKIT
from tests.simulators.sigstore import FILE, IMAGE, REPOSITORY, Simulator
from tests.simulators.trusting import NAME, WHO, fetch, pin_only, publish, write_signed_file

NO_NETWORK = ("unshare", "--net", "--")  # even the loopback interface is down there
BY_NAME = ("verify-blob", *WHO, "--bundle", "b.json", "--trusted-root", NAME, "file")
POLICY = """
apiVersion: sigkit.dev/v1alpha1
kind: Policy
trustedRoots:
  acme: {pinned: acme%s}
authorities:
  ci: {trustedRoot: acme, identity: {issuer: https://issuer.example, subjectRegExp: "https://.*"}}
rules:
  - images: ["**"]
    name: any
    require: {authority: ci}
"""


@pytest.fixture
def home(tmp_path):
    if subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    (tmp_path / "file").write_bytes(FILE)
    return tmp_path


def offline(home, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run sigkit where there is no network, and see that it does not even try to use one."""
    traced = ("strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(home / "trace")) if shutil.which("strace") else ()
    line = [*NO_NETWORK, *traced, *SIGKIT, *arguments]
    env = {**os.environ, "SIGKIT_TRUST": str(home / "trust")}
    done = subprocess.run(line, cwd=home, capture_output=True, text=True, timeout=60, check=False, env=env)
    if traced:
        calls = [call for call in (home / "trace").read_text().splitlines() if "AF_INET" in call]
        assert not calls
    return done


def test_c15a_a_file_by_key_needs_no_network(home):
    key = generate("ecdsa-p256")
    (home / "k.key").write_bytes(encode_pem("PRIVATE KEY", key.pkcs8()))
    (home / "k.pub").write_bytes(key.public.encode_pem())
    assert offline(home, "sign-blob", "--key", "k.key", "--bundle", "b.json", "file").returncode == 0
    done = offline(home, "verify-blob", "--key", "k.pub", "--bundle", "b.json", "file")
    assert done.returncode == 0, done.stderr


def test_c15b_a_file_by_identity_needs_a_trusted_root_and_no_network(home):
    (home / "root.json").write_bytes(write_signed_file(home).root())
    done = offline(home, "verify-blob", *WHO, "--bundle", "b.json", "--trusted-root", "root.json", "file")
    assert done.returncode == 0, done.stderr


def test_c15b_without_a_trusted_root_the_copy_is_used_and_its_age_is_told(home):
    write_signed_file(home)
    done = offline(home, "verify-blob", *WHO, "--bundle", "b.json", "file")
    assert done.returncode == 1
    assert "days old" in done.stderr


def test_c15c_what_was_fetched_serves_without_a_network_and_its_age_is_told(home):
    fetch(publish(write_signed_file(home), days_ago=5), home / "trust")
    done = offline(home, *BY_NAME)
    assert done.returncode == 0, done.stderr
    assert "5 days ago" in done.stderr


def test_c15d_nothing_fetched_could_not_be_checked_and_the_command_that_fetches_is_named(home):
    pin_only(publish(write_signed_file(home)), home / "trust", "https://trust.example")
    done = offline(home, *BY_NAME)
    assert done.returncode == 3
    assert f"sigkit trust update {NAME}" in done.stderr


def test_c15e_metadata_that_expired_three_days_ago_could_not_be_checked(home):
    fetch(publish(write_signed_file(home), days_ago=10), home / "trust")
    done = offline(home, *BY_NAME)
    assert done.returncode == 3
    assert "SK-UNAVAIL-062" in done.stderr
    assert f"sigkit trust update {NAME}" in done.stderr


@pytest.mark.parametrize(("granted", "status"), [("", 3), (", maxExpired: 2d", 3), (", maxExpired: 4d", 0)])
def test_c15e_unless_a_policy_grants_that_and_then_it_is_marked_stale(home, granted, status):
    sim = Simulator()
    sim.change["statement"] = lambda document: {**document, "predicateType": "https://sigstore.dev/cosign/sign/v1"}
    (home / "image.json").write_bytes(sim.make("dsse", ("dsse",)).parts["bundle"])
    fetch(publish(sim, days_ago=10), home / "trust")
    (home / "p.yaml").write_text(POLICY % granted)
    image = f"{REPOSITORY}@sha256:{IMAGE}"
    done = offline(home, "verify", "--policy", "p.yaml", "--offline", "--bundle", "image.json", image)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("SK-UNAVAIL-062" if status else "stale") in done.stderr
