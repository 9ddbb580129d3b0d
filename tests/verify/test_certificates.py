"""The signer's certificate: names and extensions of every kind, and nothing but refusals for what is malformed."""

from __future__ import annotations

import base64
import ipaddress
import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import (
    MalformedCertificate,
    NotUtf8,
    OutsideAuthority,
    OutsideCertificate,
    Place,
    SigkitError,
    UntrustedCertificate,
    WrongShape,
)
from sigkit.evidence.form import CHAIN_PART
from sigkit.verify.extensions import NAMES, decode_extension, encode_extension
from sigkit.verify.facts import IdentitySigner
from tests.simulators import der
from tests.simulators.der import with_serial
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import DAY, at, certify_authority, chain_document
from tests.simulators.sigstore_logs import b64

USERNAME = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
PLACE = Place("certificate")


@pytest.fixture
def sim() -> Simulator:
    return Simulator()


def signer(sim) -> IdentitySigner:
    found = sim.make("dsse", ()).judge().signer.signer
    assert isinstance(found, IdentitySigner)
    return found


@pytest.mark.parametrize(
    ("name", "kind", "subject"),
    [
        (x509.RFC822Name("release@example.org"), "email", "release@example.org"),
        (x509.UniformResourceIdentifier("spiffe://example.org/release"), "uri", "spiffe://example.org/release"),
        (x509.OtherName(USERNAME, der.utf8("release!example.org")), "username", "release!example.org"),
        (x509.OtherName(USERNAME, der.utf8("r" * 300)), "username", "r" * 300),
        (x509.DNSName("build.example.org"), "dns", "build.example.org"),
        (x509.IPAddress(ipaddress.ip_address("192.0.2.1")), "ip", "192.0.2.1"),
    ],
    ids=["email", "uri", "username", "long username", "dns", "ip"],
)
def test_a_subject_has_its_kind(sim, name, kind, subject):
    sim.ca.names = [name]
    assert (signer(sim).kind, signer(sim).subject) == (kind, subject)


@pytest.mark.parametrize("serial", [b"\x02\x01\x00", b"\x02\x01\x80"], ids=["zero", "negative"])
def test_a_serial_number_that_is_not_positive_is_refused_as_SIG_and_nothing_is_warned_of(sim, serial):
    with pytest.raises(MalformedCertificate):  # the suite turns a warning into another error
        sim.make("dsse", ()).with_bundle(lambda bundle: renumber(bundle["verificationMaterial"]["certificate"], serial)).judge()


def renumber(certificate, serial):
    certificate["rawBytes"] = b64(with_serial(base64.b64decode(certificate["rawBytes"]), serial))


@pytest.mark.parametrize("number", NAMES)
def test_every_extension_is_read_under_its_name(sim, number):
    text = f"value {number} " + "ü" * 70  # longer than 127 bytes: the length is in two
    sim.ca.extensions = {number: text.encode() if number < 8 else der.utf8(text)}
    assert dict(signer(sim).extensions) == {NAMES[number]: text}


def test_an_old_and_a_new_issuer_that_agree_are_one_and_unknown_extensions_are_left_out(sim):
    sim.ca.extensions = {1: b"https://issuer.example", 8: der.utf8("https://issuer.example"), 99: b"\5\0"}
    assert dict(signer(sim).extensions) == {"issuer": "https://issuer.example"}


def test_a_certificate_without_an_issuer_names_none(sim):
    sim.ca.extensions = {}
    assert signer(sim).issuer == ""


@pytest.mark.parametrize("number", NAMES)
@given(text=st.text(max_size=300))
def test_what_is_written_as_an_extension_is_read_again(number, text):
    assert decode_extension(number, encode_extension(number, text), PLACE) == text


@given(number=st.sampled_from([number for number in NAMES if number >= 8]), content=st.binary(max_size=200))
def test_an_extension_is_written_in_one_way_or_refused(number, content):
    try:
        text = decode_extension(number, content, PLACE)
    except (MalformedCertificate, NotUtf8):
        return
    assert encode_extension(number, text) == content


@pytest.mark.parametrize(
    "content", [b"", b"\x0c", b"\x0c\x81\x01a", b"\x0c\x02a", b"\x0c\x01ab", b"\x0c\x80a\0\0", b"\x16\x01a", b"\x0c\x01\xff"]
)
def test_a_malformed_extension_is_refused(sim, content):
    sim.ca.extensions = {9: content}
    with pytest.raises((MalformedCertificate, NotUtf8)):
        signer(sim)


def test_an_intermediate_that_only_the_evidence_brings_is_a_link_to_the_anchor(sim):
    sim.ca.listed = [sim.ca.anchor.certificate]
    sim.make("simple", ()).judge()
    with pytest.raises(UntrustedCertificate):
        sim.make("dsse", ()).judge()  # a bundle of version 0.3 brings none


def test_an_intermediate_beside_those_that_the_trust_root_lists_is_no_link(sim):
    sim.make("simple", ()).judge()
    sim.ca.listed = [sim.ca.intermediate.certificate, sim.ca.anchor.certificate]
    sim.ca.intermediate = certify_authority("another of the company's", sim.ca.anchor, (sim.clock.now - DAY, sim.clock.now + DAY))
    with pytest.raises(UntrustedCertificate):
        sim.make("simple", ()).judge()  # brings it


@pytest.mark.attack("an intermediate whose time has ended")
@pytest.mark.parametrize("beside", ["its successor", "the anchor alone"])
def test_an_intermediate_whose_time_has_ended_in_the_trust_root_does_not_come_back_with_the_evidence(sim, beside):
    successor = certify_authority("successor", sim.ca.anchor, (sim.clock.now - DAY, sim.clock.now + DAY))
    chain = [successor.certificate] if beside == "its successor" else []

    def retire(root):
        (stolen,) = root["certificateAuthorities"]
        stolen["validFor"]["end"] = at(sim, -DAY / 2)
        fresh = {**stolen, "certChain": chain_document([*chain, sim.ca.anchor.certificate]), "validFor": {"start": at(sim, -DAY)}}
        return {**root, "certificateAuthorities": [stolen, fresh]}

    sim.change["root"] = retire
    with pytest.raises(OutsideAuthority):
        sim.make("simple", ()).judge()  # brings the intermediate


@pytest.mark.parametrize("usages", [[ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.TIME_STAMPING]], ids=["servers", "timestamps"])
def test_an_intermediate_for_something_else_is_no_link(sim, usages):
    sim.ca.listed = [sim.ca.anchor.certificate]
    sim.ca.intermediate = certify_authority("other", sim.ca.anchor, (sim.clock.now - DAY, sim.clock.now + DAY), usages)
    with pytest.raises(UntrustedCertificate):
        sim.make("simple", ()).judge()


def test_a_path_longer_than_its_authority_allows_is_refused(sim):
    between = sim.ca.intermediate  # of path length 0
    sim.ca.listed = [between.certificate, sim.ca.anchor.certificate]
    sim.ca.intermediate = certify_authority("one too many", between, (sim.clock.now - DAY, sim.clock.now + DAY))
    with pytest.raises(UntrustedCertificate):
        sim.make("simple", ()).judge()


def test_an_intermediate_of_the_evidence_must_be_valid_too(sim):
    sim.ca.listed = [sim.ca.anchor.certificate]
    sim.ca.intermediate = certify_authority("short", sim.ca.anchor, (sim.clock.now - DAY, sim.clock.now + timedelta(seconds=4)))
    with pytest.raises(OutsideCertificate):
        sim.make("simple", ()).judge()


def test_certificates_offered_beside_the_path_change_nothing(sim):
    case = sim.make("simple", ())
    stranger = Simulator().make("simple", ()).parts[CHAIN_PART]
    case.parts[CHAIN_PART] += stranger
    assert case.judge().signer.signer.subject


def _flipped():
    case = Simulator().make("dsse", ())
    return case, base64.b64decode(json.loads(case.parts["bundle"])["verificationMaterial"]["certificate"]["rawBytes"])


FLIPPED = _flipped()


@given(position=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_flipped_bit_of_a_certificate_proves_another_signer_or_leaves_another_exception(position, bit):
    case, signed = FLIPPED
    raw = bytearray(signed)
    raw[position % len(raw)] ^= 1 << bit
    flipped = case.with_bundle(lambda bundle: bundle["verificationMaterial"]["certificate"].update(rawBytes=b64(bytes(raw))))
    try:
        facts = flipped.judge()
    except SigkitError:
        return
    assert facts == case.judge()


@pytest.mark.parametrize(("version", "error"), [("0.2", WrongShape), ("0.3", MalformedCertificate)])
def test_a_name_of_a_type_of_string_that_the_library_gives_up_on_is_refused_and_no_bug(sim, version, error):
    case = sim.make("message", ("hashedrekord",), version=version)

    def spoil(bundle):
        material = bundle["verificationMaterial"]
        given = material["certificate"] if version == "0.3" else material["x509CertificateChain"]["certificates"][0]
        raw = base64.b64decode(given["rawBytes"])
        given["rawBytes"] = base64.b64encode(raw.replace(b"\x06\x03\x55\x04\x03\x0c", b"\x06\x03\x55\x04\x03\x03")).decode()
        if version != "0.3":  # an intermediate that the bundle brings is read too, and sooner
            material["x509CertificateChain"]["certificates"].append(dict(given))

    with pytest.raises(error):
        case.with_bundle(spoil).judge()
