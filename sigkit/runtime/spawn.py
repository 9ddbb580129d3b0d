"""Start the launcher: a fresh interpreter that no container can write to, with no descriptor but those it is given.

A container's process is, for a moment, our interpreter; an image whose entry point is `/proc/self/exe` would otherwise reach the file
behind it (CVE-2019-5736). So what is executed is a read-only clone of the mount that holds the interpreter, or where that is not allowed
(no CAP_SYS_ADMIN), or not enough (a container that has it too), a sealed copy in memory.

This module imports next to nothing: the runtime starts the launcher first, and reads config.json while that one starts up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from sigkit.runtime import syscalls
from sigkit.runtime.streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_HIGH = 64  # above whatever number a descriptor is given in the launcher
_SEALS = 1 | 2 | 4 | 8  # F_SEAL_SEAL, SHRINK, GROW, WRITE
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 0x10
_SIGNALS = range(1, 65)
_NOT_OURS = (9, 19, 32, 33)  # SIGKILL, SIGSTOP, and the two that the C library keeps for itself


def default_state_root() -> str:
    """Return where this user's runtime keeps what it knows of containers. `state.open_root` checks whose it is."""
    if os.geteuid() == 0:
        return "/run/sigkit/runtime"
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    return directory + "/sigkit/runtime" if directory.startswith("/") else f"/tmp/sigkit-{os.geteuid()}/runtime"  # noqa: S108 (see above)


class Launcher:
    """A launcher that has been started and waits for its plan."""

    __slots__ = ("pid", "streams", "sync")

    def __init__(self, pid: int, sync: int, streams: Streams) -> None:
        self.pid = pid
        self.sync = sync
        self.streams = streams


def spawn_launcher(trace: int, preserved: int) -> Launcher:
    """Start a launcher from a read-only clone of this interpreter.

    Args:
        trace: a descriptor for its trace, or -1.
        preserved: how many descriptors from 3 on it keeps for the program.

    Raises:
        OSError: the kernel refused.
    """
    return _spawn(_read_only_clone, trace, preserved)


def spawn_sealed_launcher(trace: int, preserved: int) -> Launcher:
    """Start a launcher from a sealed copy of this interpreter in memory: for containers that may mount on the host."""
    return _spawn(_sealed_copy, trace, preserved)


def _spawn(protect: Callable[[str], int], trace: int, preserved: int) -> Launcher:
    python = os.path.realpath(sys.executable)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")
    opened: list[int] = []
    streams = Streams()
    ours, theirs = syscalls.stream_pair()
    opened.append(theirs)
    try:
        interpreter = _raise_number(protect(python), opened)
        actions: list[tuple[int, int, int]] = [(os.POSIX_SPAWN_DUP2, number, number) for number in range(3, 3 + preserved)]
        actions += [(os.POSIX_SPAWN_DUP2, given, number) for number, given in enumerate(streams.descriptors)]
        actions.append((os.POSIX_SPAWN_DUP2, _raise_number(os.dup(theirs), opened), 3 + preserved))
        if trace >= 0:
            actions.append((os.POSIX_SPAWN_DUP2, _raise_number(os.dup(trace), opened), 4 + preserved))
        numbers = (3 + preserved, 4 + preserved if trace >= 0 else -1, preserved)
        pid = os.posix_spawn(
            f"/proc/self/fd/{interpreter}",
            [python, "-I", "-S", script, *(str(number) for number in numbers)],
            {},  # whatever this process was given stays with it (CVE-2021-3602)
            file_actions=actions,
            setpgroup=0,  # a terminal's Ctrl-C is for us: we pass it on
            setsigmask=(),
            setsigdef=[number for number in _SIGNALS if number not in _NOT_OURS],
        )
        streams.handed_over()
        return Launcher(pid, ours, streams)
    except BaseException:
        os.close(ours)
        streams.end()
        raise
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _raise_number(descriptor: int, opened: list[int]) -> int:
    """Give a descriptor a high number, so that the targets of dup2 do not collide with it."""
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    finally:
        os.close(descriptor)
    opened.append(high)
    return high


def _read_only_clone(path: str) -> int:
    try:
        tree = syscalls.open_tree(syscalls.AT_FDCWD, os.fsencode(path), 0)
    except PermissionError as err:
        if err.errno != errno.EPERM:
            raise
        return _sealed_copy(path)
    try:
        read_only = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
        syscalls.mount_setattr(tree, add=read_only, propagation=syscalls.MS_PRIVATE)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _sealed_copy(path: str) -> int:
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        copy = os.memfd_create("sigkit-launcher", flags | _MFD_EXEC)
    except OSError as err:
        if err.errno != errno.EINVAL:  # before Linux 6.3, where every memfd may be executed
            raise
        copy = os.memfd_create("sigkit-launcher", flags)
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            left = os.fstat(source).st_size
            while left > 0:
                sent = os.sendfile(copy, source, None, left)
                if not sent:
                    raise OSError(errno.EIO, "the interpreter became shorter", path)
                left -= sent
        finally:
            os.close(source)
        os.fchmod(copy, 0o500)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(copy)
        raise
    return copy
