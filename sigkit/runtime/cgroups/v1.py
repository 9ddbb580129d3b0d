"""Limits on cgroup version 1: which file takes which value, in which order."""

from __future__ import annotations

from sigkit.runtime.cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.spec import DeviceRule, Resources

# What every container may use, whatever its rules say (OCI runtime-spec, "Default Devices"), and the making of any node: a node is
# useless without the right to open it.
_ALWAYS = ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm")


def wanted(resources: Resources) -> tuple[str, ...]:
    """Return the controllers that a container's limits need, devices always first: without a list it could open any device."""
    controllers = ["devices"]
    if (
        any(
            value is not None
            for value in (resources.memory_limit, resources.memory_swap, resources.memory_reservation, resources.memory_swappiness)
        )
        or resources.oom_killer_off
    ):
        controllers.append("memory")
    if any(value is not None for value in (resources.cpu_shares, resources.cpu_quota, resources.cpu_period, resources.cpu_burst)):
        controllers.append("cpu")
    if resources.pids is not None and resources.pids > 0:
        controllers.append("pids")
    return tuple(controllers)


def limit(controller: str, directory: str, resources: Resources) -> None:
    """Write the limits of one controller.

    Raises:
        LimitUnavailable: one of them cannot be set.
    """
    for name, value in _SETTINGS[controller](resources):
        files.write(directory, name, value)


def _memory(resources: Resources) -> list[tuple[str, str]]:
    settings = []
    if resources.memory_limit is not None:
        settings.append(("memory.limit_in_bytes", str(resources.memory_limit)))
    if resources.memory_swap is not None:  # after the limit: the kernel wants memsw >= limit
        settings.append(("memory.memsw.limit_in_bytes", str(resources.memory_swap)))
    if resources.memory_reservation is not None:
        settings.append(("memory.soft_limit_in_bytes", str(resources.memory_reservation)))
    if resources.memory_swappiness is not None:
        settings.append(("memory.swappiness", str(resources.memory_swappiness)))
    if resources.oom_killer_off:
        settings.append(("memory.oom_control", "1"))
    return settings


def _cpu(resources: Resources) -> list[tuple[str, str]]:
    settings = []
    if resources.cpu_shares:
        settings.append(("cpu.shares", str(resources.cpu_shares)))
    if resources.cpu_period:  # before the quota, which is a share of it
        settings.append(("cpu.cfs_period_us", str(resources.cpu_period)))
    if resources.cpu_quota:
        settings.append(("cpu.cfs_quota_us", str(resources.cpu_quota)))
    if resources.cpu_burst:
        settings.append(("cpu.cfs_burst_us", str(resources.cpu_burst)))
    return settings


def _pids(resources: Resources) -> list[tuple[str, str]]:
    return [("pids.max", str(resources.pids))]


def _devices(resources: Resources) -> list[tuple[str, str]]:
    """Deny all, then allow what is listed: an empty list allows the default devices and no more (GHSA-g54h-m393-cpwq)."""
    settings = [("devices.deny", "a")]
    settings += [("devices.allow", rule) for rule in _ALWAYS]
    for rule in resources.devices:
        if _is_deny_all(rule):
            continue  # that is where we begin
        settings.append(("devices.allow" if rule.allow else "devices.deny", _line(rule)))
    return settings


def _is_deny_all(rule: DeviceRule) -> bool:
    return not rule.allow and rule.type == "a" and rule.major is None and rule.minor is None


def _line(rule: DeviceRule) -> str:
    major, minor = ("*" if number is None else str(number) for number in (rule.major, rule.minor))
    return f"{rule.type} {major}:{minor} {rule.access}"


_SETTINGS = {"memory": _memory, "cpu": _cpu, "pids": _pids, "devices": _devices}
