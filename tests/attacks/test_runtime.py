"""The rows "Runtime" of the table of attacks: a hostile image or config.json, run from the outside as root.

Each must be refused for its own reason, or be without effect, and leave nothing behind: no mount, cgroup, process or descriptor.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.simulators.bundles import Bundle

pytestmark = pytest.mark.root


@pytest.fixture
def bundle(tmp_path):
    with Bundle(tmp_path) as made:
        yield made


def refused(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert code in done.stderr
    assert done.stdout == ""


UNSAFE, INVALID, UNSUPPORTED = "SK-RUNTIME-003", "SK-RUNTIME-001", "SK-RUNTIME-002"


@pytest.mark.attack("CVE-2019-5736")
@pytest.mark.parametrize("target", ["/proc/self/exe", "/proc/1/exe", "/proc/self/fd/3"])
def test_entry_point_that_is_a_link_to_our_interpreter_is_no_program(bundle, target):
    (bundle.rootfs / "bin/evil").symlink_to(target)
    done = bundle.run("/bin/evil")
    assert done.returncode == 126
    assert "SK-RUNTIME-008" in done.stderr


@pytest.mark.attack("CVE-2024-21626")
@pytest.mark.parametrize("number", range(3, 12))
def test_working_directory_through_a_leaked_descriptor_is_refused(bundle, number):
    bundle.config["process"]["cwd"] = f"/proc/self/fd/{number}"
    leaked = os.open("/", os.O_RDONLY)
    try:
        done = bundle.run("ls", pass_fds=[leaked])
    finally:
        os.close(leaked)
    assert done.returncode == 1
    assert done.stdout == ""
    assert UNSAFE in done.stderr or "SK-RUNTIME-004" in done.stderr


@pytest.mark.attack("CVE-2024-21626")
@pytest.mark.parametrize("path", ["/proc/self/root", "/proc/self/cwd", "/proc/1/root/etc"])
def test_working_directory_through_a_magic_link_is_refused(bundle, path):
    bundle.config["process"]["cwd"] = path
    refused(bundle.run("ls"), UNSAFE)


@pytest.mark.attack("CVE-2024-21626")
def test_program_gets_none_of_the_descriptors_that_leak_in(bundle):
    leaked = [os.open("/", os.O_RDONLY) for _ in range(5)]
    try:
        done = bundle.run("ls", "/proc/self/fd", pass_fds=leaked)
    finally:
        for descriptor in leaked:
            os.close(descriptor)
    # ls has one of its own, on the directory.
    assert done.stdout.split() == ["0", "1", "2", "3"]


@pytest.mark.attack("CVE-2025-31133")
@pytest.mark.parametrize("dev_of_config", [True, False])
def test_masked_path_is_hidden_by_the_hosts_null_device_whatever_the_image_has_there(bundle, dev_of_config):
    if not dev_of_config:
        bundle.config["mounts"] = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    (bundle.rootfs / "dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    bundle.config["linux"]["maskedPaths"] = ["/proc/version"]
    inside = bundle.shell("cat /proc/version; ls -l /proc/version; cat /proc/sys/kernel/core_pattern")
    assert "Linux" not in inside
    assert "1,   3" in inside or "1, 3" in inside


@pytest.mark.attack("CVE-2025-31133")
def test_null_device_of_a_bound_dev_is_not_trusted(bundle):
    fake = bundle.path / "fake-dev"
    fake.mkdir()
    (fake / "null").symlink_to("/etc/passwd")
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    bundle.config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(fake), "options": ["rbind"]})
    bundle.config["linux"]["maskedPaths"] = ["/proc/version"]
    done = bundle.run("cat", "/proc/version")
    assert done.returncode == 0
    assert done.stdout == ""


@pytest.mark.attack("CVE-2025-52881")
@pytest.mark.parametrize("path", ["/proc/self/attr", "/proc", "/proc/sys/kernel"])
def test_mount_over_the_process_file_system_is_refused(bundle, path):
    fake = bundle.path / "fake"
    fake.mkdir()
    bundle.config["mounts"].append({"destination": path, "type": "bind", "source": str(fake), "options": ["rbind"]})
    refused(bundle.run("true"), INVALID)


@pytest.mark.attack("CVE-2025-52881")
def test_sysctl_is_written_to_the_kernel_and_not_to_what_the_image_calls_proc(bundle):
    (bundle.rootfs / "proc/sys/net/ipv4").mkdir(parents=True)
    fake = bundle.rootfs / "proc/sys/net/ipv4/ip_default_ttl"
    fake.write_text("64\n")
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] != "/proc"]
    bundle.config["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "33"}
    bundle.config["linux"]["maskedPaths"] = bundle.config["linux"]["readonlyPaths"] = []
    bundle.shell("true")
    assert fake.read_text() == "64\n"


@pytest.mark.attack("CVE-2019-19921")
@pytest.mark.parametrize("target", ["/etc", "../../../../../..", "/tmp/../etc", "proc", "/nowhere"])
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_image_whose_proc_or_sys_is_a_link_is_refused(bundle, name, target):
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).symlink_to(target)
    refused(bundle.run("true"), UNSAFE)


@pytest.mark.attack("CVE-2019-19921")
def test_image_whose_proc_is_a_file_is_refused(bundle):
    (bundle.rootfs / "proc").rmdir()
    (bundle.rootfs / "proc").write_text("")
    refused(bundle.run("true"), UNSAFE)


@pytest.mark.attack("CVE-2026-41579")
@pytest.mark.parametrize("target", ["/etc", "../../..", "/x", "dev"])
@pytest.mark.parametrize("dev_of_config", [True, False])
def test_image_whose_dev_is_a_link_is_refused(bundle, target, dev_of_config):
    if not dev_of_config:
        bundle.config["mounts"] = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").symlink_to(target)
    before = sorted(os.listdir("/dev"))
    refused(bundle.run("true"), UNSAFE)
    assert sorted(os.listdir("/dev")) == before
    assert sorted(os.listdir(bundle.rootfs / "etc")) == ["group", "passwd"]


@pytest.mark.attack("CVE-2026-41579")
def test_device_below_a_link_is_refused(bundle):
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    fake = bundle.path / "fake-dev"
    fake.mkdir()
    (fake / "pts").symlink_to("/etc")
    bundle.config["mounts"].append({"destination": "/dev", "type": "bind", "source": str(fake), "options": ["rbind"]})
    bundle.config["mounts"].append({"destination": "/dev/pts", "type": "devpts", "source": "devpts"})
    refused(bundle.run("true"), UNSAFE)


@pytest.mark.attack("CVE-2021-30465")
@pytest.mark.parametrize("link", ["/", "../../../../../../../..", "/tmp/../.."])
def test_mount_point_behind_a_link_lies_in_the_container(bundle, link):
    outside = Path(f"/{bundle.id}")
    (bundle.rootfs / "data").symlink_to(link)
    source = bundle.path / "volume"
    source.mkdir()
    bundle.config["mounts"].append({"destination": f"/data/{bundle.id}", "type": "bind", "source": str(source), "options": ["bind"]})
    bundle.shell(f"touch /{bundle.id}/written")
    assert not outside.exists()
    assert (source / "written").exists()


@pytest.mark.attack("CVE-2021-30465")
def test_link_that_leads_nowhere_is_no_mount_point(bundle):
    (bundle.rootfs / "data").symlink_to(f"/{bundle.id}")
    bundle.config["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs"})
    refused(bundle.run("true"), UNSAFE)
    assert not Path(f"/{bundle.id}").exists()


@pytest.mark.attack("mount moved over /dev")
@pytest.mark.parametrize("link", ["/dev", "dev", "/dev/shm", "/proc/self", "/proc/sys", "/sys", "/sys/fs", "/", "/tmp/.."])
def test_link_of_the_image_moves_no_mount_over_what_is_the_runtimes(bundle, link):
    """The runtime would make its device nodes in the directory of the host that is mounted there."""
    (bundle.rootfs / "data").symlink_to(link)
    source = bundle.path / "volume"
    source.mkdir()
    bundle.config["mounts"].append({"destination": "/data", "type": "bind", "source": str(source), "options": ["bind"]})
    refused(bundle.run("true"), UNSAFE)
    assert os.listdir(source) == []


@pytest.mark.attack("CVE-2021-30465")
def test_mount_point_that_is_swapped_all_the_time_never_leads_out(bundle):
    """Another container with the same volume swaps a directory for a link to the host's root while we mount below it."""
    volume = bundle.path / "volume"
    (volume / "data").mkdir(parents=True)
    bundle.config["mounts"] += [
        {"destination": "/v", "type": "bind", "source": str(volume), "options": ["bind"]},
        {"destination": f"/v/data/{bundle.id}", "type": "tmpfs", "source": "tmpfs"},
    ]
    (volume / "link").symlink_to("../" * 12)
    stop = threading.Event()
    exchange = ctypes.CDLL(None).renameat2

    def swap() -> None:
        while not stop.is_set():
            exchange(-100, bytes(volume / "link"), -100, bytes(volume / "data"), 2)  # RENAME_EXCHANGE

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        codes = {bundle.run("true").returncode for _ in range(12)}
    finally:
        stop.set()
        swapper.join()
    assert not Path(f"/{bundle.id}").exists()
    assert codes <= {0, 1}


@pytest.mark.attack("CVE-2023-25809")
@pytest.mark.parametrize("cgroup_namespace", [True, False])
def test_cgroup_is_read_only_even_if_config_asks_otherwise(bundle, cgroup_namespace):
    for mount in bundle.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"] = ["rw"]
    if not cgroup_namespace:
        bundle.config["linux"]["namespaces"] = [n for n in bundle.config["linux"]["namespaces"] if n["type"] != "cgroup"]
    inside = bundle.shell("cd /sys/fs/cgroup; for d in . *; do mkdir $d/evil 2>/dev/null && echo made $d; done; echo end")
    assert inside == "end\n"


@pytest.mark.attack("CVE-2022-29162")
def test_inheritable_set_is_empty_even_if_config_asks_otherwise(bundle):
    sets = bundle.config["process"]["capabilities"]
    sets["inheritable"] = sets["bounding"]
    assert "CapInh:\t0000000000000000" in bundle.shell("cat /proc/self/status")


@pytest.mark.attack("CVE-2016-3697")
@pytest.mark.parametrize("value", [2**32, 2**32 - 1, -1])
def test_user_id_that_would_become_another_is_refused(bundle, value):
    bundle.config["process"]["user"]["uid"] = value
    done = bundle.run("true")
    assert done.returncode == 1
    assert "$.process.user.uid" in done.stderr


@pytest.mark.attack("CVE-2022-36109")
def test_supplementary_groups_are_exactly_those_of_config(bundle):
    bundle.write("id", "-G")
    os.setgroups([4, 24])
    try:
        bundle.config["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
        inside = bundle.run("cat", "/proc/self/status").stdout
    finally:
        os.setgroups([])
    assert "Groups:\t5 \n" in inside or "Groups:\t5\n" in inside


@pytest.mark.attack("CVE-2022-23648")
@pytest.mark.parametrize("path", ["/../../etc", "/a/../../../x", "../x"])
def test_volume_and_working_directory_that_climb_are_refused(bundle, path):
    bundle.config["mounts"].append({"destination": path, "type": "tmpfs", "source": "tmpfs"})
    refused(bundle.run("true"), INVALID)
    bundle.config["mounts"].pop()
    bundle.config["process"]["cwd"] = path
    refused(bundle.run("true"), INVALID)


@pytest.mark.attack("CVE-2022-23648")
def test_working_directory_behind_a_link_lies_in_the_container(bundle):
    (bundle.rootfs / "out").symlink_to("/../../../../..")
    bundle.config["process"]["cwd"] = "/out/etc"
    assert bundle.shell("pwd -P; ls").split() == ["/etc", "group", "passwd"]


@pytest.mark.attack("CVE-2026-53488")
def test_annotations_are_data_only(bundle):
    marker = bundle.path / "ran"
    program = bundle.path / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    bundle.config["annotations"] = {
        "run.oci.hooks.stdout": str(program),
        "io.containerd.runc.v2.logger": f"binary://{program}",
        "run.oci.handler": "krun",
    }
    bundle.shell("true")
    assert not marker.exists()


@pytest.mark.attack("CVE-2021-3602")
def test_environment_of_the_caller_does_not_reach_the_container(bundle):
    done = bundle.run("sh", "-c", "env; cat /proc/1/environ", env=os.environ | {"SECRET": "swordfish"})
    assert done.returncode == 0
    assert "swordfish" not in done.stdout


@pytest.mark.attack("CVE-2020-15257")
def test_abstract_socket_of_the_host_is_not_in_the_containers_network(bundle):
    name = f"\0{bundle.id}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        assert bundle.id in Path("/proc/net/unix").read_text()
        assert bundle.id not in bundle.shell("cat /proc/net/unix")


def ungoverned_device() -> os.stat_result:
    """Find a device that root opens without any capability, so that only the list of devices keeps a container from it."""
    for name in ("/dev/fuse", "/dev/net/tun", "/dev/loop-control"):
        try:
            os.close(os.open(name, os.O_RDWR))
        except OSError:
            continue
        return os.stat(name)
    pytest.skip("no device here to try")


@pytest.mark.attack("GHSA-g54h-m393-cpwq")
@pytest.mark.skipif(not Path("/sys/fs/cgroup/devices").is_dir(), reason="needs the devices controller of cgroup v1")
@pytest.mark.parametrize("rules", [[], [{"allow": False, "access": "rwm"}], None, "allowed"])
def test_device_that_no_rule_allows_cannot_be_opened(bundle, rules):
    found = ungoverned_device()
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    for name in ("bounding", "effective", "permitted"):
        bundle.config["process"]["capabilities"][name].append("CAP_MKNOD")
    if rules == "allowed":
        bundle.config["linux"]["resources"] = {"devices": [{"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"}]}
    elif rules is not None:
        bundle.config["linux"]["resources"] = {"devices": rules}
    bundle.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    done = bundle.run("sh", "-c", f"mknod /tmp/x c {major} {minor} && echo made; exec 5<>/tmp/x && echo opened")
    assert done.stdout.split() == (["made", "opened"] if rules == "allowed" else ["made"])


@pytest.mark.attack("import after pivot_root")
def test_nothing_is_imported_from_the_image(bundle):
    """Trap: after pivot_root the path of the standard library leads into the image."""
    marker = "imported-from-the-image"
    prefixes = {Path(os.__file__).parent, Path("/usr/lib/python3.11"), Path("/usr/lib/python3"), Path(sys.prefix) / "lib"}
    checkout = Path(__file__).parents[2]
    poison = f"import os\nos.write(2, b'{marker}')\nos.open('/etc/{marker}', os.O_CREAT | os.O_WRONLY)\n"
    names = [path.name for path in Path(os.__file__).parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    for prefix in prefixes:
        poisoned = bundle.rootfs / str(prefix).lstrip("/")
        poisoned.mkdir(parents=True, exist_ok=True)
        for name in names:
            target = poisoned / name
            if target.suffix != ".py":
                target.mkdir(exist_ok=True)
                target /= "__init__.py"
            target.write_text(poison)
        (poisoned / "encodings/idna.py").write_text(poison)
    for name in ("init", "mounts", "sync", "trace", "syscalls"):
        target = bundle.rootfs / str(checkout / f"sigkit/runtime/{name}.py").lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(poison)
    bundle.config["process"]["cwd"] = "/nowhere-\udcff".encode("utf-8", "surrogateescape").decode("latin-1")
    outcomes = []
    for change in ({}, {"cwd": "/"}, {"cwd": "/", "args": ["no-such-\u00e9"]}, {"cwd": "/", "args": ["/etc/passwd"]}):
        bundle.config["process"] |= change
        outcomes.append(bundle.run(options=["--trace"]))
    assert [done.returncode for done in outcomes] == [1, 0, 127, 126]
    assert all(marker not in done.stderr for done in outcomes)
    assert not (bundle.rootfs / f"etc/{marker}").exists()


@pytest.mark.attack("CVE-2025-52565")
def test_terminal_is_refused_by_name(bundle):
    bundle.config["process"]["terminal"] = True
    refused(bundle.run("true"), UNSUPPORTED)


def run_with(
    bundle: Bundle, script: str, *, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    bundle.write("sh", "-c", script)
    words = bundle.command("run", "--bundle", str(bundle.directory), bundle.id)
    return subprocess.run(words, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60, cwd=bundle.path)


REACH = (
    "echo changed >> /proc/self/fd/{0}; cat < /proc/self/fd/{0}; chmod 4777 /proc/self/fd/{0}; touch -d 2001-01-01 /proc/self/fd/{0}; true"
)


@pytest.mark.attack("reopened stream")
def test_file_that_is_read_as_standard_input_is_not_the_containers_to_change(bundle, tmp_path):
    file = tmp_path / "list"
    file.write_text("one\ntwo\n")
    before = file.stat()
    with file.open("rb", buffering=0) as stdin:
        done = run_with(bundle, "read line; echo got $line; " + REACH.format(0), stdin=stdin.fileno())
        left = stdin.read()
    assert done.stdout.startswith("got one\n")
    assert left == b"two\n"  # what the container did not read is the next one's, as without a container
    assert file.read_text() == "one\ntwo\n"
    assert (file.stat().st_mode, file.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@pytest.mark.attack("reopened stream")
def test_file_that_output_goes_to_is_not_the_containers_to_read_or_to_make_set_user_id(bundle, tmp_path):
    file = tmp_path / "log"
    file.write_text("earlier\n")
    mode = file.stat().st_mode
    with file.open("a") as stdout:
        done = run_with(
            bundle, "head -c 200000 /dev/zero; (chmod 4777 /proc/self/fd/1; : > /proc/self/fd/1); echo last", stdout=stdout.fileno()
        )
    assert done.returncode == 0
    assert file.stat().st_mode == mode
    assert file.read_bytes() == b"earlier\n" + bytes(200_000) + b"last\n"


@pytest.mark.attack("reopened stream")
def test_output_and_errors_in_one_file_keep_their_order(bundle, tmp_path):
    with (tmp_path / "log").open("w") as both:
        bundle.write("sh", "-c", "for i in 1 2 3; do echo out$i; echo err$i >&2; done")
        words = bundle.command("run", "--bundle", str(bundle.directory), bundle.id)
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=both, stderr=both, check=True, timeout=60, cwd=bundle.path)
    assert (tmp_path / "log").read_text().split() == ["out1", "err1", "out2", "err2", "out3", "err3"]


@pytest.mark.attack("reopened stream")
def test_null_device_and_terminal_of_the_host_are_not_the_containers_to_change(bundle):
    ours, terminal = os.openpty()
    modes = {path: os.stat(path).st_mode for path in ("/dev/null", os.ttyname(terminal))}
    try:
        for stdin in (subprocess.DEVNULL, terminal):
            done = run_with(bundle, "chmod 700 /proc/self/fd/0; test $? = 1 || echo changed; test -t 0 && echo terminal; true", stdin=stdin)
            assert done.stdout == ("terminal\n" if stdin == terminal else ""), done.stderr
        assert {path: os.stat(path).st_mode for path in modes} == modes
    finally:
        for path, mode in modes.items():
            os.chmod(path, mode)
        os.close(ours)
        os.close(terminal)


@pytest.mark.attack("reopened stream")
def test_no_descriptor_comes_over_a_socket(bundle):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"words\n")
        ours.shutdown(socket.SHUT_WR)
        done = run_with(bundle, "readlink /proc/self/fd/0; cat", stdin=theirs.fileno())
    kind, words = done.stdout.splitlines()
    assert kind.startswith("pipe:")
    assert words == "words"


@pytest.mark.attack("mode of a mask")
def test_what_masks_a_file_is_not_the_containers_to_change(bundle):
    mode = os.stat("/dev/null").st_mode
    try:
        done = bundle.run("sh", "-c", "chmod 700 /proc/keys; chmod 700 /proc/timer_list; true")
        assert done.stderr.count("Read-only") == 2
        assert os.stat("/dev/null").st_mode == mode
    finally:
        os.chmod("/dev/null", mode)


JOINED_KEYS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
keyctl, add_key = {"x86_64": (250, 248), "aarch64": (219, 217)}[os.uname().machine]
if libc.syscall(keyctl, 1, None) < 0:
    sys.exit(77)
key = libc.syscall(add_key, b"user", b"sigkit-test", b"secret", 6, -3)
# To be seen by those who hold it only, and so not by others of the same uid.
if key < 0 or libc.syscall(keyctl, 5, key, 0x3F000000) < 0:
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.attack("keyring of the host")
def test_container_does_not_keep_the_session_keyring_that_it_was_started_under(bundle):
    bundle.config["linux"]["maskedPaths"] = []
    bundle.write("cat", "/proc/keys")
    words = bundle.command("run", "--bundle", str(bundle.directory), bundle.id)
    started = [sys.executable, "-c", JOINED_KEYS, *words]
    done = subprocess.run(started, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60, cwd=bundle.path)
    if done.returncode == 77:
        pytest.skip("this kernel, or what this test runs under, has no keys")
    assert done.returncode == 0, done.stderr
    assert "sigkit-test" not in done.stdout
