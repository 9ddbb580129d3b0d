"""Certificates are loaded, or refused, without a warning."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from sigkit.keys.certificate import load_certificate, read_certificate
from tests.simulators import der
from tests.simulators.sigstore import Simulator

CERTIFICATE = Simulator().ca.anchor.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("serial", [1, 127, 128, 2**158])
def test_a_positive_serial_number_is_read(serial):
    assert load_certificate(der.with_serial(CERTIFICATE, der.integer(serial))).serial_number == serial


@pytest.mark.parametrize(
    "serial", [b"\2\1\0", b"\2\1\xff", b"\2\2\x80\0", b"\2\2\0\0"], ids=["zero", "minus one", "negative", "zero in two bytes"]
)
def test_another_serial_number_is_refused(serial):
    with pytest.raises(ValueError, match="serial"):
        load_certificate(der.with_serial(CERTIFICATE, serial))


def test_a_serial_number_in_a_certificate_of_version_1_is_looked_at_too():
    signed, *rest = der.elements(der.opened(CERTIFICATE))
    _, _, *fields = der.elements(der.opened(signed))
    with pytest.raises(ValueError, match="positive"):
        load_certificate(der.sequence(der.sequence(b"\2\1\0", *fields), *rest))


AUTHORITY_KEY = b"\x06\x03\x55\x1d\x23"
KEY_AND_ISSUER = der.tlv(0x80, b"\xff" * 20) + der.tlv(0xA1, der.tlv(0x82, b"ca.example"))


def with_authority_serial(*elements: bytes, decoy: bytes = b"") -> bytes:
    """Return a certificate whose authority key identifier holds these elements; `decoy` stands before it as another extension."""
    signed, *rest = der.elements(der.opened(CERTIFICATE))
    *fields, extensions = der.elements(der.opened(signed))
    kept = [item for item in der.elements(der.opened(der.opened(extensions))) if AUTHORITY_KEY not in item]
    named = der.sequence(AUTHORITY_KEY, der.octets(der.sequence(*elements)))
    ours = der.tlv(0xA3, der.sequence(*kept, *([decoy] if decoy else []), named))
    return der.sequence(der.sequence(*fields, ours), *rest)


@pytest.mark.parametrize(
    "decoy", [b"", der.sequence(der.oid("1.2.3.4"), der.octets(AUTHORITY_KEY + b"\4"))], ids=["alone", "behind what looks like it"]
)
@pytest.mark.parametrize("serial", [b"\x82\1\0", b"\x82\1\xff", b"\x82\2\x80\0"], ids=["zero", "minus one", "negative"])
def test_the_authority_s_serial_number_is_refused_like_the_certificate_s_own(serial, decoy):
    with pytest.raises(ValueError, match="positive"):
        read_certificate(with_authority_serial(KEY_AND_ISSUER, serial, decoy=decoy))
    read_certificate(with_authority_serial(KEY_AND_ISSUER, b"\x82\1\x7f", decoy=decoy))


@given(position=st.integers(min_value=0), bit=st.integers(0, 7), end=st.integers(0, len(CERTIFICATE)))
def test_nothing_but_a_refusal_leaves_it_and_no_warning(position, bit, end):
    raw = bytearray(CERTIFICATE)
    raw[position % len(raw)] ^= 1 << bit
    for damaged in (bytes(raw), CERTIFICATE[:end]):
        try:
            read_certificate(damaged)
        except ValueError:
            continue


COMMON_NAME = b"\x06\x03\x55\x04\x03"


@pytest.mark.parametrize("tag", [*range(0x20), 0x80, 0xA0])
def test_a_name_of_whatever_type_of_string_is_read_or_refused_at_once(tag):
    raw = CERTIFICATE.replace(COMMON_NAME + b"\x0c", COMMON_NAME + bytes((tag,)))
    assert raw != CERTIFICATE or tag == 0x0C
    try:
        certificate = read_certificate(raw)
    except ValueError:
        return
    assert certificate.subject.rfc4514_string()


def test_a_malformed_extension_is_refused_at_once():
    raw = CERTIFICATE.replace(b"\x30\x06\x01\x01\xff\x02\x01", b"\x30\x06\x01\x01\xff\x04\x01")  # the length of paths, as no number
    assert load_certificate(raw) != load_certificate(CERTIFICATE)
    with pytest.raises(ValueError, match="asn1"):
        read_certificate(raw)
