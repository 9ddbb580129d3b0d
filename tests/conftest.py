"""What every test may ask for, and what is skipped, or fails, where the machine cannot give it.

With SIGKIT_REQUIRE_PEERS=1 (continuous integration) nothing that is missing is skipped: it fails.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest

from sigkit import durable
from tests.simulators import go_peers, js_peers, peer_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No deadlines: a busy machine is no failure. `tox -e fuzz` asks for the second.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("tests")

KEPT = ("SIGKIT_GO_PEERS", "SIGKIT_JS_PEERS", "SIGKIT_PEERS", "SIGKIT_REQUIRE_PEERS", "SIGKIT_VECTORS")


# Files whose tests start containers or compare the whole machine before and after (mounts, control groups, processes).
ALONE = (
    "engine/test_faults.py",
    "engine/test_tree.py",
    "integration/test_engine_",
    "integration/test_peer_root.py",
    "integration/test_runtime_",
    *(f"runtime/test_{name}.py" for name in ("cgroups", "cli", "create", "failures", "init", "spawn", "sync", "trace")),
)


def _absent(reason: str) -> NoReturn:
    if os.environ.get("SIGKIT_REQUIRE_PEERS") == "1":
        pytest.fail(f"required here: {reason}", pytrace=False)
    pytest.skip(reason)


def _why_not_root() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return "needs root in the initial user namespace"
    return ""


def pytest_configure() -> None:
    """Hear what a shell that runs this in the background would have ignored: programs inherit it, and `nohup` is a promise."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_xdist_auto_num_workers() -> int:
    """Run one test more at a time than there are processors: a third of their time tests wait, for servers, processes and clocks."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what nothing may run beside, for `tox -e unit` to run it by itself."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(ALONE):
            item.add_marker("alone")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail what this machine cannot run, with the reason."""
    if item.get_closest_marker("root") and (why := _why_not_root()):
        _absent(why)
    if item.get_closest_marker("peers") and (why := peer_root.why_absent()):
        _absent(why)


@pytest.fixture(autouse=True)
def own_failpoints(monkeypatch):
    """Let each test count the passages of its failpoints from the first."""
    monkeypatch.setattr(durable, "_passages", {})


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Give each test a home of its own, so that none reads or writes the user's keys, credentials and stores."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("SIGKIT_", "COSIGN_", "XDG_", "REGISTRY_AUTH", "DOCKER_")) and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SIGKIT_TRUST", str(home / "trust"))  # root's own are the machine's, home or not
    return home


@pytest.fixture(scope="session")
def peer() -> Iterator[peer_root.PeerRoot]:
    """Run a real peer: `done = peer("cosign", "verify", "--key", path, image, env={…})`, a CompletedProcess of text.

    For tests marked `peers`. Paths below /tmp (so `tmp_path`) and the checkout are the same inside and outside; the network is
    the machine's. `user="plain"` runs rootless; `peer.command(…)` gives the argument list for a Popen of the test's own. The
    namespace lasts for the session: give podman `--root` and `--runroot`, crun and runc `--root`, below `tmp_path`.
    """
    if why := peer_root.why_absent():
        _absent(why)
    with peer_root.PeerRoot.opened() as opened:
        yield opened


@pytest.fixture(scope="session")
def go_peer() -> Callable[[str], Path]:
    """Return the path of a program that `.ci/go-peers` builds; skip, or fail, where it was not built. For tests marked `peers`."""

    def find(name: str) -> Path:
        return go_peers.find(name) or _absent(f"no {name}: run .ci/go-peers {name}")

    return find


@pytest.fixture(scope="session")
def sigstore_js(peer, tmp_path_factory) -> js_peers.SigstoreJs:
    """Ask the sigstore-js that `.ci/js-peers` fetches: `answers = sigstore_js(*questions)`. For tests marked `peers`."""
    fetched = js_peers.find() or _absent("no sigstore-js: run .ci/js-peers")
    if why := js_peers.why_no_node():
        _absent(why)
    return js_peers.SigstoreJs.copied(peer, fetched, tmp_path_factory.mktemp("js"))


@pytest.fixture
def docker_registry(peer, tmp_path) -> Iterator[peer_root.RunningRegistry]:
    """Run Debian's docker-registry, empty, for this test: `.address` ("127.0.0.1:PORT", plain HTTP) and `.storage` (its files)."""
    with peer_root.docker_registry(peer, tmp_path) as running:
        yield running


@pytest.fixture
def free_port() -> int:
    """Return a loopback TCP port that was free a moment ago. A server that can bind port 0 itself should."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Return the directory of the project's test vectors ($SIGKIT_VECTORS); skip, or fail, where it is not given."""
    given = os.environ.get("SIGKIT_VECTORS")
    if not given or not Path(given).is_dir():
        _absent("SIGKIT_VECTORS names no directory")
    return Path(given)
