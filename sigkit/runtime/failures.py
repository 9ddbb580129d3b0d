"""What the launcher says when it fails, as a refusal.

Errors of the kernel are given by their symbol (EPERM), never in words: podman takes a runtime's exit status from words such as
"permission denied" or "no such file or directory", and must find them only where the program itself is missing or not executable.
"""

from __future__ import annotations

import errno

from sigkit.errors import Bug, HostUnfit, KernelRefused, LauncherDied, MissingCommand, NotExecutable, Place, SourceChanged, UnsafeRootfs
from sigkit.runtime import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.errors import SigkitError


def failure(body: bytes, place: Place) -> SigkitError:
    """Return the refusal that the body of a FAIL message stands for.

    Args:
        body: fields separated by NUL.
        place: the bundle directory.
    """
    kind, *fields = body.split(b"\0")
    texts = [field.decode("utf-8", "backslashreplace") for field in fields]
    if kind == sync.FAIL_KERNEL:
        step, number, call = texts
        return _kernel(step, int(number), call, place)
    if kind == sync.FAIL_UNSAFE:
        step, problem, path = texts
        return UnsafeRootfs(f"{step}: {problem}", place=Place("", path).within(place), remedy="do not run this image")
    if kind == sync.FAIL_SOURCE:
        step, path = texts
        return SourceChanged(f"{step}: the source is not what was granted", place=Place(path), got="a symbolic link")
    if kind == sync.FAIL_MISSING:
        # crun's words: podman reads them.
        return MissingCommand(f"executable file `{texts[0]}` not found: No such file or directory", place=place)
    if kind == sync.FAIL_EXECUTABLE:
        command, number = texts
        return NotExecutable(f"the path `{command}` exists but it is not executable: {_execute_words(int(number))}", place=place)
    return Bug(f"the launcher failed at {': '.join(texts)}", place=place)


def died(place: Place) -> SigkitError:
    """Return the refusal for a launcher that ended without a word."""
    return LauncherDied("the launcher ended without a word", place=place)


def _execute_words(number: int) -> str:
    return "Exec format error" if number == errno.ENOEXEC else "Operation not permitted"


# Steps that fail on hosts which forbid the namespace, and say so by these numbers.
_NAMESPACE_STEPS = ("new user namespace", "new pid namespace", "new namespaces")
_FORBIDDEN = (errno.EPERM, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS)


def _kernel(step: str, number: int, call: str, place: Place) -> SigkitError:
    symbol = errno.errorcode.get(number, str(number))
    problem = f"{step}: {f'{call} ' if call else ''}failed ({symbol})"
    if step in _NAMESPACE_STEPS and number in _FORBIDDEN:
        return HostUnfit(
            problem,
            place=place,
            remedy="allow user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone, AppArmor), or run as root",
        )
    if step == "private propagation" and number == errno.EINVAL:
        # Only a mount point has a propagation, and only from one can pivot_root leave.
        return HostUnfit("the root directory of this process is not a mount point", place=place, remedy="leave the chroot")
    if number == errno.ENOSYS:
        return HostUnfit(problem, place=place, remedy="Linux 5.14 or newer is needed")
    return KernelRefused(problem, place=place, remedy="look at the steps with --trace")
