"""Files and directories of a cgroup tree.

`open(p, "w").write()` hides the kernel's errors, which come when the destructor flushes: here each value is one write(2).
"""

from __future__ import annotations

import errno
import os
import time

from sigkit.errors import LimitUnavailable, Place

_ATTEMPTS = 50
_PAUSE_S = 0.01


def write(directory: str, name: str, value: str) -> None:
    """Write one value.

    Raises:
        LimitUnavailable: the file is absent (the controller is not there) or the kernel refuses the value.
    """
    path = os.path.join(directory, name)
    try:
        _write(path, value)
    except OSError as err:
        raise _refused(path, value, err) from err


def move(directory: str, pid: int) -> None:
    """Move a process into a cgroup. One that has ended meanwhile is passed over: whoever waits for it learns why.

    Raises:
        LimitUnavailable: the kernel refuses.
    """
    path = os.path.join(directory, "cgroup.procs")
    try:
        _write(path, str(pid))
    except ProcessLookupError:
        pass
    except OSError as err:
        raise _refused(path, str(pid), err) from err


def _write(path: str, value: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, value.encode("ascii"))
    finally:
        os.close(file)


def _refused(path: str, value: str, err: OSError) -> LimitUnavailable:
    return LimitUnavailable(f"the kernel does not take {value!r} ({errno.errorcode.get(err.errno or 0, '?')})", place=Place(path))


def make(directory: str, mount_point: str) -> tuple[str, ...]:
    """Make a cgroup and its parents, and return those that were missing, deepest first.

    Raises:
        LimitUnavailable: this user may not.
    """
    missing = []
    above = directory
    while above != mount_point and not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    made: list[str] = []
    try:
        for path in reversed(missing):
            try:
                os.mkdir(path, 0o755)
                made.insert(0, path)
            except FileExistsError:
                pass  # another container made it at the same time
    except OSError as err:
        remove(tuple(made))
        problem = f"the cgroup cannot be made ({errno.errorcode.get(err.errno or 0, '?')})"
        raise LimitUnavailable(problem, place=Place(directory), remedy="have root delegate a cgroup to this user") from err
    return tuple(made)


def remove(directories: tuple[str, ...]) -> None:
    """Remove cgroups, deepest first. A parent that others use by now stays.

    A cgroup is busy for a moment after its last process: the kernel lets go of it when that one is reaped.
    """
    for directory in directories:
        for attempt in range(_ATTEMPTS):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                break
            except OSError as err:
                if err.errno != errno.EBUSY or attempt == _ATTEMPTS - 1 or _has_children(directory):
                    break
                time.sleep(_PAUSE_S)
            else:
                break


def _has_children(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return any(entry.is_dir(follow_symlinks=False) for entry in entries)


def processes(directory: str) -> tuple[int, ...]:
    """Return the processes of a cgroup, as this pid namespace numbers them."""
    try:
        with open(os.path.join(directory, "cgroup.procs"), "rb") as file:
            return tuple(int(line) for line in file.read().split())
    except FileNotFoundError:
        return ()
