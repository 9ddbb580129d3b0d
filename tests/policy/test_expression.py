"""Expressions fit whole texts, in linear time and bounded memory; what is malformed or doubtful is said with its column."""

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit import limits
from sigkit.errors import MalformedExpression, Place
from sigkit.policy.expression import check_expression, find_doubts, find_fault, fits_whole

UNANCHORED = "https://git.example/acme/app/.github/workflows/"
RELEASE = r"^https://git\.example/acme/app/\.github/workflows/release\.yml@refs/(heads/main|tags/v.+)$"
WORKFLOWS = "https://git.example/acme/app/.github/workflows"


@pytest.mark.parametrize(
    "subject",
    [
        f"{WORKFLOWS}/release.yml@refs/heads/main",
        f"https://evil.example/?x={UNANCHORED}",
        "https://gitXexample/acme/app/.github/workflows/release.yml",
    ],
)
def test_c14_a_pattern_fits_the_whole_subject_or_not_at_all(subject):
    assert not fits_whole(UNANCHORED, subject)


@pytest.mark.parametrize(
    ("subject", "fits"),
    [
        (f"{WORKFLOWS}/release.yml@refs/heads/main", True),
        (f"{WORKFLOWS}/release.yml@refs/tags/v1.2", True),
        (f"{WORKFLOWS}/release.yml@evil.yml@refs/heads/main", False),
        (f"{WORKFLOWS}/release.yml@refs/heads/main\n", False),
        (f"{WORKFLOWS}/release.yml@refs/tags/v1\nx", False),
        ("https://gitXexample/acme/app/.github/workflows/release.yml@refs/heads/main", False),
        (f"\n{WORKFLOWS}/release.yml@refs/heads/main", False),
    ],
)
def test_c14_anchors_change_nothing_and_no_end_of_a_line_slips_through(subject, fits):
    assert fits_whole(RELEASE, subject) is fits
    assert fits_whole(RELEASE.removeprefix("^").removesuffix("$"), subject) is fits


def test_c14_a_double_slash_fits_only_as_it_is_written():
    subject = "https://git.example/g/p//.gitlab-ci.yml@refs/heads/trunk"
    assert fits_whole(r"https://git\.example/g/p//\.gitlab-ci\.yml@refs/heads/.+", subject)
    assert not fits_whole(r"https://git\.example/g/p/\.gitlab-ci\.yml@refs/heads/.+", subject)


def test_c14_doubts_name_column_and_what_may_be_meant():
    dots = [doubt for doubt in find_doubts(UNANCHORED) if "unescaped dot" in doubt.text]
    assert [doubt.offset for doubt in dots] == [11, 29]
    assert "column 12" in dots[0].text
    (one,) = [doubt for doubt in find_doubts(UNANCHORED) if "one string only" in doubt.text]
    exact, expression = one.suggestion.split(" as exact text, or the expression ")
    assert exact == UNANCHORED
    assert fits_whole(expression, f"{WORKFLOWS}/release.yml@refs/heads/main")
    assert not fits_whole(expression, f"https://evil.example/?x={UNANCHORED}x")
    assert not fits_whole(expression, "https://gitXexample/acme/app/.github/workflows/release.yml")


@pytest.mark.parametrize(
    "expression",
    [
        RELEASE,
        "https://git[.]example/.*",
        r"https://git\.example/[^/.]+/x",
        r"[a-z]+@acme\.example",
        r"a\Q\.\E|b",
        r"\d+",
        "[]a.]+x",
        "[^].]+x",
    ],
)
def test_what_is_meant_raises_no_doubt(expression):
    assert [doubt for doubt in find_doubts(expression) if "dot" in doubt.text or "one string" in doubt.text] == []


@pytest.mark.parametrize(
    ("expression", "part"),
    [(".*", "any text"), ("^.+$", "any text"), ("(.*)", "any text"), (".*/acme/app", "beginning is open"), ("abc", "one string only")],
)
def test_what_may_not_be_meant_is_doubted(expression, part):
    assert any(part in doubt.text for doubt in find_doubts(expression))


@pytest.mark.parametrize(
    ("expression", "offset"),
    [
        ("ab(c", 2),
        ("a(b(c)", 1),
        ("a[(](b", 4),
        ("ab[c", 2),
        ("a**", 1),
        ("*a", 0),
        (r"a\q", 1),
        ("ab\\", 2),
        ("a[z-b]", 2),
        ("a(?=b)", 1),
        (r"a(b)\1", 4),
        ("a{9999}", 1),
        ("a\ud800", 1),
    ],
)
def test_a_malformed_expression_is_refused_at_its_character(expression, offset):
    fault = find_fault(expression)
    assert fault is not None
    assert fault.offset == offset
    with pytest.raises(MalformedExpression) as caught:
        check_expression(expression, Place.operator("--certificate-identity-regexp"))
    assert f"column {offset + 1}" in caught.value.got


@pytest.mark.parametrize("expression", ["a" * (limits.EXPRESSION_CHARACTERS + 1), "((a{100}){100}){100}", r"\pL{300}"])
def test_an_expression_that_needs_too_much_is_refused_before_it_matches_anything(expression):
    assert find_fault(expression) is not None


@pytest.mark.attack("CVE-2026-22772, sigstore-go#558")
def test_an_expression_is_matched_in_linear_time():
    text = "a" * 20_000 + "!"
    started = time.monotonic()
    assert not fits_whole("(a+)+", text)
    assert not fits_whole("(a|a)*b", text)
    assert time.monotonic() - started < 5  # a backtracking engine needs longer than the universe has


@given(st.text(max_size=40))
def test_whatever_is_typed_is_an_expression_or_has_a_fault_within_it(text):
    fault = find_fault(text)
    if fault is None:
        assert isinstance(fits_whole(text, "https://git.example/"), bool)
    else:
        assert 0 <= fault.offset <= max(len(text), limits.EXPRESSION_CHARACTERS)
    assert isinstance(list(find_doubts(text)), list)


@given(st.text(alphabet="ab.[]^-\\(", max_size=12), st.text(alphabet="abx.", max_size=6))
def test_a_suggestion_that_is_made_for_dots_fits_no_more_than_the_expression(expression, text):
    if find_fault(expression) is not None:
        return
    for doubt in find_doubts(expression):
        if "unescaped dot" in doubt.text and find_fault(doubt.suggestion) is None and fits_whole(doubt.suggestion, text):
            assert fits_whole(expression, text)


def test_an_expression_is_imported_only_where_one_is():
    code = "import sys, sigkit.policy.decide, sigkit.policy.load, sigkit.policy.flags; sys.exit('re2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_malformed_expression_writes_nothing_on_its_own(capfd):
    find_fault("a(b")
    assert capfd.readouterr() == ("", "")
