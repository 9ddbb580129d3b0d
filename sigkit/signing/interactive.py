"""Logging in at an issuer for a token: in a browser on this machine, or with a code on another device.

Both flows carry PKCE, so that a code is worth nothing without the secret that stays here; the browser's also a state, which ties the answer
to this login, and a nonce, which ties the token to it. The listener takes one answer, on loopback only; by way of it the browser is sent to
the issuer, so that no other user of the machine reads these off a command line, and logs in with them as himself.

Source: OpenID Connect Core 1.0 section 3.1, Discovery 1.0; RFC 7636 (PKCE), RFC 8252 (loopback redirects), RFC 8628 (devices);
RFC 9207 (issuers mixed up).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import parse_qs, urlencode

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import (
    AnswerUnusable,
    LoginFailed,
    LoginForged,
    Place,
    PlainHttpRefused,
    RequestRefused,
    ServerFailed,
    SigkitError,
    TimedOut,
    Unreachable,
)
from sigkit.net.address import is_loopback_name
from sigkit.net.url import parse_url
from sigkit.signing.client import SHOWN_CHARACTERS, Ask, Patience, Sending, under
from sigkit.signing.token import parse_identity_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.net.address import Nearness
    from sigkit.signing.client import Answer, Client
    from sigkit.signing.token import IdentityToken

SCOPE: Final = "openid email"
LOGIN_S: Final = 300.0  # a person finds a second factor in between
_MOST_FIELDS: Final = 20  # of a callback
CALLBACK: Final = "/auth/callback"
_FORM: Final = "application/x-www-form-urlencoded"
_DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_SECRETS: Final = frozenset({"code", "code_verifier", "device_code"})  # of what is sent: with them a token is had
_INTERVAL_S: Final = 5  # RFC 8628 section 3.2, where the issuer names none
_LONGEST_INTERVAL_S: Final = 60
_SLOW_DOWN: Final = "slow_down"
_PENDING: Final = frozenset({"authorization_pending", _SLOW_DOWN})
# RFC 6749 section 5.2 wants 400 for what is pending; Dex before 2.44 answers 401, Auth0 403 and 429, Google 428. `error` decides.
_TOO_MANY: Final = 429
_POLLED: Final = (200, 400, 401, 403, 428, _TOO_MANY)


class Endpoints(Data):
    """What an issuer says of itself; `near` is how near it is, and what it names may not be nearer."""

    issuer: str
    authorization: str
    token: str
    device: str
    is_named: bool  # by each of its answers in the browser, or so it says
    near: Nearness


class Window(Protocol):
    """Shows a person where to log in."""

    def open(self, url: str, start: str, wait_s: float) -> None:
        """Open `start`, which leads on to `url`, and return at once; show `url` itself. What comes of it is waited for so long."""
        ...

    def show_code(self, url: str, code: str, wait_s: float) -> None:
        """Show the page to visit on any device, and the code to enter there; so long it is waited for."""
        ...


class Listener(Protocol):
    """Waits on loopback for the answer of one login in a browser."""

    @property
    def redirect_uri(self) -> str:
        """Where the issuer is to send the browser."""
        ...

    def lead_to(self, url: str) -> str:
        """Return the address of a page that sends the first who asks for it on to `url`; all users of the machine may read it."""
        ...

    def wait(self, timeout_s: float, state: str) -> str | None:
        """Return the query that the browser brought for the login with this state, or None when it brought none in time."""
        ...


class _Proof(NamedTuple):
    """PKCE: a secret, and the challenge that is made of it."""

    verifier: str
    challenge: str

    @classmethod
    def new(cls) -> _Proof:
        verifier = secrets.token_urlsafe(48)
        digest = strict.encode_base64(hashlib.sha256(verifier.encode("ascii")).digest())
        return cls(verifier, digest.translate(str.maketrans("+/", "-_")).rstrip("="))


def discover(client: Client, issuer: str) -> Endpoints:
    """Ask an issuer where to log in.

    Args:
        client: that asks.
        issuer: its identifier, as its tokens have it: a slash at its end belongs to it.

    Raises:
        AnswerUnusable: (UNAVAIL) it calls itself otherwise (OpenID Discovery sections 4.1 and 4.3), or knows no PKCE.
        UrlRefused, PlainHttpRefused: (NET) its page is none that a browser may be sent to.
        WrongShape: (PARSE) the document is malformed.
        SigkitError: as `Client.ask`; a redirect is refused, which could put another's document in its place (CVE-2026-49478).
    """
    answer = client.ask(Ask("GET", under(issuer, "/.well-known/openid-configuration"), limits.ISSUER_ANSWER_BYTES))
    top = answer.json()
    named = top.member("issuer").text()
    if named != issuer:  # a slash at the end counts: tokens carry the name that the issuer gives itself
        slash = "with its slash at the end, or without: --oidc-issuer URL" if named.rstrip("/") == issuer.rstrip("/") else ""
        raise AnswerUnusable("the issuer calls itself otherwise", place=answer.place(), expected=issuer, got=named, remedy=slash)
    methods = top.find("code_challenge_methods_supported")
    known = [item.text() for item in methods.items(limits.TRUSTED_ITEMS)] if methods else []
    if "S256" not in known:
        raise AnswerUnusable("the issuer knows no PKCE", place=answer.place(), expected="S256", got=", ".join(known) or "none")
    device, named_in_answers = top.find("device_authorization_endpoint"), top.find("authorization_response_iss_parameter_supported")
    authorization = top.member("authorization_endpoint")
    _check_page(authorization.text(), authorization.at())
    return Endpoints(
        issuer,
        authorization.text(),
        top.member("token_endpoint").text(),
        device.text() if device else "",
        named_in_answers is not None and named_in_answers.value is True,
        answer.nearness,
    )


def login_in_browser(client: Client, endpoints: Endpoints, client_id: str, window: Window, listener: Listener) -> IdentityToken:
    """Log in in a browser on this machine.

    Raises:
        LoginForged: (IDENT) what came back does not belong to this login.
        LoginFailed: (IDENT) it was refused, or nothing came back in time.
        SigkitError: as `Client.ask`.
    """
    proof, state, nonce = _Proof.new(), secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": listener.redirect_uri,
        "scope": SCOPE,
        "state": state,
        "nonce": nonce,
        "code_challenge": proof.challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in endpoints.authorization else "?"
    url = f"{endpoints.authorization}{joint}{urlencode(asked)}"
    window.open(url, listener.lead_to(url), LOGIN_S)
    query = listener.wait(LOGIN_S, state)
    if query is None:
        raise LoginFailed("nobody logged in", place=Place(endpoints.issuer), expected=f"within {LOGIN_S:g} s")
    code = _read_callback(query, state, endpoints)
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": listener.redirect_uri,
        "client_id": client_id,
        "code_verifier": proof.verifier,
    }
    token = _token_of(_spend(client, endpoints, fields), endpoints)
    if not hmac.compare_digest(token.nonce.encode("utf-8"), nonce.encode("utf-8")):
        raise LoginForged("the token is the answer to another login", place=Place(endpoints.token), expected="the nonce that was sent")
    return token


def login_on_device(client: Client, endpoints: Endpoints, client_id: str, window: Window) -> IdentityToken:
    """Log in with a code on any device, as on a terminal without a browser.

    Raises:
        LoginFailed: (IDENT) the issuer has no such flow, it was refused, or not done in time.
        SigkitError: as `Client.ask`.
    """
    if not endpoints.device:
        raise LoginFailed("the issuer has no login by a code", place=Place(endpoints.issuer), remedy="give a token: --identity-token FILE")
    proof = _Proof.new()
    fields = {"client_id": client_id, "scope": SCOPE, "code_challenge": proof.challenge, "code_challenge_method": "S256"}
    begun = _post(client, endpoints, endpoints.device, fields)
    top = begun.json()
    page = top.find("verification_uri_complete") or top.member("verification_uri")
    _check_page(page.text(), page.at())
    interval = top.find("interval")
    wait_s = interval.integer(1, _LONGEST_INTERVAL_S) if interval else _INTERVAL_S
    until = Patience(client.timer, min(LOGIN_S, top.member("expires_in").integer(1)))
    window.show_code(page.text(), top.member("user_code").text(), until.left())
    fields = {
        "grant_type": _DEVICE_GRANT,
        "device_code": begun.secret("device_code"),
        "client_id": client_id,
        "scope": SCOPE,
        "code_verifier": proof.verifier,
    }
    while until.left() > wait_s:
        client.timer.sleep(wait_s)
        answer = _post(client, endpoints, endpoints.token, fields, _POLLED)
        if answer.status == 200:
            return _token_of(answer, endpoints)
        error = _SLOW_DOWN if answer.status == _TOO_MANY else _error_of(answer)
        if error not in _PENDING:
            said = answer.words() or "it does not say why"
            raise LoginFailed(f"the login was refused: {said}", place=answer.place(), got=str(answer.status))
        wait_s += _INTERVAL_S if error == _SLOW_DOWN else 0
    raise LoginFailed("nobody entered the code in time", place=Place(endpoints.issuer))


def _error_of(answer: Answer) -> str:
    """Return OAuth's `error`, or "" where the answer is none of OAuth's (RFC 6749 section 5.2)."""
    try:
        return answer.json().member("error").text()
    except SigkitError:
        return ""


def _read_callback(query: str, state: str, endpoints: Endpoints) -> str:
    """Return the code that came with the browser, if it comes from this login (GHSA-hm8f-75xx-w2vr: no state was looked at)."""
    if not is_answer(query, state):
        raise LoginForged("the browser brought the answer to another login", place=Place("loopback"), expected="the state that was sent")
    fields = parse_qs(query, strict_parsing=True, max_num_fields=_MOST_FIELDS)
    # Before all else, for a code of another issuer is not sent to this one, and its error is not this one's (RFC 9207 section 2.4).
    if (endpoints.is_named or "iss" in fields) and _only(fields, "iss") != endpoints.issuer:
        got = ", ".join(fields.get("iss", []))[:SHOWN_CHARACTERS]
        problem = "the browser brought another issuer's answer" if got else "the browser brought an answer that does not name the issuer"
        raise LoginForged(problem, place=Place("loopback"), expected=endpoints.issuer, got=got, remedy="log in with a code: --login device")
    if "error" in fields:
        said = ": ".join(part[:SHOWN_CHARACTERS] for part in (_only(fields, "error"), _only(fields, "error_description")) if part)
        raise LoginFailed(f"the login was refused: {said}", place=Place(endpoints.issuer))
    code = _only(fields, "code")
    if not code:
        raise LoginForged("the browser brought no code", place=Place("loopback"))
    return code


def is_answer(query: str, state: str) -> bool:
    """Tell whether a query comes from the login with this state; anybody on this machine can bring another."""
    try:
        fields = parse_qs(query, strict_parsing=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return False
    return hmac.compare_digest(_only(fields, "state").encode("utf-8"), state.encode("utf-8"))


def _only(fields: Mapping[str, list[str]], name: str) -> str:
    values = fields.get(name, [])
    return values[0] if len(values) == 1 else ""


def _spend(client: Client, endpoints: Endpoints, fields: Mapping[str, str]) -> Answer:
    """Send the code of a login, which is good for once: when the answer is lost, nobody knows whether it came so far."""
    try:
        return client.ask(_form(endpoints, endpoints.token, fields)._replace(sending=Sending.ONCE))
    except RequestRefused as err:
        raise _refused(err) from err
    except (ServerFailed, TimedOut, Unreachable) as err:
        err.remedy = "log in again: the code of this login may be spent"
        raise


def _post(client: Client, endpoints: Endpoints, url: str, fields: Mapping[str, str], success: tuple[int, ...] = (200,)) -> Answer:
    try:
        return client.ask(_form(endpoints, url, fields)._replace(success=success))
    except RequestRefused as err:
        raise _refused(err) from err


def _form(endpoints: Endpoints, url: str, fields: Mapping[str, str]) -> Ask:
    body = urlencode(fields).encode("ascii")
    secrets = tuple(value for name, value in fields.items() if name in _SECRETS)
    return Ask("POST", url, limits.ISSUER_ANSWER_BYTES, body=body, content_type=_FORM, named_by=endpoints.near, secrets=secrets)


def _refused(err: RequestRefused) -> LoginFailed:
    return LoginFailed(f"the issuer refuses the login: {err.problem}", place=err.place, got=err.got)


def _token_of(answer: Answer, endpoints: Endpoints) -> IdentityToken:
    raw, place = answer.secret("id_token"), Place(answer.place().source, "$.id_token")
    token = parse_identity_token(raw, place)
    if token.issuer != endpoints.issuer:  # OpenID Connect Core section 3.1.3.7, number 2
        raise LoginForged("the token is another issuer's", place=place, expected=endpoints.issuer, got=token.issuer[:200])
    return token


def _check_page(url: str, place: Place) -> None:
    """Refuse what a browser would take for a file, a script or an option, and pages that anybody on the way could write."""
    origin = parse_url(url, place).origin
    if origin.scheme == "http" and not is_loopback_name(origin.host):
        raise PlainHttpRefused("a page to log in at without TLS", place=place, expected=f"https://{origin.authority}", got=url[:200])
