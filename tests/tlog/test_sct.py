"""Promises of certificate logs: proved over the certificate without them and the key of its issuer, and nothing else."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.certificate_transparency import LogEntryType
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import BadSct, Place
from sigkit.keys.certificate import load_certificate
from sigkit.keys.public import of_library
from sigkit.tlog.sct import verify_sct
from tests.simulators import der
from tests.simulators.sigstore_authorities import DAY, SCT_LIST, certify, certify_authority
from tests.simulators.sigstore_logs import spki

PLACE = Place("certificate")
START = datetime(2026, 6, 1, 12, tzinfo=UTC)
VALID = (START, START + DAY)
LOG, SIGNER, OTHER = (ec.derive_private_key(number, ec.SECP256R1()) for number in (11, 12, 13))
LOG_PUBLIC = of_library(LOG.public_key())
ISSUER = certify_authority("test", None, VALID)
BARE = certify("", SIGNER, ISSUER, VALID, [])
LATEST_MS = 253_402_300_799_999  # the last millisecond that a datetime holds
TIME_MS = int(START.timestamp()) * 1000 + 123


def promise(milliseconds=TIME_MS, extensions=b"", key=LOG, version=0, signed_extensions=None):
    """Return a signed certificate timestamp, serialised by hand (RFC 6962 section 3.2)."""
    time = milliseconds.to_bytes(8, "big")
    body = BARE.tbs_certificate_bytes
    entry = hashlib.sha256(spki(ISSUER.key)).digest() + len(body).to_bytes(3, "big") + body
    carried, signed = (len(part).to_bytes(2, "big") + part for part in (extensions, signed_extensions or extensions))
    signature = key.sign(b"\0\0" + time + b"\0\1" + entry + signed, ec.ECDSA(hashes.SHA256()))
    log_id = hashlib.sha256(spki(LOG)).digest()
    return bytes((version,)) + log_id + time + carried + b"\4\3" + len(signature).to_bytes(2, "big") + signature


def carrying(raw, key=SIGNER, valid=VALID):
    """Return the certificate with a promise in it."""
    listed = len(raw).to_bytes(2, "big") + raw
    carried = x509.UnrecognizedExtension(SCT_LIST, der.octets(len(listed).to_bytes(2, "big") + listed))
    return certify("", key, ISSUER, valid, [(carried, False)], BARE.serial_number)


def judge(certificate, issuer_key=None, key=LOG_PUBLIC):
    (sct,) = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    return verify_sct(certificate, issuer_key or spki(ISSUER.key), sct, key, PLACE)


@pytest.mark.parametrize("extensions", [b"", b"\0\0\5leaf", bytes(1000)])
def test_a_promise_is_proved_and_gives_its_time_to_the_millisecond(extensions):
    assert judge(carrying(promise(extensions=extensions))) == START + timedelta(milliseconds=123)


@pytest.mark.parametrize("milliseconds", [0, 999, LATEST_MS])
def test_the_first_and_the_last_time_that_can_be_written_are_read(milliseconds):
    assert judge(carrying(promise(milliseconds))) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize("milliseconds", [LATEST_MS + 1, 2**63, 2**64 - 1])
def test_a_time_that_no_calendar_has_is_refused_though_the_log_signed_it(milliseconds):
    with pytest.raises(BadSct) as caught:
        judge(carrying(promise(milliseconds)))
    assert caught.value.place == PLACE


@pytest.mark.parametrize(
    ("certificate", "other"),
    [
        pytest.param(carrying(promise()), {"key": of_library(OTHER.public_key())}, id="the key of another log"),
        pytest.param(carrying(promise()), {"issuer_key": spki(OTHER)}, id="another issuer"),
        pytest.param(carrying(promise(key=OTHER)), {}, id="a signature by somebody else"),
        pytest.param(carrying(promise(), key=OTHER), {}, id="a certificate for another key"),
        pytest.param(carrying(promise(), valid=(START, START + 2 * DAY)), {}, id="a certificate of another validity"),
        pytest.param(carrying(promise(extensions=b"a", signed_extensions=b"b")), {}, id="other extensions than were signed"),
    ],
)
def test_what_the_log_did_not_sign_is_refused(certificate, other):
    with pytest.raises(BadSct) as caught:
        judge(certificate, **other)
    assert caught.value.place == PLACE


@pytest.mark.parametrize(("member", "value"), [("version", None), ("entry_type", LogEntryType.X509_CERTIFICATE)])
def test_a_promise_of_another_kind_is_refused_though_its_signature_is_valid(member, value):
    """Such promises come beside a certificate, never in one, so this one says of itself what it is not."""
    (sct,) = GOOD.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    names = (
        "version",
        "log_id",
        "timestamp",
        "entry_type",
        "signature",
        "extension_bytes",
        "signature_hash_algorithm",
        "signature_algorithm",
    )
    told = {name: getattr(sct, name) for name in names}
    same: Any = SimpleNamespace(**told)
    other: Any = SimpleNamespace(**told | {member: value})
    assert verify_sct(GOOD, spki(ISSUER.key), same, LOG_PUBLIC, PLACE)
    with pytest.raises(BadSct):
        verify_sct(GOOD, spki(ISSUER.key), other, LOG_PUBLIC, PLACE)


def test_a_promise_of_another_version_in_a_certificate_is_not_even_read():
    with pytest.raises(ValueError, match="version"):
        judge(carrying(promise(version=1)))


PROMISE = promise()
GOOD = carrying(PROMISE)
ALGORITHM = 33 + 8 + 2  # after version, id, time and the length of the extensions


@pytest.mark.parametrize("stated", [b"\2\3", b"\5\3", b"\6\3", b"\4\1"], ids=["SHA-1", "SHA-384", "SHA-512", "RSA"])
def test_a_promise_that_states_another_algorithm_than_it_is_signed_by_is_refused(stated):
    with pytest.raises(BadSct) as caught:
        judge(carrying(PROMISE[:ALGORITHM] + stated + PROMISE[ALGORITHM + 2 :]))
    assert caught.value.expected.startswith("SHA-256 and ECDSA")


@given(st.data())
def test_a_flipped_bit_in_time_or_signature_is_refused(data):
    raw = bytearray(PROMISE)
    signature = ALGORITHM + 4  # after the two lengths
    places = [*range(33, 41), *range(signature, len(raw))]
    raw[data.draw(st.sampled_from(places))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadSct):
        judge(carrying(bytes(raw)))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # of a serial number that became negative
@given(st.data())
def test_a_flipped_bit_in_the_certificate_is_refused_or_is_no_part_of_what_was_promised(data):
    raw = bytearray(GOOD.public_bytes(serialization.Encoding.DER))
    body = GOOD.tbs_certificate_bytes
    start = bytes(raw).index(body)
    raw[data.draw(st.integers(start, start + len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = load_certificate(bytes(raw))
        listed = changed.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        (sct,) = listed
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion):
        return
    try:
        when = verify_sct(changed, spki(ISSUER.key), sct, LOG_PUBLIC, PLACE)
    except BadSct:
        return
    # The log's id, by which the caller finds the key, and the names of its algorithms are signed by nobody.
    assert (when, changed.tbs_precertificate_bytes) == (START + timedelta(milliseconds=123), BARE.tbs_certificate_bytes)
