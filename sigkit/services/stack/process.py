"""The process that serves a stack, seen from outside: which one it is, and how it is told to stop."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import time
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import FileUnreadable, LockTimeout, Place, StackNotRunning, StackProcessUnproved
from sigkit.services.stack.layout import LOCK, RUN, load_config
from sigkit.strict import encode_json, parse_json
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.clock import Clock
    from sigkit.strict import Json

_SCHEMA: Final = "sigkit.stack.run/1"
_FILE_BYTES: Final = 64 * 2**10
_STAT_BYTES: Final = 4096  # a line of 52 numbers and a name of 16 bytes
_STATUS_BYTES: Final = 64 * 2**10  # some sixty lines; a user may be in many groups
_LOCKS_BYTES: Final = 16 * 2**20  # a line for each lock of the machine
_STARTED_FIELD: Final = 22 - 3  # of proc(5), counted from the one behind the name
_MOST_PID: Final = 2**22  # the kernel's PID_MAX_LIMIT
_STOP_S: Final = 20.0  # requests that are under way get 5 s


class Process(Data):
    """A process that serves a stack."""

    pid: int
    address: str  # `host:port` as it listens
    started: str
    start_ticks: int  # by the kernel's clock: another process that gets the number later has begun later


@contextlib.contextmanager
def told(directory: str, address: str, clock: Clock) -> Iterator[None]:
    """Say in `run.json` that this process serves the stack, until the block ends. Its lock is held already."""
    path = os.path.join(directory, RUN)
    document: Json = {
        "schema": _SCHEMA,
        "pid": os.getpid(),
        "startTicks": _start_ticks(os.getpid()),
        "address": address,
        "started": format_time(clock.now()),
    }
    durable.write(path, encode_json(document) + b"\n", mode=0o600, point="stack.run")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # on a disk that takes nothing any more it stays, and the next process removes it
            os.unlink(path)


def find_process(directory: str) -> Process | None:
    """Return the process that serves the stack, if there is one; a `run.json` that a killed one left is removed by the next.

    Raises:
        NoStack, OtherStackVersion: (UNAVAIL) see `layout.load_config`.
        SigkitError: (PARSE) the file is damaged while somebody holds the lock.
    """
    load_config(directory)
    if not is_locked(directory):
        return None
    path = os.path.join(directory, RUN)
    place = Place(path)
    try:
        cursor = parse_json(durable.read(path, most_bytes=_FILE_BYTES, place=place), most_bytes=_FILE_BYTES, place=place)
    except FileUnreadable:
        return None  # it is just starting, or stopping
    return Process(
        cursor.member("pid").integer(1, _MOST_PID),
        cursor.member("address").text(),
        cursor.member("started").text(),
        cursor.member("startTicks").integer(0),
    )


def is_locked(directory: str) -> bool:
    """Tell whether a process owns the stack's directory."""
    path = os.path.join(directory, LOCK)
    if not os.path.lexists(path):
        return False
    try:
        with durable.lock(path, timeout_s=0):
            return False
    except LockTimeout:
        return True


def stop(directory: str) -> Process:
    """Tell the process that serves the stack to stop, and wait until it has.

    Raises:
        StackNotRunning: (UNAVAIL) none serves it.
        StackProcessUnproved: (UNAVAIL) the one that is named may be a stranger.
        LockTimeout: (UNAVAIL) it has not stopped in time.
        SigkitError: as `find_process`.
    """
    found = find_process(directory)
    place = Place.operator(directory)
    if found is None:
        raise StackNotRunning("no process serves this stack", place=place, remedy=f"sigkit stack up {shlex.quote(directory)} starts it")
    try:
        handle = os.pidfd_open(found.pid)
    except ProcessLookupError as err:
        raise StackNotRunning("the process that served this stack has just ended", place=place) from err
    except OSError as err:  # no descriptors; or this machine's rules forbid the call
        raise _unproved(directory, found.pid, f"process {found.pid} cannot be held on to: {err.strerror}") from err
    try:
        # The handle is of whoever had the number when it was opened, and `run.json` may be a killed one's whose number is now a stranger's:
        # another holds the lock then, and is just starting.
        if _start_ticks(found.pid) != found.start_ticks:
            raise StackNotRunning(
                "the process that serves this stack is just starting", place=place, remedy="run it again when it takes requests"
            )
        if is_locked(directory):
            _prove(directory, found.pid)
            signal.pidfd_send_signal(handle, signal.SIGTERM)
    except PermissionError as err:
        raise StackNotRunning(f"process {found.pid} is another user's: {err.strerror}", place=place) from err
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
    deadline = time.monotonic() + _STOP_S
    while is_locked(directory):
        if time.monotonic() >= deadline:
            raise LockTimeout(
                f"process {found.pid} has not stopped in {_STOP_S:g} s", place=place, remedy=f"kill -9 {found.pid} loses nothing"
            )
        time.sleep(0.05)
    return found


def _prove(directory: str, pid: int) -> None:
    """Return if a process is of the user whom the stack's directory belongs to, and holds its lock.

    Root stops the stack of a service account, and that account may write any number into `run.json`.

    Raises:
        StackProcessUnproved: (UNAVAIL) it does not, or nobody can tell.

    Source: proc_pid_status(5), Uid; proc_locks(5).
    """
    try:
        owner, lock = os.stat(directory).st_uid, os.stat(os.path.join(directory, LOCK), follow_symlinks=False).st_ino
    except OSError as err:
        raise _unproved(directory, pid, f"whether process {pid} serves this stack cannot be told: {err.strerror}") from err
    uid = _real_uid(pid)
    if uid != owner:
        expected, got = f"user {owner}, as the directory", f"user {uid}" if uid >= 0 else "no such process"
        raise _unproved(directory, pid, f"process {pid} is not of the user whom the stack belongs to", expected, got)
    if not _holds_lock(pid, lock):
        raise _unproved(directory, pid, f"process {pid} does not hold the stack's lock")


def _unproved(directory: str, pid: int, problem: str, expected: str = "", got: str = "") -> StackProcessUnproved:
    remedy = f"if it serves this stack (ps -fp {pid}): kill {pid}"
    return StackProcessUnproved(problem, place=Place.operator(directory), expected=expected, got=got, remedy=remedy)


def _real_uid(pid: int) -> int:
    """Return whose a process is; -1 if there is none."""
    found = re.search(rb"^Uid:\t([0-9]+)\t", _read_proc(f"/proc/{pid}/status", _STATUS_BYTES), re.MULTILINE)
    return int(found[1]) if found else -1


def _holds_lock(pid: int, inode: int) -> bool:
    """Tell whether a process holds the lock on a file, by its number in the kernel's list.

    Not by the process's own descriptors: those of one with capabilities, as who listens on port 443 is, no other process may look at.
    """
    # The device is not compared: of some file systems (overlayfs, btrfs) stat tells another one than the list does.
    line = rb"^[0-9]+: FLOCK +ADVISORY +WRITE %d [0-9a-f]+:[0-9a-f]+:%d 0 EOF$" % (pid, inode)
    return re.search(line, _read_proc("/proc/locks", _LOCKS_BYTES), re.MULTILINE) is not None


def _read_proc(path: str, most_bytes: int) -> bytes:
    try:
        return durable.read(path, most_bytes=most_bytes, place=Place(path))
    except FileUnreadable:
        return b""


def _start_ticks(pid: int) -> int:
    """Return when a process began, in ticks since this machine did; -1 if there is none.

    Source: proc_pid_stat(5), starttime. The name before it may hold spaces and parentheses.
    """
    raw = _read_proc(f"/proc/{pid}/stat", _STAT_BYTES)
    return int(raw.rpartition(b")")[2].split()[_STARTED_FIELD]) if raw else -1
