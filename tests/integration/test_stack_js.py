"""sigstore-js verifies what sigkit signed with a stack: who signed what, in the log, at a time, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sigkit.keys.files import write_key_pair
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators import stacks
from tests.simulators.command import SIGKIT
from tests.simulators.images import small_image
from tests.simulators.js_peers import Answer, Question
from tests.simulators.stacks import WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers

TYPE = "https://acme.example/p"
ENTRIES = ("verificationMaterial", "tlogEntries")
TIMES = ("verificationMaterial", "timestampVerificationData")
COSIGN_SIGN = "https://sigstore.dev/cosign/sign/v1"


class Home(NamedTuple):
    """A directory with a file to sign, a stack, and sigkit with its client files."""

    directory: Path
    stack: stacks.Stack

    @property
    def root(self) -> bytes:
        return self.stack.client("trusted_root.json").read_bytes()

    def sigkit(self, *arguments: str) -> None:
        """Run sigkit, which must succeed."""
        line, environment = [*SIGKIT, *arguments], {"HOME": str(self.directory), "PATH": os.environ["PATH"], "SIGKIT_PASSWORD": ""}
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, cwd=self.directory, env=environment)
        assert done.returncode == 0, done.stderr

    def sign(self, command: str, *arguments: str) -> None:
        """Run a command of sigkit that signs with the stack's services."""
        config, root = (self.stack.client(name) for name in ("signing_config.json", "trusted_root.json"))
        self.sigkit(command, f"--signing-config={config}", f"--trusted-root={root}", *arguments)

    def bundle(self, command: str, *arguments: str) -> bytes:
        """Return the bundle that a command makes of the file."""
        self.sign(command, *arguments, "--bundle=bundle", "file")
        return (self.directory / "bundle").read_bytes()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Home]:
    directory = tmp_path_factory.mktemp("stacked")
    with stacks.running(directory / "stack") as stack:
        (directory / "file").write_bytes(b"release")
        (directory / "predicate").write_text('{"made": "by hand"}')
        (directory / "token").write_text(stack.token())
        yield Home(directory, stack)


@pytest.fixture(scope="module")
def signed(home) -> Question:
    """Return a question that is answered with yes: about the file, which an identity signed."""
    bundle = home.bundle("sign-blob", "--identity-token=token")
    return Question(home.root, bundle, b"release", identity=f"^{re.escape(WORKLOAD)}$", issuer=home.stack.url)


@pytest.fixture(scope="module")
def attested(home) -> Question:
    """Return the same about a statement."""
    bundle = home.bundle("attest-blob", "--identity-token=token", f"--type={TYPE}", "--predicate=predicate")
    return Question(home.root, bundle, identity=f"^{re.escape(WORKLOAD)}$", issuer=home.stack.url)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> bytes:
    """Return the trusted root of another stack."""
    return stacks.make(tmp_path_factory.mktemp("other") / "stack").client("trusted_root.json").read_bytes()


def changed(raw: bytes, *path: str, to: Any) -> bytes:
    """Return a JSON document with one member replaced."""
    document = inner = json.loads(raw)
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return json.dumps(document).encode()


def refusals(answers: list[Answer]) -> list[str]:
    return [answer.refused for answer in answers]


def test_a_file_is_verified_and_its_signer_named(sigstore_js, signed):
    assert sigstore_js(signed) == [("", "", WORKLOAD, signed.issuer)]


def test_other_bytes_another_stack_and_another_signer_are_refused(sigstore_js, signed, other):
    answers = sigstore_js(
        signed._replace(artifact=b"another"),
        signed._replace(root=other),
        signed._replace(identity="^https://ci\\.acme\\.example/evil$"),
        signed._replace(issuer="https://issuer.example"),
    )
    assert refusals(answers) == ["SIGNATURE_ERROR", "TIMESTAMP_ERROR", "UNTRUSTED_SIGNER_ERROR", "UNTRUSTED_SIGNER_ERROR"]


def test_each_service_of_the_stack_is_what_it_trusts(sigstore_js, signed, other):
    """The root of another stack is taken for one service at a time."""
    services = {
        "tlogs": "TLOG_INCLUSION_PROOF_ERROR",
        "certificateAuthorities": "CERTIFICATE_ERROR",
        "ctlogs": "CERTIFICATE_ERROR",
        "timestampAuthorities": "TIMESTAMP_ERROR",
    }
    answers = sigstore_js(*(signed._replace(root=changed(signed.root, name, to=json.loads(other)[name])) for name in services))
    assert refusals(answers) == list(services.values())


def test_neither_the_entry_nor_the_timestamp_can_be_left_out_or_be_anothers(sigstore_js, signed, attested):
    [entry], [its_entry] = (json.loads(question.bundle)["verificationMaterial"]["tlogEntries"] for question in (signed, attested))
    entry["inclusionProof"]["logIndex"] = its_entry["inclusionProof"]["logIndex"]
    its_times = json.loads(attested.bundle)["verificationMaterial"]["timestampVerificationData"]
    bundles = (
        *(changed(signed.bundle, *ENTRIES, to=entries) for entries in ([], [its_entry], [entry])),
        changed(signed.bundle, *TIMES, to={}),
        changed(signed.bundle, *TIMES, to=its_times),
    )
    answers = sigstore_js(*(signed._replace(bundle=bundle) for bundle in bundles))
    assert refusals(answers) == ["TLOG_ERROR", "TLOG_BODY_ERROR", "TLOG_INCLUSION_PROOF_ERROR", "TIMESTAMP_ERROR", "TIMESTAMP_ERROR"]


def test_a_statement_is_verified_and_its_signer_named(sigstore_js, attested):
    """By an entry of the kind hashedrekord over what the envelope signs, which sigstore-js reads from 4 on."""
    envelope = json.loads(attested.bundle)["dsseEnvelope"]
    statement = base64.b64decode(envelope["payload"])
    # Which file a statement is about, sigstore-js leaves to who asks.
    assert json.loads(statement)["subject"][0]["digest"] == {"sha256": hashlib.sha256(b"release").hexdigest()}
    evil = base64.b64encode(statement.replace(b"by hand", b"by whom")).decode()
    answers = sigstore_js(attested, attested._replace(bundle=changed(attested.bundle, "dsseEnvelope", "payload", to=evil)))
    assert answers[0] == ("", "", WORKLOAD, attested.issuer)
    assert refusals(answers[1:]) == ["TLOG_BODY_ERROR"]


def test_what_a_key_signed_is_verified_by_that_key_alone(sigstore_js, home):
    for name in ("k", "other"):
        write_key_pair(str(home.directory / name), "ecdsa-p256", "")
    ours = Question(home.root, home.bundle("sign-blob", "--key=k.key"), b"release", key=(home.directory / "k.pub").read_bytes())
    theirs = ours._replace(key=(home.directory / "other.pub").read_bytes())
    answers = sigstore_js(ours, theirs, ours._replace(artifact=b"another"), ours._replace(key=b""))
    assert refusals(answers) == ["", "SIGNATURE_ERROR", "SIGNATURE_ERROR", "PUBLIC_KEY_ERROR"]


def test_what_a_longer_key_signed_is_verified_of_files_but_not_of_statements(sigstore_js, home):
    """An entry has the digest that was signed, SHA-384 for this key; of an envelope sigstore-js compares SHA-256, whatever the key."""
    write_key_pair(str(home.directory / "long"), "ecdsa-p384", "")
    file = Question(home.root, home.bundle("sign-blob", "--key=long.key"), b"release", key=(home.directory / "long.pub").read_bytes())
    statement = file._replace(bundle=home.bundle("attest-blob", "--key=long.key", f"--type={TYPE}", "--predicate=predicate"))
    assert refusals(sigstore_js(file, statement)) == ["", "TLOG_BODY_ERROR"]


def test_the_bundles_beside_an_image_are_verified(sigstore_js, home, signed):
    pushed = small_image()
    repository = Repository(home.stack.url.removeprefix("http://"), "acme/app")
    with open_registry(RegistryOptions()) as client:
        pushed.push(client, repository, "v1")
    image = f"{repository}@{pushed.digest}"
    home.sign("sign", "--identity-token=token", image)
    home.sign("attest", "--identity-token=token", f"--type={TYPE}", "--predicate=predicate", image)

    listed = home.stack.json("GET", f"/v2/acme/app/referrers/{pushed.digest}")["manifests"]
    manifests = [home.stack.json("GET", f"/v2/acme/app/manifests/{item['digest']}") for item in listed]
    bundles = [home.stack.call("GET", f"/v2/acme/app/blobs/{manifest['layers'][0]['digest']}")[1] for manifest in manifests]
    statements = [json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"])) for bundle in bundles]
    assert {statement["predicateType"] for statement in statements} == {TYPE, COSIGN_SIGN}
    assert all(statement["subject"][0]["digest"] == {"sha256": pushed.digest.hex} for statement in statements)
    assert sigstore_js(*(signed._replace(bundle=bundle) for bundle in bundles)) == [("", "", WORKLOAD, signed.issuer)] * 2
