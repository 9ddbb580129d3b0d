"""A timestamp for one signature, and the check that it is that.

The request carries a nonce, and an answer without it is somebody else's, or an old one (sigstore-rust#113). No certificates are asked
for: verifiers take them from the trusted root, and some drop a token whose certificates they dislike.

Source: RFC 3161 sections 2.4 and 3.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits
from sigkit.errors import BadTimestamp, ServiceNotTrusted
from sigkit.signing.client import Ask

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.signing.client import Client, Patience
    from sigkit.signing.stated import StatedTimes
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.facts import TimeFact

_QUERY: Final = "application/timestamp-query"
_REPLY: Final = "application/timestamp-reply"


def request_timestamp(
    client: Client, url: str, signature: bytes, root: TrustedRoot, stated: StatedTimes, until: Patience
) -> tuple[bytes, TimeFact]:
    """Return an authority's response about `signature`, in DER, as a bundle holds it, and what it proves.

    Args:
        client: that asks.
        url: the authority's, whole.
        signature: what must have existed.
        root: the instance's.
        stated: judges the time that it states.
        until: after which there is no use in waiting.

    Raises:
        BadTimestamp: (TIME) malformed, over other bytes, without our nonce, or not what the authority signs.
        OutsideAuthority: (TIME) the root does not trust the authority at that time.
        TimeInFuture, OutsideCertificate: (TIME) its clock is wrong, as `StatedTimes.check`.
        ServiceNotTrusted: (ROOT) the root does not hold the authority.
        SigkitError: as `Client.ask`.
    """
    from rfc3161_client import TimestampRequestBuilder
    from rfc3161_client.base import HashAlgorithm

    from sigkit.verify.times import verify_timestamps

    request = (
        TimestampRequestBuilder()
        .data(signature)
        .hash_algorithm(HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=False)
        .build()
    )
    ask = Ask("POST", url, limits.TIMESTAMP_ANSWER_BYTES, (200, 201), request.as_bytes(), _QUERY, accept=_REPLY)
    answer = client.ask(ask, until)
    _check_nonce(answer.body, request.nonce, answer.place())
    facts, unchecked = verify_timestamps((answer.body,), signature, root.timestamp_authorities, answer.place())
    if not facts:
        raise ServiceNotTrusted("the timestamp is by an authority that is not trusted", place=answer.place(), got=unchecked[0].why)
    stated.check(facts, answer.place())
    return answer.body, facts[0]


def _check_nonce(response: bytes, nonce: int | None, place: Place) -> None:
    from rfc3161_client import decode_timestamp_response

    try:
        decoded = decode_timestamp_response(response)
        status, answered = decoded.status, decoded.tst_info.nonce if decoded.status == 0 else None
    except (ValueError, KeyError) as err:
        raise BadTimestamp("the answer is no timestamp", place=place, got=f"{len(response)} bytes") from err
    if status != 0:
        raise BadTimestamp("the authority gave no timestamp", place=place, expected="status 0, granted", got=f"status {status}")
    if answered != nonce:
        raise BadTimestamp(
            "the timestamp is the answer to another request",
            place=place,
            expected="the nonce that was sent",
            got="another" if answered else "none",
        )
