"""What a server repeats of the secrets that it was sent."""

from __future__ import annotations

import base64

import pytest

from sigkit.errors import AnswerUnusable, Place
from sigkit.net.secrets import hide_secrets, secrets_of, without_secrets

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJtaWEifQ.c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        pytest.param(TOKEN, "[secret]", id="whole"),
        pytest.param(f"bad token {TOKEN} here", "bad token [secret] here", id="in a sentence"),
        pytest.param(f"Bearer {TOKEN[:16]}", "Bearer [secret]", id="the least piece"),
        pytest.param(f"Bearer {TOKEN[:15]}", f"Bearer {TOKEN[:15]}", id="less than a piece"),
        pytest.param(f"{TOKEN[3:30]} and {TOKEN[20:50]}", "[secret] and [secret]", id="two pieces"),
        pytest.param(TOKEN + TOKEN, "[secret][secret]", id="twice"),
        pytest.param(f"#{TOKEN[:16]}#{TOKEN[5:40]}#", "#[secret]#[secret]#", id="between other letters"),
        pytest.param("nothing of it", "nothing of it", id="nothing"),
        pytest.param("", "", id="empty"),
    ],
)
def test_pieces_of_a_secret_are_not_shown(said, shown):
    assert without_secrets(said, (TOKEN,)) == shown


def test_a_short_secret_is_not_shown_as_a_whole():
    assert without_secrets("no account me:hunter2", ("hunter2",)) == "no account me:[secret]"
    assert without_secrets("as it was", ("as", "")) == "as it was"


@pytest.mark.parametrize(
    ("header", "secrets"),
    [
        (None, ()),
        (f"Bearer {TOKEN}", (TOKEN,)),
        (f"bearer {TOKEN}", (TOKEN,)),
        ("Basic " + base64.b64encode(b"me:pass:word").decode(), (base64.b64encode(b"me:pass:word").decode(), "pass:word")),
        ("Basic ?", ("?",)),
    ],
)
def test_what_is_secret_in_a_header(header, secrets):
    assert secrets_of(header) == secrets


def test_an_error_about_an_answer_quotes_no_secret():
    err = AnswerUnusable(f"no {TOKEN}", place=Place("https://a.example", f"$.{TOKEN}"), expected=TOKEN, got=TOKEN[4:])
    hide_secrets(err, (TOKEN,))
    assert "c2lnbmF0" not in str(err)
    assert err.place.source == "https://a.example"
