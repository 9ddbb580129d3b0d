"""Whom an entry names as its signer is said in words, whatever form the name has."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sigkit.cli.log_signer import signers_of
from sigkit.errors import Place
from sigkit.strict import encode_base64
from sigkit.verify.extensions import USERNAME_OID, encode_utf8_string

KEY = ec.generate_private_key(ec.SECP256R1())


def body_of(name):
    subject = x509.Name([])
    begins, ends = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, begins, ends)
    certificate = builder.add_extension(x509.SubjectAlternativeName([name]), critical=True).sign(KEY, hashes.SHA256())
    return {"spec": {"verifier": {"rawBytes": encode_base64(certificate.public_bytes(Encoding.DER))}}}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (x509.OtherName(x509.ObjectIdentifier(USERNAME_OID), encode_utf8_string(b"mia!acme.example")), "mia!acme.example"),
        (x509.RFC822Name("mia@acme.example"), "mia@acme.example"),
    ],
)
def test_a_user_name_is_read_as_an_address_is(name, said):
    assert signers_of(body_of(name), Place("log")) == (said,)
