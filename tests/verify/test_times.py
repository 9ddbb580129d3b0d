"""Timestamps: which authority's word they are, what is said of those by strangers, and nothing but refusals for what is malformed."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import BadTimestamp, NoAttestedTime, SigkitError
from sigkit.verify.facts import TimeKind
from tests.simulators.der import integer, with_serial
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import Tsa
from tests.simulators.sigstore_logs import b64


@pytest.fixture
def sim() -> Simulator:
    return Simulator()


@pytest.mark.parametrize("embedded", [True, False], ids=["with its certificate", "without"])
def test_a_timestamp_says_when_and_by_whom(sim, embedded):
    sim.tsa.embedded = [sim.tsa.leaf.certificate, sim.tsa.anchor.certificate] if embedded else []
    (time,) = sim.make("dsse", ("v2",)).judge().times
    assert (time.when, time.kind, time.authority, time.operator) == (
        sim.clock.now, TimeKind.TIMESTAMP, "https://tsa.example", "tsa.example",
    )  # fmt: skip
    assert time.source.root == "sim"


def test_a_timestamp_by_nobody_known_is_no_time_and_said_to_be_unchecked(sim):
    known = sim.tsa
    sim.tsa = Tsa(sim.clock)
    sim.change["root"] = lambda root: {**root, "timestampAuthorities": [known.trusted()]}
    case = sim.make("dsse", ("dsse",))
    facts = case.judge()
    assert [time.kind for time in facts.times] == [TimeKind.INTEGRATED]
    assert [item.what for item in facts.unchecked] == ["timestamp 1"]
    with pytest.raises(NoAttestedTime):
        sim.make("dsse", ("v2",)).judge()


def test_without_any_authority_in_the_root_a_timestamp_is_not_even_read(sim):
    sim.change["root"] = lambda root: {**root, "timestampAuthorities": []}
    sim.tsa.stamp = lambda _: b"no timestamp"
    facts = sim.make("dsse", ("dsse",)).judge()
    assert [(item.what, item.why) for item in facts.unchecked] == [("timestamp 1", "the trust root holds no timestamp authority")]


def test_one_authority_may_have_two_windows(sim):
    first = {"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"}
    second = {"start": "2026-01-01T00:00:00Z"}
    listed = sim.tsa.trusted()
    sim.change["root"] = lambda root: {**root, "timestampAuthorities": [{**listed, "validFor": valid} for valid in (first, second)]}
    assert sim.make("dsse", ("v2",)).judge().times


def test_a_retired_authority_does_not_lend_its_time_to_another(sim):
    retired, sim.tsa = sim.tsa, Tsa(sim.clock)
    retired.window = ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z")
    sim.change["root"] = lambda root: {**root, "timestampAuthorities": [*root["timestampAuthorities"], retired.trusted()]}
    assert sim.make("dsse", ("v2",)).judge().times


@pytest.mark.parametrize("status", [1, 2, 5])
def test_a_response_that_grants_nothing_is_refused(sim, status):
    genuine = sim.tsa.stamp
    sim.tsa.stamp = lambda signature: genuine(signature).replace(b"\x30\x03\x02\x01\x00", bytes((0x30, 3, 2, 1, status)), 1)
    with pytest.raises(BadTimestamp):
        sim.make("dsse", ("v2",)).judge()


def test_an_embedded_certificate_whose_serial_number_is_not_positive_is_refused_and_nothing_is_warned_of(sim):
    certificate = sim.tsa.leaf.certificate.public_bytes(Encoding.DER)
    sim.tsa.embedded, genuine = [sim.tsa.leaf.certificate], sim.tsa.stamp
    negative = with_serial(certificate, integer(-sim.tsa.leaf.certificate.serial_number))
    sim.tsa.stamp = lambda signature: genuine(signature).replace(certificate, negative)
    with pytest.raises(BadTimestamp) as caught:
        sim.make("dsse", ("v2",)).judge()
    assert "serial number" in caught.value.got


def _stamped():
    sim = Simulator()
    sim.tsa.embedded = [sim.tsa.leaf.certificate]
    case = sim.make("dsse", ("dsse",))
    stamps = json.loads(case.parts["bundle"])["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    return case, base64.b64decode(stamps[0]["signedTimestamp"])


STAMPED = _stamped()


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_timestamp_proves_more_or_leaves_another_exception(position, bit):
    case, stamp = STAMPED
    raw = bytearray(stamp)
    raw[position % len(raw)] ^= 1 << bit
    changed = [{"signedTimestamp": b64(bytes(raw))}]
    flipped = case.with_bundle(lambda bundle: bundle["verificationMaterial"]["timestampVerificationData"].update(rfc3161Timestamps=changed))
    try:
        facts = flipped.judge()
    except SigkitError:
        return
    assert set(facts.times) <= set(case.judge().times)


@pytest.mark.parametrize("form", ["dsse", "att"])
@pytest.mark.parametrize("embedded", [True, False], ids=["with its certificate", "without"])
def test_a_signer_s_name_of_a_type_of_string_that_the_library_gives_up_on_is_refused_as_TIME(sim, form, embedded):
    sim.tsa.embedded = [sim.tsa.leaf.certificate] if embedded else []
    stamp = sim.tsa.stamp
    common_name = b"\x06\x03\x55\x04\x03"
    sim.tsa.stamp = lambda signature: stamp(signature).replace(common_name + b"\x0c", common_name + b"\x03")
    with pytest.raises(BadTimestamp):
        sim.make(form, ("dsse",)).judge()
