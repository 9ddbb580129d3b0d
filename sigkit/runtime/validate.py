"""What must hold between the parts of config.json, and between it and this process, before anything is done."""

from __future__ import annotations

from sigkit import limits
from sigkit.errors import InvalidConfig, Place, UnsupportedConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sigkit.runtime.spec import Config, IdMap

# What each namespaced sysctl needs to be the container's own.
_IPC_SYSCTL = ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
_SYSTEM_MOUNTS = ("proc", "sysfs", "devpts", "mqueue", "cgroup", "tmpfs", "bind", "overlay", "ramfs", "hugetlbfs", "cgroup2")


def validate(config: Config, place: Place, user_namespace: tuple[tuple[IdMap, ...], tuple[IdMap, ...]] | None) -> None:
    """Check a parsed config.json as a whole.

    Args:
        config: what was parsed.
        place: config.json.
        user_namespace: the maps of uids and gids if there will be a new user namespace.

    Raises:
        InvalidConfig, UnsupportedConfig: with the JSON path.
    """
    _namespaces(config, place)
    _names(config, place)
    _mounts(config, place)
    _sysctl(config, place)
    if user_namespace is not None:
        _ids(config, place, *user_namespace)


def _fail(problem: str, place: Place, path: str, *, expected: str = "", remedy: str = "") -> NoReturn:
    raise InvalidConfig(problem, place=Place("", path).within(place), expected=expected, remedy=remedy)


def _namespaces(config: Config, place: Place) -> None:
    mount = config.namespace("mount")
    if mount is None or mount.path:
        problem = "a container needs a mount namespace of its own: without one, pivot_root would move the host"
        _fail(problem, place, "$.linux.namespaces", expected='{"type": "mount"}')
    for kind in ("user", "time", "cgroup"):
        found = config.namespace(kind)
        if found is not None and (found.path or kind == "time"):
            raise UnsupportedConfig(
                f"{'joining a' if found.path else 'a'} {kind} namespace is not supported by sigkit-runtime",
                place=Place("", found.where).within(place),
            )
    if (config.uid_mappings or config.gid_mappings) and config.namespace("user") is None:
        _fail("id mappings without a user namespace", place, "$.linux.uidMappings")
    if config.namespace("user") is not None and not (config.uid_mappings and config.gid_mappings):
        _fail("a user namespace without id mappings", place, "$.linux.uidMappings", expected="uidMappings and gidMappings")


def _names(config: Config, place: Place) -> None:
    uts = config.namespace("uts")
    for name in ("hostname", "domainname"):
        value = getattr(config, name)
        if value and (uts is None or uts.path):
            _fail("would change the host's, for there is no new uts namespace", place, f"$.{name}")
        if len(value.encode()) > limits.RUNTIME_HOST_NAME_BYTES:
            _fail("too long", place, f"$.{name}", expected=f"at most {limits.RUNTIME_HOST_NAME_BYTES} bytes")


def _mounts(config: Config, place: Place) -> None:
    for mount in config.mounts:
        # procfs and sysfs elsewhere would be neither masked nor read-only.
        for kind, where in (("proc", "/proc"), ("sysfs", "/sys")):
            if mount.kind == kind and mount.destination != where:
                _fail(f"{kind} can be mounted at {where} only", place, f"{mount.path}.destination")
        below_proc = mount.destination.startswith("/proc/") or (mount.destination == "/proc" and mount.kind != "proc")
        if below_proc:
            # Whatever lies there, the kernel's own answers are replaced by it (CVE-2019-16884, CVE-2025-52881).
            _fail("nothing can be mounted over the process file system", place, f"{mount.path}.destination")
        if mount.kind not in _SYSTEM_MOUNTS:
            raise UnsupportedConfig(
                f"a file system of type {mount.kind[:80]!r} is not supported by sigkit-runtime",
                place=Place("", f"{mount.path}.type").within(place),
                remedy="mount it on the host and bind it",
            )


def _sysctl(config: Config, place: Place) -> None:
    for name in config.sysctl:
        first, _, rest = name.replace("/", ".").partition(".")
        if first == "net":
            needed = "network"
        elif (first == "kernel" and rest in _IPC_SYSCTL) or (first == "fs" and rest.startswith("mqueue.")):
            needed = "ipc"
        else:
            problem = "a kernel setting that is not the container's own"
            _fail(problem, place, f"$.linux.sysctl.{name}", expected="net.*, fs.mqueue.*, or of ipc")
        namespace = config.namespace(needed)
        if namespace is None or namespace.path or ".." in name.split("/"):
            _fail(f"would change the host's, for there is no new {needed} namespace", place, f"$.linux.sysctl.{name}")


def _ids(config: Config, place: Place, uids: tuple[IdMap, ...], gids: tuple[IdMap, ...]) -> None:
    user = config.process.user
    remedy = "use a mapped id, or give this user a range in /etc/subuid and /etc/subgid"
    if not is_mapped(0, uids) or not is_mapped(0, gids):
        _fail("id 0 is not mapped", place, "$.linux.uidMappings")
    if not is_mapped(user.uid, uids):
        _fail(f"user {user.uid} is not mapped in the user namespace", place, "$.process.user.uid", remedy=remedy)
    for where, gid in (("gid", user.gid), *((f"additionalGids[{i}]", g) for i, g in enumerate(user.groups))):
        if not is_mapped(gid, gids):
            _fail(f"group {gid} is not mapped in the user namespace", place, f"$.process.user.{where}", remedy=remedy)
    for mount in config.mounts:
        for key, value in mount.options.data:
            if key not in {"uid", "gid"} or value is None or not (value.isascii() and value.isdigit()):
                continue
            if not is_mapped(int(value), uids if key == "uid" else gids):
                problem = f"the option {key}={value} names an id that is not mapped in the user namespace"
                _fail(problem, place, f"{mount.path}.options", remedy="leave the option out")


def is_mapped(number: int, maps: tuple[IdMap, ...]) -> bool:
    """Return whether an id inside the namespace has one outside."""
    return any(m.inside <= number < m.inside + m.size for m in maps)
