"""config.json of a bundle directory, read strictly where values matter.

Unknown members are ignored, as runtime-spec demands (config.md "Extensibility"); a value that is wrong, or that asks for something that
this runtime does not do, is refused with its JSON path. Nothing is skipped silently: what would confine a container and is not
supported (AppArmor, SELinux, hooks, id-mapped mounts …) is refused by name.

Source: OCI runtime-spec 1.2, config.md and config-linux.md.
"""

from __future__ import annotations

import stat

from sigkit import limits, strict
from sigkit.errors import InvalidConfig, Place, UnsupportedConfig
from sigkit.runtime.capabilities import NAMES
from sigkit.runtime.mount_options import parse_options
from sigkit.runtime.spec import Capabilities, Config, Device, DeviceRule, IdMap, Mount, Namespace, Process, Resources, Rlimit, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.strict import Cursor

NAMESPACES = ("mount", "pid", "ipc", "uts", "network", "cgroup", "user", "time")
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
ID_MOST = 2**32 - 2  # 2**32 - 1 means "no change" to setresuid (CVE-2016-3697's family)
# Members that confine or change the process, and that this runtime does not do. Each is refused unless empty.
_UNSUPPORTED_PROCESS = ("apparmorProfile", "selinuxLabel", "scheduler", "ioPriority", "execCPUAffinity")
_UNSUPPORTED_LINUX = ("intelRdt", "mountLabel", "timeOffsets", "personality", "netDevices", "memoryPolicy")
_UNSUPPORTED_RESOURCES = ("blockIO", "hugepageLimits", "network", "rdma", "unified")
_UNSUPPORTED_CPU = ("cpus", "mems", "realtimeRuntime", "realtimePeriod", "idle")


def parse_config(raw: bytes, place: Place) -> Config:
    """Parse config.json.

    Args:
        raw: the file's bytes.
        place: the file.

    Raises:
        ParseError, LimitError: not strict JSON, or a member of a wrong type.
        InvalidConfig: a value that the format does not allow.
        UnsupportedConfig: a value that this runtime does not do.
    """
    top = strict.parse_json(raw, most_bytes=limits.RUNTIME_CONFIG_BYTES, place=place, most_integer=strict.UINT64_MAX)
    version = top.member("ociVersion")
    if not version.text().startswith("1."):
        invalid(version, "a version that this runtime does not know", expected="1.x")
    hooks = top.find("hooks")
    if hooks is not None:
        for name, programs in hooks.object().items():
            if programs:
                unsupported(hooks, f"hooks.{name}")
    root = top.member("root")
    config = Config(version.text(), _process(top.member("process")), path_text(root.member("path")), _mounts(top))
    config.root_readonly = _flag(root, "readonly")
    config.hostname, config.domainname = _optional_text(top, "hostname"), _optional_text(top, "domainname")
    annotations = top.find("annotations")
    if annotations is not None:
        config.annotations = annotations.texts(limits.ANNOTATIONS)
    linux = top.find("linux")
    if linux is not None:
        _linux(linux, config)
    return config


def invalid(cursor: Cursor, problem: str, *, expected: str = "") -> None:
    """Refuse a value.

    Raises:
        InvalidConfig: always.
    """
    raise InvalidConfig(problem, place=cursor.at(), expected=expected, got=strict.describe(cursor.value))


def unsupported(cursor: Cursor, what: str) -> None:
    """Refuse what this runtime does not do.

    Raises:
        UnsupportedConfig: always.
    """
    raise UnsupportedConfig(f"{what} is not supported by sigkit-runtime", place=cursor.at(), remedy="remove it, or use another runtime")


def _refuse_unsupported(cursor: Cursor, names: tuple[str, ...]) -> None:
    for name in names:
        found = cursor.find(name)
        if found is not None and found.value not in ("", [], {}):
            unsupported(found, name)


def plain_text(cursor: Cursor) -> str:
    """Return a string that a system call can take: without NUL."""
    text = cursor.text()
    if "\0" in text:
        invalid(cursor, "a NUL character")
    return text


def path_text(cursor: Cursor) -> str:
    """Return a path that is not empty."""
    text = plain_text(cursor)
    if not text:
        invalid(cursor, "an empty path")
    return text


def in_root_path(cursor: Cursor) -> str:
    """Return an absolute path inside the container, without `..` (CVE-2022-23648)."""
    text = path_text(cursor)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        invalid(cursor, "a path that climbs", expected="no `..`")
    return "/" + "/".join(parts)


def _absolute(cursor: Cursor) -> str:
    if not path_text(cursor).startswith("/"):
        invalid(cursor, "a relative path", expected="an absolute path")
    return in_root_path(cursor)


def _optional_text(cursor: Cursor, name: str) -> str:
    found = cursor.find(name)
    return "" if found is None else plain_text(found)


def _flag(cursor: Cursor, name: str) -> bool:
    found = cursor.find(name)
    return found is not None and found.boolean()


def _number(cursor: Cursor, name: str, least: int = 0, most: int = strict.INT64_MAX) -> int | None:
    found = cursor.find(name)
    return None if found is None else found.integer(least, most)


def _texts(cursor: Cursor, name: str, most: int = limits.RUNTIME_ITEMS) -> tuple[str, ...]:
    found = cursor.find(name)
    return () if found is None else tuple(plain_text(item) for item in found.items(most))


def _process(cursor: Cursor) -> Process:
    if _flag(cursor, "terminal"):
        unsupported(cursor.member("terminal"), "a terminal")
    _refuse_unsupported(cursor, _UNSUPPORTED_PROCESS)
    args = cursor.member("args")
    if not args.items(limits.RUNTIME_ARGUMENTS):
        invalid(args, "no program", expected="at least one argument")
    if not plain_text(args.items(limits.RUNTIME_ARGUMENTS)[0]):
        invalid(args, "an empty program name")
    env = cursor.find("env")
    for entry in () if env is None else env.items(limits.RUNTIME_ARGUMENTS):
        if plain_text(entry).partition("=")[0] == "" or "=" not in entry.text():
            invalid(entry, "not NAME=value")
    process = Process(
        _user(cursor.find("user")),
        _texts(cursor, "args", limits.RUNTIME_ARGUMENTS),
        _texts(cursor, "env", limits.RUNTIME_ARGUMENTS),
        _absolute(cursor.member("cwd")),
        _capabilities(cursor.find("capabilities")),
        _rlimits(cursor.find("rlimits")),
    )
    process.no_new_privileges = _flag(cursor, "noNewPrivileges")
    process.oom_score_adj = _number(cursor, "oomScoreAdj", -1000, 1000)
    return process


def _user(cursor: Cursor | None) -> User:
    if cursor is None:
        return User(0, 0, (), 0o022)
    groups = cursor.find("additionalGids")
    umask = _number(cursor, "umask", 0, 0o777)
    return User(
        cursor.member("uid").integer(0, ID_MOST),
        cursor.member("gid").integer(0, ID_MOST),
        () if groups is None else tuple(g.integer(0, ID_MOST) for g in groups.items(limits.RUNTIME_GROUPS)),
        0o022 if umask is None else umask,
    )


def _capabilities(cursor: Cursor | None) -> Capabilities:
    sets: dict[str, tuple[str, ...]] = {}
    for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        found = None if cursor is None else cursor.find(name)
        for item in () if found is None else found.items(limits.RUNTIME_ITEMS):
            if item.text() not in NAMES:
                invalid(item, "an unknown capability", expected="a name such as CAP_CHOWN")
        sets[name] = () if cursor is None else _texts(cursor, name)
    for inner, outer in (("effective", "permitted"), ("ambient", "permitted")):
        for name in sets[inner]:
            if name not in sets[outer] and cursor is not None:
                invalid(cursor.member(inner), f"{name} is not in {outer}")
    return Capabilities(sets)


def _rlimits(cursor: Cursor | None) -> tuple[Rlimit, ...]:
    found: list[Rlimit] = []
    for item in () if cursor is None else cursor.items(len(RLIMITS)):
        kind = item.member("type")
        if kind.text() not in RLIMITS:
            invalid(kind, "an unknown limit", expected="one of " + ", ".join(RLIMITS))
        number = RLIMITS[kind.text()]
        if any(other.number == number for other in found):
            invalid(kind, "a limit that is there twice")
        soft, hard = _rlimit_value(item.member("soft")), _rlimit_value(item.member("hard"))
        if soft > hard:
            invalid(item, "soft is above hard")
        found.append(Rlimit(number, soft, hard, item.path))
    return tuple(found)


def _rlimit_value(cursor: Cursor) -> int:
    # RLIM_INFINITY is 2**64 - 1; some engines write -1 for it.
    value = cursor.integer(-1, strict.UINT64_MAX)
    return strict.UINT64_MAX if value == -1 else value


def _mounts(top: Cursor) -> tuple[Mount, ...]:
    cursor = top.find("mounts")
    mounts: list[Mount] = []
    for item in () if cursor is None else cursor.items(limits.RUNTIME_ITEMS):
        destination = item.member("destination")
        where = in_root_path(destination)
        if where == "/":
            invalid(destination, "a mount over the whole root")
        _refuse_unsupported(item, ("uidMappings", "gidMappings"))
        options = parse_options(item)
        kind = "bind" if options.bind else _optional_text(item, "type")
        if not kind or kind == "none":
            invalid(item, "a mount without type", expected="a file system type, or the option bind")
        source = _optional_text(item, "source")
        if kind == "bind" and not source:
            invalid(item, "a bind mount without source")
        mounts.append(Mount(where, kind, source, options, item.path))
    return tuple(mounts)


def _linux(cursor: Cursor, config: Config) -> None:
    _refuse_unsupported(cursor, _UNSUPPORTED_LINUX)
    propagation = cursor.find("rootfsPropagation")
    if propagation is not None and propagation.value not in ("", "private", "rprivate"):
        unsupported(propagation, "a root that is not mounted privately")
    config.namespaces = _namespaces(cursor.find("namespaces"))
    config.uid_mappings, config.gid_mappings = _id_maps(cursor.find("uidMappings")), _id_maps(cursor.find("gidMappings"))
    devices = cursor.find("devices")
    config.devices = () if devices is None else tuple(_device(item) for item in devices.items(limits.RUNTIME_ITEMS))
    cgroups_path = cursor.find("cgroupsPath")
    if cgroups_path is not None and cgroups_path.value != "":
        config.cgroups_path = in_root_path(cgroups_path)
    resources = cursor.find("resources")
    if resources is not None:
        config.resources = _resources(resources)
    sysctl = cursor.find("sysctl")
    if sysctl is not None:
        config.sysctl = sysctl.texts(limits.RUNTIME_ITEMS)
    config.masked = _paths(cursor.find("maskedPaths"))
    config.readonly = _paths(cursor.find("readonlyPaths"))
    config.seccomp = cursor.find("seccomp")


def _paths(cursor: Cursor | None) -> tuple[str, ...]:
    found = () if cursor is None else tuple(_absolute(item) for item in cursor.items(limits.RUNTIME_ITEMS))
    return tuple(dict.fromkeys(found))


def _namespaces(cursor: Cursor | None) -> tuple[Namespace, ...]:
    found: list[Namespace] = []
    for item in () if cursor is None else cursor.items(len(NAMESPACES)):
        kind = item.member("type")
        if kind.text() not in NAMESPACES:
            invalid(kind, "an unknown kind of namespace", expected="one of " + ", ".join(NAMESPACES))
        if any(other.kind == kind.text() for other in found):
            invalid(kind, "a kind of namespace that is there twice")
        path = item.find("path")
        if path is not None and path.value != "" and not path.text().startswith("/"):
            invalid(path, "a relative path", expected="an absolute path")
        found.append(Namespace(kind.text(), _optional_text(item, "path"), item.path))
    return tuple(found)


def _id_maps(cursor: Cursor | None) -> tuple[IdMap, ...]:
    found: list[IdMap] = []
    for item in () if cursor is None else cursor.items(limits.RUNTIME_ID_MAPS):
        inside, outside = item.member("containerID").integer(0, ID_MOST), item.member("hostID").integer(0, ID_MOST)
        size = item.member("size").integer(1, ID_MOST)
        if max(inside, outside) + size - 1 > ID_MOST:
            invalid(item, "a range beyond the last id")
        found.append(IdMap(inside, outside, size))
    return tuple(found)


_DEVICE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def _device(cursor: Cursor) -> Device:
    kind = cursor.member("type")
    if kind.text() not in _DEVICE_TYPES:
        invalid(kind, "an unknown type of device", expected="c, b, u or p")
    path = cursor.member("path")
    if not _absolute(path).startswith("/dev/"):
        unsupported(path, "a device outside /dev")
    number = (0, 0)
    if kind.text() != "p":
        number = (cursor.member("major").integer(0, 4095), cursor.member("minor").integer(0, 2**20 - 1))
    mode = _number(cursor, "fileMode")
    return Device(
        _absolute(path),
        _DEVICE_TYPES[kind.text()],
        number,
        # podman writes the type bits into it.
        0o666 if mode is None else mode & 0o7777,
        (_number(cursor, "uid", 0, ID_MOST) or 0, _number(cursor, "gid", 0, ID_MOST) or 0),
        cursor.path,
    )


def _resources(cursor: Cursor) -> Resources:
    _refuse_unsupported(cursor, _UNSUPPORTED_RESOURCES)
    resources = Resources()
    memory = cursor.find("memory")
    if memory is not None:
        _refuse_unsupported(memory, ("kernel", "kernelTCP"))
        resources.memory_limit = _number(memory, "limit", -1)
        resources.memory_reservation = _number(memory, "reservation", -1)
        resources.memory_swap = _number(memory, "swap", -1)
        resources.memory_swappiness = _number(memory, "swappiness", 0, 100)
        resources.oom_killer_off = _flag(memory, "disableOOMKiller")
        if resources.memory_limit is not None and 0 < resources.memory_limit < limits.RUNTIME_MEMORY_LEAST_BYTES:
            # v1 takes 4,096 bytes and then kills whoever joins.
            invalid(memory.member("limit"), "too little memory to start", expected=f"at least {limits.RUNTIME_MEMORY_LEAST_BYTES}")
        if resources.memory_swap is not None and resources.memory_swap > 0:
            if resources.memory_limit is None or resources.memory_limit <= 0:
                invalid(memory.member("swap"), "swap without a memory limit")
            elif resources.memory_swap < resources.memory_limit:
                invalid(memory.member("swap"), "memory and swap together are less than memory alone")
    cpu = cursor.find("cpu")
    if cpu is not None:
        _refuse_unsupported(cpu, _UNSUPPORTED_CPU)
        resources.cpu_shares = _number(cpu, "shares", 2, 262144)
        resources.cpu_quota = _number(cpu, "quota", -1)
        resources.cpu_period = _number(cpu, "period", 1000, 1_000_000)
        resources.cpu_burst = _number(cpu, "burst")
        if resources.cpu_burst and (resources.cpu_quota is None or resources.cpu_burst > resources.cpu_quota):
            invalid(cpu.member("burst"), "above the quota")
    pids = cursor.find("pids")
    if pids is not None:
        resources.pids = pids.member("limit").integer(-1)
    devices = cursor.find("devices")
    if devices is not None:
        resources.devices = tuple(_device_rule(item) for item in devices.items(limits.RUNTIME_ITEMS))
    return resources


def _device_rule(cursor: Cursor) -> DeviceRule:
    kind = _optional_text(cursor, "type") or "a"
    if kind not in {"a", "b", "c"}:
        invalid(cursor.member("type"), "an unknown type of device", expected="a, b or c")
    access = _optional_text(cursor, "access") or "rwm"
    if not frozenset("rwm").issuperset(access):
        invalid(cursor.member("access"), "an unknown access", expected="letters of rwm")
    # -1 is written for "all", as an absent member is.
    numbers = [_number(cursor, name, -1) for name in ("major", "minor")]
    major, minor = (None if number == -1 else number for number in numbers)
    return DeviceRule(cursor.member("allow").boolean(), kind, major, minor, access)
