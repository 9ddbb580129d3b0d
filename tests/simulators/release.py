"""A release engineer at a terminal: a key pair, an image in a registry, and `sigkit`."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sigkit.evidence.attach import attach
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve
from tests.simulators.command import SIGKIT, run_here
from tests.simulators.images import SmallImage, small_image

if TYPE_CHECKING:
    from tests.simulators.sigstore import Simulator


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """Everything printed, as one line of text however it was wrapped."""
        return " ".join((self.out + self.err).split())


@dataclass
class Release:
    """`address` is where the image `image` is pushed, as `t/app:v1`; `home` holds K.key and K.pub."""

    home: Path
    address: str
    image: SmallImage = field(default_factory=small_image)

    @classmethod
    def prepare(cls, home: Path, address: str) -> Self:
        """Push the image and make the keys."""
        made = cls(home, address)
        with open_registry(RegistryOptions()) as client:
            made.image.push(client, Repository(address, "t/app"), "v1")
        key = generate("ecdsa-p256")
        (home / "K.key").write_bytes(encode_pem("PRIVATE KEY", key.pkcs8()))  # not encrypted: that takes longer than most tests
        (home / "K.pub").write_bytes(encode_pem("PUBLIC KEY", key.public.spki))
        return made

    @property
    def reference(self) -> str:
        return f"{self.address}/t/app:v1"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; the test waits for it."""
        pipe = subprocess.PIPE
        return subprocess.Popen([*SIGKIT, *arguments], cwd=self.home, stdout=pipe, stderr=pipe, text=True)

    def sigkit(self, *arguments: str) -> Done:
        """Run a command to its end."""
        return Done(*run_here(*arguments, home=self.home))

    def sign(self, *annotations: str) -> Done:
        """Sign the image, with other annotations for each signature that is to be another."""
        return self.sigkit("sign", "--key", "K.key", *(part for pair in annotations for part in ("-a", pair)), self.reference)

    def sign_as(self, sim: Simulator, predicate_type: str = PREDICATE_SIGNATURE) -> None:
        """Attach what the simulated instance's identity signs about the image, and write its root.json."""
        with open_registry(RegistryOptions()) as client:
            resolved = resolve(client, parse_reference(self.reference))
            name = str(resolved.repository)
            subject = {"name": name, "digest": {"sha256": resolved.digest.hex}, "annotations": {"sigkit.dev/repository": name}}
            sim.change["statement"] = lambda document: {**document, "subject": [subject], "predicateType": predicate_type}
            case = sim.make("dsse", ("dsse",))
            attach(client, resolved, case.parts["bundle"], predicate_type, datetime.now(UTC))
        (self.home / "root.json").write_bytes(case.root)

    def verify(self) -> Done:
        """Verify the image with the key that signed it."""
        return self.sigkit("--output", "json", "verify", "--key", "K.pub", self.reference)

    def tree(self) -> Any:
        """Return what the registry holds about the image."""
        done = self.sigkit("--output", "json", "tree", self.reference)
        assert done.status == 0, done.said
        return done.answer
