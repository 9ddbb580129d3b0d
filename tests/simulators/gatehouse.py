"""A host with a gate: a registry in memory, a real audit log and state on disk, an engine that records what it was given."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sigkit.evidence.copy import Side, copy_image
from sigkit.gate.admit import Covers, Judgement, Ports, judge
from sigkit.gate.audit import AuditLog, read_log
from sigkit.gate.confine import Asked
from sigkit.gate.run import pull, run
from sigkit.gate.state import SqliteState
from sigkit.limits import DEFAULT
from sigkit.oci.reference import parse_reference
from sigkit.oci.resolve import resolve
from sigkit.signing.keyed import KeySignatory
from sigkit.signing.session import sign_image
from tests.simulators.images import AMD64, SmallImage, push_index, small_image
from tests.simulators.memory_registry import MemoryRegistry
from tests.simulators.verdicts import StoppedClock, policy, private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.digest import Digest
    from sigkit.engine.admission import Admission
    from sigkit.errors import SigkitError
    from sigkit.oci.descriptor import Platform

APP = "registry.example/acme/app"
ONE_KEY = "  - images: registry.example/acme/**\n    require: {key: a}\n"


class FakeEngine:
    """Behind the gate's `Engine` port: pulls nothing, starts nothing, redeems as the real one must."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.pulled: list[Admission] = []
        self.started: list[Admission] = []
        self.pull_fails: SigkitError | None = None
        self.start_fails: SigkitError | None = None

    def pull(self, admission, _registry):
        if self.pull_fails:
            raise self.pull_fails
        self.pulled.append(admission)
        return "an image"

    def start(self, admission, _image, redeem):
        redeem(admission)
        if self.start_fails:
            raise self.start_fails
        self.started.append(admission)
        return self.status


@dataclass
class Host:
    """What a test moves and looks at."""

    home: Path
    clock: StoppedClock = field(default_factory=StoppedClock)
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    engine: FakeEngine = field(default_factory=FakeEngine)
    told: list[Judgement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = SqliteState(self.home / "state.db")
        self.log = self.home / "audit.jsonl"
        self.ports = Ports(self.registry, self.clock, DEFAULT, self.state, AuditLog(self.log, self.clock))

    def push(self, reference: str = f"{APP}:v1", image: SmallImage | None = None) -> Digest:
        parsed = parse_reference(reference)
        return (image or small_image()).push(self.registry, parsed.repository, parsed.tag)

    def push_index(self, reference: str = f"{APP}:v1", images: dict[Platform, SmallImage] | None = None) -> bytes:
        parsed = parse_reference(reference)
        return push_index(self.registry, parsed.repository, images or {AMD64: small_image()}, str(parsed.tag))

    def sign(self, key: str, reference: str = f"{APP}:v1") -> None:
        sign_image(self.registry, resolve(self.registry, parse_reference(reference)), KeySignatory(private(key)), {}, self.clock)

    def copy(self, source: str, target: str) -> None:
        """Copy image and evidence, as an attacker or a mirror does."""
        there, here = parse_reference(source), parse_reference(target)
        top = resolve(self.registry, there).digest
        copy_image(Side(self.registry, there.repository), top, Side(self.registry, here.repository), here.tag)

    def judge(self, rules: str = ONE_KEY, reference: str = f"{APP}:v1", covers: Covers = Covers.TOP) -> Judgement:
        return judge(parse_reference(reference), AMD64, policy(rules, "a", "b", "c"), self.registry, self.clock, DEFAULT, covers)

    def run(self, rules: str = ONE_KEY, reference: str = f"{APP}:v1", asked: Asked | None = None, tell=None) -> int:
        loaded = policy(rules, "a", "b", "c")
        return run(parse_reference(reference), AMD64, loaded, asked or Asked(), self.ports, self.engine, tell or self.told.append)

    def pull(self, rules: str = ONE_KEY, reference: str = f"{APP}:v1"):
        return pull(parse_reference(reference), AMD64, policy(rules, "a", "b", "c"), self.ports, self.engine, self.told.append)

    def events(self) -> list[str]:
        return [entry.event for entry in read_log(self.log)] if self.log.exists() else []

    def entries(self) -> list:
        return list(read_log(self.log))

    def usable_admissions(self) -> int:
        """Count what could still be redeemed."""
        with contextlib.closing(sqlite3.connect(self.home / "state.db")) as database:
            return int(database.execute("SELECT count(*) FROM state").fetchone()[0])

    def later(self, **delta: float) -> None:
        self.clock.when += timedelta(**delta)


def opened(home: Path) -> Iterator[Host]:
    host = Host(home)
    with host.state:
        yield host
