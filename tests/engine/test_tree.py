"""What each entry of a layer becomes: the rows of docs/engine.md's table, and what makes an ordinary image right."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sigkit.engine.tar import TarReader
from sigkit.engine.tree import Owners, Tree
from sigkit.errors import BrokenLink, EscapesRoot, ForbiddenEntry, Kind, MalformedLayer, SigkitError
from tests.simulators.layers import (
    base256,
    character,
    directory,
    fifo,
    file,
    gnu_long,
    hard_link,
    header,
    layer,
    listing,
    opaque,
    pax,
    symlink,
    whiteout,
)

AS_ROOT = os.geteuid() == 0


class Unpacker:
    """Unpacks one layer into a directory that lies beside one that no entry may reach."""

    def __init__(self, place: Path) -> None:
        self.outside = place / "outside"
        self.outside.mkdir()
        self.root = place / "root"
        self.root.mkdir()
        self.notes: tuple[str, ...] = ()

    def __call__(self, *entries: bytes) -> Path:
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            tree = Tree(descriptor, Owners.AS_GIVEN if AS_ROOT else Owners.CALLER)
            tree.apply(TarReader([layer(*entries)]))
            self.notes = tree.notes()
        finally:
            os.close(descriptor)
            assert os.listdir(self.outside) == []
        return self.root


@pytest.fixture
def unpack(tmp_path):
    return Unpacker(tmp_path)


KEPT = [
    pytest.param([file("/abs", b"x")], {"abs": "file x"}, id="leading-slash-means-nothing"),
    pytest.param([file("./a", b"x"), file(".//b", b"y")], {"a": "file x", "b": "file y"}, id="dots-and-empty-components-mean-nothing"),
    pytest.param([directory("./"), directory("/")], {}, id="root-itself"),
    pytest.param([file("x/y/z", b"1")], {"x": "dir", "x/y": "dir", "x/y/z": "file 1"}, id="missing-parents-are-made"),
    pytest.param([file("d/a"), directory("d/", mode=0o700)], {"d": "dir", "d/a": "file "}, id="directory-after-its-entries"),
    pytest.param([directory("d/"), file("d/a"), directory("d/")], {"d": "dir", "d/a": "file "}, id="directory-twice"),
    pytest.param([whiteout("gone")], {"gone": "whiteout"}, id="whiteout"),
    pytest.param([whiteout("a"), file("a", b"new")], {"a": "file new"}, id="whiteout-then-the-name"),
    pytest.param([whiteout("a"), symlink("a", "b")], {"a": "link b"}, id="whiteout-then-a-link"),
    pytest.param([whiteout("d"), directory("d/"), file("d/new")], {"d": "opaque", "d/new": "file "}, id="whiteout-then-a-directory"),
    pytest.param([whiteout("d"), file("d/new")], {"d": "opaque", "d/new": "file "}, id="whiteout-then-below-it"),
    pytest.param([whiteout("a"), whiteout("a")], {"a": "whiteout"}, id="whiteout-twice"),
    pytest.param([hard_link(".wh.a", ".wh..wh.aufs")], {"a": "whiteout"}, id="whiteout-as-aufs-wrote-it"),
    pytest.param([opaque("d"), file("d/new")], {"d": "opaque", "d/new": "file "}, id="opaque-before-new-files"),
    pytest.param([file("d/new"), opaque("d")], {"d": "opaque", "d/new": "file "}, id="opaque-after-new-files"),
    pytest.param([directory(".wh..wh.plnk/"), file(".wh..wh.plnk/1.2"), file(".wh..wh.aufs")], {}, id="aufs-names-are-skipped"),
    pytest.param([file("a", b"1"), hard_link("b", "/a")], {"a": "file 1", "b": "file 1"}, id="hard-link"),
    pytest.param([file("x/a"), hard_link("y/b", "./x//a")], {"x": "dir", "x/a": "file ", "y": "dir", "y/b": "file "}, id="link-afar"),
    pytest.param([symlink("s", "../../etc/shadow")], {"s": "link ../../etc/shadow"}, id="link-may-point-anywhere"),
    pytest.param([header("old", b"\0", size=0)], {"old": "file "}, id="v7-file"),
    pytest.param([header("old/", b"\0")], {"old": "dir"}, id="v7-directory"),
    pytest.param([header("name", prefix=b"pre/fix")], {"pre": "dir", "pre/fix": "dir", "pre/fix/name": "file "}, id="ustar-prefix"),
    pytest.param([gnu_long(b"L", b"d/" + b"n" * 200), file("short")], {"d": "dir", "d/" + "n" * 200: "file "}, id="gnu-long-name"),
    pytest.param([gnu_long(b"K", b"t" * 200), symlink("s", "short")], {"s": "link " + "t" * 200}, id="gnu-long-link"),
    pytest.param([pax({"path": "ä", "comment": "x"}), file("short", b"1")], {"ä": "file 1"}, id="pax-path"),
    pytest.param([pax({"linkpath": "far"}), symlink("s", "near")], {"s": "link far"}, id="pax-link"),
    pytest.param([pax({"comment": "0123"}, b"g"), file("a")], {"a": "file "}, id="global-comment"),
    pytest.param([pax({"LIBARCHIVE.xattr.trusted.overlay.redirect": "L2V0Yw"}), file("a")], {"a": "file "}, id="libarchive-attribute"),
]


@pytest.mark.parametrize(("entries", "expected"), KEPT)
def test_entry_becomes(unpack, entries, expected):
    assert listing(unpack(*entries)) == expected


REFUSED = [
    pytest.param([file("../esc")], id="climbing"),
    pytest.param([file("d/../e")], id="climbing-inside"),
    pytest.param([file("..")], id="only-climbing"),
    pytest.param([file("")], id="empty-name"),
    pytest.param([directory("")], id="empty-directory-name"),
    pytest.param([file("./")], id="file-in-place-of-the-root"),
    pytest.param([symlink("out", "/tmp"), file("out/f")], id="through-an-absolute-link"),
    pytest.param([symlink("out", "../../.."), file("out/hf")], id="through-a-climbing-link"),
    pytest.param([symlink("bin", "usr/bin"), file("bin/x")], id="through-a-link-inside"),
    pytest.param([symlink("d", "x"), directory("d/")], id="directory-over-a-link"),
    pytest.param([file("f"), file("f/x")], id="below-a-file"),
    pytest.param([fifo("f"), file("f/x")], id="below-a-pipe"),
    pytest.param([file("a"), file("a")], id="name-twice"),
    pytest.param([file("a"), symlink("a", "b")], id="file-then-link"),
    pytest.param([symlink("a", "b"), file("a")], id="link-then-file"),
    pytest.param([directory("a/"), file("a")], id="directory-then-file"),
    pytest.param([file("a"), directory("a/")], id="file-then-directory"),
    pytest.param([file("a"), hard_link("a", "a")], id="hard-link-to-itself"),
    pytest.param([hard_link("b", "/etc/passwd")], id="hard-link-below-another-layer"),
    pytest.param([hard_link("b", "gone")], id="hard-link-to-nothing"),
    pytest.param([file("a"), hard_link("b", "../a")], id="hard-link-climbing"),
    pytest.param([directory("d/"), hard_link("b", "d")], id="hard-link-to-a-directory"),
    pytest.param([hard_link("b", "/")], id="hard-link-to-the-root"),
    pytest.param([whiteout("a"), hard_link("b", "a")], id="hard-link-to-a-whiteout"),
    pytest.param([symlink("s", "."), file("a"), hard_link("b", "s/a")], id="hard-link-through-a-link"),
    pytest.param([file("a"), whiteout("a")], id="name-then-its-whiteout"),
    pytest.param([file("d/a"), whiteout("d")], id="directory-then-its-whiteout"),
    pytest.param([header("a", b"7")], id="contiguous-file"),
    pytest.param([header("a", b"V")], id="volume-header"),
    pytest.param([header("a", b"Z")], id="unknown-kind"),
    pytest.param([pax({"uid": "-1"}), file("a")], id="negative-owner-in-pax"),
    pytest.param([file("a", uid=base256(-1, 8))], id="negative-owner"),
    pytest.param([file("a", uid=base256(2**32 - 1, 8))], id="owner-that-means-no-change"),
    pytest.param([symlink("s", "")], id="link-to-nothing"),
]


@pytest.mark.parametrize("entries", REFUSED)
def test_entry_is_refused(unpack, entries):
    with pytest.raises(SigkitError) as caught:
        unpack(*entries)
    assert caught.value.kind is Kind.UNPACK


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        pytest.param([symlink("out", "/tmp"), file("out/f")], EscapesRoot, id="link"),
        pytest.param([file("f"), file("f/x")], MalformedLayer, id="file"),
        pytest.param([hard_link("b", "gone")], BrokenLink, id="hard-link"),
        pytest.param([file("a"), file("a")], ForbiddenEntry, id="twice"),
    ],
)
def test_refusal_says_what_is_wrong(unpack, entries, kind):
    with pytest.raises(kind):
        unpack(*entries)


def test_refusal_names_the_entry(unpack):
    with pytest.raises(SigkitError) as caught:
        unpack(file("fine"), file("d/../evil\x1b"))
    assert caught.value.place.inside == "d/../evil\x1b"


def test_mode_and_times_are_kept(unpack):
    root = unpack(
        directory("d/", mode=0o1777, mtime=1_000_000_000),
        file("d/su", b"x", mode=0o6755, mtime=1_100_000_000),
        pax({"mtime": "-1.5"}),
        file("d/old", b"x", mode=0),
        symlink("d/s", "x", mtime=1_200_000_000),
        fifo("d/pipe", mode=0o620, mtime=1_300_000_000),
    )
    found = {name: os.lstat(root / name) for name in ("d", "d/su", "d/old", "d/s", "d/pipe")}
    assert [stat.S_IMODE(found[name].st_mode) for name in ("d", "d/su", "d/old")] == [0o1777, 0o6755, 0]
    assert [int(status.st_mtime) for name, status in found.items() if name != "d/old"] == [
        1_000_000_000,
        1_100_000_000,
        1_200_000_000,
        1_300_000_000,
    ]
    assert found["d/old"].st_mtime_ns == -1_500_000_000


def test_missing_parent_is_roots_and_open_to_all(unpack):
    previous = os.umask(0o077)
    try:
        root = unpack(file("made/here"))
    finally:
        os.umask(previous)
    found = (root / "made").stat()
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


def test_attributes_of_users_are_kept_and_labels_are_not(unpack):
    root = unpack(
        pax({"SCHILY.xattr.user.note": b"\0\xff", "SCHILY.xattr.security.selinux": "system_u:object_r:etc_t:s0"}),
        file("a"),
        pax({"SCHILY.xattr.user.d": "1", "SCHILY.xattr.trusted.x": "y"}),
        directory("d/"),
    )
    assert os.listxattr(root / "a") == ["user.note"]
    assert os.getxattr(root / "a", "user.note") == b"\0\xff"
    assert os.listxattr(root / "d") == ["user.d"]
    assert unpack.notes == ("attributes security.selinux are left out: 1", "attributes trusted.x are left out: 1")


@pytest.mark.root
def test_owners_are_kept_and_mode_survives_them(unpack):
    root = unpack(
        file("su", b"x", uid=3, gid=4, mode=0o6755),
        file("large", uid=3_000_000_000),
        pax({"uid": "70000", "gid": "70001"}),
        symlink("s", "x"),
        directory("d/", uid=5, gid=6),
        header("sgid/", b"5", mode=0o2755, gid=7),
        file("sgid/own", gid=8),
        character("null", 1, 3, uid=9, mode=0o666),
    )
    owners = {name: (os.lstat(root / name).st_uid, os.lstat(root / name).st_gid) for name in ("su", "large", "s", "d", "sgid/own", "null")}
    assert owners == {"su": (3, 4), "large": (3_000_000_000, 0), "s": (70000, 70001), "d": (5, 6), "sgid/own": (0, 8), "null": (9, 0)}
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o6755
    assert listing(root)["null"] == "char 1:3"


@pytest.mark.skipif(AS_ROOT, reason="root may make devices")
def test_device_that_may_not_be_made_is_left_out_and_said(unpack):
    assert listing(unpack(character("null", 1, 3), file("a"))) == {"a": "file "}
    assert unpack.notes == ("device nodes, which a user namespace may not make, are left out: 1",)


def test_no_descriptor_stays_open(unpack):
    before = os.listdir("/proc/self/fd")
    unpack(*[file("a/" * depth + f"f{depth}") for depth in range(1, 45)])
    assert os.listdir("/proc/self/fd") == before


def test_no_descriptor_stays_open_after_a_refusal(unpack):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SigkitError):
        unpack(file("a/b/c/d"), file("a/b/c/d"))
    assert os.listdir("/proc/self/fd") == before
