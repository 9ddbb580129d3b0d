"""Identity tokens: what they say is read strictly, and what an authority would refuse is said here, with both times."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from sigkit.errors import (
    ClockSkew,
    MalformedJson,
    MalformedToken,
    Place,
    SigkitError,
    TokenExpired,
    TooLarge,
    UnverifiedEmail,
    WrongAudience,
    WrongShape,
)
from sigkit.signing.token import LEEWAY, check_token, parse_identity_token

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HERE = Place.operator("token")


def part(document) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def token(**claims) -> str:
    now = int(NOW.timestamp())
    told = {"iss": "https://issuer.example", "sub": "me", "aud": "sigstore", "iat": now, "exp": now + 300} | claims
    told = {name: value for name, value in told.items() if value is not None}
    return f"{part({'alg': 'RS256'})}.{part(told)}.c2ln"


def check(now=NOW, audience="sigstore", **claims) -> None:
    check_token(parse_identity_token(token(**claims), HERE), audience, now, HERE)


def test_a_good_token_passes_as_a_file_holds_it():
    found = parse_identity_token(f"\n{token()}\n", HERE)
    check_token(found, "sigstore", NOW, HERE)
    assert (found.issuer, found.identity, found.raw) == ("https://issuer.example", "me", token())


def test_a_token_that_expired_is_refused_as_TIME_with_both_times():
    with pytest.raises(TokenExpired) as caught:
        check(now=NOW + timedelta(seconds=300))
    assert "2026-06-01T12:05:00Z" in caught.value.expected
    assert "2026-06-01T12:00:00Z to 2026-06-01T12:05:00Z" in caught.value.got


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_the_future_is_refused_as_TIME_with_both_times(claim):
    later = int((NOW + LEEWAY).timestamp()) + 1
    with pytest.raises(ClockSkew) as caught:
        check(**{claim: later, "exp": later + 300})
    assert "61 s" in caught.value.problem
    assert ("12:00:00Z" in caught.value.expected, "12:01:01Z" in caught.value.got) == (True, True)


def test_a_clock_that_is_a_little_behind_is_no_matter():
    check(now=NOW - LEEWAY)


def test_a_token_for_another_audience_is_refused_as_IDENT_and_names_both():
    with pytest.raises(WrongAudience) as caught:
        check(aud=["https://github.com/acme", "other"])
    assert (caught.value.expected, caught.value.got) == ("sigstore", "https://github.com/acme, other")
    check(aud=["other", "sigstore"])
    check(aud="mine", audience="mine")


@pytest.mark.parametrize("said", [False, "false", None, "no"])
def test_an_address_that_is_not_verified_is_refused_as_IDENT(said):
    with pytest.raises(UnverifiedEmail):
        check(email="a@acme.example", email_verified=said)


@pytest.mark.parametrize("said", [True, "true", "True"])
def test_an_address_is_verified_by_a_boolean_or_its_name(said):
    check(email="a@acme.example", email_verified=said)


def test_the_identity_is_the_address_where_there_is_one():
    assert parse_identity_token(token(email="a@acme.example"), HERE).identity == "a@acme.example"


def written(claims: bytes, encode=base64.urlsafe_b64encode) -> str:
    """Return a token with these claims, in which nothing else is wrong."""
    return f"{part({'alg': 'RS256'})}.{encode(claims).decode()}.c2ln"


CLAIMS = b'{"iss":"https://issuer.example","sub":"?>?>?>?","aud":"sigstore","exp":1780315500}'


def test_what_is_wrong_in_the_next_tests_is_all_that_is_wrong():
    assert parse_identity_token(written(CLAIMS).replace("=", ""), HERE).subject == "?>?>?>?"


@pytest.mark.parametrize(
    ("raw", "what", "where"),
    [
        pytest.param("", MalformedToken, "", id="empty"),
        pytest.param(token().rpartition(".")[0], MalformedToken, "", id="two parts"),
        pytest.param(f"{token()}.c2ln", MalformedToken, "", id="four parts"),
        pytest.param(token().replace(".", ".*", 1), MalformedToken, "", id="no base64url"),
        pytest.param(written(CLAIMS), MalformedToken, "", id="padding"),
        pytest.param(f"{part({})}..c2ln", MalformedJson, "1:1", id="nothing for claims"),
        pytest.param(f"{part({})}.{part({})}.c2ln", WrongShape, "$", id="no claims"),
        pytest.param(f"{part({})}.{part([])}.c2ln", WrongShape, "$", id="claims that are a list"),
        pytest.param(f"{part([])}.{token().partition('.')[2]}", WrongShape, "$", id="a head that is a list"),
        pytest.param(token(exp="soon"), WrongShape, "$.exp", id="exp of another type"),
        pytest.param(token(exp=None), WrongShape, "$", id="no exp"),
        pytest.param(token(exp=True), WrongShape, "$.exp", id="exp that is true"),
        pytest.param(token(exp=1e300), WrongShape, "$.exp", id="exp beyond all time"),
        pytest.param(token(aud=[1]), WrongShape, "$.aud[0]", id="an audience that is no text"),
        pytest.param(token(sub=None), WrongShape, "$", id="no subject"),
    ],
)
def test_what_is_no_token_is_refused_for_what_is_wrong_with_it(raw, what, where):
    with pytest.raises(SigkitError) as caught:
        parse_identity_token(raw, HERE)
    assert (type(caught.value), caught.value.place.inside) == (what, where)
    assert caught.value.kind.value == "PARSE"
    assert caught.value.status() == 2


def test_claims_that_are_there_twice_are_refused():
    claims = base64.urlsafe_b64encode(b'{"iss":"a","iss":"b"}').rstrip(b"=").decode()
    with pytest.raises(SigkitError, match="twice"):
        parse_identity_token(f"{part({})}.{claims}.c2ln", HERE)


def test_the_other_alphabet_of_base64_is_refused():
    raw = written(CLAIMS, base64.b64encode).replace("=", "")
    assert set(raw) & {"+", "/"}
    with pytest.raises(MalformedToken):
        parse_identity_token(raw, HERE)


def test_a_huge_token_is_refused_as_LIMIT_before_it_is_parsed():
    with pytest.raises(TooLarge):
        parse_identity_token("x" * 100_000, HERE)


def test_more_claims_than_any_token_has_are_refused():
    with pytest.raises(MalformedToken):
        parse_identity_token(token(**{f"c{number}": 1 for number in range(201)}), HERE)


def test_a_token_is_never_printed():
    found = parse_identity_token(token(), HERE)
    assert found.raw not in f"{found!r} {found}"


def test_a_service_account_of_kubernetes_has_fulcios_name():
    about = {"namespace": "prod", "serviceaccount": {"name": "builder"}}
    names = parse_identity_token(token(**{"kubernetes.io": about}), HERE).names
    assert "https://kubernetes.io/namespaces/prod/serviceaccounts/builder" in names


def test_a_token_with_an_empty_address_is_told_by_the_job_that_its_certificate_names():
    read = parse_identity_token(token(email="", job_workflow_ref="acme/app/w.yml@main"), HERE)
    assert (read.email, read.job) == ("", "acme/app/w.yml@main")


@pytest.mark.parametrize(
    "claims",
    [
        {"kubernetes.io": {"namespace": "prod", "serviceaccount": {}}},
        {"kubernetes.io": {"serviceaccount": {"name": "builder"}}},
        {"organization_slug": {"a": 1}, "pipeline_slug": "p"},
        {"organization_slug": "acme", "pipeline_slug": ""},
    ],
)
def test_a_job_whose_parts_are_no_texts_is_none(claims):
    assert parse_identity_token(token(**claims), HERE).job == ""


def test_a_federating_issuer_names_another_issuer():
    found = parse_identity_token(token(federated_claims={"connector_id": "https://accounts.example", "user_id": "7"}), HERE)
    assert found.issuers[:2] == ("https://issuer.example", "https://accounts.example")


@pytest.mark.parametrize("third", ["abc\r\nX-Evil: 1", "é€x", "a b\x00c", "x" * 10, "x", "c2ln=", "a+b/", ""])
def test_a_signature_that_is_malformed_is_refused_as_PARSE_and_quoted_nowhere(third):
    head = token().rpartition(".")[0]
    with pytest.raises(MalformedToken) as caught:
        parse_identity_token(f"{head}.{third}", HERE)
    assert caught.value.got in {"", "nothing"}
    assert caught.value.__cause__ is None
