"""What may go wrong on the wire, in sigkit's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import NoTls, TimedOut, Unreachable

if TYPE_CHECKING:
    from sigkit.errors import Place, SigkitError

# What OpenSSL says when the first bytes of an answer are no record of TLS; which of them depends on its version.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})


def turn_failure(err: BaseException, place: Place) -> SigkitError:
    """Say what an exception of a socket, of http.client or of urllib3 means."""
    if isinstance(err, TimeoutError):
        return TimedOut("the answer did not come in time", place=place)
    if type(err).__module__ == "ssl" and "CERTIFICATE" in str(err):
        from sigkit.net.tls import tls_failed

        return tls_failed(str(place), getattr(err, "verify_message", str(err)))
    if type(err).__module__ == "ssl" and getattr(err, "reason", None) in _NO_TLS:
        return NoTls("the server does not speak TLS", place=place, expected="an answer in TLS")
    if isinstance(err, OSError):
        return Unreachable(f"the connection broke: {err.strerror or err or type(err).__name__}", place=place)
    return Unreachable(f"the answer is not HTTP: {type(err).__name__}", place=place)
