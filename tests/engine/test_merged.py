"""Files of an image across its layers, as overlayfs would show them."""

from __future__ import annotations

import os

import pytest

from sigkit.engine.merged import MergedTree
from sigkit.engine.tar import TarReader
from sigkit.engine.tree import Owners, Tree
from sigkit.errors import LimitError, UnsafeRootfs
from tests.simulators.layers import directory, fifo, file, hard_link, layer, opaque, pax, symlink, whiteout


@pytest.fixture
def stack(tmp_path):
    """Return a merged tree of layers, given the lowest first."""

    def stack(*layers: list[bytes]) -> MergedTree:
        paths: list[str] = []
        for number, entries in enumerate(layers):
            path = tmp_path / str(number)
            path.mkdir()
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                Tree(descriptor, Owners.CALLER).apply(TarReader([layer(*entries)]))
            finally:
                os.close(descriptor)
            paths.insert(0, str(path))
        return MergedTree(paths)

    return stack


BASE = [file("etc/passwd", b"base"), file("etc/deep/x", b"x")]

SEEN = [
    pytest.param([BASE], b"base", id="one-layer"),
    pytest.param([BASE, [file("other")]], b"base", id="not-in-the-upper"),
    pytest.param([BASE, [file("etc/other")]], b"base", id="directory-in-both"),
    pytest.param([BASE, [file("etc/passwd", b"new")]], b"new", id="upper-wins"),
    pytest.param([BASE, [whiteout("etc/passwd")]], b"", id="whiteout"),
    pytest.param([BASE, [whiteout("etc")]], b"", id="whiteout-of-the-directory"),
    pytest.param([BASE, [whiteout("etc")], [file("etc/passwd", b"again")]], b"again", id="whiteout-then-again"),
    pytest.param([BASE, [whiteout("etc"), directory("etc/")]], b"", id="directory-that-hides"),
    pytest.param([BASE, [opaque("etc")]], b"", id="opaque"),
    pytest.param([BASE, [file("etc", b"a file now")]], b"", id="directory-became-a-file"),
    pytest.param([BASE, [file("etc")], [file("etc/hosts")]], b"", id="file-below-a-directory-hides"),
    pytest.param([[file("etc")], [file("etc/passwd", b"top")]], b"top", id="directory-hides-a-file-below"),
    pytest.param([[file("a", b"linked"), symlink("etc/passwd", "../a")]], b"linked", id="relative-link"),
    pytest.param([[file("a", b"linked")], [symlink("etc/passwd", "/a")]], b"linked", id="absolute-link-is-the-images"),
    pytest.param([[file("usr/etc/passwd", b"moved"), symlink("etc", "usr/etc")]], b"moved", id="linked-directory"),
    pytest.param([[file("a", b"clamped"), symlink("etc/passwd", "../../../../../a")]], b"clamped", id="climbing-stays-inside"),
    pytest.param([[file("a", b"x"), hard_link("etc/passwd", "a")]], b"x", id="hard-link"),
    pytest.param([[symlink("etc/passwd", "gone")]], b"", id="dangling-link"),
    pytest.param([[file("etc/passwd", b"")]], b"", id="empty"),
    pytest.param([[]], b"", id="nothing"),
]


@pytest.mark.parametrize(("layers", "expected"), SEEN)
def test_file_is_seen_as_overlayfs_shows_it(stack, layers, expected):
    before = os.listdir("/proc/self/fd")
    assert stack(*layers).read("/etc/passwd", most_bytes=100) == expected
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([symlink("etc/passwd", "passwd")], id="circle"),
        pytest.param([symlink("etc/passwd", "/etc/a"), symlink("etc/a", "passwd")], id="circle-of-two"),
        pytest.param([directory("etc/passwd/")], id="directory"),
        pytest.param([fifo("etc/passwd")], id="pipe"),
    ],
)
def test_what_is_no_file_is_refused(stack, entries):
    with pytest.raises(UnsafeRootfs):
        stack(entries).read("/etc/passwd", most_bytes=100)


@pytest.mark.attack("CVE-2026-47262")
def test_huge_file_is_refused_before_it_is_read(stack):
    holes = pax({"GNU.sparse.size": str(2**30), "GNU.sparse.map": "0,1"}) + file("etc/passwd", b"x")
    with pytest.raises(LimitError):
        stack([holes]).read("/etc/passwd", most_bytes=1 << 20)


def test_file_of_exactly_the_limit_is_read(stack):
    assert stack([file("etc/passwd", b"x" * 100)]).read("/etc/passwd", most_bytes=100) == b"x" * 100
