"""Requests to services: what is asked again, for how long, and what is not."""

from __future__ import annotations

import pytest

from sigkit.errors import AnswerUnusable, RedirectRefused, RequestRefused, ServerFailed, SigkitError, TooLarge
from sigkit.signing.client import FIRST_WAIT_S, LONGEST_WAIT_S, SHOWN_CHARACTERS, Ask, Client
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.sessions import Told


class Timer:
    """Moves only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def server():
    with MisbehavingServer(lambda _: Reply(200, (), b'{"a":1}')) as running:
        yield running


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def client(told, timer):
    with Client(told, patience_s=60, timer=timer) as made:
        yield made


def ask(client, server, **more):
    return client.ask(Ask("POST", f"{server.url}/x", 1_000, body=b"{}", **more))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_service_that_is_busy_is_asked_again(client, server, timer, told, status):
    server.on("POST", "/x", times=2).status(status)
    assert ask(client, server).json().value == {"a": 1}
    assert len(server.log) == 3
    assert len(timer.slept) == len(told.waits) == 2


@pytest.mark.parametrize("fault", ["close", "cut"])
def test_a_connection_that_breaks_is_tried_again(client, server, fault):
    planted = server.on("POST", "/x", nth=1)
    planted.close() if fault == "close" else planted.cut_after(3)
    assert ask(client, server).body == b'{"a":1}'
    assert len(server.log) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 409, 413, 415, 422])
def test_a_refusal_is_handed_on_at_once_with_the_services_words(client, server, timer, status):
    server.on("POST", "/x").status(status, body=b'{"code":3,"message":"bad token","details":[]}')
    with pytest.raises(RequestRefused, match="bad token") as caught:
        ask(client, server)
    assert (caught.value.got, len(server.log), timer.slept) == (str(status), 1, [])


@pytest.mark.parametrize("status", [201, 204, 304, 404, 405, 501])
def test_another_status_is_no_answer_of_such_a_service(client, server, status):
    server.on("POST", "/x").status(status)
    with pytest.raises(AnswerUnusable):
        ask(client, server)
    assert len(server.log) == 1


def test_patience_ends_and_says_what_was_wrong_last(client, server, timer):
    server.on("POST", "/x").status(503, body=b"come back later")
    with pytest.raises(ServerFailed, match="503 come back later"):
        ask(client, server)
    assert 30 < sum(timer.slept) <= 60
    assert all(wait <= LONGEST_WAIT_S for wait in timer.slept)


def test_a_wait_that_does_not_fit_is_not_begun(client, server, timer):
    server.on("POST", "/x").status(429, retry_after=25)
    with pytest.raises(ServerFailed):
        ask(client, server)
    assert timer.slept == [25, 25]


@pytest.mark.parametrize("asked", ["soon", "-1", "1e9", "9" * 30, "²"])
def test_a_wait_that_is_no_number_is_ours_to_choose(client, server, timer, asked):
    server.on("POST", "/x", nth=1).say(f"HTTP/1.1 429 x\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n".encode())
    ask(client, server)
    assert timer.slept[0] <= 0.5


@pytest.mark.attack("hot loop by Retry-After")
def test_a_server_that_asks_for_no_wait_is_not_asked_in_a_loop(client, server, timer):
    server.on("POST", "/x").status(429, retry_after=0)
    with pytest.raises(ServerFailed):
        ask(client, server)
    assert timer.slept[0] >= FIRST_WAIT_S / 2
    assert len(server.log) < 12
    assert timer.slept[4] >= 8 * FIRST_WAIT_S


def test_no_redirect_is_followed_with_a_body_or_a_token(client, server):
    server.on("POST", "/x").redirect("http://127.0.0.1:1/")
    with pytest.raises(RedirectRefused):
        ask(client, server, authorization="Bearer t")
    assert len(server.log) == 1


def test_a_larger_answer_than_any_is_refused_as_LIMIT(client, server):
    server.on("POST", "/x").answer(b" " * 1_001)
    with pytest.raises(TooLarge):
        ask(client, server)


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"<h1>no</h1>", b'{"message":1}', b"{", b"x" * 100_000, b'{"message":"' + b"y" * 5_000 + b'"}']
)
def test_words_that_cannot_be_read_or_have_no_end_hide_nothing(client, server, body):
    server.on("POST", "/x").status(400, body=body)
    with pytest.raises(RequestRefused) as caught:
        ask(client, server)
    assert len(caught.value.problem) < 400


SECRET = "aaaabbbbccccdddd.eeeeffffgggghhhh"


@pytest.mark.attack("secret repeated in an error")
@pytest.mark.parametrize("status", [400, 404, 503])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f"You sent: Authorization: Bearer {SECRET}".encode(), id="text"),
        pytest.param(b'{"message":"' + SECRET[:20].encode() + b'","error":"' + SECRET[16:].encode() + b'"}', id="in pieces"),
        pytest.param(b'{"message":"' + b"x" * (SHOWN_CHARACTERS - 20) + SECRET.encode() + b'"}', id="cut in the middle"),
    ],
)
@pytest.mark.parametrize("way", ["authorization", "body"])
def test_a_server_that_repeats_a_secret_has_it_shown_nowhere(client, server, told, status, body, way):
    server.on("POST", "/x").status(status, body=body)
    with pytest.raises(SigkitError) as caught:
        ask(client, server, **({"authorization": f"Bearer {SECRET}"} if way == "authorization" else {"secrets": (SECRET,)}))
    said = f"{caught.value} {told.waits}"
    assert not [at for at in range(len(SECRET) - 15) if SECRET[at : at + 16] in said]
    assert "[secret]" in said


@pytest.mark.parametrize("location", [f"https://{SECRET}@a.example/", f"/login/{SECRET}", f"https://a.example/{SECRET}\\x"])
def test_a_redirect_that_repeats_a_secret_does_not_show_it(client, server, location):
    server.on("POST", "/x").redirect(location)
    with pytest.raises(SigkitError) as caught:
        ask(client, server, authorization=f"Bearer {SECRET}")
    assert "bbbbcccc" not in str(caught.value)


def test_plain_http_to_another_machine_is_refused_as_NET(client):
    with pytest.raises(SigkitError) as caught:
        client.ask(Ask("GET", "http://service.example/x", 10))
    assert caught.value.kind.value == "NET"
