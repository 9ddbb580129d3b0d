"""The stack's OpenID issuer: discovery, tokens for workloads, and logins on devices and in browsers."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sqlite3
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest

from sigkit.errors import DatabaseUnusable, Kind, SigkitError, TooMany, UnknownLogin
from sigkit.limits import BodyLimits
from sigkit.services.app import App, Mount
from sigkit.services.logins import LOGIN_S, Logins, Stage
from sigkit.services.oidc import DEVICE_GRANT, OidcIssuer
from tests.simulators.asgi import Caller
from tests.simulators.authorities import PERSON, URL, VERIFIER, WORKLOAD, ask, challenge, document, headers, post_form

CALLBACK = "http://localhost:41234/auth/callback"
OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"


@pytest.fixture
def oidc(authorities):
    return authorities.oidc


@pytest.fixture
def clock(authorities):
    return authorities.clock


def decoded(oidc: OidcIssuer, token: str) -> dict[str, Any]:
    """Verify a token as a client does: by the published key."""
    (published,) = document(ask(oidc, "GET", "/oidc/keys"))["keys"]
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": published["kid"], "typ": "JWT"}
    assert not {"d", "k"} & set(published)
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    found: dict[str, Any] = jwt.decode(token, jwt.PyJWK(published), ["ES256"], options, audience="sigstore", issuer=URL)
    return found


# --- discovery


def test_discovery_says_what_clients_need(oidc):
    found = document(ask(oidc, "GET", "/.well-known/openid-configuration"))
    assert found["issuer"] == URL
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "device_authorization_endpoint"):
        assert found[name].startswith(f"{URL}/oidc/")
    assert found["id_token_signing_alg_values_supported"] == ["ES256"]
    assert "S256" in found["code_challenge_methods_supported"]
    assert found["request_uri_parameter_supported"] is False  # which is true where it is left out
    assert found["authorization_response_iss_parameter_supported"] is True


# --- tokens of workloads


def test_workload_s_token_names_no_email(oidc, clock):
    claims = decoded(oidc, oidc.issue_token(WORKLOAD))
    now = int(clock.now().timestamp())
    assert claims == {"iss": URL, "sub": WORKLOAD, "aud": "sigstore", "iat": now, "nbf": now, "exp": now + 600}


def test_person_s_token_names_a_verified_email(oidc):
    claims = decoded(oidc, oidc.issue_token(PERSON))
    assert (claims["sub"], claims["email"], claims["email_verified"]) == (PERSON, PERSON, True)


def test_token_takes_claims_lifetime_and_audience(oidc):
    token = oidc.issue_token(WORKLOAD, lifetime=timedelta(hours=1), audience="other", claims={"sourceRepositoryURI": "https://x.example/a"})
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["exp"] - claims["iat"], claims["aud"], claims["sourceRepositoryURI"]) == (3600, "other", "https://x.example/a")


@pytest.mark.parametrize(
    ("subject", "options"),
    [
        pytest.param("job", {}, id="a subject that is nobody's"),
        pytest.param("", {}, id="an empty subject"),
        pytest.param("https://a b/", {}, id="a malformed URI"),
        pytest.param(WORKLOAD, {"lifetime": timedelta(days=2)}, id="two days"),
        pytest.param(WORKLOAD, {"lifetime": timedelta(0)}, id="no time"),
        pytest.param(WORKLOAD, {"claims": {"email": PERSON}}, id="an e-mail address beside it"),
        pytest.param(WORKLOAD, {"claims": {"iss": "https://other.example"}}, id="another issuer"),
        pytest.param(WORKLOAD, {"claims": {"sourceRepositoryURI": ["a"]}}, id="an extension that is no text"),
    ],
)
def test_token_that_the_authority_would_refuse_is_not_issued(oidc, subject, options):
    with pytest.raises(SigkitError) as caught:
        oidc.issue_token(subject, **options)
    assert caught.value.kind is Kind.IDENT


def test_operator_issues_tokens_without_the_running_process(authorities):
    other = OidcIssuer.open(str(authorities.root / "oidc"), URL, authorities.clock)
    assert authorities.tokens.verify(other.issue_token(WORKLOAD)).subject.name == WORKLOAD


# --- logins on a device


class Device:
    """A client that polls."""

    def __init__(self, oidc: OidcIssuer, clock: Any, **fields: str) -> None:
        self.oidc, self.clock = oidc, clock
        start = {"client_id": "sigstore", "scope": "openid email", "code_challenge": challenge(), "code_challenge_method": "S256"}
        self.answer = post_form(oidc, "/oidc/device", start | fields)
        self.started = document(self.answer)

    def approve(self, subject: str = PERSON) -> None:
        self.oidc.logins.approve(self.started["user_code"], subject)

    def poll(self, verifier: str = VERIFIER, **fields: str):
        self.clock.advance(seconds=self.started.get("interval", 2))
        form = {"client_id": "sigstore", "grant_type": DEVICE_GRANT, "device_code": self.started["device_code"], "code_verifier": verifier}
        return post_form(self.oidc, "/oidc/token", form | fields)

    def error(self, **fields: str) -> str:
        answer = self.poll(**fields)
        assert answer.status == 400
        assert headers(answer)["cache-control"] == "no-store"
        found: str = document(answer)["error"]
        return found


@pytest.fixture
def device(oidc, clock):
    return Device(oidc, clock)


def test_device_gets_its_token_when_the_operator_approves(device, oidc):
    assert device.error() == "authorization_pending"
    device.approve()
    answer = device.poll()
    found = document(answer)
    assert (answer.status, found["token_type"], found["expires_in"]) == (200, "Bearer", 600)
    assert found["access_token"] == found["id_token"]
    claims = decoded(oidc, found["id_token"])
    assert (claims["sub"], claims["email"], claims["email_verified"]) == (PERSON, PERSON, True)
    assert "nonce" not in claims


def test_device_is_told_where_and_what_to_enter(device):
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", device.started["user_code"])
    assert len(device.started["device_code"]) >= 43
    assert device.started["verification_uri_complete"].startswith(device.started["verification_uri"])
    assert device.started["interval"] > 0
    page = ask(device.oidc, "GET", urlsplit(device.started["verification_uri_complete"])._replace(scheme="", netloc="").geturl())
    assert device.started["user_code"].encode() in page.body


@pytest.mark.attack("command of the approval page")
@pytest.mark.parametrize(
    "chosen", ["%3Brm%20-rf%20~%3B%23", "%24%28id%29", "BCDF-GHJK%3B", "bcdf-ghjk", "BCDFGHJK", "BCDF-GHJ", "-BCDFGHJK"]
)
def test_the_command_that_the_operator_copies_holds_a_code_and_nothing_that_a_link_chose(oidc, chosen):
    answer = ask(oidc, "GET", f"/oidc/approve?user_code={chosen}")
    page = answer.body.decode()
    assert answer.status == 404
    assert "approve DIR" not in page
    assert "GHJ" not in page.upper()
    assert "rm" not in page.replace("approves", "").replace("Terminal", "").replace("terminal", "")


def test_device_code_works_once(device):
    device.approve()
    assert device.poll().status == 200
    assert device.error() == "invalid_grant"


def test_device_that_did_not_start_the_login_gets_nothing_and_ends_it(device):
    device.approve()
    assert device.error(verifier="w" * 43) == "invalid_grant"
    assert device.error() == "invalid_grant"


@pytest.mark.parametrize("verifier", ["", "v" * 42, "v" * 129, challenge(), "v" * 42 + "!"])
def test_malformed_verifier_is_refused(device, verifier):
    device.approve()
    assert device.error(verifier=verifier) == "invalid_grant"


@pytest.mark.parametrize("verifier", ["guessed", "v" * 129, "v" * 42 + "!"])
def test_verifier_that_is_easily_guessed_is_refused_even_by_its_own_challenge(oidc, clock, verifier):
    device = Device(oidc, clock, code_challenge=challenge(verifier))
    device.approve()
    assert device.error(verifier=verifier) == "invalid_grant"


def test_verifier_of_other_letters_is_refused(device):
    device.approve()
    assert device.error(verifier="\u00e9" * 43) == "invalid_grant"


def test_unknown_device_code_is_refused(device):
    device.approve()
    assert device.error(device_code="x" * 43) == "invalid_grant"


def test_device_that_asks_too_often_is_slowed_down(device):
    assert device.error() == "authorization_pending"
    device.clock.advance(seconds=-device.started["interval"])
    assert device.error() == "slow_down"
    device.approve()
    device.clock.advance(seconds=device.started["interval"])
    assert device.poll().status == 200


def test_denied_login_ends(device):
    device.oidc.logins.deny(device.started["user_code"])
    assert device.error() == "access_denied"


def test_each_reason_for_no_token_is_said_in_words_of_its_own(oidc, clock):
    """The codes are RFC 8628's, section 3.5; the words are what a client shows."""
    pending, denied, expired = (Device(oidc, clock) for _ in range(3))
    said = [document(pending.poll())]
    clock.advance(seconds=-pending.started["interval"])
    said.append(document(pending.poll()))
    oidc.logins.deny(denied.started["user_code"])
    said.append(document(denied.poll()))
    said.append(document(denied.poll(device_code="x" * 43)))
    clock.advance(seconds=LOGIN_S)
    said.append(document(expired.poll()))
    assert [item["error"] for item in said] == ["authorization_pending", "slow_down", "access_denied", "invalid_grant", "expired_token"]
    assert len({item["error_description"] for item in said}) == len(said)


def test_login_that_begins_late_in_a_second_lasts_as_long_as_its_client_was_told(oidc, clock):
    clock.advance(seconds=0.9)
    device = Device(oidc, clock)
    clock.advance(seconds=device.started["expires_in"] - device.started["interval"] - 0.1)
    device.approve()
    assert device.poll().status == 200


def test_code_that_is_given_late_in_a_second_lasts_a_minute(browser, clock):
    clock.advance(seconds=0.9)
    code = browser.code()
    clock.advance(seconds=59.9)
    assert browser.redeem(code).status == 200


def test_login_expires(device):
    device.clock.advance(seconds=LOGIN_S)
    assert device.error() == "expired_token"
    with pytest.raises(UnknownLogin):
        device.approve()


def page_of(device) -> tuple[int, str]:
    answer = ask(device.oidc, "GET", f"/oidc/approve?user_code={device.started['user_code']}")
    return answer.status, answer.body.decode()


def test_the_page_of_a_code_says_what_became_of_the_login(device, oidc, clock):
    status, page = page_of(device)
    assert (status, f"approve DIR {device.started['user_code']} --email" in page) == (200, True)
    device.approve()
    assert "has approved this login" in page_of(device)[1]
    device.poll()
    assert page_of(device)[0] == 410
    denied = Device(oidc, clock)
    oidc.logins.deny(denied.started["user_code"])
    assert page_of(denied)[0] == 403
    left, forgotten = Device(oidc, clock), Device(oidc, clock)
    forgotten.approve()
    clock.advance(seconds=601)
    assert page_of(left)[0] == 404
    assert page_of(forgotten)[0] == 404
    assert oidc.logins.waiting() == ()


def test_login_is_approved_once(device):
    device.approve()
    with pytest.raises(UnknownLogin):
        device.approve("eve@acme.example")
    assert jwt.decode(document(device.poll())["id_token"], options={"verify_signature": False})["email"] == PERSON


def test_code_is_taken_as_people_type_it(device):
    device.oidc.logins.approve(device.started["user_code"].lower().replace("-", " "), PERSON)
    assert device.poll().status == 200


@pytest.mark.parametrize("code", ["", "BBBB-BBBB", "%", "' OR 1=1 --", "B" * 1000])
def test_code_of_no_login_is_refused_as_REF(device, code):
    with pytest.raises(UnknownLogin) as caught:
        device.oidc.logins.approve(code, PERSON)
    assert caught.value.kind is Kind.REF


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        pytest.param({"client_id": "other"}, 401, "invalid_client", id="another client"),
        pytest.param({"client_secret": "x"}, 401, "invalid_client", id="a secret"),
        pytest.param({"code_challenge": ""}, 400, "invalid_request", id="no PKCE"),
        pytest.param({"code_challenge": "short"}, 400, "invalid_request", id="a short challenge"),
        pytest.param({"code_challenge_method": "plain"}, 400, "invalid_request", id="plain PKCE"),
        pytest.param({"scope": "email"}, 400, "invalid_scope", id="no OpenID"),
        pytest.param({"nonce": "n" * 2049}, 400, "invalid_request", id="a long nonce"),
    ],
)
def test_login_is_not_started(oidc, clock, changes, status, error):
    found = Device(oidc, clock, **changes)
    assert (found.answer.status, found.started["error"]) == (status, error)
    assert not oidc.logins.waiting()


@pytest.mark.parametrize("email", ["mia", "https://ci.example/app", "a@b,c@d", "", "mia@acme.example\n"])
def test_login_is_approved_for_an_email_address_only(device, email):
    with pytest.raises(SigkitError) as caught:
        device.approve(email)
    assert caught.value.kind is Kind.IDENT
    assert device.error() == "authorization_pending"


def test_operator_sees_what_waits(oidc, clock):
    first, second = Device(oidc, clock), Device(oidc, clock)
    first.approve()
    assert [waiting.user_code for waiting in oidc.logins.waiting()] == [second.started["user_code"]]


def test_logins_are_limited(oidc, clock):
    while (last := Device(oidc, clock)).answer.status == 200:
        assert len(oidc.logins.waiting()) < 200
    assert (last.answer.status, last.started["error"]) == (429, "temporarily_unavailable")
    assert headers(last.answer)["retry-after"] == "60"
    assert "30 logins were started from one place in a minute: start the login again in a minute" in last.started["error_description"]
    clock.advance(seconds=61)
    assert Device(oidc, clock).answer.status == 200


@pytest.mark.attack("logins of one client")
@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8:0:ffff::2", "2001:db8:1::1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
    ],
)
def test_who_starts_many_logins_keeps_out_nobody_else(oidc, clock, one, same, other):
    while True:
        try:
            oidc.logins.start(challenge(), peer=one)
        except TooMany:
            break
    with pytest.raises(TooMany):
        oidc.logins.start(challenge(), peer=same)
    oidc.logins.start(challenge(), peer=other)
    assert len({login.peer for login in oidc.logins.waiting()}) == 2


COPIES = """WITH RECURSIVE copy (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM copy WHERE number < ?)
    INSERT INTO login SELECT randomblob(32), hex(randomblob(8)), redirect, answer, nonce, challenge, started, expires, next_poll,
    stage, subject, code, printf('2001:db8:%x::/48', number % ?) FROM login, copy WHERE peer = '203.0.113.1'"""  # from so many networks


@pytest.fixture
def database(authorities):
    with contextlib.closing(sqlite3.connect(authorities.root / "oidc" / "logins.db", isolation_level=None)) as opened:
        yield opened


def count(database):
    return database.execute("SELECT count(*) FROM login").fetchone()[0]


@pytest.mark.attack("logins of many networks")
def test_who_fills_the_issuer_with_logins_pushes_out_its_own_oldest_and_nobody_elses(oidc, clock, database):
    person, approved = oidc.logins.start(challenge(), peer="198.51.100.1"), oidc.logins.start(challenge(), peer="203.0.113.2")
    oidc.logins.approve(approved.user_code, "mia@acme.example")
    oidc.logins.start(challenge(), peer="203.0.113.1")
    database.execute(COPIES, (2997, 100))
    assert count(database) == 3000
    clock.advance(seconds=61)
    late = [oidc.logins.start(challenge(), peer=peer) for peer in ("198.51.100.2", "203.0.113.1")]
    waiting = {login.user_code for login in oidc.logins.waiting()}
    assert len(waiting) == 2999
    assert {person.user_code, *(login.user_code for login in late)} <= waiting
    assert oidc.logins.stage(approved.user_code) is Stage.APPROVED


@pytest.mark.attack("logins of many networks")
@pytest.mark.parametrize("peer", ["1.0.0.1", "203.0.113.99", "99.9.9.9"])
def test_of_networks_that_have_as_many_the_one_that_has_waited_longest_is_pushed_out(oidc, clock, database, peer):
    oidc.logins.start(challenge(), peer="203.0.113.1")
    database.execute(COPIES, (2998, 2998))
    clock.advance(seconds=61)
    person = oidc.logins.start(challenge(), peer=peer)
    assert len({login.peer for login in oidc.logins.waiting()}) == 3000
    oidc.logins.start(challenge(), peer="9.0.0.9")
    assert person.user_code in {login.user_code for login in oidc.logins.waiting()}


def test_issuer_whose_every_login_is_approved_says_so_and_ends_none(oidc, clock, database):
    oidc.logins.approve(oidc.logins.start(challenge(), peer="203.0.113.1").user_code, PERSON)
    database.execute(COPIES, (2999, 100))
    clock.advance(seconds=61)
    with pytest.raises(TooMany) as caught:
        oidc.logins.start(challenge(), peer="198.51.100.1")
    assert "approved" in caught.value.problem
    assert "ten minutes" in caught.value.remedy
    assert database.execute("SELECT count(*) FROM login WHERE stage = 'approved' AND expires >= started + 600").fetchone() == (3000,)


@pytest.mark.attack("logins of many networks")
def test_logins_that_have_ended_hinder_no_others_and_are_no_more_than_that(oidc, clock, database):
    oidc.logins.deny(oidc.logins.start(challenge(), peer="203.0.113.1").user_code)
    database.execute(COPIES, (3999, 100))
    clock.advance(seconds=61)
    oidc.logins.start(challenge(), peer="203.0.113.1")
    assert len(oidc.logins.waiting()) == 1
    assert count(database) == 3001


def test_logins_of_an_older_version_are_read(authorities, clock):
    logins = Logins(str(authorities.root / "oidc"), clock)
    logins.start(challenge())
    with contextlib.closing(sqlite3.connect(authorities.root / "oidc" / "logins.db")) as database:
        database.executescript("ALTER TABLE login DROP COLUMN peer; PRAGMA user_version = 1")
    logins.start(challenge(), peer="192.0.2.1")
    assert sorted(login.peer for login in logins.waiting()) == ["", "192.0.2.1"]


def test_database_keeps_no_secret(device, authorities):
    secret = device.started["device_code"].encode()
    files = list((authorities.root / "oidc").glob("logins.db*"))
    assert files
    assert not any(secret in path.read_bytes() for path in files)


def test_database_of_another_program_is_refused(authorities, clock):
    (authorities.root / "oidc" / "logins.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(DatabaseUnusable):
        Logins(str(authorities.root / "oidc"), clock).waiting()


# --- logins in a browser


class Browser:
    """A client with a browser, which follows no redirect by itself."""

    def __init__(self, oidc: OidcIssuer, **changes: str) -> None:
        self.oidc = oidc
        query = {
            "response_type": "code",
            "client_id": "sigstore",
            "client_secret": "",
            "scope": "openid email",
            "redirect_uri": CALLBACK,
            "code_challenge": challenge(),
            "code_challenge_method": "S256",
            "state": "s +/=&?",
            "nonce": "n-1",
            "access_type": "online",
        }
        self.query = query | changes
        self.answer = ask(oidc, "GET", f"/oidc/authorize?{urlencode(self.query)}")  # a space is sent as `+`

    def page(self):
        target = headers(self.answer)["location"]
        assert target.startswith(f"{URL}/oidc/login/")
        return ask(self.oidc, "GET", target.removeprefix(URL))

    def user_code(self) -> str:
        found = re.search(rb"<code>([A-Z]{4}-[A-Z]{4})</code>", self.page().body)
        assert found
        return found[1].decode()

    def code(self) -> str:
        """Approve, and return the code that the browser is sent back with."""
        self.oidc.logins.approve(self.user_code(), PERSON)
        answer = self.page()
        assert answer.status == 303
        where = urlsplit(headers(answer)["location"])
        assert where._replace(query="").geturl() == CALLBACK
        query = parse_qs(where.query)
        assert (query["state"], query["iss"]) == ([self.query["state"]], [URL])
        (code,) = query["code"]
        return code

    def redeem(self, code: str, *, basic: str | None = "sigstore:", **changes: str):
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER} | changes
        credentials = {"authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"} if basic is not None else {}
        return post_form(self.oidc, "/oidc/token", form, credentials)


@pytest.fixture
def browser(oidc):
    return Browser(oidc)


def test_browser_waits_then_returns_with_a_code_that_is_worth_a_token(browser, oidc):
    waiting = browser.page()
    assert (waiting.status, headers(waiting)["refresh"]) == (200, "2")
    answer = browser.redeem(browser.code())
    assert answer.status == 200
    claims = decoded(oidc, document(answer)["id_token"])
    assert (claims["email"], claims["nonce"]) == (PERSON, "n-1")
    assert document(answer)["access_token"] == document(answer)["id_token"]


def test_public_client_needs_no_basic_credentials(browser):
    assert browser.redeem(browser.code(), basic=None, client_id="sigstore").status == 200


@pytest.mark.parametrize(
    ("basic", "changes"),
    [
        ("sigstore:secret", {}),
        ("other:", {}),
        (None, {}),
        (None, {"client_id": "other"}),
        (None, {"client_id": "sigstore", "client_secret": "x"}),
    ],
)
def test_other_client_is_refused(browser, basic, changes):
    answer = browser.redeem(browser.code(), basic=basic, **changes)
    assert (answer.status, document(answer)["error"]) == (401, "invalid_client")
    assert headers(answer)["www-authenticate"].startswith("Basic realm=")


def test_code_works_once(browser):
    code = browser.code()
    assert browser.redeem(code).status == 200
    assert document(browser.redeem(code))["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [{"code_verifier": "w" * 43}, {"code_verifier": ""}, {"redirect_uri": CALLBACK + "/"}, {"redirect_uri": ""}],
)
def test_code_is_used_up_by_whoever_did_not_start_the_login(browser, changes):
    code = browser.code()
    assert document(browser.redeem(code, **changes))["error"] == "invalid_grant"
    assert document(browser.redeem(code))["error"] == "invalid_grant"


def test_code_expires_soon(browser, clock):
    code = browser.code()
    clock.advance(seconds=61)
    assert document(browser.redeem(code))["error"] == "invalid_grant"


def test_page_gives_its_code_once_and_to_a_reader(browser):
    browser.oidc.logins.approve(browser.user_code(), PERSON)
    assert ask(browser.oidc, "HEAD", headers(browser.answer)["location"].removeprefix(URL)).status == 404
    assert browser.page().status == 303
    assert browser.page().status == 410


def test_device_s_code_is_no_browser_s(oidc, clock, browser):
    device = Device(oidc, clock)
    device.approve()
    assert document(browser.redeem(device.started["device_code"]))["error"] == "invalid_grant"
    assert ask(oidc, "GET", f"/oidc/login/{device.started['device_code']}").status == 404


def test_browser_s_handle_is_no_device_s(browser, clock):
    handle = headers(browser.answer)["location"].rpartition("/")[2]
    browser.oidc.logins.approve(browser.user_code(), PERSON)
    form = {"client_id": "sigstore", "grant_type": DEVICE_GRANT, "device_code": handle, "code_verifier": VERIFIER}
    assert document(post_form(browser.oidc, "/oidc/token", form))["error"] == "invalid_grant"


def sent_back(answer, callback: str = CALLBACK) -> dict[str, str]:
    """Return what the browser is sent back to the client with, which names the issuer in any case."""
    assert (answer.status, headers(answer)["cache-control"]) == (303, "no-store")
    where = urlsplit(headers(answer)["location"])
    assert where._replace(query="").geturl() == callback
    found = {name: value for name, (value,) in parse_qs(where.query, strict_parsing=True).items()}
    assert found["iss"] == URL
    return found


def test_client_whose_login_is_denied_is_told_so_at_once(browser):
    browser.oidc.logins.deny(browser.user_code())
    told = sent_back(browser.page())
    assert (told["error"], told["state"], "code" in told) == ("access_denied", browser.query["state"], False)


def test_person_is_told_that_the_login_is_denied_where_no_page_can_be_sent_to(oidc):
    shown = Browser(oidc, redirect_uri=OUT_OF_BAND)
    oidc.logins.deny(shown.user_code())
    page = shown.page()
    assert (page.status, b"denied" in page.body) == (403, True)


def test_code_is_shown_where_no_page_can_be_sent_to(oidc):
    shown = Browser(oidc, redirect_uri=OUT_OF_BAND)
    oidc.logins.approve(shown.user_code(), PERSON)
    page = shown.page()
    code = re.search(rb"<code>([A-Za-z0-9_-]{43})</code>", page.body)
    assert page.status == 200
    assert code
    assert shown.redeem(code[1].decode(), redirect_uri=OUT_OF_BAND).status == 200


@pytest.mark.parametrize(
    "redirect",
    [
        "",
        "https://evil.example/callback",
        "http://evil.example/callback",
        "http://localhost.evil.example/",
        "http://localhost:1@evil.example/",
        "http://localhost:1\\@evil.example/",
        "http://localhost:1/\r\nSet-Cookie: x",
        "javascript:alert(1)",
        "http://[::1].evil.example/",
        "http://localhost:1/#fragment",
    ],
)
def test_redirect_elsewhere_is_refused_without_one(oidc, redirect):
    answer = Browser(oidc, redirect_uri=redirect).answer
    assert (answer.status, "location" in headers(answer)) == (400, False)


@pytest.mark.parametrize("redirect", ["http://localhost:1/auth/callback", "http://127.0.0.1:65535/", "http://[::1]:8080/x?y=z"])
def test_any_loopback_port_is_redirected_to(oidc, redirect):
    assert Browser(oidc, redirect_uri=redirect).answer.status == 303


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"response_type": "token"}, "unsupported_response_type", id="another answer"),
        pytest.param({"response_type": ""}, "unsupported_response_type", id="no answer"),
        pytest.param({"client_secret": "x"}, "unauthorized_client", id="a secret"),
        pytest.param({"code_challenge_method": "plain"}, "invalid_request", id="plain PKCE"),
        pytest.param({"code_challenge": "x"}, "invalid_request", id="a short challenge"),
        pytest.param({"scope": "email"}, "invalid_scope", id="no OpenID"),
        pytest.param({"nonce": "n" * 2049}, "invalid_request", id="a long nonce"),
        pytest.param({"prompt": "none"}, "login_required", id="no page"),
        pytest.param({"prompt": "login none"}, "login_required", id="no page, among others"),
        pytest.param({"request": "e30.e30."}, "request_not_supported", id="a request object"),
        pytest.param({"request_uri": "https://x.example/"}, "request_uri_not_supported", id="a request object elsewhere"),
        pytest.param({"response_mode": "fragment"}, "invalid_request", id="an answer that the server does not see"),
    ],
)
def test_client_whose_login_is_not_started_is_told_why(oidc, changes, error):
    started = Browser(oidc, **changes)
    told = sent_back(started.answer)
    assert (told["error"], told["state"]) == (error, started.query["state"])
    assert not oidc.logins.waiting()


def test_person_is_told_why_a_login_is_not_started_where_no_page_can_be_sent_to(oidc):
    answer = Browser(oidc, redirect_uri=OUT_OF_BAND, scope="email").answer
    assert (answer.status, b"openid" in answer.body) == (400, True)


def test_client_is_told_that_there_are_too_many_logins(oidc):
    while headers((last := Browser(oidc)).answer)["location"].startswith(URL):
        assert len(oidc.logins.waiting()) < 200
    assert sent_back(last.answer)["error"] == "temporarily_unavailable"


def test_person_is_told_for_how_long_there_are_too_many_logins_where_no_page_can_be_sent_to(oidc):
    while (last := Browser(oidc, redirect_uri=OUT_OF_BAND)).answer.status == 303:
        assert len(oidc.logins.waiting()) < 200
    assert (last.answer.status, headers(last.answer)["retry-after"]) == (429, "60")
    assert b"in a minute" in last.answer.body


def test_person_whose_page_is_another_s_is_warned_before_telling_the_code(browser):
    assert b"Did you start this login yourself?" in browser.page().body


def test_state_that_is_too_long_is_refused_and_not_left_out(oidc):
    told = sent_back(Browser(oidc, state="s" * 2049).answer)
    assert (told["error"], "state" in told) == ("invalid_request", False)
    longest = Browser(oidc, state="s" * 2048)
    longest.code()


def test_answer_is_added_to_a_query_that_the_client_has(oidc):
    where = headers(Browser(oidc, redirect_uri="http://127.0.0.1:1/x?y=z", scope="email").answer)["location"]
    assert where.startswith("http://127.0.0.1:1/x?y=z&error=invalid_scope&")


@pytest.mark.parametrize("name", ["state", "scope", "nonce", "code_challenge"])
def test_parameter_of_a_login_that_is_there_twice_is_refused(oidc, browser, name):
    answer = ask(oidc, "GET", f"/oidc/authorize?{urlencode(browser.query)}&{name}=x")
    told = sent_back(answer)
    assert (told["error"], "state" in told) == ("invalid_request", name != "state")
    assert len(oidc.logins.waiting()) == 1  # the fixture's


@pytest.mark.parametrize(("name", "error"), [("redirect_uri", "invalid_request"), ("client_id", "invalid_client")])
@pytest.mark.parametrize("value", ["x", CALLBACK, "sigstore"])
def test_client_that_is_named_twice_is_sent_nowhere(oidc, browser, name, error, value):
    answer = ask(oidc, "GET", f"/oidc/authorize?{urlencode(browser.query)}&{name}={value}")
    assert (answer.status, document(answer)["error"], "location" in headers(answer)) == (400, error, False)


@pytest.mark.parametrize("query", ["redirect_uri=%FF", "&".join(f"a{number}=b" for number in range(50)), "\u00e9=1"])
def test_malformed_query_is_refused(oidc, query):
    answer = ask(oidc, "GET", f"/oidc/authorize?{query}")
    assert (answer.status, document(answer)["error"]) == (400, "invalid_request")


def test_another_client_is_sent_nowhere(oidc):
    answer = Browser(oidc, client_id="x").answer
    assert (answer.status, document(answer)["error"], "location" in headers(answer)) == (400, "invalid_client", False)
    assert not oidc.logins.waiting()


def test_server_hands_on_the_query_of_a_login_as_it_came(oidc, browser):
    call = Caller(App([Mount("/oidc", oidc, BodyLimits(1 << 20))]))
    twice = call("GET", f"/oidc/authorize?{urlencode(browser.query)}&state=1")
    assert twice is not None
    assert "error=invalid_request&" in twice.headers["location"]
    once = call("GET", f"/oidc/authorize?{urlencode(browser.query)}")  # a scope of two words, which `+` joins
    assert once is not None
    assert once.headers["location"].startswith(f"{URL}/oidc/login/")


def test_login_is_not_started_by_asking_for_its_head(oidc, browser):
    answer = ask(oidc, "HEAD", f"/oidc/authorize?{urlencode(browser.query)}")
    assert (answer.status, headers(answer)["allow"]) == (405, "GET, POST")
    assert len(oidc.logins.waiting()) == 1


def test_login_in_a_browser_is_started_by_a_form_as_by_a_query(oidc, browser):
    browser.answer = post_form(oidc, "/oidc/authorize?scope=email", browser.query)  # of which the form alone counts
    assert browser.redeem(browser.code()).status == 200
    told = sent_back(post_form(oidc, "/oidc/authorize", browser.query | {"scope": "email"}))
    assert (told["error"], told["state"]) == ("invalid_scope", browser.query["state"])
    twice = f"{urlencode(browser.query)}&state=x".encode()
    told = sent_back(ask(oidc, "POST", "/oidc/authorize", twice, {"content-type": "application/x-www-form-urlencoded"}))
    assert (told["error"], "state" in told) == ("invalid_request", False)


@pytest.mark.parametrize("change", [{"client_id": "x"}, {"redirect_uri": "https://evil.example/"}, {"nonce": "x" * 20_000}])
def test_form_of_another_client_or_place_is_sent_nowhere(oidc, browser, change):
    answer = post_form(oidc, "/oidc/authorize", browser.query | change)
    assert (answer.status in {400, 413}, "location" in headers(answer)) == (True, False)
    assert len(oidc.logins.waiting()) == 1


@pytest.mark.attack("web page against loopback")
def test_login_in_a_browser_is_not_started_by_the_form_of_a_page(oidc, browser):
    call = Caller(App([Mount("/oidc", oidc, BodyLimits(1 << 20))]))
    form = {"content-type": "application/x-www-form-urlencoded"}
    for origin, status in [({"origin": "http://localhost:8000"}, 403), ({"origin": "null"}, 403), ({}, 303)]:
        answer = call("POST", "/oidc/authorize", urlencode(browser.query).encode(), form | origin)
        assert answer is not None
        assert answer.status == status


def test_page_lets_nothing_of_a_request_in(oidc):
    answer = ask(oidc, "GET", "/oidc/approve?user_code=<script>")
    assert b"<script>" not in answer.body
    assert "default-src 'none'" in headers(answer)["content-security-policy"]


# --- the token endpoint


def test_parameter_that_is_there_twice_is_refused(oidc):
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = ask(oidc, "POST", "/oidc/token", b"grant_type=authorization_code&grant_type=x", form)
    assert document(answer)["error"] == "invalid_request"


@pytest.mark.parametrize("kind", ["application/json", ""])
def test_body_of_another_type_is_refused(oidc, kind):
    assert document(ask(oidc, "POST", "/oidc/token", b"{}", {"content-type": kind}))["error"] == "invalid_request"


@pytest.mark.parametrize("body", [b"\xff", b"&".join(b"a%d=b" % number for number in range(50))])
def test_malformed_form_is_refused(oidc, body):
    answer = ask(oidc, "POST", "/oidc/token", body, {"content-type": "application/x-www-form-urlencoded"})
    assert (answer.status, document(answer)["error"]) == (400, "invalid_request")


def test_form_that_is_too_long_is_refused(oidc):
    answer = post_form(oidc, "/oidc/token", {"code": "x" * 20_000})
    assert (answer.status, document(answer)["error"]) == (413, "invalid_request")


def test_other_grant_is_refused(oidc):
    answer = post_form(oidc, "/oidc/token", {"client_id": "sigstore", "grant_type": "password", "username": "a", "password": "b"})
    assert document(answer)["error"] == "unsupported_grant_type"


@pytest.mark.parametrize("form", [{}, {"grant_type": DEVICE_GRANT}, {"grant_type": "authorization_code", "code": ""}])
def test_request_without_what_every_one_of_its_kind_has_is_called_so(oidc, form):
    answer = post_form(oidc, "/oidc/token", {"client_id": "sigstore"} | form)
    assert (answer.status, document(answer)["error"]) == (400, "invalid_request")


def test_other_pages_are_not_there(oidc):
    answer = ask(oidc, "GET", "/oidc/other")
    assert (answer.status, json.loads(answer.body)["code"]) == (404, 5)
    assert ask(oidc, "GET", "/oidc/token").status == 405
    assert ask(oidc, "GET", "/oidc/login/x").status == 404
