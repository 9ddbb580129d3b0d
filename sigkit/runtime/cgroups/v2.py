"""Limits on cgroup version 2, converted from config.json's, which are written for version 1.

Not handled here: the device list, which is a BPF program on v2. `create` refuses a container that could make device nodes there.
"""

from __future__ import annotations

import os

from sigkit.errors import LimitUnavailable, Place
from sigkit.runtime.cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.spec import Resources

_UNLIMITED = "max"


def settings(resources: Resources, place: Place) -> tuple[tuple[str, str, str], ...]:
    """Return controller, file and value of each limit.

    Raises:
        LimitUnavailable: a limit that v2 cannot express.
    """
    found: list[tuple[str, str, str]] = []
    if resources.memory_swappiness is not None or resources.oom_killer_off:
        raise LimitUnavailable("cgroup v2 has neither swappiness nor a switch for the OOM killer", place=place)
    if resources.memory_limit is not None:
        found.append(("memory", "memory.max", _or_max(resources.memory_limit)))
    if resources.memory_swap is not None:
        # v1 counts memory and swap together, v2 swap alone.
        swap = resources.memory_swap - (resources.memory_limit or 0) if resources.memory_swap > 0 else resources.memory_swap
        found.append(("memory", "memory.swap.max", _or_max(swap)))
    if resources.memory_reservation is not None:
        found.append(("memory", "memory.low", _or_max(resources.memory_reservation)))
    if resources.cpu_shares:
        found.append(("cpu", "cpu.weight", str(weight(resources.cpu_shares))))
    if resources.cpu_quota is not None or resources.cpu_period is not None:
        quota = _UNLIMITED if resources.cpu_quota is None or resources.cpu_quota <= 0 else str(resources.cpu_quota)
        found.append(("cpu", "cpu.max", f"{quota} {resources.cpu_period or 100_000}"))
    if resources.cpu_burst:
        found.append(("cpu", "cpu.max.burst", str(resources.cpu_burst)))
    if resources.pids is not None:
        found.append(("pids", "pids.max", _or_max(resources.pids)))
    return tuple(found)


def _or_max(value: int) -> str:
    return _UNLIMITED if value < 0 else str(value)


def weight(shares: int) -> int:
    """Convert v1 shares (2 to 262144) to a v2 weight (1 to 10000).

    Source: runtime-spec config-linux.md, "Unified": the line through both ends.
    """
    return 1 + (shares - 2) * 9999 // 262142


def enable(mount_point: str, directory: str, controllers: frozenset[str]) -> None:
    """Hand `controllers` down from the mount point to `directory`.

    Raises:
        LimitUnavailable: one is not there, or not handed to this user.
    """
    above = mount_point
    path = os.path.relpath(directory, mount_point).split(os.sep)
    for part in path:
        with open(os.path.join(above, "cgroup.controllers"), encoding="ascii") as file:
            available = file.read().split()
        for controller in sorted(controllers):
            if controller not in available:
                raise LimitUnavailable(
                    f"the cgroup controller {controller!r} is not available", place=Place(above), got=" ".join(available) or "none"
                )
        with open(os.path.join(above, "cgroup.subtree_control"), encoding="ascii") as file:
            enabled = file.read().split()
        missing = [f"+{controller}" for controller in sorted(controllers) if controller not in enabled]
        if missing:
            files.write(above, "cgroup.subtree_control", " ".join(missing))
        above = os.path.join(above, part)
