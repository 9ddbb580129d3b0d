"""Timestamps of RFC 3161: what a known authority signed about this signature, inside the time in which it is trusted.

rfc3161-client reads CMS and checks the signature, the imprint and the chain at the stated time. What it leaves open is checked here: one
authority at a time (its certificates are one trusted set otherwise), the window of the trust root, the leaf's purpose and that it is no CA.

A token by a signer whom the trust root does not hold proves nothing and is named as unchecked; one that names a known signer and does not
verify refuses the evidence: a good time beside it must not hide it (TOB-SIGSTORE-4).

Source: RFC 3161 section 2.4.2; RFC 5816; RFC 5652 section 5.3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from sigkit.errors import BadTimestamp, OutsideAuthority
from sigkit.keys.certificate import check_serial_number, refusals
from sigkit.text import format_time
from sigkit.verify.facts import Source, TimeFact, TimeKind, Unchecked
from sigkit.verify.windows import show_window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509
    from rfc3161_client.tsp import TimeStampResponse

    from sigkit.errors import Place
    from sigkit.trust.root import TimestampAuthority


_KEPT_AUTHORITIES: Final = 32


def verify_timestamps(
    stamps: Sequence[bytes], signature: bytes, authorities: Sequence[TimestampAuthority], place: Place
) -> tuple[tuple[TimeFact, ...], tuple[Unchecked, ...]]:
    """Prove when `signature` existed.

    Args:
        stamps: the authorities' responses, in DER.
        signature: the bytes that each must be about.
        authorities: those of the trust root.
        place: of the evidence.

    Raises:
        BadTimestamp: (TIME) malformed, about other bytes, or not what the authority that it names signed.
        OutsideAuthority: (TIME) the authority was not trusted at that time.
    """
    times: list[TimeFact] = []
    unchecked: list[Unchecked] = []
    for number, stamp in enumerate(stamps, 1):
        if not authorities:
            unchecked.append(Unchecked(f"timestamp {number}", "the trust root holds no timestamp authority"))
            continue
        token = _parse(stamp, place)
        named = [authority for authority in authorities if token.names(authority.certificates[0])]
        if named:
            times.append(_verify(token, signature, named, place))
        else:
            unchecked.append(Unchecked(f"timestamp {number}", "the trust root does not hold the authority that it names"))
    return tuple(times), tuple(unchecked)


class _Token(NamedTuple):
    """A response, who says to have signed it, and when. Nothing is proved."""

    response: TimeStampResponse
    issuer: x509.Name
    serial_number: int
    when: datetime

    def names(self, leaf: x509.Certificate) -> bool:
        """Tell whether this certificate is said to have signed it."""
        return self.issuer == leaf.issuer and self.serial_number == leaf.serial_number


def _parse(stamp: bytes, place: Place) -> _Token:
    from rfc3161_client import decode_timestamp_response

    try:
        response = decode_timestamp_response(stamp)
        when = response.tst_info.gen_time
        tokens = [_Token(response, signer.issuer, signer.serial_number, when) for signer in response.signed_data.signer_infos]
    except refusals() as err:  # at whatever depth: parts are read late
        raise BadTimestamp("a timestamp is malformed", place=place, got=f"{len(stamp)} bytes") from err
    if len(tokens) != 1:
        raise BadTimestamp("a timestamp has exactly one signer", place=place, expected="1", got=str(len(tokens)))
    return tokens[0]


def _verify(token: _Token, signature: bytes, authorities: Sequence[TimestampAuthority], place: Place) -> TimeFact:
    """Prove the token by one of the authorities that have its signer: a root may list one with several windows."""
    when = token.when
    for authority in authorities:
        if not _is_for_timestamps_alone(authority.certificates[0]):
            raise BadTimestamp("the authority's certificate is not for timestamps alone", place=place, got=authority.name)
        _check_signature(token.response, signature, authority, place)
        if authority.valid.holds(when):
            source = Source(authority.source.name, authority.source.digest, authority.name)
            return TimeFact(when, authority.name, source, TimeKind.TIMESTAMP, authority.operator)
    raise OutsideAuthority(
        "the timestamp authority was not trusted at that time",
        place=place,
        expected=show_window(authorities[0].valid),
        got=f"{format_time(when)} by {authorities[0].name}",
    )


def _check_signature(response: TimeStampResponse, signature: bytes, authority: TimestampAuthority, place: Place) -> None:
    from rfc3161_client import VerificationError, VerifierBuilder

    leaf, *intermediates = authority.certificates
    root = intermediates.pop() if intermediates else leaf
    # Built afresh for each authority: copies of a builder share their lists.
    verifier = VerifierBuilder(tsa_certificate=leaf, intermediates=intermediates, roots=[root]).build()
    refused: tuple[type[Exception], ...] = (VerificationError, *refusals())
    try:
        for embedded in response.signed_data.certificates:
            check_serial_number(embedded)
        verifier.verify_message(response, signature)
    except refused as err:  # certificates in the token are read here
        raise BadTimestamp(
            "the timestamp does not verify", place=place, expected=f"signed by {authority.name}, about this signature", got=str(err)[:200]
        ) from err


@lru_cache(maxsize=_KEPT_AUTHORITIES)
def _is_for_timestamps_alone(leaf: x509.Certificate) -> bool:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usages = [item for item in leaf.extensions if isinstance(item.value, x509.ExtendedKeyUsage)]
    constraints = [item.value for item in leaf.extensions if isinstance(item.value, x509.BasicConstraints)]
    # RFC 3161 section 2.3: critical and alone. A CA could issue itself any other purpose (timestamp-authority#1416).
    alone = [(item.critical, list(item.value)) for item in usages] == [(True, [ExtendedKeyUsageOID.TIME_STAMPING])]
    return alone and not any(item.ca for item in constraints)
