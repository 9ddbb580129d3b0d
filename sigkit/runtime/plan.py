"""The plan: what the runtime tells the launcher, after config.json was read and judged.

Plain values only, because it travels by `marshal`: integers, bytes, tuples, None. Paths are absolute and as the host sees them unless
the name says `in_root`. Nothing here is checked again in the launcher.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias, TypedDict

    Option: TypeAlias = tuple[bytes, bytes | None]

    class MountPlan(TypedDict):
        """One mount of config.json."""

        where: bytes  # JSON path, for refusals
        in_root: bytes
        kind: bytes  # "bind", "cgroup", or a file system type
        source: bytes
        options: tuple[Option, ...]
        add: int  # MOUNT_ATTR_…
        remove: int
        below: int  # attributes added to all mounts below as well (rro …)
        propagation: int
        recursive: int  # AT_RECURSIVE for rbind
        judged: int  # of a bind: the source was judged by this very path, so no link is followed

    class DevicePlan(TypedDict):
        """One device node."""

        in_root: bytes
        type: int  # S_IFCHR, S_IFBLK or S_IFIFO
        number: int
        mode: int
        uid: int
        gid: int

    class NamespacePlan(TypedDict):
        """The namespaces of a container, and what is set in them."""

        unshare: int  # namespaces to make, without user, pid and cgroup
        new_user: int
        new_pid: int
        new_cgroup: int
        join: tuple[tuple[int, bytes, bytes], ...]  # namespaces to join: kind, path, JSON path
        hostname: bytes
        domainname: bytes
        sysctl: tuple[tuple[bytes, bytes], ...]
        loopback: int

    class RootPlan(TypedDict):
        """What a container sees of files."""

        rootfs: bytes
        rootfs_mount: tuple[bytes, bytes, bytes] | None
        root_readonly: int
        mounts: tuple[MountPlan, ...]
        bind_devices: int  # device nodes cannot be made in a user namespace
        devices: tuple[DevicePlan, ...] | None  # None: /dev is the host's, by a mount of config.json
        masked: tuple[bytes, ...]
        readonly: tuple[bytes, ...]

    class ProcessPlan(TypedDict):
        """The program of a container, and what it may do."""

        args: tuple[bytes, ...]
        env: tuple[bytes, ...]
        cwd: bytes
        uid: int
        gid: int
        groups: tuple[int, ...] | None  # None: setgroups is denied in this user namespace
        umask: int
        rlimits: tuple[tuple[int, bytes, int, int], ...]
        oom_score_adj: int | None
        bounding: int
        effective: int
        permitted: int
        inheritable: int
        ambient: int
        no_new_privileges: int

    class Plan(NamespacePlan, RootPlan, ProcessPlan):
        """One container's start."""

        parent: int  # process id of the runtime: the launcher dies with it

    class Late(TypedDict):
        """What is ready only when the mounts are already being made."""

        cgroups: tuple[tuple[bytes, bytes], ...]  # name below /sys/fs/cgroup ("" on v2), directory
        enter: tuple[bytes, ...]  # those of v1 that the container's process enters by itself, before anything of the image is near
        seccomp: bytes  # compiled; empty for no filter
        seccomp_flags: int
