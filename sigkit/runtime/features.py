"""What this runtime can do (OCI runtime-spec, features.md): only what is true, for absent does not mean no."""

from __future__ import annotations

from sigkit.errors import HostUnfit
from sigkit.runtime import capabilities, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.strict import Json


def features() -> dict[str, Json]:
    """Return the document that `features` prints."""
    from sigkit.runtime.mount_options import known_options

    try:
        seccomp.Library()
        filtering: dict[str, Json] = {
            "enabled": True,
            "actions": list(seccomp.known_actions()),
            "operators": list(seccomp.known_operators()),
            "knownFlags": list(seccomp.known_flags()),
            "supportedFlags": list(seccomp.known_flags()),
        }
    except HostUnfit:
        filtering = {"enabled": False}
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "hooks": [],
        "mountOptions": list(known_options()),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": filtering,
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "netDevices": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
    }
