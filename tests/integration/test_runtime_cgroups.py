"""Limits on the real kernel: cgroup v1 as this machine has it, and v2 alone in a mount namespace of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.simulators.bundles import Bundle

pytestmark = pytest.mark.root

V1 = Path("/sys/fs/cgroup/pids").is_dir()
on_v1 = pytest.mark.skipif(not V1, reason="needs cgroup v1")
# Everything but the v2 tree hidden: runtimes take it for a v2 host without the controllers that v1 has.
ONLY_V2 = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec"


@pytest.fixture
def bundle(tmp_path):
    with Bundle(tmp_path) as made:
        yield made


class BundleOnV2(Bundle):
    """A bundle directory run where there is only cgroup v2."""

    def command(self, *words: str) -> list[str]:
        inner = super().command(*words)
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", f'{ONLY_V2} "$@"', "sh", *inner]


@pytest.fixture
def bundle_on_v2(tmp_path):
    with BundleOnV2(tmp_path) as made:
        probe = subprocess.run([*made.command()[:6], f"{ONLY_V2} true"], capture_output=True, check=False)
        if probe.returncode != 0:
            pytest.skip("cgroup v2 cannot be mounted alone here")
        yield made


@on_v1
def test_limits_are_those_of_config_and_seen_inside(bundle):
    bundle.config["linux"]["resources"] = {
        "memory": {"limit": 2**26, "reservation": 2**25},
        "pids": {"limit": 17},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000},
    }
    inside = bundle.shell(
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes pids/pids.max "
        "cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us; ls"
    )
    assert inside.split() == [str(2**26), str(2**25), "17", "512", "50000", "100000", "cpu", "devices", "memory", "pids"]


@on_v1
def test_process_limit_stops_a_fork_bomb(bundle):
    bundle.config["linux"]["resources"] = {"pids": {"limit": 5}}
    done = bundle.run("sh", "-c", "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done; echo all")
    assert "all" not in done.stdout


@on_v1
def test_memory_limit_kills_who_takes_more(bundle):
    bundle.config["linux"]["resources"] = {"memory": {"limit": 2**24}}
    done = bundle.run("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
    assert done.returncode != 0


@on_v1
def test_path_of_config_counts_from_the_mount_point_and_is_removed_with_its_parents(bundle):
    bundle.config["linux"]["cgroupsPath"] = f"/{bundle.id}/below/it"
    bundle.config["linux"]["resources"] = {"pids": {"limit": 17}}
    bundle.config["linux"]["namespaces"] = [n for n in bundle.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    inside = bundle.shell("cat /proc/self/cgroup")
    assert f":pids:/{bundle.id}/below/it" in inside
    assert f":devices:/{bundle.id}/below/it" in inside


@on_v1
def test_cgroup_that_was_there_before_stays(bundle):
    kept = Path(f"/sys/fs/cgroup/pids/{bundle.id}-kept")
    kept.mkdir()
    try:
        bundle.config["linux"]["cgroupsPath"] = f"/{kept.name}"
        bundle.config["linux"]["resources"] = {"pids": {"limit": 17}}
        bundle.shell("true")
        assert kept.is_dir()
    finally:
        kept.rmdir()


@on_v1
def test_refused_limit_leaves_no_cgroup_behind(bundle):
    bundle.config["linux"]["resources"] = {"pids": {"limit": 17}, "cpu": {"shares": 512, "quota": 1}}  # the kernel wants 1 ms
    done = bundle.run("true")
    assert done.returncode == 1
    assert "SK-RUNTIME-006" in done.stderr


def test_container_has_a_cgroup_of_its_own_on_v2(bundle_on_v2):
    inside = bundle_on_v2.shell("cat /proc/self/cgroup /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/evil 2>/dev/null || echo kept out")
    assert "0::/\n" in inside
    assert inside.endswith("kept out\n")


@pytest.mark.parametrize(
    ("resources", "controller"),
    [({"pids": {"limit": 5}}, "pids"), ({"memory": {"limit": 2**26}}, "memory"), ({"cpu": {"shares": 5}}, "cpu")],
)
@on_v1
def test_limit_whose_controller_is_absent_on_v2_is_refused(bundle_on_v2, resources, controller):
    bundle_on_v2.config["linux"]["resources"] = resources
    done = bundle_on_v2.run("true")
    assert done.returncode == 1
    assert f"'{controller}' is not available" in done.stderr


def test_making_device_nodes_is_refused_on_v2_where_no_list_would_hold_them(bundle_on_v2):
    bundle_on_v2.config["process"]["capabilities"]["bounding"].append("CAP_MKNOD")
    done = bundle_on_v2.run("true")
    assert done.returncode == 1
    assert "SK-RUNTIME-002" in done.stderr


@on_v1
def test_killed_runtime_leaves_cgroups_that_delete_removes(bundle):
    bundle.config["linux"]["resources"] = {"pids": {"limit": 17}}
    running = bundle.start("sh", "-c", "echo ready; exec sleep 1000")
    assert running.stdout.readline() == "ready\n"
    running.kill()
    running.communicate(timeout=30)
    assert any(line.startswith("cgroup") for line in bundle.leftovers())
    assert subprocess.run(bundle.command("delete", bundle.id), check=False).returncode == 0
