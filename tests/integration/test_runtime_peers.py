"""The same bundle directory through sigkit-runtime, crun and runc: what the program sees is the same."""

from __future__ import annotations

import re

import pytest

from sigkit.runtime.capabilities import DEFAULT
from sigkit.runtime.seccomp import default_profile
from tests.simulators.bundles import CLI, Bundle, open_directory

pytestmark = [pytest.mark.root, pytest.mark.peers]


@pytest.fixture
def bundle(tmp_path):
    with Bundle(tmp_path) as made:
        yield made


@pytest.fixture(params=["crun", "runc"])
def theirs(request, peer, bundle):
    """Run the bundle directory with a peer: `theirs("cat", "/x")`, a CompletedProcess."""

    def run(*args):
        bundle.write(*args)
        return peer(request.param, "--root", str(bundle.path / "peer-state"), "run", "--bundle", str(bundle.directory), f"{bundle.id}-peer")

    return run


@pytest.mark.parametrize(
    "script",
    [
        "cat /proc/self/status | while read a b; do case $a in Cap*|NoNewPrivs:|Seccomp:|Uid:|Gid:|Groups:) echo $a $b;; esac; done",
        "ls /dev",
        "cd /dev; ls -l null zero full random urandom tty | while read mode n u g ma mi rest; do echo $mode $u $g $ma $mi; done",
        "hostname; pwd; env; umask; id",
        "cat /proc/acpi /proc/keys /proc/timer_list; ls /sys/firmware",
        "ls /proc/self/fd",
        "echo 1 > /proc/sys/kernel/panic; mkdir /sys/x",
        "exit 42",
        "kill -TERM $$; exit 3",
    ],
)
def test_program_sees_what_it_sees_under_the_peers(bundle, theirs, script):
    bundle.config["linux"]["seccomp"] = default_profile(DEFAULT)
    other = theirs("sh", "-c", script)
    ours = bundle.run("sh", "-c", script)
    assert ours.returncode == other.returncode, (ours.stderr, other.stderr)
    assert without_own(ours.stdout) == without_own(other.stdout)


def without_own(text: str) -> list[str]:
    """Drop what runtimes are free to do: links of their own in /dev, a HOME that config.json does not name, the order of a listing."""
    return sorted(line for line in text.splitlines() if line not in {"core", "console", "HOME=/"})


@pytest.mark.parametrize("args", [["no-such-command"], ["/nosuch"], ["/etc/passwd"]])
def test_missing_and_unexecutable_commands_are_told_in_words_that_mean_the_same_to_podman(bundle, theirs, args):
    ours = bundle.run(*args)
    other = theirs(*args)
    assert podman_status(ours.stderr) == podman_status(other.stderr)


def podman_status(text: str) -> int:
    """Read an error as podman does (libpod/oci_util.go): the status comes from its words."""
    if re.search("permission denied|operation not permitted", text, re.IGNORECASE):
        return 126
    return 127 if re.search("executable file not found in|no such file or directory|open executable", text, re.IGNORECASE) else 126


@pytest.fixture
def reachable_bundle():
    with open_directory() as directory, Bundle(directory) as made:
        yield made


def test_range_of_subordinate_ids_is_mapped_by_newuidmap(reachable_bundle, peer):
    """As the plain user of the peers' root, who has a range in /etc/subuid, with that root's own interpreter."""
    bundle = reachable_bundle
    bundle.config["process"]["user"] = {"uid": 5, "gid": 6, "additionalGids": [7]}
    bundle.write("sh", "-c", "cat /proc/self/uid_map; id -u; id -G")
    owned = peer("chown", "-R", "plain:plain", str(bundle.path))
    assert owned.returncode == 0, owned.stderr
    words = ("-I", "-S", str(CLI), "--root", str(bundle.state_root), "run", "--bundle", str(bundle.directory), bundle.id)
    done = peer("python3", *words, user="plain")
    assert done.returncode == 0, done.stderr
    own = peer("id", "-u", user="plain").stdout.strip()
    assert done.stdout.split() == ["0", own, "1", "1", "200000", "65536", "5", "6", "7"]
