"""Images become containers on the real kernel, as this user: what runs inside, and that nothing is left when it ends or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sigkit.engine.admission import UNLIMITED, BindMount, Confinement, MountAccess, Network
from sigkit.engine.snapshots import make_root
from sigkit.errors import (
    EXIT_RUN_NOT_EXECUTABLE,
    EXIT_RUN_NOT_FOUND,
    LauncherDied,
    MissingCommand,
    NothingToRun,
    SigkitError,
    SourceChanged,
    UnknownUser,
)
from sigkit.runtime.capabilities import DEFAULT
from sigkit.runtime.cgroups.find import can_limit
from tests.simulators.bundles import make_rootfs
from tests.simulators.engine_host import Host, Image, admission, archive_of, opened
from tests.simulators.layers import directory, file, hard_link, layer, opaque, symlink, whiteout

AS_ROOT = os.geteuid() == 0
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A layer with a shell and its tools."""
    return archive_of(make_rootfs(tmp_path_factory.mktemp("base") / "rootfs"))


@pytest.fixture
def host(tmp_path):
    return opened(tmp_path / "store")


@pytest.fixture(autouse=True)
def nothing_left(host):
    yield
    assert host.leftovers() == []


def shell(host: Host, image: Image, script: str, output: Path, **changes) -> str:
    """Run a script in a container, in a process of its own whose output is kept, and return what it printed."""
    script = f"({script}) 2>&1"
    out = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    saved = os.dup(1)
    try:
        os.dup2(out, 1)
        status = host.run(image, command=("/bin/sh", "-c", script), **changes)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(out)
    printed = output.read_text()
    assert status == 0, printed
    return printed


@pytest.fixture
def inside(host, base, tmp_path):
    """Run a script in a container of the base layer and further ones."""

    def inside(script: str, *layers: bytes, config: dict | None = None, **changes) -> str:
        return shell(host, host.push(base, *layers, **(config or {})), script, tmp_path / "out", **changes)

    return inside


def confinement(**changes) -> Confinement:
    return Confinement(**{"capabilities": DEFAULT, **changes})


def test_status_of_the_program_is_returned(host, base):
    image = host.push(base)
    assert host.run(image, command=("/bin/sh", "-c", "exit 7")) == 7
    assert host.run(image, command=("/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?")) == 137
    assert len(host.redeem.used) == 2


def children() -> set[int]:
    """Return the processes that this one has started."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def test_launcher_that_stands_by_starts_the_container_that_was_admitted(host, base):
    given = admission(host.push(base), command=("/bin/sh", "-c", "exit 7"))
    engine, before = host.engine(), children()
    with engine.standing_by():
        assert len(children() - before) == 1
        assert engine.start(given, engine.pull(given, host.registry), host.redeem) == 7
        assert children() == before


def test_launcher_that_no_start_took_is_ended(host):
    engine, before = host.engine(), children()
    with engine.standing_by():
        assert len(children() - before) == 1
    assert children() == before


def test_launcher_that_died_while_it_stood_by_is_an_error(host, base):
    given = admission(host.push(base), command=("/bin/true",))
    engine, before = host.engine(), children()
    with engine.standing_by():
        (launcher,) = children() - before
        os.kill(launcher, signal.SIGKILL)
        with pytest.raises(LauncherDied):
            engine.start(given, engine.pull(given, host.registry), host.redeem)
    assert children() == before


def test_layers_are_seen_as_one_tree(inside):
    upper = layer(whiteout("etc/group"), file("etc/motd", b"upper\n"), symlink("etc/soft", "motd"), directory("d/"), file("d/new"))
    middle = layer(file("etc/motd", b"middle\n"), file("d/old"), file("gone/x"), hard_link("etc/hard", "etc/motd"))
    top = layer(opaque("d"), file("d/newest"), whiteout("gone"))
    printed = inside("cat /etc/motd /etc/soft /etc/hard; ls /d; ls /gone /etc/group; true", middle, upper, top)
    assert printed.splitlines()[:4] == ["upper", "upper", "middle", "newest"]
    assert printed.count("No such file") == 2


def test_layers_are_not_written_to(host, base, tmp_path):
    image = host.push(base, layer(file("etc/motd", b"old")))
    tree = host.tree(image, 1)
    before = (tree / "etc/motd").stat()
    assert shell(host, image, "echo new >/etc/motd; rm /etc/passwd; cat /etc/motd", tmp_path / "out") == "new\n"
    assert (tree / "etc/motd").read_bytes() == b"old"
    assert (tree / "etc/motd").stat().st_mtime_ns == before.st_mtime_ns
    assert shell(host, image, "cat /etc/motd; ls /etc/passwd", tmp_path / "out") == "old/etc/passwd\n"


def test_user_of_the_image_is_looked_up_in_its_own_files(inside):
    files = layer(file("etc/passwd", b"root:x:0:0::/:/bin/sh\nroot2:x:0:0::/home/two:/bin/sh\n"), file("etc/group", b"root:x:0:\n"))
    assert inside("id -u; echo $HOME", files, config={"user": "root2"}) == "0\n/home/two\n"


@pytest.mark.root
def test_user_with_groups(inside):
    files = layer(file("etc/passwd", b"app:x:1000:1001::/a:/bin/sh\n"), file("etc/group", b"audio:x:63:app\napp:x:1001:\n"))
    script = "id -u; id -g; id -G; grep -E 'Cap(Prm|Eff)' /proc/self/status"
    printed = inside(script, files, config={"user": "app"})
    assert printed.split() == ["1000", "1001", "1001", "63", "CapPrm:", "0" * 16, "CapEff:", "0" * 16]


def test_unknown_user_starts_nothing(host, base):
    image = host.push(base, user="nobody-here")
    with pytest.raises(UnknownUser):
        host.run(image)


def test_missing_command_is_127_and_one_that_cannot_run_126(host, base):
    image = host.push(base, layer(file("plain", b"text")))
    with pytest.raises(MissingCommand) as caught:
        host.run(image, command=("/nosuch",))
    assert caught.value.status() == EXIT_RUN_NOT_FOUND
    with pytest.raises(SigkitError) as caught_other:
        host.run(image, command=("/plain",))
    assert caught_other.value.status() == EXIT_RUN_NOT_EXECUTABLE


def test_image_without_a_program_is_an_error(host, base):
    with pytest.raises(NothingToRun):
        host.run(host.push(base, cmd=()))


def test_files_of_the_engine_are_bound_in(inside):
    printed = inside("cat /etc/hostname /etc/hosts; hostname; cat /etc/resolv.conf", confinement=confinement(hostname="box"))
    lines = printed.split("\n")
    assert (lines[0], lines[-2]) == ("box", "box")
    assert "127.0.0.1\tlocalhost" in lines


def test_working_directory_is_made_where_it_is_missing(inside):
    above = layer(directory("srv/", mode=0o750), file("srv/kept"))
    printed = inside("pwd; ls -ld /srv | cut -c1-10; ls /srv", above, config={"working_dir": "/srv/new/app"})
    assert printed.split() == ["/srv/new/app", "drwxr-x---", "kept", "new"]
    assert inside("pwd; ls /new", confinement=confinement(working_dir="/new/place")).split() == ["/new/place", "place"]


@pytest.mark.attack("CVE-2022-23648")
@pytest.mark.parametrize("path", ["/../../escaped", "/a/../../../escaped", "/" + "x" * 300, "/x" * 1000])
def test_working_directory_never_leads_out(host, base, path):
    with pytest.raises(SigkitError):
        host.run(host.push(base, working_dir=path), command=("/bin/true",))
    assert not [name for name in os.listdir(host.root.parent) if name == "escaped"]


def test_network_none_has_only_loopback(inside):
    assert inside("ls /sys/class/net") == "lo\n"


def test_network_host_is_the_hosts(inside):
    found = inside("ls /sys/class/net; cat /etc/resolv.conf", confinement=confinement(network=Network.HOST))
    assert set(os.listdir("/sys/class/net")) <= set(found.split())


def test_granted_mount_is_there_and_read_only_is(inside, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("host's")
    read_only = confinement(mounts=(BindMount(str(tmp_path / "data"), "/new/data", MountAccess.READ_ONLY),))
    assert inside("cat /new/data/file; touch /new/data/x || echo refused", confinement=read_only).endswith("refused\n")
    assert not (tmp_path / "data/x").exists()
    writable = confinement(mounts=(BindMount(str(tmp_path / "data"), "/new/data", MountAccess.READ_WRITE),))
    inside("touch /new/data/x", confinement=writable)
    assert (tmp_path / "data/x").exists()


@pytest.mark.attack("swapped mount source")
def test_granted_mount_that_became_a_link_is_refused(host, base, tmp_path):
    """What was granted is /…/data; whoever may write beside it puts a link to something else there."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "data").symlink_to("secret")
    granted = confinement(mounts=(BindMount(str(tmp_path / "data"), "/data", MountAccess.READ_WRITE),))
    with pytest.raises(SourceChanged) as caught:
        host.run(host.push(base), command=("/bin/sh", "-c", "touch /data/x"), confinement=granted)
    assert caught.value.place.source == str(tmp_path / "data")
    assert list((tmp_path / "secret").iterdir()) == []


def test_read_only_root(inside):
    printed = inside("touch /x || echo refused; touch /tmp/x && echo written", confinement=confinement(read_only=True))
    assert "refused" in printed
    assert printed.endswith("written\n")


@pytest.mark.slow
def test_many_layers_are_copied_where_one_mount_cannot_name_them(inside):
    """More paths than fit into a page of mount options, and the first of them hidden by a later one."""
    layers = [layer(file("count", str(number).encode()), file(f"f{number % 7}", b"x")) for number in range(130)]
    assert inside("cat /count; ls / | grep -c ^f", *layers, layer(whiteout("f0"))) == "1296\n"


def test_names_with_the_separators_of_mount_options_work(tmp_path, base):
    host = opened(tmp_path / "a:b,c\\d" / "store")
    assert shell(host, host.push(base, layer(file("x", b"x"))), "cat /x", tmp_path / "out") == "x"
    assert host.leftovers() == []


def test_deep_tree_that_the_container_made_is_removed(inside):
    inside("for i in 1 2 3 4 5 6 7 8 9; do mkdir -p " + "/".join("d" * 40) + "; cd " + "/".join("d" * 40) + "; done; touch x")


def test_directory_that_nobody_may_read_is_removed(inside):
    inside("mkdir -m 0 /a; mkdir -m 0 /a/b; touch /a/b/c")


@pytest.mark.root
@pytest.mark.skipif(not Path("/sys/fs/cgroup").is_dir(), reason="no cgroups on this machine")
def test_limits_hold_and_their_cgroups_go(inside):
    printed = inside("(for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done) || echo limited; wait", confinement=confinement(pids=4))
    assert printed.endswith("limited\n")


@pytest.mark.root
@pytest.mark.skipif(not can_limit("pids"), reason="no pids controller that may be written to")
def test_processes_are_limited_though_nobody_asked(inside):
    limit = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null || true"
    assert inside(limit) == "2048\n"
    assert inside(limit, confinement=confinement(pids=UNLIMITED)) in {"", "max\n"}


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.simulators.engine_host import Host
from tests.simulators.layers import layer, file
host = Host(Path(sys.argv[2]))
base = Path(sys.argv[3]).read_bytes()
image = host.push(base, layer(file("x", b"x")))
print("ready", flush=True)
sys.exit(host.run(image, command=("/bin/sh", "-c", sys.argv[4])))
"""


def drive(tmp_path: Path, base: bytes, script: str, **environment: str) -> subprocess.Popen[str]:
    """Pull and run in a process of its own."""
    archive = tmp_path / "base.tar"
    archive.write_bytes(base)
    command = [sys.executable, "-c", DRIVER, str(CHECKOUT), str(tmp_path / "store"), str(archive), script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}, start_new_session=True)


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    pytest.fail(f"it ended before it said {line!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_reaches_the_container_and_nothing_is_left(host, base, tmp_path, number):
    with drive(tmp_path, base, "trap 'exit 42' TERM INT; echo running; while :; do sleep 0.05; done") as process:
        wait_for(process, "running")
        process.send_signal(number)
        assert process.wait(60) == 42
    assert host.leftovers() == []


def test_killed_engine_takes_its_container_with_it_and_the_next_start_cleans_up(host, base, tmp_path):
    with drive(tmp_path, base, "echo running; while :; do sleep 0.05; done") as process:
        wait_for(process, "running")
        ids = os.listdir(host.root / "containers")
        process.kill()
        process.wait(60)
    deadline = time.monotonic() + 30
    while [left for left in host.leftovers() if left.startswith(("process", "mount"))]:
        assert time.monotonic() < deadline, host.leftovers()
    assert [left for left in host.leftovers() if left.startswith("containers")] == [f"containers: {ids[0]}"]
    assert host.run(host.push(base), command=("/bin/true",)) == 0
    assert host.leftovers() == []
    assert host.runtime_leftovers(ids) == []


def test_snapshot_of_no_layers_is_an_empty_root(host):
    directory_ = host.root / "containers" / "x"
    layers = host.layers()
    directory_.mkdir(parents=True)
    try:
        assert make_root(str(directory_), layers, (), "/") is not None
    finally:
        from sigkit.engine.snapshots import remove_tree

        remove_tree(str(directory_), layers.ids)
