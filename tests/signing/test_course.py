"""What verifiers would refuse in the end is refused, or asked of another service, before it is public; what is public by then is said."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization

from sigkit import limits
from sigkit.errors import (
    NoAttestedTime,
    NoServiceAnswered,
    OtherEntry,
    OutsideAuthority,
    OutsideCertificate,
    Place,
    RequestRefused,
    ServiceNotTrusted,
    TimeInFuture,
    TlogError,
    TokenNotTaken,
    UntrustedCertificate,
)
from sigkit.evidence.bundle import parse_bundle
from sigkit.keys.private import generate, parse_private_key
from sigkit.signing.blob import sign_file
from tests.simulators.sessions import HERE, Session
from tests.simulators.sigstore_authorities import Tsa, new_key
from tests.simulators.sigstore_logs import LogV2
from tests.simulators.sigstore_services import _Public

CONTENT = b"the file"
LATER = "2026-02-01T00:00:00Z"
OVER = ("2025-01-01T00:00:00Z", "2026-05-01T00:00:00Z")
TO_COME = ("2027-01-01T00:00:00Z", None)
NO_TSA = {"tsaUrls": None, "tsaConfig": None}
TSA = "/tsa/api/v1/timestamp"


@pytest.fixture
def session():
    with Session.open() as opened:
        yield opened


def sign(session, config=None, **claims):
    with session.signatory(config, **claims) as signatory:
        return sign_file(CONTENT, signatory, session.time)


def sign_by_key(session, config):
    with session.key(generate("ecdsa-p256"), config=config) as signatory:
        return sign_file(CONTENT, signatory, session.time)


def services(session, member, *paths, version=1, **more):
    """Return a config with these services of a kind, asked in this order, each by another operator."""
    listed = [
        session.server.instance.service(path, version, operator=f"operator {number}", start=f"2026-01-{20 - number}T00:00:00Z")
        for number, path in enumerate(paths)
    ]
    return {member: listed, **more}


def logs(session, *paths, version=1, count=1):
    return services(session, "rekorTlogUrls", *paths, version=version, rekorTlogConfig={"selector": "EXACT", "count": count})


def lists(session, kind, *parties):
    """Have the root list these of a kind."""
    session.server.sim.change["root"] = lambda root: root | {kind: list(parties)}


def called(session, path, party, member="baseUrl"):
    """Return a party as a root lists it that calls it by the URL of its service."""
    return party.trusted() | {member: session.server.url + path}


def both_logs(session):
    """Have the root list the two logs of the first generation by names that are not their URLs."""
    lists(session, "tlogs", session.server.sim.log1.trusted(), session.server.instance.log3.trusted())


def passed(session):
    return [(url.removeprefix(session.server.url), type(err)) for url, err in session.told.passed]


def so_far(caught):
    """Return what a refusal says that there is by then."""
    (note,) = [line for line in getattr(caught.value, "__notes__", []) if line.startswith("so far")]
    return note


def of_simulator(key):
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return parse_private_key(der, HERE)


def der_of(certificate):
    return certificate.public_bytes(serialization.Encoding.DER)


# --- certificates: as the bundle holds them


@pytest.mark.attack("published and then refused")
def test_an_intermediate_that_only_the_authority_sends_counts_for_nothing_and_nothing_is_logged(session):
    session.server.sim.ca.listed = [session.server.sim.ca.anchor.certificate]
    with pytest.raises(UntrustedCertificate, match="no bundle holds them") as caught:
        sign(session)
    assert "lists them" in caught.value.remedy
    assert session.asked("/tsa") == session.asked("/log2") == 0


def test_an_intermediate_that_only_the_user_brings_counts_for_nothing_and_nothing_is_sent(session):
    ca, pair = session.server.sim.ca, new_key()
    ca.listed = [ca.anchor.certificate]
    leaf = der_of(ca.issue(_Public(pair.public_key())))
    with (
        pytest.raises(UntrustedCertificate, match="no bundle holds them"),
        session.key(of_simulator(pair), leaf, der_of(ca.intermediate.certificate)),
    ):
        pass
    with pytest.raises(UntrustedCertificate, match="no authority"), session.key(of_simulator(pair), leaf):
        pass
    assert session.server.log == []


def test_certificates_that_come_with_ones_own_do_no_harm_where_the_root_lists_them(session):
    ca, pair = session.server.sim.ca, new_key()
    leaf = der_of(ca.issue(_Public(pair.public_key())))
    with session.key(of_simulator(pair), leaf, der_of(ca.intermediate.certificate)) as signatory:
        assert sign_file(CONTENT, signatory, session.time).facts.inclusions


@pytest.mark.parametrize("hours", [-1, 1])
def test_ones_own_certificate_that_is_not_valid_now_is_refused_before_anything_is_sent(session, hours):
    pair = new_key()
    session.time.sleep(3600 * hours)
    leaf = der_of(session.server.sim.ca.issue(_Public(pair.public_key())))
    session.time.sleep(-3600 * hours)
    with pytest.raises(OutsideCertificate), session.key(of_simulator(pair), leaf):
        pass
    assert session.server.log == []


@pytest.mark.attack("published and then refused")
def test_ones_own_certificate_by_an_authority_whose_time_is_over_is_refused_before_anything_is_sent(session):
    ca, pair = session.server.sim.ca, new_key()
    ca.lifetime = timedelta(days=300)
    session.time.sleep(-3600)
    leaf = der_of(ca.issue(_Public(pair.public_key())))
    session.time.sleep(3600)
    ca.window = ("2026-01-01T00:00:00Z", "2026-06-01T11:30:00Z")
    with pytest.raises(OutsideAuthority), session.key(of_simulator(pair), leaf):
        pass
    assert session.server.log == []


def test_an_authority_whose_time_ends_before_the_timestamp_is_found_out_before_anything_is_logged(session):
    ca = session.server.sim.ca
    ca.window = ("2026-01-01T00:00:00Z", "2026-06-01T12:00:01Z")
    session.patience_s = 30
    session.server.on("POST", "/tsa/*", nth=1).status(503, retry_after=5)
    with pytest.raises(OutsideAuthority):
        sign(session)
    assert session.asked("/log2") == 0


# --- windows of the root, looked at before anybody is asked


@pytest.mark.attack("published and then refused")
@pytest.mark.parametrize("window", [OVER, TO_COME])
@pytest.mark.parametrize("party", ["log1", "log2", "tsa", "ca", "ct"])
def test_where_the_root_trusts_none_of_a_kind_now_nothing_is_sent_or_told(session, party, window):
    getattr(session.server.sim, party).window = window
    lists(session, "tlogs", session.server.sim.log1.trusted() if party == "log1" else session.server.sim.log2.trusted())
    with pytest.raises(ServiceNotTrusted, match="too few") as caught:
        sign(session, logs(session, "/log1") if party == "log1" else None)
    assert "2026-06-01T12:00:00Z by this machine's clock" in caught.value.got
    assert window[0] in caught.value.got
    assert session.server.log == []
    assert session.told.published == []


@pytest.mark.parametrize("window", [OVER, TO_COME])
@pytest.mark.parametrize("generation", [1, 2])
def test_a_key_has_nothing_logged_where_the_root_trusts_no_log_now(session, generation, window):
    log = session.server.sim.log1 if generation == 1 else session.server.sim.log2
    log.window = window
    lists(session, "tlogs", log.trusted())
    with pytest.raises(ServiceNotTrusted):
        sign_by_key(session, NO_TSA | logs(session, f"/log{generation}", version=generation))
    assert session.server.log == []


@pytest.mark.attack("published and then refused")
@pytest.mark.parametrize("window", [OVER, TO_COME])
def test_a_log_that_the_root_does_not_trust_now_is_passed_over_unasked_and_the_next_is_asked(session, window):
    session.server.sim.log1.window = window
    other = session.server.instance.log3
    lists(session, "tlogs", called(session, "/log1", session.server.sim.log1), called(session, "/log3", other))
    signed = sign(session, logs(session, "/log1", "/log3"))
    assert [fact.log for fact in signed.facts.inclusions] == [f"{session.server.url}/log3"]
    assert passed(session) == [("/log1", OutsideAuthority)]
    assert session.asked("/log1") == 0
    (publication,) = session.told.published
    assert f"{session.server.url}/log1" not in publication.services + publication.spare


def test_a_log_of_the_second_generation_that_the_root_calls_by_its_url_is_not_asked_out_of_its_time(session):
    session.server.sim.log2 = LogV2(session.server.sim.clock, "127.0.0.1")
    session.server.sim.log2.window = OVER
    lists(session, "tlogs", called(session, "/log2", session.server.sim.log2), session.server.sim.log1.trusted())
    with pytest.raises(ServiceNotTrusted, match="too few of the services of the signing config: log"):
        sign(session)
    assert session.server.log == []


def test_where_every_log_must_answer_one_out_of_its_time_is_not_left_out(session):
    session.server.sim.log1.window = OVER
    lists(session, "tlogs", called(session, "/log1", session.server.sim.log1), called(session, "/log3", session.server.instance.log3))
    with pytest.raises(ServiceNotTrusted):
        sign(session, logs(session, "/log1", "/log3") | {"rekorTlogConfig": {"selector": "ALL"}})
    assert session.server.log == []
    assert session.told.passed == []


def test_a_timestamp_authority_out_of_its_time_is_passed_over_unasked_and_the_next_is_asked(session):
    old = Tsa(session.server.sim.clock)
    old.window = OVER
    lists(session, "timestampAuthorities", called(session, TSA, old, "uri"), session.server.sim.tsa.trusted())
    assert sign(session, services(session, "tsaUrls", TSA, f"/tsa-b{TSA.removeprefix('/tsa')}")).facts.times
    assert passed(session) == [(TSA, OutsideAuthority)]
    assert [seen.path for seen in session.server.log if seen.path.startswith("/tsa/")] == []


def test_a_certificate_authority_out_of_its_time_gets_no_token_and_the_next_is_asked(session):
    ca = session.server.sim.ca
    old = ca.trusted() | {"uri": f"{session.server.url}/ca", "validFor": {"start": OVER[0], "end": OVER[1]}}
    lists(session, "certificateAuthorities", old, ca.trusted())
    assert sign(session, services(session, "caUrls", "/ca", "/ca-b")).facts.inclusions
    assert passed(session) == [("/ca", OutsideAuthority)]
    assert [seen.path for seen in session.server.log if "authorization" in seen.headers] == ["/ca-b/api/v2/signingCert"]


def test_an_authority_that_the_root_lists_for_two_times_is_asked_in_the_second(session):
    ca = session.server.sim.ca
    now = ca.trusted() | {"uri": f"{session.server.url}/ca"}
    lists(session, "certificateAuthorities", now | {"validFor": {"start": OVER[0], "end": OVER[1]}}, now)
    assert sign(session).facts.inclusions
    assert session.told.passed == []


# --- windows and operators, found out by the answer


@pytest.mark.parametrize("by", [sign, sign_by_key])
@pytest.mark.parametrize("window", [OVER, TO_COME])
def test_a_log_that_the_root_does_not_trust_now_by_another_name_has_failed_and_the_next_is_asked(session, by, window):
    session.server.sim.log1.window = window
    both_logs(session)
    signed = by(session, logs(session, "/log1", "/log3"))
    assert [fact.log for fact in signed.facts.inclusions] == ["https://log3.example"]
    assert passed(session) == [("/log1", OutsideAuthority)]


def test_what_a_log_out_of_its_time_has_made_public_is_said(session):
    session.server.sim.log1.window = OVER
    both_logs(session)
    with pytest.raises(OutsideAuthority) as caught:
        sign(session, logs(session, "/log1"))
    assert "log entry 1005 of https://log1.example was made, it is public; nothing was attached" in so_far(caught)


def test_without_a_time_the_window_of_a_log_is_looked_at_now_as_at_verification(session):
    session.server.sim.log2.window = OVER
    lists(session, "tlogs", session.server.sim.log2.trusted(), session.server.sim.log1.trusted())
    with pytest.raises(OutsideAuthority) as caught:
        sign_by_key(session, NO_TSA)
    assert so_far(caught) == "so far    log entry 5 of https://log2.example was made, it is public; nothing was attached"


def without_time(entry):
    ((uuid, value),) = entry.items()
    value = copy.deepcopy(value)
    del value["verification"]["signedEntryTimestamp"]
    return {uuid: value}


@pytest.mark.attack("published and then refused")
def test_an_entry_without_a_time_where_nothing_else_attests_one_is_the_logs_failure_and_the_next_is_asked(session):
    both_logs(session)
    answered = []

    def first_without_time(entry):
        answered.append(entry)
        return without_time(entry) if len(answered) == 1 else entry

    session.server.instance.change["entry"] = first_without_time
    signed = sign(session, NO_TSA | logs(session, "/log1", "/log3"))
    assert [fact.authority for fact in signed.facts.times] == ["https://log3.example"]
    assert passed(session) == [("/log1", NoAttestedTime)]


def test_an_entry_without_a_time_where_nothing_else_attests_one_is_said_to_be_public(session):
    session.server.instance.change["entry"] = without_time
    with pytest.raises(NoAttestedTime, match="the log states no time") as caught:
        sign(session, NO_TSA | logs(session, "/log1"))
    assert "log entry 5 of https://log1.example was made, it is public; nothing was attached" in so_far(caught)
    assert sign(session, logs(session, "/log1")).facts.inclusions  # beside a timestamp it will do


def test_two_logs_vouch_where_the_config_says_two(session):
    both_logs(session)
    signed = sign(session, logs(session, "/log1", "/log3", count=2))
    assert [fact.log for fact in signed.facts.inclusions] == ["https://log1.example", "https://log3.example"]
    assert len(parse_bundle(signed.bundle, limits.DEFAULT, Place("b")).entries) == 2


@pytest.mark.attack("published and then refused")
def test_two_services_that_are_one_log_count_once_and_the_third_is_asked(session):
    both_logs(session)
    signed = sign(session, logs(session, "/log1", "/log1-b", "/log3", count=2))
    assert [fact.log for fact in signed.facts.inclusions] == ["https://log1.example", "https://log3.example"]
    assert passed(session) == [("/log1-b", ServiceNotTrusted)]


def test_two_logs_of_one_operator_count_once(session):
    session.server.instance.log3.operator = session.server.sim.log1.operator
    lists(session, "tlogs", *(log.trusted() for log in (session.server.sim.log1, session.server.instance.log3, session.server.sim.log2)))
    with pytest.raises(ServiceNotTrusted, match="vouches already") as caught:
        sign(session, logs(session, "/log1", "/log3", count=2))
    assert "log entry 1005 of https://log1.example was made" in so_far(caught)
    assert "log entry 1005 of https://log3.example was made" in so_far(caught)


def test_two_services_that_the_root_calls_one_operators_are_refused_before_anything_is_sent(session):
    first, other = session.server.sim.log1, session.server.instance.log3
    other.operator = first.operator
    named = called(session, "/log1", first), called(session, "/log3", other)
    lists(session, "tlogs", *named, session.server.sim.log2.trusted())
    with pytest.raises(ServiceNotTrusted, match="too few of the services"):
        sign(session, logs(session, "/log1", "/log3", count=2))
    assert session.server.log == []


def test_a_second_log_of_one_operator_is_not_asked_where_a_third_is_of_another(session):
    first, other = session.server.sim.log1, session.server.instance.log3
    lists(session, "tlogs", called(session, "/log1", first) | {"operator": "one"}, called(session, "/log3", other) | {"operator": "two"})
    config = logs(session, "/log1", "/log1/", "/log3", count=2)
    assert len(sign(session, config).facts.inclusions) == 2
    assert passed(session) == [("/log1/", ServiceNotTrusted)]
    assert session.asked("/log1") == 1


def test_two_services_that_are_one_timestamp_authority_count_once_and_nothing_is_logged(session):
    second = Tsa(session.server.sim.clock).trusted() | {"uri": "https://tsa-b.example", "operator": "two"}
    lists(session, "timestampAuthorities", session.server.sim.tsa.trusted(), second)
    with pytest.raises(ServiceNotTrusted, match="vouches already"):
        sign(session, services(session, "tsaUrls", TSA, f"/tsa-b{TSA.removeprefix('/tsa')}", tsaConfig={"selector": "ALL"}))
    assert session.asked("/log2") == 0


# --- what is said


def test_what_does_not_verify_in_the_end_is_said_to_be_public(session):
    class Behind:
        def now(self):
            return session.time.now() - timedelta(hours=1)

    with session.signatory() as signatory, pytest.raises(TimeInFuture) as caught:
        sign_file(CONTENT, signatory, Behind())
    told = so_far(caught)
    assert "a certificate for " in told
    assert told.endswith("; log entry 5 of https://log2.example was made, it is public; nothing was written")


def test_where_nothing_is_public_nothing_is_said_to_be(session):
    class Behind:
        def now(self):
            return session.time.now() - timedelta(hours=1)

    with (
        session.key(generate("ecdsa-p256"), config={"rekorTlogUrls": None, "rekorTlogConfig": None}) as signatory,
        pytest.raises(TimeInFuture) as caught,
    ):
        sign_file(CONTENT, signatory, Behind())
    assert not hasattr(caught.value, "__notes__")


def test_a_certificate_that_no_certificate_log_has_is_not_said_to_be_public(session):
    session.server.sim.ca.logs = []
    lists(session, "ctlogs")
    session.server.on("POST", "/tsa/*").status(400)
    with pytest.raises(RequestRefused) as caught:
        sign(session)
    assert so_far(caught) == "so far    nothing was logged or attached"


def test_an_entry_that_is_not_proved_may_be_public_and_that_is_said(session):
    session.server.sim.log2.change["proof"] = lambda proof: proof | {"hashes": proof["hashes"][1:]}
    with pytest.raises(TlogError) as caught:
        sign(session)
    assert f"a log entry at {session.server.url}/log2 was made and is not proved, it may be public" in so_far(caught)


# --- the exit code of several services, and patience


def test_where_all_services_refuse_it_is_a_refusal_as_it_is_of_one(session):
    session.server.on("*", "/ca*").status(400, body=b'{"message":"closed"}')
    with pytest.raises(TokenNotTaken, match="closed") as caught:
        sign(session, services(session, "caUrls", "/ca", "/ca-b"))
    assert caught.value.status() == 1
    assert "asked     2 services: 2 refuse, and 0 of 1 that must vouch do" in caught.value.__notes__


def test_where_all_logs_lie_it_is_a_refusal(session):
    both_logs(session)
    kept = []

    def always_the_first(entry):
        kept.append(entry)
        return kept[0]

    session.server.instance.change["entry"] = always_the_first
    sign(session, logs(session, "/log1"))
    with session.signatory(logs(session, "/log1", "/log3")) as signatory, pytest.raises(OtherEntry) as caught:
        sign_file(b"another file", signatory, session.time)
    assert caught.value.status() == 1


@pytest.mark.parametrize(("away", "closed"), [("/ca/*", "/ca-b/*"), ("/ca-b/*", "/ca/*")])
def test_where_one_of_several_services_is_away_it_could_not_be_checked(session, away, closed):
    session.patience_s = 3
    session.server.on("*", away).status(503)
    session.server.on("*", closed).status(400)
    with pytest.raises(NoServiceAnswered) as caught:
        sign(session, services(session, "caUrls", "/ca", "/ca-b"))
    assert caught.value.status() == 3


def test_each_signature_of_a_signatory_waits_for_a_service_as_long_as_is_said(session):
    session.patience_s = 5
    with session.signatory() as signatory:
        sign_file(b"1", signatory, session.time)
        session.time.sleep(6)
        session.server.on("POST", "/log2/*", times=1).status(503)
        assert sign_file(b"2", signatory, session.time).facts.inclusions
    assert len(session.told.waits) == 1


def test_what_an_earlier_signature_made_public_is_not_said_of_a_later_one(session):
    with session.key(generate("ecdsa-p256")) as signatory:
        sign_file(b"1", signatory, session.time)
        session.server.on("POST", "/tsa/*").status(400)
        with pytest.raises(RequestRefused) as caught:
            sign_file(b"2", signatory, session.time)
    assert so_far(caught) == "so far    nothing was logged or attached"
