"""Which identity tokens are taken, and whom they name."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import Kind, Place, SigkitError, TooLarge, UnknownIssuer, UnnamableIdentity, WrongShape
from sigkit.services.issuer_list import SCHEMA, parse_issuers
from sigkit.services.issuers import (
    CiIssuer,
    EmailIssuer,
    Issuer,
    KubernetesIssuer,
    OwnIssuer,
    SpiffeIssuer,
    UriIssuer,
    UsernameIssuer,
    name_identity,
)
from sigkit.services.tokens import TOKEN_BYTES, TokenVerifier
from sigkit.strict import Cursor
from tests.simulators.authorities import PERSON, WORKLOAD, Foreign, KeySets, StandingClock, by_hand

ISSUER = "https://issuer.example"
GITHUB = {
    "event_name": "push",
    "sha": "a" * 40,
    "workflow": "release",
    "repository": "acme/app",
    "ref": "refs/tags/v1",
    "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1",
    "job_workflow_sha": "b" * 40,
    "runner_environment": "github-hosted",
    "repository_id": 10**20,
    "repository_owner": "acme",
    "repository_owner_id": "42",
    "workflow_ref": "acme/app/.github/workflows/top.yml@refs/tags/v1",
    "workflow_sha": "c" * 40,
    "run_id": "7",
    "run_attempt": "1",
    "repository_visibility": "private",
}


class Scene:
    """An issuer that is known, and whoever judges its tokens."""

    def __init__(self, kind: Any = None, algorithm: str = "ES256") -> None:
        self.clock = StandingClock()
        self.issuer = Foreign(ISSUER, algorithm)
        self.keys = KeySets()
        self.keys.publish(ISSUER, self.issuer.jwk())
        self.verifier = TokenVerifier([Issuer(ISSUER, kind or OwnIssuer())], self.keys, self.clock)

    def claims(self, **changes: Any) -> dict[str, Any]:
        return self.issuer.claims(self.clock.now(), **changes)

    def verify(self, **changes: Any):
        return self.verifier.verify(self.issuer.token(self.claims(**changes)))

    def refused(self, token: str) -> Kind:
        with pytest.raises(SigkitError) as caught:
            self.verifier.verify(token)
        return caught.value.kind


@pytest.fixture
def scene():
    return Scene()


FLIPPED = Scene()


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_token_of_a_listed_issuer_names_its_subject(algorithm):
    named = Scene(algorithm=algorithm).verify()
    assert (named.subject.kind, named.subject.name, named.subject.proof) == ("uri", WORKLOAD, WORKLOAD)
    assert named.extensions == {1: ISSUER, 8: ISSUER, 24: WORKLOAD}


def test_audience_may_be_one_of_several(scene):
    assert scene.verify(aud=["other", "sigstore"]).subject.name == WORKLOAD


def test_times_may_have_fractions_and_be_half_a_minute_off(scene):
    now = scene.clock.now().timestamp()
    assert scene.verify(iat=now + 29.5, nbf=now + 20, exp=now - 29)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({"aud": "other"}, Kind.IDENT, id="another audience"),
        pytest.param({"aud": ["sigstore.example"]}, Kind.IDENT, id="an audience that begins alike"),
        pytest.param({"aud": 7}, Kind.PARSE, id="a number as audience"),
        pytest.param({"aud": None}, Kind.PARSE, id="no audience"),
        pytest.param({"iss": ISSUER + "/"}, Kind.IDENT, id="an issuer with a slash more"),
        pytest.param({"iss": "https://other.example"}, Kind.IDENT, id="another issuer"),
        pytest.param({"exp": 1780315100}, Kind.TIME, id="expired"),
        pytest.param({"exp": None}, Kind.PARSE, id="without an end"),
        pytest.param({"exp": "1780400000"}, Kind.PARSE, id="an end as text"),
        pytest.param({"exp": 10**15}, Kind.PARSE, id="an end beyond all calendars"),
        pytest.param({"iat": 1780315300}, Kind.TIME, id="issued in the future"),
        pytest.param({"iat": None}, Kind.PARSE, id="without a beginning"),
        pytest.param({"nbf": 1780315300}, Kind.TIME, id="not yet valid"),
        pytest.param({"nbf": 1780315100, "iat": 1780315300}, Kind.TIME, id="valid before it was issued"),
        pytest.param({"sub": None}, Kind.PARSE, id="without a subject"),
        pytest.param({"sub": ""}, Kind.IDENT, id="an empty subject"),
        pytest.param({"sub": "job"}, Kind.IDENT, id="a subject that is no URI"),
        pytest.param({"sub": "https://ci.example/\u202e"}, Kind.IDENT, id="a subject that turns the text around"),
        pytest.param({"sub": "https://user@ci.example/"}, Kind.IDENT, id="a subject with a user in its host"),
        pytest.param({"email": PERSON}, Kind.IDENT, id="an e-mail address without a word on it"),
        pytest.param({"email": PERSON, "email_verified": False}, Kind.IDENT, id="an unverified e-mail address"),
        pytest.param({"email": PERSON, "email_verified": "yes"}, Kind.IDENT, id="an e-mail address that is perhaps verified"),
        pytest.param({"email": PERSON, "email_verified": 1}, Kind.IDENT, id="an e-mail address verified by a number"),
        pytest.param({"email": f"{PERSON},x@y", "email_verified": True}, Kind.IDENT, id="two e-mail addresses"),
        pytest.param({"email": "mia", "email_verified": True}, Kind.IDENT, id="no e-mail address"),
    ],
)
def test_token_is_refused_for_its_claims(scene, changes, kind):
    claims = {name: value for name, value in scene.claims(**changes).items() if value is not None}
    assert scene.refused(scene.issuer.token(claims)) is kind


def test_expired_token_is_refused_with_both_times(scene):
    token = scene.issuer.token(scene.claims())
    scene.clock.advance(minutes=11)
    with pytest.raises(SigkitError) as caught:
        scene.verifier.verify(token)
    assert ("2026-06-01T12:10:00Z" in caught.value.expected, "2026-06-01T12:11:00Z" in caught.value.got) == (True, True)


def test_token_from_the_future_is_refused_with_both_times(scene):
    with pytest.raises(SigkitError) as caught:
        scene.verify(iat=int(scene.clock.now().timestamp()) + 120)
    assert ("2026-06-01T12:02:00Z" in caught.value.expected, "2026-06-01T12:00:00Z" in caught.value.got) == (True, True)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"kid": "key-2"}, id="a key that is not published"),
        pytest.param({"alg": "RS256"}, id="an algorithm of another kind of key"),
        pytest.param({"alg": "ES384"}, id="an algorithm that is not accepted"),
        pytest.param({"alg": "none"}, id="none"),
        pytest.param({"alg": "NONE"}, id="none in capitals"),
        pytest.param({"alg": "HS256"}, id="a MAC"),
    ],
)
def test_token_is_refused_for_its_header_as_SIG(scene, header):
    payload = json.dumps(scene.claims()).encode()
    token = by_hand({"alg": "ES256", "kid": "key-1"} | header, payload, lambda _: b"\0" * 64)
    assert scene.refused(token) is Kind.SIG


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_good_signature_by_an_algorithm_that_is_not_accepted_is_refused_as_SIG(algorithm):
    scene = Scene(algorithm="RS256")
    token = jwt.encode(scene.claims(), scene.issuer.key, algorithm, {"kid": "key-1"})
    assert scene.refused(token) is Kind.SIG


@pytest.mark.parametrize("missing", ["alg", "kid"])
def test_token_without_algorithm_or_key_name_is_refused(scene, missing):
    header = {"alg": "ES256", "kid": "key-1"}
    del header[missing]
    assert scene.refused(by_hand(header, json.dumps(scene.claims()).encode(), lambda _: b"\0" * 64)) is Kind.PARSE


@pytest.mark.attack("RFC 8725 section 3.11")
@pytest.mark.parametrize("typ", ["logout+jwt", "secevent+jwt", "dpop+jwt", "application/logout+jwt", "LOGOUT+JWT", "jwt ", "", 7, ["jwt"]])
def test_token_for_another_purpose_is_refused_as_PARSE(scene, typ):
    events: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    header = {"alg": "ES256", "kid": "key-1", "typ": typ}
    prepared = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    token = by_hand(header, json.dumps(scene.claims(events=events)).encode(), lambda signed: prepared.sign(signed, scene.issuer.key))
    assert scene.refused(token) is Kind.PARSE


@pytest.mark.parametrize("typ", ["JWT", "jwt", "JOSE", "at+jwt", "application/at+JWT", None])
def test_identity_token_may_say_its_type(scene, typ):
    assert scene.verifier.verify(scene.issuer.token(scene.claims(), typ=typ)).subject.name == WORKLOAD


def test_signature_by_another_key_is_refused_as_SIG(scene):
    assert scene.refused(Foreign(ISSUER).token(scene.claims())) is Kind.SIG


def test_changed_payload_is_refused_as_SIG(scene):
    header, payload, signature = scene.issuer.token(scene.claims()).split(".")
    other = scene.issuer.token(scene.claims(sub="https://ci.example/other")).split(".")[1]
    assert payload != other
    assert scene.refused(f"{header}.{other}.{signature}") is Kind.SIG


@pytest.mark.parametrize(
    "token",
    ["", "a", "a.b", "a.b.c.d", "..", "é.b.c", "e30.e30.", "bnVsbA.bnVsbA.AA", "e30=.e30=.AA", "eyJhIjoxLCJhIjoyfQ.e30.AA"],
)
def test_what_is_no_token_is_refused_as_PARSE(scene, token):
    assert scene.refused(token) is Kind.PARSE


@pytest.mark.parametrize("note", ["???>>>~~~", "a", "ab", "abc"])
def test_other_alphabet_or_padding_is_refused_as_PARSE(scene, note):
    header, payload, signature = scene.issuer.token(scene.claims(note=note)).split(".")
    for other in {payload.replace("_", "/"), payload.replace("-", "+"), payload + "=" * (-len(payload) % 4), payload + "===="} - {payload}:
        assert scene.refused(f"{header}.{other}.{signature}") is Kind.PARSE


@pytest.mark.parametrize(
    "payload", [b'{"iss":1}', b"[]", b"null", b'{"iss":"a","iss":"b"}', b'{"iss":NaN}', b"\xff", b'{"iss":"' + ISSUER.encode() + b'"']
)
def test_malformed_claims_are_refused_as_PARSE(scene, payload):
    assert scene.refused(scene.issuer.token(payload)) is Kind.PARSE


def test_token_that_is_too_long_is_refused_before_it_is_read(scene):
    with pytest.raises(TooLarge):
        scene.verifier.verify("a." * TOKEN_BYTES)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"kty": "oct", "k": "AAAA"}, id="a MAC's key"),
        pytest.param({"crv": "P-384"}, id="another curve"),
        pytest.param({"use": "enc"}, id="for encryption"),
        pytest.param({"x": "AAAA"}, id="malformed"),
        pytest.param({"alg": "ES384"}, id="of another algorithm"),
        pytest.param({"alg": None}, id="of no algorithm"),
        pytest.param({"key_ops": ["sign"]}, id="for another operation"),
        pytest.param({"key_ops": []}, id="for no operation"),
        pytest.param({"key_ops": "verify"}, id="operations that are no list"),
        pytest.param({"key_ops": {"verify": 1}}, id="operations that are an object"),
    ],
)
def test_published_key_of_another_kind_verifies_nothing(scene, changes):
    scene.keys.publish(ISSUER, scene.issuer.jwk(**changes))
    assert scene.refused(scene.issuer.token(scene.claims())) is Kind.SIG


@pytest.mark.attack("encryption key that signs")
@pytest.mark.parametrize(
    "changes",
    [
        *({"use": None, "alg": algorithm} for algorithm in ("RSA-OAEP", "RSA1_5", "PS256", "RS512", "ES256")),
        *({"use": None, "key_ops": operations} for operations in (["encrypt"], ["wrapKey", "unwrapKey"], ["decrypt"])),
        {"use": "enc"},
    ],
)
def test_key_that_is_published_for_something_else_verifies_nothing(changes):
    scene = Scene(algorithm="RS256")
    published = {name: value for name, value in scene.issuer.jwk(**changes).items() if value is not None}
    scene.keys.publish(ISSUER, published)
    assert scene.refused(scene.issuer.token(scene.claims())) is Kind.SIG


@pytest.mark.parametrize("changes", [{"alg": "RS256"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"], "alg": "RS256"}])
def test_key_that_is_published_for_this_verifies(changes):
    scene = Scene(algorithm="RS256")
    scene.keys.publish(ISSUER, scene.issuer.jwk(**changes))
    assert scene.verify().subject.name == WORKLOAD


def test_private_key_that_an_issuer_publishes_verifies_nothing(scene):
    private = jwt.algorithms.ECAlgorithm.to_jwk(scene.issuer.key, as_dict=True)
    scene.keys.publish(ISSUER, scene.issuer.jwk(d=private["d"]))
    assert scene.refused(scene.issuer.token(scene.claims())) is Kind.SIG


@given(at=st.integers(0, 2000), bit=st.integers(0, 6))
def test_flipped_bit_in_a_token_is_refused(at, bit):
    scene = FLIPPED
    token = bytearray(scene.issuer.token(scene.claims()).encode())
    token[at % len(token)] ^= 1 << bit
    assert scene.refused(token.decode("ascii"))


def test_short_rsa_key_of_an_issuer_verifies_nothing():
    from cryptography.hazmat.primitives.asymmetric import rsa

    scene = Scene(algorithm="RS256")
    scene.issuer.key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    scene.keys.publish(ISSUER, scene.issuer.jwk())
    with pytest.warns(match="below the minimum"):
        token = scene.issuer.token(scene.claims())
    assert scene.refused(token) is Kind.SIG


def test_issuer_of_two_stacks_is_told_apart_by_its_keys(scene):
    other = Foreign("https://other.example", kid="key-1")
    scene.keys.publish(other.url, other.jwk())
    scene.verifier.issuers[other.url] = Issuer(other.url, OwnIssuer())
    assert scene.refused(other.token(scene.claims())) is Kind.SIG


# --- whom a token names


def name(kind: Any, **claims: Any):
    return name_identity(Issuer(ISSUER, kind), Cursor({"sub": "s"} | claims, "$", Place("token")))


def test_person_is_named_by_a_verified_address():
    for verified in (True, "true", "True"):
        named = name(EmailIssuer(), email=PERSON, email_verified=verified)
        assert (named.subject.kind, named.subject.name, named.subject.proof) == ("email", PERSON, PERSON)


@pytest.mark.parametrize(
    ("kind", "claims", "expected"),
    [
        (UriIssuer("https://ci.example"), {"sub": "https://ci.example/a"}, "https://ci.example/a"),
        (SpiffeIssuer("acme.example"), {"sub": "spiffe://acme.example/ns/ci"}, "spiffe://acme.example/ns/ci"),
        (UsernameIssuer("acme.example"), {"sub": "mia"}, "mia!acme.example"),
        (
            KubernetesIssuer(),
            {"kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "builder", "uid": "x"}}},
            "https://kubernetes.io/namespaces/prod/serviceaccounts/builder",
        ),
    ],
)
def test_each_kind_of_issuer_names_by_its_rule(kind, claims, expected):
    named = name(kind, **claims)
    assert named.subject.name == expected
    assert named.subject.proof == claims.get("sub", "s")


@pytest.mark.parametrize(
    ("kind", "claims"),
    [
        (EmailIssuer(), {}),
        (UriIssuer("https://ci.example"), {"sub": "https://ci.example.evil/a"}),
        (UriIssuer("https://ci.example"), {"sub": "http://ci.example/a"}),
        (UriIssuer("https://ci.example"), {"sub": PERSON}),
        (SpiffeIssuer("acme.example"), {"sub": "spiffe://evil.example/ns/ci"}),
        (SpiffeIssuer("acme.example"), {"sub": "https://acme.example/ns/ci"}),
        (UsernameIssuer("acme.example"), {"sub": "mia!evil.example"}),
        (UsernameIssuer("acme.example"), {"sub": PERSON}),
        (KubernetesIssuer(), {"kubernetes.io": {"namespace": "prod/serviceaccounts/root", "serviceaccount": {"name": "x"}}}),
        (KubernetesIssuer(), {}),
    ],
)
def test_issuer_speaks_only_for_whom_it_may(kind, claims):
    with pytest.raises(SigkitError) as caught:
        name(kind, **claims)
    assert caught.value.kind in {Kind.IDENT, Kind.PARSE}


@pytest.mark.parametrize("path", ["", "/ns/ci", "/a.b/.../_c-D"])
def test_SPIFFE_ID_is_certified(path):
    assert name(SpiffeIssuer("acme.example"), sub=f"spiffe://acme.example{path}").subject.name == f"spiffe://acme.example{path}"


@pytest.mark.parametrize(
    "path",
    ["/", "/a/", "/a//b", "/.", "/a/..", "/../a", "/a/./b", "/a%2fb", "/a?x", "/a#y", "/a:b", "/a@b", "/a~", "/a b", "/ö", ":80/a", "/a\n"],
)
def test_what_SPIFFE_forbids_is_not_certified(path):
    with pytest.raises(UnnamableIdentity):
        name(SpiffeIssuer("acme.example"), sub=f"spiffe://acme.example{path}")


@pytest.mark.parametrize("text", ["mia\u202e", "mia\n", "m" * 3000, "\x00"])
def test_text_that_shows_otherwise_is_not_certified(text):
    for kind, claims in (
        (UsernameIssuer("acme.example"), {"sub": text}),
        (EmailIssuer(), {"sub": text, "email": PERSON, "email_verified": True}),
    ):
        with pytest.raises(SigkitError) as caught:
            name(kind, **claims)
        assert caught.value.kind is Kind.IDENT
    with pytest.raises(SigkitError):
        name(OwnIssuer(), sub=WORKLOAD, sourceRepositoryURI=text)


def test_own_tokens_bring_extensions_by_name():
    named = name(
        OwnIssuer(), sub=WORKLOAD, sourceRepositoryURI="https://git.example/acme/app", buildTrigger="push", tokenSubject="x", issuer="y"
    )
    assert named.extensions == {1: ISSUER, 8: ISSUER, 12: "https://git.example/acme/app", 20: "push", 24: WORKLOAD}


def listed(*issuers: Any) -> tuple[Issuer, ...]:
    return parse_issuers(json.dumps({"schema": SCHEMA, "issuers": issuers}).encode(), Place("issuers.json"))


def test_github_job_is_named_as_the_public_instance_names_it():
    (issuer,) = listed({"url": "https://token.actions.githubusercontent.com", "type": "github"})
    named = name(issuer.kind, sub="repo:acme/app", **GITHUB)
    assert named.subject.name == "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
    assert named.subject.proof == "repo:acme/app"
    assert named.extensions[2] == "push"
    assert named.extensions[15] == "1" + "0" * 20
    assert named.extensions[21] == "https://github.com/acme/app/actions/runs/7/attempts/1"
    assert set(named.extensions) == {1, 2, 3, 4, 5, 6, *range(8, 23), 24}
    assert name(issuer.kind, sub="s", **GITHUB, environment="prod").extensions[23] == "prod"


# `url.Parse(x).String()` of Go 1.26.8 for x = "https://ci.example/" and what stands left.
WRITTEN_BY_GO = {
    "acme/r.yml@refs/heads/größe": "acme/r.yml@refs/heads/gr%C3%B6%C3%9Fe",
    "a b": "a%20b",
    'say "hi"': "say%20%22hi%22",
    "fix#12": "fix#12",
    "fix#12#13": "fix#12%2313",
    "fix#ö'": "fix#%C3%B6%27",
    "a?b": "a?b",
    "a?b#c": "a?b#c",
    "a?": "a?",
    "a#b?c": "a#b?c",
    "a#b#": "a#b%23",
    "it's": "it's",
    "it's ö": "it%27s%20%C3%B6",
    "a[1]": "a[1]",
    "a[1] b": "a%5B1%5D%20b",
    "<a>": "%3Ca%3E",
    "a\\b": "a%5Cb",
    "a^b`c": "a%5Eb%60c",
    "{a}|b": "%7Ba%7D%7Cb",
    "a~b_c.d-e": "a~b_c.d-e",
    "!$&()*+,;=:@/": "!$&()*+,;=:@/",
    "日本語👩": "%E6%97%A5%E6%9C%AC%E8%AA%9E%F0%9F%91%A9",
    "..": "..",
    "a//b.yml@refs/tags/v1": "a//b.yml@refs/tags/v1",
}
# What Go cannot read, writes as it would another name, or puts into a certificate as no URI has it.
WRITTEN_BY_NOBODY = ["50%off", "50%", "%C3%B6", "a%20b", "main#", "a?b c", "a?ö", 'a?"', "a\tb", "a\x7f", "👩\u200d💻", "a\u202e"]


JOBS = CiIssuer("https://ci.example/{job}", {19: "{job}"})


@pytest.mark.parametrize("job", WRITTEN_BY_GO)
def test_job_is_named_as_Go_writes_its_URI_and_its_claims_stay_as_they_are(job):
    named = name(JOBS, job=job)
    assert (named.subject.name, named.extensions[19]) == (f"https://ci.example/{WRITTEN_BY_GO[job]}", job)


@pytest.mark.attack("two jobs of one name")
@pytest.mark.parametrize("job", WRITTEN_BY_NOBODY)
def test_job_that_has_no_URI_of_its_own_is_not_named(job):
    with pytest.raises(UnnamableIdentity):
        name(JOBS, job=job)


HOSTS = ("ci.example", "ci_x.example", "CI.example:8443", "127.0.0.1", "[::1]", "[::ffff:192.0.2.1]:80")
NO_HOSTS = (
    *("", "a..b", ".a", "h.", "h:", "h:port", "h:80:90", "[abc", "[::1", "[192.0.2.1]", "[1::2::3]", "[::1]x", "[fe80::1%25en0]"),
    *("ü.example", "a b", "a%41", f"{'a.' * 127}example", "user@ci.example"),
)
NO_PATHS = ("50%off", "50%", "%z0", "a?%", "a#%zz", "a#", '"', "<a>", "a\\b", "a^b", "{a}", "a b", "ö", "a#b#c")


# Go 1.26.8 (crypto/x509, net/url) reads each of these from a certificate, and writes it again as it stands there.
@pytest.mark.parametrize("uri", [f"https://{host}/a%20b?c=%2F#d" for host in HOSTS] + ["https://ci.example", "spiffe://acme.example/a"])
def test_URI_that_Go_writes_alike_is_certified(uri):
    assert name(OwnIssuer(), sub=uri).subject.name == uri


@pytest.mark.parametrize(
    "uri",
    [
        *(f"https://{host}/a" for host in NO_HOSTS),
        *(f"https://ci.example/{path}" for path in NO_PATHS),
        *("https://ci.example?a", "https://ci.example#a", "HTTPS://ci.example/", "https:/ci.example/", "ci.example/a", "https:ci.example"),
    ],
)
def test_URI_that_Go_refuses_or_writes_otherwise_is_not_certified(uri):
    with pytest.raises(UnnamableIdentity):
        name(OwnIssuer(), sub=uri)


@pytest.mark.parametrize("host", NO_HOSTS)
def test_job_is_not_named_on_a_host_that_is_none(host):
    with pytest.raises(UnnamableIdentity):
        name(CiIssuer("https://{host}/{job}", {}), host=host, job="a")


def test_missing_claim_of_a_template_is_refused_as_IDENT():
    (issuer,) = listed({"url": ISSUER, "type": "github", "web": "https://github.acme.example"})
    for claim in GITHUB:
        with pytest.raises(SigkitError) as caught:
            name(issuer.kind, **{key: value for key, value in GITHUB.items() if key != claim})
        assert caught.value.kind is Kind.IDENT


GITLAB = {
    "ci_config_ref_uri": "gitlab.acme.example/a/b//.gitlab-ci.yml@refs/heads/main",
    "ref_path": "refs/heads/main",
    **dict.fromkeys(("ci_config_sha", "runner_environment", "sha", "project_id", "namespace_id", "job_id"), "1"),
    **dict.fromkeys(("project_path", "namespace_path", "pipeline_source", "project_visibility"), "a/b"),
}


def test_gitlab_of_ones_own_is_named_at_its_own_url():
    (issuer,) = listed({"url": "https://gitlab.acme.example", "type": "gitlab"})
    named = name(issuer.kind, **GITLAB)
    assert named.subject.name == "https://gitlab.acme.example/a/b//.gitlab-ci.yml@refs/heads/main"
    assert named.extensions[12] == "https://gitlab.acme.example/a/b"
    assert named.extensions[14] == "refs/heads/main"


# As GitLab's `Settings.build_server_fqdn` writes it: the port if it is not the scheme's own, and the path.
@pytest.mark.parametrize("site", ["acme.example", "acme.example:9090", "acme.example/gitlab", "acme.example:9090/gitlab"])
def test_gitlab_at_a_port_or_below_a_path_is_named_there(site):
    (issuer,) = listed({"url": f"https://{site}", "type": "gitlab"})
    uri = f"{site}/a/b//.gitlab-ci.yml@refs/heads/main"
    assert name(issuer.kind, **GITLAB | {"ci_config_ref_uri": uri}).subject.name == f"https://{uri}"


@pytest.mark.attack("issuer that speaks for another's site")
@pytest.mark.parametrize("type_", ["github", "buildkite", "circleci"])
@pytest.mark.parametrize(
    "url", ["https://ghe.acme.example/_services/token", "https://github.com", "https://token.actions.githubusercontent.com.evil.example"]
)
def test_provider_of_ones_own_does_not_speak_for_the_public_site(type_, url):
    with pytest.raises(WrongShape) as caught:
        listed({"url": url, "type": type_})
    assert caught.value.place.inside == "$.issuers[0]"


@pytest.mark.attack("issuer that speaks for another's site")
@pytest.mark.parametrize("site", ["gitlab.com", "gitlab.acme.example.evil.example", "gitlab.acme.example:444", "gitlab.acme.exampl"])
def test_gitlab_of_ones_own_names_no_job_of_another(site):
    (issuer,) = listed({"url": "https://gitlab.acme.example", "type": "gitlab"})
    with pytest.raises(UnnamableIdentity):
        name(issuer.kind, **GITLAB | {"ci_config_ref_uri": f"{site}/a/b//.gitlab-ci.yml@refs/heads/main"})


@pytest.mark.parametrize(
    ("entry", "site"),
    [
        ({"url": "https://token.actions.githubusercontent.com/acme", "type": "github"}, "https://github.com/acme/app/"),
        (
            {"url": "https://ghe.acme.example/_services/token", "type": "github", "web": "https://ghe.acme.example/"},
            "https://ghe.acme.example/",
        ),
        ({"url": "https://agent.buildkite.com", "type": "buildkite"}, "https://buildkite.com/acme/"),
        (
            {"url": "https://gitlab.acme.example", "type": "gitlab", "web": "https://gitlab.acme.example"},
            "https://gitlab.acme.example/a/b/",
        ),
    ],
)
def test_provider_s_own_issuer_speaks_for_its_site_and_another_for_what_the_operator_says(entry, site):
    claims = GITHUB | GITLAB | dict.fromkeys(("organization_slug", "pipeline_slug", "build_number", "build_commit", "build_source"), "acme")
    named = name(listed(entry)[0].kind, **claims)
    assert named.subject.name.startswith(site)
    assert named.extensions[21].startswith(site)


@pytest.mark.parametrize("web", ["https://h/a?b", "https://h/a%20b", "https://h/{web}", "https://h/a^b", "https://h./", "h", "https://u@h"])
def test_web_that_begins_no_name_is_refused(web):
    with pytest.raises(SigkitError) as caught:
        listed({"url": ISSUER, "type": "github", "web": web})
    assert caught.value.place.inside == "$.issuers[0].web"


CIRCLECI = {
    f"oidc.circleci.com/{claim}": claim
    for claim in ("project-id", "pipeline-definition-id", "pipeline-id", "workflow-id", "job-id", "vcs-ref", "vcs-origin", "ssh-rerun")
}


# By hand out of config/identity/config.yaml of Fulcio 1.8.8.
def test_circleci_job_is_named_as_the_public_instance_names_it_but_for_an_empty_runner():
    (issuer,) = listed({"url": "https://oidc.circleci.com", "type": "circleci"})
    named = name(issuer.kind, **CIRCLECI)
    definition = "https://circleci.com/api/v2/projects/project-id/pipeline-definitions/pipeline-definition-id"
    assert named.subject.name == definition
    assert {number: text for number, text in named.extensions.items() if number not in {1, 8, 24}} == {
        9: definition,
        12: "vcs-origin",
        14: "vcs-ref",
        18: "https://circleci.com/api/v2/pipeline/pipeline-id/config",
        21: "https://app.circleci.com//workflow/workflow-id/job/job-id",
    }


def test_circleci_of_ones_own_names_nothing_of_the_public_site():
    (issuer,) = listed({"url": "https://circle.acme.example", "type": "circleci", "web": "https://circle.acme.example/api/v2"})
    named = name(issuer.kind, **CIRCLECI)
    assert not [text for text in (named.subject.name, *named.extensions.values()) if "circleci.com" in text]


def test_list_takes_every_type():
    found = listed(
        {"url": "https://a.example", "type": "email", "audience": "other"},
        {"url": "https://b.example", "type": "uri", "subjectDomain": "https://b.example"},
        {"url": "https://c.example", "type": "username", "subjectDomain": "c.example"},
        {"url": "https://d.example", "type": "spiffe", "trustDomain": "d.example"},
        {"url": "https://e.example", "type": "kubernetes", "caFile": "/etc/ca.crt"},
        {"url": "https://f.example", "type": "ci", "subject": "https://f.example/{job}", "extensions": {"buildTrigger": "{event}"}},
        {"url": "https://g.example", "type": "buildkite", "web": "https://kite.example"},
        {"url": "https://h.example", "type": "circleci", "web": "https://circle.example/api"},
    )
    assert [issuer.url for issuer in found] == [f"https://{letter}.example" for letter in "abcdefgh"]
    assert [issuer.audience for issuer in found[:2]] == ["other", "sigstore"]
    assert [issuer.ca_file for issuer in found] == ["", "", "", "", "/etc/ca.crt", "", "", ""]
    assert name(found[5].kind, job="build", event="push").extensions[20] == "push"


@pytest.mark.parametrize(
    "issuers",
    [
        pytest.param([{"url": ISSUER, "type": "emial"}], id="an unknown type"),
        pytest.param([{"url": ISSUER, "type": "email"}] * 2, id="one twice"),
        pytest.param([{"url": ISSUER, "type": "email", "subjectDomain": "x"}], id="a member of another type"),
        pytest.param([{"url": ISSUER, "type": "uri"}], id="without its domain"),
        pytest.param([{"url": ISSUER, "type": "uri", "subjectDomain": "https://a/b"}], id="a domain with a path"),
        pytest.param([{"url": "issuer", "type": "email"}], id="no URL"),
        pytest.param([{"url": ISSUER, "type": "email", "caFile": "ca.crt"}], id="a relative path"),
        pytest.param([{"url": ISSUER, "type": "ci", "subject": "https://x/{a}", "extensions": {"issuer": "y"}}], id="another's issuer"),
        pytest.param(
            [{"url": ISSUER, "type": "ci", "subject": "https://x/{a}", "extensions": {"tokenSubject": "y"}}], id="another subject"
        ),
        pytest.param([{"url": ISSUER, "type": "ci", "subject": "https://x/{team}{job}"}], id="two claims in one"),
        pytest.param({}, id="no list"),
    ],
)
def test_list_that_is_wrong_is_refused(issuers):
    with pytest.raises(SigkitError):
        parse_issuers(json.dumps({"schema": SCHEMA, "issuers": issuers}).encode(), Place("issuers.json"))


NO_SUBJECTS = (
    *("", "x", "{", "https://x/{job", "https://x/job}", "https://x/{{job}}", "https://x/{}", "https://x/{a}/50%", "https://x/%41/{a}"),
    *("/{job}", "https://x/{a}?b c", "https:///{job}", "https://x#{job}", "https://{a}..x/", "https://x/{a}#", "HTTPS://x/{a}"),
)
SUBJECTS = (
    *("https://{team}.ci.example:{port}/{job}?{a}#{b}", "{job_url}", "{site}/{job}", "https://ci.example/static", "https://[::1]/{a}"),
    *("x-ci://{job}/a b/ö", "https://ci.example/{job?}"),
)


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"url": "http://ci.example", "type": "email"}, "url"),
        ({"url": "http://10.0.0.1:8080", "type": "email"}, "url"),
        ({"url": "https://ci.example/?realm=x", "type": "email"}, "url"),
        ({"url": "https://ci.example/#x", "type": "email"}, "url"),
        ({"type": "email", "audience": ""}, "audience"),
        *(
            ({"type": type_, member: domain}, member)
            for type_, member in (("username", "subjectDomain"), ("spiffe", "trustDomain"))
            for domain in ("", "a\nb", "a..b", ".a", "a.", "https://a", "spiffe://a", "a/b", "a:80", "a!b", "ö.example", "a b")
        ),
        ({"type": "spiffe", "trustDomain": "Acme.example"}, "trustDomain"),
        *(
            ({"type": "uri", "subjectDomain": domain}, "subjectDomain")
            for domain in ("", "a", "https://a.", "https://a..b", "https://a?b", "//a")
        ),
        *(({"type": "ci", "subject": subject}, "subject") for subject in NO_SUBJECTS),
        ({"type": "ci", "subject": "https://x/{job}", "extensions": {"buildTrigger": "{unclosed"}}, "extensions.buildTrigger"),
    ],
)
def test_entry_that_can_never_work_is_refused_with_its_place(entry, where):
    with pytest.raises(SigkitError) as caught:
        listed({"url": "https://a.example", "type": "email"}, {"url": ISSUER} | entry)
    assert (caught.value.place.source, caught.value.place.inside) == ("issuers.json", f"$.issuers[1].{where}")


def test_entry_on_loopback_may_do_without_TLS():
    urls = ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:80", "http://ci.localhost")
    assert [issuer.url for issuer in listed(*({"url": url, "type": "email"} for url in urls))] == list(urls)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_subject_that_some_claims_make_a_URI_is_taken(subject):
    assert listed({"url": ISSUER, "type": "ci", "subject": subject})


@pytest.mark.parametrize("url", ["https://stack.example", "https://stack.example/"])
def test_stack_s_own_issuer_is_in_no_list(url):
    raw = json.dumps({"schema": SCHEMA, "issuers": [{"url": url, "type": "email"}]}).encode()
    assert parse_issuers(raw, Place("issuers.json"))
    with pytest.raises(WrongShape) as caught:
        parse_issuers(raw, Place("issuers.json"), "https://stack.example")
    assert caught.value.place.inside == "$.issuers[0].url"


@pytest.mark.attack("two jobs of one name")
@pytest.mark.parametrize(
    ("template", "claims"),
    [
        ("https://ci.example/{team}/{job}", {"team": "acme/release", "job": "prod"}),
        ("https://ci.example/{team}-{job}", {"team": "acme-release", "job": "prod"}),
        ("https://{team}.ci.example/{job}", {"team": "evil.example/x?", "job": "prod"}),
    ],
)
def test_no_claim_moves_into_the_place_of_the_next(template, claims):
    (issuer,) = listed({"url": "https://f.example", "type": "ci", "subject": template})
    assert name(issuer.kind, **claims | {"team": "acme", "job": "release/prod"}).subject.name == template.format(
        team="acme", job="release/prod"
    )
    with pytest.raises(UnnamableIdentity, match="team"):
        name(issuer.kind, **claims)


def test_unknown_issuer_is_named_in_the_refusal(scene):
    with pytest.raises(UnknownIssuer) as caught:
        scene.verify(iss="https://other.example")
    assert caught.value.got == "https://other.example"
