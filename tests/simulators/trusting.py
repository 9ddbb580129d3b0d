"""An instance whose trusted root is published by a TUF repository, and what somebody fetched of it some days ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sigkit.trust.pins import Pins
from sigkit.trust.store import RootStore, open_session
from tests.simulators.misbehaving_registry import MisbehavingServer
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT
from tests.simulators.tuf import TufSimulator

NAME = "acme"
WHO = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)


class FixedClock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


def write_signed_file(home: Path) -> Simulator:
    """Write `file` and its bundle `b.json` by an identity of an instance, and return that."""
    sim = Simulator()
    case = sim.make("message", ("hashedrekord",))
    (home / "file").write_bytes(FILE)
    (home / "b.json").write_bytes(case.parts["bundle"])
    return sim


def publish(sim: Simulator, days_ago: float = 0) -> TufSimulator:
    """Publish the instance's trusted root in a repository that signed everything some days ago."""
    made = TufSimulator(datetime.now(UTC).replace(microsecond=0) - timedelta(days=days_ago))
    made.targets_files["trusted_root.json"] = sim.root()
    made.publish()
    return made


def fetch(tuf: TufSimulator, directory: Path, name: str = NAME) -> None:
    """Pin the repository, and fetch what it has, at the time at which it was signed; then its mirror is gone."""
    with MisbehavingServer(tuf) as server:
        RootStore(Pins(str(directory)), FixedClock(tuf.now), open_session).pin_repository(name, server.url, tuf.pinned)


def pin_only(tuf: TufSimulator, directory: Path, mirror: str) -> None:
    """Pin the repository, without anything fetched."""
    Pins(str(directory)).pin_repository(NAME, mirror, tuf.pinned)
