"""The services of one instance, chosen by its signing config, and by its trusted root: nobody is asked whose word would not count.

Source: sigstore/protobuf-specs sigstore_trustroot.proto, SigningConfig.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.errors import NoAttestedTime, Place, UnsupportedKey
from sigkit.keys.public import ED25519
from sigkit.signing.panel import Panel, check_trusted, empanel
from sigkit.signing.rekor import V1, V2, VERSIONS
from sigkit.trust.signing_config import AnyOne, needed, select

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.keys.public import PublicKey
    from sigkit.signing.client import Client
    from sigkit.signing.panel import Party
    from sigkit.trust.root import TrustedRoot
    from sigkit.trust.signing_config import Selector, Service, SigningConfig

_TSA_VERSIONS: Final = (1,)
_CA_VERSIONS: Final = (1,)


class Instance:
    """One instance's services, by whose root they are judged, and who asks them."""

    def __init__(self, config: SigningConfig, root: TrustedRoot, client: Client, clock: Clock, place: Place) -> None:
        """Take the services, the root by which their word is judged, who asks, the time, and where the signing config was found.

        Raises:
            NoService: (UNAVAIL) it names too few services that can be asked now.
            ServiceNotTrusted: (ROOT) the root trusts too few of a kind now: whatever they answered, the evidence would not be complete.
        """
        self.root = root
        self.client = client
        self.clock = clock
        self._place = place
        self._config = config
        stamps = config.timestamp_authorities
        self.logs = self._choose("log", "rekorTlogUrls", config.logs, config.log_selector, VERSIONS, root.logs)
        self.authorities = self._choose(
            "timestamp authority", "tsaUrls", stamps, config.timestamp_selector, _TSA_VERSIONS, root.timestamp_authorities
        )

    def certificate_authorities(self) -> Panel:
        """Return the authorities that certify identities, in the order in which they are asked; one is enough.

        Raises:
            NoService: (UNAVAIL) there is none.
            ServiceNotTrusted: (ROOT) the root trusts none now, or no certificate log of those it holds, so none is sent a token.
        """
        now = self.clock.now()
        self._check_trusted("certificate authority", 1, self.root.certificate_authorities, now)
        # Without a promise of one of them the certificate is refused.
        self._check_trusted("certificate log", min(1, len(self.root.ct_logs)), self.root.ct_logs, now)
        kind, parties = "certificate authority", self.root.certificate_authorities
        services = select(self._config.certificate_authorities, AnyOne(), _CA_VERSIONS, now, _inside(self._place, "caUrls"))
        return empanel(Panel(kind, services, 1, parties), self._place, now, self.client.watcher)

    def check_times(self) -> None:
        """See to it that a time will be attested, without which no verifier takes a certificate.

        Raises:
            NoAttestedTime: (TIME) logs that state no time, and no timestamp authority.
        """
        if not self.authorities.count and not any(log.version == V1 for log in self.logs.services[: self.logs.count]):
            raise NoAttestedTime(
                "nothing in the signing config attests a time, so no verifier would take the certificate",
                place=self._place,
                expected="tsaUrls, or a log of the first generation",
                got=", ".join(f"{log.url} (version {log.version})" for log in self.logs.services) or "no log",
                remedy="name a timestamp authority in the signing config",
            )

    def check_key(self, key: PublicKey) -> None:
        """See to it that the logs take such a key, before anything is signed.

        Raises:
            UnsupportedKey: (SIG) an Ed25519 key, whose pre-hashed form logs of the second generation want and verifiers by key do not.
        """
        if key.kind == ED25519 and any(log.version == V2 for log in self.logs.services):
            raise UnsupportedKey(
                "logs of the second generation take no pure Ed25519 signature",
                place=self._place,
                expected="ECDSA or RSA",
                got=key.kind,
                remedy="sign with an ECDSA key (sigkit key generate), or without a log",
            )

    def _choose(
        self,
        kind: str,
        member: str,
        listed: Sequence[Service],
        selector: Selector,
        versions: Collection[int],
        parties: Sequence[Party],
    ) -> Panel:
        """Choose among what is listed; an instance may have no log, or no timestamp authority."""
        if not listed:
            return Panel(kind, (), 0, tuple(parties))
        now = self.clock.now()
        services = select(listed, selector, versions, now, _inside(self._place, member))
        panel = Panel(kind, services, needed(selector, services), tuple(parties))
        self._check_trusted(kind, panel.count, parties, now)
        return empanel(panel, self._place, now, self.client.watcher)

    def _check_trusted(self, kind: str, count: int, parties: Sequence[Party], now: datetime) -> None:
        check_trusted(kind, count, parties, now, self.root.name, self._place)


def _inside(place: Place, member: str) -> Place:
    return Place("", f"$.{member}").within(place)
