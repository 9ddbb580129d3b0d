"""What config.json says, once it has been read: plain classes, because a `NamedTuple` costs the import of `typing` at each start.

Source: OCI runtime-spec 1.2, config.md and config-linux.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.mount_options import MountOptions
    from sigkit.strict import Cursor


class User:
    """Who the process is."""

    __slots__ = ("gid", "groups", "uid", "umask")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], umask: int) -> None:
        self.uid, self.gid, self.groups, self.umask = uid, gid, groups, umask


class Rlimit:
    """One resource limit; `number` is the kernel's."""

    __slots__ = ("hard", "number", "path", "soft")

    def __init__(self, number: int, soft: int, hard: int, path: str) -> None:
        self.number, self.soft, self.hard, self.path = number, soft, hard, path


class Capabilities:
    """The five sets, by name."""

    __slots__ = ("ambient", "bounding", "effective", "inheritable", "permitted")

    def __init__(self, sets: dict[str, tuple[str, ...]]) -> None:
        self.bounding, self.effective, self.permitted = sets["bounding"], sets["effective"], sets["permitted"]
        self.inheritable, self.ambient = sets["inheritable"], sets["ambient"]


class Process:
    """The program and what it starts with."""

    __slots__ = ("args", "capabilities", "cwd", "env", "no_new_privileges", "oom_score_adj", "rlimits", "user")

    def __init__(
        self, user: User, args: tuple[str, ...], env: tuple[str, ...], cwd: str, capabilities: Capabilities, rlimits: tuple[Rlimit, ...]
    ) -> None:
        self.user, self.args, self.env, self.cwd = user, args, env, cwd
        self.capabilities, self.rlimits = capabilities, rlimits
        self.no_new_privileges = False
        self.oom_score_adj: int | None = None


class Mount:
    """One mount; `source` may be relative to the bundle directory."""

    __slots__ = ("destination", "kind", "options", "path", "source")

    def __init__(self, destination: str, kind: str, source: str, options: MountOptions, path: str) -> None:
        self.destination, self.kind, self.source, self.options, self.path = destination, kind, source, options, path


class Namespace:
    """A namespace to make, or with `path` to join."""

    __slots__ = ("kind", "path", "where")

    def __init__(self, kind: str, path: str, where: str) -> None:
        self.kind, self.path, self.where = kind, path, where


class IdMap:
    """A range of ids."""

    __slots__ = ("inside", "outside", "size")

    def __init__(self, inside: int, outside: int, size: int) -> None:
        self.inside, self.outside, self.size = inside, outside, size


class Device:
    """A device node beyond the default ones."""

    __slots__ = ("gid", "major", "minor", "mode", "path", "type", "uid", "where")

    def __init__(self, path: str, kind: int, number: tuple[int, int], mode: int, owner: tuple[int, int], where: str) -> None:
        self.path, self.type, self.mode, self.where = path, kind, mode, where
        self.major, self.minor = number
        self.uid, self.gid = owner


class DeviceRule:
    """One line of the devices cgroup; major and minor None means all, `type` "a" all types."""

    __slots__ = ("access", "allow", "major", "minor", "type")

    def __init__(self, allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> None:  # noqa: FBT001 (a member of the format)
        self.allow, self.type, self.major, self.minor, self.access = allow, kind, major, minor, access


class Resources:
    """Limits; None means that config.json does not ask."""

    __slots__ = (
        "cpu_burst",
        "cpu_period",
        "cpu_quota",
        "cpu_shares",
        "devices",
        "memory_limit",
        "memory_reservation",
        "memory_swap",
        "memory_swappiness",
        "oom_killer_off",
        "pids",
    )

    def __init__(self) -> None:
        self.memory_limit: int | None = None
        self.memory_reservation: int | None = None
        self.memory_swap: int | None = None
        self.memory_swappiness: int | None = None
        self.oom_killer_off = False
        self.cpu_shares: int | None = None
        self.cpu_quota: int | None = None
        self.cpu_period: int | None = None
        self.cpu_burst: int | None = None
        self.pids: int | None = None
        self.devices: tuple[DeviceRule, ...] = ()


class Config:
    """A whole config.json."""

    __slots__ = (
        "annotations",
        "cgroups_path",
        "devices",
        "domainname",
        "gid_mappings",
        "hostname",
        "masked",
        "mounts",
        "namespaces",
        "oci_version",
        "process",
        "readonly",
        "resources",
        "root_path",
        "root_readonly",
        "seccomp",
        "sysctl",
        "uid_mappings",
    )

    def __init__(self, oci_version: str, process: Process, root_path: str, mounts: tuple[Mount, ...]) -> None:
        self.oci_version, self.process, self.root_path, self.mounts = oci_version, process, root_path, mounts
        self.root_readonly = False
        self.hostname = self.domainname = self.cgroups_path = ""
        self.annotations: dict[str, str] = {}
        self.namespaces: tuple[Namespace, ...] = ()
        self.uid_mappings: tuple[IdMap, ...] = ()
        self.gid_mappings: tuple[IdMap, ...] = ()
        self.devices: tuple[Device, ...] = ()
        self.resources = Resources()
        self.sysctl: dict[str, str] = {}
        self.masked: tuple[str, ...] = ()
        self.readonly: tuple[str, ...] = ()
        self.seccomp: Cursor | None = None

    def namespace(self, kind: str) -> Namespace | None:
        """Return what config.json says of a kind of namespace, or None: the runtime's own is kept."""
        return next((n for n in self.namespaces if n.kind == kind), None)
