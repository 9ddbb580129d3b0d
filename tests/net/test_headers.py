"""What a header cannot hold is refused before anything is sent, and is not quoted."""

from __future__ import annotations

import traceback

import pytest

from sigkit.errors import HeaderUnusable
from sigkit.net.address import Deadline
from sigkit.net.session import Call, Lane, Session
from sigkit.net.url import parse_url
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply

SECRET = "TOPSECRET"


@pytest.fixture
def server():
    with MisbehavingServer(lambda _: Reply()) as running:
        yield running


def send(server, lane, **more):
    waits: list[float] = []
    with Session(sleep=waits.append) as session:
        try:
            session.send(Call("GET", parse_url(server.url), Deadline(20), lane=lane, **more)).discard()
        finally:
            assert waits == []


@pytest.mark.attack("secret in an exception of the transport")
@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize(
    ("end", "what"),
    [
        ("\n", "a line break"),
        ("\r\nX-Evil: 1", "a line break"),
        ("\x00", "a control character"),
        ("\x7f", "a control character"),
        ("\x85", "a character that is not ASCII"),
        ("é", "a character that is not ASCII"),
        ("€", "a character that is not ASCII"),
        ("\ud800", "a character that is not ASCII"),
    ],
)
@pytest.mark.parametrize("where", ["authorization", "headers"])
def test_a_header_that_cannot_be_sent_is_refused_as_NET_before_anything_is_sent_and_not_quoted(server, lane, end, what, where):
    value = f"Bearer {SECRET}{end}"
    with pytest.raises(HeaderUnusable) as caught:
        send(server, lane, **({"authorization": value} if where == "authorization" else {"headers": (("X", value),)}))
    assert what in caught.value.got
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert server.log == []


@pytest.mark.parametrize("lane", list(Lane))
def test_visible_letters_spaces_and_tabs_are_sent_as_they_are(server, lane):
    value = "".join(map(chr, range(0x21, 0x7F))) + " a\tb"
    send(server, lane, authorization=value)
    assert server.log[0].headers["authorization"] == value
