"""Running a stack: one process owns the directory, listens, and re-signs what expires.

Clients find every service under the stack's URL. Who listens beyond loopback does it with TLS.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sigkit.clock import SystemClock
from sigkit.data import Data
from sigkit.errors import AddressUnusable, Place, SigkitError
from sigkit.net.address import is_loopback_name
from sigkit.services.serve import running, until_told
from sigkit.services.stack import layout
from sigkit.services.stack.cores import opened_cores
from sigkit.services.stack.head import read_head
from sigkit.services.stack.process import told
from sigkit.services.stack.restore import Said, is_marked, take_mark_away, up_line
from sigkit.services.stack.resume import refuse_while_original_answers
from sigkit.services.tuf import ONLINE_ROLES
from sigkit.text import escape, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.services.stack.layout import StackConfig
    from sigkit.services.tls import Tls
    from sigkit.services.tuf import Repository

_LOCK_TIMEOUT_S: Final = 1.0  # for one that is just stopping
_RESIGN_S: Final = 60.0  # how often is looked; half of what was signed is still good then
_SAID_AGAIN: Final = timedelta(hours=1)  # of what goes on failing
_LINE_CHARACTERS: Final = 1000
_LOG: Final = logging.getLogger("sigkit.services")


class RunningStack(Data):
    """A stack that takes requests."""

    config: StackConfig
    address: str  # `host:port` as it listens
    resumed_at: int | None  # entries of the log of a backup that goes on now


@contextlib.contextmanager
def fresh(repository: Repository, clock: Clock, *, every_s: float = _RESIGN_S) -> Iterator[None]:
    """Sign what TUF's online roles say again before it expires, until the block ends; look every `every_s` seconds.

    A disk that takes nothing now may take it a minute later, so it is tried on; the operator is told at once, and then each hour.
    """
    end = threading.Event()

    def watch() -> None:
        until = good_until
        said: datetime | None = None
        while not end.wait(every_s):
            now = clock.now()
            try:
                _sign_again(repository, now)
                until, said = _good_until(repository), None
            except Exception as err:  # noqa: BLE001 - the outermost frame of this thread: without it nothing would be signed any more
                if said is None or abs(now - said) >= _SAID_AGAIN:
                    said = now
                    problem = escape(_describe(err), _LINE_CHARACTERS)
                    _LOG.error("TUF's metadata cannot be signed again; clients take it until %s: %s", format_time(until), problem)

    _sign_again(repository, clock.now())
    good_until = _good_until(repository)
    thread = threading.Thread(target=watch, name="sigkit-tuf")
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _sign_again(repository: Repository, now: datetime) -> None:
    if repository.is_ahead(now):
        _LOG.warning(
            "the clock here says %s, and TUF's metadata was signed when it said later: certificates and timestamps of then are of then,"
            " and those of now are wrong if it is behind now; set it by NTP",
            format_time(now),
        )
    repository.resign_if_due(now)


def _describe(err: Exception) -> str:
    return str(err) if isinstance(err, SigkitError) else f"{type(err).__name__}: {err}"


def _good_until(repository: Repository) -> datetime:
    expiries = repository.expiries()
    return min(expiries[role] for role in ONLINE_ROLES)


@contextlib.contextmanager
def running_stack(
    directory: str, *, listen: str | None = None, tls: Tls | None = None, clock: Clock | None = None, said: Said = Said.NOTHING
) -> Iterator[RunningStack]:
    """Serve the stack in `directory` until the block ends.

    Args:
        directory: that `make_stack` made.
        listen: an IP address or `localhost`, and a port; without it what the stack's URL says, if that is this machine.
        tls: without it only loopback addresses are listened on.
        clock: this machine's, unless given.
        said: of a backup, that its log may go on. It counts once the stack is served: until then it is to be said again.

    Raises:
        OtherUsersStack: (UNAVAIL) it is another user's.
        LockTimeout: (UNAVAIL) another process serves it.
        StackRestored, NoBackup: (UNAVAIL) see `restore.is_marked`.
        OriginalServed, OriginalUnknown: (UNAVAIL) see `resume.refuse_while_original_answers`.
        AddressUnusable: (NET) see `serve.running`.
        SigkitError: as `layout.load_config` and each service.
    """
    clock = clock or SystemClock()
    directory = os.path.abspath(directory)
    with layout.owned(directory, "a second one would fork its log", timeout_s=_LOCK_TIMEOUT_S) as config:
        _tell_early_clock(config, clock.now())
        marked = is_marked(directory, config.origin, said)
        where = _where(directory, config, listen, tls, said)
        resumed_at = _resume(directory, config) if marked else None
        with contextlib.ExitStack() as stack:
            with layout.whole():
                mounts, repository = stack.enter_context(opened_cores(directory, config, clock))
            if marked:
                repository.resign_beyond(clock.now())  # done once more where it is not served after that: versions do not run out
            stack.enter_context(fresh(repository, clock))  # before anybody can ask for what has expired while it was off
            with _fixed_address_told(config):
                address = stack.enter_context(running(mounts, where, tls=tls, names=(config.origin.host,)))
            stack.enter_context(told(directory, address, clock))
            if marked:
                take_mark_away(directory)
            yield RunningStack(config, address, resumed_at)


def _tell_early_clock(config: StackConfig, now: datetime) -> None:
    if now < config.created:
        _LOG.warning(
            "the clock here says %s, and this stack was made at %s: nothing is certified or timestamped until it is right; set it by NTP",
            format_time(now),
            format_time(config.created),
        )


def _resume(directory: str, config: StackConfig) -> int:
    """Return how many entries a backup's log goes on from, if it may."""
    with layout.whole():
        head = read_head(directory)
        refuse_while_original_answers(directory, config, head)
    return head.size


@contextlib.contextmanager
def _fixed_address_told(config: StackConfig) -> Iterator[None]:
    """Let the refusal of an address that is in use not advise any other: clients know one, and would speak to whoever has it.

    Raises:
        AddressUnusable: (NET) as the block.
    """
    try:
        yield
    except AddressUnusable as err:
        if isinstance(err.__cause__, OSError) and err.__cause__.errno == errno.EADDRINUSE:
            port = err.place.source.rpartition(":")[2]
            err.remedy = (
                f"free the port: ss -ltnp 'sport = :{port}'; or listen on another and put a proxy at {config.url}, which clients ask"
            )
        raise


def serve_stack(directory: str, *, listen: str | None, tls: Tls | None, said: Said, ready: Callable[[RunningStack], None]) -> None:
    """Serve the stack in `directory` until SIGTERM comes; SIGINT ends it with KeyboardInterrupt.

    Args:
        directory: as `running_stack`.
        listen: as `running_stack`.
        tls: as `running_stack`.
        said: as `running_stack`.
        ready: called once requests are taken.

    Raises:
        KeyboardInterrupt: it has been stopped cleanly.
        SigkitError: as `running_stack`.
    """
    with until_told() as wait, running_stack(directory, listen=listen, tls=tls, said=said) as stack:
        ready(stack)
        wait()


def _where(directory: str, config: StackConfig, listen: str | None, tls: Tls | None, said: Said) -> str:
    """Return the address to listen on.

    Raises:
        AddressUnusable: (NET) the stack's URL does not say which, or promises TLS that nobody gives.
    """
    origin, place = config.origin, Place.operator(config.url)
    if tls is not None and origin.scheme == "http":
        raise AddressUnusable(
            "the stack's URL is without TLS: clients would not speak it", place=place, remedy="make one with --url https://…"
        )
    line = up_line(directory, origin, said, tls)
    if listen is None and not is_loopback_name(origin.host):
        raise AddressUnusable("on which of this machine's addresses?", place=place, remedy=line)
    if tls is None and origin.scheme == "https" and listen is None:
        remedy = f"{line}; behind a proxy that speaks it, --listen 127.0.0.1:PORT"
        raise AddressUnusable("the stack's URL is with TLS", place=place, remedy=remedy)
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return listen or f"{host}:{origin.port}"
