"""One specification of globs: what a pattern matches, which of two wins, and what is no pattern."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import MalformedPolicy, MalformedReference, Place
from sigkit.oci.reference import parse_reference
from sigkit.policy.scope import Scope, match_components, match_text, overlap, overlap_text, parse_image_pattern, parse_tag_pattern

HERE = Place.operator("policy.yaml", "1:1")


def matches(pattern: str, reference: str) -> bool:
    return parse_image_pattern(pattern, HERE).match(parse_reference(reference).repository)


@pytest.mark.parametrize(
    ("pattern", "reference", "expected"),
    [
        pytest.param("reg.example/acme/app", "reg.example/acme/app", True, id="exact"),
        pytest.param("reg.example/acme/app", "reg.example/acme/app2", False, id="exact-is-whole"),
        pytest.param("reg.example/acme/app", "reg.example/acme/app/sub", False, id="exact-is-no-prefix"),
        pytest.param("reg.example/acme/*", "reg.example/acme/app", True, id="star"),
        pytest.param("reg.example/acme/*", "reg.example/acme/app/sub", False, id="star-stays-in-its-component"),
        pytest.param("reg.example/acme/*", "reg.example/acme", False, id="star-needs-a-component"),
        pytest.param("reg.example/app-*", "reg.example/app-1", True, id="star-inside"),
        pytest.param("reg.example/app*", "reg.example/app", True, id="star-may-be-empty"),
        pytest.param("reg.example/a*b*c", "reg.example/axxbyyc", True, id="two-stars"),
        pytest.param("reg.example/a*b*c", "reg.example/abc", True, id="two-empty-stars"),
        pytest.param("reg.example/a*bc*bc", "reg.example/abc", False, id="parts-do-not-share-characters"),
        pytest.param("reg.example/**", "reg.example/a/b/c", True, id="two-stars-cross"),
        pytest.param("reg.example/**/app", "reg.example/x/y/app", True, id="two-stars-in-the-middle"),
        pytest.param("reg.example/**/app", "reg.example/app", False, id="two-stars-need-one-component"),
        pytest.param("reg.example/acme/**", "reg.example/acme", False, id="two-stars-do-not-match-their-parent"),
        pytest.param("**", "reg.example/a/b", True, id="everything"),
        pytest.param("**/app", "reg.example/app", True, id="any-registry"),
        pytest.param("**/app", "reg.example/x/app", True, id="any-registry-and-path"),
        pytest.param("*.example/app", "reg.example/app", True, id="star-in-the-registry"),
        pytest.param("*.example/app", "reg.example:5000/app", False, id="a-port-is-part-of-the-registry"),
        pytest.param("reg.example:*/app", "reg.example:5000/app", True, id="star-for-the-port"),
        pytest.param("*.example/app", "evil.test/reg.example/app", False, id="registry-is-anchored"),
        pytest.param("busybox", "docker.io/library/busybox:1", True, id="docker-hub-default"),
        pytest.param("docker.io/busybox", "busybox", True, id="docker-hub-library"),
        pytest.param("index.docker.io/library/busybox", "busybox", True, id="docker-hub-index"),
        pytest.param("docker.io/library/busybox", "registry-1.docker.io/library/busybox", True, id="docker-hub-registry"),
        pytest.param("reg.example/app", "reg.example:443/app", True, id="the-port-that-is-asked-anyhow"),
        pytest.param("reg.example:443/**", "reg.example/app", True, id="the-port-that-is-asked-anyhow-in-a-pattern"),
        pytest.param("*.example:443/app", "reg.example/app", True, id="the-port-that-is-asked-anyhow-after-a-star"),
        pytest.param("docker.io/busy*", "busybox", True, id="docker-hub-library-with-star"),
        pytest.param("index.docker.io/acme/*", "acme/app", True, id="docker-hub-index-with-star"),
        pytest.param("acme/*", "docker.io/acme/app", True, id="docker-hub-namespace"),
        pytest.param("acme/*", "acme.example/app", False, id="a-namespace-is-no-registry"),
        pytest.param("docker.io/**", "busybox", True, id="all-of-docker-hub"),
        pytest.param("REG.example/app", "reg.example/app", True, id="registry-case-exact"),
        pytest.param("REG.example/*", "reg.example/app", True, id="registry-case-with-star"),
        pytest.param("localhost/*", "localhost/app", True, id="localhost"),
        pytest.param("[::1]:5000/**", "[0:0:0:0:0:0:0:1]:5000/a/b", True, id="ipv6"),
    ],
)
def test_a_pattern_matches_whole_canonical_names(pattern, reference, expected):
    assert matches(pattern, reference) is expected


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("reg.example/a?p", id="question-mark"),
        pytest.param("reg.example/[!a]*", id="class"),
        pytest.param("reg.example/{a,b}*", id="braces"),
        pytest.param("reg.example/a\\*", id="escape"),
        pytest.param("!reg.example/a*", id="negation"),
        pytest.param("^reg.example/.*$", id="regular-expression"),
        pytest.param("reg.example/a**", id="two-stars-beside-text"),
        pytest.param("reg.example/***", id="three-stars"),
        pytest.param("**.example/app", id="two-stars-in-the-registry"),
        pytest.param("*", id="star-alone"),
        pytest.param("*/app", id="star-for-a-registry-or-a-namespace"),
        pytest.param("app*", id="no-registry"),
        pytest.param("acme*/app", id="star-where-the-registry-is-guessed"),
        pytest.param("reg.example/App*", id="upper-case"),
        pytest.param("reg.example/app:v1", id="tag"),
        pytest.param("reg.example/app*:v1", id="tag-after-star"),
        pytest.param("reg.example/app@sha256:" + "0" * 64, id="digest"),
        pytest.param("reg.example//app*", id="empty-component"),
        pytest.param("reg.example/a b*", id="space"),
        pytest.param("", id="empty"),
        pytest.param("reg.example/" + "a" * 2000 + "*", id="too-long"),
    ],
)
def test_what_two_programs_could_read_differently_is_no_pattern(pattern):
    with pytest.raises((MalformedPolicy, MalformedReference)):
        parse_image_pattern(pattern, HERE)


def test_a_name_that_no_repository_can_have_is_no_pattern():
    with pytest.raises(MalformedReference):
        parse_image_pattern("reg.example/App", HERE)


def test_a_tag_pattern_matches_the_whole_tag():
    assert match_text(parse_tag_pattern("v*", HERE), "v1.2")
    assert not match_text(parse_tag_pattern("v*", HERE), "rev1")
    with pytest.raises(MalformedPolicy):
        parse_tag_pattern("v[0-9]", HERE)


def rank(pattern, reference, tags=(), tag=None):
    return Scope((parse_image_pattern(pattern, HERE),), tags).rank_for(parse_reference(reference).repository, tag)


def test_the_more_specific_pattern_ranks_higher():
    ascending = [
        "**",
        "**/app",
        "*.example/**",
        "reg*.example/**",
        "reg.example/**",
        "reg.example/**/app",
        "reg.example/a*/**",
        "reg.example/acm*/**",
        "reg.example/acme/**",
        "reg.example/acme/*",
        "reg.example/acme/a*",
        "reg.example/acme/ap*",
        "reg.example/acme/app",
    ]
    ranks = [rank(pattern, "reg.example/acme/app") for pattern in ascending]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)


def test_a_tag_pattern_ranks_above_none_on_the_same_images():
    plain = rank("reg.example/*", "reg.example/app", tag="v1")
    tagged = rank("reg.example/*", "reg.example/app", ("v*",), "v1")
    assert plain is not None
    assert tagged is not None
    assert tagged > plain


def test_a_digest_reference_matches_only_scopes_without_tags():
    assert rank("reg.example/*", "reg.example/app", ("*",), None) is None
    assert rank("reg.example/*", "reg.example/app", (), None) is not None


def test_a_tag_that_no_pattern_matches_is_outside_the_scope():
    assert rank("reg.example/*", "reg.example/app", ("v*",), "latest") is None


ALPHABET = "ab"
PATTERNS = ["".join(chars) for size in range(1, 5) for chars in itertools.product("ab*", repeat=size)]
WORDS = ["".join(chars) for size in range(6) for chars in itertools.product(ALPHABET, repeat=size)]


def naive(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and text[0] == pattern[0] and naive(pattern[1:], text[1:])


def test_matching_agrees_with_the_definition_on_every_short_pattern():
    for pattern in PATTERNS:
        for word in WORDS:
            assert match_text(pattern, word) is naive(pattern, word), (pattern, word)


def test_two_patterns_overlap_if_and_only_if_some_text_matches_both():
    for one, other in itertools.product(PATTERNS[:39], repeat=2):
        common = any(naive(one, word) and naive(other, word) for word in WORDS)
        assert overlap_text(one, other) is common, (one, other)


def naive_components(pattern: tuple[str, ...], name: tuple[str, ...]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(naive_components(pattern[1:], name[i:]) for i in range(1, len(name) + 1))
    return bool(name) and naive(pattern[0], name[0]) and naive_components(pattern[1:], name[1:])


COMPONENTS = [list(itertools.product(["a", "*", "a*", "**"], repeat=size)) for size in (1, 2, 3)]
NAMES = [name for size in range(1, 6) for name in itertools.product(["a", "b"], repeat=size)]


def test_matching_of_components_agrees_with_the_definition():
    for pattern in itertools.chain(*COMPONENTS):
        for name in NAMES:
            assert match_components(pattern, name) is naive_components(pattern, name), (pattern, name)


def test_components_overlap_if_and_only_if_some_name_matches_both():
    patterns = list(itertools.chain(*COMPONENTS))
    matching = {pattern: {name for name in NAMES if naive_components(pattern, name)} for pattern in patterns}
    for one, other in itertools.product(patterns, repeat=2):
        assert overlap(one, other) is bool(matching[one] & matching[other]), (one, other)


@given(st.text("a*", max_size=30), st.text("a", max_size=200))
def test_matching_ends_quickly_and_says_yes_or_no(pattern, text):
    assert match_text(pattern, text) in {True, False}


@pytest.mark.attack("Connaisseur#1407")
def test_a_pattern_full_of_stars_costs_little_on_a_long_name():
    name = "a" * 255
    assert not match_text("*a" * 100 + "b", name)
    assert not overlap_text("*a" * 100 + "b", "a*" * 100 + "c")
