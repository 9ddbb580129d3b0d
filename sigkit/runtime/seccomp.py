"""Seccomp: a profile of config.json becomes a BPF program, through libseccomp, kept in a cache.

Compiling the default profile takes 15 to 24 ms, loading the result 0.9. So the program is exported once and kept under the state directory,
named by everything that it follows from: profile, architecture, version of libseccomp. No maintained Python binding of
libseccomp exists, hence a dozen declarations here. An absent libseccomp is a refusal, never a container without its filter.

Not handled here: SCMP_ACT_NOTIFY (needs an agent), refused by name. Loading the program is the launcher's (`syscalls.seccomp_load`).
"""

from __future__ import annotations

import ctypes
import os
from _blake2 import blake2b  # what hashlib gives, without the 5 ms of loading OpenSSL

from sigkit import limits, strict
from sigkit.errors import FileUnreadable, FileUnwritable, HostUnfit, InvalidConfig, KernelRefused, Place, TooLarge, UnsupportedConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sigkit.strict import Cursor, Json

LIBRARY = "libseccomp.so.2"

_ERRNO, _TRACE = 0x00050000, 0x7FF00000
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_PERMISSIVE = (_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"])
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
# SECCOMP_FILTER_FLAG_…; the launcher has one thread, so TSYNC changes nothing.
_FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 0, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}
_PERMISSION_DENIED = 1  # EPERM: what runtime-spec gives where a profile names no number
_UNKNOWN_SYSCALL = -1  # __NR_SCMP_ERROR
_CACHE_FORMAT = b"sigkit-seccomp-1\n"


def known_actions() -> tuple[str, ...]:
    """Return the actions that a profile may name."""
    return tuple(_ACTIONS)


def known_operators() -> tuple[str, ...]:
    """Return the operators that a condition may have."""
    return tuple(_OPERATORS)


def known_flags() -> tuple[str, ...]:
    """Return the flags that a profile may have."""
    return tuple(_FLAGS)


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp: a condition on one argument of a system call."""

    _fields_ = [
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


class Rule:
    """System calls, the action on them, and conditions that must all hold."""

    __slots__ = ("action", "arguments", "names", "where")

    def __init__(self, names: tuple[str, ...], action: int, arguments: tuple[tuple[int, int, int, int], ...], where: Cursor) -> None:
        self.names, self.action, self.arguments, self.where = names, action, arguments, where


class Profile:
    """`linux.seccomp` of config.json."""

    __slots__ = ("architectures", "default", "flags", "rules", "source")

    def __init__(self, default: int, architectures: tuple[Cursor, ...], flags: int, rules: tuple[Rule, ...], source: bytes) -> None:
        self.default, self.architectures, self.flags, self.rules, self.source = default, architectures, flags, rules, source


def parse_profile(cursor: Cursor) -> Profile:
    """Parse `linux.seccomp`.

    Raises:
        ParseError: a member of a wrong type.
        InvalidConfig: an unknown action, operator, flag.
        UnsupportedConfig: notification.
    """
    default_errno = cursor.find("defaultErrnoRet")
    default = _action(cursor.member("defaultAction"), default_errno)
    for name in ("listenerPath", "listenerMetadata"):
        if cursor.find(name) is not None:
            raise UnsupportedConfig(f"seccomp {name} is not supported by sigkit-runtime", place=cursor.at())
    architectures = cursor.find("architectures")
    flags = cursor.find("flags")
    bits = 0
    for flag in () if flags is None else flags.items(limits.RUNTIME_ITEMS):
        if flag.text() not in _FLAGS:
            raise InvalidConfig("an unknown flag", place=flag.at(), expected="one of " + ", ".join(_FLAGS), got=flag.text()[:80])
        bits |= _FLAGS[flag.text()]
    rules = cursor.find("syscalls")
    return Profile(
        default,
        () if architectures is None else architectures.items(limits.RUNTIME_ITEMS),
        bits,
        () if rules is None else tuple(_rule(item) for item in rules.items(limits.RUNTIME_ITEMS)),
        strict.encode_json(cursor.value),
    )


def _rule(cursor: Cursor) -> Rule:
    arguments = cursor.find("args")
    return Rule(
        tuple(item.text() for item in cursor.member("names").items(limits.RUNTIME_ITEMS)),
        _action(cursor.member("action"), cursor.find("errnoRet")),
        () if arguments is None else tuple(_argument(item) for item in arguments.items(limits.RUNTIME_ITEMS)),
        cursor,
    )


def _action(cursor: Cursor, number: Cursor | None) -> int:
    if cursor.text() == "SCMP_ACT_NOTIFY":
        raise UnsupportedConfig("seccomp notification is not supported by sigkit-runtime", place=cursor.at())
    action = _ACTIONS.get(cursor.text())
    if action is None:
        raise InvalidConfig("an unknown action", place=cursor.at(), expected="one of " + ", ".join(_ACTIONS), got=cursor.text()[:80])
    if action in {_ERRNO, _TRACE}:
        return action | (_PERMISSION_DENIED if number is None else number.integer(0, 0xFFFF))
    return action


def _argument(cursor: Cursor) -> tuple[int, int, int, int]:
    operator = cursor.member("op")
    if operator.text() not in _OPERATORS:
        known = "one of " + ", ".join(_OPERATORS)
        raise InvalidConfig("an unknown operator", place=operator.at(), expected=known, got=operator.text()[:80])
    second = cursor.find("valueTwo")
    return (
        cursor.member("index").integer(0, 5),
        _OPERATORS[operator.text()],
        cursor.member("value").integer(most=strict.UINT64_MAX),
        0 if second is None else second.integer(most=strict.UINT64_MAX),
    )


def filter_program(profile: Profile, state_root: str) -> bytes:
    """Return the BPF program of a profile, from the cache or compiled.

    Raises:
        HostUnfit: libseccomp is absent.
        InvalidConfig: libseccomp does not take the profile.
    """
    library = Library()
    key = blake2b(digest_size=32)
    for part in (_CACHE_FORMAT, library.version.encode(), os.uname().machine.encode(), profile.source):
        key.update(len(part).to_bytes(8, "little") + part)
    path = os.path.join(state_root, "seccomp", key.hexdigest())
    program = _load(path)
    if program is None:
        program = library.compile(profile)
        _keep(path, program)
    return program


def _load(path: str) -> bytes | None:
    """Return what the cache holds, or None if it holds nothing whole: a flipped bit would be a hole in the filter."""
    from sigkit import durable

    most = len(_CACHE_FORMAT) + 32 + 8 * limits.RUNTIME_FILTER_INSTRUCTIONS
    try:
        data = durable.read(path, most_bytes=most, place=Place(path))
    except (FileUnreadable, TooLarge):
        return None
    head, digest, program = data[: len(_CACHE_FORMAT)], data[len(_CACHE_FORMAT) :][:32], data[len(_CACHE_FORMAT) + 32 :]
    if head != _CACHE_FORMAT or not program or len(program) % 8 or blake2b(program, digest_size=32).digest() != digest:
        return None
    return program


def _keep(path: str, program: bytes) -> None:
    from sigkit import durable

    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        durable.write(path, _CACHE_FORMAT + blake2b(program, digest_size=32).digest() + program, mode=0o600, point="runtime.seccomp")
    except (OSError, FileUnwritable):
        pass  # a full disk costs 20 ms at each start; it takes nothing from the filter


class Library:
    """libseccomp, loaded."""

    def __init__(self) -> None:
        """Load it.

        Raises:
            HostUnfit: it is not installed.
        """
        try:
            lib = ctypes.CDLL(LIBRARY)
        except OSError as err:
            raise HostUnfit(
                f"{LIBRARY} cannot be loaded, and without it there is no seccomp filter",
                place=Place(LIBRARY),
                remedy="install it (Debian, Ubuntu: libseccomp2; Fedora: libseccomp)",
            ) from err
        lib.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
        lib.seccomp_init.argtypes, lib.seccomp_init.restype = (ctypes.c_uint32,), ctypes.c_void_p
        lib.seccomp_release.argtypes, lib.seccomp_release.restype = (ctypes.c_void_p,), None
        lib.seccomp_arch_resolve_name.argtypes, lib.seccomp_arch_resolve_name.restype = (ctypes.c_char_p,), ctypes.c_uint32
        lib.seccomp_arch_exist.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        lib.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        lib.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
        lib.seccomp_rule_add_array.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.POINTER(Argument),
        )
        lib.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
        self._lib = lib
        self.version = ".".join(str(part) for part in lib.seccomp_version().contents)

    def compile(self, profile: Profile) -> bytes:
        """Return the BPF program of a profile.

        Raises:
            InvalidConfig: libseccomp refuses a part of it, or cannot deny a system call that the profile denies.
        """
        context = self._lib.seccomp_init(profile.default)
        if not context:
            raise KernelRefused("libseccomp cannot begin a filter", place=Place(LIBRARY))
        try:
            for architecture in profile.architectures:
                self._add_architecture(context, architecture)
            for rule in profile.rules:
                # libseccomp refuses a rule that equals the default.
                if rule.action != profile.default:
                    for name in rule.names:
                        self._add_rule(context, profile, rule, name)
            return self._export(context)
        finally:
            self._lib.seccomp_release(context)

    def _add_architecture(self, context: int, architecture: Cursor) -> None:
        name = architecture.text().removeprefix("SCMP_ARCH_").lower()
        token = self._lib.seccomp_arch_resolve_name(name.encode())
        if not architecture.text().startswith("SCMP_ARCH_") or not token:
            raise InvalidConfig("an unknown architecture", place=architecture.at(), got=architecture.text()[:80])
        if self._lib.seccomp_arch_exist(context, token) != 0:
            _refuse(self._lib.seccomp_arch_add(context, token), architecture)

    def _add_rule(self, context: int, profile: Profile, rule: Rule, name: str) -> None:
        number = self._lib.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_SYSCALL:
            # A profile names the calls of all kernels. One that this libseccomp does not know falls to the default; only where the default
            # lets it pass would that be a hole.
            if profile.default in _PERMISSIVE:
                raise InvalidConfig(f"libseccomp {self.version} does not know {name[:80]!r} and so cannot deny it", place=rule.where.at())
            return
        indexes = [argument[0] for argument in rule.arguments]
        # Two conditions on one argument cannot be joined by libseccomp; other runtimes take each as a rule of its own.
        together = [rule.arguments] if len(set(indexes)) == len(indexes) else [(argument,) for argument in rule.arguments]
        for arguments in together:
            array = (Argument * len(arguments))(*(Argument(*argument) for argument in arguments))
            _refuse(self._lib.seccomp_rule_add_array(context, rule.action, number, len(arguments), array), rule.where)

    def _export(self, context: int) -> bytes:
        descriptor = os.memfd_create("sigkit-seccomp", os.MFD_CLOEXEC)
        try:
            result = self._lib.seccomp_export_bpf(context, descriptor)
            size = os.fstat(descriptor).st_size
            if result != 0 or not size or size > 8 * limits.RUNTIME_FILTER_INSTRUCTIONS:
                raise KernelRefused(f"libseccomp cannot write the filter (error {-result}, {size} bytes)", place=Place(LIBRARY))
            return os.pread(descriptor, size, 0)
        finally:
            os.close(descriptor)


def _refuse(result: int, cursor: Cursor) -> None:
    if result != 0:
        raise InvalidConfig(f"libseccomp does not take this (error {-result})", place=cursor.at())


# The published profile lets a container make user namespaces. Root of one mounts its own cgroup, writable on v1, and lifts the limits that
# the rule set; and much of the kernel is reached from there only. Keyrings are not confined to namespaces at all: uid 0 inside reads what
# the host's root keeps in its own. Docker's profile denies both, too.
_NESTING = (
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "keyctl",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "umount",
    "umount2",
    "unshare",
)
# A filter cannot see the flags of clone3: it gets ENOSYS, the default, and libraries fall back to clone. `setns` has its own rules.
_NEVER_WHOLLY = frozenset((*_NESTING, "clone", "clone3", "setns"))
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET

_MACHINES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def default_profile(capabilities: Iterable[str]) -> dict[str, Json]:
    """Return `linux.seccomp` for a container that nobody gave a profile.

    Args:
        capabilities: names of its bounding set: some calls are allowed only together with one.
    """
    from sigkit import durable

    path = os.path.join(os.path.dirname(__file__), "data", "seccomp.json")
    published = strict.parse_json(durable.read(path, most_bytes=2**20, place=Place(path)), most_bytes=2**20, place=Place(path))
    machine, architecture = _MACHINES[os.uname().machine]
    held = frozenset(capabilities)
    left_out = frozenset[str]() if "CAP_SYS_ADMIN" in held else _NEVER_WHOLLY
    architectures: list[Json] = []
    for entry in published.member("archMap").items(100):
        if entry.member("architecture").text() == architecture:
            architectures = [architecture, *(item.text() for item in entry.member("subArchitectures").items(10))]
    rules: list[Json] = []
    for rule in published.member("syscalls").items(1000):
        if _applies(rule, held, machine):
            names, action = _names(rule, "names"), rule.member("action").text()
            if action == "SCMP_ACT_ALLOW":
                names = tuple(name for name in names if name not in left_out)
            kept: dict[str, Json] = {"names": list(names), "action": action}
            for name in ("errnoRet", "args"):
                found = rule.find(name)
                if found is not None and found.value != []:
                    kept[name] = found.value
            rules.append(kept)
    if left_out:
        rules.append({"names": list(_NESTING), "action": "SCMP_ACT_ERRNO", "errnoRet": _PERMISSION_DENIED})
        no_namespace: Json = {"index": 0, "value": _NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        rules.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespace]})
    return {
        "defaultAction": published.member("defaultAction").value,
        "defaultErrnoRet": published.member("defaultErrnoRet").value,
        "architectures": architectures,
        "syscalls": rules,
    }


def _applies(rule: Cursor, held: frozenset[str], machine: str) -> bool:
    includes, excludes = rule.find("includes"), rule.find("excludes")
    wanted, wanted_machines = _names(includes, "caps"), _names(includes, "arches")
    if not held.issuperset(wanted) or (wanted_machines and machine not in wanted_machines):
        return False
    return held.isdisjoint(_names(excludes, "caps")) and machine not in _names(excludes, "arches")


def _names(cursor: Cursor | None, name: str) -> tuple[str, ...]:
    found = None if cursor is None else cursor.find(name)
    return () if found is None else tuple(item.text() for item in found.items(1000))
