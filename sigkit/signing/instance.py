"""The services of one instance, asked in the order of its signing config: where one fails, the next that the selector allows.

Timestamps come first, then log entries: a timestamp ties the signature to a time inside the certificate's ten minutes, and a busy log of
the second generation, which states no time, can be waited for after it. And what fails before the log leaves nothing in public.

Source: sigstore/protobuf-specs sigstore_trustroot.proto, SigningConfig; sigstore-go pkg/sign/signer.go for what is collected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from sigkit.data import Data
from sigkit.errors import (
    NoAttestedTime,
    NoServiceAnswered,
    Place,
    ServerFailed,
    ServiceNotTrusted,
    SigkitError,
    TimedOut,
    Unreachable,
    UnsupportedKey,
)
from sigkit.keys.public import ED25519
from sigkit.signing.asking import asking
from sigkit.signing.rekor import V1, V2, VERSIONS, log_signature
from sigkit.signing.stated import StatedTimes
from sigkit.signing.timestamp import request_timestamp
from sigkit.trust.signing_config import AnyOne, needed, select

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.keys.public import PublicKey
    from sigkit.signing.client import Client, Patience
    from sigkit.signing.stated import Lifetime
    from sigkit.tlog.entry import LogEntry
    from sigkit.trust.root import TrustedRoot
    from sigkit.trust.signing_config import Service, SigningConfig
    from sigkit.verify.entries import Logged

T = TypeVar("T")

_TSA_VERSIONS: Final = (1,)
_CA_VERSIONS: Final = (1,)


class Vouchers(Data):
    """What an instance says about one signature."""

    entries: tuple[LogEntry, ...]
    timestamps: tuple[bytes, ...]


class RunsOut(Exception):
    """A certificate will not live until its service answers. Never leaves this room: a new certificate is taken."""


class Instance:
    """Asks one instance's services."""

    def __init__(self, config: SigningConfig, root: TrustedRoot, client: Client, clock: Clock, place: Place) -> None:
        """Take the services, the root by which their word is judged, who asks, the time, and where the signing config was found.

        Raises:
            NoService: (UNAVAIL) it names too few services that can be asked now.
            ServiceNotTrusted: (ROOT) the root holds too few of a kind: whatever they answered, the evidence would not be complete.
        """
        now = clock.now()
        self.root = root
        self.client = client
        self.clock = clock
        self._place = place
        self._config = config
        self.logs = _choose(config.logs, lambda: select(config.logs, config.log_selector, VERSIONS, now, _inside(place, "rekorTlogUrls")))
        self.log_count = needed(config.log_selector, self.logs) if self.logs else 0
        stamps = config.timestamp_authorities
        self.authorities = _choose(stamps, lambda: select(stamps, config.timestamp_selector, _TSA_VERSIONS, now, _inside(place, "tsaUrls")))
        self.stamp_count = needed(config.timestamp_selector, self.authorities) if self.authorities else 0
        self._patience: dict[str, Patience] = {}
        self._logged = 0
        self._check_trusted("log", self.log_count, {log.operator or log.name for log in root.logs})
        operators = {authority.operator or authority.name for authority in root.timestamp_authorities}
        self._check_trusted("timestamp authority", self.stamp_count, operators)

    def _check_trusted(self, what: str, count: int, operators: Collection[str]) -> None:
        if len(operators) < count:
            raise ServiceNotTrusted(
                f"the trusted root holds too few of a kind: {what}",
                place=self._place,
                expected=f"{count}, each of another operator, as the signing config asks for",
                got=f"{', '.join(sorted(operators)) or 'none'} in {self.root.name}",
            )

    def certificate_authorities(self) -> tuple[Service, ...]:
        """Return the authorities that certify identities, in the order in which they are asked; one is enough.

        Raises:
            NoService: (UNAVAIL) there is none.
            ServiceNotTrusted: (ROOT) the root holds none, so none is sent a token.
        """
        self._check_trusted("certificate authority", 1, {authority.name for authority in self.root.certificate_authorities})
        return select(self._config.certificate_authorities, AnyOne(), _CA_VERSIONS, self.clock.now(), _inside(self._place, "caUrls"))

    def check_times(self) -> None:
        """See to it that a time will be attested, without which no verifier takes a certificate.

        Raises:
            NoAttestedTime: (TIME) logs that state no time, and no timestamp authority.
        """
        if not self.stamp_count and not any(log.version == V1 for log in self.logs[: self.log_count]):
            raise NoAttestedTime(
                "nothing in the signing config attests a time, so no verifier would take the certificate",
                place=self._place,
                expected="tsaUrls, or a log of the first generation",
                got=", ".join(f"{log.url} (version {log.version})" for log in self.logs) or "no log",
                remedy="name a timestamp authority in the signing config",
            )

    def check_key(self, key: PublicKey) -> None:
        """See to it that the logs take such a key, before anything is signed.

        Raises:
            UnsupportedKey: (SIG) an Ed25519 key, whose pre-hashed form logs of the second generation want and verifiers by key do not.
        """
        if key.kind == ED25519 and any(log.version == V2 for log in self.logs):
            raise UnsupportedKey(
                "logs of the second generation take no pure Ed25519 signature",
                place=self._place,
                expected="ECDSA or RSA",
                got=key.kind,
                remedy="sign with an ECDSA key (sigkit key generate), or without a log",
            )

    def vouch(self, logged: Logged, lifetime: Lifetime) -> Vouchers:
        """Have a signature timestamped and logged.

        Args:
            logged: what was signed, and by what.
            lifetime: of what signed it. A service that states a time outside it is one that failed.

        Raises:
            RunsOut: one could not by then.
            NoServiceAnswered: (UNAVAIL) too few gave what they were asked for.
            SigkitError: what the only one said.
        """
        stamps = self.enough("timestamp authority", self.authorities, self.stamp_count, lambda item: self._stamp(item, logged, lifetime))
        entries = self.enough("log", self.logs, self.log_count, lambda item: self._log(item, logged, lifetime))
        return Vouchers(entries, stamps)

    def enough(self, kind: str, services: Sequence[Service], count: int, ask: Callable[[Service], T]) -> tuple[T, ...]:
        """Ask one service after the other, until `count` of them have answered; of what kind they are is said where one fails.

        Raises:
            NoServiceAnswered: (UNAVAIL) too few did.
            SigkitError: what the only one said.
        """
        found: list[T] = []
        for number, service in enumerate(services, 1):
            if len(found) == count:
                break
            try:
                with asking(f"the {kind} at {service.url}", self._so_far(kind)):
                    found.append(ask(service))
            except SigkitError as err:
                if len(services) == 1:
                    raise
                left = len(services) - number
                if len(found) + left < count:
                    failure = NoServiceAnswered(
                        f"of {len(services)} services too few answered; the last one: {err.problem}",
                        place=err.place,
                        expected=err.expected or f"{count} answers",
                        got=err.got or f"{len(found)} answers",
                        remedy=f"sigkit why {err.code}",
                    )
                    failure.add_note(f"so far    {self._so_far(kind)}")
                    raise failure from err
                self.client.watcher.passed_over(service.url, err)
        return tuple(found)

    def _so_far(self, kind: str) -> str:
        """Say what was done before a service of this kind is asked."""
        if self._logged:
            return f"{self._logged} log {'entry was' if self._logged == 1 else 'entries were'} made; nothing was attached"
        # Of a log that did not answer nobody knows what it did.
        return "nothing was attached" if kind == "log" else "nothing was logged or attached"

    def _stamp(self, service: Service, logged: Logged, lifetime: Lifetime) -> bytes:
        def ask(until: Patience) -> bytes:
            return request_timestamp(self.client, service.url, logged.signature, self.root, StatedTimes(lifetime, self.clock), until)

        return self._timed(service, lifetime.good_until, ask)

    def _log(self, service: Service, logged: Logged, lifetime: Lifetime) -> LogEntry:
        def ask(until: Patience) -> LogEntry:
            return log_signature(self.client, service, logged, self.root, StatedTimes(lifetime, self.clock), until)

        # The second generation states no time, and the timestamp is there already: such a log can be waited for.
        entry = ask(self._until(service)) if service.version == V2 else self._timed(service, lifetime.good_until, ask)
        self._logged += 1
        return entry

    def _timed(self, service: Service, good_until: datetime | None, ask: Callable[[Patience], T]) -> T:
        """Ask a service that states the time itself, for no longer than `good_until`.

        Raises:
            RunsOut: it would have to be waited for longer.
        """
        patience = self._until(service)
        left_s = (good_until - self.clock.now()).total_seconds() if good_until else patience.left()
        if left_s >= patience.left():
            return ask(patience)
        if left_s <= 0:
            raise RunsOut
        try:
            return ask(self.client.patience(left_s))
        except (ServerFailed, TimedOut, Unreachable) as err:
            raise RunsOut from err

    def _until(self, service: Service) -> Patience:
        """Return the end of one service's patience, which a new certificate does not make longer."""
        return self._patience.setdefault(service.url, self.client.patience())


def _choose(listed: Sequence[Service], choose: Callable[[], tuple[Service, ...]]) -> tuple[Service, ...]:
    """Choose among what is listed; an instance may have no log, or no timestamp authority."""
    return choose() if listed else ()


def _inside(place: Place, member: str) -> Place:
    return Place("", f"$.{member}").within(place)
