"""The stack's OpenID issuer: discovery, its key, and tokens for persons who log in and for workloads.

No password is kept anywhere. A person starts a login, in a browser or on a device; the page or the terminal shows a code, and the
operator approves it on the stack's machine for one e-mail address. Workloads get tokens from the operator's command, offline.

A token carries `email` only if it names a person: clients sign `email` as the proof of possession as soon as it is there. The access token
is the same token, because sigstore-python takes that one.

Source: OpenID Connect Core 1.0 sections 2, 3.1; Discovery 1.0 section 3; RFC 6749 sections 4.1, 5; RFC 7636; RFC 8252 section 7.3;
RFC 8628; RFC 9207.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qsl, quote, urlencode

from sigkit.data import NOTHING
from sigkit.errors import Place, TooMany, UnnamableIdentity
from sigkit.services import pki
from sigkit.services.exchange import Answer, Request, json_answer
from sigkit.services.extra import TOKENS, need_extra
from sigkit.services.gateway import GatewayError, read_body, route
from sigkit.services.issuers import AUDIENCE, Issuer, OwnIssuer, is_email, name_identity
from sigkit.services.login_pages import NO_STORE, ask_operator, show_page, show_waiting
from sigkit.services.logins import CHALLENGE, LOGIN_S, POLL_S, STARTED_S, Granted, Logins, Refusal, Stage, is_user_code
from sigkit.strict import Cursor, encode_base64, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from sigkit.clock import Clock
    from sigkit.services.logins import Page, Started
    from sigkit.strict import Json

LIFETIME: Final = timedelta(minutes=10)
LONGEST_LIFETIME: Final = timedelta(hours=24)  # of a workload's token; a job that runs longer asks again
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
KEY: Final = "oidc.key"
_OUT_OF_BAND: Final = "urn:ietf:wg:oauth:2.0:oob"
_LOOPBACK: Final = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?(?:/[!\"$-~]*)?")  # without a fragment
_MOST_BODY_BYTES: Final = 16 << 10
_MOST_FIELDS: Final = 20
_MOST_FIELD_CHARACTERS: Final = 2048
_CHALLENGE: Final = ("WWW-Authenticate", 'Basic realm="sigkit"')
# Source: RFC 8628 section 3.5; RFC 6749 section 5.2 for the last, of which a stranger learns no more.
_WHY_NOT: Final = {
    Refusal.PENDING: "the operator has not answered this login yet",
    Refusal.SLOW_DOWN: f"asked again sooner than after {POLL_S} seconds",
    Refusal.DENIED: "the operator denied this login",
    Refusal.EXPIRED: "this login has ended: it lasts ten minutes; start another",
    Refusal.INVALID: "no login has this code for this client: it has been used, has ended, or another started it; start another",
}
_OWN_CLAIMS: Final = frozenset({"iss", "sub", "aud", "iat", "nbf", "exp", "nonce", "email", "email_verified", "at_hash", "jti"})


class OAuthError(Exception):
    """The request is answered with an error of OAuth."""

    def __init__(self, error: str, description: str, status: int = 400, header: tuple[str, str] | None = None) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.headers = (header,) if header else ()


class OidcIssuer:
    """Answers requests, and makes tokens."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, url: str, logins: Logins, clock: Clock) -> None:
        """Issue tokens in the name of `url`, without a slash at its end."""
        self.url = url
        self.logins = logins
        self._key = key
        self._clock = clock
        self._kid = _thumbprint(_jwk(key.public_key()))

    @classmethod
    def create(cls, directory: str) -> None:
        """Make the issuer's key in `directory`, which is there.

        Raises:
            FileUnwritable: (UNAVAIL).
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        pki.make_key(os.path.join(directory, KEY), ec.SECP256R1)

    @classmethod
    def open(cls, directory: str, url: str, clock: Clock) -> Self:
        """Open what `create` made.

        Raises:
            FileUnreadable: (UNAVAIL).
            MalformedKey: (SIG).
            MissingExtra: (UNAVAIL) what makes tokens is not installed.
        """
        need_extra(Place(directory), *TOKENS)
        return cls(pki.load_key(os.path.join(directory, KEY)), url, Logins(directory, clock), clock)

    def key_set(self) -> tuple[Mapping[str, Json], ...]:
        """Return the keys that tokens are signed with, as JSON Web Keys."""
        return ({**_jwk(self._key.public_key()), "use": "sig", "alg": "ES256", "kid": self._kid},)

    def issue_token(
        self, subject: str, *, lifetime: timedelta = LIFETIME, audience: str = AUDIENCE, claims: Mapping[str, Json] = NOTHING
    ) -> str:
        """Make a token for a person (an e-mail address) or a workload (a URI).

        Args:
            subject: whom it names.
            lifetime: at most a day.
            audience: whom it is for.
            claims: more of them; those that are named like Fulcio's extensions (`sourceRepositoryURI`) reach the certificate.

        Raises:
            UnnamableIdentity: (IDENT) the stack's authority would not certify such a subject, or a claim is not the caller's to set.
        """
        place = Place.operator(subject[:200])
        if taken := sorted(_OWN_CLAIMS & claims.keys()):
            raise UnnamableIdentity("this claim is the issuer's own", place=place, got=", ".join(taken))
        if not timedelta(seconds=1) <= lifetime <= LONGEST_LIFETIME:
            raise UnnamableIdentity(
                "a token lives a second to a day", place=place, expected=f"at most {LONGEST_LIFETIME}", got=str(lifetime)
            )
        document = {**claims, **self._claims(subject, self._clock.now(), lifetime), "aud": audience}
        name_identity(Issuer(self.url, OwnIssuer()), Cursor(document, "$", place))  # whom the authority would not name gets no token
        return self._sign(document)

    def _claims(self, subject: str, now: datetime, lifetime: timedelta) -> dict[str, Json]:
        issued = int(now.timestamp())
        claims: dict[str, Json] = {"iss": self.url, "sub": subject, "aud": AUDIENCE, "iat": issued, "nbf": issued}
        claims["exp"] = issued + int(lifetime.total_seconds())
        return claims | ({"email": subject, "email_verified": True} if is_email(subject) else {})

    def _sign(self, claims: dict[str, Json]) -> str:
        import jwt

        signer = jwt.PyJWS(algorithms=["ES256"])
        return signer.encode(encode_json(claims), self._key, algorithm="ES256", headers={"kid": self._kid})

    # --- requests

    async def answer(self, request: Request) -> Answer:
        """Answer a request; whatever is wrong with it is answered too."""
        if request.path.startswith("/oidc/login/"):
            return await self._send_page(request)
        try:
            return await route(
                request,
                {
                    ("GET", "/.well-known/openid-configuration"): self._send_discovery,
                    ("GET", "/oidc/keys"): self._send_keys,
                    ("POST", "/oidc/device"): self._start_device,
                    ("GET", "/oidc/authorize"): self._start_browser,
                    ("POST", "/oidc/authorize"): self._start_browser,
                    ("POST", "/oidc/token"): self._send_token,
                    ("GET", "/oidc/approve"): self._send_help,
                },
            )
        except OAuthError as err:
            return json_answer(err.status, {"error": err.error, "error_description": err.description}, (*NO_STORE, *err.headers))

    async def _send_discovery(self, _: Request) -> Answer:
        document: dict[str, Json] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/oidc/authorize",
            "token_endpoint": f"{self.url}/oidc/token",
            "jwks_uri": f"{self.url}/oidc/keys",
            "device_authorization_endpoint": f"{self.url}/oidc/device",
            "grant_types_supported": ["authorization_code", DEVICE_GRANT],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "email"],
            "request_uri_parameter_supported": False,  # left out, it would be true
            "authorization_response_iss_parameter_supported": True,
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
            "claims_supported": ["iss", "sub", "aud", "iat", "nbf", "exp", "nonce", "email", "email_verified"],
        }
        return json_answer(200, document)

    async def _send_keys(self, _: Request) -> Answer:
        return json_answer(200, {"keys": [dict(key) for key in self.key_set()]})

    async def _start_device(self, request: Request) -> Answer:
        form = await _read_form(request)
        _check_client(form, request.headers.get("authorization", ""))
        started = await self._start(form, request.peer)
        return json_answer(
            200,
            {
                "device_code": started.secret,
                "user_code": started.user_code,
                "verification_uri": f"{self.url}/oidc/approve",
                "verification_uri_complete": f"{self.url}/oidc/approve?user_code={started.user_code}",
                "interval": POLL_S,
                "expires_in": LOGIN_S,
            },
            NO_STORE,
        )

    async def _start(self, fields: Mapping[str, str], peer: str, redirect: str | None = None) -> Started:
        challenge = _challenge(fields)
        _check_scope(fields)
        nonce, answer = fields.get("nonce", ""), fields.get("state", "")
        try:
            return await asyncio.to_thread(self.logins.start, challenge, peer=peer, redirect=redirect, answer=answer, nonce=nonce)
        except TooMany as err:
            raise OAuthError("temporarily_unavailable", f"{err.problem}: {err.remedy}", 429, ("Retry-After", str(STARTED_S))) from err

    async def _start_browser(self, request: Request) -> Answer:
        if request.method == "HEAD":  # a login would be started of which nobody learns
            return Answer(405, (("Allow", "GET, POST"), *NO_STORE))
        # Both must be taken (OpenID Connect Core section 3.1.2.1). A page's form does not come here: `app` refuses whatever a page posts.
        fields = await _read_fields(request) if request.method == "POST" else _parse_fields(request.query_string)
        query = dict(fields)
        redirect = query.get("redirect_uri", "")
        # Judged first: an error must not be sent to where this client may not be (RFC 6749 section 4.1.2.1).
        if not _is_once(fields, "redirect_uri") or (redirect != _OUT_OF_BAND and not _LOOPBACK.fullmatch(redirect)):
            raise OAuthError("invalid_request", "redirect_uri is not one on this machine's loopback")
        if not _is_once(fields, "client_id") or query.get("client_id") != AUDIENCE:
            raise OAuthError("invalid_client", f"the client is {AUDIENCE}")
        try:
            _check_fields(fields)
            if query.get("client_secret", ""):
                raise OAuthError("unauthorized_client", f"the client is {AUDIENCE}, without a secret")
            if query.get("response_type") != "code":
                raise OAuthError("unsupported_response_type", "response_type is code")
            _check_options(query)
            started = await self._start(query, request.peer, redirect)
        except OAuthError as err:
            state = query.get("state", "")
            good = _is_once(fields, "state") and len(state) <= _MOST_FIELD_CHARACTERS
            return _refuse(self.url, redirect, state if good else "", err)
        return Answer(303, (("Location", f"{self.url}/oidc/login/{started.secret}"), *NO_STORE))

    async def _send_page(self, request: Request) -> Answer:
        handle = request.path.removeprefix("/oidc/login/")
        page = await asyncio.to_thread(self.logins.page, handle)
        if request.method != "GET" or page is None:  # not HEAD: the code would be gone with an answer that nobody reads
            return show_page(404, "No such login", "<p>It has ended. Start again.</p>")
        match page.stage:
            case Stage.PENDING:
                return show_waiting(page)
            case Stage.APPROVED:
                code = await asyncio.to_thread(self.logins.give_code, handle)
                if code is not None:
                    return _finish(self.url, page, code)
            case Stage.DENIED:
                return _refuse(self.url, page.redirect, page.answer, OAuthError("access_denied", "the operator denied this login", 403))
            case Stage.USED:
                pass
        return show_page(410, "Done", "<p>This login has been used. This window can be closed.</p>")

    async def _send_help(self, request: Request) -> Answer:
        code = request.query.get("user_code", "")
        # Whoever made the link chose this, and the operator copies the line into a shell.
        if not code:
            return show_page(200, "Log in", ask_operator("CODE"))
        match await asyncio.to_thread(self.logins.stage, code) if is_user_code(code) else None:
            case Stage.PENDING:
                compare = "<p>Compare it with the one that your terminal shows: a link can be anybody's.</p>"
                return show_page(200, "Log in", f"<p>Your code is <code>{escape(code)}</code>.</p>{compare}{ask_operator(code)}")
            case Stage.APPROVED:
                return show_page(200, "Approved", "<p>The operator has approved this login. Your terminal goes on by itself.</p>")
            case Stage.DENIED:
                return show_page(403, "Denied", "<p>The operator denied this login.</p>")
            case Stage.USED:
                return show_page(410, "Done", "<p>This login has been used. Start another.</p>")
            case None:
                pass
        return show_page(404, "No such login", "<p>No login has this code, or its ten minutes are over. Start again.</p>")

    async def _send_token(self, request: Request) -> Answer:
        form = await _read_form(request)
        _check_client(form, request.headers.get("authorization", ""))
        verifier = form.get("code_verifier", "")
        match _need(form, "grant_type"):
            case "authorization_code":
                found = await asyncio.to_thread(self.logins.redeem, _need(form, "code"), form.get("redirect_uri", ""), verifier)
            case grant if grant == DEVICE_GRANT:
                found = await asyncio.to_thread(self.logins.poll, _need(form, "device_code"), verifier)
            case _:
                raise OAuthError("unsupported_grant_type", f"grant_type is authorization_code or {DEVICE_GRANT}")
        if not isinstance(found, Granted):
            raise OAuthError(found.value, _WHY_NOT[found])
        claims = self._claims(found.subject, self._clock.now(), LIFETIME) | ({"nonce": found.nonce} if found.nonce else {})
        token = self._sign(claims)
        document: dict[str, Json] = {"access_token": token, "id_token": token, "token_type": "Bearer", "scope": "openid email"}
        return json_answer(200, document | {"expires_in": int(LIFETIME.total_seconds())}, NO_STORE)


def _jwk(key: ec.EllipticCurvePublicKey) -> dict[str, Json]:
    numbers = key.public_numbers()
    x, y = (_base64url(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def _thumbprint(jwk: dict[str, Json]) -> str:
    """Return the name of a key: its thumbprint, for which its members are in this order already.

    Source: RFC 7638 section 3.
    """
    return _base64url(hashlib.sha256(encode_json(jwk)).digest())


def _base64url(raw: bytes) -> str:
    return encode_base64(raw).rstrip("=").replace("+", "-").replace("/", "_")


async def _read_form(request: Request) -> dict[str, str]:
    fields = await _read_fields(request)
    _check_fields(fields)
    return dict(fields)


async def _read_fields(request: Request) -> list[tuple[str, str]]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "the body is application/x-www-form-urlencoded")
    try:
        raw = await read_body(request, _MOST_BODY_BYTES)
    except GatewayError as err:
        raise OAuthError("invalid_request", err.message, err.status) from err
    return _parse_fields(raw.decode("latin-1"))


def _parse_fields(text: str) -> list[tuple[str, str]]:
    """Parse a form or a query; in both `+` is a space.

    Source: RFC 6749 section 3.1 and appendix B.
    """
    try:
        return parse_qsl(text.encode("latin-1").decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as err:
        raise OAuthError("invalid_request", "malformed parameters") from err


def _check_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Refuse what another reader could see otherwise, and what would be kept for anybody."""
    if len(dict(fields)) != len(fields):
        raise OAuthError("invalid_request", "a parameter is there twice")  # RFC 6749 sections 3.1, 3.2
    if any(len(value) > _MOST_FIELD_CHARACTERS for _, value in fields):
        raise OAuthError("invalid_request", f"a parameter has more than {_MOST_FIELD_CHARACTERS} characters")


def _is_once(fields: Sequence[tuple[str, str]], name: str) -> bool:
    return [found for found, _ in fields].count(name) == 1


def _check_client(form: Mapping[str, str], authorization: str) -> None:
    """Refuse clients other than the public one, which has an empty secret if any.

    Source: RFC 6749 section 5.2.
    """
    client, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "basic" and credentials.strip() != encode_base64(f"{AUDIENCE}:".encode("ascii")):
        raise OAuthError("invalid_client", f"the client is {AUDIENCE}, without a secret", 401, _CHALLENGE)
    if (client or (AUDIENCE if scheme.lower() == "basic" else "")) != AUDIENCE or secret:
        raise OAuthError("invalid_client", f"the client is {AUDIENCE}, without a secret", 401, _CHALLENGE)


def _challenge(form: Mapping[str, str]) -> str:
    challenge = form.get("code_challenge", "")
    if form.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "PKCE is required: code_challenge, and code_challenge_method S256")
    return challenge


def _check_options(query: Mapping[str, str]) -> None:
    """Refuse what would have to be done otherwise than a login here is.

    Source: OpenID Connect Core sections 3.1.2.1, 3.1.2.6, 6; OAuth 2.0 Multiple Response Type Encoding Practices section 2.1.
    """
    for name in ("request", "request_uri"):
        if query.get(name, ""):
            raise OAuthError(f"{name}_not_supported", "parameters stand in the request itself")
    if "none" in query.get("prompt", "").split(" "):
        raise OAuthError("login_required", "a person logs in each time")
    if query.get("response_mode", "") not in {"", "query"}:
        raise OAuthError("invalid_request", "response_mode is query")


def _need(form: Mapping[str, str], name: str) -> str:
    """Return a parameter that must be there; one without a value is not (RFC 6749 sections 3.2, 5.2)."""
    if not (value := form.get(name, "")):
        raise OAuthError("invalid_request", f"{name} is missing")
    return value


def _check_scope(form: Mapping[str, str]) -> None:
    if "openid" not in form.get("scope", "").split(" "):
        raise OAuthError("invalid_scope", "the scope holds openid")


def _finish(issuer: str, page: Page, code: str) -> Answer:
    if page.redirect == _OUT_OF_BAND:
        return show_page(200, "Logged in", f"<p>Enter this code where you started: <code>{escape(code)}</code></p>")
    return _send_back(issuer, page.redirect, page.answer, {"code": code})


def _refuse(issuer: str, redirect: str, state: str, err: OAuthError) -> Answer:
    """Tell the client that there is no code; a person, where no client can be told.

    Source: RFC 6749 section 4.1.2.1.
    """
    if redirect == _OUT_OF_BAND:
        return show_page(err.status, "Not logged in", f"<p>{escape(err.description)}.</p>", err.headers)
    return _send_back(issuer, redirect, state, {"error": err.error, "error_description": err.description})


def _send_back(issuer: str, redirect: str, state: str, answer: dict[str, str]) -> Answer:
    """Send the browser back to its client, which is told whose answer this is (RFC 9207 section 2)."""
    separator = "&" if "?" in redirect else "?"
    query = urlencode(answer | {"iss": issuer} | ({"state": state} if state else {}), quote_via=quote)
    return Answer(303, (("Location", f"{redirect}{separator}{query}"), *NO_STORE))
