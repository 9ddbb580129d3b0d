"""Those of one kind who are asked to vouch, and which of them the trusted root lets count, known before anybody is asked.

A root says of each party until when it is trusted, and who runs it; verifiers go by both. Where the URL of a service is the root's own
name for a party, both are known beforehand. A service by another name is found out by its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sigkit.data import Data
from sigkit.errors import OutsideAuthority, Place, ServiceNotTrusted
from sigkit.text import format_time
from sigkit.verify.windows import show_window

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sigkit.errors import SigkitError
    from sigkit.signing.client import Watcher
    from sigkit.trust.root import CertificateAuthority, TimestampAuthority, TransparencyLog
    from sigkit.trust.signing_config import Service

    Party: TypeAlias = TransparencyLog | CertificateAuthority | TimestampAuthority


class Panel(Data):
    """The services of one kind that may be asked, in order, how many must vouch, and who of the kind the root holds."""

    kind: str
    services: tuple[Service, ...]
    count: int
    parties: tuple[Party, ...]

    def check(self, service: Service, counted: Collection[str], now: datetime) -> None:
        """See before a service is asked that its word would count.

        Raises:
            OutsideAuthority: (TIME) by its name in the root it is not trusted now.
            ServiceNotTrusted: (ROOT) by its name in the root it is of one who counts already.
        """
        named = self._named(service)
        if named and not any(party.valid.holds(now) for party in named):
            raise OutsideAuthority(
                f"the {self.kind} at {service.url} is not trusted now",
                place=Place(service.url),
                expected=f"trusted {' or '.join(show_window(party.valid) for party in named)}",
                got=f"{format_time(now)} by this machine's clock",
            )
        self.check_other(service, self.voice(service, now), counted)

    def check_other(self, service: Service, voice: str, counted: Collection[str]) -> None:
        """See that a service's word is not that of one who counts already.

        Raises:
            ServiceNotTrusted: (ROOT) it is.
        """
        if voice in counted:
            raise ServiceNotTrusted(
                f"the {self.kind} at {service.url} is of one who vouches already, and counts once",
                place=Place(service.url),
                expected=f"{self.count}, each of another operator",
                got=voice,
            )

    def voice(self, service: Service, now: datetime) -> str:
        """Return by what name the word of a service counts, as far as that is known before it is asked."""
        return next((voice_of(party) for party in self._named(service) if party.valid.holds(now)), service.url)

    def _named(self, service: Service) -> tuple[Party, ...]:
        url = service.url.rstrip("/")
        return tuple(party for party in self.parties if party.name.rstrip("/") == url)


def voice_of(party: Party) -> str:
    """Return by what name a party's word counts: its operator's, as in `is_complete`."""
    return party.operator or party.name


def check_trusted(kind: str, count: int, parties: Sequence[Party], now: datetime, root: str, place: Place) -> None:
    """See that the root trusts enough of a kind now: else whatever they answered, the evidence would not be complete.

    Raises:
        ServiceNotTrusted: (ROOT) too few operators.
    """
    trusted = {voice_of(party) for party in parties if party.valid.holds(now)}
    if len(trusted) >= count:
        return
    others = [f"{voice_of(party)} {show_window(party.valid)}" for party in parties if not party.valid.holds(now)]
    when = f"at {format_time(now)} by this machine's clock: " if others else ""
    raise ServiceNotTrusted(
        f"the trusted root holds too few of a kind: {kind}",
        place=place,
        expected=f"{count}, each of another operator, as the signing config asks for",
        got=f"{when}{', '.join((*sorted(trusted), *others)) or 'none'} in {root}",
    )


def empanel(panel: Panel, place: Place, now: datetime, watcher: Watcher) -> Panel:
    """Return the panel without those whose word would not count, who are told.

    Raises:
        ServiceNotTrusted: (ROOT) too few would be left; with the reason against the last of them.
    """
    left: list[Service] = []
    passed: list[tuple[Service, SigkitError]] = []
    for service in panel.services:
        try:
            panel.check(service, (), now)
            left.append(service)
        except OutsideAuthority as err:
            passed.append((service, err))
    if len({panel.voice(service, now) for service in left}) < panel.count:
        why = passed[-1][1] if passed else None
        raise ServiceNotTrusted(
            f"the trusted root trusts too few of the services of the signing config: {panel.kind}",
            place=place,
            expected=f"{panel.count}, each of another operator",
            got=f"{why.problem}: {why.expected}, and it is {why.got}" if why else ", ".join(service.url for service in left),
        ) from why
    for service, failure in passed:
        watcher.passed_over(service.url, failure)
    return Panel(panel.kind, tuple(left), panel.count, panel.parties)
