"""One signature's way through the services: asked in their order, and where one fails, the next that the selector allows.

Timestamps come first, then log entries: a timestamp ties the signature to a time inside the certificate's ten minutes, and a busy log of
the second generation, which states no time, can be waited for after it. And what fails before the log leaves nothing in public.

What a service says is judged as it will be in the finished bundle, while another can still be asked: at every time that is attested then,
by windows of the root, and counted once for each operator.

Source: sigstore-go pkg/sign/signer.go for what is collected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from sigkit.data import Data
from sigkit.errors import (
    NetError,
    NoAttestedTime,
    NoServiceAnswered,
    OutsideAuthority,
    Place,
    ServerFailed,
    SigkitError,
    TimedOut,
    UnavailError,
    Unreachable,
)
from sigkit.signing.asking import asking
from sigkit.signing.panel import voice_of
from sigkit.signing.rekor import V2, prove_entry, request_entry
from sigkit.signing.stated import StatedTimes
from sigkit.signing.timestamp import request_timestamp
from sigkit.text import format_time
from sigkit.verify.windows import check_window, show_window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sigkit.signing.client import Patience
    from sigkit.signing.instance import Instance
    from sigkit.signing.panel import Panel
    from sigkit.signing.stated import Lifetime
    from sigkit.tlog.entry import LogEntry
    from sigkit.trust.root import TransparencyLog
    from sigkit.trust.signing_config import Service
    from sigkit.verify.entries import Logged
    from sigkit.verify.facts import TimeFact

T = TypeVar("T")
_SPARE_WAIT_S: Final = 20.0  # for one in whose place another can be asked: a machine that is off is not waited for until it is repaired


class Vouchers(Data):
    """What an instance says about one signature."""

    entries: tuple[LogEntry, ...]
    timestamps: tuple[bytes, ...]


class RunsOut(Exception):
    """A certificate will not live until its service answers. Never leaves this room: a new certificate is taken."""


class Course:
    """Asks an instance's services for one signature, over all the certificates that it takes.

    A service's patience is for the course: a new certificate does not make it longer, and a later signature has its own. `public` says in
    sentences what is public by now.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._patience: dict[str, Patience] = {}
        self._public: list[str] = []
        self._times: list[TimeFact] = []  # that the evidence attests so far

    @property
    def public(self) -> tuple[str, ...]:
        """Return what is public by now, a sentence each; a certificate that was not used stays so."""
        return tuple(dict.fromkeys(self._public))

    def tell_certificate(self, subject: str) -> None:
        """Take note of a certificate; without certificate logs nobody but the authority knows of it."""
        if self._instance.root.ct_logs:
            self._public.append(f"a certificate for {subject} was made, it is public")

    def vouch(self, logged: Logged, lifetime: Lifetime) -> Vouchers:
        """Have a signature timestamped and logged.

        Args:
            logged: what was signed, and by what.
            lifetime: of what signed it. A service that states a time outside it is one that failed.

        Raises:
            RunsOut: one could not by then.
            NoServiceAnswered: (UNAVAIL) too few gave what they were asked for, and one could not be asked, or not to the end.
            SigkitError: what the only one said, or the last where all refused.
        """
        self._times.clear()
        stamps = self.enough(self._instance.authorities, lambda item, most_s: self._stamp(item, most_s, logged, lifetime))
        entries = self.enough(self._instance.logs, lambda item, most_s: self._log(item, most_s, logged, lifetime))
        return Vouchers(entries, stamps)

    def enough(self, panel: Panel, ask: Callable[[Service, float | None], tuple[T, str]]) -> tuple[T, ...]:
        """Ask one service after the other, until as many operators vouch as must; of what kind they are is said where one fails.

        Args:
            panel: the services.
            ask: asks one, and waits for it so many seconds at most, and returns its word, and by what name that counts.

        Raises:
            NoServiceAnswered: (UNAVAIL) too few did, and one could not be asked, or not to the end.
            SigkitError: what the only one said, or the last where all refused.
        """
        found: dict[str, T] = {}
        failures: list[SigkitError] = []
        for number, service in enumerate(panel.services, 1):
            if len(found) == panel.count:
                break
            try:
                with asking(f"the {panel.kind} at {service.url}", lambda: self._so_far(panel)):
                    panel.check(service, found, self._instance.clock.now())
                    is_spare = len(found) + len(panel.services) - number >= panel.count
                    word, voice = ask(service, _SPARE_WAIT_S if is_spare else None)
                    panel.check_other(service, voice, found)
            except SigkitError as err:
                failures.append(err)
                if len(found) + len(panel.services) - number < panel.count:
                    failure = self._failure(panel, failures, len(found))
                    if failure is err:
                        raise
                    raise failure from err
                self._instance.client.watcher.passed_over(service.url, err)
            else:
                found[voice] = word
        return tuple(found.values())

    def _failure(self, panel: Panel, failures: Sequence[SigkitError], found: int) -> SigkitError:
        """Return what too few answers mean: to ask again helps only where one could not be asked."""
        last, services = failures[-1], len(panel.services)
        if services == 1:
            return last
        if not any(isinstance(err, (UnavailError, NetError)) for err in failures):
            last.add_note(f"asked     {services} services: {len(failures)} refuse, and {found} of {panel.count} that must vouch do")
            return last
        failure = NoServiceAnswered(
            f"of {services} services too few answered; the last one: {last.problem}",
            place=last.place,
            expected=last.expected or f"{panel.count} answers",
            got=last.got or f"{found} answers",
            remedy=f"sigkit why {last.code}",
        )
        failure.add_note(f"so far    {self._so_far(panel)}")
        return failure

    def _so_far(self, panel: Panel) -> str:
        """Say what was done when a service of the panel failed."""
        nothing = "nothing else" if self._public else "nothing"
        # Of a log that did not answer nobody knows what it did.
        return "; ".join((*self.public, "nothing was attached" if panel is self._instance.logs else f"{nothing} was logged or attached"))

    def _stamp(self, service: Service, most_s: float | None, logged: Logged, lifetime: Lifetime) -> tuple[bytes, str]:
        instance = self._instance

        def ask(until: Patience) -> tuple[bytes, TimeFact]:
            return request_timestamp(
                instance.client, service.url, logged.signature, instance.root, StatedTimes(lifetime, instance.clock), until
            )

        stamp, fact = self._timed(self._until(service, most_s), lifetime.good_until, ask)
        self._check_signer(logged, (fact,), Place(service.url))
        self._times.append(fact)
        return stamp, fact.operator or fact.authority

    def _log(self, service: Service, most_s: float | None, logged: Logged, lifetime: Lifetime) -> tuple[LogEntry, str]:
        instance = self._instance

        def ask(until: Patience) -> tuple[LogEntry, Place]:
            return request_entry(instance.client, service, logged, instance.root, until)

        # The second generation states no time, and the timestamp is there already: such a log can be waited for.
        until = self._until(service, most_s)
        entry, place = ask(until) if service.version == V2 else self._timed(until, lifetime.good_until, ask)
        self._public.append(f"a log entry at {service.url} was made and is not proved, it may be public")
        fact, log, times = prove_entry(entry, logged, instance.root, place)
        self._public[-1] = f"log entry {fact.index} of {fact.log} was made, it is public"
        StatedTimes(lifetime, instance.clock).check(times, place)
        self._check_log(log, (*self._times, *times), place)
        self._check_signer(logged, times, place)
        if logged.certificate is not None and not self._times and not times:
            raise NoAttestedTime(
                "the log states no time, and nothing else does", place=place, expected="an entry with the log's signed time"
            )
        self._times.extend(times)
        return entry, voice_of(log)

    def _check_log(self, log: TransparencyLog, times: Sequence[TimeFact], place: Place) -> None:
        """Prove that the root trusts the log at every time that is attested, and now if none is, as a verifier will ask."""
        check_window(f"the log {log.name}", log.valid, times, place)
        now = self._instance.clock.now()
        if not times and not log.valid.holds(now):
            raise OutsideAuthority(
                f"the log {log.name} is not trusted now",
                place=place,
                expected=f"trusted {show_window(log.valid)}",
                got=f"{format_time(now)} by this machine's clock",
            )

    def _check_signer(self, logged: Logged, times: Sequence[TimeFact], place: Place) -> None:
        """Prove that the certificate, as the bundle holds it, is vouched for at the times that a service states."""
        if logged.certificate is None or not times:
            return
        from sigkit.verify.chain import parse_signing_certificate, verify_chain

        verify_chain(parse_signing_certificate((logged.certificate,), place), times, self._instance.root, place)

    def _timed(self, patience: Patience, good_until: datetime | None, ask: Callable[[Patience], T]) -> T:
        """Ask a service that states the time itself, for no longer than `good_until`.

        Raises:
            RunsOut: it would have to be waited for longer.
        """
        clock = self._instance.clock
        left_s = (good_until - clock.now()).total_seconds() if good_until else patience.left()
        if left_s >= patience.left():
            return ask(patience)
        if left_s <= 0:
            raise RunsOut
        try:
            return ask(self._instance.client.patience(left_s))
        except (ServerFailed, TimedOut, Unreachable) as err:
            raise RunsOut from err

    def _until(self, service: Service, most_s: float | None) -> Patience:
        """Return the end of one service's patience, which began when it was asked first."""
        return self._patience.setdefault(service.url, self._instance.client.patience(most_s))
