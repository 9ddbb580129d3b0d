"""Attacks with layers, each fed to a pull from a registry: refused for the right reason, and nothing is left behind."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from sigkit.digest import Digest
from sigkit.errors import Kind, SigkitError
from sigkit.oci.manifest import OCI_LAYER_GZIP, OCI_LAYER_TAR, OCI_LAYER_ZSTD
from tests.simulators.engine_host import Host, opened
from tests.simulators.layers import (
    base256,
    block_device,
    character,
    directory,
    file,
    hard_link,
    header,
    layer,
    listing,
    opaque,
    padded,
    pax,
    record,
    symlink,
)


@pytest.fixture
def host(tmp_path):
    return opened(tmp_path / "store")


@pytest.fixture
def outside(tmp_path):
    """A directory of the host that no layer may reach."""
    found = tmp_path / "outside"
    found.mkdir(mode=0o750)
    (found / "kept").write_text("kept")
    return found


def untouched(outside: Path) -> bool:
    status = (outside / "kept").stat()
    return (
        os.listdir(outside) == ["kept"]
        and (outside / "kept").read_text() == "kept"
        and status.st_nlink == 1
        and stat.S_IMODE(outside.stat().st_mode) == 0o750
    )


def refused(host: Host, archive: bytes, kind: Kind = Kind.UNPACK, **push) -> SigkitError:
    """Pull an image whose second layer is `archive`, which must be refused and leave nothing."""
    base = layer(directory("etc/"), file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), directory("d/"), file("d/a"), symlink("bin", "usr/bin"))
    packed = push.pop("packed", None)
    diff_ids = push.pop("diff_ids", None)
    image = host.push(
        base,
        archive,
        packed=None if packed is None else [packed[0](base), packed[1]],
        diff_ids=None if diff_ids is None else [Digest.of(base), *diff_ids],
        **push,
    )
    with pytest.raises(SigkitError) as caught:
        host.pull(image)
    assert caught.value.kind is kind, caught.value
    left = host.files()
    # The layer below is whole and stays; of the refused one, and of the image, there is nothing.
    assert not [name for name in left if Digest.of(image.layers[1]).hex in name or image.digest.hex in name]
    assert not [name for name in left if image.manifest.config.digest.hex in name]
    assert host.leftovers() == []
    return caught.value


@pytest.mark.attack("CVE-2025-4517, CVE-2025-4330, CVE-2025-4138, CVE-2025-4435, CVE-2024-12718")
def test_link_chain_beyond_the_longest_path_leads_nowhere(host, outside):
    component = "d" * 247
    entries, path = [], ""
    for step in "abcdefghijklmnop":
        entries += [directory_of(f"{path}{component}/"), link_of(f"{path}{step}", component)]
        path += f"{component}/"
    far = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    entries += [link_of(far, "../" * 16), link_of("escape", f"{far}/../../../..{outside}")]
    refused(host, layer(*entries, hard_link("flag", "escape/kept"), file("flag", b"x")))
    refused(host, layer(*entries, file("escape/kept", b"x")))
    assert untouched(outside)


def directory_of(name: str) -> bytes:
    return pax({"path": name}) + directory("long/")


def link_of(name: str, target: str) -> bytes:
    return pax({"path": name, "linkpath": target}) + symlink("long", "long")


@pytest.mark.attack("CVE-2025-8194")
@pytest.mark.parametrize(
    "size",
    [pytest.param(base256(-256, 12), id="base-256"), pytest.param(b"-400", id="text"), pytest.param(base256(-(2**80), 12), id="huge")],
)
def test_negative_size_is_refused(host, size):
    refused(host, layer(file("a", b"", size=size), file("b", b"b")))


@pytest.mark.attack("cpython#151558, cpython#157190")
def test_hard_link_to_a_symbolic_link_links_the_link(host, outside):
    image = host.push(layer(symlink("soft", str(outside / "kept")), hard_link("hard", "soft")))
    assert listing(host.tree(image)) == {"soft": f"link {outside}/kept", "hard": f"link {outside}/kept"}
    assert untouched(outside)


@pytest.mark.attack("CVE-2021-29136")
@pytest.mark.parametrize("name", ["/.", ".", "./", "/", "//./"])
def test_root_cannot_be_replaced(host, outside, name):
    refused(host, layer(symlink(name, str(outside)), file("x", b"x")))
    assert untouched(outside)


@pytest.mark.attack("CVE-2021-32760, CVE-2026-33056")
def test_mode_and_owner_are_never_set_through_a_link(host, outside):
    refused(host, layer(symlink("d", str(outside)), directory("d/", mode=0o777, uid=1)))
    assert untouched(outside)


@pytest.mark.attack("CVE-2026-50163")
def test_target_of_a_hard_link_is_looked_up_in_the_layer(host, outside, monkeypatch):
    monkeypatch.chdir(outside)
    refused(host, layer(hard_link("here", "kept")))
    assert untouched(outside)
    image = host.push(layer(file("kept", b"layer's"), hard_link("d/here", "kept")))
    assert listing(host.tree(image))["d/here"] == "file layer's"


@pytest.mark.attack("CVE-2026-50162")
@pytest.mark.parametrize("target", ["/", "../../..", ".", "d"])
def test_path_through_a_link_is_refused(host, outside, target):
    refused(host, layer(directory("d/"), symlink("out", target), file("out" + str(outside) + "/new", b"x")))
    assert untouched(outside)


@pytest.mark.attack("CVE-2025-62518, CVE-2026-33055")
@pytest.mark.parametrize(("ustar", "told"), [(0, 1024), (1024, 0), (512, 1024)])
def test_contradicting_sizes_are_refused(host, ustar, told):
    hidden = file("hidden", b"")
    refused(host, layer(pax({"size": str(told)}), header("a", size=ustar), padded(hidden), padded(bytes(512))))


@pytest.mark.attack("gzip members")
def test_every_gzip_member_counts(host):
    first, second = file("first", b"1"), file("second", b"2") + bytes(1024)
    two = gzip.compress(first) + gzip.compress(second)
    image = host.push(first + second, media_type=OCI_LAYER_GZIP, packed=[two])
    assert listing(host.tree(image)) == {"first": "file 1", "second": "file 2"}
    other = gzip.compress(first) + gzip.compress(second, 1)
    refused(host, first, Kind.DIGEST, media_type=OCI_LAYER_GZIP, packed=[gzip.compress, other])


@pytest.mark.attack("containers/storage#1778, containers/storage#2014, containers/storage#1627")
def test_claimed_diff_id_is_not_believed(host):
    refused(host, layer(file("a", b"evil")), Kind.DIGEST, diff_ids=[Digest.of(layer(file("a", b"good")))])


@pytest.mark.attack("containers/storage#1778, containers/storage#2014, containers/storage#1627")
def test_table_of_contents_is_only_data(host):
    """The last frames of a zstd:chunked layer are skippable and describe its content."""
    from tests.simulators.zstd_frames import frame, skippable

    archive = layer(file("a", b"true content"))
    toc = skippable(b'{"version":1,"entries":[{"type":"reg","name":"a","size":4,"digest":"sha256:00"}]}')
    image = host.push(archive, media_type=OCI_LAYER_ZSTD, packed=[frame(archive) + toc])
    assert listing(host.tree(image)) == {"a": "file true content"}


@pytest.mark.attack("CVE-2026-41567")
def test_nothing_of_the_image_is_executed_or_imported(host):
    """Were a poisoned module found, it would end the process: at its own path, the container's, or the layer's."""
    poison = b"#!/bin/sh\ntouch /executed\n"
    module = b"import os\nos._exit(1)\n"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    programs = ("gzip", "unpigz", "newuidmap", "sh", "tar")
    tools = [file(f"{where}/{name}", poison, mode=0o755) for where in ("bin", "usr/bin") for name in programs]
    modules = [
        file(f"{where}/{name}", module)
        for where in {f"usr/lib/{version}", os.path.dirname(os.__file__).lstrip("/"), ""}  # Debian's own interpreter is the first
        for name in ("linecache.py", "traceback.py", "encodings/idna.py", "sigkit/__init__.py", "codecs.py", "stringprep.py")
    ]
    hostile = layer(*tools, *(m.replace(b"//", b"/") for m in modules), file("sitecustomize.py", module))
    image = host.push(hostile, layer(*tools))
    found = listing(host.tree(image))
    assert found["bin/gzip"].startswith("file #!/bin/sh")
    assert "executed" not in found
    refused(host, layer(file(b"\xff\xfe\n", b""), file("../\udcff".encode("utf-8", "surrogatepass"), b"")))


@pytest.mark.attack("CVE-2021-20291, CVE-2023-25153")
def test_xz_is_not_read(host):
    archive = layer(file("a", b"a"))
    refused(host, archive, media_type=OCI_LAYER_GZIP, packed=[gzip.compress, lzma.compress(archive)])
    refused(host, archive, media_type="application/vnd.oci.image.layer.v1.tar+xz", packed=[lzma.compress, lzma.compress(archive)])


@pytest.mark.attack("CVE-2021-20291, CVE-2023-25153")
@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([header("huge", size=2**40)], id="size"),
        pytest.param([pax({"size": str(2**40)}), header("huge", size=2**40)], id="pax-size"),
        pytest.param([header("x", b"x", size=2**30)], id="extension"),
        pytest.param([header("L", b"L", size=2**31)], id="long-name"),
        pytest.param([pax({"path": "d/" * 3000 + "f"}), file("f")], id="name"),
        pytest.param([pax({"path": "d/" * 300 + "f"}), file("f")], id="depth"),
        pytest.param([pax({"path": "d" * 256}), file("f")], id="component"),
        pytest.param(
            [pax(record("GNU.sparse.size", str(2**50)) + record("GNU.sparse.map", "0,1")), file("holes", b"x")],
            id="sparse",
        ),
    ],
)
def test_beyond_a_limit_is_refused_before_it_is_read(host, entries):
    refused(host, layer(*entries), Kind.LIMIT)


@pytest.mark.slow
@pytest.mark.attack("CVE-2021-20291, CVE-2023-25153")
def test_bomb_takes_no_memory(host):
    """A gigabyte of zeros behind the end of the archive is read through in pieces."""
    size = 2**30
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    packed = packer.compress(layer(file("a", b"a"))) + b"".join(packer.compress(zeros) for _ in range(size // len(zeros))) + packer.flush()
    image = host.push(b"", media_type=OCI_LAYER_GZIP, packed=[packed], diff_ids=[Digest.of(b"")])
    script = (
        "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
        "from sigkit.engine.unpack import Unpacking; from sigkit.engine.inflate import Compression\n"
        "from sigkit.digest import Digest; from sigkit.errors import DigestError, Place; from sigkit.runtime.users import choose_maps\n"
        "with Unpacking(sys.argv[2], Compression.GZIP, choose_maps(None), Digest.of(b''), Place('')) as unpacking:\n"
        "    unpacking.feed(open(sys.argv[3], 'rb').read())\n"
        "    try: unpacking.finish()\n"
        "    except DigestError: pass\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    into, blob = host.root.parent / "into", host.root.parent / "blob"
    into.mkdir()
    blob.write_bytes(image.layers[0])
    here = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", script, here, into, blob], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 100 * 2**20


@pytest.mark.attack("CVE-2025-47290")
def test_layers_are_unpacked_where_no_other_user_comes(host):
    image = host.push(layer(directory("open/", mode=0o777), file("open/file", b"x", mode=0o666)))
    tree = host.tree(image)
    assert (tree / "open").stat().st_mode & 0o777 == 0o777
    above = tree.parent
    while above != host.root.parent:
        assert stat.S_IMODE(above.stat().st_mode) == 0o700, above
        above = above.parent


@pytest.mark.attack("CVE-2021-41103")
def test_store_that_others_could_enter_is_closed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o755)
    host = opened(tmp_path / "store")
    image = host.push(layer(file("su", b"#!", mode=0o4755)))
    assert stat.S_IMODE((host.tree(image) / "su").stat().st_mode) == 0o4755
    assert stat.S_IMODE(host.root.stat().st_mode) == 0o700


def test_store_of_another_user_is_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to make another user's directory")
    (tmp_path / "store").mkdir(mode=0o777)
    os.chown(tmp_path / "store", 12345, 12345)
    with pytest.raises(SigkitError) as caught:
        Host(tmp_path / "store").store()
    assert caught.value.kind is Kind.UNAVAIL


SPECIAL = [
    pytest.param([file(".wh..")], id="whiteout-dot"),
    pytest.param([file(".wh...")], id="whiteout-dot-dot"),
    pytest.param([file("d/.wh.")], id="whiteout-nothing"),
    pytest.param([directory(".wh.a/")], id="whiteout-directory"),
    pytest.param([symlink(".wh.a", "b")], id="whiteout-link"),
    pytest.param([file(".wh.d/f")], id="below-a-whiteout"),
    pytest.param([symlink("s", "d"), file("s/.wh.a")], id="whiteout-through-a-link"),
    pytest.param([symlink("s", "d"), opaque("s")], id="opaque-through-a-link"),
    pytest.param([file("a", b"a"), file(".wh.a")], id="whiteout-of-the-same-layer"),
    pytest.param([character("mem", 1, 1)], id="memory-device"),
    pytest.param([character("kmsg", 1, 11)], id="kernel-log"),
    pytest.param([character("fuse", 10, 229)], id="fuse"),
    pytest.param([character("white", 0, 0)], id="device-that-is-a-whiteout"),
    pytest.param([block_device("sda", 8, 0)], id="disk"),
    pytest.param([block_device("null", 1, 3)], id="block-of-a-harmless-number"),
    pytest.param([pax({"SCHILY.xattr.trusted.overlay.redirect": "/etc"}), directory("xr/")], id="trusted-redirect"),
    pytest.param([pax({"SCHILY.xattr.trusted.overlay.opaque": "y"}), directory("o/")], id="trusted-opaque"),
    pytest.param([pax({"SCHILY.xattr.user.overlay.opaque": "y"}), directory("o/")], id="user-opaque"),
    pytest.param([pax({"SCHILY.xattr.user.overlay.metacopy": ""}), file("m")], id="user-metacopy"),
    pytest.param([pax({"SCHILY.xattr.user.overlay.redirect": "/etc"}), directory("./")], id="user-redirect-of-the-root"),
    pytest.param([pax({"SCHILY.xattr.trusted.overlay.origin": "x"}), symlink("l", "x")], id="attribute-of-a-link"),
]


@pytest.mark.attack("whiteouts, devices, capabilities, overlay xattrs")
@pytest.mark.parametrize("entries", SPECIAL)
def test_entry_that_acts_on_host_or_overlay_is_refused(host, entries):
    refused(host, layer(*entries))


@pytest.mark.attack("whiteouts, devices, capabilities, overlay xattrs")
def test_file_capability_comes_after_the_owner_that_would_clear_it(host):
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    image = host.push(layer(pax({"SCHILY.xattr.security.capability": capability}), file("ping", b"x", mode=0o755, uid=1, gid=1)))
    path = host.tree(image) / "ping"
    assert os.getxattr(path, "security.capability")[4:12] == capability[4:12]


def test_layer_types_are_the_documented_ones():
    assert {OCI_LAYER_TAR, OCI_LAYER_GZIP, OCI_LAYER_ZSTD} == {
        f"application/vnd.oci.image.layer.v1.tar{end}" for end in ("", "+gzip", "+zstd")
    }
