"""Turns an image's configuration and an admission into a config.json for the OCI runtime. Pure.

For each value what the user asked for comes first, then the image, then the engine; the admission's confinement caps all, whatever the
image says. Labels, exposed ports and health checks of an image are data only: nothing here acts on them.

Volumes are plain directories of the container's writable layer, which ends with the container; what the image has there is seen there.

Source: OCI image-spec 1.1 config.md and conversion.md; OCI runtime-spec 1.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.engine.admission import UNLIMITED, MountAccess, Network
from sigkit.errors import NothingToRun, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.engine.account import Account
    from sigkit.engine.admission import Admission, BindMount, Confinement
    from sigkit.oci.image import ImageConfig
    from sigkit.strict import Json

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UMASK = 0o022
_CPU_PERIOD_US = 100_000
_STOP_SIGNAL = "org.opencontainers.image.stopSignal"

_QUIET = ["nosuid", "noexec", "nodev"]
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# What programs expect to be able to write although the root is read-only.
_WRITABLE_BESIDE_READ_ONLY = ("/run", "/tmp", "/var/tmp")  # noqa: S108 (paths inside the container)


class Surroundings(Data):
    """What the engine adds: the container's host name, and its own files by where they appear inside."""

    hostname: str
    files: Mapping[str, str]
    seccomp: Json
    # The limit of processes that holds where neither user nor rule says another; None where this host cannot hold it.
    pids: int | None = None


def arguments(config: ImageConfig, admission: Admission) -> tuple[str, ...]:
    """Return the command line that the container runs.

    Raises:
        NothingToRun: (RUNTIME) neither the image nor the user names a program.
    """
    argv = config.argv(admission.entrypoint, admission.command)
    if not argv or not argv[0]:
        raise NothingToRun("no command to run", place=Place(f"{admission.repository}@{admission.config}", "$.config.Entrypoint"))
    return argv


def environment(config: ImageConfig, admission: Admission, account: Account, hostname: str) -> tuple[str, ...]:
    """Return the container's variables, built from nothing: the host's are not among them (CVE-2021-3602)."""
    variables = {"PATH": _PATH, "HOME": account.home, "HOSTNAME": hostname}
    for variable in config.env:
        name, _, value = variable.partition("=")
        variables[name] = value
    variables.update(admission.environment)
    return tuple(f"{name}={value}" for name, value in variables.items())


def working_directory(config: ImageConfig, admission: Admission) -> str:
    """Return where the program starts."""
    return admission.confinement.working_dir or config.working_dir or "/"


def make_spec(config: ImageConfig, admission: Admission, account: Account, surroundings: Surroundings) -> dict[str, Json]:
    """Return the document for config.json; its root file system lies at `rootfs` beside it.

    Raises:
        NothingToRun: (RUNTIME) there is no program.
    """
    confinement = admission.confinement
    held: list[Json] = list(confinement.capabilities)
    # Root has exactly the granted set; any other user has none, and file capabilities of the image can give no more than it.
    acting: list[Json] = held if account.uid == 0 else []
    spec: dict[str, Json] = {
        "ociVersion": "1.2.1",
        "process": {
            "terminal": False,
            "user": {"uid": account.uid, "gid": account.gid, "umask": _UMASK, "additionalGids": list(account.groups)},
            "args": list(arguments(config, admission)),
            "env": list(environment(config, admission, account, surroundings.hostname)),
            "cwd": working_directory(config, admission),
            "capabilities": {"bounding": held, "effective": acting, "permitted": acting},
            "noNewPrivileges": confinement.no_new_privileges,
        },
        "root": {"path": "rootfs", "readonly": confinement.read_only},
        "hostname": surroundings.hostname,
        "mounts": _mounts(admission, surroundings),
        "linux": {
            "namespaces": [{"type": kind} for kind in _namespaces(confinement.network)],
            "resources": _resources(confinement, surroundings),
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            "seccomp": surroundings.seccomp,
        },
    }
    if config.stop_signal:
        spec["annotations"] = {_STOP_SIGNAL: config.stop_signal}
    return spec


def _namespaces(network: Network) -> tuple[str, ...]:
    own = ("pid", "ipc", "uts", "mount", "cgroup")
    return own if network is Network.HOST else (*own, "network")


def _resources(confinement: Confinement, surroundings: Surroundings) -> Json:
    resources: dict[str, Json] = {"devices": [{"allow": False, "access": "rwm"}]}
    if confinement.memory_bytes is not None:
        resources["memory"] = {"limit": confinement.memory_bytes}
    pids = surroundings.pids if confinement.pids is None else confinement.pids
    if pids not in {None, UNLIMITED}:
        resources["pids"] = {"limit": pids}
    if confinement.cpus is not None:
        resources["cpu"] = {"quota": max(1_000, int(confinement.cpus * _CPU_PERIOD_US)), "period": _CPU_PERIOD_US}
    return resources


def _mounts(admission: Admission, surroundings: Surroundings) -> list[Json]:
    confinement = admission.confinement
    mounts: list[Json] = [
        _mount("/proc", "proc", "proc", _QUIET),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        _mount("/dev/shm", "tmpfs", "shm", [*_QUIET, "mode=1777", "size=65536k"]),  # noqa: S108 (inside)
        _mount("/dev/mqueue", "mqueue", "mqueue", _QUIET),
        _mount("/sys", "sysfs", "sysfs", [*_QUIET, "ro"]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*_QUIET, "ro"]),
    ]
    if confinement.read_only:
        mounts += [_mount(path, "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=1777"]) for path in _WRITABLE_BESIDE_READ_ONLY]
    mounts += [_mount(inside, "bind", outside, ["bind", "rprivate", *_QUIET]) for inside, outside in surroundings.files.items()]
    mounts += [_bind(mount) for mount in confinement.mounts]
    return mounts


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Json:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(mount: BindMount) -> Json:
    # Device nodes and setuid programs below it are the host's: neither acts in the container.
    options = ["rbind", "rprivate", "nosuid", "nodev"]
    if mount.access is MountAccess.READ_ONLY:
        # A plain `ro` would leave what is mounted below the source writable.
        options += ["ro", "rro"]
    return _mount(mount.destination, "bind", mount.source, options)
