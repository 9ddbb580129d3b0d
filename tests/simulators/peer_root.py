"""The peers' root: Debian sid with cosign, crun, podman and the others, in a mount namespace of its own.

One holder process owns the namespace. Its root is an overlay of the peers' root with a tmpfs on top, so nothing that a peer
writes outside /tmp is left behind; /dev, /sys, /tmp and the checkout are those of the machine, at the same paths. The cgroup2
tree is hidden where a machine has it beside v1, because crun refuses that layout. It is a pivoted root, not a chroot: user
namespaces can be made in it.

Processes are not in a PID namespace: what a test starts with `start` is its own to end.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
PLAIN_USER = "plain"

_HOLDER = r"""
set -eu
lower=$1 checkout=$2
base=$lower.mnt; [ -d "$base" ] || mkdir "$base"
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
root=$base/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount --rbind /tmp "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir -p "$root$checkout"
case $checkout in /tmp/*) ;; *) mount --bind "$checkout" "$root$checkout" ;; esac
# Hybrid cgroups: v2 beside v1, without the controllers that a runtime wants.
if mountpoint -q "$root/sys/fs/cgroup/unified"; then umount "$root/sys/fs/cgroup/unified"; fi
mkdir "$root/.old"
cd "$root"
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
mount --make-rshared /
PATH=/usr/sbin:/usr/bin:/sbin:/bin
id plain >/dev/null 2>&1 || useradd -m plain
echo plain:200000:65536 >/etc/subuid
echo plain:200000:65536 >/etc/subgid
install -d -m 700 -o plain -g plain "/run/user/$(id -u plain)"
echo ready
exec cat >/dev/null
"""


def find_root() -> Path:
    """Return where the peers' root is or should be (`.ci/peers` uses the same)."""
    return Path(os.environ.get("SIGKIT_PEERS") or "/var/cache/sigkit-peers/root")


def why_absent() -> str:
    """Return why no peer can be run here, or nothing when they can."""
    if os.geteuid() != 0:
        return "peers need root: their root is entered by mount namespace"
    if not (find_root() / ".complete").exists():
        return f"no peers at {find_root()}: run .ci/peers as root"
    return ""


class PeerRoot:
    """Runs peers. Call it as `peer("cosign", "verify", "--key", path, image)`."""

    def __init__(self, holder: subprocess.Popen[bytes]) -> None:
        self._holder = holder

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator[Self]:
        """Make the namespace, and let it go at the end."""
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLDER, "-", str(find_root()), str(CHECKOUT)]
        # The holder lives until its standard input closes, so it cannot outlive this process.
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            if holder.stdout.readline() != b"ready\n":
                message = f"the peers' namespace could not be made (exit {holder.wait()})"
                raise RuntimeError(message)
            yield cls(holder)

    def command(
        self, program: str, *args: str | Path, env: Mapping[str, str] | None = None, cwd: str | Path = "/", user: str = "root"
    ) -> list[str]:
        """Return the command line that runs `program` in there, for a test that needs its own Popen.

        Args:
            program: found in the peers' root.
            args: paths below /tmp and the checkout are the same inside and outside.
            env: added to PATH and HOME; nothing else of this process's environment goes in.
            cwd: a directory inside.
            user: `root`, or `plain`, who has subordinate ids and an XDG_RUNTIME_DIR.
        """
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        become: list[str] = []
        if user == "root":
            variables["HOME"] = "/root"
        else:
            variables |= {"HOME": f"/home/{user}", "XDG_RUNTIME_DIR": "/run/user/1000"}
            become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
        variables |= env or {}
        return [
            *("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--", "env", "-i", "-C", str(cwd)),
            *(f"{name}={value}" for name, value in variables.items()),
            *become,
            program,
            *map(str, args),
        ]

    def __call__(
        self,
        program: str,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        user: str = "root",
        stdin: str = "",
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a peer to its end and return status, stdout and stderr; its status is the caller's to judge.

        The arguments are those of `command`; `stdin` is fed to it.
        """
        return subprocess.run(
            self.command(program, *args, env=env, cwd=cwd, user=user),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


class RunningRegistry(NamedTuple):
    """A docker-registry on loopback."""

    address: str  # "127.0.0.1:PORT", plain HTTP
    storage: Path  # docker/registry/v2/blobs/sha256/ab/ab…/data, to look into or to damage


@contextlib.contextmanager
def docker_registry(peer: PeerRoot, directory: Path) -> Iterator[RunningRegistry]:
    """Run Debian's docker-registry (no referrers API) on a port that the kernel picks, with its files in `directory`."""
    storage = directory / "registry"
    storage.mkdir()
    config = directory / "registry.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: info}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}\n"
        "http: {addr: '127.0.0.1:0'}\n"
    )
    command = peer.command("docker-registry", "serve", config)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = []
            for line in server.stderr:
                said.append(line)
                if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                    break
            else:
                raise RuntimeError("docker-registry ended before it listened: " + "".join(said[-5:]))
            drain = threading.Thread(target=server.stderr.read, daemon=True)
            drain.start()
            yield RunningRegistry(found[1], storage)
        finally:
            server.terminate()
            server.wait()
        drain.join()
