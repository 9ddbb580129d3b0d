"""The launcher: from a plan to the container's own program, in one straight line.

Read `contain` from top to bottom: that is the order, and the comments say what would break in another.

Two processes run this file. The launcher enters the user and pid namespaces, forks, and waits; its child is process 1 of the container and
becomes the program. Nothing is imported once the plan has been read (see `disarm`): after pivot_root an import would run
the image's code with our privileges.
"""

from __future__ import annotations

import errno
import marshal
import os
import sys

from sigkit.runtime import capabilities, devices, inroot, mounts, rootfs, sync, syscalls
from sigkit.runtime.trace import Trace, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeAlias

    from sigkit.runtime.plan import Late, MountPlan, Plan

    Warn: TypeAlias = Callable[[str], None]

_FAILED = 125  # what the launcher returns when there is no program whose status it could return


def main(sync_descriptor: int, trace_descriptor: int, preserved: int) -> None:
    """Run the launcher. Never returns.

    Args:
        sync_descriptor: the socket to the runtime; all between 3 + `preserved` and it is ours.
        trace_descriptor: where `--trace` goes, or -1.
        preserved: how many descriptors from 3 on the container's program gets.
    """
    trace = Trace("launcher", trace_descriptor)
    try:
        # Descriptors leak in from the callers' callers; one of a host directory is a way out (CVE-2024-21626).
        syscalls.close_range(max(sync_descriptor, trace_descriptor) + 1)
        kind, body = sync.receive(sync_descriptor)
        disarm()
        if kind == sync.PROBE:
            os._exit(probe(body == b"user", sync_descriptor, trace))
        plan: Plan = marshal.loads(body)  # noqa: S302 (from the runtime, which started us)
        os._exit(launch(plan, sync_descriptor, trace, preserved))
    except sync.Gone:
        os._exit(_FAILED)  # config.json was refused, or the runtime died
    except BaseException as err:  # noqa: BLE001 (the outermost frame: every failure is told, then the process ends)
        report(sync_descriptor, trace, err)
        os._exit(_FAILED)


def disarm() -> None:
    """Make every later import fail instead of searching, and write an uncaught exception without the traceback module."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.excepthook = _write_exception


def _write_exception(kind: type[BaseException], err: BaseException, _: TracebackType | None) -> None:
    os.write(2, f"sigkit launcher: {kind.__name__}: {err}\n".encode("ascii", "backslashreplace"))


def report(descriptor: int, trace: Trace, err: BaseException) -> None:
    """Tell the runtime why there will be no container."""
    step = trace.current.encode("ascii", "backslashreplace")
    if isinstance(err, inroot.Unsafe):
        fields = (sync.FAIL_UNSAFE, step, *err.args)
    elif isinstance(err, mounts.Changed):
        fields = (sync.FAIL_SOURCE, step, *err.args)
    elif isinstance(err, _NoCommand):
        fields = err.args
    elif isinstance(err, OSError):
        what = os.fsencode(err.filename) if isinstance(err.filename, (str, bytes)) else b""
        fields = (sync.FAIL_KERNEL, step, b"%d" % (err.errno or 0), what)
    else:
        fields = (sync.FAIL_BUG, step, f"{type(err).__name__}: {err}".encode("ascii", "backslashreplace"))
    try:
        sync.send(descriptor, sync.FAIL, b"\0".join(fields))
    except sync.Gone:
        pass  # nobody is left to be told


def probe(new_user: bool, descriptor: int, trace: Trace) -> int:  # noqa: FBT001 (a word of the message)
    """Do what fails on hosts that do not let a container start, and nothing else."""
    if new_user:
        _enter_user_namespace(descriptor, trace)
    trace.step("new pid namespace", "", "")
    syscalls.unshare(syscalls.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        try:
            trace.step("new namespaces", "", "")
            syscalls.unshare(_ALL_NAMESPACES)
            mounts.private(trace)
            for kind in (b"tmpfs", b"proc", b"mqueue", b"sysfs"):
                trace.step(f"mount {quote(kind)}", "", "")
                os.close(syscalls.fsmount(kind, kind, (), 0))
            sync.send(descriptor, sync.FINE)
        except BaseException as err:  # noqa: BLE001 (the outermost frame of this process)
            report(descriptor, trace, err)
        os._exit(0)
    os.waitpid(child, 0)
    return 0


_ALL_NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWCGROUP


def launch(plan: Plan, descriptor: int, trace: Trace, preserved: int) -> int:
    """Start the container's process, wait for it, and return its status."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)  # a foreground container ends with its runtime
    if os.getppid() != plan["parent"]:
        raise sync.Gone  # it died before the line above
    # Before the user namespace: afterwards /proc/self may be another user's.
    score = plan["oom_score_adj"]
    if score is not None:
        _set_oom_score(score, descriptor, trace)
    if plan["new_user"]:
        _enter_user_namespace(descriptor, trace)
    for kind, path, where in plan["join"]:
        if kind == syscalls.CLONE_NEWPID:
            _join(kind, path, where, trace)
    if plan["new_pid"]:
        trace.step(
            "new pid namespace",
            "the container sees no process of the host; its first process is number 1, and all end with it",
            "unshare --pid --fork ...",
        )
        syscalls.unshare(syscalls.CLONE_NEWPID)
    # What shares our pid namespace must not read our memory or our descriptors through /proc (CVE-2019-5736, CVE-2022-0811's family).
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    child = os.fork()
    if child == 0:
        contain(plan, descriptor, trace, preserved)
    sync.send(descriptor, sync.PID, b"%d" % child)
    os.close(descriptor)  # only the child's copy is left: its end of file means that execve has happened
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _set_oom_score(score: int, descriptor: int, trace: Trace) -> None:
    trace.step(f"oom_score_adj {score}", "config.json asks for it", f"echo {score} > /proc/self/oom_score_adj")
    file = os.open(b"/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if syscalls.filesystem_magic(file) != syscalls.PROC_MAGIC:
            raise inroot.Unsafe(b"not the process file system", b"/proc/self/oom_score_adj")
        os.write(file, b"%d" % score)
    except PermissionError:  # lowering it needs CAP_SYS_RESOURCE
        sync.send(descriptor, sync.WARN, b"oom_score_adj cannot be lowered by this user")
    finally:
        os.close(file)


def _enter_user_namespace(descriptor: int, trace: Trace) -> None:
    trace.step("new user namespace", "root inside is an ordinary user outside", "unshare --user ...")
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    # The maps are written from outside: newuidmap must stand in the parent namespace.
    sync.send(descriptor, sync.USERNS)
    if sync.receive(descriptor)[0] != sync.MAPPED:
        raise sync.Gone
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _join(kind: int, path: bytes, where: bytes, trace: Trace) -> None:
    trace.step(f"{where.decode('ascii')}: join {quote(path)}", "config.json asks to share it", f"nsenter --...={quote(path)}")
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        syscalls.setns(namespace, kind)
    finally:
        os.close(namespace)


def contain(plan: Plan, descriptor: int, trace: Trace, preserved: int) -> None:
    """Become the container's program. Never returns."""
    trace = trace.named("container")
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
        os.setsid()
        _let_go_of_keys(trace)
        os.umask(0o022)
        for kind, path, where in plan["join"]:
            if kind != syscalls.CLONE_NEWPID:
                _join(kind, path, where, trace)
        trace.step(
            "new namespaces",
            "own mounts, host name, message queues and network stack",
            "unshare --mount --uts --ipc --net ...",
        )
        syscalls.unshare(plan["unshare"])
        if plan["loopback"]:
            trace.step("lo up", "a new network namespace has only a loopback interface, and it is down", "ip link set lo up")
            syscalls.loopback_up()

        # Private before anything is mounted, else the host sees our mounts.
        mounts.private(trace)
        root = rootfs.attach(plan, trace)
        if plan["devices"] is not None and not any(m["in_root"] == b"/dev" for m in plan["mounts"]):
            mounts.attach(root, _PRIVATE_DEV, (), trace)
        late: Late | None = None
        for mount in plan["mounts"]:
            if mount["kind"] == b"cgroup":
                late = late or _enter_cgroups(plan, descriptor, trace)
            mounts.attach(root, mount, late["cgroups"] if late else (), trace)
        late = late or _enter_cgroups(plan, descriptor, trace)
        mounts.check_proc(root, plan["mounts"])
        # After the mounts, which could lie over /dev; before the masks, which could forbid to make a node.
        devices.populate(root, plan, trace)
        _set_kernel_values(plan, trace)
        # After all mounts, else one of them could uncover what is masked.
        mounts.protect(root, plan["readonly"], trace)
        mounts.mask(root, plan["masked"], trace)
        if plan["root_readonly"]:
            trace.step("read-only root", "last of the mounts, because mount points had to be made", "mount -o remount,bind,ro $ROOT")
            syscalls.mount_setattr(root, add=syscalls.MOUNT_ATTR_RDONLY)
        rootfs.pivot(root, trace)
        os.close(root)
        become(plan, late, descriptor, trace, preserved)
    except BaseException as err:  # noqa: BLE001 (the outermost frame of this process)
        report(descriptor, trace, err)
    os._exit(_FAILED)


def _let_go_of_keys(trace: Trace) -> None:
    trace.step("new session keyring", "keys of whoever started the container are not the container's", "keyctl session - ...")
    try:
        syscalls.new_session_keyring()
    except OSError as err:
        if err.errno not in {errno.ENOSYS, errno.EPERM}:  # a kernel without keys; a filter that the container is under as well
            raise


_PRIVATE_DEV: MountPlan = {
    "where": b"default",
    "in_root": b"/dev",
    "kind": b"tmpfs",
    "source": b"tmpfs",
    "options": ((b"mode", b"755"), (b"size", b"65536k")),
    "add": syscalls.MOUNT_ATTR_NOSUID,
    "remove": 0,
    "below": 0,
    "propagation": 0,
    "recursive": 0,
    "judged": 0,
}


def _enter_cgroups(plan: Plan, descriptor: int, trace: Trace) -> Late:
    """Wait until the runtime has moved this process into its cgroups, enter those left to it, make them the root of what it sees.

    The runtime's move can wait for the kernel's grace period, up to 20 ms on v1: it happens while the mounts above are made. This one,
    of the only thread there is, by itself, does not (Linux 5.5).
    """
    kind, body = sync.receive(descriptor)
    if kind != sync.JOINED:
        raise sync.Gone
    late: Late = marshal.loads(body)  # noqa: S302 (from the runtime, which started us)
    for directory in late["enter"]:
        trace.step(f"enter cgroup {quote(directory)}", "a thread that moves itself need not wait", f"echo 0 > {quote(directory)}/tasks")
        file = os.open(directory + b"/tasks", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if syscalls.filesystem_magic(file) != syscalls.CGROUP_MAGIC:
                raise inroot.Unsafe(b"not the cgroup file system", directory)
            os.write(file, b"0")
        finally:
            os.close(file)
    if plan["new_cgroup"]:
        trace.step("new cgroup namespace", "the container's cgroup looks like the root", "unshare --cgroup ...")
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)
    return late


def _set_kernel_values(plan: Plan, trace: Trace) -> None:
    """Set host name and sysctls, through a /proc of our own that no path of the image leads to (CVE-2025-52881)."""
    if plan["hostname"]:
        trace.step(f"host name {quote(plan['hostname'])}", "of the container's own uts namespace", f"hostname {quote(plan['hostname'])}")
        syscalls.sethostname(plan["hostname"])
    if plan["domainname"]:
        trace.step("domain name", "of the container's own uts namespace", f"domainname {quote(plan['domainname'])}")
        syscalls.setdomainname(plan["domainname"])
    if not plan["sysctl"]:
        return
    proc = syscalls.fsmount(b"proc", b"proc", (), 0)
    try:
        for path, value in plan["sysctl"]:
            trace.step(f"sysctl {quote(path)}", "of the container's own namespaces", f"echo {quote(value)} > /proc/sys/{quote(path)}")
            name = b"sys/" + path
            file = syscalls.openat2(proc, name, os.O_WRONLY, syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS)
            try:
                os.write(file, value)
            finally:
                os.close(file)
    finally:
        os.close(proc)


def become(plan: Plan, late: Late, descriptor: int, trace: Trace, preserved: int) -> None:
    """Give up every power in the one order that works, and execute the program."""
    warn = _warner(descriptor)
    for number, where, soft, hard in plan["rlimits"]:
        _set_rlimit(number, where, soft, hard, warn, trace)
    syscalls.default_signals()
    plan = capabilities.limit(plan, trace, warn)
    if late["seccomp"] and not plan["no_new_privileges"]:
        # Without no_new_privs the filter needs CAP_SYS_ADMIN, which the next lines give up.
        _load_filter(late, trace)
    trace.step(
        f"user {plan['uid']}:{plan['gid']}",
        "groups first: once the user has changed, they cannot be set any more",
        f"setpriv --reuid {plan['uid']} --regid {plan['gid']} --groups ...",
    )
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    if plan["groups"] is not None:
        os.setgroups(plan["groups"])
    os.setresgid(plan["gid"], plan["gid"], plan["gid"])
    os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # the kernel may have reset it with the user
    # As the container's user, so that it cannot stand where it may not go; and before the program is looked up from there.
    _change_directory(plan["cwd"], trace)
    capabilities.apply(plan, trace)
    program = _find_program(plan, trace)
    os.umask(plan["umask"])
    if plan["no_new_privileges"]:
        trace.step("no_new_privs", "set-user-id programs of the image give nothing", "setpriv --no-new-privs ...")
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if late["seccomp"]:
            _load_filter(late, trace)  # last of all: it need not allow anything that was done above
    trace.step(f"execute {quote(program)}", "the container's program replaces this interpreter", f"exec {quote(program)} ...")
    syscalls.close_range_at_exec(3 + preserved)
    # The kernel forgot it when the user changed. Whoever ended before this line is not there to read the next one.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 9)
    sync.send(descriptor, sync.EXEC)
    try:
        syscalls.execve(program, plan["args"], plan["env"])
    except OSError as err:
        raise _no_command(plan["args"][0], err.errno or errno.EIO) from err


def _load_filter(late: Late, trace: Trace) -> None:
    trace.step(
        f"seccomp filter of {len(late['seccomp']) // 8} instructions",
        "system calls that a container has no business with are refused by the kernel",
        "bwrap --seccomp FD ...",
    )
    syscalls.seccomp_load(late["seccomp"], late["seccomp_flags"])


def _set_rlimit(number: int, where: bytes, soft: int, hard: int, warn: Warn, trace: Trace) -> None:
    trace.step(f"{where.decode('ascii')}: limit {number}", "config.json asks for it", f"prlimit --...={soft}:{hard}")
    try:
        syscalls.setrlimit(number, soft, hard)
    except PermissionError:  # raising a hard limit needs CAP_SYS_RESOURCE
        _, held = syscalls.getrlimit(number)
        syscalls.setrlimit(number, min(soft, held), min(hard, held))
        warn(f"{where.decode('ascii')}: the hard limit cannot be raised above {held}")


def _change_directory(path: bytes, trace: Trace) -> None:
    trace.step(f"working directory {quote(path)}", "config.json asks for it", f"cd {quote(path)}")
    here = os.open(b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = inroot.open_path(here, path, flags=os.O_DIRECTORY)
    finally:
        os.close(here)
    try:
        os.fchdir(directory)
    finally:
        os.close(directory)
    # A directory outside the root shows as "(unreachable)..." (CVE-2024-21626).
    if not os.getcwdb().startswith(b"/"):
        raise inroot.Unsafe(b"the working directory is outside the root", path)


class _NoCommand(Exception):
    """There is no program to execute. Arguments: the fields of FAIL."""


def _no_command(command: bytes, number: int) -> _NoCommand:
    if number in {errno.ENOENT, errno.ENOTDIR}:
        return _NoCommand(sync.FAIL_MISSING, command)
    return _NoCommand(sync.FAIL_EXECUTABLE, command, b"%d" % number)


def _find_program(plan: Plan, trace: Trace) -> bytes:
    """Return the path of the program, looked up as execvp does, in the container and as its user."""
    command = plan["args"][0]
    trace.step(f"look up {quote(command)}", "a command that is not there is told before anything starts", f"command -v {quote(command)}")
    if b"/" in command:
        candidates = [command]
    else:
        path = next((entry[5:] for entry in plan["env"] if entry.startswith(b"PATH=")), b"")
        candidates = [(directory or b".") + b"/" + command for directory in path.split(b":")] if path else []
    found = errno.ENOENT
    for candidate in candidates:
        try:
            _check_program(candidate)
        except OSError as err:
            if err.errno not in {errno.ENOENT, errno.ENOTDIR}:
                found = err.errno or found
        else:
            return candidate
    raise _no_command(command, found)


def _check_program(path: bytes) -> None:
    """Raise unless `path` is a regular file that this user may execute; /proc/self/exe and its like are no program (CVE-2019-5736)."""
    file = syscalls.openat2(syscalls.AT_FDCWD, path, os.O_PATH, syscalls.RESOLVE_NO_MAGICLINKS)
    try:
        if os.fstat(file).st_mode & 0o170000 != 0o100000:
            raise PermissionError(errno.EACCES, "", path)
    finally:
        os.close(file)
    if not os.access(path, os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, "", path)


def _warner(descriptor: int) -> Warn:
    def warn(text: str) -> None:
        sync.send(descriptor, sync.WARN, text.encode("ascii", "backslashreplace"))

    return warn
