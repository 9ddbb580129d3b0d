"""cosign 3 signs and verifies keyless against a stack, with the files that clients are handed and with its TUF repository."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigkit.clock import SystemClock
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from sigkit.services.stack.clients import open_repository
from sigkit.services.stack.cores import open_issuer
from sigkit.services.stack.layout import load_config
from tests.simulators import stacks
from tests.simulators.command import SIGKIT
from tests.simulators.images import small_image
from tests.simulators.stacks import WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[stacks.Stack]:
    with stacks.running(tmp_path_factory.mktemp("stacked") / "stack") as running:
        yield running


@pytest.fixture
def cosign(peer, stack, tmp_path):
    """Run cosign with the stack's files; `home` is its own, so that nothing it knows comes from elsewhere."""
    (tmp_path / "token").write_text(stack.token())
    (tmp_path / "file").write_bytes(b"release")

    def run(command, *arguments, by_files=True, token="token", status=0):
        given = list(arguments)
        if by_files:
            given = [f"--trusted-root={stack.client('trusted_root.json')}", *given]
        if command.startswith(("sign", "attest")):
            given = [*([f"--signing-config={stack.client('signing_config.json')}"] if by_files else []), "-y", *given]
            given = [*([f"--identity-token={tmp_path / token}"] if token else []), *given]
        done = peer("cosign", command, *given, env={"HOME": str(tmp_path)}, cwd=tmp_path)
        assert done.returncode == status, done.stderr
        return done

    return run


@pytest.fixture
def image(stack) -> str:
    """Push an image to the stack's registry, and return it by digest."""
    pushed = small_image()
    repository = Repository(stack.url.removeprefix("http://"), "acme/app")
    with open_registry(RegistryOptions()) as client:
        pushed.push(client, repository, "v1")
    return f"{repository}@{pushed.digest}"


def wanted(stack, identity=WORKLOAD) -> tuple[str, ...]:
    return (f"--certificate-identity={identity}", f"--certificate-oidc-issuer={stack.url}")


def test_an_image_is_signed_and_verified_by_identity(cosign, stack, image):
    cosign("sign", "--allow-http-registry", image)
    answer = json.loads(cosign("verify", "--allow-http-registry", *wanted(stack), image).stdout)
    assert answer[0]["critical"]["image"]["docker-manifest-digest"] == image.partition("@")[2]


def test_another_identity_or_issuer_is_refused(cosign, stack, image):
    cosign("sign", "--allow-http-registry", image)
    cosign("verify", "--allow-http-registry", *wanted(stack, "https://ci.acme.example/evil"), image, status=1)
    other = (f"--certificate-identity={WORKLOAD}", "--certificate-oidc-issuer=https://issuer.example")
    cosign("verify", "--allow-http-registry", *other, image, status=1)


def test_what_cosign_signs_sigkit_verifies(cosign, stack, image, tmp_path):
    cosign("sign", "--allow-http-registry", image)
    line = [*SIGKIT, "verify", "--trusted-root", stack.client("trusted_root.json"), *wanted(stack), image]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    line = [*SIGKIT, "verify", "--trusted-root", stack.client("trusted_root.json"), *wanted(stack, "https://ci.acme.example/evil"), image]
    assert subprocess.run(line, capture_output=True, timeout=60, check=False, cwd=tmp_path).returncode == 1


def test_files_and_attestations_are_signed_and_verified(cosign, stack, tmp_path):
    cosign("sign-blob", "--bundle=signature", "file")
    cosign("verify-blob", "--bundle=signature", *wanted(stack), "file")
    (tmp_path / "predicate.json").write_text('{"made": "by hand"}')
    cosign("attest-blob", "--type=https://acme.example/p", "--predicate=predicate.json", "--bundle=attestation", "file")
    cosign("verify-blob-attestation", "--type=https://acme.example/p", "--bundle=attestation", *wanted(stack), "file")
    (tmp_path / "file").write_bytes(b"another")
    cosign("verify-blob", "--bundle=signature", *wanted(stack), "file", status=1)


def test_the_trust_root_comes_from_the_stacks_tuf_repository(cosign, stack, peer, tmp_path):
    done = peer("cosign", "initialize", f"--mirror={stack.url}/tuf", f"--root={stack.client('root.json')}", env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    cosign("sign-blob", "--bundle=signature", "file", by_files=False)
    cosign("verify-blob", "--bundle=signature", *wanted(stack), "file", by_files=False)


def test_the_commands_of_the_page_run_as_they_are_written(stack, image, peer, tmp_path):
    """Only address, image and identity are the test's own; the token is written as the page writes it."""
    page = (Path(__file__).resolve().parents[2] / "docs/stack.md").read_text()
    (tmp_path / "stack").symlink_to(stack.directory)
    [token] = re.findall(r"^sigkit (stack token .*) > token$", page, re.MULTILINE)
    with (tmp_path / "token").open("wb") as file:
        subprocess.run([*SIGKIT, *token.split()], stdout=file, timeout=60, check=True, cwd=tmp_path)
    lines = re.findall(r"^cosign .*$", page, re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["initialize", "sign", "verify"]
    for line in lines:
        ours = line.replace("http://127.0.0.1:5978", stack.url).replace("IMAGE", image).replace("-identity ID", f"-identity {WORKLOAD}")
        done = peer("sh", "-c", ours, env={"HOME": str(tmp_path)}, cwd=tmp_path)
        assert done.returncode == 0, f"{ours}\n{done.stderr}"


def test_a_first_root_is_followed_over_rotated_keys(peer, tmp_path):
    with stacks.running(tmp_path / "stack") as rotated:
        repository, offline = open_repository(str(rotated.directory)), str(rotated.directory / "offline")
        for role in ("root", "targets", "snapshot", "timestamp"):
            repository.rotate(offline, role, SystemClock().now())
        (tmp_path / "file").write_bytes(b"release")
        (tmp_path / "token").write_text(rotated.token())
        steps = (
            ("initialize", f"--mirror={rotated.url}/tuf", f"--root={rotated.client('root.json')}"),
            ("sign-blob", "--identity-token=token", "-y", "--bundle=signature", "file"),
            ("verify-blob", "--bundle=signature", *wanted(rotated), "file"),
        )
        for step in steps:
            done = peer("cosign", *step, env={"HOME": str(tmp_path)}, cwd=tmp_path)
            assert done.returncode == 0, done.stderr


def test_a_key_signs_with_the_stacks_log_and_timestamps(cosign, stack, peer, tmp_path):
    made = peer("cosign", "generate-key-pair", env={"COSIGN_PASSWORD": "", "HOME": str(tmp_path)}, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    cosign("sign-blob", "--key=cosign.key", "--bundle=signature", "file", token=None)
    cosign("verify-blob", "--key=cosign.pub", "--bundle=signature", "file")
    bundle = json.loads((tmp_path / "signature").read_text())["verificationMaterial"]
    assert len(bundle["tlogEntries"]) == 1
    assert len(bundle["timestampVerificationData"]["rfc3161Timestamps"]) == 1


def test_a_person_logs_in_on_a_device_and_signs_once_approved(peer, stack, tmp_path):
    (tmp_path / "file").write_bytes(b"release")
    line = peer.command(
        "cosign",
        "sign-blob",
        f"--trusted-root={stack.client('trusted_root.json')}",
        f"--signing-config={stack.client('signing_config.json')}",
        "--fulcio-auth-flow=device",
        "-y",
        "--bundle=signature",
        "file",
        env={"HOME": str(tmp_path)},
        cwd=tmp_path,
    )
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as signing:
        said = ""
        assert signing.stdout is not None
        for part in signing.stdout:
            said += part
            if found := re.search(r"user_code=([A-Z]{4}-[A-Z]{4})|\b([A-Z]{4}-[A-Z]{4})\b", said):
                break
        else:
            pytest.fail(said)
        issuer = open_issuer(str(stack.directory), load_config(str(stack.directory)), SystemClock())
        issuer.logins.approve(found[1] or found[2], "mia@acme.example")
        said += signing.stdout.read()
        assert signing.wait(60) == 0, said
    identity = ("--certificate-identity=mia@acme.example", f"--certificate-oidc-issuer={stack.url}")
    trusted = f"--trusted-root={stack.client('trusted_root.json')}"
    assert peer("cosign", "verify-blob", trusted, *identity, "--bundle=signature", "file", cwd=tmp_path).returncode == 0


def test_a_token_for_another_audience_or_of_another_issuer_signs_nothing(cosign, stack, tmp_path):
    issuer = open_issuer(str(stack.directory), load_config(str(stack.directory)), SystemClock())
    (tmp_path / "other").write_text(issuer.issue_token(WORKLOAD, audience="another"))
    head, claims, signature = stack.token().split(".")
    (tmp_path / "forged").write_text(f"{head}.{claims}.{signature[::-1]}")
    size = stack.call("GET", "/api/v2/checkpoint")[1].splitlines()[1]
    for token in ("other", "forged"):
        cosign("sign-blob", "--bundle=signature", "file", token=token, status=1)
    assert stack.call("GET", "/api/v2/checkpoint")[1].splitlines()[1] == size
    assert not (tmp_path / "signature").exists()
