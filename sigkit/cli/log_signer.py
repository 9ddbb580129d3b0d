"""Whom an entry of a log names as its signer: read out of its body, whatever kind of entry it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509

    from sigkit.errors import Place
    from sigkit.strict import Json

# Where entries of both generations have a key or a certificate: in base64, as DER or as PEM.
_HOLDERS: Final = frozenset({"rawBytes", "content", "verifier", "publicKey"})
_CERTIFICATE, _KEY = "CERTIFICATE", "PUBLIC KEY"
_MOST: Final = 10


def signers_of(body: Json, place: Place) -> tuple[str, ...]:
    """Return who signed, as the entry says: identities by their certificates, keys by their digests. It was not proved who they are."""
    found: dict[str, None] = {}
    pending: list[Json] = [body]
    while pending and len(found) < _MOST:
        value = pending.pop()
        if isinstance(value, list):
            pending += reversed(value)
        elif isinstance(value, dict):
            pending += reversed(value.values())
            for name in _HOLDERS & value.keys():
                text = value[name]
                if isinstance(text, str) and (signer := _signer(text, place)):
                    found[signer] = None
    return tuple(found)


def _signer(text: str, place: Place) -> str:
    """Return whom a certificate or a key names; "" if this is neither."""
    from sigkit.errors import SigkitError
    from sigkit.keys.certificate import read_certificate
    from sigkit.keys.pem import parse_pem
    from sigkit.keys.public import parse_public_key
    from sigkit.strict import decode_base64

    try:
        raw = decode_base64(text, place)
        if raw.startswith(b"-----BEGIN"):
            raw = parse_pem(raw, (_CERTIFICATE, _KEY), place).data
    except SigkitError:
        return ""
    try:
        return _identity(read_certificate(raw), place)
    except (ValueError, SigkitError):
        pass
    try:
        return f"key {parse_public_key(raw, place).fingerprint}"
    except SigkitError:
        return ""


def _identity(certificate: x509.Certificate, place: Place) -> str:
    from cryptography import x509

    from sigkit.verify.extensions import read_extensions

    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    names = extensions.get(x509.SubjectAlternativeName.oid)
    texts = [_name(name, place) for name in names] if isinstance(names, x509.SubjectAlternativeName) else []
    issuer = read_extensions(extensions, place).get("issuer", "")
    who = ", ".join(texts) or certificate.subject.rfc4514_string() or "a certificate without a name"
    return f"{who} of {issuer}" if issuer else who


def _name(name: x509.GeneralName, place: Place) -> str:
    from cryptography import x509

    from sigkit.verify.extensions import USERNAME_OID, decode_utf8_string

    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == USERNAME_OID:
        return decode_utf8_string(name.value, "the user name", place)
    return str(name.value)
