"""Authenticated requests to registries: where a registry lives, which token fits, what its errors mean."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import AccessDenied, AnswerUnusable, OtherHostRefused, ServerFailed, SigkitError, TimedOut, Unreachable
from sigkit.net.address import Deadline, Nearness, is_loopback_name
from sigkit.net.hop import body_bytes
from sigkit.net.retry import ATTEMPTS
from sigkit.net.session import Call, Lane, NetOptions, Redirects, Session
from sigkit.net.url import Origin, Url, parse_url
from sigkit.oci.auth import KNOWN_REALMS, TOKEN_ANSWER_BYTES, Answer, Ask, AskToken, Realms, authenticate
from sigkit.oci.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.errors import Place
    from sigkit.net.hop import Body
    from sigkit.net.session import Reply
    from sigkit.oci.credentials import Credential, FoundCredential
    from sigkit.oci.reference import Repository

DOCKER_HUB_HOST: Final = "registry-1.docker.io"  # the name docker.io is a name only
ERROR_BYTES: Final = 64 << 10
BODY_ATTEMPTS: Final = 3  # a document whose body was cut is asked for again
_SPEAK_TLS: Final = b"HTTPS"  # Go's server answers plain HTTP with 400 and a sentence with this word
SMALL_BODY_BYTES: Final = 64 << 10  # a signature and its manifest: not worth the 60 ms that the hop for uploads takes to import
TOKEN_MARGIN_S: Final = 5  # a token that expires on the way costs two more requests


class Access(Enum):
    """What a request does to a repository; the words are the token protocol's."""

    PULL = "pull"
    PUSH = "pull,push"


class RegistryOptions(Data):
    """What the user decided about registries.

    Attributes:
        plain_http_hosts: `host` or `host:port` that may be asked without TLS; loopback needs no mention.
        ca_file: certificates in PEM that are trusted beside the system's.
        token_realms: hosts that may act as token server for any registry.
        auth_files: files with credentials; none: podman's and docker's usual ones.
        timeout_s: for a document, and for a blob beyond what its size needs at `limits.LEAST_BYTES_PER_S`.
        read_timeout_s: between two bytes.
        reads: the hop that reads; a long-lived process has no reason to spare the import of requests.
        chunk_bytes: blobs beyond are uploaded in chunks of this size.
    """

    plain_http_hosts: tuple[str, ...] = ()
    ca_file: str | None = None
    token_realms: tuple[str, ...] = ()
    auth_files: tuple[str, ...] = ()
    timeout_s: float = 60.0
    read_timeout_s: float = 30.0
    reads: Lane = Lane.COLD
    chunk_bytes: int = 64 << 20


class Request(Data):
    """One request to a registry."""

    method: str
    repository: Repository
    url: Url
    deadline: Deadline
    access: Access = Access.PULL
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = None
    redirects: Redirects = Redirects.REFUSE
    attempts: int = ATTEMPTS


class ServerError(NamedTuple):
    """A registry's own words for an error: code and message, raw."""

    code: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class Exchange:
    """Sends requests to registries, with tokens that it keeps. Safe to use from several threads."""

    def __init__(self, options: RegistryOptions, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the user's options, and a way to wait between attempts."""
        plain = frozenset(options.plain_http_hosts)
        net = NetOptions(plain, options.ca_file, options.read_timeout_s, plain_option="--allow-http-registry")
        self._options = options
        self._session = Session(net, sleep=sleep)
        self._kept: dict[tuple[Origin, str], tuple[str, Deadline]] = {}
        self._found: dict[Repository, FoundCredential | None] = {}
        self._bases: dict[str, Url] = {}

    @property
    def chunk_bytes(self) -> int:
        """Blobs beyond are uploaded in chunks of this size."""
        return self._options.chunk_bytes

    def close(self) -> None:
        """Close all connections that are kept."""
        self._session.close()

    def deadline(self, size_bytes: int = 0) -> Deadline:
        """Start the clock of an operation that moves `size_bytes` bytes."""
        return Deadline(self._options.timeout_s + size_bytes / limits.LEAST_BYTES_PER_S)

    def url(self, repository: Repository, rest: str) -> Url:
        """Return where something of a repository lives; `rest` is `kind/name`, of characters that need no quoting."""
        return self._base(repository.registry)._replace(target=f"/v2/{repository.path}/{rest}")

    def credential_place(self, repository: Repository) -> Place | None:
        """Return the file that gave the credential for a repository, if one was looked up and found."""
        found = self._found.get(repository)
        return found.place if found else None

    def send(self, request: Request) -> Reply:
        """Send a request, authenticated if the registry asks for it, and return an answer that is neither 401 nor 403.

        Raises:
            AccessDenied: (UNAVAIL) the registry refuses, and says why.
            OtherHostRefused: (NET) the URL, which some answer gave, is not this registry's.
            Everything that `Session.send` and `authenticate` raise.
        """
        if request.url.origin != self._base(request.repository.registry).origin:
            raise OtherHostRefused("the registry points to another host", place=request.url.place(), got=str(request.url.origin))
        key = (request.url.origin, f"repository:{request.repository.path}:{request.access.value}")
        realms = Realms(request.repository.registry, request.url, frozenset(self._options.token_realms))
        flow = authenticate(realms, lambda: self._credential(request.repository), self._kept_header(key), key[1])
        step = next(flow)
        while True:
            if isinstance(step, AskToken):
                answer = self._ask_token(step, realms, request.deadline)
                step = flow.send(answer)
                continue
            reply = self._ask(request, step)
            try:
                step = flow.send(_answer_of(reply, request))
            except StopIteration as end:
                if end.value is not None:
                    self._kept[key] = (end.value.authorization, Deadline(end.value.life_s - TOKEN_MARGIN_S))
                return self._permitted(reply, request)
            except BaseException:
                reply.close()
                raise
            reply.discard()

    def fetch(self, request: Request, most_bytes: int) -> tuple[Reply, bytes]:
        """Send a request and return the answer with its whole body; asked again when the body is cut.

        Raises:
            TooLarge: (LIMIT) the body has more than `most_bytes` bytes.
        """
        for attempt in range(BODY_ATTEMPTS):
            with self.send(request) as reply:
                try:
                    return reply, reply.read_all(most_bytes) if reply.status == 200 else error_body(reply)
                except Unreachable:
                    if attempt == BODY_ATTEMPTS - 1:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, request: Request, step: Ask) -> Reply:
        return self._session.send(
            Call(
                request.method,
                request.url,
                request.deadline,
                headers=request.headers,
                authorization=step.authorization,
                body=request.body,
                redirects=request.redirects,
                lane=Lane.WARM if body_bytes(request.body) > SMALL_BODY_BYTES else self._options.reads,
                attempts=request.attempts,
            )
        )

    def _ask_token(self, step: AskToken, realms: Realms, deadline: Deadline) -> Answer:
        from urllib.parse import urlencode

        own = realms.registry_url.origin.host
        body = urlencode(step.form).encode() if step.form else None
        call = Call(
            "GET" if body is None else "POST",
            step.url,
            deadline,
            headers=(("Accept", "application/json"),)
            + ((("Content-Type", "application/x-www-form-urlencoded"),) if body is not None else ()),
            authorization=step.authorization,
            body=body,
            lane=Lane.WARM,
            named_by=Nearness.PUBLIC if KNOWN_REALMS.get(own) == step.url.origin.host else Nearness.LOOPBACK,
        )
        with self._session.send(call) as reply:
            if reply.status != 200:
                reply.discard()
                return Answer(reply.status)
            return Answer(reply.status, body=reply.read_all(TOKEN_ANSWER_BYTES))

    def _permitted(self, reply: Reply, request: Request) -> Reply:
        if reply.status not in {401, 403} or reply.url.origin != request.url.origin:
            return reply
        with reply:
            said = reply.cleaned(str(parse_error(error_body(reply))))
        place = self.credential_place(request.repository)
        raise AccessDenied(
            f"the registry refuses {request.access.value}: {said}",
            place=request.url.place(),
            got=str(reply.status),
            remedy=f"the credentials are those of {place}" if place else f"docker login {request.repository.registry}",
        )

    def _credential(self, repository: Repository) -> Credential | None:
        from sigkit.oci.credentials import find_credential

        if repository not in self._found:
            self._found[repository] = find_credential(repository, self._options.auth_files)
        found = self._found[repository]
        return found.credential if found else None

    def _kept_header(self, key: tuple[Origin, str]) -> str | None:
        header, life = self._kept.get(key, (None, None))
        return header if life and life.left() > 0 else None

    def _base(self, registry: str) -> Url:
        found = self._bases.get(registry)
        if found is None:
            found = self._bases.setdefault(registry, self._find_base(registry))
        return found

    def _find_base(self, registry: str) -> Url:
        """Decide between https and http.

        Loopback is asked without TLS first: that is where registries without it live, and nothing leaves the machine. One that
        speaks TLS there answers the ping with an error, and is then asked with TLS.
        """
        secure = parse_url(f"https://{DOCKER_HUB_HOST if registry == DOCKER_HUB else registry}/v2/")
        asked = self._options.plain_http_hosts
        loopback = is_loopback_name(secure.origin.host)
        if not loopback and registry not in asked and secure.origin.host not in asked:
            return secure
        plain = parse_url(f"http://{registry}/v2/")
        if loopback and self._options.ca_file is not None and self._speaks_tls_only(plain):
            return secure
        return plain

    def _speaks_tls_only(self, plain: Url) -> bool:
        try:
            with self._session.send(Call("GET", plain, self.deadline(), redirects=Redirects.RETURN, attempts=1)) as reply:
                return reply.status == 400 and _SPEAK_TLS in error_body(reply)
        except (Unreachable, TimedOut):
            return True


def error_body(reply: Reply) -> bytes:
    """Return the start of an error answer's body; nothing when it cannot be read, because it is only shown."""
    raw = b""
    try:
        while len(raw) < ERROR_BYTES and (data := reply.read(ERROR_BYTES - len(raw))):
            raw += data
    except SigkitError:
        return b""
    return raw


def parse_error(raw: bytes) -> ServerError:
    """Read an error answer; whatever is unreadable in it is left out.

    Source: OCI distribution-spec 1.1 "Error Codes".
    """
    try:
        first = strict.parse_json(raw, most_bytes=ERROR_BYTES).member("errors").items(limits.ANNOTATIONS)[0]
        code, message = first.find("code"), first.find("message")
        return ServerError(code.text() if code else "", message.text() if message else "")
    except (SigkitError, IndexError):
        return ServerError("", "")


def failed(reply: Reply, raw: bytes, what: str) -> ServerFailed:
    """Describe an answer, with its body, that says neither yes nor no."""
    said = reply.cleaned(str(parse_error(raw)))
    wait = " (tried again already)" if reply.status == 429 or reply.status >= 500 else ""
    # To HEAD the sentence is missing.
    maybe_tls = reply.url.origin.scheme == "http" and reply.status == 400 and (_SPEAK_TLS in raw or not raw)
    return ServerFailed(
        f"{what}: {said or 'no reason given'}{wait}",
        place=reply.url.place(),
        got=str(reply.status),
        remedy="if this registry speaks TLS, give the certificate of its authority with --registry-cacert FILE" if maybe_tls else "",
    )


def unusable(reply: Reply, expected: str, got: str) -> AnswerUnusable:
    """Describe an answer of another form than was asked for."""
    return AnswerUnusable("the answer is not what was asked for", place=reply.url.place(), expected=expected, got=reply.cleaned(got)[:160])


def _answer_of(reply: Reply, request: Request) -> Answer:
    # A store that the registry redirected to may answer 401; it is no registry, and gets no credentials.
    if reply.status == 401 and reply.url.origin != request.url.origin:
        return Answer(403)
    return Answer(reply.status, tuple(map(reply.cleaned, reply.headers.all("www-authenticate"))))
