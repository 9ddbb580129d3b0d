"""sigstore-js, which `.ci/js-peers` fetches: asked whether bundles verify, many in one process of the Node.js of the peers' root."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulators import peer_root

if TYPE_CHECKING:
    from tests.simulators.peer_root import PeerRoot

DRIVER = Path(__file__).with_suffix(".cjs")


class Question(NamedTuple):
    """Whether a bundle verifies by a trusted root, one log entry and one timestamp being wanted, and for an identity one SCT."""

    root: bytes
    bundle: bytes
    artifact: bytes = b""  # of a message signature; an envelope carries what it signs
    key: bytes = b""  # in PEM: whose signature it should be, where no certificate says so
    identity: str = ""  # a regular expression, found anywhere in the certificate's name
    issuer: str = ""

    def job(self) -> dict[str, Any]:
        """Return what the driver is given."""
        policy: dict[str, Any] = {"subjectAlternativeName": self.identity} if self.identity else {}
        if self.issuer:
            policy["extensions"] = {"issuer": self.issuer}
        return {
            "root": json.loads(self.root),
            "bundle": json.loads(self.bundle),
            "artifact": base64.b64encode(self.artifact).decode(),
            "key": self.key.decode(),
            "policy": policy,
        }


class Answer(NamedTuple):
    """What sigstore-js says: the code of its error, or none and who signed."""

    refused: str
    message: str
    subject: str
    issuer: str


class SigstoreJs(NamedTuple):
    """The fetched packages, where the peers' root sees them."""

    peer: PeerRoot
    packages: Path

    @classmethod
    def copied(cls, peer: PeerRoot, fetched: Path, directory: Path) -> SigstoreJs:
        """Copy the packages to below /tmp: the only place that the machine and the peers' root share."""
        return cls(peer, shutil.copytree(fetched, directory / "node_modules"))

    def __call__(self, *questions: Question) -> list[Answer]:
        """Return the answers, in order."""
        asked = json.dumps([question.job() for question in questions])
        done = self.peer("node", DRIVER, env={"NODE_PATH": str(self.packages)}, stdin=asked)
        assert done.returncode == 0, done.stderr
        return [Answer(**answer) for answer in json.loads(done.stdout)]


def find() -> Path | None:
    """Return the packages that were fetched last."""
    root = Path(os.environ.get("SIGKIT_JS_PEERS") or "/var/cache/sigkit-peers/js")
    fetched = sorted(root.glob("*/node_modules"), key=lambda path: path.stat().st_mtime)
    return fetched[-1] if fetched else None


def why_no_node() -> str:
    """Return why sigstore-js cannot be run here, or nothing when it can."""
    return "" if (peer_root.find_root() / "usr/bin/node").exists() else "no Node.js in the peers' root: run .ci/peers as root"
