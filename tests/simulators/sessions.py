"""A keyless session without the command line: the simulated instance, sigkit's ports over it, and what the user would be told."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from sigkit import limits
from sigkit.errors import Place, SigkitError
from sigkit.signing.client import Client
from sigkit.signing.instance import Instance
from sigkit.signing.keyless import KeylessSignatory, ServiceSignatory
from sigkit.signing.token import parse_identity_token
from sigkit.trust.signing_config import parse_signing_config
from sigkit.trust.trusted_root import parse_trusted_root
from tests.simulators.sigstore_services import AUDIENCE, SigstoreServer, SimTime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.keys.private import Signer
    from sigkit.signing.keyless import Publication

HERE = Place.operator("here")


@dataclass
class Told:
    """Remembers what a user would hear."""

    waits: list[tuple[str, str, float]] = field(default_factory=list)
    passed: list[tuple[str, SigkitError]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    published: list[Publication] = field(default_factory=list)

    def waiting(self, service: str, why: str, seconds: float) -> None:
        self.waits.append((service, why, seconds))

    def passed_over(self, service: str, err: SigkitError) -> None:
        self.passed.append((service, err))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def agree(self, publication: Publication) -> None:
        self.published.append(publication)


@dataclass
class Session:
    """`server` can be made to misbehave; `token` and `config` are for `Instance.token` and `Instance.config`."""

    server: SigstoreServer
    time: SimTime
    told: Told = field(default_factory=Told)
    patience_s: float = 120.0

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[Self]:
        with SigstoreServer() as server:
            yield cls(server, SimTime(server.sim))

    @contextlib.contextmanager
    def instance(self, config: dict[str, Any]) -> Iterator[Instance]:
        parsed = parse_signing_config(self.server.instance.config(**config), HERE, limits.DEFAULT)
        root = parse_trusted_root(self.server.sim.root(), "sim", HERE, limits.DEFAULT)
        with Client(self.told, patience_s=self.patience_s, timer=self.time) as client:
            yield Instance(parsed, root, client, self.time, HERE)

    @contextlib.contextmanager
    def signatory(self, config: dict[str, Any] | None = None, **claims: Any) -> Iterator[KeylessSignatory]:
        """Give an identity that signs."""
        token = parse_identity_token(self.server.instance.token(**claims), HERE)
        with self.instance(config or {}) as instance:
            yield KeylessSignatory(token, AUDIENCE, instance, self.told.agree, HERE)

    @contextlib.contextmanager
    def key(self, key: Signer, *chain: bytes, config: dict[str, Any] | None = None) -> Iterator[ServiceSignatory]:
        """Give a key that signs, with the instance's help."""
        with self.instance(config or {}) as instance:
            yield ServiceSignatory(key, chain, instance, self.told.agree, HERE)

    def asked(self, path: str) -> int:
        """Count the requests that a service got."""
        return len(self.server.seen("*", f"{path}*"))
