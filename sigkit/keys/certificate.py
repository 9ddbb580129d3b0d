"""X.509 certificates from DER, loaded without a word on stderr.

`cryptography` warns of a serial number that is not positive, each time that it meets one, and takes the certificate. RFC 5280 forbids such
numbers and no authority issues them, so they are refused before the library sees them: its warnings are the process's, and whoever turned
them into errors or off would do so for every thread.

Source: RFC 5280 section 4.1 (the order of the fields) and 4.1.2.2 (positive); X.690 section 8.1.3 (lengths).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

_INTEGER: Final = 0x02
_VERSION: Final = 0xA0


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
    """Refuse a certificate whose serial number is zero or negative; what is no certificate is left for the library to refuse.

    Raises:
        ValueError: it is.
    """
    try:
        at = _content(der, _content(der, 0))  # in the certificate, in what was signed
        if der[at] == _VERSION:
            at = _content(der, at) + der[at + 1]
        first = _content(der, at)
        number = der[first : first + der[at + 1]]
    except IndexError:
        return
    if der[at] == _INTEGER and number and (number[0] & 0x80 or not any(number)):
        raise ValueError("the serial number is not positive")


def _content(der: bytes, at: int) -> int:
    """Return where the content of the element at `at` begins."""
    length = der[at + 1]
    return at + 2 + (length & 0x7F if length & 0x80 else 0)
