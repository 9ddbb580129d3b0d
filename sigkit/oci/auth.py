"""How a registry is told who asks: the token protocol and Basic, as generators of requests that are fed with answers.

No socket is opened here: `authenticate` yields what to send, and is sent what came back, so that each rule is tested without a network.

* Anonymous first: credentials are only used after a challenge, and a challenge says for which scope.
* A token comes from a realm that the registry names. Whoever controls that name could collect credentials (CVE-2020-15157), so it is
  asked only over https (loopback excepted) and only on the registry's own host, on one of a short list, or on a host that the user named.
* After a refused token exactly one new one is asked for, twice at most; the old token is never shown to the token server.

Source: distribution project, "Token Authentication Specification" and "OAuth2 Token Authentication"; RFC 7235; RFC 6750.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import AccessDenied, AnswerUnusable, Place, RealmRefused, SigkitError
from sigkit.net.address import is_loopback_name
from sigkit.net.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sigkit.net.url import Url
    from sigkit.oci.credentials import Credential

# Cheap value types, local imports, and patterns compiled when they are first wanted: a cold `sigkit verify` reads this module, and of a
# registry that lets everybody read nothing but `authenticate` runs.

TOKEN_ANSWER_BYTES: Final = 1 << 20  # Azure's are 3 KiB, with claims up to 100
CHALLENGE_CHARACTERS: Final = 8_192
TOKEN_LIFE_S: Final = 60  # where the answer does not say ("Token Authentication Specification")
TOKEN_LIFE_MOST_S: Final = 3_600
ROUNDS: Final = 2  # tokens asked for in one operation; the third 401 is final

# Registry → its token server on another host. Add only what is published by that registry's operator.
KNOWN_REALMS: Final = {"registry-1.docker.io": "auth.docker.io", "registry.gitlab.com": "gitlab.com"}

_SCHEME: Final = r"[A-Za-z][A-Za-z0-9-]*"
_PARAMETER: Final = r"\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",]+))\s*(?:,|$)"
_VISIBLE: Final = r"[\x21-\x7e]+"


class Challenge(Data):
    """What a 401 asks for: a scheme in lower case and its parameters."""

    scheme: str
    parameters: tuple[tuple[str, str], ...]

    def find(self, name: str) -> str:
        """Return a parameter, or the empty string."""
        return next((value for key, value in self.parameters if key == name), "")


class Ask(Data):
    """Send the request itself, with this Authorization header or without one."""

    authorization: str | None


class AskToken(Data):
    """Ask a token server: GET, or POST when there is a form."""

    url: Url
    authorization: str | None
    form: tuple[tuple[str, str], ...] = ()


class Answer(Data):
    """What came back: of the request itself status and challenges, of a token server status and body."""

    status: int
    challenges: tuple[str, ...] = ()
    body: bytes = b""


class Token(Data):
    """An Authorization header that a registry accepts for some seconds."""

    authorization: str
    life_s: int


class Realms(Data):
    """Which token servers may be asked on behalf of one registry, which is called `name` and lives at `registry_url`."""

    name: str
    registry_url: Url
    named_by_user: frozenset[str]

    def check(self, realm: str) -> Url:
        """Return the realm's URL if it may be asked.

        Raises:
            RealmRefused: it may not; the remedy prints the flag.
            UrlRefused: it is no URL.
        """
        place = self.registry_url.place()
        url = parse_url(realm, place)
        host, own = url.origin.host, self.registry_url.origin.host
        named = bool({host, url.origin.authority} & self.named_by_user)
        if url.origin.scheme != "https" and not is_loopback_name(host):
            raise RealmRefused("the token server is not asked without TLS", place=place, expected="https://…", got=url.shown)
        if host != own and KNOWN_REALMS.get(own) != host and not named:
            raise RealmRefused(
                "the registry's token server is on another host",
                place=place,
                expected=own,
                got=host,
                remedy=f"if that is right: --token-realm {host}",
            )
        return url


def authenticate(
    realms: Realms, find: Callable[[], Credential | None], kept: str | None, scope: str
) -> Generator[Ask | AskToken, Answer, Token | None]:
    """Drive one request to an answer that is not 401.

    Args:
        realms: which token servers may be asked.
        find: looks the credential up; called only after a challenge.
        kept: an Authorization header that worked before.
        scope: what the request needs, where the challenge does not say.

    Returns:
        What to keep for later requests, or None when nothing new was needed.

    Raises:
        AccessDenied: (UNAVAIL) the credentials are wrong, or needed and not there.
        RealmRefused, AnswerUnusable: the challenge asks for something else.
    """
    place = realms.registry_url.place()
    answer = yield Ask(kept)
    if answer.status != 401:
        return None
    credential = find()
    token: Token | None = None
    for _ in range(ROUNDS):
        if answer.status != 401:
            break
        challenge = choose(answer.challenges, place)
        if challenge.scheme == "basic":
            token = _basic(credential, realms)
            answer = yield Ask(token.authorization)
            break
        token = yield from _fetch_token(realms, challenge, credential, scope)
        answer = yield Ask(token.authorization)
    if answer.status == 401:
        raise AccessDenied("the registry refuses the credentials", place=place, got="401", remedy=_login(realms))
    return token


def choose(headers: tuple[str, ...], place: Place) -> Challenge:
    """Return the challenge to answer: Bearer before Basic.

    Raises:
        AnswerUnusable: there is neither.
    """
    found = [challenge for header in headers for challenge in parse_challenges(header)]
    for scheme in ("bearer", "basic"):
        for challenge in found:
            if challenge.scheme == scheme:
                return challenge
    raise AnswerUnusable("401 without a challenge that sigkit knows", place=place, expected="Bearer or Basic", got=", ".join(headers)[:200])


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Parse one WWW-Authenticate header, which may hold several challenges; what is malformed ends it.

    Source: RFC 7235 section 4.1.
    """
    scheme_at, parameter_at = re.compile(_SCHEME), re.compile(_PARAMETER)
    found: list[Challenge] = []
    at = 0
    while at < len(header) <= CHALLENGE_CHARACTERS:
        scheme = scheme_at.match(header, at)
        if not scheme:
            break
        at = scheme.end()
        parameters: list[tuple[str, str]] = []
        while parameter := parameter_at.match(header, at):
            name, quoted, plain = parameter.groups()
            parameters.append((name.lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)))
            at = parameter.end()
        found.append(Challenge(scheme[0].lower(), tuple(parameters)))
        at = _skip(header, at)
    return tuple(found)


def basic_header(user: str, password: str) -> str:
    """Return the header of Basic authentication (RFC 7617, in UTF-8)."""
    return "Basic " + strict.encode_base64(f"{user}:{password}".encode())


def parse_token(body: bytes, place: Place) -> Token:
    """Parse a token server's answer: `token` or `access_token`, and how long it lives.

    Raises:
        AnswerUnusable: there is no token in it that a header can carry.
    """
    try:
        top = strict.parse_json(body, most_bytes=TOKEN_ANSWER_BYTES, place=place)
        texts = [found.text() for name in ("token", "access_token") if (found := top.find(name)) and found.value]
        life = top.find("expires_in")
        life_s = life.integer() if life else TOKEN_LIFE_S
    except SigkitError as err:
        raise AnswerUnusable("the token server's answer is not of the form that is published", place=place) from err
    if not texts or not re.fullmatch(_VISIBLE, texts[0]):
        raise AnswerUnusable("the token server's answer has no token", place=place, expected="token or access_token", got="neither")
    return Token(f"Bearer {texts[0]}", min(life_s, TOKEN_LIFE_MOST_S))


def _basic(credential: Credential | None, realms: Realms) -> Token:
    from sigkit.oci.credentials import IdentityToken, UserPassword

    match credential:
        case UserPassword(user, password):
            return Token(basic_header(user, password), TOKEN_LIFE_MOST_S)
        case IdentityToken(user, token):
            return Token(basic_header(user, token), TOKEN_LIFE_MOST_S)
        case None:
            place = realms.registry_url.place()
            raise AccessDenied("the registry wants credentials and there are none", place=place, remedy=_login(realms))


def _fetch_token(realms: Realms, challenge: Challenge, credential: Credential | None, scope: str) -> Generator[AskToken, Answer, Token]:
    from sigkit.oci.credentials import IdentityToken

    url = realms.check(challenge.find("realm"))
    asked = {"service": challenge.find("service"), "scope": challenge.find("scope") or scope}
    if isinstance(credential, IdentityToken):
        form = {"grant_type": "refresh_token", "client_id": "sigkit", "refresh_token": credential.token}
        answer = yield AskToken(url, None, tuple((form | {k: v for k, v in asked.items() if v}).items()))
        if answer.status not in {404, 405}:
            return _token_of(answer, url, realms)
    header = None if credential is None else _basic(credential, realms).authorization
    answer = yield AskToken(_with_query(url, asked), header)
    return _token_of(answer, url, realms)


def _token_of(answer: Answer, url: Url, realms: Realms) -> Token:
    if answer.status in {400, 401, 403}:
        raise AccessDenied("the token server refuses the credentials", place=url.place(), got=str(answer.status), remedy=_login(realms))
    if answer.status != 200:
        raise AnswerUnusable("the token server gives no token", place=url.place(), expected="200", got=str(answer.status))
    return parse_token(answer.body, url.place())


def _with_query(url: Url, asked: dict[str, str]) -> Url:
    from urllib.parse import urlencode

    # Several scopes in one challenge are separated by spaces, and each is a parameter of its own.
    pairs = [(name, part) for name, value in asked.items() for part in (value.split(" ") if name == "scope" else [value]) if part]
    joint = "&" if "?" in url.target else "?"
    return url._replace(target=f"{url.target}{joint}{urlencode(pairs)}") if pairs else url


def _skip(header: str, at: int) -> int:
    while at < len(header) and header[at] in ", \t":
        at += 1
    return at


def _login(realms: Realms) -> str:
    return f"docker login {realms.name}"
