"""What may go wrong on the wire, in sigkit's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import TimedOut, Unreachable

if TYPE_CHECKING:
    from sigkit.errors import Place, SigkitError


def turn_failure(err: BaseException, place: Place) -> SigkitError:
    """Say what an exception of a socket, of http.client or of urllib3 means."""
    if isinstance(err, TimeoutError):
        return TimedOut("the answer did not come in time", place=place)
    if type(err).__module__ == "ssl" and "CERTIFICATE" in str(err):
        from sigkit.net.tls import tls_failed

        return tls_failed(str(place), getattr(err, "verify_message", str(err)))
    if isinstance(err, OSError):
        return Unreachable(f"the connection broke: {err.strerror or err or type(err).__name__}", place=place)
    return Unreachable(f"the answer is not HTTP: {type(err).__name__}", place=place)
