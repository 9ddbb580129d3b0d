"""C15, offline means offline: a file, its bundle and what is trusted are enough, and nothing is asked of anybody.

What fetched trust roots do without a network comes with the program that fetches them.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from tests.simulators.command import SIGKIT
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

NO_NETWORK = ("unshare", "--net", "--")  # even the loopback interface is down there


@pytest.fixture
def home(tmp_path):
    if subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here")
    (tmp_path / "file").write_bytes(FILE)
    return tmp_path


def offline(home, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run sigkit where there is no network, and see that it does not even try to use one."""
    traced = ("strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(home / "trace")) if shutil.which("strace") else ()
    line = [*NO_NETWORK, *traced, *SIGKIT, *arguments]
    done = subprocess.run(line, cwd=home, capture_output=True, text=True, timeout=60, check=False, env=environment)
    if traced:
        calls = [call for call in (home / "trace").read_text().splitlines() if "AF_INET" in call]
        assert not calls
    return done


def test_c15_a_file_by_key_needs_no_network(home):
    key = generate("ecdsa-p256")
    (home / "k.key").write_bytes(encode_pem("PRIVATE KEY", key.pkcs8()))
    (home / "k.pub").write_bytes(key.public.encode_pem())
    assert offline(home, "sign-blob", "--key", "k.key", "--bundle", "b.json", "file").returncode == 0
    done = offline(home, "verify-blob", "--key", "k.pub", "--bundle", "b.json", "file")
    assert done.returncode == 0, done.stderr


def prepare_keyless(home) -> tuple[str, ...]:
    case = Simulator().make("message", ("hashedrekord",))
    (home / "b.json").write_bytes(case.parts["bundle"])
    (home / "root.json").write_bytes(case.root)
    who = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)
    return ("verify-blob", *who, "--bundle", "b.json", "file")


def test_c15_a_file_by_identity_needs_a_trusted_root_and_no_network(home):
    done = offline(home, *prepare_keyless(home), "--trusted-root", "root.json")
    assert done.returncode == 0, done.stderr


def test_c15_without_a_trusted_root_the_copy_is_used_and_its_age_is_told(home):
    done = offline(home, *prepare_keyless(home))
    assert done.returncode == 1
    assert "days old" in done.stderr
