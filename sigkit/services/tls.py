"""The certificate of a listener and its key, looked at before anything listens, so that the file that is wrong can be named."""

from __future__ import annotations

import shlex
import ssl
from typing import Final

from sigkit import durable, limits
from sigkit.data import Data
from sigkit.errors import FileUnreadable, MalformedKey, OtherKeyCertified, Place, RefusedKeyEncryption, SigkitError, WrongShape

# What OpenSSL calls a key of the same kind as the certificate's, and one of another.
_OTHER_KEY: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})


class Tls(Data):
    """Files in PEM form: the certificate with those above it, and its private key."""

    certificate: str
    key: str


def check_files(tls: Tls) -> None:
    """Raise unless a server can be started with these files.

    Raises:
        FileUnreadable: (UNAVAIL) one cannot be read, or OpenSSL does not take it.
        WrongShape: (PARSE) no certificate is in the first.
        MalformedKey, RefusedKeyEncryption: (SIG) no key is in the second, or none that can be read without a password.
        OtherKeyCertified: (BIND) the certificate is for another key.
    """
    certificate = durable.read(tls.certificate, most_bytes=limits.CA_FILE_BYTES, place=Place.operator(tls.certificate))
    key = durable.read(tls.key, most_bytes=limits.KEY_FILE_BYTES, place=Place.operator(tls.key))
    asked = False

    def no_password() -> str:
        nonlocal asked
        asked = True
        return ""

    try:
        # With no function given OpenSSL would ask on the terminal, if the server has one, and wait.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, no_password)
    except OSError as err:  # ssl.SSLError is one
        raise (_encrypted(tls) if asked else _explain(tls, certificate, key, err)) from err
    if asked:  # it is encrypted with the empty password, and the server would ask for it on the terminal
        raise _encrypted(tls)


def _encrypted(tls: Tls) -> SigkitError:
    return RefusedKeyEncryption(
        "the server's private key is encrypted, and nobody is asked for its password",
        place=Place.operator(tls.key),
        remedy=f"openssl pkey -in {shlex.quote(tls.key)} -out NEW.key writes it unencrypted: for its owner's eyes only",
    )


def _explain(tls: Tls, certificate: bytes, key: bytes, err: OSError) -> SigkitError:
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        return WrongShape("no certificates in PEM form in this file", place=Place.operator(tls.certificate))
    if b"PRIVATE KEY-----" not in key:
        return MalformedKey("no private key in PEM form in this file", place=Place.operator(tls.key))
    if isinstance(err, ssl.SSLError) and err.reason in _OTHER_KEY:
        return OtherKeyCertified(
            f"the first certificate in {tls.certificate} is for another key",
            place=Place.operator(tls.key),
            remedy="give the key that it was made for; the server's own certificate stands first, those above it follow",
        )
    look = f"openssl x509 -noout -in {shlex.quote(tls.certificate)} && openssl pkey -noout -in {shlex.quote(tls.key)}"
    return FileUnreadable("one of them is damaged", place=Place.operator(f"{tls.certificate}, {tls.key}"), remedy=f"{look} tells which")
