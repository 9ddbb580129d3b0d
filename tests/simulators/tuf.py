"""A TUF repository in memory, with handles to be wrong at any point. Written over python-tuf's metadata API, without sigkit's own code.

sim = TufSimulator()
sim.targets_files["trusted_root.json"] = b"…"
sim.publish()                        # signs what changed, the next version of each role
sim.timestamp.version = 1            # then tell it wrongly
sim.sign("timestamp")
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from sigkit.errors import Place
from tests.simulators.misbehaving_registry import Reply, Seen

ROLES = ("root", "targets", "snapshot", "timestamp")
DAY = timedelta(days=1)


class TufSimulator:
    """The repository; `files` is what a mirror of it serves, by path below the mirror's URL."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC).replace(microsecond=0)
        self.root = Root(expires=self.now + 365 * DAY)
        self.targets = Targets(expires=self.now + 365 * DAY)
        self.snapshot = Snapshot(expires=self.now + 30 * DAY)
        self.timestamp = Timestamp(expires=self.now + 7 * DAY)
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.delegated: dict[str, Targets] = {}
        self.targets_files: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        for role in ROLES:
            self.new_key(role)
        self.sign("root")
        self.pinned = self.files["1.root.json"]
        self.publish()

    def new_key(self, role: str) -> CryptoSigner:
        """Give a role another key beside those that it has."""
        signer = CryptoSigner.generate_ed25519()
        self.signers.setdefault(role, []).append(signer)
        self.root.add_key(signer.public_key, role)
        return signer

    def sign(self, role: str, *signers: CryptoSigner) -> bytes:
        """Sign a role's metadata as it stands, with its own keys or these, and serve it."""
        signed: Any = self.delegated.get(role) or getattr(self, role)
        metadata = Metadata(signed)
        for signer in signers or self.signers[role]:
            metadata.sign(signer, append=True)
        raw = metadata.to_bytes()
        self.files["timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"] = raw
        return raw

    def rotate(self, *roles: str) -> None:
        """Give roles new keys instead of their old ones, and publish the root that says so."""
        old = list(self.signers["root"])
        for role in roles:
            for signer in self.signers.pop(role):
                self.root.revoke_key(signer.public_key.keyid, role)
            self.new_key(role)
        self.root.version += 1
        self.sign("root", *old, *(signer for signer in self.signers["root"] if signer not in old))

    def publish(self) -> None:
        """Sign the next version of everything but the root."""
        if "timestamp.json" in self.files:
            for role in (self.targets, self.snapshot, self.timestamp):
                role.version += 1
        self.targets.targets = {}
        for name, content in self.targets_files.items():
            target = TargetFile.from_data(name, content, ["sha256"])
            self.targets.targets[name] = target
            self.files[f"targets/{target.hashes['sha256']}.{name}"] = content
        self.sign("targets")
        self.snapshot.meta["targets.json"] = MetaFile(self.targets.version)
        self.sign("snapshot")
        self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)
        self.sign("timestamp")

    # --- as a mirror: in this process, and behind a server ---

    def fetch_metadata(self, name: str, most_bytes: int) -> bytes | None:
        del most_bytes
        self.asked.append(name)
        return self.files.get(name)

    def fetch_target(self, path: str, most_bytes: int) -> bytes | None:
        return self.fetch_metadata(f"targets/{path}", most_bytes)

    def place(self, name: str) -> Place:
        return Place("mirror", name)

    def __call__(self, seen: Seen) -> Reply:
        raw = self.fetch_metadata(seen.path.removeprefix("/"), 0)
        return Reply(404) if raw is None else Reply(body=raw)
