"""Bundle directories made from this machine's own files, run through the real command line, and a search for what they leave behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

import sigkit.runtime
from sigkit.runtime.capabilities import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RUNTIME = Path(sigkit.runtime.__file__).parent
CLI = RUNTIME / "cli.py"
TOOLS = ("sh", "cat", "ls", "id", "mkdir", "mknod", "sleep", "env", "hostname", "kill", "dd", "touch", "chmod", "head", "readlink", "true")
NOBODY = 65534

_PT_INTERP = 3
_numbers = itertools.count()


def is_static(path: Path) -> bool:
    """Say whether an ELF program runs without a loader."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        return False
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    return all(struct.unpack_from("<I", data, offset + index * size)[0] != _PT_INTERP for index in range(count))


def find_busybox() -> Path | None:
    """Find a static busybox."""
    peers = Path(os.environ.get("SIGKIT_PEERS", "/var/cache/sigkit-peers/root"))
    for candidate in (Path("/bin/busybox"), Path("/usr/bin/busybox"), peers / "usr/bin/busybox", peers / "bin/busybox"):
        if candidate.is_file() and is_static(candidate):
            return candidate
    return None


def make_rootfs(root: Path) -> Path:
    """Fill a small root file system: a static busybox, or this machine's shell and tools with their libraries."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    busybox = find_busybox()
    if busybox is not None:
        shutil.copy(busybox, root / "bin/busybox")
        for tool in TOOLS:
            (root / "bin" / tool).symlink_to("busybox")
        return root
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"neither a static busybox nor {tool} on this machine")
        shutil.copy(os.path.realpath(found), root / "bin" / tool)
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        for library in {word for word in listed.split() if word.startswith("/")}:
            target = root / library.lstrip("/")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, target)
    return root


def make_config(*args: str) -> dict[str, Any]:
    """Return a config.json as an engine writes it, for a program with the default confinement."""
    return {
        "ociVersion": "1.2.1",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": list(DEFAULT), "effective": list(DEFAULT), "permitted": list(DEFAULT)},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


class Bundle:
    """A bundle directory to be changed and run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rootfs = make_rootfs(path / "bundle/rootfs")
        self.directory = path / "bundle"
        self.state_root = path / "state"
        self.config = make_config("true")
        self.id = f"sigkit-test-{os.getpid()}-{next(_numbers)}"
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End what a failed test left running, and demand that nothing else is left."""
        for running in self._started:
            if running.poll() is None:
                running.kill()
                running.communicate(timeout=30)
                subprocess.run(self.command("delete", "--force", self.id), check=False)
        assert self.leftovers() == []

    def write(self, *args: str) -> None:
        """Write config.json, for the program `args` if given."""
        if args:
            self.config["process"]["args"] = list(args)
        (self.directory / "config.json").write_text(json.dumps(self.config))

    def command(self, *words: str) -> list[str]:
        """Return the command line of sigkit-runtime."""
        return [sys.executable, "-I", "-S", str(CLI), "--root", str(self.state_root), *words]

    def run(
        self,
        *args: str,
        options: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the program `args` (or what config.json says) in a container and return what it printed and its status."""
        self.write(*args)
        return subprocess.run(
            self.command("run", "--bundle", str(self.directory), *options, self.id),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            pass_fds=pass_fds,
            env=env,
            stdin=subprocess.DEVNULL,
            cwd=self.path,  # the launcher inherits it: so it is found if it is left behind
        )

    def shell(self, script: str) -> str:
        """Run a shell script inside and return what it printed; it must succeed."""
        done = self.run("sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *args: str, options: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start the program and return the runtime's process, its output piped."""
        self.write(*args)
        running = subprocess.Popen(
            self.command("run", "--bundle", str(self.directory), *options, self.id),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.path,
        )
        self._started.append(running)
        return running

    def leftovers(self) -> list[str]:
        """Return every mount, cgroup, process and state of this bundle that is still on the host."""
        found = [f"mount: {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.path) in line]
        for top, directories, _ in os.walk("/sys/fs/cgroup"):
            found += [f"cgroup: {top}/{name}" for name in directories if self.id in name]
        found += [f"process: {pid}" for pid in processes_of(self.path)]
        if self.state_root.is_dir():
            found += [f"state: {name}" for name in os.listdir(self.state_root) if name != "seccomp"]
        return found


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """Give a directory that an ordinary user can reach: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="sigkit-", dir="/tmp") as name:
        os.chmod(name, 0o755)  # noqa: S103 (that is its purpose)
        yield Path(name)


def processes_of(path: Path) -> list[int]:
    """Return the processes whose root directory, working directory or command line lies in `path`."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes()
            places = [os.readlink(f"/proc/{name}/{link}") for link in ("root", "cwd")]
        except OSError:
            continue  # it has ended, or is a kernel thread
        if os.fsencode(path) in words or any(place.startswith(str(path)) for place in places):
            found.append(int(name))
    return found


def plain_python() -> str:
    """Return an interpreter that an ordinary user can start, or skip."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if os.access(candidate, os.X_OK) and is_reachable(candidate) and is_reachable(str(CLI)):
            done = subprocess.run([candidate, "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False)
            if done.returncode == 0:
                return candidate
    pytest.skip("no interpreter, or no checkout, that an ordinary user can read")


def is_reachable(path: str) -> bool:
    """Say whether everyone may walk to `path` and read it."""
    if not os.stat(path).st_mode & 0o004:
        return False
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 0o001:
            return False
    return True
