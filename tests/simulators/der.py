"""As much DER as a timestamp needs, written by hand: what is malformed on purpose no library would write."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509

SHA256 = "2.16.840.1.101.3.4.2.1"
ECDSA_SHA256 = "1.2.840.10045.4.3.2"
SIGNED_DATA = "1.2.840.113549.1.7.2"
TST_INFO = "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.47"
POLICY = "1.3.6.1.4.1.57264.2"


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def elements(content: bytes) -> list[bytes]:
    """Take apart what `sequence` was given."""
    found = []
    while content:
        head = 2 if content[1] < 0x80 else 2 + (content[1] & 0x7F)
        end = head + (content[1] if head == 2 else int.from_bytes(content[2:head], "big"))
        found.append(content[:end])
        content = content[end:]
    return found


def opened(element: bytes) -> bytes:
    """Return the content of an element."""
    return element[2 if element[1] < 0x80 else 2 + (element[1] & 0x7F) :]


def with_serial(certificate: bytes, serial: bytes) -> bytes:
    """Return a certificate with another serial number, an INTEGER in DER. Its signature is as it was."""
    signed, *rest = elements(opened(certificate))
    version, _, *fields = elements(opened(signed))
    return sequence(sequence(version, serial, *fields), *rest)


def set_of(*parts: bytes) -> bytes:
    return tlv(0x31, *sorted(parts))


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def octets(value: bytes) -> bytes:
    return tlv(0x04, value)


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    out = bytearray()
    for number in (first * 40 + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return tlv(0x06, bytes(out))


def utf8(text: str) -> bytes:
    return tlv(0x0C, text.encode())


def algorithm(dotted: str) -> bytes:
    return sequence(oid(dotted))


def timestamp_info(imprint: bytes, when: datetime, serial: int, nonce: int | None = None) -> bytes:
    """Return a TSTInfo about the bytes whose SHA-256 is `imprint`."""
    time = tlv(0x18, f"{when:%Y%m%d%H%M%SZ}".encode())
    head = (integer(1), oid(POLICY), sequence(algorithm(SHA256), octets(imprint)), integer(serial), time, sequence(integer(1)))
    return sequence(*head, *([] if nonce is None else [integer(nonce)]))


def read_tlvs(content: bytes) -> list[tuple[int, bytes]]:
    """Take apart what stands side by side."""
    found = []
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(content[at : at + count], "big"), at + count
        found.append((tag, content[at : at + length]))
        at += length
    return found


def read_timestamp_request(raw: bytes) -> tuple[bytes, int | None]:
    """Return the imprint, which is SHA-256 here, and the nonce of a TimeStampReq."""
    ((_, request),) = read_tlvs(raw)
    _, (_, imprint), *rest = read_tlvs(request)
    nonces = [int.from_bytes(value, "big") for tag, value in rest if tag == 0x02]
    return read_tlvs(imprint)[1][1], nonces[0] if nonces else None


def signer_info(info: bytes, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return one SignerInfo over `info`, which names the certificate."""
    attribute = [
        sequence(oid(CONTENT_TYPE), set_of(oid(TST_INFO))),
        sequence(oid(MESSAGE_DIGEST), set_of(octets(hashlib.sha256(info).digest()))),
        sequence(
            oid(SIGNING_CERTIFICATE),
            set_of(sequence(sequence(sequence(octets(certificate.fingerprint(hashes.SHA256())))))),
        ),
    ]
    attributes = set_of(*attribute)
    signature = key.sign(attributes, ec.ECDSA(hashes.SHA256()))
    return sequence(
        integer(1),
        sequence(certificate.issuer.public_bytes(), integer(certificate.serial_number)),
        algorithm(SHA256),
        b"\xa0" + attributes[1:],
        algorithm(ECDSA_SHA256),
        octets(signature),
    )


def timestamp_response(info: bytes, signers: Sequence[bytes], embedded: Sequence[x509.Certificate] = ()) -> bytes:
    """Return a TimeStampResp, status granted, with these SignerInfos and certificates."""
    certificates = [item.public_bytes(serialization.Encoding.DER) for item in embedded]
    bag = [tlv(0xA0, *sorted(certificates))] if certificates else []
    signed = sequence(
        integer(3),
        set_of(algorithm(SHA256)),
        sequence(oid(TST_INFO), tlv(0xA0, octets(info))),
        *bag,
        set_of(*signers),
    )
    return sequence(sequence(integer(0)), sequence(oid(SIGNED_DATA), tlv(0xA0, signed)))
