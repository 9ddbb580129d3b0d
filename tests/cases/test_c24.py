"""C24, busy log: waited for while it is worth it, with a certificate that is still good, and never an entry too many."""

from __future__ import annotations

import pytest

from sigkit import limits
from sigkit.errors import AnswerUnusable, OtherEntry, ServerFailed, SigkitError
from sigkit.evidence.bundle import parse_bundle
from sigkit.evidence.collect import collect
from sigkit.evidence.form import BUNDLE_PART
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.resolve import resolve
from sigkit.signing.session import sign_image
from tests.simulators.images import small_image
from tests.simulators.memory_registry import MemoryRegistry
from tests.simulators.misbehaving_registry import Reply
from tests.simulators.sessions import HERE, Session

IMAGE = Repository("registry.example", "acme/app")
HOUR_S = 3_600
BEFORE = 5  # leaves of the simulated logs before anybody comes
EACH = 3  # and for each entry


@pytest.fixture
def session():
    with Session.open() as opened:
        yield opened


@pytest.fixture
def registry():
    made = MemoryRegistry()
    small_image().push(made, IMAGE, "v1")
    return made


def sign(session, registry, generation=2, **claims):
    first = {"rekorTlogUrls": [session.server.instance.service("/log1", 1)]}
    life = int(session.time.now().timestamp()) + HOUR_S
    with session.signatory(first if generation == 1 else None, **({"exp": life} | claims)) as signatory:
        return sign_image(registry, resolve(registry, parse_reference(f"{IMAGE}:v1")), signatory, {}, session.time)


def entries(session, generation) -> float:
    log = session.server.sim.log1 if generation == 1 else session.server.sim.log2
    return (len(log.leaves) - BEFORE) / EACH


def attached(registry):
    resolved = resolve(registry, parse_reference(f"{IMAGE}:v1"))
    return collect(registry, IMAGE, resolved.digest, limits.DEFAULT).evidence


@pytest.mark.parametrize("generation", [1, 2])
def test_c24_a_log_that_is_busy_twice_is_waited_for_as_it_asks(session, registry, generation):
    session.server.on("POST", f"/log{generation}/*", times=2).status(429, retry_after=2, body=b'{"message":"slow down"}')
    signed = sign(session, registry, generation)
    assert len(signed.facts.inclusions) == 1
    assert [(why, wait_s) for _, why, wait_s in session.told.waits] == [("429 slow down", 2.0)] * 2
    assert session.time.slept == [2.0, 2.0]
    assert entries(session, generation) == 1
    assert len(attached(registry)) == 1


@pytest.mark.parametrize("generation", [1, 2])
def test_c24_a_log_that_stays_away_ends_with_3_and_nothing_in_the_registry(session, registry, generation):
    session.server.on("POST", f"/log{generation}/*").status(502)
    with pytest.raises(ServerFailed) as caught:
        sign(session, registry, generation)
    assert caught.value.status() == 3
    assert sum(session.time.slept) <= session.patience_s
    assert sum(session.time.slept) > session.patience_s / 2
    assert attached(registry) == ()
    assert len(registry.manifests) == 1


def test_c24_the_waits_grow_and_have_an_end(session, registry):
    session.server.on("POST", "/log2/*").status(502)
    with pytest.raises(SigkitError):
        sign(session, registry)
    assert session.time.slept[0] <= 0.5
    assert max(session.time.slept) <= 30
    assert len(session.time.slept) < 15


@pytest.mark.attack("authority parks the signer")
def test_c24_a_server_cannot_park_a_deployment(session, registry):
    session.server.on("POST", "/log2/*", nth=1).status(429, retry_after=86_400)
    assert sign(session, registry).facts.inclusions
    assert session.time.slept == [30.0]


def test_c24_a_new_certificate_is_taken_when_less_than_the_margin_is_left(session, registry):
    """For ten minutes the log that states the time is away; the certificate lives as long."""
    began = session.time.now()
    session.patience_s = 1_200

    core = session.server.core

    def guarded(seen):
        if seen.path.startswith("/log1/") and (session.time.now() - began).total_seconds() <= 600:
            return Reply(502)
        return core(seen)

    session.server.core = guarded
    signed = sign(session, registry, 1)
    assert session.asked("/ca") == 2
    assert any("taking a new one" in note for note in session.told.notes)
    assert all((fact.when - began).total_seconds() > 480 for fact in signed.facts.times)  # all by the new certificate
    assert entries(session, 1) == 1


def test_c24_a_log_that_states_no_time_is_waited_for_with_the_first_certificate(session, registry):
    session.patience_s = 1_200
    began = session.time.now()
    core = session.server.core

    def guarded(seen):
        if seen.path.startswith("/log2/") and (session.time.now() - began).total_seconds() <= 900:
            return Reply(502)
        return core(seen)

    session.server.core = guarded
    signed = sign(session, registry)
    assert session.asked("/ca") == session.asked("/tsa") == 1
    assert [fact.when for fact in signed.facts.times] == [began]


@pytest.mark.parametrize("generation", [1, 2])
def test_c24_a_lost_answer_is_resolved_to_the_entry_that_is_there(session, registry, generation):
    session.server.on("POST", f"/log{generation}/*", nth=1).close()
    signed = sign(session, registry, generation)
    assert len(signed.facts.inclusions) == 1
    assert entries(session, generation) == 1
    (evidence,) = attached(registry)
    (entry,) = parse_bundle(evidence.parts[BUNDLE_PART], limits.DEFAULT, HERE).entries
    assert entry.proof is not None
    assert entry.proof.checkpoint


@pytest.mark.attack("log answers with another entry")
def test_c24_an_existing_entry_about_other_bytes_is_refused_as_BIND(session, registry):
    sign(session, registry, 1)
    (other,) = session.server.instance.entries1
    session.server.on("POST", "/log1/*").status(409, Location=f"/api/v1/log/entries/{other}")
    with pytest.raises(OtherEntry):
        sign(session, registry, 1)
    assert len(attached(registry)) == 1


def test_c24_an_index_with_another_leaf_is_refused_as_TLOG(session, registry):
    session.server.on("POST", "/log2/*").status(409, x_log_index="0")
    with pytest.raises(SigkitError) as caught:
        sign(session, registry)
    assert caught.value.kind.value == "TLOG"
    assert attached(registry) == ()


@pytest.mark.parametrize("location", ["", "https://evil.example/", f"/api/v1/log/entries/{'x' * 64}", "/api/v1/log/entries/../../evil"])
def test_c24_only_the_name_of_an_existing_entry_is_taken_and_only_if_it_is_one(session, registry, location):
    session.server.on("POST", "/log1/*").status(409, Location=location)
    with pytest.raises(AnswerUnusable):
        sign(session, registry, 1)
    assert session.server.seen("GET", "/log1/*") == []


@pytest.mark.parametrize("gone", [404, 410])
def test_c24_an_existing_entry_is_proved_from_the_whole_tile_where_the_partial_one_is_gone(session, registry, gone):
    """The log has grown over the end of the tile, which C2SP lets it serve in its whole form only; its newest checkpoint is older."""
    log = session.server.sim.log2
    session.server.on("POST", "/log2/*", nth=1).close()
    session.server.on("GET", "/log2/api/v2/tile/0/000.p/*").status(gone, body=b"no such file" * 10_000)
    session.server.on("GET", "/log2/api/v2/tile/0/000").change = lambda _, __: Reply(
        200, (), b"".join([*log.leaves, *[b"later".ljust(32)] * 256][:256])
    )
    assert sign(session, registry).facts.inclusions
    assert [seen.path.removeprefix("/log2/api/v2/") for seen in session.server.seen("GET", "/log2/api/v2/tile/*")] == [
        "tile/0/000.p/8",
        "tile/0/000",
    ]


def test_c24_a_log_that_has_a_tile_in_no_form_is_named_with_it(session, registry):
    session.server.on("POST", "/log2/*", nth=1).close()
    session.server.on("GET", "/log2/api/v2/tile/*").status(404)
    with pytest.raises(AnswerUnusable) as caught:
        sign(session, registry)
    assert caught.value.place.source.endswith("/tile/0/000.p/8")
    assert attached(registry) == ()


def test_c24_an_existing_entry_is_waited_for_until_a_checkpoint_covers_it(session, registry):
    session.server.on("POST", "/log2/*", nth=1).close()
    log = session.server.sim.log2
    old = log.note(log.leaves)
    session.server.on("GET", "/log2/api/v2/checkpoint", times=2).answer(old.encode())
    assert sign(session, registry).facts.inclusions
    assert session.time.slept[-2:] == [1.0, 1.0]
