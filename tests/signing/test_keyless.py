"""A keyless session from end to end, against the simulated instance, and everything that can be wrong in it."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sigkit import limits
from sigkit.errors import (
    BadSct,
    BadTimestamp,
    ClockSkew,
    NoAttestedTime,
    NoServiceAnswered,
    NotAgreed,
    OtherEntry,
    OtherIdentityCertified,
    OtherKeyCertified,
    OutsideCertificate,
    Place,
    RequestRefused,
    ServerFailed,
    ServiceNotTrusted,
    SigkitError,
    TimeInFuture,
    TokenExpired,
    TokenNotTaken,
    TooLarge,
    UnsupportedKey,
    UntrustedCertificate,
)
from sigkit.evidence.bundle import CertificateMaterial, parse_bundle
from sigkit.keys.private import generate, parse_private_key
from sigkit.signing.blob import attest_file, sign_file
from sigkit.signing.keyed import BESIDE_BYTES
from sigkit.signing.predicate import Predicate
from sigkit.verify.facts import IdentitySigner, KeySigner, TimeKind
from tests.simulators import der
from tests.simulators.sessions import HERE, Session
from tests.simulators.sigstore_authorities import Tsa, new_key
from tests.simulators.sigstore_services import SUBJECT, _Public

CONTENT = b"the file"
LATER = "2026-02-01T00:00:00Z"


@pytest.fixture
def session():
    with Session.open() as opened:
        yield opened


def sign(session, config=None, **claims):
    with session.signatory(config, **claims) as signatory:
        return sign_file(CONTENT, signatory, session.time)


def service(session, path, version=1, **more):
    return session.server.instance.service(path, version, **more)


def v1(session):
    return {"rekorTlogUrls": [service(session, "/log1", 1)]}


def nothing_was_logged(session) -> bool:
    return not session.server.sim.log1.leaves[5:] and not session.server.sim.log2.leaves[5:]


# --- what a good session makes


@pytest.mark.parametrize("generation", [1, 2])
def test_an_identity_signs_and_log_and_timestamp_vouch_for_it(session, generation):
    signed = sign(session, v1(session) if generation == 1 else None)
    signer = signed.facts.signer.signer
    assert isinstance(signer, IdentitySigner)
    assert (signer.subject, signer.issuer) == (SUBJECT, session.server.instance.issuer)
    assert [fact.log for fact in signed.facts.inclusions] == [f"https://log{generation}.example"]
    kinds = {fact.kind for fact in signed.facts.times}
    assert kinds == {TimeKind.TIMESTAMP, TimeKind.INTEGRATED} if generation == 1 else {TimeKind.TIMESTAMP}
    assert signed.facts.certificate_logs
    assert signed.facts.unchecked == ()


def test_the_bundle_holds_the_leaf_alone_one_entry_and_one_timestamp(session):
    bundle = parse_bundle(sign(session).bundle, limits.DEFAULT, Place("b"))
    assert isinstance(bundle.material, CertificateMaterial)
    assert (len(bundle.material.chain), len(bundle.entries), len(bundle.timestamps)) == (1, 1, 1)


def test_each_signature_has_a_key_of_its_own(session):
    keys = set()
    for _ in range(2):
        material = parse_bundle(sign(session).bundle, limits.DEFAULT, Place("b")).material
        assert isinstance(material, CertificateMaterial)
        certificate = x509.load_der_x509_certificate(material.chain[0])
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        keys.add(certificate.public_key().public_bytes(serialization.Encoding.DER, form))
    assert len(keys) == 2


def test_the_token_goes_to_the_authority_alone(session):
    sign(session)
    assert [seen.path for seen in session.server.log if "authorization" in seen.headers] == ["/ca/api/v2/signingCert"]


def test_what_becomes_public_is_told_before_anything_is_sent(session):
    def refuse(publication):
        assert session.server.log == []
        assert (publication.who, publication.issuer) == ("a@acme.example", session.server.instance.issuer)
        assert [url.rpartition("/")[2] for url in publication.services] == ["ca", "log2"]
        raise NotAgreed("no")

    session.told.agree = refuse
    with pytest.raises(NotAgreed):
        sign(session, email="a@acme.example", email_verified=True)
    assert session.server.log == []


def test_a_statement_larger_than_evidence_may_be_is_refused_as_LIMIT_before_anything_is_public(session):
    predicate = Predicate("https://example.com/t", {"a": "x" * 2_000})
    with session.signatory() as signatory, pytest.raises(TooLarge):
        attest_file(CONTENT, "file", predicate, signatory, session.time, limits.Limits(bundle_bytes=2_000))
    assert session.server.log == []


def test_what_comes_beside_a_statement_is_well_below_the_room_that_is_kept_for_it(session):
    predicate = Predicate("https://example.com/t", {"a": "x" * 30_000})
    with session.signatory() as signatory:
        attested = attest_file(CONTENT, "file", predicate, signatory, session.time)
    assert 40_000 < len(attested.bundle) < 40_000 + BESIDE_BYTES / 4


def test_where_else_it_may_become_public_is_told_too(session):
    sign(session, two_of(session, "rekorTlogUrls", "/log2", 2))
    (publication,) = session.told.published
    assert [url.rpartition("/")[2] for url in (*publication.services, *publication.spare)] == ["ca", "log2", "log2-b"]
    assert len(publication.spare) == 1


def test_of_one_server_that_does_two_things_is_told_once(session):
    """Services of a stack have one URL."""
    config = two_of(session, "caUrls", "/ca", 1) | two_of(session, "rekorTlogUrls", "/log2", 2)
    config["rekorTlogUrls"][1]["url"] = config["caUrls"][1]["url"]
    sign(session, config)
    (publication,) = session.told.published
    assert len(publication.spare) == len(set(publication.spare))


@pytest.mark.parametrize(
    ("claims", "subject", "kind"),
    [
        ({"email": "a@acme.example", "email_verified": True, "sub": "x"}, "a@acme.example", "email"),
        ({"sub": "spiffe://acme.example/builder"}, "spiffe://acme.example/builder", "uri"),
        (
            {"sub": "repo:acme/app", "job_workflow_ref": "acme/app/w.yml@main", "san": "https://github.com/acme/app/w.yml@main"},
            "https://github.com/acme/app/w.yml@main",
            "uri",
        ),
        (
            {
                "sub": "p",
                "ci_config_ref_uri": "gitlab.example/acme/app//.gitlab-ci.yml@main",
                "san": "https://gitlab.example/acme/app//.gitlab-ci.yml@main",
            },
            "https://gitlab.example/acme/app//.gitlab-ci.yml@main",
            "uri",
        ),
        (
            {"sub": "o", "organization_slug": "acme", "pipeline_slug": "app", "san": "https://buildkite.com/acme/app"},
            "https://buildkite.com/acme/app",
            "uri",
        ),
    ],
)
def test_the_certificates_name_is_made_of_what_the_token_says(session, claims, subject, kind):
    signer = sign(session, **claims).facts.signer.signer
    assert isinstance(signer, IdentitySigner)
    assert (signer.subject, signer.kind) == (subject, kind)


# --- services that fail, and the next one


def two_of(session, member, path, version=1):
    """Return a config with two services of a kind: the one at PATH-b is older, so it is asked second."""
    first = service(session, path, version, operator="one", start=LATER)
    name, _, rest = path.removeprefix("/").partition("/")
    second = service(session, f"/{name}-b{'/' + rest if rest else ''}", version, operator="two")
    return {member: [second, first]}


KINDS = [("caUrls", "/ca", 1), ("rekorTlogUrls", "/log2", 2), ("rekorTlogUrls", "/log1", 1), ("tsaUrls", "/tsa/api/v1/timestamp", 1)]


@pytest.mark.parametrize(("member", "path", "version"), KINDS)
@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_where_one_service_fails_the_next_is_asked_and_that_is_said(session, member, path, version, status):
    first = path.split("/")[1]
    session.patience_s = 3
    session.server.on("*", f"/{first}/*").status(status, body=b'{"message":"no \x1b[31mroom"}'.replace(b"\x1b", b"\\u001b"))
    assert sign(session, two_of(session, member, path, version)).facts.inclusions
    ((url, err),) = session.told.passed
    assert url.endswith(path)
    assert str(status) in err.problem + err.got


@pytest.mark.parametrize(("member", "path", "version"), KINDS)
@pytest.mark.parametrize("status", [400, 503])
def test_where_the_last_one_fails_too_nothing_is_made(session, member, path, version, status):
    first = path.split("/")[1]
    session.patience_s = 3
    session.server.on("*", f"/{first}*").status(status, body=b'{"message":"closed"}')
    refuses_the_token = (member, status) == ("caUrls", 400)
    with pytest.raises(TokenNotTaken if refuses_the_token else NoServiceAnswered) as caught:
        sign(session, two_of(session, member, path, version))
    assert "closed" in caught.value.problem
    assert caught.value.status() == (1 if refuses_the_token else 3)


@pytest.mark.parametrize(("member", "path", "version"), KINDS)
def test_a_service_that_is_away_is_not_waited_for_long_where_another_can_be_asked(session, member, path, version):
    session.server.on("*", f"/{path.split('/')[1]}/*").status(503)
    sign(session, two_of(session, member, path, version))
    assert 0 < sum(seconds for _, _, seconds in session.told.waits) <= 20


def test_the_last_that_can_be_asked_is_waited_for_as_long_as_was_said(session):
    session.server.on("*", "/tsa/*").status(503)
    with pytest.raises(ServerFailed):
        sign(session)
    assert 60 < sum(seconds for _, _, seconds in session.told.waits) <= 120


def test_what_a_service_refuses_is_not_sent_again_and_its_words_are_handed_on(session):
    session.server.on("POST", "/log2/*").status(400, body=b'{"code":3,"message":"invalid type","details":[]}')
    with pytest.raises(RequestRefused) as caught:
        sign(session)
    assert "invalid type" in caught.value.problem
    assert session.asked("/log2") == 1
    assert session.told.waits == []


def test_two_logs_must_answer_where_the_config_says_two(session):
    logs = [service(session, "/log1", 1, operator="one"), service(session, "/log1-b", 1, operator="two")]
    exact = {"rekorTlogUrls": logs, "rekorTlogConfig": {"selector": "EXACT", "count": 2}}
    with pytest.raises(ServiceNotTrusted, match="vouches already"):  # both are one log of the trusted root: the entry counts once
        sign(session, exact)
    assert [session.asked(path) for path in ("/log1/", "/log1-b/")] == [1, 2]  # 409, and then the entry that is there
    session.server.on("*", "/log1-b/*").status(400)
    with pytest.raises(NoServiceAnswered):
        sign(session, exact)


def test_every_authority_must_answer_where_the_config_says_all(session):
    second = Tsa(session.server.sim.clock).trusted() | {"uri": "https://tsa-b.example", "operator": "two"}

    def of_two(root):
        return root | {"timestampAuthorities": [*root["timestampAuthorities"], second]}

    session.server.sim.change["root"] = of_two
    config = two_of(session, "tsaUrls", "/tsa/api/v1/timestamp") | {"tsaConfig": {"selector": "ALL"}}
    session.server.on("*", "/tsa-b/*").status(503)
    session.patience_s = 3
    with pytest.raises(NoServiceAnswered):
        sign(session, config)
    assert nothing_was_logged(session)


def test_an_instance_without_a_log_vouches_by_a_timestamp_alone(session):
    signed = sign(session, {"rekorTlogUrls": None, "rekorTlogConfig": None})
    assert (signed.facts.inclusions, len(signed.facts.times)) == ((), 1)


def test_identities_need_a_time_and_that_is_said_before_anything_is_sent(session):
    with pytest.raises(NoAttestedTime):
        sign(session, {"tsaUrls": None, "tsaConfig": None})
    assert session.server.log == []
    assert sign(session, {"tsaUrls": None, "tsaConfig": None} | v1(session)).facts.times


# --- tokens and certificates


def test_a_token_that_has_expired_is_sent_to_nobody(session):
    with session.signatory() as signatory:
        session.time.sleep(301)
        with pytest.raises(TokenExpired):
            sign_file(CONTENT, signatory, session.time)
    assert session.server.log == []


def test_a_token_that_the_authority_does_not_take_is_refused_in_its_words(session):
    session.server.instance.issuer_key = new_key()
    token = session.server.instance.token
    session.server.instance.token = lambda **claims: token(**claims)[:-4] + "AAAA"
    with pytest.raises(TokenNotTaken) as caught:
        sign(session)
    assert caught.value.status() == 1
    assert "There was an error processing the identity token" in caught.value.problem
    assert nothing_was_logged(session)


@pytest.mark.attack("another's certificate at signing")
def test_a_certificate_for_another_key_is_refused_as_BIND(session):
    session.server.instance.change["certified key"] = lambda _: new_key()
    with pytest.raises(OtherKeyCertified):
        sign(session)
    assert session.asked("/tsa") == session.asked("/log2") == 0


@pytest.mark.attack("another's certificate at signing")
def test_a_certificate_for_another_identity_is_refused_as_IDENT(session):
    def other(ca):
        ca.names = [x509.UniformResourceIdentifier("https://git.example/evil/app/w.yml@refs/heads/main")]

    session.server.instance.change["certificate"] = other
    with pytest.raises(OtherIdentityCertified):
        sign(session)
    assert session.asked("/log2") == 0


@pytest.mark.attack("another's certificate at signing")
@pytest.mark.parametrize(
    "san", ["https://github.com/evil/app/w.yml@refs/heads/main", "https://evil.example/x/acme", "acme/app", "repo:acme/app2"]
)
def test_a_name_that_only_ends_like_a_claim_is_another_identity(session, san):
    def other(ca):
        ca.names = [x509.UniformResourceIdentifier(san)]

    session.server.instance.change["certificate"] = other
    with pytest.raises(OtherIdentityCertified):
        sign(session, sub="repo:acme/app", base_ref="main", owner="acme", workflow_ref="acme/app/w.yml@refs/heads/main")


GITHUB = {"sub": "repo:acme/app:ref", "job_workflow_ref": "acme/app/w.yml@main", "actor": "ceo", "repository": "acme/app"}


@pytest.mark.attack("another identity than was told")
@pytest.mark.parametrize(
    ("claims", "name", "told"),
    [
        pytest.param(
            {"email": "mia@acme.example", "email_verified": True, "preferred": "ceo"},
            x509.UniformResourceIdentifier("https://acme.example/ceo"),
            "mia@acme.example",
            id="a claim in place of the address",
        ),
        pytest.param(
            {"email": "mia@acme.example", "email_verified": True, "sub": "https://acme.example/mia"},
            x509.UniformResourceIdentifier("https://acme.example/mia"),
            "mia@acme.example",
            id="the subject in place of the address",
        ),
        pytest.param(
            {"email": "mia@acme.example", "email_verified": True},
            x509.RFC822Name("ceo@acme.example"),
            "mia@acme.example",
            id="another address",
        ),
        pytest.param(GITHUB, x509.UniformResourceIdentifier("https://github.com/ceo"), "acme/app/w.yml@main", id="another claim of a job"),
        pytest.param(GITHUB, x509.UniformResourceIdentifier("https://github.com/acme/app"), "repo:acme/app:ref", id="a job's repository"),
    ],
)
def test_a_certificate_for_another_identity_than_was_told_is_refused_before_anything_is_logged(session, claims, name, told):
    def other(ca):
        ca.names = [name]

    session.server.instance.change["certificate"] = other
    with pytest.raises(OtherIdentityCertified) as caught:
        sign(session, **claims)
    assert told in caught.value.expected
    assert caught.value.got == name.value
    assert session.asked("/tsa") == session.asked("/log2") == 0


OF_GITHUB = GITHUB | {"iss": "https://token.actions.githubusercontent.com"}
OF_GITLAB = {"sub": "project_path:acme/app", "ci_config_ref_uri": "gitlab.example/acme/app//.gitlab-ci.yml@main"}


@pytest.mark.attack("host of a job's name")
@pytest.mark.parametrize(
    ("claims", "name"),
    [
        pytest.param(OF_GITHUB, "https://evil.example/acme/app/w.yml@main", id="GitHub"),
        pytest.param(OF_GITHUB, "https://github.com.evil.example/acme/app/w.yml@main", id="a longer host"),
        pytest.param(OF_GITHUB, "http://github.com/acme/app/w.yml@main", id="another scheme"),
        pytest.param(OF_GITHUB, "https://evil.example/repo:acme/app:ref", id="the subject at another host"),
        pytest.param(OF_GITHUB | {"iss": f"{OF_GITHUB['iss']}/acme"}, "https://evil.example/acme/app/w.yml@main", id="an enterprise's"),
        pytest.param(OF_GITLAB, "https://evil.example/gitlab.example/acme/app//.gitlab-ci.yml@main", id="GitLab"),
    ],
)
@pytest.mark.parametrize("subject", [None, "the token's"])
def test_a_job_of_github_or_gitlab_is_named_at_its_own_host_only(session, claims, name, subject):
    def other(ca):
        ca.names = [x509.UniformResourceIdentifier(name)]
        if subject:
            ca.extensions = ca.extensions | {24: der.utf8(claims["sub"])}

    session.server.instance.change["certificate"] = other
    with pytest.raises(OtherIdentityCertified) as caught:
        sign(session, **claims)
    assert caught.value.got == name
    assert session.asked("/tsa") == session.asked("/log2") == 0


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        pytest.param(OF_GITHUB, "https://github.com/acme/app/w.yml@main", id="GitHub"),
        pytest.param(OF_GITHUB | {"iss": f"{OF_GITHUB['iss']}/acme"}, "https://github.com/acme/app/w.yml@main", id="an enterprise's"),
        pytest.param(GITHUB, "https://git.acme.example/acme/app/w.yml@main", id="a server of one's own, or Forgejo"),
        pytest.param(
            GITHUB | {"iss": f"{OF_GITHUB['iss']}.acme.example"}, "https://git.acme.example/acme/app/w.yml@main", id="a longer issuer"
        ),
        pytest.param(OF_GITLAB, "https://gitlab.example/acme/app//.gitlab-ci.yml@main", id="GitLab"),
        pytest.param(
            OF_GITHUB | {"job_workflow_ref": "acme/app/my build.yml@gr\u00f6\u00dfe"},
            "https://github.com/acme/app/my%20build.yml@gr%C3%B6%C3%9Fe",
            id="what has to be escaped",
        ),
    ],
)
def test_a_job_is_named_at_the_host_of_its_server(session, claims, name):
    assert sign(session, **claims, san=name).facts.signer.signer.subject == name


@pytest.mark.attack("another identity than was told")
def test_the_user_name_that_a_certificate_may_have_is_told_beside_the_address(session):
    sign(session, email="mia@acme.example", email_verified=True, sub="u-4711")
    sign(session, email="mia@acme.example", email_verified=True, sub="mia@acme.example")
    told = [(publication.who, publication.user_name) for publication in session.told.published]
    assert told == [("mia@acme.example", "u-4711"), ("mia@acme.example", "")]


def test_a_job_is_told_by_the_name_that_its_certificate_will_have(session):
    sign(session, **GITHUB, san="https://github.com/acme/app/w.yml@main")
    (publication,) = session.told.published
    assert (publication.who, publication.job) == ("repo:acme/app:ref", "acme/app/w.yml@main")


@pytest.mark.attack("another's certificate at signing")
def test_a_certificate_that_names_another_issuer_is_refused_as_IDENT(session):
    def other(ca):
        ca.extensions = {1: b"https://evil.example"}

    session.server.instance.change["certificate"] = other
    with pytest.raises(OtherIdentityCertified) as caught:
        sign(session)
    assert caught.value.got == "https://evil.example"


def test_a_certificate_by_a_stranger_is_refused_as_ROOT(session):
    from tests.simulators.sigstore_authorities import Authority

    root = session.server.sim.root()
    session.server.sim.ca = Authority(session.server.sim.clock, session.server.sim.ct, "sim")
    session.server.sim.root = lambda: root
    with pytest.raises(UntrustedCertificate):
        sign(session)


def test_a_promise_of_a_certificate_log_that_is_not_valid_is_refused_as_TLOG(session):
    session.server.sim.ct.change["promise"] = lambda message: message + b"x"
    with pytest.raises(BadSct):
        sign(session)


def test_a_certificate_that_no_certificate_log_knows_is_refused_as_ROOT(session):
    session.server.sim.ca.logs = []
    with pytest.raises(ServiceNotTrusted):
        sign(session)
    assert nothing_was_logged(session)


@pytest.mark.attack("token for an instance that is not trusted")
@pytest.mark.parametrize(
    ("kind", "said"),
    [("certificateAuthorities", "certificate authority"), ("tlogs", ": log"), ("timestampAuthorities", "timestamp authority")],
)
def test_a_root_that_holds_none_of_a_kind_is_named_before_anything_is_sent(session, kind, said):
    session.server.sim.change["root"] = lambda root: root | {kind: []}
    with pytest.raises(ServiceNotTrusted, match=said):
        sign(session)
    assert session.server.log == []
    assert session.told.published == []


@pytest.mark.attack("token for an instance that is not trusted")
def test_a_root_of_fewer_operators_than_must_vouch_is_named_before_anything_is_sent(session):
    logs = [service(session, "/log2", 2, operator="a"), service(session, "/log2-b", 2, operator="b")]

    def of_one(root):
        return root | {"tlogs": [log | {"operator": "one"} for log in root["tlogs"]]}

    session.server.sim.change["root"] = of_one
    with pytest.raises(ServiceNotTrusted, match="too few"):
        sign(session, {"rekorTlogUrls": logs, "rekorTlogConfig": {"selector": "EXACT", "count": 2}})
    assert session.server.log == []


@pytest.mark.parametrize("ahead_s", [-700, -570, 700])
def test_clocks_that_differ_are_said_with_both_times(session, ahead_s):
    def skewed(ca):
        ca.clock = type("Other", (), {"now": session.time.now() + timedelta(seconds=ahead_s)})()

    session.server.instance.change["certificate"] = skewed
    with pytest.raises(ClockSkew) as caught:
        sign(session)
    assert "2026-06-01T12:00:00Z, this machine's clock" in caught.value.expected
    assert ("12:11:40" in caught.value.got) == (ahead_s > 0)


@pytest.mark.parametrize("certificates", [None, [], ["x"]])
def test_an_authoritys_answer_without_a_certificate_is_refused(session, certificates):
    answer = {} if certificates is None else {"signedCertificateEmbeddedSct": {"chain": {"certificates": certificates}}}
    session.server.instance.change["certificate answer"] = lambda _: answer
    with pytest.raises(SigkitError) as caught:
        sign(session)
    assert caught.value.kind.value == "PARSE"


# --- logs and timestamps


def another_entry(session, generation):
    """Log something else, and return a change that answers with it."""
    kept = []

    def keep(entry):
        kept.append(entry)
        return entry

    session.server.instance.change["entry"] = keep
    with session.signatory(v1(session) if generation == 1 else None) as signatory:
        sign_file(b"another file", signatory, session.time)
    return lambda _: kept[0]


@pytest.mark.attack("log answers with another entry")
@pytest.mark.parametrize("generation", [1, 2])
def test_a_log_that_answers_with_another_entry_is_found_out_as_BIND(session, generation):
    session.server.instance.change["entry"] = another_entry(session, generation)
    with pytest.raises(OtherEntry):
        sign(session, v1(session) if generation == 1 else None)


@pytest.mark.attack("log answers with another entry")
@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("entry", [{}, [], None])
def test_a_log_that_answers_with_no_entry_is_found_out(session, generation, entry):
    session.server.instance.change["entry"] = lambda _: entry
    with pytest.raises(SigkitError) as caught:
        sign(session, v1(session) if generation == 1 else None)
    assert caught.value.kind.value == "PARSE"


@pytest.mark.parametrize("generation", [1, 2])
def test_a_huge_entry_is_refused_as_LIMIT(session, generation):
    session.server.on("POST", f"/log{generation}/*").answer(b" " * (limits.LOG_ANSWER_BYTES + 1), status=201)
    with pytest.raises(TooLarge):
        sign(session, v1(session) if generation == 1 else None)


@pytest.mark.attack("log answers with another entry")
@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("step", ["checkpoint", "note", "proof"])
def test_an_entry_that_is_not_proved_is_found_out(session, generation, step):
    log = session.server.sim.log1 if generation == 1 else session.server.sim.log2
    changes = {
        "checkpoint": lambda text: text.replace("\n", "\n1", 1),
        "note": lambda note: note[:-8] + "AAAAAA=\n",
        "proof": lambda proof: proof | {"hashes": proof["hashes"][1:]},
    }
    log.change[step] = changes[step]
    with pytest.raises(SigkitError) as caught:
        sign(session, v1(session) if generation == 1 else None)
    assert caught.value.kind.value == "TLOG"


def test_a_log_that_the_root_does_not_hold_is_refused_as_ROOT(session):
    session.server.sim.change["root"] = lambda root: root | {"tlogs": root["tlogs"][:1]}
    with pytest.raises(ServiceNotTrusted):
        sign(session)


def test_a_log_that_lies_is_passed_over_where_another_may_be_asked(session):
    change = another_entry(session, 2)
    answers = iter([change])

    def lie_once(entry):
        return next(answers, lambda right: right)(entry)

    session.server.instance.change["entry"] = lie_once
    assert sign(session, two_of(session, "rekorTlogUrls", "/log2", 2)).facts.inclusions
    assert isinstance(session.told.passed[0][1], OtherEntry)


class Wrong:
    """Sets the simulator's clock wrong while a service answers for the first time."""

    def __init__(self, session, service, method, minutes):
        self.clock, self.right, self.off, self.times = session.server.sim.clock, getattr(service, method), timedelta(minutes=minutes), 0
        setattr(service, method, self)

    def __call__(self, *arguments):
        self.times += 1
        if self.times > 1:
            return self.right(*arguments)
        self.clock.now += self.off
        try:
            return self.right(*arguments)
        finally:
            self.clock.now -= self.off


@pytest.mark.attack("service with a wrong clock")
@pytest.mark.parametrize(("minutes", "error"), [(60, TimeInFuture), (2, TimeInFuture), (-60, OutsideCertificate)])
def test_a_timestamp_authority_whose_clock_is_wrong_is_passed_over_and_nothing_is_logged_by_its_word(session, minutes, error):
    Wrong(session, session.server.sim.tsa, "stamp_imprint", minutes)
    with pytest.raises(error):
        sign(session)
    assert nothing_was_logged(session)
    Wrong(session, session.server.sim.tsa, "stamp_imprint", minutes)
    assert sign(session, two_of(session, "tsaUrls", "/tsa/api/v1/timestamp")).facts.times
    assert [type(err) for _, err in session.told.passed] == [error]


@pytest.mark.attack("service with a wrong clock")
def test_a_log_whose_clock_is_wrong_has_failed_and_the_next_is_asked(session):
    Wrong(session, session.server.sim.log1, "add", 60)
    with pytest.raises(TimeInFuture):  # both are one log, which gives its first entry again
        sign(session, two_of(session, "rekorTlogUrls", "/log1", 1))
    assert [type(err) for _, err in session.told.passed] == [TimeInFuture]
    assert session.asked("/log1-b")


def test_a_timestamp_over_other_bytes_is_refused_as_TIME(session):
    session.server.instance.change["imprint"] = lambda _: hashlib.sha256(b"other").digest()
    with pytest.raises(BadTimestamp):
        sign(session)
    assert nothing_was_logged(session)


@pytest.mark.attack("sigstore-rust#113")
@pytest.mark.parametrize("nonce", [None, 4711])
def test_a_timestamp_without_our_nonce_is_refused_as_TIME(session, nonce):
    session.server.instance.change["nonce"] = lambda _: nonce
    with pytest.raises(BadTimestamp, match="another request"):
        sign(session)


def test_a_timestamp_by_a_stranger_is_refused_as_ROOT(session):
    root = session.server.sim.root()
    session.server.sim.root = lambda: root
    session.server.sim.tsa = Tsa(session.server.sim.clock)
    with pytest.raises(ServiceNotTrusted, match="by an authority that is not trusted"):
        sign(session)
    assert nothing_was_logged(session)


@pytest.mark.parametrize("raw", [b"", b"no DER", bytes.fromhex("30053003020102")])
def test_what_is_no_timestamp_is_refused_as_TIME(session, raw):
    session.server.instance.change["timestamp"] = lambda _: raw
    with pytest.raises(BadTimestamp):
        sign(session)


# --- keys with the instance's help


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def test_a_key_signs_and_the_instance_vouches_for_it(session, kind):
    key = generate(kind)
    with session.key(key, config=v1(session)) as signatory:
        signed = sign_file(CONTENT, signatory, session.time)
    signer = signed.facts.signer.signer
    assert isinstance(signer, KeySigner)
    assert signer.key == key.public.fingerprint
    assert (len(signed.facts.inclusions), {fact.kind for fact in signed.facts.times}) == (1, {TimeKind.TIMESTAMP, TimeKind.INTEGRATED})
    assert session.asked("/ca") == 0
    assert session.told.published[0].who == f"key {key.public.fingerprint}"


def test_an_Ed25519_key_and_a_log_of_the_second_generation_are_refused_before_anything_is_sent(session):
    with pytest.raises(UnsupportedKey), session.key(generate("ed25519")):
        pass
    assert session.server.log == []


def of_simulator(key):
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return parse_private_key(der, HERE)


def test_a_key_signs_with_a_certificate_of_ones_own(session):
    pair = new_key()
    session.server.sim.ca.lifetime = timedelta(days=300)
    leaf = session.server.sim.ca.issue(_Public(pair.public_key())).public_bytes(serialization.Encoding.DER)
    with session.key(of_simulator(pair), leaf) as signatory:
        signed = sign_file(CONTENT, signatory, session.time)
    assert isinstance(signed.facts.signer.signer, IdentitySigner)
    assert session.asked("/ca") == 0


@pytest.mark.attack("service with a wrong clock")
def test_a_timestamp_before_ones_own_certificate_is_refused_before_anything_is_logged(session):
    pair = new_key()
    leaf = session.server.sim.ca.issue(_Public(pair.public_key())).public_bytes(serialization.Encoding.DER)
    Wrong(session, session.server.sim.tsa, "stamp_imprint", -60)
    with session.key(of_simulator(pair), leaf) as signatory, pytest.raises(OutsideCertificate):
        sign_file(CONTENT, signatory, session.time)
    assert nothing_was_logged(session)


def test_a_certificate_of_another_key_is_refused_as_BIND_before_anything_is_sent(session):
    leaf = session.server.sim.ca.issue(new_key()).public_bytes(serialization.Encoding.DER)
    with pytest.raises(OtherKeyCertified), session.key(generate("ecdsa-p256"), leaf):
        pass
    assert session.server.log == []


def test_the_entry_of_a_statement_in_a_log_of_the_first_generation_is_of_its_payload(session):
    with session.signatory(v1(session)) as signatory:
        attested = attest_file(CONTENT, "file", Predicate("https://example.com/t", {"a": 1}), signatory, session.time)
    assert attested.facts.inclusions
    (entry,) = parse_bundle(attested.bundle, limits.DEFAULT, Place("b")).entries
    assert json.loads(entry.body)["kind"] == "dsse"
