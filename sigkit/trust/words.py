"""A trust root in words: whose word counts for what, since when and until when, and who runs it. Outside text is raw here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sigkit.strict import Json
    from sigkit.trust.root import CertificateAuthority, TimestampAuthority, TransparencyLog, TrustedRoot, Window
    from sigkit.trust.signing_config import Selector, Service, SigningConfig

_CERTIFIES = "certificates"
_LOGS = "log"
_CT_LOGS = "certificate log"
_STAMPS = "timestamps"


class Party(Data):
    """One that a root trusts: for what, under which name, who runs it, when, and by which key or anchor."""

    role: str
    name: str
    operator: str
    valid: Window
    known_by: str

    def state(self, now: datetime) -> str:
        """Say whether what it does now counts. What it did within its window counts for ever."""
        if self.valid.holds(now):
            return "now"
        return "not any more" if self.valid.end and self.valid.end < now else "not yet"

    def text(self, now: datetime) -> str:
        """Return it as one line."""
        operator = f", run by {self.operator}" if self.operator else ""
        return f"{self.name}{operator}, {self._window(now)}; {self.known_by}"

    def _window(self, now: datetime) -> str:
        start = format_time(self.valid.start) if self.valid.start else "the beginning"
        end = f" until {format_time(self.valid.end)}" if self.valid.end else ""
        match self.state(now):
            case "now":
                return f"since {start}{end}"
            case "not yet":
                return f"from {start}{end}: nothing counts yet"
            case _:
                return f"from {start}{end}: nothing later counts"

    def encode(self, now: datetime) -> Json:
        """Return it for a program."""
        start, end = self.valid.start, self.valid.end
        return {
            "role": self.role,
            "name": self.name,
            "operator": self.operator,
            "start": format_time(start) if start else None,
            "end": format_time(end) if end else None,
            "state": self.state(now),
            "knownBy": self.known_by,
        }


def parties_of(root: TrustedRoot) -> tuple[Party, ...]:
    """Return all that a root trusts, in the order of what they are asked for."""
    return tuple(_parties(root))


def services_of(signing: SigningConfig) -> tuple[tuple[str, Service], ...]:
    """Return the services that sign, each with what it is for."""
    kinds = (
        ("issuer", signing.issuers),
        ("authority", signing.certificate_authorities),
        ("log", signing.logs),
        ("timestamps", signing.timestamp_authorities),
    )
    return tuple((kind, service) for kind, services in kinds for service in services)


def operators_of(root: TrustedRoot) -> tuple[str, ...]:
    """Return who runs what a root trusts, each once: evidence of one operator counts once."""
    return tuple(dict.fromkeys(party.operator for party in parties_of(root) if party.operator))


def selector_word(selector: Selector) -> str:
    """Return a selector as a person reads it."""
    from sigkit.trust.signing_config import AnyOne, EveryOne, Exactly

    match selector:
        case AnyOne():
            return "any one"
        case EveryOne():
            return "every one"
        case Exactly(count):
            return f"{count} of them"


def _parties(root: TrustedRoot) -> Iterator[Party]:
    for authority in root.certificate_authorities:
        yield _authority(_CERTIFIES, authority)
    for log in root.logs:
        yield _log(_LOGS, log)
    for log in root.ct_logs:
        yield _log(_CT_LOGS, log)
    for tsa in root.timestamp_authorities:
        yield _authority(_STAMPS, tsa)


def _authority(role: str, authority: CertificateAuthority | TimestampAuthority) -> Party:
    from cryptography.hazmat.primitives.hashes import SHA256

    anchor = authority.certificates[-1]
    known_by = f"anchor {anchor.subject.rfc4514_string()}, sha256:{anchor.fingerprint(SHA256()).hex()}"
    return Party(role, authority.name, authority.operator, authority.valid, known_by)


def _log(role: str, log: TransparencyLog) -> Party:
    return Party(role, log.name, log.operator, log.valid, f"{log.key.kind} key {log.key.fingerprint}")
