"""The rules of every request, over a hop that sends one.

In this order: the scheme (plain HTTP only for loopback, or for hosts that the user listed), the address (see `address`), one deadline
for the whole operation, redirects that keep credentials only on the same scheme, host and port, identity encoding or nothing, the
promised length, and retries. No proxy of the environment is used, no cookie kept, no netrc read.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from sigkit import __version__
from sigkit.data import Data
from sigkit.errors import (
    AnswerUnusable,
    EncodingRefused,
    HeaderUnusable,
    NoTls,
    PlainHttpRefused,
    RedirectRefused,
    TimedOut,
    TlsFailed,
    TooLarge,
    Unreachable,
    UrlRefused,
)
from sigkit.net import retry
from sigkit.net.address import Deadline, Guard, Nearness, is_loopback_name
from sigkit.net.cold import ColdHop
from sigkit.net.hop import Body, Headers, Hop, HopReply, HopRequest, body_bytes, unsendable
from sigkit.net.secrets import secrets_of, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from sigkit.net.url import Origin, Url

REDIRECTS: Final = 5  # object stores need 1, mirrors before them 2
DRAIN_BYTES: Final = 64 << 10  # read to its end so that the connection can be used again; a longer one is cut

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Redirects(Enum):
    """What a redirect in the answer means."""

    FOLLOW = "follow"  # GET and HEAD of content
    REFUSE = "refuse"  # token servers (go-containerregistry#2291), uploads
    RETURN = "return"  # the caller judges it


class Lane(Enum):
    """Which hop sends: see `cold` and `warm`."""

    COLD = "cold"
    WARM = "warm"


class NetOptions(Data):
    """What the user decided about connections.

    `own_addresses` are allowed whatever the rule says: addresses that the calling code itself holds, as that of a cloud's metadata.
    For the advice: `ca_option` is where a user names `ca_file`, and `plain_option` what puts hosts into `plain_http_hosts` ("": nothing).
    """

    plain_http_hosts: frozenset[str] = frozenset()
    ca_file: str | None = None
    read_timeout_s: float = 30.0
    own_addresses: frozenset[str] = frozenset()
    ca_option: str = "--registry-cacert FILE"
    plain_option: str = ""


class Call(NamedTuple):
    """One request as the caller means it."""

    method: str
    url: Url
    deadline: Deadline
    headers: tuple[tuple[str, str], ...] = ()
    authorization: str | None = None
    body: Body = None
    redirects: Redirects = Redirects.REFUSE
    lane: Lane = Lane.COLD
    attempts: int = retry.ATTEMPTS
    # Hosts of the user's own words may be near; hosts that a server named only as near as that server.
    named_by: Nearness = Nearness.LOOPBACK
    secrets: tuple[str, ...] = ()  # in the body; those of the Authorization header need no mention


class Reply:
    """An answer: status, header fields, and the body as a bounded stream."""

    def __init__(self, hop: HopReply, call: Call, guard: Guard, *, bodiless: Bodiless) -> None:
        """Take over the hop's reply to a call; its framing is checked here, for both hops alike."""
        self._hop = hop
        self._guard = guard
        self._call = call
        self.url = url = call.url
        self.status = hop.status
        self.headers = hop.headers
        self._left = 0 if bodiless is Bodiless.YES else _promised_bytes(hop.headers, url)
        self._ended = False
        self._encoding = "" if bodiless is Bodiless.YES else _foreign_encoding(hop.headers)

    @property
    def nearness(self) -> Nearness:
        """How near the server is that gave this answer: what it names may not be nearer."""
        return self._guard.met if self._guard.met is not None else Nearness.PUBLIC

    def cleaned(self, text: str) -> str:
        """Return words of this answer, to be shown or logged, without what they repeat of the request's secrets."""
        return without_secrets(text, secrets_of(self._call.authorization, self._call.secrets))

    @property
    def size_bytes(self) -> int | None:
        """The bytes still to come, when the server promised a number."""
        return self._left

    def read(self, size: int = DRAIN_BYTES) -> bytes:
        """Return up to `size` bytes; empty at the end, which is where the server promised it.

        Raises:
            Unreachable: the transfer was cut.
            TimedOut: it took too long.
            EncodingRefused: it is compressed, though identity was asked for (CVE-2025-66418, -66471).
        """
        if self._encoding:
            raise EncodingRefused("the answer is compressed", place=self.url.place(), expected="identity", got=self._encoding[:80])
        if self._ended:
            return b""
        with self._guard:
            if self._guard.deadline.left() <= 0:
                raise TimedOut(f"not complete within {self._guard.deadline.seconds:g} s", place=self.url.place())
            data = self._hop.read(size)
        if self._left is not None:
            self._left -= len(data)
        if not data:
            self._ended = True
            if self._left:
                raise Unreachable("the transfer was cut", place=self.url.place(), expected=f"{self._left} more bytes", got="the end")
        return data

    def read_all(self, most_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            TooLarge: it has, or promises, more than `most_bytes` bytes.
        """
        if self._left is not None and self._left > most_bytes:
            raise TooLarge(f"more than {most_bytes} bytes", place=self.url.place(), got=f"{self._left} bytes promised")
        parts: list[bytes] = []
        room = most_bytes + 1
        while room and (data := self.read(min(room, DRAIN_BYTES))):
            parts.append(data)
            room -= len(data)
        if not room:
            raise TooLarge(f"more than {most_bytes} bytes", place=self.url.place())
        return b"".join(parts)

    def discard(self) -> None:
        """Have done with this answer; the connection is kept if little is left to read."""
        try:
            if not self._encoding and self._left is not None and self._left <= DRAIN_BYTES:
                while self.read():
                    pass
        except (Unreachable, TimedOut):
            pass  # only the connection is lost
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back, or close it if there is more to read."""
        self._hop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bodiless(Enum):
    """Whether an answer has no body whatever its header says: to HEAD, and 204 and 304."""

    NO = 0
    YES = 1


class Session:
    """Sends calls by the rules. Safe to use from several threads."""

    def __init__(self, options: NetOptions = NetOptions(), *, sleep: Callable[[float], None] = time.sleep) -> None:  # noqa: B008 # immutable
        """Take the user's options, and a way to wait between attempts."""
        self._options = options
        self._sleep = sleep
        self._hops: dict[Lane, Hop] = {}
        self._context: SSLContext | None = None

    def send(self, call: Call) -> Reply:
        """Send a call, again if that may help, and return the last answer, of whatever status.

        Raises:
            UrlRefused, PlainHttpRefused, AddressRefused, RedirectRefused, EncodingRefused, TlsFailed: (NET) by the rules.
            HeaderUnusable: (NET) what was to be sent cannot be.
            Unreachable, TimedOut: (UNAVAIL) no answer.
        """
        for attempt in range(call.attempts):
            last = attempt == call.attempts - 1
            try:
                reply = self._follow(call)
            except TlsFailed as err:
                err.remedy = err.remedy or f"for a private authority, give its certificate with {self._options.ca_option}"
                raise
            except NoTls as err:
                err.remedy = self._plain_advice(call.url.origin)
                raise
            except Unreachable as err:
                if call.url.origin.scheme == "http" and not err.remedy:
                    err.remedy = self._tls_advice(call.url.origin)
                if last or not retry.repeatable(call.method) or not self._wait(attempt, None, call):
                    raise
                continue
            if last or not retry.worth_retrying(call.method, reply.status) or not self._wait(attempt, reply.headers, call):
                return reply
            reply.discard()
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Close all connections that are kept."""
        for hop in self._hops.values():
            hop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, attempt: int, headers: Headers | None, call: Call) -> bool:
        wait_s = retry.wait_s(attempt, headers)
        if wait_s >= call.deadline.left():
            return False
        self._sleep(wait_s)
        return True

    def _plain_advice(self, origin: Origin) -> str:
        if not self._options.plain_option:
            return f"if it speaks plain HTTP, its address is http://{origin.authority}, which is asked on this machine alone"
        return f"if it speaks plain HTTP, {self._options.plain_option} allows that for the registry that is named"

    def _tls_advice(self, origin: Origin) -> str:
        if not self._options.plain_option:
            return "if this server speaks TLS, its address begins with https://"
        if is_loopback_name(origin.host):  # asked without TLS unless an authority is named for it
            return f"if this registry speaks TLS, give the certificate of its authority: {self._options.ca_option}"
        return f"if this registry speaks TLS, leave out {self._options.plain_option}"

    def _follow(self, call: Call) -> Reply:
        first = call
        for _ in range(REDIRECTS + 1):
            reply = self._send_once(call)
            if reply.status not in _REDIRECTS or call.redirects is Redirects.RETURN:
                return reply
            reply.discard()  # never decoded and never longer than DRAIN_BYTES (CVE-2026-21441)
            call = _redirected(call, reply, first)
        raise RedirectRefused(f"more than {REDIRECTS} redirects", place=call.url.place())

    def _send_once(self, call: Call) -> Reply:
        allowed = self._allowed_addresses(call)
        guard = Guard(allowed, call.deadline, self._options.read_timeout_s, self._options.own_addresses)
        request = HopRequest(call.method, call.url, _header_fields(call), call.body)
        with guard:
            if guard.deadline.left() <= 0:
                raise TimedOut(f"not complete within {guard.deadline.seconds:g} s", place=call.url.place())
            hop_reply = self._hop(call.lane).send(request)
        bodiless = Bodiless.YES if call.method == "HEAD" or hop_reply.status in {204, 304} else Bodiless.NO
        try:
            return Reply(hop_reply, call, guard, bodiless=bodiless)
        except BaseException:
            hop_reply.close()
            raise

    def _allowed_addresses(self, call: Call) -> frozenset[Nearness]:
        origin = call.url.origin
        allowed = frozenset(n for n in Nearness if n <= call.named_by)
        if origin.scheme == "https" or self._asked_plain(origin):
            return allowed
        if not is_loopback_name(origin.host):
            raise PlainHttpRefused(
                "plain HTTP to another machine",
                place=call.url.place(),
                expected=f"https://{origin.authority}",
                remedy=f"{plain} allows it for the registry that is named" if (plain := self._options.plain_option) else "",
            )
        return allowed & {Nearness.LOOPBACK}

    def _asked_plain(self, origin: Origin) -> bool:
        hosts = self._options.plain_http_hosts
        return origin.host in hosts or origin.authority in hosts

    def _hop(self, lane: Lane) -> Hop:
        found = self._hops.get(lane)
        if found is None:
            made = self._make_hop(lane)
            found = self._hops.setdefault(lane, made)
        return found

    def _make_hop(self, lane: Lane) -> Hop:
        if lane is Lane.COLD:
            return ColdHop(self._tls)
        from sigkit.net.warm import WarmHop

        return WarmHop(self._tls)

    def _tls(self) -> SSLContext:
        if self._context is None:
            from sigkit.net.tls import tls_context

            self._context = tls_context(self._options.ca_file)
        return self._context


def _header_fields(call: Call) -> tuple[tuple[str, str], ...]:
    fields = [("Host", call.url.origin.authority), ("User-Agent", f"sigkit/{__version__}"), ("Accept-Encoding", "identity")]
    if call.authorization is not None:
        fields.append(("Authorization", call.authorization))
    if call.body is not None or call.method in {"POST", "PUT", "PATCH"}:
        fields.append(("Content-Length", str(body_bytes(call.body))))
    fields += call.headers
    for name, value in fields:
        # Before the exchange, where the sender's own exception would quote the whole value, to be printed by -vv.
        if what := unsendable(value):
            raise HeaderUnusable(
                f"the header {name} of the request cannot be sent", place=call.url.place(), expected="visible ASCII", got=f"{what} in it"
            )
    return tuple(fields)


def _redirected(call: Call, reply: Reply, first: Call) -> Call:
    location = reply.headers.find("location")
    if call.redirects is Redirects.REFUSE or location is None:
        raise RedirectRefused(
            f"{reply.status} where no redirect is followed",
            place=call.url.place(),
            got=reply.cleaned((location or "").partition("?")[0]),
        )
    try:
        url = call.url.join(location)
    except UrlRefused as err:
        err.got = reply.cleaned(err.got)
        raise
    return call._replace(
        url=url,
        authorization=call.authorization if url.origin == call.url.origin else None,
        named_by=first.named_by if url.origin.host == first.url.origin.host else reply.nearness,
    )


def _promised_bytes(headers: Headers, url: Url) -> int | None:
    if headers.find("transfer-encoding") is not None:
        return None
    lengths = set(headers.all("content-length"))
    if not lengths:
        return None
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdecimal() and len(length) < 19):
        raise AnswerUnusable("the answer has no single length", place=url.place(), got=length[:40])
    return int(length)


def _foreign_encoding(headers: Headers) -> str:
    transfer = headers.find("transfer-encoding")
    if transfer is not None and transfer.lower() != "chunked":
        return transfer
    content = ", ".join(headers.all("content-encoding"))
    return "" if content.lower() in {"", "identity"} else content
