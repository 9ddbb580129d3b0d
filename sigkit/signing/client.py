"""Requests to the services of an instance: one deadline, limits on answers, and patience with those that are busy.

Asked again, after a wait that doubles, or a longer one that the server names: 429 and the errors of a server that may have done nothing,
a connection that broke, an answer that did not come. What is sent here may be sent twice: a certificate more is only a certificate, and
a log answers a second request with the first entry. What may not is sent once, and says so (`Sending.ONCE`). What a service refuses (400
and its like) it would refuse again, so its words are handed on at once.

Every wait is told before it begins: who is waited for, why, and how long.
"""

from __future__ import annotations

import random
import time
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

from sigkit import strict
from sigkit.errors import AnswerUnusable, RequestRefused, ServerFailed, SigkitError, TimedOut, Unreachable
from sigkit.net.address import Deadline, Nearness
from sigkit.net.hop import unsendable
from sigkit.net.secrets import secrets_of, without_secrets
from sigkit.net.session import Call, Lane, NetOptions, Redirects, Session
from sigkit.net.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sigkit.errors import Place
    from sigkit.net.hop import Headers
    from sigkit.net.session import Reply
    from sigkit.net.url import Url

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0  # between two attempts, whatever a server asks for
ATTEMPT_S: Final = 20.0  # for one answer: a log of the second generation answers within a second or two
PATIENCE_S: Final = 120.0  # for one service, if nobody says otherwise
LEAST_S: Final = 1.0  # a first attempt is made even where there is no patience
ERROR_BYTES: Final = 64 << 10
SHOWN_CHARACTERS: Final = 300  # of a service's words
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
# The service is there and does not want this request; 404, 405 and 501 rather say that another service is there.
_REFUSALS: Final = frozenset({400, 401, 403, 409, 413, 415, 422})


class Watcher(Protocol):
    """Hears what the user is to know while services are asked."""

    def waiting(self, service: str, why: str, seconds: float) -> None:
        """Take note that `service` is asked again after so many seconds."""
        ...

    def passed_over(self, service: str, err: SigkitError) -> None:
        """Take note that `service` failed and that another is asked in its place."""
        ...

    def note(self, text: str) -> None:
        """Take note of anything else."""
        ...


class Timer(Protocol):
    """Waits, and tells how long it has been."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...


class SystemTimer:
    """This machine's."""

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)


class Patience:
    """How long one service is waited for, over all that is asked of it."""

    __slots__ = ("_at", "_timer")

    def __init__(self, timer: Timer, seconds: float) -> None:
        self._timer = timer
        self._at = timer.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left; zero or less when there are none."""
        return self._at - self._timer.monotonic()


class Sending(Enum):
    """How often a request may be sent."""

    UNTIL_ANSWERED = "until answered"
    ONCE = "once"  # an issuer takes an authorization code once, and may take back what it gave for it (RFC 6749 section 4.1.2)


class Ask(NamedTuple):
    """One request."""

    method: str
    url: str
    most_bytes: int
    success: Collection[int] = (200,)
    body: bytes | None = None
    content_type: str = "application/json"
    authorization: str | None = None
    accept: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    named_by: Nearness = Nearness.LOOPBACK
    absent: Collection[int] = ()  # statuses that say that there is no such thing: the answer has no body
    secrets: tuple[str, ...] = ()  # in the body, which a server may not have printed; those of `authorization` need no mention
    sending: Sending = Sending.UNTIL_ANSWERED


class Answer(NamedTuple):
    """A successful answer, or one that says that there is nothing, and how near its server is: what it names may not be nearer."""

    status: int
    headers: Headers
    body: bytes
    url: Url
    nearness: Nearness
    secrets: tuple[str, ...]  # of the request

    def words(self) -> str:
        """Return what the body says, if it is an error's."""
        return _words_of(self.body, lambda text: without_secrets(text, self.secrets))

    def place(self) -> Place:
        """Return where a problem with this answer lies."""
        return self.url.place()

    def json(self) -> strict.Cursor:
        """Parse the body, strictly."""
        return strict.parse_json(self.body, most_bytes=len(self.body), place=self.place())

    def secret(self, name: str) -> str:
        """Return a member that opens doors. What is there in its place may do so too: nothing of it is quoted, nor is it the cause.

        Raises:
            AnswerUnusable: (UNAVAIL) there is none that can be sent on.
        """
        try:
            text = self.json().member(name).text()
        except SigkitError:
            text = ""
        if not text or unsendable(text):
            raise self.without(f"JSON with `{name}`")
        return text

    def without(self, expected: str) -> AnswerUnusable:
        """Say that a page came, or something else, in the place of a token: it is not the user's words that are wrong."""
        page = self.body[:200].lstrip()[:1] == b"<"
        got = "a page, as of a proxy or a login" if page else f"{len(self.body)} bytes of something else"
        return AnswerUnusable("the answer holds no token", place=self.place(), expected=expected, got=got)


class Client:
    """Asks services. Safe to use from one thread."""

    def __init__(
        self,
        watcher: Watcher,
        options: NetOptions = NetOptions(),  # noqa: B008 # immutable
        *,
        patience_s: float = PATIENCE_S,
        timer: Timer = SystemTimer(),  # noqa: B008 # has no state
    ) -> None:
        """Take who hears of waits, what the user decided about connections, how long to be patient, and a way to wait."""
        self.watcher = watcher
        self.timer = timer
        self._patience_s = patience_s
        self._session = Session(options)

    def ask(self, ask: Ask, until: Patience | None = None) -> Answer:
        """Send a request until it is answered, for as long as patience lasts; or once.

        Args:
            ask: the request.
            until: when to give up; None for as long as patience lasts, from now.

        Raises:
            RequestRefused: (UNAVAIL) the service does not want the request.
            ServerFailed, TimedOut, Unreachable: (UNAVAIL) it failed to the end.
            AnswerUnusable: (UNAVAIL) another status than success.
            TooLarge: (LIMIT) a larger answer than any of its kind.
            NetError: by the rules of connections.
        """
        url = parse_url(ask.url)
        patience = until or self.patience()
        attempt = 0
        while True:
            try:
                return self._try(ask, url, patience)
            except _Busy as busy:
                wait_s = max(busy.asked_s, _backoff(attempt))  # who asks for 0 s, or 1 s for ever, gets no faster client for it
                if ask.sending is Sending.ONCE or wait_s >= patience.left():
                    raise busy.failure from busy.failure.__cause__
                self.watcher.waiting(str(url.origin), busy.why, wait_s)
                self.timer.sleep(wait_s)
                attempt += 1

    def patience(self, most_s: float | None = None) -> Patience:
        """Start the clock of one service's patience; of less, if `most_s` is less."""
        return Patience(self.timer, self._patience_s if most_s is None else min(most_s, self._patience_s))

    def close(self) -> None:
        """Close all connections that are kept."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, ask: Ask, url: Url, patience: Patience) -> Answer:
        """Send the request once.

        Raises:
            _Busy: it may help to send it again.
        """
        headers = [("Accept", ask.accept), *ask.headers]
        if ask.body is not None:
            headers.append(("Content-Type", ask.content_type))
        call = Call(
            ask.method,
            url,
            Deadline(max(min(ATTEMPT_S, patience.left()), LEAST_S)),
            tuple(headers),
            ask.authorization,
            ask.body,
            Redirects.REFUSE,
            Lane.COLD,
            attempts=1,
            named_by=ask.named_by,
            secrets=ask.secrets,
        )
        secrets = secrets_of(ask.authorization, ask.secrets)
        try:
            with self._session.send(call) as reply:
                if reply.status in ask.absent:  # a page that says so may be of any size
                    return Answer(reply.status, reply.headers, b"", url, reply.nearness, secrets)
                if reply.status in ask.success:
                    return Answer(reply.status, reply.headers, reply.read_all(ask.most_bytes), url, reply.nearness, secrets)
                status, asked_s = reply.status, _retry_after(reply.headers)
                said = _said(reply)
        except (Unreachable, TimedOut) as err:
            raise _Busy(err, err.problem) from err
        if status in _AGAIN:
            why = f"{status} {said}".strip()
            raise _Busy(ServerFailed(f"the service failed: {why}", place=url.place()), why, asked_s)
        if status in _REFUSALS:
            raise RequestRefused(f"the service refuses the request: {said or 'it does not say why'}", place=url.place(), got=str(status))
        expected = " or ".join(str(code) for code in ask.success)
        raise AnswerUnusable("not the answer of such a service", place=url.place(), expected=expected, got=f"{status} {said}".strip())


class _Busy(Exception):
    """Sending the request again may help; `failure` is what to say if there is no time for it, `asked_s` what the server wants waited."""

    def __init__(self, failure: SigkitError, why: str, asked_s: float = 0.0) -> None:
        super().__init__(why)
        self.failure = failure
        self.why = why
        self.asked_s = asked_s


def _backoff(attempt: int) -> float:
    longest = min(FIRST_WAIT_S * 2.0**attempt, LONGEST_WAIT_S)
    return longest * (0.5 + random.random() / 2)  # noqa: S311 # spreads load, hides nothing


def under(base: str, path: str) -> str:
    """Return the URL of a path below a service's, which may end in a slash or not; `path` begins with one."""
    return base.rstrip("/") + path


def _retry_after(headers: Headers) -> float:
    asked = headers.find("retry-after")
    if asked and asked.isascii() and asked.isdecimal() and len(asked) < 7:
        return min(float(asked), LONGEST_WAIT_S)
    return 0.0


def _said(reply: Reply) -> str:
    """Return a service's own words for an error, if they arrive."""
    try:
        raw = reply.read_all(ERROR_BYTES)
    except (SigkitError, OSError):  # the status says enough
        return ""
    return _words_of(raw, reply.cleaned)


def _words_of(raw: bytes, cleaned: Callable[[str], str]) -> str:
    """Return what an error's body says: gRPC-gateway's `message`, OAuth's `error` and its description, or the text; cleaned, then cut."""
    try:
        members = strict.parse_json(raw, most_bytes=len(raw)).object()
    except SigkitError:
        return cleaned(" ".join(raw.decode("utf-8", "replace").split()))[:SHOWN_CHARACTERS]
    words = [members.get(name) for name in ("message", "error", "error_description")]
    return ": ".join(cleaned(word)[:SHOWN_CHARACTERS] for word in words if isinstance(word, str))
