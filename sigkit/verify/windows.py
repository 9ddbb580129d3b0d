"""Validity: was a certificate, an authority, a log or a key in use at every time at which the signature is attested.

Both ends belong to a window (sigstore_trustroot.proto, TimeRange). Every attested time has to fit: one that does not is not outvoted by
another that does (TOB-SIGSTORE-4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import OutsideAuthority, OutsideCertificate, TimeInFuture
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography import x509

    from sigkit.errors import Place
    from sigkit.trust.root import Window
    from sigkit.verify.facts import TimeFact


def show_window(window: Window) -> str:
    """Write a window as refusals name it."""
    start = format_time(window.start) if window.start else "any time"
    return f"{start} to {format_time(window.end) if window.end else 'now'}"


def check_future(times: Iterable[TimeFact], now: datetime, place: Place) -> None:
    """Prove that no attested time is still to come: no skew is allowed, since it would be anybody's (TOB-SIGSTORE-7).

    Raises:
        TimeInFuture: (TIME) one is.
    """
    for time in times:
        if time.when > now:
            raise TimeInFuture(
                "the signature is attested at a time that has not come yet: this machine's clock is behind, or that one is ahead",
                place=place,
                expected=f"until {format_time(now)}, this machine's clock",
                got=f"{format_time(time.when)} by {time.authority}",
                remedy="date -u  # if it is behind: timedatectl set-ntp true",
            )


def check_window(name: str, window: Window, times: Iterable[TimeFact], place: Place) -> None:
    """Prove that the trust root trusts something at every attested time.

    Raises:
        OutsideAuthority: (TIME) not at one of them.
    """
    for time in times:
        if not window.holds(time.when):
            raise OutsideAuthority(
                f"{name} was not trusted at that time",
                place=place,
                expected=show_window(window),
                got=f"{format_time(time.when)} by {time.authority}",
            )


def check_certificates(chain: Sequence[x509.Certificate], times: Iterable[TimeFact], place: Place) -> None:
    """Prove that a chain was valid, every certificate of it, at every attested time (CVE-2026-24122: only the leaf was looked at).

    Raises:
        OutsideCertificate: (TIME) one was not at one of them.
    """
    for time in times:
        for certificate in chain:
            if not certificate.not_valid_before_utc <= time.when <= certificate.not_valid_after_utc:
                raise OutsideCertificate(
                    "a certificate of the chain was not valid at that time",
                    place=place,
                    expected=f"{format_time(certificate.not_valid_before_utc)} to {format_time(certificate.not_valid_after_utc)}",
                    got=f"{format_time(time.when)} by {time.authority}",
                )
