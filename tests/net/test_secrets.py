"""What a server repeats of the secrets that it was sent."""

from __future__ import annotations

import base64
import traceback

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


def test_a_short_secret_within_a_long_one_does_not_let_its_halves_be_shown():
    long = "ABCDEFGHIJKLMNword!OPQRSTUVWXYZ01"
    assert without_secrets(f"no {long}", ("word!", long)) == "no [secret]"


@pytest.mark.parametrize("written", ["pa%2Fss%2Bword%20of%20many%20letters", "pa%2Fss%2Bword+of+many+letters"])
def test_a_secret_as_a_form_writes_it_is_not_shown(written):
    assert without_secrets(f"code={written}&x=1", ("pa/ss+word of many letters",)) == "code=[secret]&x=1"
    assert without_secrets("code=p%2Fq%2Br", ("p/q+r",)) == "code=[secret]"


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


def test_an_error_about_an_answer_quotes_no_secret_nor_do_its_causes():
    place = Place("https://a.example", f"$.{TOKEN}")
    err = AnswerUnusable(f"no {TOKEN}", place=place, expected=TOKEN, got=TOKEN[4:], remedy=f"take {TOKEN}")
    err.__cause__ = err.__context__ = ValueError(TOKEN)
    hide_secrets(err, (TOKEN,))
    assert "c2lnbmF0" not in f"{err} {err.remedy} {''.join(traceback.format_exception(err))}"
    assert err.place.source == "https://a.example"
