"""The signing config: what is read, what is refused by name, and which services are asked in which order."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sigkit import limits
from sigkit.errors import MalformedTrustedRoot, NoService, Place, TooMany, UnsupportedSigningConfig, WrongShape
from sigkit.trust.signing_config import (
    AnyOne,
    EveryOne,
    Exactly,
    needed,
    parse_signing_config,
    select,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PLACE = Place("signing_config.json")


def service(url: str, *, version: int = 1, start: str = "2026-01-01T00:00:00Z", end: str | None = None, operator: str = "a") -> dict:
    valid = {"start": start, **({"end": end} if end else {})}
    return {"url": url, "majorApiVersion": version, "validFor": valid, "operator": operator}


def document(**members: object) -> dict:
    return {
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service("https://ca.example")],
        "oidcUrls": [service("https://issuer.example/auth/")],
        "rekorTlogUrls": [service("https://log.example", version=2)],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": [service("https://tsa.example/api/v1/timestamp")],
        "tsaConfig": {"selector": "EXACT", "count": 1},
        **members,
    }


def parse(value: dict):
    return parse_signing_config(json.dumps(value).encode(), PLACE, limits.DEFAULT)


def urls(listed: list[dict], selector=None, versions=(1, 2)) -> list[str]:
    logs = parse(document(rekorTlogUrls=listed)).logs
    return [item.url.removeprefix("https://") for item in select(logs, selector or AnyOne(), versions, NOW, PLACE)]


def test_what_it_says_is_read():
    config = parse(document())
    assert [item.url for item in config.issuers] == ["https://issuer.example/auth/"]  # an issuer is compared as it is written
    assert config.logs[0].version == 2
    assert config.log_selector == AnyOne()
    assert config.timestamp_selector == Exactly(1)


@pytest.mark.parametrize(
    ("members", "error", "inside"),
    [
        pytest.param(
            {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.1+json"}, UnsupportedSigningConfig, "$.mediaType", id="0.1"
        ),
        pytest.param(
            {"rekorTlogConfig": {"selector": "UNDEFINED"}}, UnsupportedSigningConfig, "$.rekorTlogConfig.selector", id="undefined"
        ),
        pytest.param({"rekorTlogConfig": {}}, WrongShape, "$.rekorTlogConfig", id="no selector"),
        pytest.param({"rekorTlogConfig": None}, WrongShape, "$", id="no rule"),
        pytest.param({"tsaConfig": {"selector": "EXACT"}}, WrongShape, "$.tsaConfig", id="no count"),
        pytest.param({"tsaConfig": {"selector": "EXACT", "count": 0}}, WrongShape, "$.tsaConfig.count", id="count 0"),
        pytest.param({"caUrls": [service("ftp://ca.example")]}, WrongShape, "$.caUrls[0].url", id="scheme"),
        pytest.param({"caUrls": [service("https://")]}, WrongShape, "$.caUrls[0].url", id="no host"),
        pytest.param({"caUrls": [service("https://ca.example\n")]}, WrongShape, "$.caUrls[0].url", id="line break"),
        pytest.param({"caUrls": [service("https://ca.example", version=0)]}, WrongShape, "$.caUrls[0].majorApiVersion", id="version 0"),
        pytest.param({"caUrls": [{**service("https://ca.example"), "proxy": "x"}]}, WrongShape, "$.caUrls[0]", id="unknown member"),
        pytest.param({"caUrl": []}, WrongShape, "$", id="unknown list"),
        pytest.param(
            {"caUrls": [service("https://ca.example", end="2025-01-01T00:00:00Z")]},
            MalformedTrustedRoot,
            "$.caUrls[0].validFor",
            id="window",
        ),
        pytest.param({"caUrls": [service("https://ca.example")] * 101}, TooMany, "$.caUrls", id="many"),
    ],
)
def test_it_is_refused_with_its_place(members, error, inside):
    with pytest.raises(error) as caught:
        parse(document(**members))
    assert caught.value.place.inside == inside


def test_the_newest_is_asked_first():
    listed = [
        service("https://old", start="2026-02-01T00:00:00Z", operator="a"),
        service("https://new", start="2026-03-01T00:00:00Z", operator="b"),
    ]
    assert urls(listed) == ["new", "old"]


def test_of_one_operator_only_the_newest_is_asked():
    listed = [service("https://new", start="2026-03-01T00:00:00Z"), service("https://old"), service("https://other", operator="b")]
    assert urls(listed) == ["new", "other"]


def test_only_the_highest_version_that_is_spoken_is_asked():
    listed = [service("https://one", operator="a"), service("https://two", version=2, operator="b"), service("https://three", version=3)]
    assert urls(listed) == ["two"]
    assert urls(listed, versions=(1,)) == ["one"]


def test_what_is_not_valid_now_is_not_asked_and_both_ends_of_a_window_count():
    listed = [
        service("https://later", start="2026-06-01T00:00:01Z", operator="a"),
        service("https://earlier", end="2026-05-31T23:59:59Z", operator="b"),
        service("https://starts", start="2026-06-01T00:00:00Z", operator="c"),
        service("https://ends", end="2026-06-01T00:00:00Z", operator="d"),
    ]
    assert urls(listed) == ["starts", "ends"]


@pytest.mark.parametrize("selector", [AnyOne(), EveryOne(), Exactly(1)])
def test_where_nothing_can_be_asked_that_is_said(selector):
    with pytest.raises(NoService):
        urls([service("https://past", end="2026-02-01T00:00:00Z")], selector)


def test_a_clock_that_stands_before_all_services_begin_is_said_with_both_times():
    with pytest.raises(NoService) as caught:
        urls([service("https://a", start="2026-06-01T00:10:00Z"), service("https://b", start="2026-06-01T00:05:00Z", operator="b")])
    assert "clock" in caught.value.problem
    assert "2026-06-01T00:05:00Z" in caught.value.expected
    assert "2026-06-01T00:00:00Z" in caught.value.got


def test_two_of_one_operator_are_not_two():
    listed = [service("https://one"), service("https://two")]
    with pytest.raises(NoService):
        urls(listed, Exactly(2))


def test_a_selector_says_how_many_must_answer():
    logs = parse(document(rekorTlogUrls=[service(f"https://{n}", operator=str(n)) for n in range(3)])).logs
    assert [needed(selector, logs) for selector in (AnyOne(), EveryOne(), Exactly(2))] == [1, 3, 2]
