"""The token protocol, without a socket: what is asked for, in which order, with which credentials."""

from __future__ import annotations

import base64
import json

import pytest

from sigkit.errors import AccessDenied, AnswerUnusable, Kind, RealmRefused, UrlRefused
from sigkit.net.url import parse_url
from sigkit.oci.auth import Answer, Ask, AskToken, Realms, authenticate, parse_challenges, parse_token
from sigkit.oci.credentials import IdentityToken, UserPassword

SCOPE = "repository:t/app:pull"
BEARER = 'Bearer realm="https://registry.example/token",service="reg",scope="repository:t/app:pull"'
USER = UserPassword("user", "pass")
USER_HEADER = "Basic " + base64.b64encode(b"user:pass").decode()


def realms(registry="https://registry.example", named=()):
    return Realms("registry.example", parse_url(f"{registry}/v2/t/app/manifests/x"), frozenset(named))


def drive(*answers, credential=None, kept=None, allowed=None):
    """Feed the answers in turn; return the requests, and what is to be kept."""
    flow = authenticate(allowed or realms(), lambda: credential, kept, SCOPE)
    asked = [next(flow)]
    for answer in answers:
        try:
            asked.append(flow.send(answer))
        except StopIteration as end:
            return asked, end.value
    return asked, None


def refused(challenge=BEARER):
    return Answer(401, (challenge,))


def token(text="t1", **members):
    return Answer(200, body=json.dumps({"token": text, **members}).encode())


def test_what_is_open_needs_one_request_and_no_credential():
    def never():
        pytest.fail("credentials were looked up")

    flow = authenticate(realms(), never, None, SCOPE)
    assert next(flow) == Ask(None)
    with pytest.raises(StopIteration) as end:
        flow.send(Answer(200))
    assert end.value.value is None


def test_a_challenge_is_answered_with_a_token_for_its_scope():
    asked, kept = drive(refused(), token(), Answer(200), credential=USER)
    assert isinstance(asked[1], AskToken)
    assert asked[1].url.target == "/token?service=reg&scope=repository%3At%2Fapp%3Apull"
    assert asked[1].authorization == USER_HEADER
    assert asked[2] == Ask("Bearer t1")
    assert kept.authorization == "Bearer t1"


def test_without_credentials_an_anonymous_token_is_asked_for():
    asked, _ = drive(refused(), token(), Answer(200))
    assert asked[1].authorization is None


def test_a_challenge_without_scope_gets_the_one_that_the_request_needs():
    asked, _ = drive(refused('Bearer realm="https://registry.example/token"'), token(), Answer(200))
    assert asked[1].url.target == "/token?scope=repository%3At%2Fapp%3Apull"


def test_several_scopes_are_parameters_of_their_own():
    asked, _ = drive(refused('Bearer realm="https://registry.example/token?a=b",scope="x:y:pull z:z:pull"'), token(), Answer(200))
    assert asked[1].url.target == "/token?a=b&scope=x%3Ay%3Apull&scope=z%3Az%3Apull"


def test_a_kept_token_is_used_at_once():
    asked, kept = drive(Answer(200), kept="Bearer t0")
    assert (asked, kept) == ([Ask("Bearer t0")], None)


def test_after_a_refused_token_one_new_one_is_asked_for_and_the_old_is_not_shown():
    asked, _ = drive(refused(), token("t1"), Answer(200), credential=USER, kept="Bearer t0")
    assert [type(a) for a in asked] == [Ask, AskToken, Ask]
    assert asked[1].authorization == USER_HEADER


def test_the_third_401_is_final():
    with pytest.raises(AccessDenied) as denied:
        drive(refused(), token("t1"), refused(), token("t2"), refused(), credential=USER)
    assert (denied.value.kind, denied.value.status()) == (Kind.UNAVAIL, 3)
    assert denied.value.remedy == "docker login registry.example"


def test_basic_is_answered_once():
    asked, kept = drive(refused('Basic realm="x"'), Answer(200), credential=USER)
    assert asked[1] == Ask(USER_HEADER)
    assert kept.authorization == USER_HEADER
    with pytest.raises(AccessDenied):
        drive(refused('Basic realm="x"'), refused('Basic realm="x"'), credential=USER)


def test_basic_without_credentials_says_how_to_log_in():
    with pytest.raises(AccessDenied) as denied:
        drive(refused('Basic realm="x"'))
    assert denied.value.remedy == "docker login registry.example"


def test_bearer_is_preferred_to_basic_in_either_order():
    for challenge in (f'Basic realm="x", {BEARER}', f'{BEARER}, Basic realm="x"'):
        asked, _ = drive(refused(challenge), token(), Answer(200), credential=USER)
        assert isinstance(asked[1], AskToken)


@pytest.mark.parametrize("header", ["", "Negotiate abc==", "Digest realm=x", "Bearer", "\\", '"', "Bearer " + "a" * 9000])
def test_a_challenge_that_is_not_known_is_could_not_check(header):
    with pytest.raises((AnswerUnusable, UrlRefused)) as refusal:
        drive(refused(header), credential=USER)
    assert refusal.value.status() == 3


def test_an_identity_token_is_posted():
    asked, _ = drive(refused(), token(), Answer(200), credential=IdentityToken("u", "refresh"))
    assert (asked[1].authorization, asked[1].url.target) == (None, "/token")
    assert dict(asked[1].form) == {
        "grant_type": "refresh_token",
        "client_id": "sigkit",
        "refresh_token": "refresh",
        "service": "reg",
        "scope": SCOPE,
    }


def test_a_server_that_does_not_take_post_is_asked_with_get():
    asked, _ = drive(refused(), Answer(405), token(), Answer(200), credential=IdentityToken("u", "refresh"))
    assert asked[2].form == ()
    assert asked[2].authorization == "Basic " + base64.b64encode(b"u:refresh").decode()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_wrong_password_is_could_not_check_with_the_way_to_log_in(status):
    with pytest.raises(AccessDenied) as denied:
        drive(refused(), Answer(status), credential=USER)
    assert (denied.value.status(), denied.value.remedy) == (3, "docker login registry.example")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b'{"token":""}', b'{"token":"a b"}', b'{"token":"a\\r\\nX: y"}', b'{"token":1}', b'{"token":"a","token":"b"}'],
)
def test_an_answer_without_a_token_that_a_header_can_carry_is_refused(body):
    with pytest.raises(AnswerUnusable):
        parse_token(body, parse_url("https://registry.example/token").place())


@pytest.mark.parametrize(
    ("members", "header", "life"),
    [
        ({"token": "a"}, "Bearer a", 60),
        ({"access_token": "b"}, "Bearer b", 60),
        ({"token": "a", "access_token": "b"}, "Bearer a", 60),
        ({"token": "", "access_token": "b"}, "Bearer b", 60),
        ({"token": "a", "expires_in": 300}, "Bearer a", 300),
        ({"token": "a", "expires_in": 0}, "Bearer a", 0),
        ({"token": "a", "expires_in": 10**9}, "Bearer a", 3600),
    ],
)
def test_a_tokens_life_is_60_seconds_unless_it_says_so_and_an_hour_at_most(members, header, life):
    parsed = parse_token(json.dumps(members).encode(), parse_url("https://registry.example/token").place())
    assert (parsed.authorization, parsed.life_s) == (header, life)


# --- realms


@pytest.mark.parametrize(
    ("registry", "realm", "named"),
    [
        ("https://registry.example", "https://registry.example/token", ()),
        ("https://registry.example:5000", "https://registry.example/token", ()),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", ()),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", ()),
        ("https://registry.example", "https://auth.example/token", ("auth.example",)),
        ("https://registry.example", "https://auth.example:8443/token", ("auth.example:8443",)),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", ()),
    ],
)
def test_a_realm_is_asked(registry, realm, named):
    assert str(realms(registry, named).check(realm)) == realm


@pytest.mark.parametrize(
    ("registry", "realm", "named"),
    [
        ("https://registry.example", "https://evil.example/token", ()),
        ("https://registry.example", "https://registry.example.evil.example/token", ()),
        ("https://registry.example", "http://registry.example/token", ()),
        ("https://registry.example", "http://auth.example/token", ("auth.example",)),
        ("https://registry.example", "https://auth.docker.io/token", ()),
        ("https://registry-1.docker.io", "https://gitlab.com/jwt/auth", ()),
        ("https://registry.example", "http://127.0.0.1:5001/token", ()),
        ("https://registry.example", "https://auth.example/token", ("auth.example:8443",)),
    ],
)
def test_a_realm_elsewhere_is_refused(registry, realm, named):
    with pytest.raises(RealmRefused) as refusal:
        realms(registry, named).check(realm)
    assert refusal.value.kind is Kind.NET


def test_the_refusal_prints_the_flag_that_allows_the_realm():
    with pytest.raises(RealmRefused) as refusal:
        realms().check("https://auth.example/token")
    assert "--token-realm auth.example" in refusal.value.remedy


@pytest.mark.parametrize(
    "realm", ["", "token", "https://registry.example@evil.example/", "ftp://registry.example/", "https://u:p@registry.example/"]
)
def test_a_realm_that_is_no_url_is_refused(realm):
    with pytest.raises(UrlRefused):
        realms().check(realm)


# --- parsing


def test_quoted_values_may_hold_commas_and_escapes():
    (challenge,) = parse_challenges('Bearer realm="a,b", service=plain , scope="x\\"y"')
    assert (challenge.find("realm"), challenge.find("service"), challenge.find("scope")) == ("a,b", "plain", 'x"y')
