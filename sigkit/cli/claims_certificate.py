"""What a certificate and a timestamp say of themselves: the fields that a person compares with what was expected."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from sigkit.digest import Digest
from sigkit.errors import Place, SigkitError, WrongShape
from sigkit.text import format_time
from sigkit.verify.extensions import ARC, ISSUER, LAST_PLAIN, NAMES, USERNAME_OID, decode_utf8_string

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from sigkit.cli.claims import Section
    from sigkit.strict import Json

_PLACE: Final = Place("certificate")


def describe_certificate(section: Section, der: bytes, place: Place) -> None:
    """Add what the certificate says: who, by whom, when, and every extension of Fulcio by its name."""
    from cryptography import x509

    from sigkit.keys.certificate import load_certificate, refusals

    malformed = refusals()
    try:
        certificate = load_certificate(der)
    except malformed as err:
        section.stops.append(WrongShape(f"not a certificate that is read: {err}", place=place, got=f"{len(der)} bytes"))
        return

    def say(label: str, read: Callable[[], Json]) -> None:
        try:
            section.say(label, read)
        except malformed as err:
            section.stops.append(WrongShape(f"{label}: {err}", place=place))

    say("subject", lambda: certificate.subject.rfc4514_string() or None)
    say("identity", lambda: _names(certificate))
    say("issued by", lambda: certificate.issuer.rfc4514_string() or None)
    say("valid from", lambda: format_time(certificate.not_valid_before_utc))
    say("valid until", lambda: format_time(certificate.not_valid_after_utc))
    say("serial number", lambda: f"{certificate.serial_number:x}")
    say("fingerprint", lambda: str(Digest.of(der)))
    say("public key", lambda: _key(certificate))
    say("authority", lambda: _authority(certificate))
    say("usage", lambda: _usages(certificate))
    try:
        extensions = list(certificate.extensions)
    except malformed as err:
        section.stops.append(WrongShape(f"extensions: {err}", place=place))
        return
    for extension in extensions:
        oid = extension.oid.dotted_string
        if oid.startswith(ARC):
            say(_fulcio_name(oid), partial(_fulcio_value, oid, extension.value))
        elif isinstance(extension.value, x509.PrecertificateSignedCertificateTimestamps):
            say("certificate log", partial(_logged, extension.value))


def describe_timestamp(section: Section, der: bytes, place: Place) -> None:
    """Add what the timestamp says: when, about which hash, by whose certificate if that is inside."""
    from rfc3161_client import decode_timestamp_response

    from sigkit.keys.certificate import load_certificate, refusals

    try:
        response = decode_timestamp_response(der)
        info = response.tst_info
        section.rows += [
            ("time", format_time(info.gen_time)),
            ("of the hash", info.message_imprint.message.hex()),
            ("serial number", f"{info.serial_number:x}"),
            ("policy", info.policy.dotted_string),
        ]
        inside = [load_certificate(raw) for raw in sorted(response.signed_data.certificates)]
        section.rows += [("certificate inside", certificate.subject.rfc4514_string()) for certificate in inside]
    except refusals() as err:
        section.stops.append(WrongShape(f"not a timestamp that can be read: {err}", place=place, got=f"{len(der)} bytes"))


def _names(certificate: x509.Certificate) -> Json:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return [_name(name) for name in names]


def _name(name: x509.GeneralName) -> str:
    from cryptography import x509

    match name:
        case x509.RFC822Name():
            return f"email {name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI {name.value}"
        case x509.DNSName():
            return f"DNS name {name.value}"
        case x509.IPAddress():
            return f"IP address {name.value}"
        case x509.OtherName():
            kind = "user name" if name.type_id.dotted_string == USERNAME_OID else f"other name {name.type_id.dotted_string}"
            return f"{kind} {_utf8_string(name.value)}"
        case _:
            return f"{type(name).__name__} {name.value}"


def _key(certificate: x509.Certificate) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm

    from sigkit.errors import UnsupportedKey
    from sigkit.keys.public import of_library

    try:
        key = of_library(certificate.public_key())
    except (UnsupportedAlgorithm, UnsupportedKey) as err:
        return f"of a kind that is not accepted ({err})"
    return f"{key.kind} {key.fingerprint}"


def _authority(certificate: x509.Certificate) -> Json:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None
    return "yes" if found.ca else None


def _usages(certificate: x509.Certificate) -> Json:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return [getattr(usage, "_name", usage.dotted_string) for usage in found]


def _fulcio_name(oid: str) -> str:
    """Return the name by which flags and policies ask for the extension; the first six have a newer one beside them."""
    number = oid.removeprefix(ARC)
    name = NAMES.get(int(number)) if number.isdecimal() else None
    return f"{name} (old)" if name == ISSUER and int(number) <= LAST_PLAIN else name or oid


def _fulcio_value(oid: str, extension: x509.ExtensionType) -> str:
    value, number = extension.public_bytes(), oid.removeprefix(ARC)
    if number.isdecimal() and int(number) <= LAST_PLAIN:
        return value.decode("utf-8", "backslashreplace")
    return _utf8_string(value)


def _logged(timestamps: x509.PrecertificateSignedCertificateTimestamps) -> Json:
    return [f"{sct.log_id.hex()} at {sct.timestamp:%Y-%m-%dT%H:%M:%SZ}" for sct in timestamps]


def _utf8_string(der: bytes) -> str:
    """Return the text of a UTF8String, and the bytes as hexadecimal where they are none."""
    try:
        return decode_utf8_string(der, "text", _PLACE)
    except SigkitError:
        return f"hex {der.hex()}"
