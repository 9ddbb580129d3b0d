"""text: outside text cannot steer a terminal, a log or a reader's eye."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.text import escape, escape_own, human_size


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2J", "a\nb", "\r", "\x00", "\x9b31m", "\u202etxt.exe", "\u200b", "\ud800", "\x7f", "\u2028", "\u3164", "\u034f", "\ufe0f"],
)
def test_controls_and_invisible_characters_are_written_out(hostile):
    shown = escape(hostile)
    assert shown.isprintable()
    assert "\\" in shown


def test_ordinary_text_stays_as_it_is():
    assert escape("registry.example/app:1.0 käse") == "registry.example/app:1.0 käse"


def test_escaped_text_cannot_be_mistaken_for_plain():
    assert escape("\n\\n") != escape("\\n\n")
    assert escape("\\x0a") != escape("\n")


def test_long_text_is_cut_and_counted():
    assert escape("a" * 600, 500) == "a" * 500 + "…(+100 characters)"


@given(st.text())
def test_everything_becomes_printable(text):
    assert escape(text).isprintable()


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB")])
def test_sizes_are_written_for_people(size, shown):
    assert human_size(size) == shown


def test_what_the_user_wrote_keeps_its_backslashes_and_nothing_else_of_it_is_obeyed():
    assert escape_own(r"https://github\.com/acme/.*") == r"https://github\.com/acme/.*"
    assert escape_own("a\x1b[2J\u202eb") == r"a\x1b[2J\u202eb"
    assert escape("\\" * 600, 500) == "\\" * 1000 + "…(+100 characters)"
