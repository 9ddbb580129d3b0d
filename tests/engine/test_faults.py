"""Killed at each named step of a pull, or refused by the disk there: what was promised holds, and running again needs no cleaning.

The invariants are those of docs/security.md: (a) a blob's bytes match its name; (b) a layer without a durable marker does not count;
(d) running again succeeds; (e) no process is left. That nothing runs without an allow (c) is the gate's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sigkit.digest import Digest
from sigkit.engine import pull as pulling
from sigkit.errors import Kind, SigkitError
from tests.simulators.engine_host import Host, Image, admission, opened
from tests.simulators.layers import directory, file, layer, listing, whiteout

CHECKOUT = Path(__file__).resolve().parents[2]

ARCHIVES = (
    layer(file("big", b"0123456789" * 150_000), directory("d/")),
    layer(file("d/small", b"x"), whiteout("big")),
)

# In the order in which a pull of the first layer passes them.
STEPS = [
    "pull.piece",
    "store.blob.fsync",
    "store.blob.rename",
    "store.blob.directory",
    "database.commit",
    "layer.sync",
    "layer.marker.fsync",
    "layer.marker.rename",
    "layer.marker.directory",
    "layer.rename",
    "layer.directory",
]

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sigkit.errors import SigkitError
from tests.simulators.engine_host import Host, admission
host = Host(Path(sys.argv[2]))
image = host.push(*(Path(path).read_bytes() for path in sys.argv[3:]))
try:
    host.engine().pull(admission(image), host.registry)
except SigkitError as err:
    sys.exit(err.kind.value)
"""


@pytest.fixture
def host(tmp_path):
    return opened(tmp_path / "store")


def pull_elsewhere(host: Host, failpoints: str) -> tuple[int, str]:
    """Pull in a process of its own, with these fail points armed, and return its status and the kind of its error."""
    paths = [host.root.parent / f"archive{number}" for number in range(len(ARCHIVES))]
    for path, archive in zip(paths, ARCHIVES, strict=True):
        path.write_bytes(archive)
    command = [sys.executable, "-c", SCRIPT, str(CHECKOUT), str(host.root), *map(str, paths)]
    environment = {**os.environ, "SIGKIT_FAILPOINTS": failpoints}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


def check_invariants(host: Host) -> None:
    for blob in (host.root / "blobs" / "sha256").glob("[!.]*"):
        assert Digest.of(blob.read_bytes()).hex == blob.name
    deadline = time.monotonic() + 30
    while [left for left in host.leftovers() if left.startswith(("process", "mount"))]:
        assert time.monotonic() < deadline, host.leftovers()
    layers = host.layers()
    for kept in (host.root / "layers").iterdir():
        chain_id = Digest("sha256", bytes.fromhex(kept.name.removeprefix("sha256-")))
        assert layers.has(chain_id), "a layer lies under its name without being whole"


def check_again(host: Host, image: Image) -> None:
    engine = host.engine()
    pulled = engine.pull(admission(image), host.registry)
    found = [listing(Path(host.layers().path(chain_id))) for chain_id in pulled.chain]
    assert [sorted(tree) for tree in found] == [["big", "d"], ["big", "d", "d/small"]]
    assert (Path(host.layers().path(pulled.chain[0])) / "big").stat().st_size == 1_500_000
    assert host.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize(("step", "passage"), [*((step, 1) for step in STEPS), ("store.blob.rename", 2), ("layer.rename", 2)])
def test_killed_at_a_step_the_next_pull_succeeds(host, step, passage):
    assert pull_elsewhere(host, f"{step}={passage}*kill") == (-signal.SIGKILL, "")
    check_invariants(host)
    check_again(host, host.push(*ARCHIVES))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["enospc", "eio"])
@pytest.mark.parametrize("step", ["store.blob.fsync", "store.blob.directory", "database.commit", "layer.sync", "layer.marker.fsync"])
def test_disk_that_refuses_a_step_leaves_nothing_half_done(host, step, fault):
    assert pull_elsewhere(host, f"{step}={fault}") == (1, Kind.UNAVAIL.value)
    check_invariants(host)
    assert host.leftovers() == []
    check_again(host, host.push(*ARCHIVES))


def test_killed_child_is_an_error_and_leaves_nothing(host):
    """As the kernel does when memory is short."""
    image = host.push(layer(file("big", os.urandom(16 << 20))))

    class Killing:
        def advance(self, *_: object) -> None:
            for listed in Path("/proc/self/task").glob("*/children"):
                for child in listed.read_text().split():
                    os.kill(int(child), signal.SIGKILL)

    with pytest.raises(SigkitError) as caught:
        pulling.pull(admission(image), host.registry, host.store(), host.layers(), Killing())
    assert caught.value.kind is Kind.UNAVAIL
    assert host.leftovers() == []
    assert len(host.pull(image).chain) == 1


INTERRUPTED = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sigkit.engine import pull as pulling
from tests.simulators.engine_host import Host, admission

class Blocking:
    def advance(self, *_):
        print("arrived", flush=True)
        sys.stdin.read()

def interrupted(*_):
    print("interrupted", flush=True)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupted)
host = Host(Path(sys.argv[2]))
image = host.push(*(Path(path).read_bytes() for path in sys.argv[3:]))
try:
    pulling.pull(admission(image), host.registry, host.store(), host.layers(), Blocking())
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_interrupt_while_a_layer_arrives_leaves_nothing(host, tmp_path):
    (tmp_path / "archive").write_bytes(layer(file("big", os.urandom(64 << 20))))
    command = [sys.executable, "-c", INTERRUPTED, str(CHECKOUT), str(host.root), str(tmp_path / "archive")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "arrived\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        process.stdin.close()
        assert process.wait(60) == 130
    assert host.leftovers() == []
    assert host.files() == set()


WITHOUT_NAMESPACES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sigkit.errors import SigkitError
from tests.simulators.engine_host import Host, admission
host = Host(Path(sys.argv[2]))
image = host.push(*(Path(path).read_bytes() for path in sys.argv[3:]))
engine, given = host.engine(), admission(image)
pulled = engine.pull(given, host.registry)
print(pulled.not_unpacked.code, len(host.redeem.used))
try:
    engine.start(given, pulled, host.redeem)
except SigkitError as err:
    print(err.kind.value, err.status(), len(host.redeem.used))
"""


def test_without_namespaces_images_are_pulled_and_nothing_starts(host, tmp_path):
    """In a user namespace that may make no network namespace."""
    paths = [tmp_path / f"archive{number}" for number in range(len(ARCHIVES))]
    for path, archive in zip(paths, ARCHIVES, strict=True):
        path.write_bytes(archive)
    script = 'echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"'
    command = [sys.executable, "-c", WITHOUT_NAMESPACES, str(CHECKOUT), str(host.root), *map(str, paths)]
    done = subprocess.run(["unshare", "-U", "-r", "sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["SK-UNAVAIL-016 0", "UNAVAIL 3 0"], done.stderr
    blobs = {path.name for path in (host.root / "blobs" / "sha256").iterdir()}
    assert blobs >= {Digest.of(archive).hex for archive in ARCHIVES}
    assert host.leftovers() == []
    assert len(host.pull(host.push(*ARCHIVES)).chain) == 2
