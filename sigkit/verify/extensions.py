"""Fulcio's certificate extensions by name, read and written by one codec.

The first six are the text itself; from the eighth on an extension holds a UTF8String in DER. An extension of a known number that is
malformed is refused, never skipped; unknown numbers are left out, because what they mean is not known.

Source: sigstore/fulcio docs/oid-info.md; names as sigstore-go's certificate.Extensions writes them in JSON.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from sigkit.errors import AmbiguousIdentity, MalformedCertificate
from sigkit.strict import decode_utf8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

    from sigkit.errors import Place

ARC: Final = "1.3.6.1.4.1.57264.1."
USERNAME_OID: Final = "1.3.6.1.4.1.57264.1.7"  # of an other name in the subject alternative name
ISSUER: Final = "issuer"

NAMES: Final[Mapping[int, str]] = {
    1: ISSUER,
    2: "githubWorkflowTrigger",
    3: "githubWorkflowSHA",
    4: "githubWorkflowName",
    5: "githubWorkflowRepository",
    6: "githubWorkflowRef",
    8: ISSUER,
    9: "buildSignerURI",
    10: "buildSignerDigest",
    11: "runnerEnvironment",
    12: "sourceRepositoryURI",
    13: "sourceRepositoryDigest",
    14: "sourceRepositoryRef",
    15: "sourceRepositoryIdentifier",
    16: "sourceRepositoryOwnerURI",
    17: "sourceRepositoryOwnerIdentifier",
    18: "buildConfigURI",
    19: "buildConfigDigest",
    20: "buildTrigger",
    21: "runInvocationURI",
    22: "sourceRepositoryVisibilityAtSigning",
    23: "deploymentEnvironment",
    24: "tokenSubject",
}
LAST_PLAIN: Final = 6  # until then an extension's value is its text, later a UTF8String in DER
_UTF8_STRING: Final = 0x0C


def read_extensions(extensions: Mapping[x509.ObjectIdentifier, x509.ExtensionType], place: Place) -> Mapping[str, str]:
    """Return the values of Fulcio's extensions by name, the issuer among them.

    Args:
        extensions: all of the certificate's.
        place: of the evidence.

    Raises:
        MalformedCertificate: (SIG) one is not the text that it must be.
        AmbiguousIdentity: (IDENT) the old and the new form of the issuer differ.
        NotUtf8: (PARSE).
    """
    found: dict[str, str] = {}
    for number, oid in _numbered():
        extension = extensions.get(oid)
        if extension is None:
            continue
        name, value = NAMES[number], decode_extension(number, extension.public_bytes(), place)
        if found.setdefault(name, value) != value:
            raise AmbiguousIdentity("the certificate names two issuers", place=place, expected="one", got=f"{found[name]} and {value}")
    return found


@cache
def _numbered() -> tuple[tuple[int, x509.ObjectIdentifier], ...]:
    from cryptography import x509

    return tuple((number, x509.ObjectIdentifier(f"{ARC}{number}")) for number in NAMES)


def decode_extension(number: int, content: bytes, place: Place) -> str:
    """Return the text of extension `number`.

    Args:
        number: last component of its object identifier.
        content: of its OCTET STRING.
        place: of the certificate.

    Raises:
        MalformedCertificate: (SIG) not one UTF8String in DER, and nothing after it.
        NotUtf8: (PARSE).
    """
    if number <= LAST_PLAIN:
        return decode_utf8(content, place)
    return decode_utf8_string(content, f"the extension {ARC}{number}", place)


def decode_utf8_string(content: bytes, what: str, place: Place) -> str:
    """Return the text of one UTF8String in DER.

    Raises:
        MalformedCertificate: (SIG) something else, or something after it.
        NotUtf8: (PARSE).
    """
    if len(content) > 1 and content[0] == _UTF8_STRING and content[1] == len(content) - 2 < 0x80:  # nearly all
        return decode_utf8(content[2:], place)
    raw = content[2 if len(content) < 2 or content[1] < 0x80 else 2 + (content[1] & 0x7F) :]
    if encode_utf8_string(raw) != content:  # DER has one way to write it
        raise MalformedCertificate(f"{what} is malformed", place=place, expected="a UTF8String in DER")
    return decode_utf8(raw, place)


def encode_extension(number: int, text: str) -> bytes:
    """Return the content of extension `number`'s OCTET STRING.

    Source: X.690 sections 8.1.3 (length) and 8.21 (strings).
    """
    raw = text.encode("utf-8")
    return raw if number <= LAST_PLAIN else encode_utf8_string(raw)


def encode_utf8_string(raw: bytes) -> bytes:
    """Return a UTF8String in DER."""
    if len(raw) < 0x80:
        return bytes((_UTF8_STRING, len(raw))) + raw
    length = len(raw).to_bytes((len(raw).bit_length() + 7) // 8, "big")
    return bytes((_UTF8_STRING, 0x80 | len(length))) + length + raw
