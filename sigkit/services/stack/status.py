"""What can be said of a stack from its files, whether it runs or not."""

from __future__ import annotations

import os
import shlex
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import UnsafeKey
from sigkit.services import ca, tsa
from sigkit.services.stack import layout
from sigkit.services.stack.access import OpenKey, describe_open_keys, find_open_keys
from sigkit.services.stack.backup import size_of
from sigkit.services.stack.clients import open_repository
from sigkit.services.stack.head import read_head
from sigkit.services.stack.keys import find_bad_keys
from sigkit.services.stack.layout import BACKUP, OFFLINE, RESTORED, RUN, SERVICES, StackConfig
from sigkit.services.stack.owner import is_denied
from sigkit.services.stack.process import Process, find_process
from sigkit.services.stack.restore import resume_line, up_line
from sigkit.services.stack.space import LOW_BYTES, free_bytes
from sigkit.services.tuf import ONLINE_ROLES
from sigkit.text import counted, escape, format_time, human_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.clock import Clock
    from sigkit.errors import SigkitError
    from sigkit.strict import Json
    from sigkit.tlog.checkpoint import Checkpoint

_SOON: Final = timedelta(days=60)
# What the operator has to know before he says "transparency log" to anybody.
NOT_WITNESSED: Final = "no witness has signed it: nobody but this machine vouches that everybody sees the same log"
_KILLED: Final = "    its process ended without being stopped: it was killed, or the machine went down; each answered entry is there"
_LOST_KEY: Final = "without it the stack does not start"
_FREE_SOME: Final = ": free some, without space the stack takes no entry and no image"


class Renewal(Enum):
    """How something is renewed, how long before its end somebody should look, and by which command, but for the stack's own `up`."""

    # Signed again at half of its life, it should never come so near.
    BY_ITSELF = "by itself while the stack runs", timedelta(days=2), ""
    OFFLINE = "by sigkit stack renew, with the offline keys", _SOON, "sigkit stack renew {} --offline {}"
    NEW_STACK = "by a new stack", _SOON, "sigkit stack init NEW"

    def __init__(self, words: str, soon: timedelta, command: str) -> None:
        """Take the value apart."""
        self.words = words
        self.soon = soon
        self.command = command


class State(Enum):
    """How near the end of something is."""

    GOOD = "good"
    SOON = "expires"
    EXPIRED = "expired"


class Expiry(Data):
    """Until when something is good, and how it is renewed."""

    what: str
    until: datetime
    renewal: Renewal

    def state(self, now: datetime) -> State:
        """Return how near its end is."""
        if self.until <= now:
            return State.EXPIRED
        return State.SOON if self.until - now < self.renewal.soon else State.GOOD


class Due(Data):
    """What ends first, and the command that renews it; none where the stack does so by itself."""

    item: Expiry
    command: str


class Status(Data):
    """A stack as its directory shows it."""

    directory: str
    config: StackConfig
    process: Process | None
    killed: bool  # the last process ended without being stopped
    backup: bool  # nobody has said yet that it may go on
    restored: bool  # somebody has
    log: Checkpoint
    bad_keys: tuple[SigkitError, ...]  # why each is not signed with; the place is its file
    open_keys: tuple[OpenKey, ...]
    expiries: tuple[Expiry, ...]
    sizes: tuple[tuple[str, int], ...]  # bytes of each service
    free_bytes: int  # of the disk
    offline_here: bool
    now: datetime


def read_status(directory: str, clock: Clock) -> Status:
    """Read what a stack's directory says.

    Raises:
        NoStack, OtherStackVersion: (UNAVAIL) see `layout.load_config`.
        SigkitError: a part of it is damaged.
    """
    directory = os.path.abspath(directory)
    config = layout.load_config(directory)
    with layout.whole():
        head = read_head(directory)
        expiries = tuple(_expiries(directory))
        bad_keys = tuple(map(_advised, find_bad_keys(directory, config)))
        open_keys = find_open_keys(directory)
    left = os.path.lexists(os.path.join(directory, RUN))  # read first: a process that begins meanwhile was not killed
    process = find_process(directory)
    return Status(
        directory,
        config,
        process,
        left and process is None,
        os.path.lexists(os.path.join(directory, BACKUP)),
        os.path.lexists(os.path.join(directory, RESTORED)),
        head,
        bad_keys,
        open_keys,
        expiries,
        tuple((name, size_of(os.path.join(directory, name))) for name in SERVICES),
        free_bytes(directory),
        os.path.isdir(os.path.join(directory, OFFLINE)),
        clock.now(),
    )


def _advised(err: SigkitError) -> SigkitError:
    err.remedy = err.remedy or layout.advise(err) or "restore the file from a backup"
    return err


def _expiries(directory: str) -> Iterator[Expiry]:
    for role, until in open_repository(directory).expiries().items():
        yield Expiry(f"TUF {role}", until, Renewal.BY_ITSELF if role in ONLINE_ROLES else Renewal.OFFLINE)
    for name, chain in (
        ("certificate authority", ca.FILES.load_chain(os.path.join(directory, "ca"))),
        ("timestamp authority", tsa.FILES.load_chain(os.path.join(directory, "tsa"))),
    ):
        yield Expiry(name, min(item.not_valid_after_utc for item in chain), Renewal.NEW_STACK)


def expired(status: Status) -> tuple[Expiry, ...]:
    """Return what has expired and is not signed again by itself: timestamps of TUF are when the stack runs, and it does not."""
    return tuple(
        item
        for item in status.expiries
        if item.state(status.now) is State.EXPIRED and (item.renewal is not Renewal.BY_ITSELF or status.process is not None)
    )


def expired_while_running(directory: str, clock: Clock) -> tuple[Expiry, ...]:
    """Return what has expired of a stack that runs, without looking at more.

    Raises:
        SigkitError: as `read_status`.
    """
    return tuple(item for item in _expiries(directory) if item.state(clock.now()) is State.EXPIRED)


def is_good(status: Status) -> bool:
    """Tell whether nothing has to be done at once: nothing has expired, and each key that serving it needs is there."""
    return not expired(status) and not status.bad_keys


def first(status: Status) -> Due:
    """Return what ends first of all."""
    return _due(status, min(status.expiries, key=lambda item: item.until))


def first_by_hand(status: Status) -> Due:
    """Return what ends first of what no running stack renews by itself."""
    return _due(status, min((item for item in status.expiries if item.renewal is not Renewal.BY_ITSELF), key=lambda item: item.until))


def _due(status: Status, item: Expiry) -> Due:
    if status.backup or (item.renewal is Renewal.BY_ITSELF and status.process is not None):
        return Due(item, "")  # a backup is neither served nor signed for
    if item.renewal is Renewal.BY_ITSELF:
        return Due(item, up_line(status.directory, status.config.origin))
    offline = os.path.join(status.directory, OFFLINE) if status.offline_here else "OFFLINE"
    return Due(item, item.renewal.command.format(shlex.quote(status.directory), shlex.quote(offline)))


def _say(due: Due, status: Status) -> str:
    ended = due.item.state(status.now) is State.EXPIRED
    said = f"{due.item.what} {'ended' if ended else 'ends'} {_days(due.item.until - status.now)}"
    if status.backup:
        return said
    return f"{said}: {escape(due.command)}" if due.command else f"{said}; the stack signs it again by itself"


def describe(status: Status) -> tuple[str, ...]:
    """Return the status for a person."""
    config, process = status.config, status.process
    lines = [f"stack {escape(config.name)}  {config.url}", f"  directory  {escape(status.directory)}"]
    if process is not None:
        lines.append(f"  running    process {process.pid} on {escape(process.address)}, since {escape(process.started)}")
    else:
        lines.append(f"  stopped{_KILLED if status.killed else ''}")
    if status.backup:
        lines.append("  backup     it is not served until you say what becomes of its log (docs/stack.md); on a copy, then:")
        lines.append(f"             {escape(resume_line(status.directory, config.origin))}")
    if status.restored:
        lines.append(f"  restored   it goes on from a backup; {RESTORED} says of when, and of how many entries")
    lines += [
        f"  log        {counted(status.log.size, 'entry', 'entries')}, origin {escape(status.log.origin)}",
        f"             root hash {status.log.root.hex()}",
        f"             {NOT_WITNESSED}",
    ]
    for err in status.bad_keys:
        word = "UNSAFE" if isinstance(err, UnsafeKey) else "DENIED" if is_denied(err) else "DAMAGED"
        lines.append(f"  {word:<9}  {escape(str(err.place))}: {escape(err.problem)}; {_LOST_KEY}; {escape(err.remedy)}")
    if status.open_keys:
        lines.append(f"  OPEN       {describe_open_keys(status.directory, status.open_keys)}")
    lines += [f"  {word:<9}  {_say(due, status)}" for word, due in (("first", first(status)), ("by hand", first_by_hand(status)))]
    for item in sorted(status.expiries, key=lambda item: item.until):
        left = _days(item.until - status.now)
        state = item.state(status.now)
        word = "EXPIRED" if state is State.EXPIRED else state.value
        lines.append(f"  {word:<9}  {item.what}: {format_time(item.until)}, {left}; renewed {item.renewal.words}")
    lines += [f"  size       {name}: {human_size(size)}" for name, size in status.sizes]
    low = status.free_bytes < LOW_BYTES
    lines.append(f"  {'LOW' if low else 'free':<9}  {human_size(status.free_bytes)} on its disk{_FREE_SOME if low else ''}")
    if status.offline_here:
        lines.append(
            f"  offline    keys are still in {escape(os.path.join(status.directory, OFFLINE))}: take them to a machine without a network"
        )
    return tuple(lines)


def encode(status: Status) -> Json:
    """Return the status as the document `sigkit.stack.status/1`."""
    process: Json = None
    if status.process is not None:
        process = {"pid": status.process.pid, "address": status.process.address, "started": status.process.started}
    return {
        "schema": "sigkit.stack.status/1",
        "directory": status.directory,
        "name": status.config.name,
        "url": status.config.url,
        "created": format_time(status.config.created),
        "process": process,
        "endedUnstopped": status.killed,
        "backup": status.backup,
        "restored": status.restored,
        "log": {"size": status.log.size, "origin": status.log.origin, "rootHash": status.log.root.hex(), "witnesses": 0},
        "badKeys": [{"file": err.place.source, "problem": err.problem, "remedy": err.remedy} for err in status.bad_keys],
        "openKeys": [{"file": key.path, "mode": f"{key.mode:04o}"} for key in status.open_keys],
        "expiries": [
            {"what": item.what, "until": format_time(item.until), "state": item.state(status.now).value} for item in status.expiries
        ],
        **{
            name: {"what": due.item.what, "until": format_time(due.item.until), "command": due.command}
            for name, due in (("first", first(status)), ("firstByHand", first_by_hand(status)))
        },
        "sizeBytes": dict(status.sizes),
        "freeBytes": status.free_bytes,
        "freeIsLow": status.free_bytes < LOW_BYTES,
        "offlineKeysHere": status.offline_here,
    }


def _days(left: timedelta) -> str:
    hours = int(left.total_seconds() // 3600)
    if hours < 0:
        return f"{-hours // 24} days ago"
    return f"in {hours // 24} days" if hours >= 48 else f"in {hours} hours"
