"""Containers of an ordinary user, on the real kernel: the runtime runs as nobody, without any capability."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.simulators.bundles import CLI, NOBODY, Bundle, open_directory, plain_python

pytestmark = pytest.mark.root  # to become an ordinary user


class PlainBundle(Bundle):
    """A bundle directory that belongs to an ordinary user."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.python = plain_python()

    def write(self, *args: str) -> None:
        super().write(*args)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(self.path)], check=True)

    def command(self, *words: str) -> list[str]:
        plain = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--bounding-set=-all"]
        return [*plain, self.python, "-I", "-S", str(CLI), "--root", str(self.state_root), *words]


@pytest.fixture
def bundle():
    with open_directory() as directory, PlainBundle(directory) as made:
        yield made


def test_plain_user_is_root_inside_and_himself_outside(bundle):
    assert bundle.shell("id -u; cat /proc/self/uid_map; touch /etc/made").split() == ["0", "0", str(NOBODY), "1"]
    assert (bundle.rootfs / "etc/made").stat().st_uid == NOBODY


def test_plain_user_gets_every_namespace(bundle):
    kinds = ("mnt", "pid", "ipc", "uts", "net", "cgroup", "user")
    inside = bundle.shell(f"for n in {' '.join(kinds)}; do readlink /proc/self/ns/$n; done").split()
    assert not set(inside) & {os.readlink(f"/proc/self/ns/{name}") for name in kinds}


def test_devices_are_the_hosts_bound_and_work(bundle):
    assert bundle.run("dd", "if=/dev/urandom", "of=/dev/null", "bs=8", "count=1").returncode == 0


def test_overlay_is_mounted_in_the_users_own_namespace(bundle):
    for name in ("upper", "work", "merged"):
        (bundle.path / name).mkdir()
    bundle.config["root"]["path"] = str(bundle.path / "merged")
    bundle.write("sh", "-c", "echo new > /etc/new; rm /etc/group 2>/dev/null || true; touch /etc/passwd")
    options = f"lowerdir={bundle.rootfs},upperdir={bundle.path}/upper,workdir={bundle.path}/work,userxattr"
    script = f"""
import sys
sys.path.append({str(CLI.parents[2])!r})
from sigkit.runtime.create import run_bundle
sys.exit(run_bundle({str(bundle.directory)!r}, {bundle.id!r}, state_root={str(bundle.state_root)!r},
                    rootfs_mount=("overlay", "overlay", {options!r})))
"""
    plain = bundle.command()[: bundle.command().index(bundle.python)]
    done = subprocess.run([*plain, bundle.python, "-I", "-S", "-c", script], cwd=bundle.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (bundle.path / "upper/etc/new").read_text() == "new\n"
    assert not (bundle.rootfs / "etc/new").exists()


def test_host_network_without_root_still_has_sys(bundle):
    bundle.config["linux"]["namespaces"] = [n for n in bundle.config["linux"]["namespaces"] if n["type"] != "network"]
    assert bundle.shell("readlink /proc/self/ns/net; ls /sys").split()[0] == os.readlink("/proc/self/ns/net")


def test_user_who_is_not_mapped_is_refused_with_the_way_out(bundle):
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 0}
    done = bundle.run("true")
    assert done.returncode == 1
    assert "$.process.user.uid" in done.stderr
    assert "/etc/subuid" in done.stderr


def test_limit_without_a_delegated_cgroup_is_refused_and_not_ignored(bundle):
    bundle.config["linux"]["resources"] = {"pids": {"limit": 10}}
    done = bundle.run("true")
    assert done.returncode == 1
    assert "SK-RUNTIME-006" in done.stderr


@pytest.mark.skipif(not Path("/sys/fs/cgroup/pids").is_dir(), reason="needs cgroup v1")
def test_limit_in_a_delegated_cgroup_holds(bundle):
    delegated = Path(f"/sys/fs/cgroup/pids/{bundle.id}-delegated")
    delegated.mkdir()
    try:
        os.chown(delegated, NOBODY, NOBODY)
        bundle.config["linux"]["cgroupsPath"] = f"/{delegated.name}/container"
        bundle.config["linux"]["resources"] = {"pids": {"limit": 10}}
        assert bundle.shell("cat /sys/fs/cgroup/pids/pids.max") == "10\n"
    finally:
        delegated.rmdir()


def test_interpreter_is_a_sealed_copy_without_root(bundle):
    running = bundle.start("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    assert running.stdout.readline() == "ready\n"
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert [os.readlink(f"/proc/{child}/exe") for child in children] == ["/memfd:sigkit-launcher (deleted)"]
    running.terminate()
    running.communicate(timeout=30)
    assert running.returncode == 0


def test_plain_user_can_run_here(bundle):
    script = f"import sys; sys.path.append({str(CLI.parents[2])!r}); from sigkit.runtime.create import can_run; print(repr(can_run()))"
    plain = bundle.command()[: bundle.command().index(bundle.python)]
    done = subprocess.run([*plain, bundle.python, "-I", "-S", "-c", script], cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout == "''\n"


def test_host_without_user_namespaces_is_told_in_plain_words(bundle):
    """In a chroot the kernel makes no user namespace: the plainest of the ways in which a host can forbid them."""
    script = f"import sys; sys.path.append({str(CLI.parents[2])!r}); from sigkit.runtime.create import can_run; print(can_run())"
    mounts = "mount --rbind / /mnt && exec chroot /mnt"
    plain = " ".join(bundle.command()[: bundle.command().index(bundle.python)])
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{mounts} {plain} {bundle.python} -I -S -c "$1"', "sh", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "user namespace" in done.stdout
    assert "EPERM" in done.stdout


CHROOT = """
mount -t tmpfs tmpfs "$1" && mkdir "$1/root" && cd "$1/root" || exit 9
for d in /*; do
    if [ -L "$d" ]; then cp -a "$d" .; elif [ -d "$d" ]; then mkdir ".$d"; mount --rbind "$d" ".$d"; fi
done
exec chroot . "$2" -I -S -c "$3"
"""


def test_chroot_is_told_in_plain_words_to_root(tmp_path):
    script = f"import sys; sys.path.append({str(CLI.parents[2])!r}); from sigkit.runtime.create import can_run; print(can_run())"
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", CHROOT, "sh", str(tmp_path), plain_python(), script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not a mount point" in done.stdout, done.stderr
