"""A real server on loopback that behaves well until it is told otherwise, and remembers every request.

The core answers as a registry with the referrers API; `on(method, path)` plants a fault for the requests that match:

    with MisbehavingRegistry() as reg:
        reg.on("GET", "/v2/*/manifests/*", nth=2).status(503, retry_after=1)
        ...
        assert "authorization" not in reg.log[0].headers

`MisbehavingServer` with another core serves the same faults for tokens, stores, logs and the rest.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Seen:
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2]))


@dataclass(frozen=True)
class Reply:
    """One answer; Content-Length is added unless it is given or `framed` is off."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    framed: bool = True


Core = Callable[[Seen], Reply]


@dataclass
class Fault:
    """What happens instead of the right answer, to the requests that match."""

    method: str
    pattern: str
    nth: int | None
    times: int | None
    change: Callable[[Seen, Reply], Reply] = lambda _, reply: reply
    seconds_per_byte: float = 0.0
    drips_headers: bool = False
    cut_after_bytes: int | None = None
    raw: bytes | None = None
    met: int = 0

    def matches(self, seen: Seen) -> bool:
        if self.method not in {"*", seen.method} or not fnmatch.fnmatchcase(seen.path, self.pattern):
            return False
        self.met += 1
        if self.nth is not None:
            return self.met == self.nth
        return self.times is None or self.met <= self.times

    def answer(self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Answer this instead."""
        self.change = lambda _, __: Reply(status, tuple((headers or {}).items()), body)

    def status(self, status: int, *, retry_after: str | int | None = None, body: bytes = b"", **headers: str) -> None:
        """Answer with an error."""
        extra = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        self.answer(body, status=status, headers=extra | {k.replace("_", "-"): v for k, v in headers.items()})

    def redirect(self, url: str, status: int = 307) -> None:
        """Point to another URL."""
        self.answer(b"", status=status, headers={"Location": url})

    def add(self, **headers: str) -> None:
        """Answer rightly, with these header fields instead of or beside the right ones."""
        extra = tuple((k.replace("_", "-"), v) for k, v in headers.items())
        names = {k.lower() for k, _ in extra}
        self.change = lambda _, reply: replace(reply, headers=(*((k, v) for k, v in reply.headers if k.lower() not in names), *extra))

    def drip(self, bytes_per_s: float, *, headers: bool = False) -> None:
        """Answer rightly, byte by byte; the headers too if asked."""
        self.seconds_per_byte = 1 / bytes_per_s
        self.drips_headers = headers

    def cut_after(self, size: int) -> None:
        """Answer rightly, but close the connection after so many bytes of the body."""
        self.cut_after_bytes = size

    def close(self) -> None:
        """Close the connection without a word."""
        self.raw = b""

    def say(self, raw: bytes) -> None:
        """Write these bytes and close the connection."""
        self.raw = raw


class MisbehavingServer:
    """A threaded server on a free loopback port; the faults stand before the core."""

    def __init__(self, core: Core, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.core = core
        self.log: list[Seen] = []
        self.connections = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server((host, 0), self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.host = host
        self.port = self._server.server_address[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"

    def on(self, method: str, pattern: str, *, nth: int | None = None, times: int | None = None) -> Fault:
        """Plant a fault: for every request that matches, the first `times`, or only the `nth` (from 1)."""
        fault = Fault(method, pattern, nth, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def forget(self) -> None:
        """Take back all faults and empty the log: what one test did is nothing to the next."""
        with self._lock:
            self._faults.clear()
            self.log.clear()

    def seen(self, method: str = "*", pattern: str = "*") -> list[Seen]:
        """Return the logged requests that match."""
        return [s for s in self.log if method in {"*", s.method} and fnmatch.fnmatchcase(s.path, pattern)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()
        self._thread.join()

    def handle(self, seen: Seen) -> tuple[Reply, Fault | None]:
        """Answer one request."""
        with self._lock:
            self.log.append(seen)
            hits = [fault for fault in self._faults if fault.matches(seen)]
            fault = hits[-1] if hits else None
            reply = self.core(seen)
        return (fault.change(seen, reply) if fault else reply), fault

    def open_connections(self) -> int:
        """Return how many connections this server has not ended."""
        return len(self._server._open)  # noqa: SLF001 (its own)

    def pause(self, seconds: float) -> bool:
        """Wait; tell whether the server is still running."""
        return not self._stopping.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: MisbehavingServer) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.owner = owner
        self._open: set = set()

    def process_request(self, request, client_address) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(2)

    def handle_error(self, request, client_address) -> None:
        """Say nothing: clients that go away are what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        self.server.owner.connections += 1
        super().setup()

    def log_message(self, *args) -> None:
        pass

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {k.lower(): v for k, v in self.headers.items()}
        reply, fault = self.server.owner.handle(Seen(self.command, self.path, headers, body))
        if fault and fault.raw is not None:
            self.wfile.write(fault.raw)
            self.close_connection = True
            return
        self._write(reply, fault)

    def _write(self, reply: Reply, fault: Fault | None) -> None:
        names = {k.lower() for k, _ in reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Status", *(f"{k}: {v}" for k, v in reply.headers)]
        if reply.framed and not names & {"content-length", "transfer-encoding"} and reply.status != 204:
            lines.append(f"Content-Length: {len(reply.body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        body = b"" if self.command == "HEAD" else reply.body
        if fault and fault.seconds_per_byte:
            if not fault.drips_headers:
                self.wfile.write(head)
            self._drip(head + body if fault.drips_headers else body, fault.seconds_per_byte)
            return
        if fault and fault.cut_after_bytes is not None:
            body = body[: fault.cut_after_bytes]
            self.close_connection = True
        self.wfile.write(head + body)
        if not reply.framed:
            self.close_connection = True

    def _drip(self, data: bytes, seconds_per_byte: float) -> None:
        for at in range(len(data)):
            self.wfile.write(data[at : at + 1])
            if not self.server.owner.pause(seconds_per_byte):
                self.close_connection = True
                return

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 # http.server's names


@dataclass
class RegistryCore:
    """A small registry in memory. `referrers_api`, `immutable_tags` and `page` change what it can do."""

    referrers_api: bool = True
    immutable_tags: bool = False
    page: int | None = None
    chunk_min_length: int | None = None
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, seen: Seen) -> Reply:
        if seen.path == "/v2/":
            return Reply()
        repository, _, rest = seen.path.removeprefix("/v2/").rpartition("/")
        for kind in ("manifests", "blobs", "referrers", "tags", "blobs/uploads"):
            if repository.endswith(f"/{kind}"):
                name = repository.removesuffix(f"/{kind}")
                handler = getattr(self, "_" + kind.rpartition("/")[2])
                if kind == "blobs" and name.endswith("/blobs"):
                    continue
                reply: Reply = handler(name, rest, seen)
                return reply
        return error(404, "NAME_UNKNOWN")

    def put_blob(self, repository: str, data: bytes) -> str:
        digest = sha256(data)
        self.blobs[repository, digest] = data
        return digest

    def put_manifest(self, repository: str, raw: bytes, media_type: str = OCI_MANIFEST, tag: str | None = None) -> str:
        digest = sha256(raw)
        self.manifests[repository, digest] = (raw, media_type)
        if tag:
            self.tags[repository, tag] = digest
        return digest

    def _manifests(self, repository: str, what: str, seen: Seen) -> Reply:
        if seen.method == "PUT":
            return self._put(repository, what, seen)
        found = self.manifests.get((repository, self.tags.get((repository, what), what)))
        if not found or found[1] not in seen.headers.get("accept", ""):
            return error(404, "MANIFEST_UNKNOWN")
        return Reply(200, (("Content-Type", found[1]), ("Docker-Content-Digest", sha256(found[0]))), found[0])

    def _put(self, repository: str, what: str, seen: Seen) -> Reply:
        is_tag = ":" not in what
        if is_tag and self.immutable_tags and (repository, what) in self.tags:
            return error(400, "TAG_INVALID", "the tag exists and cannot be overwritten because the repository is immutable")
        if not is_tag and sha256(seen.body) != what:
            return error(400, "DIGEST_INVALID")
        self.put_manifest(repository, seen.body, seen.headers["content-type"], what if is_tag else None)
        subject = json.loads(seen.body).get("subject")
        headers = (("OCI-Subject", subject["digest"]),) if subject and self.referrers_api else ()
        return Reply(201, (("Location", f"/v2/{repository}/manifests/{what}"), *headers))

    def _referrers(self, repository: str, digest: str, seen: Seen) -> Reply:
        if not self.referrers_api:
            return Reply(404, (("Content-Type", "text/plain"),), b"404 page not found\n")
        listed = []
        for (name, child), (raw, media_type) in self.manifests.items():
            document = json.loads(raw)
            if name == repository and document.get("subject", {}).get("digest") == digest:
                listed.append({"mediaType": media_type, "digest": child, "size": len(raw), "artifactType": document.get("artifactType")})
        start = int(seen.query.get("from", 0))
        end = start + self.page if self.page else len(listed)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed[start:end]}
        link = ((("Link", f'<{seen.path}?from={end}>; rel="next"'),)) if end < len(listed) else ()
        return Reply(200, (("Content-Type", OCI_INDEX), *link), json.dumps(index).encode())

    def _tags(self, repository: str, _: str, __: Seen) -> Reply:
        names = sorted(tag for name, tag in self.tags if name == repository)
        return Reply(200, (("Content-Type", "application/json"),), json.dumps({"name": repository, "tags": names}).encode())

    def _blobs(self, repository: str, digest: str, seen: Seen) -> Reply:
        data = self.blobs.get((repository, digest))
        if data is None:
            return error(404, "BLOB_UNKNOWN")
        octets = ("Content-Type", "application/octet-stream")
        asked = seen.headers.get("range")
        if asked:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            return Reply(206, (octets, ("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")), data[start:])
        return Reply(200, (octets,), data)

    def _uploads(self, repository: str, session: str, seen: Seen) -> Reply:
        if seen.method == "POST":
            session = f"u{len(self.uploads)}"
            self.uploads[session] = b""
        elif session not in self.uploads:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        location = ("Location", f"/v2/{repository}/blobs/uploads/{session}?state={len(self.uploads[session])}")
        least = (("OCI-Chunk-Min-Length", str(self.chunk_min_length)),) if self.chunk_min_length else ()
        if seen.method == "POST":
            return Reply(202, (location, *least))
        if seen.method == "PATCH" and int(seen.headers["content-range"].partition("-")[0]) != len(self.uploads[session]):
            return Reply(416, (location,))
        self.uploads[session] += seen.body
        if seen.method == "PUT":
            return self._close_upload(repository, session, seen.query["digest"])
        location = ("Location", location[1].partition("?")[0] + f"?state={len(self.uploads[session])}")
        status = 204 if seen.method == "GET" else 202
        return Reply(status, (location, ("Range", f"0-{max(len(self.uploads[session]) - 1, 0)}")))

    def _close_upload(self, repository: str, session: str, digest: str) -> Reply:
        data = self.uploads.pop(session)
        if sha256(data) != digest:
            return error(400, "DIGEST_INVALID")
        self.put_blob(repository, data)
        return Reply(201, (("Location", f"/v2/{repository}/blobs/{digest}"),))


class MisbehavingRegistry(MisbehavingServer):
    """A registry whose content is `reg.state`."""

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **state) -> None:
        self.state = RegistryCore(**state)
        super().__init__(self.state, host=host, tls=tls)

    def wants_token(self, realm: str, tokens: Callable[[str], bool], *, scope: str = "repository:t/app:pull") -> None:
        """Answer 401 with a challenge to every request whose bearer token `tokens` refuses."""
        challenge = f'Bearer realm="{realm}",service="reg",scope="{scope}"'

        def guarded(seen: Seen) -> Reply:
            given = seen.headers.get("authorization", "")
            if given.startswith("Bearer ") and tokens(given.removeprefix("Bearer ")):
                return self.state(seen)
            return Reply(401, (("WWW-Authenticate", challenge),), b'{"errors":[{"code":"UNAUTHORIZED"}]}')

        self.core = guarded

    def wants_basic(self, *accepted: str) -> None:
        """Answer 401 to every request without one of these Authorization headers."""

        def guarded(seen: Seen) -> Reply:
            if seen.headers.get("authorization") in accepted:
                return self.state(seen)
            return Reply(401, (("WWW-Authenticate", 'Basic realm="registry"'),))

        self.core = guarded


def error(status: int, code: str, message: str = "") -> Reply:
    """Return an error answer in the specification's form."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Reply(status, (("Content-Type", "application/json"),), body)


def sha256(data: bytes) -> str:
    """Return the digest of some bytes, as text."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
