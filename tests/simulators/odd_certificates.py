"""Certificates that the library of X.509 refuses late, and each by another exception."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sigkit.services import der

ODD = ("an extension twice", "a name of a kind that no one issues", "another version", "a key of another kind", "serial number zero")


def plain_certificate(key, *names) -> bytes:
    """Return a certificate over a key, signed by itself, with these alternative names."""
    nobody, now = x509.Name([]), datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(nobody, nobody, key.public_key(), 5, now, now)
    named = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    encoded: bytes = named.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    return encoded


def odd_certificate(key, oddity: str) -> bytes:
    """Return a certificate over a key that is odd in one way, and whose own signature is not valid."""
    body, *rest = der.read_all(der.read_one(plain_certificate(key, x509.RFC822Name("a@b.example")), der.SEQUENCE).content)
    parts = [part.whole for part in der.read_all(body.content)]
    version, serial, listed = 0, 1, len(parts) - 1
    extension = der.read_one(der.read_one(parts[listed], 0xA3).content, der.SEQUENCE).content
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    match oddity:
        case "an extension twice":
            parts[listed] = der.element(0xA3, der.sequence(extension, extension))
        case "a name of a kind that no one issues":  # x400Address
            name = der.sequence(der.identifier("2.5.29.17"), der.octets(der.sequence(der.element(0xA3, b"\x30\x00"))))
            parts[listed] = der.element(0xA3, der.sequence(name))
        case "another version":
            parts[version] = der.element(0xA0, der.integer(5))
        case "a key of another kind":
            parts[parts.index(spki)] = der.sequence(der.sequence(der.identifier("1.2.3.4.5")), der.element(3, b"\0abc"))
        case "serial number zero":
            parts[serial] = der.integer(0)
        case _:
            raise ValueError(oddity)
    return der.sequence(der.sequence(*parts), *(part.whole for part in rest))
