"""A certificate for one key and the identity of a token, and the check that it is that, before anything is signed with it.

The request carries a certificate signing request: of it an authority uses the key and the proof that we hold it. The other form wants
the token's name signed, and which claim that is depends on how the authority sees the issuer, which no client knows.

The certificate is judged by the same code as at verification, at the moment at which it begins: its chain, its purpose, its one name, and
the promise of a certificate log, each by the trusted root. As in the bundle it stands alone: what comes with it is in no bundle, and tells
only why a path is missing. Then that it certifies this key, and whom the token is about.

Source: sigstore/fulcio fulcio.proto (CreateSigningCertificate), docs/certificate-specification.md.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import (
    ClockSkew,
    MalformedCertificate,
    OtherIdentityCertified,
    OtherKeyCertified,
    RequestRefused,
    ServiceNotTrusted,
    SigkitError,
    TokenNotTaken,
    UntrustedCertificate,
)
from sigkit.keys.pem import parse_pem
from sigkit.signing.client import Ask, under
from sigkit.signing.stated import Lifetime
from sigkit.signing.token import LEEWAY
from sigkit.text import format_time
from sigkit.trust.root import Window
from sigkit.verify.written_uri import write_uri

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.signing.client import Client, Patience
    from sigkit.signing.ephemeral import EphemeralKey
    from sigkit.signing.token import IdentityToken
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.facts import IdentitySigner, TimeFact, Vouched

MARGIN: Final = timedelta(seconds=60)  # of a certificate's life; half of it, where it lives for less than two minutes
_PATH: Final = "/api/v2/signingCert"
_LABEL: Final = "CERTIFICATE"


class Certified(Data):
    """A certificate that was judged: in DER, with whom it names and when it is valid."""

    der: bytes
    signer: IdentitySigner
    begins: datetime
    ends: datetime

    @property
    def good_until(self) -> datetime:
        """By when everything that states a time must have answered."""
        return self.ends - min(MARGIN, (self.ends - self.begins) / 2)

    @property
    def lifetime(self) -> Lifetime:
        """When it is valid, and by when services must have answered."""
        return Lifetime(Window(self.begins, self.ends), self.good_until)


def request_certificate(
    client: Client, url: str, token: IdentityToken, key: EphemeralKey, until: Patience
) -> tuple[tuple[bytes, ...], Place]:
    """Ask an authority for a certificate, and return its answer, leaf first, each in DER, and whose answer it is.

    Raises:
        TokenNotTaken: (IDENT) the authority does not take the token; the message has its words.
        WrongShape, MalformedPem: (PARSE) the answer is malformed.
        SigkitError: as `Client.ask`.
    """
    body = strict.encode_json({"certificateSigningRequest": strict.encode_base64(key.request())})
    ask = Ask("POST", under(url, _PATH), limits.CERTIFICATE_ANSWER_BYTES, body=body, authorization=f"Bearer {token.raw}")
    try:
        answer = client.ask(ask, until)
    except RequestRefused as err:
        raise TokenNotTaken(
            f"the certificate authority: {err.problem}",
            place=err.place,
            expected="a token that it takes",
            got=f"{err.got} for one of {token.issuer} for {token.identity}",
            remedy="request a new token; of a stack: sigkit stack token DIR SUBJECT",
        ) from err
    top = answer.json()
    # Without an embedded promise, cosign's older form, nobody else's verifier finds one.
    found = top.find("signedCertificateEmbeddedSct") or top.member("signedCertificateDetachedSct")
    items = found.member("chain").member("certificates").items(limits.CERTIFICATES)
    if not items:
        found.fail("no certificate", expected="the signer's certificate first")
    return tuple(parse_pem(item.text().encode("utf-8"), (_LABEL,), item.at()).data for item in items), answer.place()


def judge_certificate(
    chain: Sequence[bytes], key: PublicKey, token: IdentityToken, root: TrustedRoot, now: datetime, place: Place
) -> Certified:
    """Prove that a certificate is for our key, names whom the token is about, and is the trusted root's.

    Args:
        chain: the certificate, and what came with it; only the certificates that the trusted root lists count.
        key: that will sign.
        token: that was sent for it.
        root: the instance's.
        now: by this machine's clock.
        place: of the authority's answer.

    Raises:
        OtherKeyCertified: (BIND) it is for another key.
        OtherIdentityCertified: (IDENT) it names another identity or issuer.
        ClockSkew: (TIME) by this machine's clock it is not valid, or not for long enough to sign with it.
        UntrustedCertificate: (ROOT), BadSct: (TLOG), and the others of `verify_chain`.
        ServiceNotTrusted: (ROOT) the root has certificate logs, and none of them promised to include it.
    """
    judged = _judge(chain, key, root, (), place)
    _check_clock(judged, now, place)
    _check_identity(judged.signer, token, place)
    return judged


def judge_own_certificate(chain: Sequence[bytes], key: PublicKey, root: TrustedRoot, now: datetime, place: Place) -> Certified:
    """Prove that a certificate that the user brings is for the key, is the trusted root's, and is so now.

    Raises:
        OtherKeyCertified: (BIND) it is for another key.
        OutsideCertificate, OutsideAuthority: (TIME) by this machine's clock it, or the authority, is no longer, or not yet.
        SigkitError: as `judge_certificate`.
    """
    return _judge(chain, key, root, (now,), place)


def _judge(chain: Sequence[bytes], key: PublicKey, root: TrustedRoot, more: Sequence[datetime], place: Place) -> Certified:
    """Judge a certificate at the moment at which it begins, and at `more`."""
    from sigkit.verify.chain import parse_signing_certificate
    from sigkit.verify.facts import IdentitySigner, Source, TimeFact

    signing = parse_signing_certificate(chain, place)
    if signing.key != key:
        raise OtherKeyCertified(
            "the certificate is for another key", place=place, expected=str(key.fingerprint), got=str(signing.key.fingerprint)
        )
    if not root.certificate_authorities:
        raise ServiceNotTrusted("the trusted root holds no certificate authority", place=place, got=root.name)
    begins, ends = signing.certificate.not_valid_before_utc, signing.certificate.not_valid_after_utc
    source = Source(root.name, root.digest, "")
    times = (TimeFact(begins, "the certificate itself", source), *(TimeFact(when, "this machine's clock", source) for when in more))
    vouched = _vouch(chain, times, root, place)
    if root.ct_logs and not vouched.certificate_logs:
        got = "; ".join(f"{item.what}: {item.why}" for item in vouched.unchecked)
        raise ServiceNotTrusted("no certificate log of the trusted root promised to include the certificate", place=place, got=got)
    if not isinstance(vouched.signer.signer, IdentitySigner):
        raise MalformedCertificate("the certificate names no identity", place=place)
    return Certified(signing.der, vouched.signer.signer, begins, ends)


def _vouch(chain: Sequence[bytes], times: Sequence[TimeFact], root: TrustedRoot, place: Place) -> Vouched:
    """Prove that the root's own certificates lead to the first of the chain; if only the others do, that is said."""
    from sigkit.verify.chain import parse_signing_certificate, verify_chain

    try:
        return verify_chain(parse_signing_certificate(chain[:1], place), times, root, place)
    except UntrustedCertificate as err:
        with contextlib.suppress(SigkitError):
            verify_chain(parse_signing_certificate(chain, place), times, root, place)
            err.problem = (
                "the trusted root lists the authority without the certificates between it and the signer's, and no bundle holds them"
            )
            err.remedy = "take a trusted root that lists them; of your own authority: trust create, certificate-chain=FILE, the anchor last"
        raise


def _check_clock(judged: Certified, now: datetime, place: Place) -> None:
    if judged.begins - LEEWAY <= now < judged.good_until:
        return
    raise ClockSkew(
        "the new certificate is not valid by this machine's clock, or hardly is",
        place=place,
        expected=f"{format_time(now)}, this machine's clock",
        got=f"{format_time(judged.begins)} to {format_time(judged.ends)}, the authority's",
        remedy="set this machine's clock: timedatectl set-ntp true",
    )


def _check_identity(signer: IdentitySigner, token: IdentityToken, place: Place) -> None:
    if signer.issuer not in token.issuers:
        raise OtherIdentityCertified(
            "the certificate names another issuer than the token", place=place, expected=" or ".join(token.issuers), got=signer.issuer
        )
    if not _names(signer, token):
        raise OtherIdentityCertified(
            "the certificate names another identity than was told",
            place=place,
            expected=" or ".join(filter(None, (token.identity, token.job_url or token.job))),
            got=signer.subject,
        )


def _names(signer: IdentitySigner, token: IdentityToken) -> bool:
    """Tell whether the certificate's name is made of what the token says.

    An address is certified as it is, a user name with its domain after a `!`; a token with an address is told as that, and takes nothing
    else. Of the rest an authority makes a URI by rules of its own; all that are known put one claim after the scheme or after the host,
    and all of it: `https://github.com/` and `job_workflow_ref`. Where the host is known too, a name at another host is another's.
    """
    if signer.kind == "email":
        return signer.subject == token.email
    if signer.kind == "username":
        return signer.subject.rpartition("!")[0] == token.subject
    if token.email:
        return False
    if token.job_url:
        return signer.subject in {token.job_url, write_uri(token.job_url), token.subject}  # which may be escaped already
    after_scheme = signer.subject.partition("://")[2]
    parts = {signer.subject, after_scheme, after_scheme.partition("/")[2]}
    return signer.extensions.get("tokenSubject") == token.subject or not parts.isdisjoint(token.names)
