"""The same image through sigkit and through real peers: one tree, with owners, modes, times and attributes."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sigkit.digest import Digest
from sigkit.engine.snapshots import Overlay, make_root
from sigkit.oci.manifest import OCI_LAYER_GZIP
from tests.simulators.engine_host import Host, opened
from tests.simulators.layers import character, directory, fifo, file, gnu_long, hard_link, layer, opaque, pax, symlink, whiteout

pytestmark = [pytest.mark.root, pytest.mark.peers]

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")

LAYERS = (
    layer(
        directory("./", mode=0o755),
        directory("etc/", mode=0o755, mtime=1_600_000_000),
        file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n", mtime=1_600_000_001),
        directory("usr/"),
        directory("usr/bin/", mode=0o755),
        symlink("bin", "usr/bin"),
        file("usr/bin/su", b"su" * 1000, mode=0o4755),
        hard_link("usr/bin/su2", "usr/bin/su", mode=0o4755),
        pax({"SCHILY.xattr.security.capability": CAPABILITY}),
        file("usr/bin/ping", b"ping", mode=0o755),
        directory("tmp/", mode=0o1777),
        directory("home/app/", uid=1000, gid=1001, mode=0o700),
        pax({"SCHILY.xattr.user.note": "kept"}),
        file("home/app/file", b"x" * 100_000, uid=1000, gid=1001, mode=0o600),
        directory("var/cache/"),
        file("var/cache/a"),
        file("var/cache/b"),
        directory("var/log/"),
        file("var/log/old", b"old"),
        fifo("var/pipe", mode=0o622, uid=3),
        character("var/null", 1, 3, mode=0o666),
        gnu_long(b"L", b"opt/" + b"long" * 40 + b"/f"),
        file("x", b"long"),
        pax({"path": "opt/\u00e4\u00f6", "mtime": "1600000000.123456789"}),
        file("x", b"utf-8"),
        pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "opt/holes", "GNU.sparse.realsize": "100000"}),
        file("GNUSparseFile.0/holes", b"2\n0\n4\n99996\n4\n".ljust(512, b"\0") + b"headtail"),
        file("replaced", b"a file"),
        symlink("relinked", "replaced"),
        directory("redirected/"),
        file("redirected/inside"),
    ),
    layer(
        whiteout("etc/gone"),
        directory("var/"),
        directory("var/cache/", mode=0o750),
        opaque("var/cache"),
        file("var/cache/c", b"new"),
        directory("var/log/"),
        whiteout("var/log/old"),
        directory("replaced/"),
        file("replaced/now", b"a directory"),
        file("relinked", b"no link"),
        symlink("redirected", "usr"),
        directory("usr/"),
        directory("usr/bin/"),
        whiteout("usr/bin/su2"),
    ),
    layer(directory("var/"), directory("var/log/"), file("var/log/old", b"again"), directory("etc/"), file("etc/passwd", b"new\n")),
)

DESCRIBE = r"""
import json, os, stat, sys
found = {}
root = sys.argv[1]
for above, names, leaves in os.walk(root):
    for name in names + leaves + ([""] if above == root else []):
        path = os.path.join(above, name)
        status = os.lstat(path)
        content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = file.read().decode("latin-1")
        xattrs = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in os.listxattr(path, follow_symlinks=False)}
        xattrs = {n: v for n, v in xattrs.items() if ".overlay." not in n and not n.startswith("user.rootlesscontainers")}
        times = None if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
        device = status.st_rdev if stat.S_ISCHR(status.st_mode) else 0
        found[os.path.relpath(path, root)] = [status.st_mode, status.st_uid, status.st_gid, times, device, content, xattrs]
json.dump(found, sys.stdout)
"""


@pytest.fixture
def host(tmp_path):
    return opened(tmp_path / "store")


def describe(root: Path, *before: str) -> dict:
    """Describe a tree, in a mount namespace of its own after the shell line `before`."""
    script = " ".join(before) + ' exec "$@"'
    command = ["unshare", "-m", "sh", "-ec", script, "sh", sys.executable, "-c", DESCRIBE, str(root)]
    done = subprocess.run(command, capture_output=True, check=True)
    found: dict = json.loads(done.stdout)
    return found


def merged(host: Host, image) -> dict:
    pulled = host.pull(image)
    directory_ = host.root / "containers" / "peer"
    directory_.mkdir(parents=True)
    root = make_root(str(directory_), host.layers(), pulled.chain, "/")
    assert isinstance(root, Overlay)
    return describe(directory_ / "rootfs", f"mount -t overlay -o '{root.mount[2]}' overlay '{directory_}/rootfs';")


def write_layout(image, packed: list[bytes], config: bytes, to: Path) -> None:
    blobs = to / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for data in (*packed, config, image.manifest.raw):
        (blobs / Digest.of(data).hex).write_bytes(data)
    (to / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    descriptor = {**image.manifest.descriptor().encode(), "annotations": {"org.opencontainers.image.ref.name": "latest"}}
    (to / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))


@pytest.fixture
def packed():
    return [gzip.compress(archive, 1, mtime=0) for archive in LAYERS]


def test_merged_tree_is_what_umoci_unpacks(host, peer, tmp_path, packed):
    image = host.push(*LAYERS, media_type=OCI_LAYER_GZIP, packed=packed)
    config = host.registry.fetch_blob(*_config(image), most_bytes=1 << 20)
    write_layout(image, packed, config, tmp_path / "layout")
    done = peer("umoci", "unpack", "--image", f"{tmp_path}/layout:latest", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    ours, theirs = merged(host, image), describe(tmp_path / "bundle" / "rootfs")
    assert ours.keys() == theirs.keys()
    for path, found in ours.items():
        # `.`: the mode of an overlay's root is that of its upper directory.
        assert found == theirs[path] or path == ".", path


def test_merged_tree_is_what_podman_shows(host, peer, tmp_path, packed):
    image = host.push(*LAYERS, media_type=OCI_LAYER_GZIP, packed=packed)
    config = host.registry.fetch_blob(*_config(image), most_bytes=1 << 20)
    write_layout(image, packed, config, tmp_path / "layout")
    store = ("--root", tmp_path / "podman", "--runroot", tmp_path / "podman-run")
    env = {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    pulled = peer("podman", *store, "pull", "-q", f"oci:{tmp_path}/layout:latest", env=env)
    assert pulled.returncode == 0, pulled.stderr
    exported = tmp_path / "exported.tar"
    created = peer("podman", *store, "create", "--network", "none", pulled.stdout.strip(), "/bin/true", env=env)
    assert created.returncode == 0, created.stderr
    done = peer("podman", *store, "export", "-o", exported, created.stdout.strip(), env=env)
    assert done.returncode == 0, done.stderr
    (tmp_path / "tree").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "tree", "--xattrs", "--xattrs-include=*", "-xpf", exported], check=True)
    peer("podman", *store, "rm", "-f", "-a", env=env)
    ours, theirs = merged(host, image), describe(tmp_path / "tree")
    for path, found in ours.items():
        if path != "." and path in theirs:
            # GNU tar drops a part of the time where podman's export wrote none.
            assert found[:3] == theirs[path][:3], path
            assert found[5:] == theirs[path][5:], path
    assert not [path for path in ours if path not in theirs]


def _config(image):
    from tests.simulators.engine_host import REPOSITORY

    return REPOSITORY, image.manifest.config
