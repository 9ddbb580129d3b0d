"""Capabilities: names to bits, and the order in which a process gives them up."""

from __future__ import annotations

import errno

from sigkit.runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sigkit.runtime.plan import Plan
    from sigkit.runtime.trace import Trace

# In the kernel's order: the position is the bit (include/uapi/linux/capability.h, Linux 5.9 to 6.18).
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

# What a container gets when nobody says otherwise: podman's eleven.
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)


def mask(names: Iterable[str]) -> int:
    """Return the bit mask of capabilities given by name. KeyError on an unknown name: the parser has refused it before."""
    bits = 0
    for name in names:
        bits |= 1 << _BIT[name]
    return bits


_BIT = {name: bit for bit, name in enumerate(NAMES)}


def shown(bits: int) -> str:
    """Write a mask for a person."""
    return ",".join(name[4:].lower() for bit, name in enumerate(NAMES) if bits >> bit & 1) or "none"


def limit(plan: Plan, trace: Trace, warn: Callable[[str], None]) -> Plan:
    """Drop the bounding set to the plan's, and return the plan without what this process cannot give (said by `warn`).

    First of all: it needs CAP_SETPCAP, which the sets below may lack.
    """
    trace.step(
        f"bounding set: {shown(plan['bounding'])}",
        "what is not in it can never be gained again, whatever program the container starts",
        "setpriv --bounding-set=-all,+...",
    )
    _, permitted, _ = syscalls.capget()
    lacking = (plan["bounding"] | plan["permitted"] | plan["effective"] | plan["inheritable"] | plan["ambient"]) & ~permitted
    if lacking:
        warn(f"capabilities that this process cannot give: {shown(lacking)}")
    for bit in range(64):
        try:
            held = syscalls.prctl(syscalls.PR_CAPBSET_READ, bit)
        except OSError as err:
            if err.errno == errno.EINVAL:  # past the kernel's last one
                break
            raise
        if held and not plan["bounding"] >> bit & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, bit)
    kept = plan.copy()
    for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        kept[name] &= permitted
    return kept


def apply(plan: Plan, trace: Trace) -> None:
    """Take the plan's sets. The user has been changed before, under PR_SET_KEEPCAPS."""
    trace.step(
        f"capabilities: {shown(plan['effective'])}",
        "root in a container is root without the powers over the host; inheritable is empty unless ambient needs it (CVE-2022-29162)",
        "capsh --drop=... --inh=",
    )
    inheritable = plan["inheritable"] & plan["ambient"]
    syscalls.capset(plan["effective"], plan["permitted"], inheritable)
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    for bit in range(len(NAMES)):
        if plan["ambient"] >> bit & 1 and inheritable >> bit & 1 and plan["permitted"] >> bit & 1:
            syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, bit)
