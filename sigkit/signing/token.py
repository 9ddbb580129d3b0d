"""Identity tokens: read without trust, and judged before anything is sent.

Whether a token is genuine is for the authority to say, which knows its issuers. What can be seen here is seen here: that it is for the
right audience, valid by this machine's clock, and names an address that its issuer has verified. An authority's answer to such a token
is "bad request"; here it is told which claim, and both times.

Source: RFC 7519; OpenID Connect Core 1.0 sections 2 and 5.1; sigstore/fulcio docs/oidc.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import (
    NOWHERE,
    ClockSkew,
    MalformedBase64,
    MalformedToken,
    Place,
    SigkitError,
    TokenExpired,
    TooLarge,
    UnverifiedEmail,
    WrongAudience,
)
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigkit.strict import Cursor, Json

AUDIENCE: Final = "sigstore"  # what public and private instances ask for, unless told otherwise
LEEWAY: Final = timedelta(seconds=60)  # of a token that begins in the future: clocks that NTP keeps differ by less than one
_CLAIMS: Final = 200  # tokens of a directory with many groups hold lists; claims themselves are under 50
_AUDIENCES: Final = 20
_GITHUB: Final = "https://token.actions.githubusercontent.com"
# What a token says about itself; an identity is never made of these.
_ABOUT_ITSELF: Final = frozenset({"iss", "aud", "jti", "nonce", "azp", "at_hash", "c_hash", "sid", "typ"})


class IdentityToken(Data):
    """What a token says. Nothing of it is proved.

    `names` are the texts that the name in a certificate can be made of: the subject, and `job`, which is how authorities name a job of
    the CI systems that are known; where none is recognised, any claim. `job_url` is the whole of that name, where its host is known too: of
    GitHub's own jobs, and of GitLab's. `issuers` holds `iss`, and whom a federating issuer (Dex) got the
    identity from. `email`, `job` and `job_url` are "" where none is named.
    """

    raw: str
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    begins: datetime | None
    expires: datetime
    email: str
    email_verified: str
    nonce: str
    job: str
    job_url: str
    names: tuple[str, ...]
    issuers: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Who the token is about: the address, where there is one, else the subject."""
        return self.email or self.subject

    def __repr__(self) -> str:  # the token itself opens doors: it is never printed
        return f"IdentityToken(issuer={self.issuer!r}, identity={self.identity!r})"


def parse_identity_token(raw: str, place: Place) -> IdentityToken:
    """Read a token.

    Args:
        raw: its text; white space around it is a file's last line.
        place: where it was found.

    Raises:
        MalformedToken: (PARSE) not three parts of base64url, or a claim that is missing or of another type.
        TooLarge, TooDeep: (LIMIT).
        MalformedJson, NotUtf8, WrongShape: (PARSE).
    """
    text = raw.strip()
    if len(text) > limits.TOKEN_BYTES:
        raise TooLarge(f"more than {limits.TOKEN_BYTES} bytes", place=place, got=f"{len(text)} characters")
    parts = text.split(".")
    if len(parts) != 3:
        got = "nothing" if not text else f"{len(parts)} parts"
        raise MalformedToken("not a JSON Web Token", place=place, expected="three parts with dots between them", got=got)
    strict.parse_json(_decode_part(parts[0], place), most_bytes=limits.TOKEN_BYTES, place=place).object()
    if not _decode_part(parts[2], place):
        raise MalformedToken("the identity token is not signed", place=place, expected="a signature behind the second dot", got="nothing")
    claims = strict.parse_json(_decode_part(parts[1], place), most_bytes=limits.TOKEN_BYTES, place=place)
    if len(claims.object()) > _CLAIMS:
        raise MalformedToken(f"more than {_CLAIMS} claims", place=place, got=str(len(claims.object())))
    issuer, subject = claims.member("iss").text(), claims.member("sub").text()
    email = found.text() if (found := claims.find("email")) else ""
    job = "" if email else _job(claims.object())
    begins = [begin for name in ("nbf", "iat") if (begin := claims.find(name))]
    return IdentityToken(
        raw=text,
        issuer=issuer,
        subject=subject,
        audiences=_audiences(claims.member("aud")),
        begins=max((_time(found) for found in begins), default=None),
        expires=_time(claims.member("exp")),
        email=email,
        email_verified=_verified(claims.find("email_verified")),
        nonce=nonce.text() if (nonce := claims.find("nonce")) else "",
        job=job,
        job_url="" if email else _job_url(issuer, claims.object()),
        names=(subject, job) if job else _names(subject, claims.object()),
        issuers=(issuer, *_federated(claims)),
    )


def looks_like_token(text: str) -> bool:
    """Tell whether a text is meant as a token, whole or not: three parts, and a JSON object in the first."""
    parts = text.strip().split(".")
    if len(parts) != 3:
        return False
    try:
        strict.parse_json(_decode_part(parts[0], NOWHERE), most_bytes=limits.TOKEN_BYTES).object()
    except SigkitError:
        return False
    return True


def check_token(token: IdentityToken, audience: str, now: datetime, place: Place) -> None:
    """See what an authority would refuse the token for.

    Raises:
        TokenExpired, ClockSkew: (TIME) with this machine's time and the token's.
        WrongAudience, UnverifiedEmail: (IDENT).
    """
    here = f"{format_time(now)} by this machine's clock"
    place = Place(place.source, place.inside)  # a token that is judged is refused; one that cannot be read is a wrong argument
    if token.expires <= now:
        raise TokenExpired(
            "the identity token has expired",
            place=place,
            expected=f"a token valid at {here}",
            got=_until(token),
            remedy="request a new token; of a stack: sigkit stack token DIR SUBJECT",
        )
    if token.begins is not None and token.begins > now + LEEWAY:
        ahead = int((token.begins - now).total_seconds())
        raise ClockSkew(
            f"the identity token begins {ahead} s from now: the issuer's clock and this machine's differ",
            place=place,
            expected=f"at or before {here}",
            got=f"{format_time(token.begins)} by the issuer's",
            remedy="set this machine's clock: timedatectl set-ntp true",
        )
    if audience not in token.audiences:
        raise WrongAudience(
            "the identity token is for another audience",
            place=place,
            expected=audience,
            got=", ".join(token.audiences),
            remedy=f"request a token with the audience {audience}",
        )
    if token.email and token.email_verified.lower() != "true":
        raise UnverifiedEmail(
            "the identity token names an address that is not verified",
            place=place,
            expected="email_verified true",
            got=f"{token.email}, email_verified {token.email_verified or 'missing'}",
        )


def _until(token: IdentityToken) -> str:
    begins = f"{format_time(token.begins)} to " if token.begins else "until "
    return f"{begins}{format_time(token.expires)} by the issuer's"


def _decode_part(part: str, place: Place) -> bytes:
    """Decode base64url without padding (RFC 7515 section 2)."""
    standard = part.translate(str.maketrans("-_", "+/"))
    if set(part) & {"+", "/", "="} or len(part) % 4 == 1:
        raise MalformedToken("a part of the token is not base64url without padding", place=place)
    try:
        return strict.decode_base64(standard + "=" * (-len(standard) % 4), place)
    except MalformedBase64:
        # Not even as the cause, which `-vv` prints: it quotes what it could not decode.
        raise MalformedToken("a part of the token is not base64url without padding", place=place) from None


def _time(cursor: Cursor) -> datetime:
    value = cursor.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= limits.LATEST_S:
        cursor.fail("not a time", expected="seconds since 1970")
    return datetime.fromtimestamp(value, UTC)


def _audiences(cursor: Cursor) -> tuple[str, ...]:
    if isinstance(cursor.value, str):
        return (cursor.value,)
    return tuple(item.text() for item in cursor.items(_AUDIENCES))


def _verified(cursor: Cursor | None) -> str:
    """Return what is said of the address: issuers write a boolean, or "true" as text (Amazon)."""
    if cursor is None:
        return ""
    if isinstance(cursor.value, bool):
        return "true" if cursor.value else "false"
    return cursor.text()


def _names(subject: str, claims: dict[str, Json]) -> tuple[str, ...]:
    texts = [value for name, value in claims.items() if isinstance(value, str) and value and name not in _ABOUT_ITSELF]
    return tuple(dict.fromkeys((subject, *texts)))


def _job(claims: dict[str, Json]) -> str:
    """Return how authorities name a job of a CI system, without the system's own URL; "" where none is recognised.

    Source: sigstore/fulcio config/identity/config.yaml, `subject-alternative-name-template`.
    """
    for name in ("job_workflow_ref", "ci_config_ref_uri"):  # GitHub's and Forgejo's; GitLab's
        found = claims.get(name)
        if isinstance(found, str) and found:
            return found
    return _of_kubernetes(claims) or _of_several(claims)


def _job_url(issuer: str, claims: dict[str, Json]) -> str:
    """Return how authorities name a job of GitHub's own issuer, an enterprise's below it too, or of a GitLab, whose claim has the host."""
    if github := _texts(claims, ("job_workflow_ref",)):
        return f"https://github.com/{github[0]}" if f"{issuer}/".startswith(f"{_GITHUB}/") else ""
    gitlab = _texts(claims, ("ci_config_ref_uri",))
    return f"https://{gitlab[0]}" if gitlab else ""


def _of_several(claims: dict[str, Json]) -> str:
    """Return the path that is made of several claims: Buildkite's and CircleCI's."""
    circle = "oidc.circleci.com"
    templates = (
        ("{}/{}", "organization_slug", "pipeline_slug"),
        ("api/v2/projects/{}/pipeline-definitions/{}", f"{circle}/project-id", f"{circle}/pipeline-definition-id"),
    )
    for template, *names in templates:
        parts = _texts(claims, names)
        if parts:
            return template.format(*parts)
    return ""


def _of_kubernetes(claims: dict[str, Json]) -> str:
    """Return Fulcio's name for a service account of Kubernetes, if the token is one's."""
    about = claims.get("kubernetes.io")
    account = about.get("serviceaccount") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(account, dict):
        return ""
    parts = (*_texts(about, ("namespace",)), *_texts(account, ("name",)))
    return "https://kubernetes.io/namespaces/{}/serviceaccounts/{}".format(*parts) if len(parts) == 2 else ""


def _texts(claims: dict[str, Json], names: Sequence[str]) -> tuple[str, ...]:
    """Return these claims, if each is a text that says something; else none."""
    found = tuple(text for name in names if isinstance(text := claims.get(name), str) and text)
    return found if len(found) == len(names) else ()


def _federated(claims: Cursor) -> tuple[str, ...]:
    found = claims.find("federated_claims")
    return tuple(value for value in found.object().values() if isinstance(value, str)) if found else ()
