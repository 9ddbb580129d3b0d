from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sigkit.errors import (
    ContainerExists,
    HostUnfit,
    InvalidConfig,
    KernelRefused,
    Kind,
    MissingCommand,
    NotExecutable,
    SigkitError,
    SourceChanged,
    UnsafeRootfs,
)
from sigkit.runtime.capabilities import DEFAULT, mask
from sigkit.runtime.create import can_run, run_bundle
from sigkit.runtime.seccomp import default_profile
from tests.simulators.bundles import Bundle, open_directory

pytestmark = pytest.mark.root


@pytest.fixture
def bundle(tmp_path):
    with Bundle(tmp_path) as made:
        yield made


@pytest.fixture
def reachable_bundle():
    with open_directory() as directory, Bundle(directory) as made:
        yield made


def here(bundle: Bundle, *args: str, **options: Any) -> int:
    bundle.write(*args)
    return run_bundle(str(bundle.directory), bundle.id, state_root=str(bundle.state_root), **options)


def test_this_host_can_run():
    assert can_run() == ""


def test_exit_status_of_the_program_is_returned(bundle):
    assert here(bundle, "sh", "-c", "exit 7") == 7


def test_death_by_a_signal_is_128_and_its_number(bundle):
    # Process 1 ignores a signal that it sends to itself, so one from outside ends it.
    running = bundle.start("sh", "-c", "echo ready; sleep 60")
    assert running.stdout.readline() == "ready\n"
    subprocess.run(bundle.command("kill", bundle.id, "KILL"), check=True)
    running.communicate(timeout=30)
    assert running.returncode == 137


def test_program_is_process_1_and_sees_no_other(bundle):
    assert bundle.shell("echo $$; for p in /proc/[0-9]*; do echo ${p#/proc/}; done").split() == ["1", "1"]


def test_host_name_is_the_containers_own(bundle):
    before = os.uname().nodename
    assert bundle.shell("hostname") == "inside\n"
    assert os.uname().nodename == before


def test_every_namespace_is_new(bundle):
    inside = bundle.shell("for n in mnt pid ipc uts net cgroup; do readlink /proc/self/ns/$n; done").split()
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "ipc", "uts", "net", "cgroup")]
    assert not set(inside) & set(outside)
    assert len(set(inside)) == 6


def test_network_has_only_a_loopback_interface_that_is_up(bundle):
    assert bundle.shell("ls /sys/class/net") == "lo\n"
    flags = int(bundle.shell("cat /sys/class/net/lo/flags"), 16)
    assert flags & 1


def test_host_network_is_kept_where_config_asks_for_no_network_namespace(bundle):
    bundle.config["linux"]["namespaces"] = [n for n in bundle.config["linux"]["namespaces"] if n["type"] != "network"]
    assert bundle.shell("readlink /proc/self/ns/net").strip() == os.readlink("/proc/self/ns/net")


def test_host_tree_is_gone_after_the_pivot(bundle):
    marker = bundle.path / "host-only"
    marker.write_text("x")
    mounts = bundle.shell("cat /proc/self/mountinfo")
    assert str(bundle.path) not in " ".join(line.split()[4] for line in mounts.splitlines())
    assert bundle.run("cat", str(marker)).returncode != 0


def test_capabilities_are_those_of_config_and_inheritable_is_empty(bundle):
    status = dict(line.split(":\t") for line in bundle.shell("cat /proc/self/status").splitlines() if line.startswith("Cap"))
    wanted = f"{mask(DEFAULT):016x}"
    assert status == {"CapInh": "0" * 16, "CapPrm": wanted, "CapEff": wanted, "CapBnd": wanted, "CapAmb": "0" * 16}


def test_ambient_capability_reaches_a_user_who_is_not_root(bundle):
    sets = ["CAP_NET_BIND_SERVICE"]
    bundle.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), sets)
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert f"CapEff:\t{mask(sets):016x}" in bundle.shell("cat /proc/self/status")


def test_user_who_is_not_root_has_no_capability(bundle):
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert f"CapEff:\t{'0' * 16}" in bundle.shell("cat /proc/self/status")


def test_user_groups_and_umask_are_exactly_those_of_config(bundle):
    bundle.config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7, 9], "umask": 0o27}
    status = bundle.shell("cat /proc/self/status; umask")
    assert "Uid:\t1000\t1000\t1000\t1000" in status
    assert "Gid:\t1001\t1001\t1001\t1001" in status
    assert "Groups:\t7 9" in status
    assert status.endswith("0027\n")


def test_no_signal_is_ignored_or_blocked_that_the_program_did_not_ask_for(bundle):
    status = bundle.run("cat", "/proc/self/status").stdout.splitlines()  # no shell: busybox's ignores SIGQUIT as process 1
    assert {line for line in status if line.startswith(("SigIgn", "SigBlk"))} == {"SigIgn:\t" + "0" * 16, "SigBlk:\t" + "0" * 16}


def test_container_that_could_mount_on_the_host_gets_a_sealed_copy_of_the_interpreter(bundle):
    for name in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][name].append("CAP_SYS_ADMIN")
    running = bundle.start("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    assert running.stdout.readline() == "ready\n"
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert os.readlink(f"/proc/{child}/exe") == "/memfd:sigkit-launcher (deleted)"
    running.terminate()
    running.communicate(timeout=30)
    assert running.returncode == 0


def test_no_new_privileges_is_set(bundle):
    assert "NoNewPrivs:\t1" in bundle.shell("cat /proc/self/status")


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_seccomp_filter_is_in_force(bundle, no_new_privileges):
    bundle.config["linux"]["seccomp"] = default_profile(DEFAULT)
    bundle.config["process"]["noNewPrivileges"] = no_new_privileges
    assert "Seccomp:\t2\n" in bundle.shell("cat /proc/self/status")


def test_seccomp_filter_refuses_what_the_profile_refuses(bundle):
    bundle.config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    }
    done = bundle.run("mkdir", "/tmp/x")
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_second_start_takes_the_compiled_filter_from_the_cache(bundle):
    bundle.config["linux"]["seccomp"] = default_profile(DEFAULT)
    bundle.shell("true")
    (kept,) = (bundle.state_root / "seccomp").iterdir()
    first = kept.stat().st_mtime_ns
    bundle.shell("true")
    assert kept.stat().st_mtime_ns == first


def test_flipped_bit_in_the_cached_filter_is_noticed(bundle):
    bundle.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": default_profile(DEFAULT)["syscalls"]}
    bundle.shell("true")
    (kept,) = (bundle.state_root / "seccomp").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    bundle.shell("true")
    assert kept.read_bytes() == whole


def test_masked_file_is_empty_and_masked_directory_too(bundle):
    bundle.config["linux"]["maskedPaths"] = ["/proc/version", "/proc/bus", "/proc/not-there"]
    assert bundle.shell("cat /proc/version; ls /proc/bus") == ""


def test_read_only_path_cannot_be_written(bundle):
    done = bundle.run("sh", "-c", "echo 1 > /proc/sys/kernel/panic")
    assert done.returncode != 0
    assert "Read-only" in done.stderr


def test_read_only_root_cannot_be_written_and_a_tmpfs_on_it_can(bundle):
    bundle.config["root"]["readonly"] = True
    bundle.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    done = bundle.run("sh", "-c", "echo 1 > /tmp/x && cat /tmp/x; echo 2 > /etc/x")
    assert done.stdout == "1\n"
    assert "Read-only" in done.stderr
    assert not (bundle.rootfs / "etc/x").exists()


def test_device_node_of_the_image_does_nothing(bundle):
    os.mknod(bundle.rootfs / "etc/zero", 0o020666, os.makedev(1, 5))
    done = bundle.run("dd", "if=/etc/zero", "of=/dev/null", "bs=1", "count=1")
    assert done.returncode != 0


def test_private_dev_has_the_default_devices(bundle):
    listed = bundle.shell("ls -l /dev")
    for name, numbers in (("null", "1,3"), ("zero", "1,5"), ("full", "1,7"), ("random", "1,8"), ("urandom", "1,9"), ("tty", "5,0")):
        assert name in listed
        assert numbers in listed.replace(" ", "")


def test_private_dev_is_there_even_if_config_mounts_none(bundle):
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    assert bundle.shell("echo x > /dev/null && echo fine") == "fine\n"
    assert list((bundle.rootfs / "dev").iterdir()) == []


def test_device_of_config_is_made_with_mode_and_owner(bundle):
    device = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o020640, "uid": 3, "gid": 4}
    bundle.config["linux"]["devices"] = [device]
    line = bundle.shell("ls -ln /dev/mine")
    assert line.startswith("crw-r-----")
    assert line.split()[2:4] == ["3", "4"]


def test_bind_mount_shows_the_hosts_directory_read_only(bundle):
    shared = bundle.path / "shared"
    shared.mkdir()
    (shared / "file").write_text("from the host")
    bundle.config["mounts"].append({"destination": "/mnt/x", "type": "bind", "source": str(shared), "options": ["rbind", "ro"]})
    done = bundle.run("sh", "-c", "cat /mnt/x/file; echo 1 > /mnt/x/new")
    assert done.stdout == "from the host"
    assert not (shared / "new").exists()


@pytest.mark.parametrize("source", ["link", "link/below"])
def test_judged_source_that_became_a_link_is_refused(bundle, source):
    (bundle.path / "secret" / "below").mkdir(parents=True)
    (bundle.path / "link").symlink_to("secret")
    path = str(bundle.path / source)
    bundle.config["mounts"].append({"destination": "/mnt/x", "type": "bind", "source": path, "options": ["rbind"]})
    with pytest.raises(SourceChanged) as caught:
        here(bundle, "true", judged=frozenset({path}))
    assert caught.value.place.source == path
    assert not (bundle.state_root / bundle.id).exists()
    assert here(bundle, "true") == 0  # links of other engines' sources are followed, as every runtime does


def test_judged_source_is_shown(bundle):
    (bundle.path / "shared" / "below").mkdir(parents=True)
    path = str(bundle.path / "shared")
    bundle.config["mounts"].append({"destination": "/mnt/x", "type": "bind", "source": path, "options": ["rbind"]})
    assert here(bundle, "sh", "-c", "cd /mnt/x/below", judged=frozenset({path})) == 0


def test_bind_mount_of_a_file_makes_its_mount_point(bundle):
    source = bundle.path / "resolv"
    source.write_text("nameserver 192.0.2.1\n")
    bundle.config["mounts"].append({"destination": "/etc/resolv.conf", "type": "bind", "source": str(source), "options": ["bind"]})
    assert bundle.shell("cat /etc/resolv.conf") == "nameserver 192.0.2.1\n"


def test_environment_is_built_from_nothing(bundle):
    bundle.config["process"]["env"] = ["PATH=/bin", "A=1", "B=x=y"]
    assert sorted(bundle.shell("env").splitlines()) == ["A=1", "B=x=y", "PATH=/bin", "PWD=/", "SHLVL=1"] or sorted(
        bundle.run("env").stdout.splitlines()
    ) == ["A=1", "B=x=y", "PATH=/bin"]


def test_working_directory_is_that_of_config(bundle):
    bundle.config["process"]["cwd"] = "/etc"
    assert bundle.shell("pwd") == "/etc\n"


def test_working_directory_that_is_not_there_is_refused(bundle):
    bundle.config["process"]["cwd"] = "/nowhere"
    with pytest.raises(KernelRefused):
        here(bundle, "true")


def test_rlimits_and_oom_score_are_set(bundle):
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    bundle.config["process"]["oomScoreAdj"] = 500
    assert bundle.shell("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj").split() == ["100", "200", "500"]


def test_unlimited_is_given_as_podman_writes_it(bundle):
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]
    assert bundle.shell("ulimit -Hc").split() == ["unlimited"]


def test_limit_above_what_this_process_has_is_cut_and_told(bundle):
    heard: list[str] = []
    bundle.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 2**40, "hard": 2**40}]
    status = here(bundle, "true", warn=heard.append)
    assert status == 0
    assert len(heard) == 1
    assert "$.process.rlimits[0]" in heard[0]


def test_sysctl_is_set_in_the_namespace_only(bundle):
    path = Path("/proc/sys/net/ipv4/ip_default_ttl")
    before = path.read_text()
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "33"}
    assert bundle.shell("cat /proc/sys/net/ipv4/ip_default_ttl") == "33\n"
    assert path.read_text() == before


def test_missing_command_is_told_before_anything_runs(bundle):
    with pytest.raises(MissingCommand) as refused:
        here(bundle, "no-such-program")
    assert refused.value.status() == 127


@pytest.mark.parametrize("name", ["/etc/passwd", "/etc", "/bin/sh/x"])
def test_what_cannot_be_executed_is_refused_by_its_own_code(bundle, name):
    with pytest.raises((NotExecutable, MissingCommand)) as refused:
        here(bundle, name)
    assert refused.value.status() == (127 if name == "/bin/sh/x" else 126)


def test_file_of_no_known_format_is_refused_as_not_executable(bundle):
    odd = bundle.rootfs / "bin/odd"
    odd.write_bytes(b"\x00\x01\x02\x03" * 64)
    odd.chmod(0o755)
    with pytest.raises(NotExecutable):
        here(bundle, "odd")


def test_words_that_podman_reads_as_a_missing_command_stand_in_no_other_refusal(bundle):
    bundle.config["process"]["cwd"] = "/nowhere"
    done = bundle.run("true")
    for words in ("no such file", "permission denied", "operation not permitted", "not found in"):
        assert words not in done.stderr.lower()


def test_used_id_is_refused(bundle):
    bundle.state_root.mkdir(mode=0o700)
    (bundle.state_root / bundle.id).mkdir()
    with pytest.raises(ContainerExists):
        here(bundle, "true")
    (bundle.state_root / bundle.id).rmdir()


def test_state_root_that_others_can_write_is_refused(bundle):
    bundle.state_root.mkdir()
    bundle.state_root.chmod(0o777)
    with pytest.raises(HostUnfit):
        here(bundle, "true")


def test_root_that_is_absent_is_refused(bundle):
    bundle.config["root"]["path"] = "not-there"
    with pytest.raises(UnsafeRootfs):
        here(bundle, "true")


def test_wrong_config_is_refused_with_its_json_path(bundle):
    bundle.config["process"]["user"]["uid"] = 2**32
    with pytest.raises(SigkitError) as refused:
        here(bundle, "true")
    assert "$.process.user.uid" in str(refused.value.place)


def test_signals_reach_the_program(bundle):
    running = bundle.start("sh", "-c", "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGUSR1)
    out, _ = running.communicate(timeout=30)
    assert (out, running.returncode) == ("got\n", 3)


def test_terminals_interrupt_reaches_the_program_once(bundle):
    bundle.write("sh", "-c", "trap 'echo got' INT; trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    running = subprocess.Popen(
        bundle.command("run", "--bundle", str(bundle.directory), bundle.id),
        stdout=subprocess.PIPE,
        text=True,
        cwd=bundle.path,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    os.killpg(running.pid, signal.SIGINT)
    assert running.stdout.readline() == "got\n"
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=30)
    assert (out, running.returncode) == ("", 3)


@pytest.mark.parametrize("uid", [0, 1000])
def test_container_ends_with_its_runtime(bundle, uid):
    bundle.config["process"]["user"] = {"uid": uid, "gid": uid}
    running = bundle.start("sh", "-c", "echo ready; exec sleep 1000")
    assert running.stdout.readline() == "ready\n"
    running.kill()
    running.communicate(timeout=30)  # the end of the pipe: nobody in the container holds it any more
    subprocess.run(bundle.command("delete", "--force", bundle.id), check=True)


def test_preserved_descriptors_reach_the_program_and_no_others(bundle):
    reader, writer = os.pipe()
    other = os.open("/", os.O_RDONLY)
    high = 40
    try:
        os.dup2(other, high)
        os.write(writer, b"through")
        os.close(writer)
        bundle.write("sh", "-c", "cat <&3; ls /proc/self/fd")
        script = f"import os, sys; os.dup2({reader}, 3); os.execv(sys.argv[1], sys.argv[1:])"
        command = bundle.command("run", "--bundle", str(bundle.directory), "--preserve-fds", "1", bundle.id)
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script, *command],
            pass_fds=(reader, high),
            capture_output=True,
            text=True,
            cwd=bundle.path,
            check=False,
        )
    finally:
        for descriptor in (reader, other, high):
            os.close(descriptor)
    assert done.stderr == ""
    # ls holds one descriptor of its own, on the directory.
    assert done.stdout == "through0\n1\n2\n3\n4\n"


def test_trace_names_each_step_with_its_reason_and_shell_line(bundle):
    done = bundle.run("true", options=["--trace"])
    steps = [line for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert len(steps) * 3 == len(done.stderr.splitlines())
    for wanted in ("new pid namespace", "pivot_root", "no_new_privs", "execute /bin/true"):
        assert any(wanted in step for step in steps)


def test_root_mount_is_seen_by_the_container_only(bundle):
    for name in ("upper", "work", "merged"):
        (bundle.path / name).mkdir()
    bundle.config["root"]["path"] = str(bundle.path / "merged")
    options = f"lowerdir={bundle.rootfs},upperdir={bundle.path}/upper,workdir={bundle.path}/work"
    assert here(bundle, "sh", "-c", "echo new > /etc/new", rootfs_mount=("overlay", "overlay", options)) == 0
    assert (bundle.path / "upper/etc/new").read_text() == "new\n"
    assert not (bundle.rootfs / "etc/new").exists()
    assert list((bundle.path / "merged").iterdir()) == []


@pytest.mark.parametrize("options", ["lowerdir=/" + ":/lower" * 600, "lowerdir=/a\0:/b"])
def test_options_of_the_root_mount_that_the_kernel_would_cut_off_are_refused(bundle, options):
    with pytest.raises(InvalidConfig):
        here(bundle, "true", rootfs_mount=("overlay", "overlay", options))


def test_user_namespace_of_config_maps_root_to_an_ordinary_user(reachable_bundle):
    bundle = reachable_bundle
    subprocess.run(["chown", "-R", "70000:70000", str(bundle.rootfs)], check=True)
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        bundle.config["linux"][name] = [{"containerID": 0, "hostID": 70000, "size": 1000}]
    assert bundle.shell("cat /proc/self/uid_map; id -u; touch /etc/made").split() == ["0", "70000", "1000", "0"]
    assert (bundle.rootfs / "etc/made").stat().st_uid == 70000


def test_shared_pid_namespace_leaves_no_process_behind(bundle):
    bundle.config["linux"]["namespaces"] = [n for n in bundle.config["linux"]["namespaces"] if n["type"] != "pid"]
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] != "/proc"]
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    done = bundle.run("sh", "-c", "sleep 1000 >/dev/null 2>&1 & exit 4")
    assert done.returncode == 4


def test_twenty_failed_starts_leave_no_descriptor_open(bundle):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(MissingCommand):
            here(bundle, "no-such-program")
    bundle.config["process"]["args"] = []
    with pytest.raises(InvalidConfig):
        here(bundle)
    assert len(os.listdir("/proc/self/fd")) <= before  # less where another test's garbage was collected meanwhile


def test_signal_mask_is_given_back(bundle):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    here(bundle, "true")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_launcher_imports_five_modules_of_the_library_and_nothing_heavy(bundle):
    code = f"import sys; sys.path.append({str(Path(__file__).parents[2])!r}); import sigkit.runtime.init; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"enum", "re", "json", "typing", "collections", "functools", "subprocess", "dataclasses", "pathlib", "signal", "socket"}
    assert heavy.isdisjoint(loaded)
    own = ("init", "capabilities", "devices", "inroot", "mounts", "rootfs", "sync", "syscalls", "trace")
    assert {name for name in loaded if name.startswith("sigkit.runtime.")} == {f"sigkit.runtime.{name}" for name in own}


def test_state_says_running_while_it_runs(bundle):
    running = bundle.start("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    assert running.stdout.readline() == "ready\n"
    told = json.loads(subprocess.run(bundle.command("state", bundle.id), capture_output=True, check=True).stdout)
    assert told["id"] == bundle.id
    assert told["status"] == "running"
    assert told["bundle"] == str(bundle.directory)
    assert Path(f"/proc/{told['pid']}/root/etc/passwd").exists()
    assert subprocess.run(bundle.command("delete", bundle.id), check=False, capture_output=True).returncode == 1
    subprocess.run(bundle.command("kill", bundle.id), check=True)
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert subprocess.run(bundle.command("state", bundle.id), check=False, capture_output=True).returncode == 1


def test_kind_of_every_refusal_is_runtime(bundle):
    with pytest.raises(SigkitError) as refused:
        here(bundle, "no-such-program")
    assert refused.value.kind is Kind.RUNTIME
