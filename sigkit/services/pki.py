"""Keys and certificates of the stack's authorities: made, written and read again.

A private key is an unencrypted PKCS #8 file that only its owner may read, written before the certificate that needs it.

Source: sigstore/fulcio docs/certificate-specification.md for what a chain holds.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from sigkit import durable, limits
from sigkit.errors import MalformedCertificate, MalformedKey, OtherKeyCertified, Place
from sigkit.keys.pem import encode_pem, parse_pem
from sigkit.keys.private import generate, parse_pkcs8
from sigkit.services.gateway import INTERNAL, GatewayError
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from sigkit.keys.private import PrivateKey

ROOT_LIFETIME: Final = timedelta(days=3650)
ISSUED_LIFETIME: Final = timedelta(days=1825)  # of what a root issues
_KEY_USES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Files(NamedTuple):
    """Where an authority's parts are: the root's as `ROOT.key` and `ROOT.pem` offline, its key and the chain in its own directory."""

    root: str
    key: str
    chain: str

    def load_chain(self, directory: str) -> tuple[x509.Certificate, ...]:
        """Read the authority's certificates, the one of its key first and the root last.

        Raises:
            FileUnreadable: (UNAVAIL).
            MalformedCertificate: (SIG).
        """
        return load_chain(os.path.join(directory, self.chain))

    def load(self, directory: str) -> tuple[ec.EllipticCurvePrivateKey, tuple[x509.Certificate, ...]]:
        """Read the authority's key and its certificates.

        Raises:
            FileUnreadable: (UNAVAIL).
            MalformedKey, MalformedCertificate: (SIG).
            OtherKeyCertified: (BIND) they do not belong together: nobody could verify what the key signs.
        """
        key, chain = load_key(os.path.join(directory, self.key)), self.load_chain(directory)
        if key.public_key() != chain[0].public_key():
            raise OtherKeyCertified(
                f"the first certificate in {os.path.join(directory, self.chain)} is for another key",
                place=Place.operator(os.path.join(directory, self.key)),
                remedy="restore both from one backup of the stack",
            )
        return key, chain


class Authority(NamedTuple):
    """A certificate that issues, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_key(path: str, curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    """Make a key and write it, only if nothing is at `path`.

    Raises:
        FileUnwritable: (UNAVAIL) something is there, no space, no permission.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(curve())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    durable.create_new(path, pem, mode=0o600)
    return key


def load_key(path: str) -> ec.EllipticCurvePrivateKey:
    """Read a key that `make_key` wrote.

    Raises:
        FileUnreadable: (UNAVAIL).
        MalformedKey: (SIG) something else is there.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.KEY_FILE_BYTES, place=place)
    try:
        key = load_pem_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        raise MalformedKey("not an unencrypted private key", place=place, expected="PKCS #8 in PEM") from err
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise MalformedKey("a private key of another kind", place=place, expected="ECDSA", got=type(key).__name__.strip("_"))
    return key


def make_log_key(path: str) -> PrivateKey:
    """Make the key that signs a log's checkpoints and write it, only if nothing is at `path`.

    Raises:
        FileUnwritable: (UNAVAIL) something is there, no space, no permission.
    """
    key = generate("ed25519")
    durable.create_new(path, encode_pem("PRIVATE KEY", key.pkcs8()), mode=0o600)
    return key


def load_log_key(path: str) -> PrivateKey:
    """Read a key that `make_log_key` wrote.

    Raises:
        FileUnreadable: (UNAVAIL).
        MalformedPem, MalformedKey: (SIG) something else is there.
    """
    place = Place.operator(path)
    block = parse_pem(durable.read(path, most_bytes=limits.KEY_FILE_BYTES, place=place), ("PRIVATE KEY",), place)
    return parse_pkcs8(block.data, place)


def write_chain(path: str, chain: Sequence[x509.Certificate]) -> None:
    """Write certificates in PEM, in this order.

    Raises:
        FileUnwritable: (UNAVAIL).
    """
    durable.write(path, b"".join(pem(certificate) for certificate in chain))


def load_chain(path: str) -> tuple[x509.Certificate, ...]:
    """Read certificates in PEM, in their order; at least one.

    Raises:
        FileUnreadable: (UNAVAIL).
        MalformedCertificate: (SIG).
    """
    from cryptography import x509

    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.KEY_FILE_BYTES, place=place)
    try:
        return tuple(x509.load_pem_x509_certificates(raw))
    except ValueError as err:
        raise MalformedCertificate("no certificates in PEM", place=place, got=str(err)[:200]) from err


def pem(certificate: x509.Certificate) -> bytes:
    """Write a certificate in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    """Write a certificate in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def spki(key: CertificatePublicKeyTypes) -> bytes:
    """Write a public key as SubjectPublicKeyInfo in DER."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_usage(*uses: str) -> x509.KeyUsage:
    """Return a key usage of these uses and no others."""
    from cryptography import x509

    return x509.KeyUsage(**{use: use in uses for use in _KEY_USES})


def make_root(offline: str, stem: str, name: str, common_name: str, now: datetime) -> None:
    """Make a root's key and certificate in `offline`, as `STEM.key` and `STEM.pem`.

    Raises:
        FileUnwritable: (UNAVAIL) they are there, no space, no permission.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = make_key(os.path.join(offline, f"{stem}.key"), ec.SECP384R1)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=1), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
    ]
    subject = subject_name(name, common_name)
    certificate = sign_certificate(key.public_key(), subject, subject, key, (now, now + ROOT_LIFETIME), extensions)
    write_chain(os.path.join(offline, f"{stem}.pem"), [certificate])


def load_root(offline: str, stem: str) -> Authority:
    """Read what `make_root` made.

    Raises:
        FileUnreadable: (UNAVAIL).
        MalformedKey, MalformedCertificate: (SIG).
    """
    return Authority(load_chain(os.path.join(offline, f"{stem}.pem"))[0], load_key(os.path.join(offline, f"{stem}.key")))


def make_issued(
    directory: str, offline: str, files: Files, subject: x509.Name, now: datetime, extensions: Sequence[tuple[x509.ExtensionType, bool]]
) -> None:
    """Make an authority's key in `directory`, and have the root in `offline` certify it.

    Raises:
        FileUnwritable, FileUnreadable: (UNAVAIL).
        MalformedKey, MalformedCertificate: (SIG) what is in `offline`.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    root = load_root(offline, files.root)
    key = make_key(os.path.join(directory, files.key), ec.SECP256R1)
    until = min(now + ISSUED_LIFETIME, root.certificate.not_valid_after_utc)
    certificate = sign_certificate(key.public_key(), subject, root.certificate.subject, root.key, (now, until), extensions)
    write_chain(os.path.join(directory, files.chain), [certificate, root.certificate])


def check_valid(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse to sign in the name of a certificate that is not valid now: nobody could verify it.

    Raises:
        GatewayError: it has ended, or has not begun by the clock here.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now.replace(microsecond=0) <= end:
        window = f"{format_time(start)} to {format_time(end)}"
        raise GatewayError(500, INTERNAL, f"the authority's certificate is valid {window}, and the clock here says {format_time(now)}")


def subject_name(organization: str, common_name: str) -> x509.Name:
    """Return the name of an authority."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def sign_certificate(
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    valid: tuple[datetime, datetime],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    """Sign a certificate of an authority with the identifiers of both keys and these extensions, each critical or not."""
    from cryptography import x509

    builder = x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(valid[0].replace(microsecond=0)).not_valid_after(valid[1].replace(microsecond=0))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    return builder.sign(signer, signing_hash(signer))


def signing_hash(key: ec.EllipticCurvePrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash that belongs to the key's curve."""
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA384() if key.curve.key_size > 256 else hashes.SHA256()
