"""X.509 certificates from DER, loaded without a word on stderr.

`cryptography` warns of a serial number that is not positive, each time that it meets one, and takes the certificate. RFC 5280 forbids such
numbers and no authority issues them, so they are refused before the library sees them: its warnings are the process's, and whoever turned
them into errors or off would do so for every thread. A certificate has its own number, and can have its authority's in an extension.

Source: RFC 5280 section 4.1 (the order of the fields), 4.1.2.2 (positive) and 4.2.1.1 (the authority's); X.690 section 8.1.3 (lengths).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

_INTEGER: Final = 0x02
_VERSION: Final = 0xA0
_BOOLEAN: Final = 0x01
_AUTHORITY_KEY: Final = bytes.fromhex("0603551d23")  # the identifier of the extension, whole
_AUTHORITY_KEYS: Final = 8  # a certificate names it once, and other bytes look like that by chance in 1 of 10^9
_AUTHORITY_FIELDS: Final = 3
_AUTHORITY_SERIAL: Final = 0x82


def load_certificate(der: bytes) -> x509.Certificate:
    """Load one certificate, for whoever shows as much of it as can be read; the library puts off the rest of the parsing.

    Raises:
        ValueError: it is malformed, or its serial number is not positive.
        Exception: one of `refusals`, here or where a part is asked for.
    """
    from cryptography import x509

    check_serial_number(der)
    return x509.load_der_x509_certificate(der)


def read_certificate(der: bytes) -> x509.Certificate:
    """Load one certificate, and read at once what the library puts off: nothing in it is refused later, or by another exception.

    Raises:
        ValueError: it is malformed, at whatever depth, or its serial number is not positive.
    """
    try:
        certificate = load_certificate(der)
        _ = certificate.issuer, certificate.subject, certificate.extensions
    except refusals() as err:
        raise ValueError(str(err)) from err
    return certificate


def refusals() -> tuple[type[Exception], ...]:
    """Return what the library raises where it reads something malformed: in a name KeyError and TypeError too, for a type of string."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    malformed = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
    return ValueError, TypeError, KeyError, UnsupportedAlgorithm, *malformed


def check_serial_number(der: bytes) -> None:
    """Refuse a certificate whose serial number, or its authority's, is not positive; what is no certificate is left for the library.

    Raises:
        ValueError: it is not; or what looks like its authority's stands there so often that nobody could tell.
    """
    if der.count(_AUTHORITY_KEY) > _AUTHORITY_KEYS:
        raise ValueError("the authority's key is named too often")
    found = der.find(_AUTHORITY_KEY)
    while found >= 0:
        with suppress(IndexError):
            _check_authority(der, found + len(_AUTHORITY_KEY))
        found = der.find(_AUTHORITY_KEY, found + 1)
    with suppress(IndexError):
        at = _content(der, _content(der, 0))  # in the certificate, in what was signed
        if der[at] == _VERSION:
            at = _end(der, at)
        _check_positive(der, at, _INTEGER)


def _check_authority(der: bytes, at: int) -> None:
    """Look at the extension whose identifier ends at `at`: a key, an issuer, and a serial number at the end."""
    if der[at] == _BOOLEAN:
        at = _end(der, at)
    named = _content(der, at)  # the sequence in the octets
    at, end = _content(der, named), _end(der, named)
    for _ in range(_AUTHORITY_FIELDS):
        if at < end:
            _check_positive(der, at, _AUTHORITY_SERIAL)
            at = _end(der, at)


def _check_positive(der: bytes, at: int, tag: int) -> None:
    number = der[_content(der, at) : _end(der, at)]
    if der[at] == tag and number and (number[0] & 0x80 or not any(number)):
        raise ValueError("the serial number is not positive")


def _end(der: bytes, at: int) -> int:
    """Return where the element at `at` ends."""
    content, length = _content(der, at), der[at + 1]
    return content + (int.from_bytes(der[at + 2 : content], "big") if length & 0x80 else length)


def _content(der: bytes, at: int) -> int:
    """Return where the content of the element at `at` begins."""
    length = der[at + 1]
    return at + 2 + (length & 0x7F if length & 0x80 else 0)
