from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from sigkit.runtime import devices, inroot, mounts, syscalls

if TYPE_CHECKING:
    from sigkit.runtime.plan import MountPlan


@pytest.fixture
def root(tmp_path):
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def name_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("target", ["/etc", "../../../../etc", "/../etc", "etc/../etc"])
def test_link_is_resolved_inside_the_root(root, tmp_path, target):
    (tmp_path / "etc").mkdir()
    (tmp_path / "link").symlink_to(target)
    assert name_of(inroot.open_path(root, b"/link")) == f"{tmp_path}/etc"


def test_missing_directories_are_made_inside_the_root(root, tmp_path):
    (tmp_path / "link").symlink_to("/real")
    (tmp_path / "real").mkdir()
    assert name_of(inroot.make_directory(root, b"/link/a/b")) == f"{tmp_path}/real/a/b"


def test_missing_file_is_made_with_its_parents(root, tmp_path):
    assert name_of(inroot.make_file(root, b"/a/b/file")) == f"{tmp_path}/a/b/file"
    assert (tmp_path / "a/b/file").read_bytes() == b""


@pytest.mark.parametrize("make", [inroot.make_directory, inroot.make_file])
def test_link_that_leads_nowhere_is_not_followed_to_make_something(root, tmp_path, make):
    (tmp_path / "link").symlink_to("/nowhere")
    with pytest.raises(inroot.Unsafe):
        make(root, b"/link")
    assert not (tmp_path / "nowhere").exists()


def test_no_link_is_followed_where_none_is_allowed(root, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(inroot.Unsafe):
        inroot.open_path(root, b"/link", resolve=syscalls.RESOLVE_NO_SYMLINKS)


def test_magic_link_is_never_followed():
    top = os.open("/", os.O_PATH)
    try:
        with pytest.raises(inroot.Unsafe):
            inroot.open_path(top, b"/proc/self/root")
    finally:
        os.close(top)


def test_file_where_a_directory_must_be_is_unsafe(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(inroot.Unsafe):
        inroot.make_directory(root, b"/file")


@pytest.mark.parametrize(
    ("kind", "number"),
    [(stat.S_IFCHR, os.makedev(1, 5)), (stat.S_IFBLK, os.makedev(1, 3))],
)
def test_device_that_is_another_is_not_taken_for_the_null_device(kind, number):
    with pytest.raises(inroot.Unsafe):
        devices.open_host_device(b"/dev/null", kind, number)


@pytest.mark.parametrize("what", ["file", "link"])
def test_file_or_link_is_not_taken_for_a_device(tmp_path, what):
    place = tmp_path / "null"
    if what == "file":
        place.touch()
    else:
        place.symlink_to("/dev/null")
    with pytest.raises(inroot.Unsafe):
        devices.open_host_device(os.fsencode(place), stat.S_IFCHR, os.makedev(1, 3))


def test_null_device_of_the_host_is_taken():
    os.close(devices.open_host_device(b"/dev/null", stat.S_IFCHR, os.makedev(1, 3)))


def test_proc_that_is_a_directory_of_the_image_is_unsafe(root, tmp_path):
    (tmp_path / "proc").mkdir()
    asked: MountPlan = {
        "where": b"$.mounts[0]",
        "in_root": b"/proc",
        "kind": b"proc",
        "source": b"proc",
        "options": (),
        "add": 0,
        "remove": 0,
        "below": 0,
        "propagation": 0,
        "recursive": 0,
        "judged": 0,
    }
    with pytest.raises(inroot.Unsafe):
        mounts.check_proc(root, (asked,))
