"""The cgroups of one container: made with their limits before it starts, removed after it."""

from __future__ import annotations

import errno
import os

from sigkit.errors import LimitUnavailable, Place, UnsupportedConfig
from sigkit.runtime.cgroups import files, find
from sigkit.runtime.trace import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.spec import Config
    from sigkit.runtime.trace import Trace


class Cgroups:
    """What was made for one container."""

    __slots__ = ("directories", "made", "shown")

    def __init__(self, directories: tuple[str, ...], made: tuple[str, ...], shown: tuple[tuple[str, str], ...]) -> None:
        self.directories = directories  # the container's own, to join
        self.made = made  # with the parents that were missing, deepest first in each hierarchy
        self.shown = shown  # name below /sys/fs/cgroup ("" on v2) and directory


NONE = Cgroups((), (), ())


def prepare(config: Config, container_id: str, place: Place, record: Trace) -> Cgroups:
    """Make the container's cgroups and set its limits.

    Without rights to make one: nothing is made if config.json asks for no limit, else it is a refusal.

    Raises:
        LimitUnavailable: a limit that cannot be set here; nothing is left behind.
    """
    hierarchies = find.find_hierarchies()
    at = Place("", "$.linux.resources").within(place)
    if hierarchies.v2 is not None:
        cgroups = _prepare_v2(config, container_id, hierarchies.v2, at)
    else:
        cgroups = _prepare_v1(config, container_id, hierarchies.v1, at)
    for directory in cgroups.directories:
        record.step(
            f"cgroup {quote(os.fsencode(directory))}",
            "the kernel counts and limits what the container uses",
            f"mkdir -p {quote(os.fsencode(directory))} && echo $PID > {quote(os.fsencode(directory))}/cgroup.procs",
        )
    return cgroups


def _prepare_v1(config: Config, container_id: str, hierarchies: dict[str, find.Hierarchy], place: Place) -> Cgroups:
    from sigkit.runtime.cgroups import v1  # one of the two, at each start

    directories: list[str] = []
    made: tuple[str, ...] = ()
    shown: list[tuple[str, str]] = []
    try:
        for controller in v1.wanted(config.resources):
            hierarchy = hierarchies.get(controller)
            if hierarchy is None:
                if controller == "devices":
                    continue  # as on v2: see `create`
                raise LimitUnavailable(f"the cgroup controller {controller!r} is not mounted", place=place)
            path = config.cgroups_path or os.path.join(hierarchy.own, f"sigkit-{container_id}")
            directory = find.directory_of(hierarchy, path)
            try:
                made += files.make(directory, hierarchy.mount_point)
            except LimitUnavailable:
                if controller == "devices" and os.geteuid() != 0:
                    continue  # in a user namespace no device can be made at all
                raise
            if directory not in directories:
                directories.append(directory)
                shown.append((os.path.basename(hierarchy.mount_point), directory))
            v1.limit(controller, directory, config.resources)
    except LimitUnavailable:
        files.remove(made)
        raise
    return Cgroups(tuple(directories), made, tuple(shown))


def _prepare_v2(config: Config, container_id: str, hierarchy: find.Hierarchy, place: Place) -> Cgroups:
    from sigkit.runtime.cgroups import v2

    settings = v2.settings(config.resources, place)
    directory = find.directory_of(hierarchy, config.cgroups_path or f"/sigkit/{container_id}")
    try:
        made = files.make(directory, hierarchy.mount_point)
    except LimitUnavailable:
        if settings or os.geteuid() == 0:
            raise
        return NONE
    try:
        if settings:
            v2.enable(hierarchy.mount_point, directory, frozenset(controller for controller, _, _ in settings))
        for _, name, value in settings:
            files.write(directory, name, value)
    except LimitUnavailable:
        files.remove(made)
        raise
    return Cgroups((directory,), made, (("", directory),))


def entered(config: Config, cgroups: Cgroups, in_user_namespace: bool) -> tuple[str, ...]:  # noqa: FBT001 (a fact, not a switch)
    """Return the cgroups that the container's process is to enter by itself: those of v1, where it has the right and sees the host's.

    A thread that moves itself does not wait for a grace period; whoever moves a process does, 5 to 20 ms.
    """
    mounts = config.namespace("mount")
    if in_user_namespace or (mounts is not None and mounts.path):
        return ()
    v1 = {directory for name, directory in cgroups.shown if name}
    return tuple(directory for directory in cgroups.directories if directory in v1)


def join(directories: tuple[str, ...], pid: int) -> None:
    """Move a process into cgroups.

    Raises:
        LimitUnavailable: the kernel refuses.
    """
    for directory in directories:
        files.move(directory, pid)


def check_devices(config: Config, cgroups: Cgroups, in_user_namespace: bool, place: Place) -> None:  # noqa: FBT001 (a fact, not a switch)
    """Refuse a container that could make and open any device: no device list holds it, and no user namespace.

    Raises:
        UnsupportedConfig: CAP_MKNOD on a host without the devices controller (cgroup v2).
    """
    listed = any(name == "devices" for name, _ in cgroups.shown)
    if "CAP_MKNOD" in config.process.capabilities.bounding and not listed and not in_user_namespace:
        raise UnsupportedConfig(
            "CAP_MKNOD without the devices controller is not supported by sigkit-runtime: nothing would keep it from the host's disks",
            place=Place("", "$.process.capabilities.bounding").within(place),
            remedy="drop CAP_MKNOD",
        )


def end_all(cgroups: Cgroups) -> None:
    """Kill whatever is left in the cgroups made for a container: one that shares a pid namespace may leave processes behind."""
    for directory in cgroups.directories:
        if directory not in cgroups.made:
            continue  # it was there before: others may live in it
        for _ in range(100):
            left = files.processes(directory)
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
                except OSError as err:
                    if err.errno != errno.EPERM:
                        raise
                    return
