"""Logging in: the right answer is taken, and every wrong one is refused before its code is worth anything."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from sigkit.errors import AnswerUnusable, LoginFailed, LoginForged, MalformedToken, NetError, RedirectRefused, SigkitError, UnavailError
from sigkit.signing.client import Client
from sigkit.signing.interactive import discover, login_in_browser, login_on_device
from sigkit.signing.listener import LoopbackListener
from tests.simulators.sessions import Session


@pytest.fixture
def session():
    with Session.open() as opened:
        yield opened


@pytest.fixture
def client(session):
    with Client(session.told, timer=session.time) as made:
        yield made


class Person:
    """Logs in where the window says, and brings the answer back; a test changes what is brought."""

    def __init__(self, session) -> None:
        self.redirect_uri = "http://localhost:4711/auth/callback"
        self.shown: list[str] = []
        self.asked: dict[str, str] = {}
        self.change: Callable[[str], str | None] = lambda query: query
        self._session = session

    def lead_to(self, url: str) -> str:
        return f"http://127.0.0.1:4711/{len(url)}"

    def open(self, url: str, start: str, wait_s: float) -> None:
        assert (start, wait_s > 0) == (self.lead_to(url), True)
        self.shown.append(url)
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}

    def show_code(self, url: str, code: str, wait_s: float) -> None:
        assert wait_s > 0
        self.shown += [url, code]

    def wait(self, timeout_s: float, state: str) -> str | None:
        assert (timeout_s > 0, state) == (True, self.asked["state"])
        return self.change(self._session.server.instance.approve(self.asked))


@pytest.fixture
def person(session):
    return Person(session)


def log_in(session, client, person):
    endpoints = discover(client, session.server.instance.issuer)
    return login_in_browser(client, endpoints, "sigstore", person, person)


def test_a_login_in_a_browser_gives_a_token(session, client, person):
    token = log_in(session, client, person)
    assert token.identity == "alice@acme.example"
    assert person.asked["scope"] == "openid email"
    assert person.asked["code_challenge_method"] == "S256"
    assert person.asked["redirect_uri"] == person.redirect_uri
    (exchange,) = session.server.seen("POST", "/oidc/token")
    assert person.asked["code_challenge"].encode() not in exchange.body  # the secret itself, not what is made of it


def test_each_login_has_a_state_a_nonce_and_a_secret_of_its_own(session, client, person):
    seen = []
    for _ in range(2):
        log_in(session, client, person)
        seen.append(person.asked)
    for name in ("state", "nonce", "code_challenge"):
        assert seen[0][name] != seen[1][name]
        assert len(seen[0][name]) >= 43


@pytest.mark.attack("GHSA-hm8f-75xx-w2vr")
@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda query: query.partition("&state")[0], id="no state"),
        pytest.param(lambda query: query.partition("&state")[0] + "&state=other", id="another's state"),
        pytest.param(lambda query: query + "&state=x", id="two states"),
        pytest.param(lambda query: query.partition("&")[2], id="no code"),
        pytest.param(lambda query: query + "&code=x", id="two codes"),
        pytest.param(lambda _: "%", id="no query"),
        pytest.param(lambda _: "&".join(f"a{n}=b" for n in range(100)), id="a hundred fields"),
    ],
)
def test_a_forged_callback_is_refused_as_IDENT_and_no_code_is_spent(session, client, person, forge):
    person.change = forge
    with pytest.raises(LoginForged):
        log_in(session, client, person)
    assert session.server.seen("POST", "/oidc/token") == []


@pytest.mark.parametrize("nonce", [None, "other", ""])
def test_a_token_for_another_login_is_refused_as_IDENT(session, client, person, nonce):
    session.server.instance.change["nonce of the login"] = lambda _: nonce
    with pytest.raises(LoginForged):
        log_in(session, client, person)


def test_a_login_that_the_issuer_refuses_is_told_in_its_words(session, client, person):
    person.change = lambda _: f"error=access_denied&error_description=not+you&state={person.asked['state']}"
    with pytest.raises(LoginFailed, match="access_denied: not you"):
        log_in(session, client, person)


@pytest.mark.attack("GHSA-hm8f-75xx-w2vr")
@pytest.mark.parametrize("state", ["", "&state=other"])
def test_a_refusal_that_belongs_to_another_login_is_none_of_this_one(session, client, person, state):
    person.change = lambda _: f"error=access_denied&error_description=call+0900+1234{state}"
    with pytest.raises(LoginForged) as caught:
        log_in(session, client, person)
    assert "0900" not in str(caught.value)


@pytest.mark.attack("issuers mixed up")
@pytest.mark.parametrize("answer", ["code=c", "error=access_denied&error_description=call+0900+1234"])
@pytest.mark.parametrize(
    ("named", "says"),
    [
        pytest.param("&iss=https%3A%2F%2Fother.example", False, id="another"),
        pytest.param("&iss={issuer}&iss=https%3A%2F%2Fother.example", False, id="two"),
        pytest.param("&iss={issuer}%2F", True, id="another slash"),
        pytest.param("", True, id="none, of one that says that it does"),
    ],
)
def test_an_answer_of_another_issuer_is_refused_as_IDENT_and_no_code_is_spent(session, client, person, answer, named, says):
    issuer = session.server.instance.issuer
    said = {"authorization_response_iss_parameter_supported": says}
    session.server.instance.change["discovery"] = lambda document: document | said
    person.change = lambda query: f"{answer}&{query.partition('&')[2]}{named.format(issuer=quote(issuer, safe=''))}"
    with pytest.raises(LoginForged) as caught:
        log_in(session, client, person)
    assert "0900" not in str(caught.value)
    assert session.server.seen("POST", "/oidc/token") == []


@pytest.mark.parametrize("said", [None, False, True])
def test_an_answer_that_names_its_issuer_is_taken_whether_or_not_that_was_said_before(session, client, person, said):
    issuer = session.server.instance.issuer
    session.server.instance.change["discovery"] = lambda document: document | {"authorization_response_iss_parameter_supported": said}
    person.change = lambda query: f"{query}&iss={quote(issuer, safe='')}"
    assert log_in(session, client, person).issuer == issuer


def test_a_login_that_nobody_finishes_ends(session, client, person):
    person.change = lambda _: None
    with pytest.raises(LoginFailed):
        log_in(session, client, person)


def test_a_code_that_another_has_spent_is_refused(session, client, person):
    session.server.on("POST", "/oidc/token").status(400, body=b'{"error":"invalid_grant"}')
    with pytest.raises(LoginFailed, match="invalid_grant"):
        log_in(session, client, person)


@pytest.mark.parametrize("fault", ["cut", "closed", "503", "429"])
def test_a_code_whose_answer_is_lost_is_not_sent_again(session, client, person, fault):
    planted = session.server.on("POST", "/oidc/token", nth=1)
    match fault:
        case "cut":
            planted.cut_after(3)
        case "closed":
            planted.close()
        case _:
            planted.status(int(fault), retry_after=1)
    with pytest.raises(UnavailError) as caught:
        log_in(session, client, person)
    assert "log in again" in caught.value.remedy
    assert len(session.server.seen("POST", "/oidc/token")) == 1
    assert (session.told.waits, session.time.slept) == ([], [])


@pytest.mark.parametrize("fault", ["cut", "503"])
def test_a_device_code_whose_answer_is_lost_is_sent_again(session, client, person, fault):
    planted = session.server.on("POST", "/oidc/token", nth=1)
    planted.cut_after(3) if fault == "cut" else planted.status(503)
    assert log_in_on_device(session, client, person).identity == "alice@acme.example"


SECRET = "TOPSECRET0123456789"


@pytest.mark.attack("secret in the place of a token")
@pytest.mark.parametrize("way", ["browser", "device"])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f'"{SECRET}"', id="a text alone"),
        pytest.param(f'["{SECRET}"]', id="a list"),
        pytest.param(f'{{"id_token":["{SECRET}"]}}', id="a token in a list"),
        pytest.param(f'{{"id_token":{{"{SECRET}":1}}}}', id="a token as a name"),
        pytest.param(f'{{"{SECRET}":1,"{SECRET}":2}}', id="a name twice"),
        pytest.param(f"access_token={SECRET}", id="a form"),
        pytest.param(SECRET, id="no JSON"),
        pytest.param(f'{{"id_token":"{SECRET}"}}', id="no token"),
        pytest.param(f'{{"id_token":"{SECRET}\\u0000"}}', id="what no header holds"),
    ],
)
def test_what_an_issuer_answers_in_the_place_of_a_token_is_not_quoted(session, client, person, body, way):
    session.server.on("POST", "/oidc/token").answer(body.encode())
    with pytest.raises((AnswerUnusable, MalformedToken)) as caught:
        (log_in if way == "browser" else log_in_on_device)(session, client, person)
    assert SECRET[:12] not in "".join(traceback.format_exception(caught.value)) + caught.value.got + caught.value.expected


@pytest.mark.attack("secret in the place of a token")
def test_a_device_code_that_is_none_is_not_quoted(session, client, person):
    session.server.on("POST", "/oidc/device").change = lambda _, reply: replace(
        reply, body=json.dumps(json.loads(reply.body) | {"device_code": [SECRET]}).encode()
    )
    with pytest.raises(AnswerUnusable) as caught:
        log_in_on_device(session, client, person)
    assert SECRET[:12] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.attack("discovery redirected at login")
def test_a_redirect_of_the_discovery_document_is_refused_as_NET(session, client):
    session.server.on("GET", "/oidc/.well-known/*").redirect(f"{session.server.url}/oidc-b/.well-known/openid-configuration")
    with pytest.raises(RedirectRefused):
        discover(client, session.server.instance.issuer)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"issuer": "https://evil.example"}, id="another issuer"),
        pytest.param({"code_challenge_methods_supported": ["plain"]}, id="no PKCE"),
        pytest.param({"code_challenge_methods_supported": None}, id="nothing of PKCE"),
    ],
)
def test_an_issuer_that_calls_itself_otherwise_or_knows_no_PKCE_is_refused(session, client, change):
    session.server.instance.change["discovery"] = lambda document: document | change
    with pytest.raises(AnswerUnusable):
        discover(client, session.server.instance.issuer)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_slash_at_the_end_of_an_issuers_name_belongs_to_it(session, client, person, slash):
    issuer = session.server.instance.issuer + slash
    session.server.instance.change["discovery"] = lambda document: document | {"issuer": issuer}
    session.server.instance.change["claims of the login"] = lambda claims: claims | {"iss": issuer}
    endpoints = discover(client, issuer)
    assert endpoints.issuer == issuer
    assert login_in_browser(client, endpoints, "sigstore", person, person).issuer == issuer
    assert session.server.log[0].path == "/oidc/.well-known/openid-configuration"
    with pytest.raises(AnswerUnusable) as caught:
        discover(client, issuer.removesuffix("/") if slash else issuer + "/")
    assert "slash" in caught.value.remedy


def log_in_on_device(session, client, person):
    return login_on_device(client, discover(client, session.server.instance.issuer), "sigstore", person)


@pytest.mark.attack("page of a hostile issuer")
@pytest.mark.parametrize(
    "page",
    ["file:///etc/passwd", "javascript:alert(1)", "--new-window", "http://issuer.example/login", "https://mia@issuer.example/", ""],
)
def test_a_browser_is_sent_to_no_page_that_is_not_one_of_the_web(session, client, person, page):
    session.server.instance.change["discovery"] = lambda document: document | {"authorization_endpoint": page}
    with pytest.raises(NetError):
        log_in(session, client, person)
    assert person.shown == []


@pytest.mark.attack("page of a hostile issuer")
def test_nobody_is_shown_a_page_of_a_device_login_that_is_not_one_of_the_web(session, client, person):
    session.server.on("POST", "/oidc/device").change = lambda _, reply: reply.__class__(
        200, (), reply.body.replace(session.server.instance.issuer.encode(), b"file:///tmp")
    )
    with pytest.raises(NetError):
        log_in_on_device(session, client, person)
    assert person.shown == []


@pytest.mark.attack("token of another issuer")
@pytest.mark.parametrize("way", ["browser", "device"])
def test_a_token_of_another_issuer_than_the_one_that_was_logged_in_at_is_refused_as_IDENT(session, client, person, way):
    issuer = session.server.instance.issuer
    session.server.instance.change["claims of the login"] = lambda claims: claims | {"iss": f"{issuer}-b"}
    with pytest.raises(LoginForged, match="another issuer"):
        (log_in if way == "browser" else log_in_on_device)(session, client, person)


def test_a_login_by_a_code_gives_a_token_once_the_code_is_entered(session, client, person):
    session.server.instance.device_polls = 3
    assert log_in_on_device(session, client, person).identity == "alice@acme.example"
    assert person.shown == [f"{session.server.instance.issuer}/activate", "ABCD-EFGH"]
    assert session.time.slept == [5, 5, 5, 5]


def test_an_issuer_that_is_asked_too_often_is_asked_less_often(session, client, person):
    session.server.instance.device_polls = 2
    session.server.instance.change["pending"] = lambda _: "slow_down"
    log_in_on_device(session, client, person)
    assert session.time.slept == [5, 10, 15]


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant"])
def test_a_login_by_a_code_that_is_refused_ends_at_once(session, client, person, error):
    session.server.instance.change["pending"] = lambda _: error
    with pytest.raises(LoginFailed, match=error):
        log_in_on_device(session, client, person)
    assert len(session.time.slept) == 1


@pytest.mark.parametrize("status", [pytest.param(401, id="Dex before 2.44"), pytest.param(403, id="Auth0"), pytest.param(428, id="Google")])
def test_what_is_pending_is_known_by_its_error_whatever_the_status(session, client, person, status):
    session.server.instance.device_polls = 2
    session.server.on("POST", "/oidc/token").change = lambda _, reply: reply if reply.status == 200 else replace(reply, status=status)
    assert log_in_on_device(session, client, person).identity == "alice@acme.example"
    assert session.time.slept == [5, 5, 5]


def test_too_many_requests_are_slowed_down(session, client, person):
    session.server.on("POST", "/oidc/token", nth=1).status(429, body=b"")  # Auth0 says slow_down so
    log_in_on_device(session, client, person)
    assert session.time.slept == [5, 10]


@pytest.mark.parametrize("status", [400, 401, 403, 428])
@pytest.mark.parametrize(("body", "says"), [(b"<html>closed", "closed"), (b'{"error":7}', "does not say why"), (b"", "does not say why")])
def test_an_answer_to_a_poll_that_is_none_of_oauth_is_a_refusal(session, client, person, status, body, says):
    session.server.on("POST", "/oidc/token").status(status, body=body)
    with pytest.raises(LoginFailed, match=says):
        log_in_on_device(session, client, person)
    assert len(session.time.slept) == 1


def test_a_code_that_nobody_enters_ends(session, client, person):
    session.server.instance.device_polls = 10_000
    with pytest.raises(LoginFailed, match="nobody entered"):
        log_in_on_device(session, client, person)
    assert sum(session.time.slept) <= 300


def test_an_issuer_without_such_a_login_is_named(session, client, person):
    session.server.instance.change["discovery"] = lambda document: document | {"device_authorization_endpoint": None}
    with pytest.raises(LoginFailed):
        log_in_on_device(session, client, person)


def bring(port: int | None, request: bytes, address: str = "127.0.0.1") -> bytes:
    assert port
    with socket.create_connection((address, port)) as connection:
        return ask(connection, request)


def ask(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    connection.shutdown(socket.SHUT_WR)
    answer = b""
    while data := connection.recv(4096):
        answer += data
    return answer


@contextlib.contextmanager
def waiting(listener, state="s"):
    """Let a listener wait meanwhile, and give what comes of it."""
    came: list[str | Exception | None] = []

    def wait():
        try:
            came.append(listener.wait(30, state))
        except SigkitError as err:
            came.append(err)

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield came
    finally:
        thread.join(40)


PAGE = "https://issuer.example/auth?state=s&nonce=n"


def request(url: str) -> bytes:
    return f"GET {urlsplit(url).path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def test_the_page_that_is_opened_leads_to_the_issuers_and_says_nothing_of_the_login():
    with LoopbackListener() as listener, LoopbackListener() as other:
        start, port = listener.lead_to(PAGE), urlsplit(listener.redirect_uri).port
        assert urlsplit(start)[:2] == ("http", f"127.0.0.1:{port}")
        assert "issuer" not in start
        assert urlsplit(start).path != urlsplit(other.lead_to(PAGE)).path
        assert len(urlsplit(start).path) > 40
        with waiting(listener) as came:
            answer = bring(port, request(start))
            bring(port, b"GET /auth/callback?code=c&state=s HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 303 ")
    assert f"\r\nLocation: {PAGE}\r\n".encode() in answer
    assert came == ["code=c&state=s"]


@pytest.mark.attack("login read off a command line")
def test_a_page_that_is_asked_for_twice_ends_the_login_and_leads_nobody_on():
    with LoopbackListener() as listener:
        start, port = listener.lead_to(PAGE), urlsplit(listener.redirect_uri).port
        with waiting(listener) as came:
            bring(port, request(start))
            answer = bring(port, request(start))
    assert answer.startswith(b"HTTP/1.1 410 ")
    assert b"issuer.example" not in answer
    assert [type(what) for what in came] == [LoginForged]


def strangers(port: int | None) -> socket.socket:
    """Return a connection of another user's: a socket is whose it was made by. No other thread may run meanwhile, as that user."""
    os.seteuid(65534)
    try:
        made = socket.socket()
    finally:
        os.seteuid(0)
    made.connect(("127.0.0.1", port))
    return made


@pytest.mark.attack("login read off a command line")
@pytest.mark.root
def test_another_user_who_asks_for_the_page_is_led_nowhere_and_ends_nothing():
    with LoopbackListener() as listener:
        start, port = listener.lead_to(PAGE), urlsplit(listener.redirect_uri).port
        with strangers(port) as gone:
            gone.sendall(request(start))
        for _ in range(1000):  # a socket that nobody holds any more is soon listed as root's
            if not any(row.split()[7] == "65534" and f":{port:04X} " in row for row in Path("/proc/net/tcp").read_text().splitlines()):
                break
        with strangers(port) as stranger, waiting(listener) as came:
            answer = ask(stranger, request(start))
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert b"issuer.example" not in answer
            assert bring(port, request(start)).startswith(b"HTTP/1.1 303 ")
            bring(port, b"GET /auth/callback?code=c&state=s HTTP/1.1\r\n\r\n")
    assert came == ["code=c&state=s"]


@pytest.mark.attack("listener at the other loopback")
def test_the_answer_is_waited_for_at_both_addresses_of_loopback_and_nobody_else_can_listen_there():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with LoopbackListener() as listener:
        port = urlsplit(listener.redirect_uri).port
        for address in ("::1", "::", "127.0.0.1"):
            with pytest.raises(OSError, match="in use"):
                socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        with waiting(listener) as came:
            bring(port, b"GET /auth/callback?code=c&state=s HTTP/1.1\r\n\r\n", "::1")
    assert came == ["code=c&state=s"]


@pytest.mark.attack("login ended by a stranger")
def test_the_listener_takes_the_callback_alone_and_shows_nothing_of_it():
    with LoopbackListener() as listener:
        port = urlsplit(listener.redirect_uri).port
        assert port
        brought: list[str | None] = []
        thread = threading.Thread(target=lambda: brought.append(listener.wait(30, "s")))
        thread.start()
        others = [
            b"GET /favicon.ico HTTP/1.1\r\n\r\n",
            b"POST /auth/callback?code=x HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            b"GET\r\n\r\n",
            b"",
            *(
                b"GET /auth/callback?" + query + b" HTTP/1.1\r\n\r\n"
                for query in (
                    b"",
                    b"x=1",
                    b"x",
                    b"code=c",
                    b"code=c&state=t",
                    b"error=x",
                    b"code=c&state=s&state=s",
                )
            ),
        ]
        assert [bring(port, other)[:12] in {b"HTTP/1.1 404", b""} for other in others] == [True] * len(others)
        answer = bring(port, b"GET /auth/callback?code=c%3Cb%3E&state=s HTTP/1.1\r\nHost: localhost\r\n\r\n")
        thread.join(30)
    assert brought == ["code=c%3Cb%3E&state=s"]
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"code" not in answer.partition(b"\r\n\r\n")[2]


def test_connections_that_say_nothing_keep_no_answer_waiting():
    with LoopbackListener() as listener, contextlib.ExitStack() as stack:
        port = urlsplit(listener.redirect_uri).port
        for said in [b"", b"GET /auth/call"] * 40:  # more than are kept: the oldest go
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(said)
        last = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        last.sendall(b"GET /auth/callback?code=c&state=s HTTP/1.1\r\n\r\n")
        assert listener.wait(5, "s") == "code=c&state=s"
        assert last.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_request_that_arrives_in_pieces_is_put_together():
    with LoopbackListener() as listener, socket.create_connection(("127.0.0.1", urlsplit(listener.redirect_uri).port)) as browser:
        brought: list[str | None] = []
        thread = threading.Thread(target=lambda: brought.append(listener.wait(5, "s")))
        thread.start()
        browser.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /auth/callback?code=c&state=s HTTP/1.1\r\n\r\n":
            browser.sendall(bytes([byte]))
        thread.join(10)
    assert brought == ["code=c&state=s"]


def test_the_listener_is_on_loopback_and_gives_up_in_time():
    with LoopbackListener() as listener:
        assert listener.redirect_uri.startswith("http://localhost:")
        assert listener.wait(0.01, "s") is None
