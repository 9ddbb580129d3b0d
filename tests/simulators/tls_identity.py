"""A certificate authority and one server certificate, made for a test."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class TlsIdentity:
    """Paths of the authority's certificate and of the server's chain and key."""

    ca_file: str
    chain_file: str
    key_file: str

    @classmethod
    def make(cls, directory: Path, host: str, *, days: int = 0) -> Self:
        """Make an authority and let it sign a certificate for one DNS name, of today or so many days later."""
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        ca = _certificate(ca_name, ca_name, ca_key.public_key(), ca_key, x509.BasicConstraints(ca=True, path_length=0))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        leaf = _certificate(name, ca_name, key.public_key(), ca_key, x509.SubjectAlternativeName([x509.DNSName(host)]), days)
        pem = serialization.Encoding.PEM
        files = [directory / "ca.pem", directory / "chain.pem", directory / "key.pem"]
        files[0].write_bytes(ca.public_bytes(pem))
        files[1].write_bytes(leaf.public_bytes(pem))
        files[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return cls(*(str(file) for file in files))

    def server_context(self) -> ssl.SSLContext:
        """Return a server's context with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file, self.key_file)
        return context


def _certificate(subject, issuer, key, issuer_key, extension, days=0) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    day = dt.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    builder = builder.add_extension(authority, critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    if isinstance(extension, x509.BasicConstraints):
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
            key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())
