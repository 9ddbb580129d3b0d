"""sigstore-js verifies what sigkit signed with a stack: who signed what, in the log, at a time, and nothing else."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators import stacks
from tests.simulators.command import SIGKIT
from tests.simulators.images import small_image
from tests.simulators.js_peers import Question
from tests.simulators.stacks import WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers

TYPE = "https://acme.example/p"


class Home(NamedTuple):
    """A directory with a file to sign, a stack, and sigkit with its client files."""

    directory: Path
    stack: stacks.Stack

    @property
    def root(self) -> bytes:
        return self.stack.client("trusted_root.json").read_bytes()

    def sigkit(self, *arguments: str) -> None:
        """Run sigkit, which must succeed."""
        environment = {"HOME": str(self.directory), "PATH": os.environ["PATH"], "SIGKIT_PASSWORD": ""}
        done = subprocess.run([*SIGKIT, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=self.directory, env=environment)
        assert done.returncode == 0, done.stderr

    def sign(self, command: str, *arguments: str) -> None:
        """Run a command of sigkit that signs with the stack's services."""
        services = (f"--signing-config={self.stack.client('signing_config.json')}", f"--trusted-root={self.stack.client('trusted_root.json')}")
        self.sigkit(command, *services, *arguments)

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
def attested(home, signed) -> Question:
    """Return the same about a statement."""
    bundle = home.bundle("attest-blob", "--identity-token=token", f"--type={TYPE}", "--predicate=predicate")
    return signed._replace(bundle=bundle, artifact=b"")


def changed(question: Question, *path: str | int, to: Any) -> Question:
    """Return the question with one member of its bundle replaced."""
    bundle = inner = json.loads(question.bundle)
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return question._replace(bundle=json.dumps(bundle).encode())


def test_a_file_is_verified_and_its_signer_named(sigstore_js, signed):
    [answer] = sigstore_js(signed)
    assert answer == ("", "", WORKLOAD, signed.issuer)


def test_other_bytes_another_stack_and_another_signer_are_refused(sigstore_js, signed, tmp_path):
    other = stacks.make(tmp_path / "other")
    answers = sigstore_js(
        signed._replace(artifact=b"another"),
        signed._replace(root=other.client("trusted_root.json").read_bytes()),
        signed._replace(identity="^https://ci.acme.example/evil$"),
        signed._replace(issuer="https://issuer.example"),
    )
    print(answers)


def test_the_log_entry_and_the_timestamp_are_what_it_demands(sigstore_js, signed):
    material = json.loads(signed.bundle)["verificationMaterial"]
    print(json.dumps(material)[:3000])


def test_a_statement(sigstore_js, attested):
    print(sigstore_js(attested))


def test_key(sigstore_js, home, signed):
    home.sigkit("key", "generate", "--output-key-prefix=k")
    home.sigkit("key", "generate", "--output-key-prefix=other")
    bundle = home.bundle("sign-blob", "--key=k.key")
    print(bundle)
    q = Question(home.root, bundle, b"release", key=(home.directory / "k.pub").read_bytes())
    print(sigstore_js(q, q._replace(key=(home.directory / "other.pub").read_bytes()), q._replace(artifact=b"x"), q._replace(key=b"")))
    home.sigkit("key", "generate", "--output-key-prefix=ed", "--type=ed25519")
    bundle = home.bundle("sign-blob", "--key=ed.key")
    q = Question(home.root, bundle, b"release", key=(home.directory / "ed.pub").read_bytes())
    print(sigstore_js(q))
    bundle = home.bundle("attest-blob", "--key=ed.key", f"--type={TYPE}", "--predicate=predicate")
    print(sigstore_js(q._replace(bundle=bundle)))
    home.sigkit("key", "generate", "--output-key-prefix=p384", "--type=ecdsa-p384")
    bundle = home.bundle("sign-blob", "--key=p384.key")
    q = Question(home.root, bundle, b"release", key=(home.directory / "p384.pub").read_bytes())
    print(sigstore_js(q))
    bundle = home.bundle("attest-blob", "--key=p384.key", f"--type={TYPE}", "--predicate=predicate")
    print(sigstore_js(q._replace(bundle=bundle)))


def test_image(sigstore_js, home, signed):
    pushed = small_image()
    repository = Repository(home.stack.url.removeprefix("http://"), "acme/app")
    with open_registry(RegistryOptions()) as client:
        pushed.push(client, repository, "v1")
    image = f"{repository}@{pushed.digest}"
    home.sign("sign", "--identity-token=token", image)
    home.sign("attest", "--identity-token=token", f"--type={TYPE}", "--predicate=predicate", image)
    r = home.stack.json("GET", f"/v2/acme/app/referrers/{pushed.digest}")
    print(r)
    for m in r["manifests"]:
        mm = home.stack.json("GET", f"/v2/acme/app/manifests/{m['digest']}")
        print(mm)
        _, bundle = home.stack.call("GET", f"/v2/acme/app/blobs/{mm['layers'][0]['digest']}")
        print(sigstore_js(signed._replace(bundle=bundle)))
