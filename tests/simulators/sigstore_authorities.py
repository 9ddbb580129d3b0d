"""The authorities of the simulated sigstore instance: certificates, their log, timestamps, and the clock that all share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.simulators import der
from tests.simulators.sigstore_logs import Clock, Json, Log, b64, spki

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulators.sigstore import Simulator

ISSUER = "https://issuer.example"
SUBJECT = "https://git.example/acme/app/.github/workflows/release.yml@refs/heads/main"
FULCIO = "1.3.6.1.4.1.57264.1."
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
DAY = timedelta(days=1)


@dataclass
class Link:
    """A certificate of an authority, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def key_usage(*names: str) -> x509.KeyUsage:
    every = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign encipher_only"
    return x509.KeyUsage(**{name: name in names for name in (*every.split(), "decipher_only")})


def certify(
    name: str,
    key: Any,
    issuer: Link | None,
    valid: tuple[datetime, datetime],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    serial: int | None = None,
) -> x509.Certificate:
    """Issue a certificate; without an issuer by its own key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    signer = issuer.key if issuer else key
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.certificate.subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(serial or x509.random_serial_number())
    builder = builder.not_valid_before(valid[0]).not_valid_after(valid[1])
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certify_authority(
    name: str, issuer: Link | None, valid: tuple[datetime, datetime], usages: Sequence[x509.ObjectIdentifier] = ()
) -> Link:
    key = new_key()
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=0 if issuer else 1), True),
        (key_usage("key_cert_sign", "crl_sign"), True),
    ]
    if usages:
        extensions.append((x509.ExtendedKeyUsage(usages), False))
    return Link(certify(name, key, issuer, valid, extensions), key)


def chain_document(chain: Sequence[x509.Certificate]) -> Json:
    return {"certificates": [{"rawBytes": b64(item.public_bytes(serialization.Encoding.DER))} for item in chain]}


def at(sim: Simulator, ago: timedelta) -> str:
    """Return a time as trusted roots write it."""
    return f"{sim.clock.now + ago:%Y-%m-%dT%H:%M:%SZ}"


class CertificateLog(Log):
    """A certificate log: it promises to include what it is shown."""

    details = "PKIX_ECDSA_P256_SHA_256"

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, "ct.example")
        self.key = new_key()
        self.extensions = b""

    @property
    def log_id(self) -> bytes:
        return hashlib.sha256(spki(self.key)).digest()

    def promise(self, precertificate: bytes, issuer_key: bytes) -> bytes:
        """Return a signed certificate timestamp, serialised."""
        time = int(self.changed("time", self.clock.now).timestamp() * 1000).to_bytes(8, "big")
        extensions = len(self.extensions).to_bytes(2, "big") + self.extensions
        entry = hashlib.sha256(issuer_key).digest() + len(precertificate).to_bytes(3, "big") + precertificate
        message = b"\0\0" + time + b"\0\x01" + entry + extensions
        signature: bytes = self.key.sign(self.changed("promise", message), ec.ECDSA(hashes.SHA256()))
        algorithm: bytes = self.changed("algorithm", b"\x04\x03")  # SHA-256 and ECDSA
        return b"\0" + self.log_id + time + extensions + algorithm + len(signature).to_bytes(2, "big") + signature


class Authority:
    """A certificate authority with an intermediate. What stands in the next certificate are its attributes."""

    def __init__(self, clock: Clock, certificate_log: CertificateLog, name: str = "sim") -> None:
        self.clock = clock
        self.logs = [certificate_log]
        self.anchor = certify_authority(f"{name} root", None, (clock.now - 1000 * DAY, clock.now + 1000 * DAY))
        self.intermediate = certify_authority(
            f"{name} intermediate", self.anchor, (clock.now - 500 * DAY, clock.now + 500 * DAY), [ExtendedKeyUsageOID.CODE_SIGNING]
        )
        self.window: tuple[str, str | None] = ("2020-01-01T00:00:00Z", None)
        self.names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(SUBJECT)]
        self.usages = [ExtendedKeyUsageOID.CODE_SIGNING]
        self.key_usage: x509.KeyUsage | None = key_usage("digital_signature")
        self.extensions = {1: ISSUER.encode(), 8: der.utf8(ISSUER), 12: der.utf8("https://git.example/acme/app")}
        self.more: list[tuple[x509.ExtensionType, bool]] = []
        self.lifetime = timedelta(minutes=10)
        self.listed: list[x509.Certificate] | None = None  # in the trusted root, if not these two

    def issue(self, key: Any) -> x509.Certificate:
        """Certify a key, with the promise of each certificate log."""
        extensions: list[tuple[x509.ExtensionType, bool]] = []
        if self.key_usage is not None:
            extensions.append((self.key_usage, True))
        if self.usages:
            extensions.append((x509.ExtendedKeyUsage(self.usages), False))
        if self.names:
            extensions.append((x509.SubjectAlternativeName(self.names), True))
        extensions += [
            (x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{FULCIO}{number}"), value), False)
            for number, value in self.extensions.items()
        ]
        extensions += self.more
        valid = (self.clock.now, self.clock.now + self.lifetime)
        bare = certify("", key, self.intermediate, valid, extensions)
        promises = [log.promise(bare.tbs_certificate_bytes, spki(self.intermediate.key)) for log in self.logs]
        if not promises:
            return bare
        listed = b"".join(len(promise).to_bytes(2, "big") + promise for promise in promises)
        carried = x509.UnrecognizedExtension(SCT_LIST, der.octets(len(listed).to_bytes(2, "big") + listed))
        return certify("", key, self.intermediate, valid, [*extensions, (carried, False)], bare.serial_number)

    def trusted(self) -> Json:
        start, end = self.window
        listed = self.listed if self.listed is not None else [self.intermediate.certificate, self.anchor.certificate]
        return {
            "uri": "https://ca.example",
            "certChain": chain_document(listed),
            "validFor": {"start": start, **({"end": end} if end else {})},
            "operator": "ca.example",
        }


class Tsa:
    """A timestamp authority. `signers` makes the SignerInfos of a token, so that there may be several."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.usages = [ExtendedKeyUsageOID.TIME_STAMPING]
        self.critical = True
        self.more: list[tuple[x509.ExtensionType, bool]] = []
        self.valid = (clock.now - 100 * DAY, clock.now + 100 * DAY)
        self.window: tuple[str, str | None] = ("2020-01-01T00:00:00Z", None)
        self.embedded: list[x509.Certificate] = []
        self.signers: Callable[[bytes], list[bytes]] = lambda info: [der.signer_info(info, self.leaf.certificate, self.leaf.key)]
        self.certify(clock.now + 1000 * DAY)

    def certify(self, until: datetime) -> None:
        """Make the chain anew; the anchor is valid `until`."""
        self.anchor = certify_authority("tsa root", None, (self.clock.now - 1000 * DAY, until))
        key = new_key()
        usage: list[tuple[x509.ExtensionType, bool]] = [
            (key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage(self.usages), self.critical),
            *self.more,
        ]
        self.leaf = Link(certify("tsa", key, self.anchor, self.valid, usage), key)

    def stamp(self, signature: bytes) -> bytes:
        """Return the answer to a request for a timestamp of these bytes."""
        return self.stamp_imprint(hashlib.sha256(signature).digest(), None)

    def stamp_imprint(self, imprint: bytes, nonce: int | None) -> bytes:
        """Return the answer to a request for a timestamp of the bytes whose SHA-256 this is."""
        info = der.timestamp_info(imprint, self.clock.now, x509.random_serial_number() >> 8, nonce)
        return der.timestamp_response(info, self.signers(info), self.embedded)

    def trusted(self) -> Json:
        start, end = self.window
        return {
            "uri": "https://tsa.example",
            "certChain": chain_document([self.leaf.certificate, self.anchor.certificate]),
            "validFor": {"start": start, **({"end": end} if end else {})},
            "operator": "tsa.example",
        }
