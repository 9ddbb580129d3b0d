from __future__ import annotations

import pytest

from sigkit.errors import LimitUnavailable, Place
from sigkit.runtime.cgroups import find, v1, v2
from sigkit.runtime.spec import DeviceRule, Resources

V1_MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/me\\040mory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
""".splitlines()
V1_OWN = ["9:name=systemd:/", "4:memory:/docker/abc/x", "1:cpu,cpuacct:/y:z", "0::/"]


def resources(**values: object) -> Resources:
    made = Resources()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_controllers_mounted_together_share_one_hierarchy():
    found = find.parse_hierarchies(V1_MOUNTS, V1_OWN)
    assert found.v1["cpu"].mount_point == found.v1["cpuacct"].mount_point == "/sys/fs/cgroup/cpu,cpuacct"
    assert found.v1["cpu"].own == "/y:z"


def test_own_path_is_taken_for_each_controller_and_below_the_mounts_root():
    found = find.parse_hierarchies(V1_MOUNTS, V1_OWN)
    assert found.v1["memory"].mount_point == "/sys/fs/cgroup/me mory"
    assert found.v1["memory"].own == "/x"


def test_hybrid_layout_counts_as_version_1():
    assert find.parse_hierarchies(V1_MOUNTS, V1_OWN).v2 is None


def test_version_2_alone_is_seen():
    found = find.parse_hierarchies(["30 23 0:27 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"], ["0::/user.slice"])
    assert found.v1 == {}
    assert found.v2 is not None
    assert (found.v2.mount_point, found.v2.own) == ("/sys/fs/cgroup", "/user.slice")


def test_path_that_is_absolute_counts_from_the_mount_point():
    hierarchy = find.Hierarchy(frozenset(["pids"]), "/sys/fs/cgroup/pids", "/own")
    assert find.directory_of(hierarchy, "/a/b") == "/sys/fs/cgroup/pids/a/b"


def test_controllers_without_a_limit_are_not_joined_but_devices_always():
    assert v1.wanted(Resources()) == ("devices",)
    assert v1.wanted(resources(pids=5, cpu_shares=2, memory_swap=-1)) == ("devices", "memory", "cpu", "pids")


@pytest.mark.parametrize(
    ("files", "can"),
    [
        pytest.param({"cgroup.controllers": "cpu pids", "cgroup.subtree_control": ""}, True, id="root"),
        pytest.param({"cgroup.controllers": "cpu", "cgroup.subtree_control": ""}, False, id="no such controller"),
        pytest.param({"cgroup.controllers": "pids", "cgroup.subtree_control": "", "cgroup.type": "domain"}, False, id="in a container"),
        pytest.param({"cgroup.controllers": "pids", "cgroup.subtree_control": "pids", "cgroup.type": "domain"}, True, id="handed down"),
        pytest.param({}, False, id="no cgroups"),
    ],
)
def test_a_limit_by_default_is_tried_only_where_the_kernel_takes_it(tmp_path, files, can):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert find.can_hand_down(str(tmp_path), "pids") is can


def test_unlimited_pids_ask_for_no_controller():
    assert v1.wanted(resources(pids=-1)) == ("devices",)


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(2, 1), (1024, 39), (262144, 10000)],
)
def test_shares_become_a_weight_as_the_specification_says(shares, weight):
    assert v2.weight(shares) == weight


def test_limits_are_converted_for_version_2():
    asked = resources(memory_limit=100, memory_swap=150, memory_reservation=-1, cpu_quota=50, cpu_period=1000, cpu_shares=1024, pids=-1)
    assert v2.settings(asked, Place("c")) == (
        ("memory", "memory.max", "100"),
        ("memory", "memory.swap.max", "50"),
        ("memory", "memory.low", "max"),
        ("cpu", "cpu.weight", "39"),
        ("cpu", "cpu.max", "50 1000"),
        ("pids", "pids.max", "max"),
    )


@pytest.mark.parametrize("asked", [resources(memory_swappiness=1), resources(oom_killer_off=True)])
def test_limit_that_version_2_cannot_express_is_refused(asked):
    with pytest.raises(LimitUnavailable):
        v2.settings(asked, Place("c"))


def test_device_list_begins_by_denying_all(tmp_path):
    for name in ("devices.deny", "devices.allow"):
        (tmp_path / name).touch()
    v1.limit("devices", str(tmp_path), resources(devices=(DeviceRule(allow=False, kind="a", major=None, minor=None, access="rwm"),)))
    # A plain file keeps the last write's beginning: the order is what the real tree shows in tests/integration.
    assert (tmp_path / "devices.deny").read_text() == "a"


def test_limit_whose_file_is_absent_is_refused(tmp_path):
    with pytest.raises(LimitUnavailable):
        v1.limit("pids", str(tmp_path), resources(pids=3))
