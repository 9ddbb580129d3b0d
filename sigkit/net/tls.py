"""TLS: the system's certificate authorities, plus one file of the user's. There is no way to turn it off (CVE-2019-10214)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from sigkit import durable, limits
from sigkit.errors import NoTls, Place, TlsFailed, WrongShape
from sigkit.net.address import Guarded

if TYPE_CHECKING:
    import socket


# What to do about a certificate, by what OpenSSL says of it.
_ADVICE: Final = (
    ("has expired", "the server needs a new certificate, unless this machine's clock is wrong: date -u"),
    ("not yet valid", "set this machine's clock, unless the server's certificate is of the future: date -u"),
    ("mismatch", "ask the server by a name that its certificate has"),
)
# What OpenSSL says when the first bytes of an answer are no record of TLS; which of them depends on its version.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})


class _GuardedTls(Guarded, ssl.SSLSocket):
    """A TLS connection under the guard."""


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that checks the server's name and its certificate.

    Raises:
        FileUnreadable, WrongShape: `ca_file` cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _GuardedTls
    if ca_file is not None:
        place = Place.operator(ca_file)
        raw = durable.read(ca_file, most_bytes=limits.CA_FILE_BYTES, place=place)
        try:
            context.load_verify_locations(cadata=raw.decode("ascii", "replace"))
        except ssl.SSLError as err:
            raise WrongShape("no certificates in PEM form in this file", place=place) from err
    return context


def wrap(sock: socket.socket, context: ssl.SSLContext, host: str) -> Any:  # noqa: ANN401 # what http.client calls a socket
    """Turn a TCP connection into a TLS connection to `host`.

    Raises:
        TlsFailed: (NET) the certificate does not prove the name.
        NoTls: (NET) the server does not speak TLS.
    """
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as err:
        sock.close()
        raise tls_failed(host, err.verify_message) from err
    except ssl.SSLError as err:
        sock.close()
        refuse_without_tls(err, host)
        raise
    except BaseException:
        sock.close()
        raise


def refuse_without_tls(err: ssl.SSLError, host: str) -> None:
    """Say so if a handshake failed because the server speaks no TLS. Later the same words mean bytes that somebody damaged.

    Raises:
        NoTls: (NET) it speaks none.
    """
    if err.reason in _NO_TLS:
        raise NoTls("the server does not speak TLS", place=Place(host), expected="an answer in TLS") from err


def tls_failed(host: str, reason: str) -> TlsFailed:
    """Describe a certificate that does not prove `host`, for a reason in OpenSSL's words (X509_verify_cert_error_string)."""
    remedy = next((advice for words, advice in _ADVICE if words in reason), "")
    return TlsFailed(f"the certificate was not accepted: {reason}", place=Place(host), remedy=remedy)
