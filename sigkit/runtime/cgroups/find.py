"""Where this host's cgroup hierarchies are mounted, and where in each of them this process sits."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_CONTROLLERS = frozenset(["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "perf_event", "rdma"])


class Hierarchy:
    """One mounted tree."""

    __slots__ = ("controllers", "mount_point", "own")

    def __init__(self, controllers: frozenset[str], mount_point: str, own: str) -> None:
        self.controllers = controllers  # empty on v2
        self.mount_point = mount_point
        self.own = own  # this process's own path below the mount point, "/" at its top


class Hierarchies:
    """All of them: `v1` by controller, or `v2`."""

    __slots__ = ("v1", "v2")

    def __init__(self, v1: dict[str, Hierarchy], v2: Hierarchy | None) -> None:
        self.v1 = v1
        self.v2 = v2


def find_hierarchies() -> Hierarchies:
    """Read /proc/self/mountinfo and /proc/self/cgroup."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        mount_lines = mounts.read().splitlines()
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as own:
        own_lines = own.read().splitlines()
    return parse_hierarchies(mount_lines, own_lines)


def parse_hierarchies(mountinfo: Iterable[str], own: Iterable[str]) -> Hierarchies:
    """Build the table from the lines of the two files.

    A host counts as v2 when no v1 controller is mounted: in the hybrid layout the v2 tree has none of the controllers that matter.
    """
    paths: dict[str, str] = {}
    for line in own:
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    v1: dict[str, Hierarchy] = {}
    v2: Hierarchy | None = None
    for line in mountinfo:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in {"cgroup", "cgroup2"}:
            continue
        fields = before.split(" ")
        top, mount_point = _unescape(fields[3]), _unescape(fields[4])
        if kind == "cgroup2":
            v2 = v2 or Hierarchy(frozenset(), mount_point, _below(paths.get("", "/"), top))
            continue
        controllers = _CONTROLLERS.intersection(options.split(","))
        for controller in controllers:
            v1.setdefault(controller, Hierarchy(controllers, mount_point, _below(paths.get(controller, "/"), top)))
    return Hierarchies(v1, None if v1 else v2)


def _below(path: str, top: str) -> str:
    """Return `path` as it is seen below a mount whose root is `top` in the hierarchy."""
    if top != "/" and (path == top or path.startswith(top + "/")):
        return path[len(top) :] or "/"
    return path


def _unescape(field: str) -> str:
    """Undo the octal escapes of mountinfo: space, tab, newline, backslash."""
    if "\\" not in field:
        return field
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def directory_of(hierarchy: Hierarchy, path: str) -> str:
    """Return the directory of the absolute cgroup `path`, which counts from the mount point (runtime-spec, "Cgroups Path")."""
    return os.path.join(hierarchy.mount_point, path.lstrip("/"))


def can_limit(controller: str) -> bool:
    """Tell whether this user can limit a new container by `controller`: it is there, and what is above may be written to."""
    found = find_hierarchies()
    if found.v2 is None:
        hierarchy = found.v1.get(controller)
        return hierarchy is not None and os.access(directory_of(hierarchy, hierarchy.own), os.W_OK)
    return can_hand_down(found.v2.mount_point, controller)


def can_hand_down(top: str, controller: str) -> bool:
    """Tell whether the v2 tree mounted at `top` hands `controller` down, or would if it were told to.

    Inside a container the top is no root (it has a type), and its own processes keep the kernel from handing anything down.
    """
    try:
        available, enabled = (_words(os.path.join(top, name)) for name in ("cgroup.controllers", "cgroup.subtree_control"))
    except OSError:
        return False
    is_root = not os.path.exists(os.path.join(top, "cgroup.type"))
    return (controller in enabled or (is_root and controller in available)) and os.access(top, os.W_OK)


def _words(path: str) -> list[str]:
    with open(path, encoding="ascii") as file:
        return file.read().split()
