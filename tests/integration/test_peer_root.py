"""The lanes in which real peers run: each peer starts, and nothing that it writes is left in the peers' root."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.simulators.peer_root import find_root

pytestmark = pytest.mark.peers


@pytest.fixture
def busybox_bundle(peer, tmp_path):
    """Return a bundle directory (config.json by runc's own `spec`) that runs one command of a static busybox."""
    rootfs = tmp_path / "bundle/rootfs"
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True)
    assert peer("cp", "/usr/bin/busybox", rootfs / "bin/busybox").returncode == 0
    (rootfs / "bin/sh").symlink_to("busybox")
    assert peer("runc", "spec", "--bundle", rootfs.parent).returncode == 0
    config = rootfs.parent / "config.json"
    spec = json.loads(config.read_text())
    spec["process"] |= {"terminal": False, "args": ["/bin/sh", "-c", "echo from inside; exit 7"]}
    config.write_text(json.dumps(spec))
    return rootfs.parent


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_runtime_starts_a_bundle_directory(peer, busybox_bundle, tmp_path, runtime):
    done = peer(runtime, "--root", tmp_path / "state", "run", "--bundle", busybox_bundle, f"lane-{runtime}")
    assert (done.returncode, done.stdout) == (7, "from inside\n"), done.stderr


@pytest.mark.parametrize("user", ["root", "plain"])
def test_podman_runs_an_image_as_root_and_as_a_plain_user(peer, busybox_bundle, tmp_path, user):
    home = tmp_path / "podman"
    home.mkdir()
    podman = ("podman", "--root", home / "root", "--runroot", home / "run", "--cgroup-manager", "cgroupfs")
    options = {"user": user, "env": {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1", "HOME": str(home)}}
    packed = tmp_path / "rootfs.tar"
    subprocess.run(["tar", "-C", busybox_bundle / "rootfs", "-cf", packed, "."], check=True)
    peer("chown", "-R", user, home)
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    done = peer(*podman, "import", packed, "lane:1", **options)
    assert done.returncode == 0, done.stderr
    done = peer(*podman, "run", "--rm", "--network", "none", "lane:1", "/bin/sh", "-c", "echo from inside; exit 7", **options)
    assert (done.returncode, done.stdout) == (7, "from inside\n"), done.stderr


def test_docker_registry_answers_and_stores_what_skopeo_pushes(peer, docker_registry, busybox_bundle, tmp_path):
    with urllib.request.urlopen(f"http://{docker_registry.address}/v2/") as answer:
        assert answer.status == 200
    layout = tmp_path / "layout"
    for command in (
        ("umoci", "init", "--layout", layout),
        ("umoci", "new", "--image", f"{layout}:1"),
        ("umoci", "insert", "--image", f"{layout}:1", busybox_bundle / "rootfs", "/"),
        ("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{docker_registry.address}/bb:1"),
        ("oras", "manifest", "fetch", "--plain-http", f"{docker_registry.address}/bb:1"),
    ):
        done = peer(*command)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schemaVersion"] == 2
    assert list(docker_registry.storage.rglob("data"))


def test_cosign_signs_and_verifies_in_there(peer, tmp_path):
    env = {"COSIGN_PASSWORD": "secret"}
    assert peer("cosign", "generate-key-pair", "--output-key-prefix", tmp_path / "k", env=env).returncode == 0
    (tmp_path / "blob").write_bytes(b"content")
    offline = ("--use-signing-config=false", "--tlog-upload=false", "--new-bundle-format=false", "--yes")
    done = peer("cosign", "sign-blob", "--key", tmp_path / "k.key", *offline, tmp_path / "blob", env=env)
    assert done.returncode == 0, done.stderr


def test_what_a_peer_writes_outside_tmp_is_not_left_in_the_peers_root(peer):
    assert peer("sh", "-c", "echo x > /etc/left-behind; cat /etc/left-behind").stdout == "x\n"
    assert not (find_root() / "etc/left-behind").exists()


def test_the_environment_of_the_caller_does_not_go_in(peer, monkeypatch):
    monkeypatch.setenv("COSIGN_REPOSITORY", "elsewhere.example/x")
    assert "COSIGN_REPOSITORY" not in peer("env").stdout


def test_the_checkout_is_at_the_same_path_inside(peer):
    here = Path(__file__)
    assert peer("cat", here).stdout == here.read_text()


def test_the_namespace_ends_with_the_process_that_made_it():
    code = (
        "import subprocess, sys\n"
        "from tests.simulators.peer_root import CHECKOUT, PeerRoot\n"
        "with PeerRoot.opened() as peer:\n"
        "    print(peer._holder.pid, flush=True)\n"
        "    import os; os._exit(0)\n"
    )
    checkout = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    holder = Path(f"/proc/{done.stdout.strip()}")
    watched = subprocess.run(["timeout", "10", "tail", "--pid", holder.name, "-f", "/dev/null"], check=False)
    assert watched.returncode == 0
