"""The kernel's calls that Python's `os` lacks, through ctypes and nothing else.

Every function raises `OSError` with the kernel's number; none of them knows what a container is. Paths are bytes: after
pivot_root no codec may be looked up. Numbers of calls newer than 2019 are the same on every architecture.

Not handled here: 32-bit systems, and architectures other than x86-64 and arm64 (`SUPPORTED` says so).
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# These have no wrapper in the C library, or one that does too little; their numbers are the architecture's own.
_PIVOT_ROOT, _SECCOMP, _RT_SIGACTION, _KEYCTL = {"x86_64": (155, 317, 13, 250), "aarch64": (41, 277, 134, 219)}.get(
    os.uname().machine, (-1, -1, -1, -1)
)
SUPPORTED = _PIVOT_ROOT > 0

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 436, 437, 442

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_OPEN_TREE_CLONE = 1
_MOVE_EMPTY_BOTH = 0x04 | 0x40  # MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_CLOSE_RANGE_CLOEXEC = 4

PROC_MAGIC = 0x9FA0
CGROUP_MAGIC = 0x27E0EB

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

_libc = ctypes.CDLL(None, use_errno=True)
_int, _long, _uint, _ulong, _text, _pointer = (
    ctypes.c_int,
    ctypes.c_long,
    ctypes.c_uint,
    ctypes.c_ulong,
    ctypes.c_char_p,
    ctypes.c_void_p,
)

for _name, _types in (
    ("mount", (_text, _text, _text, _ulong, _text)),
    ("umount2", (_text, _int)),
    ("unshare", (_int,)),
    ("setns", (_int, _int)),
    ("prctl", (_int, _ulong, _ulong, _ulong, _ulong)),
    ("sethostname", (_text, ctypes.c_size_t)),
    ("setdomainname", (_text, ctypes.c_size_t)),
    ("capset", (_pointer, _pointer)),
    ("capget", (_pointer, _pointer)),
    ("prlimit", (_int, _int, _pointer, _pointer)),
    ("fstatfs", (_int, _pointer)),
    ("socket", (_int, _int, _int)),
    ("socketpair", (_int, _int, _int, _pointer)),
    ("ioctl", (_int, _ulong, _pointer)),
    ("execve", (_text, _pointer, _pointer)),
):
    getattr(_libc, _name).argtypes = _types
_libc.syscall.restype = _long


def _check(result: int, what: str) -> int:
    if result == -1:
        raise OSError(ctypes.get_errno(), "", what)  # the call stands where Python's own errors have the path
    return result


def _call(number: int, what: str, *args: object) -> int:
    result: int = _libc.syscall(_long(number), *args)
    return _check(result, what)


def mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    """Mount by path. Everything but propagation and overlay goes by descriptor instead: see `fsmount` and `open_tree`."""
    _check(_libc.mount(source, target, kind, flags, data), "mount")


def umount(target: bytes, flags: int) -> None:
    """Unmount by path."""
    _check(_libc.umount2(target, flags), "umount2")


def unshare(flags: int) -> None:
    """Enter new namespaces; a new pid namespace begins with the next child."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Join the namespace behind `descriptor`; EINVAL if it is not of `kind` (a CLONE_NEW… flag)."""
    _check(_libc.setns(descriptor, kind), "setns")


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """Exchange the root of this mount namespace."""
    _call(_PIVOT_ROOT, "pivot_root", _text(new_root), _text(put_old))


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """Change or ask an attribute of this process; the arguments not given are zero, as the kernel demands."""
    return _check(_libc.prctl(option, first, second, 0, 0), "prctl")


def sethostname(name: bytes) -> None:
    """Set the host name of this UTS namespace."""
    _check(_libc.sethostname(name, len(name)), "sethostname")


def setdomainname(name: bytes) -> None:
    """Set the NIS domain name of this UTS namespace."""
    _check(_libc.setdomainname(name, len(name)), "setdomainname")


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(directory: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` below `directory` with the kernel's own rules of resolution; always close-on-exec."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    return _call(_OPENAT2, "openat2", _int(directory), _text(path), ctypes.byref(how), ctypes.c_size_t(24))


def open_tree(directory: int, path: bytes, flags: int) -> int:
    """Return a detached copy of the mount at `path` (`flags`: AT_RECURSIVE, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW)."""
    return _call(_OPEN_TREE, "open_tree", _int(directory), _text(path), _uint(flags | _OPEN_TREE_CLONE | os.O_CLOEXEC))


def move_mount(tree: int, target: int) -> None:
    """Attach the detached mount `tree` on top of the object behind the descriptor `target`: no path is looked up."""
    _call(_MOVE_MOUNT, "move_mount", _int(tree), _text(b""), _int(target), _text(b""), _uint(_MOVE_EMPTY_BOTH))


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount_setattr(descriptor: int, *, add: int = 0, remove: int = 0, propagation: int = 0, flags: int = 0) -> None:
    """Change the attributes of the mount behind `descriptor` (`flags`: AT_RECURSIVE for all mounts below it too)."""
    attributes = _MountAttr(add, remove, propagation, 0)
    _call(
        _MOUNT_SETATTR,
        "mount_setattr",
        _int(descriptor),
        _text(b""),
        _uint(flags | AT_EMPTY_PATH),
        ctypes.byref(attributes),
        ctypes.c_size_t(32),
    )


def copy_mount(directory: int, path: bytes, flags: int, *, add: int = 0, propagation: int = 0) -> int:
    """Return a detached copy of a mount as `open_tree` does, with attributes and propagation changed: if recursive, of all below."""
    tree = open_tree(directory, path, flags)
    try:
        mount_setattr(tree, add=add, propagation=propagation, flags=flags & AT_RECURSIVE)
    except BaseException:
        os.close(tree)
        raise
    return tree


def fsmount(kind: bytes, source: bytes, options: Sequence[tuple[bytes, bytes | None]], attributes: int) -> int:
    """Make a new file system and return its mount, attached nowhere.

    Args:
        kind: `proc`, `tmpfs`, …
        source: what /proc/mounts shows.
        options: the file system's own options; None as value means a flag.
        attributes: MOUNT_ATTR_… of the mount.
    """
    context = _call(_FSOPEN, "fsopen", _text(kind), _uint(1))
    try:
        _fsconfig(context, _FSCONFIG_SET_STRING, b"source", source)
        for key, value in options:
            _fsconfig(context, _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING, key, value)
        _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None)
        return _call(_FSMOUNT, "fsmount", _int(context), _uint(1), _uint(attributes))
    finally:
        os.close(context)


def _fsconfig(context: int, command: int, key: bytes | None, value: bytes | None) -> None:
    _call(_FSCONFIG, "fsconfig", _int(context), _uint(command), _text(key), _text(value), _int(0))


def close_range(first: int) -> None:
    """Close every descriptor from `first` on."""
    _call(_CLOSE_RANGE, "close_range", _uint(first), _uint(0xFFFFFFFF), _uint(0))


def close_range_at_exec(first: int) -> None:
    """Mark every descriptor from `first` on as close-on-exec."""
    _call(_CLOSE_RANGE, "close_range", _uint(first), _uint(0xFFFFFFFF), _uint(_CLOSE_RANGE_CLOEXEC))


def filesystem_magic(descriptor: int) -> int:
    """Return the magic number of the file system that holds the object behind `descriptor`."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs has 120 bytes; its first word is f_type
    _check(_libc.fstatfs(descriptor, buffer), "fstatfs")
    return int.from_bytes(buffer.raw[:8], "little")


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


_CAPABILITY_VERSION_3 = 0x20080522


def capget() -> tuple[int, int, int]:
    """Return this process's effective, permitted and inheritable sets as bit masks."""
    header, data = _CapHeader(_CAPABILITY_VERSION_3, 0), (_CapData * 2)()
    _check(_libc.capget(ctypes.byref(header), ctypes.byref(data)), "capget")
    low, high = data[0], data[1]
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this process's three sets."""
    header, data = _CapHeader(_CAPABILITY_VERSION_3, 0), (_CapData * 2)()
    for word, shift in ((0, 0), (1, 32)):
        data[word].effective = effective >> shift & 0xFFFFFFFF
        data[word].permitted = permitted >> shift & 0xFFFFFFFF
        data[word].inheritable = inheritable >> shift & 0xFFFFFFFF
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def getrlimit(resource: int) -> tuple[int, int]:
    """Return the soft and hard limit of this process."""
    pair = (ctypes.c_uint64 * 2)()
    _check(_libc.prlimit(0, resource, None, ctypes.byref(pair)), "prlimit")
    return pair[0], pair[1]


def setrlimit(resource: int, soft: int, hard: int) -> None:
    """Set a limit of this process."""
    pair = (ctypes.c_uint64 * 2)(soft, hard)
    _check(_libc.prlimit(0, resource, ctypes.byref(pair), None), "prlimit")


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def seccomp_load(program: bytes, flags: int) -> None:
    """Put this process under the BPF `program` (8 bytes an instruction) with seccomp(2)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.addressof(buffer))
    _call(_SECCOMP, "seccomp", _uint(1), _uint(flags), ctypes.byref(fprog))


def new_session_keyring() -> None:
    """Let go of the session keyring that was inherited, for an empty one."""
    _call(_KEYCTL, "keyctl", _int(1), _pointer(None))  # KEYCTL_JOIN_SESSION_KEYRING


def stream_pair() -> tuple[int, int]:
    """Return two connected Unix stream sockets, close-on-exec. Python's `socket` module costs 5 ms."""
    pair = (ctypes.c_int * 2)()
    _check(_libc.socketpair(1, 1 | os.O_CLOEXEC, 0, ctypes.byref(pair)), "socketpair")
    return pair[0], pair[1]


def loopback_up() -> None:
    """Set the interface `lo` of this network namespace up."""
    descriptor = _check(_libc.socket(2, 2 | os.O_CLOEXEC, 0), "socket")  # AF_INET, SOCK_DGRAM
    try:
        request = ctypes.create_string_buffer(b"lo", 40)  # struct ifreq: 16 bytes of name, then a union
        _check(_libc.ioctl(descriptor, 0x8913, request), "SIOCGIFFLAGS")
        flags = request.raw[16] | 1  # IFF_UP, of a short whose other flags a new `lo` has not
        request[16], request[17] = flags.to_bytes(1, "little"), b"\0"
        _check(_libc.ioctl(descriptor, 0x8914, request), "SIOCSIFFLAGS")
    finally:
        os.close(descriptor)


def default_signals() -> None:
    """Give every signal its default action, because exec keeps ignored ones ignored.

    Python ignores SIGPIPE and SIGXFSZ; posix_spawn of glibc leaves its own two (32, 33) ignored, and its wrapper would not touch them.
    """
    default = ctypes.create_string_buffer(32)  # struct kernel_sigaction, all zero
    for number in range(1, 65):
        # SIGKILL and SIGSTOP answer EINVAL: they cannot be ignored.
        _libc.syscall(_long(_RT_SIGACTION), _int(number), default, None, ctypes.c_size_t(8))


def execve(path: bytes, args: Sequence[bytes], env: Sequence[bytes]) -> None:
    """Execute a program with `env` exactly as given: order and duplicates stay. Returns only by raising."""
    argv = (ctypes.c_char_p * (len(args) + 1))(*args, None)
    envp = (ctypes.c_char_p * (len(env) + 1))(*env, None)
    _check(_libc.execve(path, argv, envp), "execve")
