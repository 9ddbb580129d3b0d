"""A hop over requests, for uploads, tokens and long-lived processes.

Everything that requests does by itself is left out: the adapter is used without a session, so there are no redirects, cookies, netrc
(CVE-2024-47081), proxies of the environment or decompression. urllib3's connection is told to connect by the address rule.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, cast

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from sigkit.errors import Place, TimedOut, Unreachable
from sigkit.net.address import READ_S, connect
from sigkit.net.failures import turn_failure
from sigkit.net.hop import Headers, HopReply, HopRequest, body_blocks
from sigkit.net.tls import refuse_without_tls

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sigkit.errors import SigkitError

# urllib3 takes a connection's socket from `_new_conn` (its own SOCKS support overrides it too). If that ever changes, the contract
# suite fails: the address rule would not be asked.


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return connect(self.host, self.port)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return connect(self.host, self.port)

    def connect(self) -> None:
        try:
            super().connect()
        except ssl.SSLError as err:
            refuse_without_tls(err, self.host)
            raise


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:  # noqa: ANN401, FBT001, FBT002 # requests' own signature
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _TlsAdapter(_Adapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,  # noqa: FBT001 # requests' own signature
        cert: str | tuple[str, str] | None = None,
    ) -> tuple[Any, Any]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._context}

    def cert_verify(self, conn: Any, *_: object) -> None:  # noqa: ANN401 # urllib3's pool
        # requests would add certifi's authorities to the system's.
        conn.cert_reqs = "CERT_REQUIRED"


class WarmHop:
    """Sends requests with the library requests. Safe to use from several threads."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        """Take the maker of the TLS context, called for the first https URL."""
        self._tls = tls
        self._plain = _Adapter()
        self._secure: _TlsAdapter | None = None

    def send(self, request: HopRequest) -> HopReply:
        """Send a request and return the reply as soon as its headers are there."""
        prepared = requests.PreparedRequest()
        prepared.method = request.method
        prepared.url = str(request.url)
        prepared.headers = CaseInsensitiveDict(request.headers)
        prepared.body = cast("bytes | None", body_blocks(request.body))  # an iterator is fine; the annotation forgets it
        adapter = self._plain if request.url.origin.scheme == "http" else self._secure_adapter()
        try:
            response = adapter.send(prepared, stream=True, timeout=READ_S, verify=True, cert=None, proxies=None)
        except (requests.RequestException, HTTPError, OSError, ValueError) as err:
            raise _turn(err, request.url.place()) from err
        return _WarmReply(response, request.url.place())

    def close(self) -> None:
        """Close all connections that are kept."""
        self._plain.close()
        if self._secure is not None:
            self._secure.close()

    def _secure_adapter(self) -> _TlsAdapter:
        if self._secure is None:
            self._secure = _TlsAdapter(self._tls())
        return self._secure


class _WarmReply:
    def __init__(self, response: requests.Response, place: Place) -> None:
        self._raw = response.raw
        self._place = place
        self._ended = False
        self.status = response.status_code
        self.headers = Headers(tuple(self._raw.headers.items()))

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._raw.read(size, decode_content=False)
        except (HTTPError, OSError, ValueError) as err:
            self._raw.close()
            raise _turn(err, self._place) from err
        self._ended = self._ended or not data
        return data

    def close(self) -> None:
        if self._ended:
            self._raw.release_conn()
        else:
            self._raw.close()


def _turn(err: BaseException, place: Place) -> SigkitError:
    """Find what lies under the wrappers of requests and urllib3, and say it in our words."""
    for cause in _causes(err):
        if isinstance(cause, ssl.SSLError) and "CERTIFICATE" in str(cause):
            return turn_failure(cause, place)
        if isinstance(cause, TimeoutError):
            return TimedOut("the answer did not come in time", place=place)
        if isinstance(cause, (ConnectionError, ssl.SSLError)):
            return turn_failure(cause, place)
    return Unreachable(f"the connection broke, or the answer is not HTTP: {type(err).__name__}", place=place)


def _causes(err: BaseException) -> tuple[BaseException, ...]:
    found: list[BaseException] = []
    rest = [err]
    while rest and len(found) < 32:
        at = rest.pop(0)
        if at in found:
            continue
        found.append(at)
        rest += [
            cause for cause in (at.__cause__, at.__context__, getattr(at, "reason", None), *at.args) if isinstance(cause, BaseException)
        ]
    return tuple(found)
