"""sigkit signs keyless against a stack, and cosign and sigstore-python verify what it made."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from sigkit.cli import conformance
from sigkit.clock import SystemClock
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from sigkit.services.stack.cores import open_issuer
from sigkit.services.stack.layout import load_config
from sigkit.services.tuf import Repository as TufRepository
from tests.simulators import stacks
from tests.simulators.command import SIGKIT
from tests.simulators.images import small_image
from tests.simulators.stacks import WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[stacks.Stack]:
    with stacks.running(tmp_path_factory.mktemp("stacked") / "stack") as running:
        yield running


@pytest.fixture
def home(stack, tmp_path):
    (tmp_path / "token").write_text(stack.token())
    (tmp_path / "file").write_bytes(b"release")
    (tmp_path / "predicate").write_text('{"made": "by hand"}')
    return tmp_path


@pytest.fixture
def sigkit(home):
    """Run sigkit in a home of its own."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "SIGKIT_TRUST": str(home / "trust")}

    def run(*arguments: Any, status: int = 0) -> Done:
        line = [*SIGKIT, *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, cwd=home, env=environment)
        assert done.returncode == status, done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def image(stack) -> str:
    pushed = small_image()
    repository = Repository(stack.url.removeprefix("http://"), "acme/app")
    with open_registry(RegistryOptions()) as client:
        pushed.push(client, repository, "v1")
    return f"{repository}@{pushed.digest}"


def instance(stack) -> tuple[Any, ...]:
    return ("--signing-config", stack.client("signing_config.json"), "--trusted-root", stack.client("trusted_root.json"))


def who(stack, identity=WORKLOAD) -> tuple[str, ...]:
    return ("--certificate-identity", identity, "--certificate-oidc-issuer", stack.url)


def trusted(stack) -> tuple[Any, ...]:
    return ("--trusted-root", stack.client("trusted_root.json"))


def test_sigkit_verifies_what_it_signed_by_identity_log_and_timestamp(sigkit, stack, image):
    sigkit("sign", *instance(stack), "--identity-token", "token", image)
    sigkit("verify", *trusted(stack), *who(stack), "--use-signed-timestamps", image)
    sigkit("verify", *trusted(stack), *who(stack, "https://ci.acme.example/evil"), image, status=1)


def test_a_pinned_instance_is_named_and_its_services_sign(sigkit, stack):
    sigkit("trust", "init", "acme", "--mirror", f"{stack.url}/tuf", "--root", stack.client("root.json"))
    sigkit("sign-blob", "--trusted-root", "acme", "--identity-token", "token", "--bundle", "b.json", "file")
    sigkit("verify-blob", "--trusted-root", "acme", *who(stack), "--bundle", "b.json", "file")


def test_who_pinned_an_instance_follows_its_new_keys(sigkit, stack, home):
    sigkit("trust", "init", "acme", "--mirror", f"{stack.url}/tuf", "--root", stack.client("root.json"))
    repository, now = TufRepository.open(str(stack.directory / "tuf")), SystemClock().now()
    for role in ("root", "targets", "snapshot", "timestamp"):
        repository.rotate(str(stack.directory / "offline"), role, now)
    sigkit("trust", "update", "acme")
    sigkit("sign-blob", "--trusted-root", "acme", "--identity-token", "token", "--bundle", "b.json", "file")
    sigkit("verify-blob", "--trusted-root", "acme", *who(stack), "--bundle", "b.json", "file")


def test_the_conformance_suites_client_signs_with_a_stack(stack, home, monkeypatch):
    monkeypatch.chdir(home)
    given = [*map(str, instance(stack))]
    token = (home / "token").read_text()
    assert conformance.run(["sign-bundle", "--identity-token", token, "--bundle", "b.json", *given, "file"]) == 0
    assert conformance.run(["verify-bundle", "--bundle", "b.json", *who(stack), *map(str, trusted(stack)), "file"]) == 0
    assert conformance.run(["verify-bundle", "--bundle", "b.json", *who(stack, "other"), *map(str, trusted(stack)), "file"]) == 1


@pytest.mark.peers
def test_cosign_verifies_an_image_that_sigkit_signed_and_attested(sigkit, stack, image, peer, home):
    sigkit("sign", *instance(stack), "--identity-token", "token", image)
    sigkit("attest", *instance(stack), "--identity-token", "token", "--type", "https://acme.example/p", "--predicate", "predicate", image)

    def cosign(*arguments: str):
        return peer("cosign", *arguments, "--allow-http-registry", image, env={"HOME": str(home)}, cwd=home)

    root = f"--trusted-root={stack.client('trusted_root.json')}"
    name = image.partition("@")[0]
    done = cosign("verify", root, *who(stack), "-a", f"sigkit.dev/repository={name}")
    assert done.returncode == 0, done.stderr
    done = cosign("verify-attestation", root, *who(stack), "--type=https://acme.example/p")
    assert done.returncode == 0, done.stderr
    assert cosign("verify", root, *who(stack, "https://ci.acme.example/evil")).returncode == 1


@pytest.mark.peers
def test_cosign_verifies_files_by_identity_and_by_key_with_log_and_timestamp(sigkit, stack, peer, home):
    sigkit("sign-blob", *instance(stack), "--identity-token", "token", "--bundle", "b.json", "file")
    root = f"--trusted-root={stack.client('trusted_root.json')}"
    done = peer("cosign", "verify-blob", root, *who(stack), "--bundle=b.json", "file", env={"HOME": str(home)}, cwd=home)
    assert done.returncode == 0, done.stderr
    key = ("generate", "--output-key-prefix", "k")
    subprocess.run([*SIGKIT, "key", *key], check=True, cwd=home, env=os.environ | {"SIGKIT_PASSWORD": ""}, capture_output=True)
    line = [*SIGKIT, "sign-blob", *map(str, instance(stack)), "--key", "k.key", "--bundle", "k.json", "file"]
    subprocess.run(line, check=True, cwd=home, env=os.environ | {"SIGKIT_PASSWORD": ""}, capture_output=True)
    done = peer("cosign", "verify-blob", root, "--key=k.pub", "--bundle=k.json", "file", env={"HOME": str(home)}, cwd=home)
    assert done.returncode == 0, done.stderr


@pytest.mark.oracle
def test_sigstore_python_verifies_what_sigkit_signed(sigkit, stack, home):
    pytest.importorskip("sigstore", reason="the oracle is not installed: dependency group `oracle`")
    sigkit("sign-blob", *instance(stack), "--identity-token", "token", "--bundle", "b.json", "file")
    trust = ("--trust-config", str(stack.client("trust_config.json")))
    wanted = ("--cert-identity", WORKLOAD, "--cert-oidc-issuer", stack.url, "--bundle", "b.json", "file")
    line = [sys.executable, "-I", "-m", "sigstore", *trust, "verify", "identity", *wanted]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "SIGKIT_TRUST": str(home / "trust")}
    done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False, cwd=home, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def logging_in(stack, home, *arguments: str) -> subprocess.Popen[str]:
    line = [*SIGKIT, "sign-blob", *map(str, instance(stack)), "--bundle", "b.json", "-o", "json", *arguments, "file"]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "BROWSER": "true %s"}
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def issuer_of(stack):
    return open_issuer(str(stack.directory), load_config(str(stack.directory)), SystemClock())


def test_a_person_logs_in_by_a_code(stack, home):
    with logging_in(stack, home, "--login", "device") as signing:
        assert signing.stderr is not None
        code = ""
        while not code and (line := signing.stderr.readline()):
            code = line.split()[-1] if line.startswith("with code") else ""
        issuer_of(stack).logins.approve(code, "mia@acme.example")
        out, err = signing.communicate(timeout=60)
    assert signing.returncode == 0, err
    assert json.loads(out)["identity"]["subject"] == "mia@acme.example"


def get(url: str) -> tuple[str, str]:
    """Ask as a browser does, and return the page and where it is sent on."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.read().decode(), answer.getheader("Location") or ""
    finally:
        connection.close()


def test_a_person_logs_in_in_a_browser(stack, home):
    with logging_in(stack, home, "--login", "browser") as signing:
        assert signing.stderr is not None
        _, page_url = get(signing.stderr.readline().split()[-1])
        page, _ = get(page_url)
        code = re.search(r"\b[A-Z]{4}-[A-Z]{4}\b", page)
        assert code
        issuer_of(stack).logins.approve(code[0], "mia@acme.example")
        _, callback = get(page_url)
        assert callback.startswith("http://localhost:")
        get(callback)
        out, err = signing.communicate(timeout=60)
    assert signing.returncode == 0, err
    assert json.loads(out)["identity"]["subject"] == "mia@acme.example"
