"""A stack that is exposed is served with TLS, and clients sign and verify against it when they trust its certificate."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from sigkit.services.stack.run import running_stack
from sigkit.services.tls import Tls
from tests.simulators import stacks
from tests.simulators.command import SIGKIT
from tests.simulators.stacks import WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator


class Exposed(NamedTuple):
    stack: stacks.Stack
    authority: str  # file with the certificate that clients have to trust


@pytest.fixture(scope="module")
def exposed(tmp_path_factory) -> Iterator[Exposed]:
    directory = tmp_path_factory.mktemp("exposed")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=stack"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    url = stacks.free_url().replace("http://", "https://")
    stack = stacks.make(directory / "stack", url=url)
    listen = f"0.0.0.0:{url.rpartition(':')[2]}"
    with running_stack(str(stack.directory), listen=listen, tls=Tls(str(certificate), str(key))):
        yield Exposed(stack, str(certificate))


@pytest.fixture
def files(exposed, tmp_path) -> list[str]:
    """Return the options that both clients take to sign; the file to sign lies in `tmp_path`."""
    (tmp_path / "token").write_text(exposed.stack.token())
    (tmp_path / "file").write_bytes(b"release")
    client = exposed.stack.client
    return [
        f"--signing-config={client('signing_config.json')}",
        f"--trusted-root={client('trusted_root.json')}",
        f"--identity-token={tmp_path / 'token'}",
        "--bundle=signature",
    ]


def sigkit(directory, *arguments, status=0):
    line = [*SIGKIT, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=directory, stdin=subprocess.DEVNULL)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def identity(exposed) -> tuple[str, ...]:
    return (
        f"--trusted-root={exposed.stack.client('trusted_root.json')}",
        f"--certificate-identity={WORKLOAD}",
        f"--certificate-oidc-issuer={exposed.stack.url}",
    )


def test_sigkit_signs_when_it_is_told_which_certificate_to_trust(exposed, files, tmp_path):
    refused = sigkit(tmp_path, "sign-blob", *files, "--yes", "--output", "json", "file", status=3)
    assert json.loads(refused.stdout)["error"]["kind"] == "NET"
    assert not (tmp_path / "signature").exists()
    sigkit(tmp_path, "sign-blob", *files, "--services-cacert", exposed.authority, "--yes", "file")
    sigkit(tmp_path, "verify-blob", *identity(exposed), "--bundle", "signature", "file")


def test_the_advice_names_the_option_of_the_command_that_could_not_connect(exposed, files, tmp_path):
    root, tuf = exposed.stack.client("trusted_root.json"), exposed.stack.client("root.json")
    for option, command in (
        ("--services-cacert", ("sign-blob", *files, "--yes", "file")),
        ("--services-cacert", ("log", "checkpoint", "--trusted-root", root)),
        ("--mirror-cacert", ("trust", "init", "acme", "--mirror", f"{exposed.stack.url}/tuf", "--root", tuf)),
    ):
        remedy = json.loads(sigkit(tmp_path, *command, "--output", "json", status=3).stdout)["error"]["remedy"]
        assert f"with {option} FILE" in remedy, command


@pytest.mark.peers
def test_cosign_signs_and_follows_the_tuf_repository(exposed, files, peer, tmp_path):
    trusting = {"HOME": str(tmp_path), "SSL_CERT_FILE": shutil.copy(exposed.authority, tmp_path / "authority.pem")}
    done = peer("cosign", "sign-blob", *files, "-y", "file", env={"HOME": str(tmp_path)}, cwd=tmp_path)
    assert done.returncode != 0
    done = peer("cosign", "sign-blob", *files, "-y", "file", env=trusting, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sigkit(tmp_path, "verify-blob", *identity(exposed), "--bundle", "signature", "file")
    mirror = (f"--mirror={exposed.stack.url}/tuf", f"--root={exposed.stack.client('root.json')}")
    done = peer("cosign", "initialize", *mirror, env=trusting)
    assert done.returncode == 0, done.stderr
    done = peer("cosign", "verify-blob", *identity(exposed)[1:], "--bundle=signature", "file", env=trusting, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
