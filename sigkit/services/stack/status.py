"""What can be said of a stack from its files, whether it runs or not."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import FileUnreadable, LogDamaged, Place
from sigkit.services import ca, tsa
from sigkit.services.log.journal import Journal
from sigkit.services.stack import cores, layout
from sigkit.services.stack.backup import size_of
from sigkit.services.stack.layout import BACKUP, LOG_STATE, OFFLINE, RESTORED, SERVICES, StackConfig
from sigkit.services.stack.process import Process, find_process
from sigkit.services.stack.space import FULL, LOW_BYTES, free_bytes
from sigkit.services.tuf import ONLINE_ROLES
from sigkit.text import counted, escape, format_time, human_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.clock import Clock
    from sigkit.strict import Json

_SOON: Final = timedelta(days=60)
_ORIGIN_LINES: Final = 2
# What the operator has to know before he says "transparency log" to anybody.
NOT_WITNESSED: Final = "no witness has signed it: nobody but this machine vouches that everybody sees the same log"


_FREE_SOME: Final = ": free some, without space the stack takes no entry and no image"


class Renewal(Enum):
    """How something is renewed, how long before its end somebody should look, and by which command."""

    # Signed again at half of its life, it should never come so near.
    BY_ITSELF = "by itself while the stack runs", timedelta(days=2), "sigkit stack up {}"
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
    backup: bool  # nobody has said yet that it may go on
    restored: bool  # somebody has
    log_size: int
    log_origin: str
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
        origin, size = _log_head(os.path.join(directory, "log", LOG_STATE, "journal"))
        expiries = tuple(_expiries(directory))
    return Status(
        directory,
        config,
        find_process(directory),
        os.path.lexists(os.path.join(directory, BACKUP)),
        os.path.lexists(os.path.join(directory, RESTORED)),
        size,
        origin,
        expiries,
        tuple((name, size_of(os.path.join(directory, name))) for name in SERVICES),
        free_bytes(directory),
        os.path.isdir(os.path.join(directory, OFFLINE)),
        clock.now(),
    )


def _log_head(path: str) -> tuple[str, int]:
    """Return origin and size of the newest tree in a journal, out of a copy: opening it is its owner's affair."""
    try:
        with tempfile.TemporaryDirectory(prefix="sigkit-") as scratch:
            copy = os.path.join(scratch, "journal")
            shutil.copyfile(path, copy)
            journal, records = Journal.open(copy)
            journal.close()
    except OSError as err:
        place = Place(tempfile.gettempdir() if err.errno in FULL else path)
        raise FileUnreadable(f"cannot read the log's journal: {err.strerror}", place=place) from err
    origin, size = records[-1].checkpoint.split("\n", _ORIGIN_LINES)[:_ORIGIN_LINES]
    if not (size.isascii() and size.isdecimal()):
        raise LogDamaged("the newest checkpoint has no size", place=Place(path))
    return origin, int(size)


def _expiries(directory: str) -> Iterator[Expiry]:
    for role, until in cores.open_repository(directory).expiries().items():
        yield Expiry(f"TUF {role}", until, Renewal.BY_ITSELF if role in ONLINE_ROLES else Renewal.OFFLINE)
    for name, chain in (
        ("certificate authority", ca.load_chain(os.path.join(directory, "ca"))),
        ("timestamp authority", tsa.load_chain(os.path.join(directory, "tsa"))),
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


def first(status: Status) -> Due:
    """Return what ends first of all."""
    return _due(status, min(status.expiries, key=lambda item: item.until))


def first_by_hand(status: Status) -> Due:
    """Return what ends first of what no running stack renews by itself."""
    return _due(status, min((item for item in status.expiries if item.renewal is not Renewal.BY_ITSELF), key=lambda item: item.until))


def _due(status: Status, item: Expiry) -> Due:
    if item.renewal is Renewal.BY_ITSELF and status.process is not None:
        return Due(item, "")
    offline = os.path.join(status.directory, OFFLINE) if status.offline_here else "OFFLINE"
    return Due(item, item.renewal.command.format(shlex.quote(status.directory), shlex.quote(offline)))


def _say(due: Due, now: datetime) -> str:
    ended = due.item.state(now) is State.EXPIRED
    said = f"{due.item.what} {'ended' if ended else 'ends'} {_days(due.item.until - now)}"
    return f"{said}: {escape(due.command)}" if due.command else f"{said}; the stack signs it again by itself"


def describe(status: Status) -> tuple[str, ...]:
    """Return the status for a person."""
    config, process = status.config, status.process
    lines = [f"stack {escape(config.name)}  {config.url}", f"  directory  {escape(status.directory)}"]
    if process is not None:
        lines.append(f"  running    process {process.pid} on {escape(process.address)}, since {escape(process.started)}")
    else:
        lines.append("  stopped")
    if status.backup:
        lines.append("  backup     it is not served until you say what becomes of its log (docs/stack.md)")
    if status.restored:
        lines.append(f"  restored   it goes on from a backup; {RESTORED} says of when, and of how many entries")
    lines += [
        f"  log        {counted(status.log_size, 'entry', 'entries')}, origin {escape(status.log_origin)}",
        f"             {NOT_WITNESSED}",
    ]
    lines += [f"  {word:<9}  {_say(due, status.now)}" for word, due in (("first", first(status)), ("by hand", first_by_hand(status)))]
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
        "backup": status.backup,
        "restored": status.restored,
        "log": {"size": status.log_size, "origin": status.log_origin, "witnesses": 0},
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
