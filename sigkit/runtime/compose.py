"""From a validated config.json to the launcher's plan: names become numbers, text becomes bytes, defaults are filled in."""

from __future__ import annotations

import os
import stat

from sigkit.runtime import capabilities, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.cgroups.hierarchy import Cgroups
    from sigkit.runtime.plan import DevicePlan, Late, MountPlan, NamespacePlan, Plan, ProcessPlan, RootPlan
    from sigkit.runtime.spec import Config, Mount, Process
    from sigkit.runtime.users import Maps

_KINDS = {
    "pid": syscalls.CLONE_NEWPID,
    "mount": syscalls.CLONE_NEWNS,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "network": syscalls.CLONE_NEWNET,
    "cgroup": syscalls.CLONE_NEWCGROUP,
    "user": syscalls.CLONE_NEWUSER,
}
_SEPARATE = ("pid", "cgroup", "user")  # entered by steps of their own
# OCI runtime-spec, config-linux.md "Default Devices".
_DEFAULT_DEVICES = (
    (b"/dev/null", 1, 3),
    (b"/dev/zero", 1, 5),
    (b"/dev/full", 1, 7),
    (b"/dev/random", 1, 8),
    (b"/dev/urandom", 1, 9),
    (b"/dev/tty", 5, 0),
)


def compose(
    config: Config,
    bundle: str,
    maps: Maps | None,
    rootfs_mount: tuple[str, str, str] | None,
    judged: frozenset[str] = frozenset(),
) -> Plan:
    """Build the plan.

    Args:
        config: validated.
        bundle: absolute path of the bundle directory.
        maps: of the new user namespace, or None.
        rootfs_mount: type, source and options of a mount that is the root file system, or None.
        judged: sources of bind mounts behind which no link is followed.
    """
    return {
        "parent": os.getpid(),
        **_namespaces(config, maps),
        **_root(config, bundle, maps, rootfs_mount, judged),
        **_process(config.process, maps),
    }


def _namespaces(config: Config, maps: Maps | None) -> NamespacePlan:
    made = {n.kind for n in config.namespaces if not n.path}
    unshare = 0
    for kind in made.difference(_SEPARATE):
        unshare |= _KINDS[kind]
    return {
        "unshare": unshare,
        "new_user": int(maps is not None),
        "new_pid": int("pid" in made),
        "new_cgroup": int("cgroup" in made),
        "join": tuple((_KINDS[n.kind], _raw(n.path), n.where.encode()) for n in config.namespaces if n.path),
        "hostname": _raw(config.hostname),
        "domainname": _raw(config.domainname),
        "sysctl": tuple((_raw(_sysctl_path(name)), _raw(value)) for name, value in config.sysctl.items()),
        "loopback": int("network" in made),
    }


def _root(config: Config, bundle: str, maps: Maps | None, rootfs_mount: tuple[str, str, str] | None, judged: frozenset[str]) -> RootPlan:
    return {
        "rootfs": _raw(os.path.join(bundle, config.root_path)),
        "rootfs_mount": None if rootfs_mount is None else (_raw(rootfs_mount[0]), _raw(rootfs_mount[1]), _raw(rootfs_mount[2])),
        "root_readonly": int(config.root_readonly),
        "mounts": tuple(_mount(mount, bundle, judged) for mount in config.mounts),
        "bind_devices": int(maps is not None),
        "devices": _devices(config),
        "masked": tuple(_raw(path) for path in config.masked),
        "readonly": tuple(_raw(path) for path in config.readonly),
    }


def _process(process: Process, maps: Maps | None) -> ProcessPlan:
    sets = process.capabilities
    return {
        "args": tuple(_raw(text) for text in process.args),
        "env": tuple(_raw(text) for text in process.env),
        "cwd": _raw(process.cwd),
        "uid": process.user.uid,
        "gid": process.user.gid,
        "groups": _groups(process, maps),
        "umask": process.user.umask,
        "rlimits": tuple((r.number, r.path.encode(), r.soft, r.hard) for r in process.rlimits),
        "oom_score_adj": process.oom_score_adj,
        "bounding": capabilities.mask(sets.bounding),
        "effective": capabilities.mask(sets.effective),
        "permitted": capabilities.mask(sets.permitted),
        "inheritable": capabilities.mask(sets.inheritable),
        "ambient": capabilities.mask(sets.ambient),
        "no_new_privileges": int(process.no_new_privileges),
    }


def compose_late(cgroups: Cgroups, enter: tuple[str, ...], program: bytes, flags: int) -> Late:
    """Build what follows the plan.

    Args:
        cgroups: made.
        enter: directories of those that the container's process enters by itself.
        program: compiled seccomp filter; empty for none.
        flags: its SECCOMP_FILTER_FLAG_….
    """
    return {
        "cgroups": tuple((_raw(name), _raw(directory)) for name, directory in cgroups.shown),
        "enter": tuple(_raw(directory) for directory in enter),
        "seccomp": program,
        "seccomp_flags": flags,
    }


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _groups(process: Process, maps: Maps | None) -> tuple[int, ...] | None:
    """Return the supplementary groups, exactly those of config.json (CVE-2022-36109); None where the kernel allows no change."""
    return None if maps is not None and not maps.groups else process.user.groups


def _sysctl_path(name: str) -> str:
    return name if "/" in name else name.replace(".", "/")


def _mount(mount: Mount, bundle: str, judged: frozenset[str]) -> MountPlan:
    options = mount.options
    return {
        "where": mount.path.encode(),
        "in_root": _raw(mount.destination),
        "kind": _raw(mount.kind),
        "source": _raw(os.path.join(bundle, mount.source) if mount.kind == "bind" else mount.source or mount.kind),
        "options": tuple((_raw(key), None if value is None else _raw(value)) for key, value in options.data),
        "add": options.add,
        "remove": options.remove,
        "below": options.below,
        "propagation": options.propagation,
        "recursive": syscalls.AT_RECURSIVE if options.recursive else 0,
        "judged": int(mount.source in judged),
    }


def _devices(config: Config) -> tuple[DevicePlan, ...] | None:
    if any(mount.destination == "/dev" and mount.kind == "bind" for mount in config.mounts):
        return None
    asked = {_raw(device.path) for device in config.devices}
    plans: list[DevicePlan] = [
        {"in_root": path, "type": stat.S_IFCHR, "number": os.makedev(major, minor), "mode": 0o666, "uid": 0, "gid": 0}
        for path, major, minor in _DEFAULT_DEVICES
        if path not in asked
    ]
    plans += [
        {
            "in_root": _raw(device.path),
            "type": device.type,
            "number": os.makedev(device.major, device.minor),
            "mode": device.mode,
            "uid": device.uid,
            "gid": device.gid,
        }
        for device in config.devices
    ]
    return tuple(plans)
