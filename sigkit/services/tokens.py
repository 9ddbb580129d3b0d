"""Identity tokens, judged by whoever certifies identities: a token in, an identity out, or the refusal.

In this order: its size, its form and type, the issuer that it names (letter by letter), the algorithm (two, never the token's own choice of
another kind), the key of that issuer which it names, the signature, then audience, times, and who it is by the rules of the issuer's kind.
The token brings no key, no URL and no rule: `jwk`, `jku`, `x5u` are never looked at, and `crit` is refused.

Signatures are PyJWT's; the claims are read strictly here from the bytes that were signed, so that a number of twenty digits is the same
text in the certificate.

Source: RFC 7515 sections 4.1, 5.2; RFC 7517 sections 4.2 to 4.4; RFC 7519 section 4.1; RFC 8725 sections 3.1, 3.8, 3.9, 3.11;
sigstore/fulcio pkg/identity.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from sigkit.data import Data
from sigkit.errors import (
    AnswerUnusable,
    ClockSkew,
    LimitError,
    MalformedBase64,
    MalformedToken,
    ParseError,
    Place,
    SigkitError,
    TokenExpired,
    TokenNotSigned,
    TooLarge,
    UnknownIssuer,
    WrongAudience,
)
from sigkit.services.issuers import name_identity
from sigkit.strict import decode_base64, parse_json
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import jwt

    from sigkit.clock import Clock
    from sigkit.services.issuers import Issuer, Named
    from sigkit.strict import Cursor, Json

TOKEN_BYTES: Final = 16 << 10  # the longest of a CI provider has 3 KB
ALGORITHMS: Final = ("ES256", "RS256")
_TYPES: Final = ("jwt", "jose", "at+jwt")  # the last: sigstore-python sends access tokens, of issuers that write their type (RFC 9068)
_LEEWAY: Final = timedelta(seconds=30)
_LATEST: Final = 253402300799  # 9999-12-31T23:59:59Z
_INTEGER_MOST: Final = 10**38  # identifiers of accounts outgrow 64 bits; as numbers they would lose digits (fulcio#2406)
_PLACE: Final = Place("identity token")
_FROM_URL: Final = str.maketrans("-_", "+/")


class IssuerKeys(Protocol):
    """Where the keys of issuers are."""

    async def refresh(self, issuer: Issuer, kid: str) -> None:
        """Fetch what `find` needs to know of this key, if that is not known; why it failed, `find` says."""
        ...

    def find(self, issuer: Issuer, kid: str) -> Mapping[str, Json] | None:
        """Return an issuer's public key of this name as a JSON Web Key, at once.

        Raises:
            SigkitError: (UNAVAIL, NET, PARSE, LIMIT) its keys cannot be had.
        """
        ...


class _Header(Data):
    """What a token says of its signature. Nothing is proved."""

    issuer: Issuer
    algorithm: str
    kid: str


class TokenVerifier:
    """Judges tokens of the issuers that the operator listed."""

    def __init__(self, issuers: Iterable[Issuer], keys: IssuerKeys, clock: Clock) -> None:
        """Take the issuers, and where their keys are."""
        self.issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = keys
        self._clock = clock

    async def refresh(self, token: str) -> None:
        """Have the keys fetched that `verify` needs for a token, if they are not known; whoever waits for them holds no thread."""
        try:
            header = self._read(token)
        except SigkitError:
            return  # which `verify` says
        await self._keys.refresh(header.issuer, header.kid)

    def verify(self, token: str) -> Named:
        """Prove whose token it is, by keys that are known.

        Raises:
            TooLarge, TooDeep: (LIMIT).
            MalformedToken, MalformedJson, WrongShape: (PARSE).
            TokenNotSigned: (SIG).
            UnknownIssuer, WrongAudience, UnverifiedEmail, UnnamableIdentity: (IDENT).
            TokenExpired, ClockSkew: (TIME).
            SigkitError: (UNAVAIL, NET) the issuer's keys cannot be had.
        """
        header = self._read(token)
        # Read from what was signed: the same bytes as in `_read`, but that is PyJWT's word now.
        claims = self._check_signature(token, header)
        _check_audience(claims, header.issuer.audience)
        _check_times(claims, self._clock.now())
        return name_identity(header.issuer, claims)

    def _read(self, token: str) -> _Header:
        if len(token) > TOKEN_BYTES:
            raise TooLarge(f"more than {TOKEN_BYTES} bytes", place=_PLACE, got=f"{len(token)} bytes")
        header, claims = _take_apart(token)
        issuer = self.issuers.get(claims.member("iss").text())
        if issuer is None:
            raise UnknownIssuer("the token is of an issuer that is not listed here", place=_PLACE, got=claims.member("iss").text()[:200])
        algorithm = header.member("alg").text()
        if algorithm not in ALGORITHMS:
            raise TokenNotSigned("an algorithm that is not accepted", place=_PLACE, expected=" or ".join(ALGORITHMS), got=algorithm[:40])
        return _Header(issuer, algorithm, header.member("kid").text())

    def _find_key(self, header: _Header) -> Mapping[str, Json]:
        try:
            published = self._keys.find(header.issuer, header.kid)
        except (ParseError, LimitError) as err:  # which are not the token's
            raise AnswerUnusable(f"the issuer's keys cannot be read: {err.problem}", place=err.place) from err
        if published is None:
            expected = f"a key of {header.issuer.url}"
            raise TokenNotSigned("the issuer publishes no such key", place=_PLACE, expected=expected, got=header.kid[:100])
        return published

    def _check_signature(self, token: str, header: _Header) -> Cursor:
        import jwt

        algorithm = header.algorithm
        key = _load_key(self._find_key(header), algorithm)
        try:
            decoded = jwt.PyJWS(algorithms=[algorithm]).decode_complete(token, key, algorithms=[algorithm])
        except (jwt.exceptions.PyJWTError, ValueError, TypeError) as err:
            raise TokenNotSigned("the issuer's key did not sign the token", place=_PLACE, got=str(err)[:200]) from err
        return _parse(decoded["payload"])


def _take_apart(token: str) -> tuple[Cursor, Cursor]:
    """Take a token apart. Nothing is proved."""
    parts = token.split(".", 3)
    if len(parts) != 3:
        raise MalformedToken("not a signed JSON Web Token", place=_PLACE, expected="three parts with dots between them")
    raw_header, raw_claims, _ = (_decode_part(part) for part in parts)
    header = _parse(raw_header)
    if "crit" in header.object():
        raise MalformedToken("the token demands an extension that is not understood", place=_PLACE, got="crit")
    if typ := header.find("typ"):
        _check_type(typ.text())
    return header, _parse(raw_claims)


def _check_type(stated: str) -> None:
    """Refuse what an issuer signs for another purpose: a logout, an event, a proof of possession (RFC 8725 sections 3.11, 3.12)."""
    if stated.lower().removeprefix("application/") not in _TYPES:  # RFC 7515 section 4.1.9
        raise MalformedToken("a token for another purpose", place=_PLACE, expected="an identity token", got=stated[:40])


def _decode_part(text: str) -> bytes:
    """Decode base64url without padding, in the one way that it is written (RFC 7515 section 2)."""
    if set("+/=") & set(text):
        raise MalformedToken("a part of the token is not base64url", place=_PLACE)
    try:
        return decode_base64(text.translate(_FROM_URL) + "=" * (-len(text) % 4))
    except MalformedBase64 as err:
        raise MalformedToken("a part of the token is not base64url", place=_PLACE) from err


def _parse(raw: bytes) -> Cursor:
    cursor = parse_json(raw, most_bytes=TOKEN_BYTES, place=_PLACE, most_integer=_INTEGER_MOST)
    cursor.object()
    return cursor


def _load_key(published: Mapping[str, Json], algorithm: str) -> jwt.PyJWK:
    import jwt

    if not _is_for(published, algorithm):
        raise TokenNotSigned("the issuer's key is not for this algorithm", place=_PLACE, expected=algorithm, got=str(published.get("kty")))
    try:
        key = jwt.PyJWK(dict(published), algorithm=algorithm)
    except (jwt.exceptions.PyJWTError, ValueError, TypeError) as err:
        raise TokenNotSigned("the issuer's key is malformed", place=_PLACE, got=str(err)[:200]) from err
    if algorithm == "RS256" and not 2048 <= key.key.key_size <= 8192:
        raise TokenNotSigned("the issuer's key is of a size that is not accepted", place=_PLACE, got=f"{key.key.key_size} bits")
    return key


def _is_for(published: Mapping[str, Json], algorithm: str) -> bool:
    # The key's own kind decides, whatever the token says of an algorithm: an EC key never meets RS256 or a MAC.
    wanted = {"kty": "EC", "crv": "P-256"} if algorithm == "ES256" else {"kty": "RSA"}
    if any(published.get(name) != value for name, value in wanted.items()) or "d" in published:
        return False
    # And its own word: who decrypts with an encryption key whatever anybody sends would sign for anybody.
    operations = published.get("key_ops", ["verify"])
    fits = published.get("use", "sig") == "sig" and published.get("alg", algorithm) == algorithm
    return fits and isinstance(operations, list) and "verify" in operations


def _check_audience(claims: Cursor, wanted: str) -> None:
    stated = claims.member("aud")
    audiences = [item.text() for item in stated.items(16)] if isinstance(stated.value, list) else [stated.text()]
    if wanted not in audiences:
        raise WrongAudience("the token is for another audience", place=_PLACE, expected=wanted, got=", ".join(audiences)[:200])


def _check_times(claims: Cursor, now: datetime) -> None:
    until, issued = _time(claims, "exp"), _time(claims, "iat")
    start = _time(claims, "nbf") if claims.find("nbf") else issued
    if now >= until + _LEEWAY:
        raise TokenExpired("the token has expired", place=_PLACE, expected=f"used before {format_time(until)}", got=_here(now))
    begin = max(start, issued)
    if now < begin - _LEEWAY:
        raise ClockSkew("the token is from the future", place=_PLACE, expected=f"used after {format_time(begin)}", got=_here(now))


def _here(now: datetime) -> str:
    return f"{format_time(now)} by the clock here"


def _time(claims: Cursor, name: str) -> datetime:
    member = claims.member(name)
    # NumericDate may have a fraction (RFC 7519 section 2).
    value = int(member.value) if isinstance(member.value, float) and 0 <= member.value <= _LATEST else member.integer(0, _LATEST)
    return datetime.fromtimestamp(value, UTC)


def explain(err: SigkitError) -> str:
    """Say a refusal in one line, for the client that sent the token."""
    detail = "; ".join(part for part in (err.expected and f"expected {err.expected}", err.got and f"got {err.got}") if part)
    return f"{err.problem} ({detail})" if detail else err.problem
