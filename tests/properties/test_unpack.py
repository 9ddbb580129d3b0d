"""Whatever the entries of a layer are: what is unpacked stays below its root, and nothing but a refusal comes out."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigkit.engine.files import LayerCopy, empty
from sigkit.engine.tar import TarReader
from sigkit.engine.tree import Owners, Tree
from sigkit.errors import Kind, SigkitError
from tests.simulators.layers import character, directory, fifo, file, gnu_long, hard_link, layer, listing, opaque, pax, symlink, whiteout

PARTS = st.sampled_from(["a", "b", "d", "s", "..", ".", "", "outside", ".wh.a", ".wh..", ".wh..wh..opq", ".wh..wh.x", "\u00e4"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(NAMES, st.sampled_from(["/", "..", "../outside", "../../outside", "/etc/passwd", "../outside/kept", "."]))
MODES = st.sampled_from([0, 0o644, 0o755, 0o777, 0o4755, 0o1777])
# The unpacker is root of a user namespace. Here it is whoever runs the tests, and may be kept out of a directory by its mode.
DIRECTORY_MODES = MODES if os.geteuid() == 0 else MODES.map(lambda mode: mode | 0o700)
ENTRIES = st.one_of(
    st.builds(lambda name, mode: file(name, b"content", mode=mode), NAMES, MODES),
    st.builds(lambda name, mode: directory(name, mode=mode), NAMES, DIRECTORY_MODES),
    st.builds(symlink, NAMES, TARGETS),
    st.builds(hard_link, NAMES, TARGETS),
    st.builds(whiteout, NAMES),
    st.builds(opaque, NAMES),
    st.builds(fifo, NAMES),
    st.builds(lambda name: character(name, 0, 0), NAMES),
    st.builds(lambda name, entry: pax({"path": name}) + entry, NAMES, st.builds(file, NAMES)),
    st.builds(lambda name, entry: gnu_long(b"L", name.encode()) + entry, NAMES, st.builds(directory, NAMES)),
    st.builds(lambda target, entry: pax({"linkpath": target or "x"}) + entry, TARGETS, st.builds(hard_link, NAMES, TARGETS)),
)


class Place:
    """A directory to unpack into, with a neighbour that must not change."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "root"
        self.root.mkdir()
        (top / "outside").mkdir(mode=0o750)
        (top / "outside" / "kept").write_text("kept")
        os.utime(top / "outside" / "kept", ns=(1, 1))
        self.before = self.state()

    def state(self) -> tuple:
        kept = (self.top / "outside" / "kept").stat()
        outside = (self.top / "outside").stat()
        return (
            sorted(os.listdir(self.top)),
            os.listdir(self.top / "outside"),
            stat.S_IMODE(outside.st_mode),
            (kept.st_mode, kept.st_uid, kept.st_nlink, kept.st_mtime_ns, kept.st_size),
        )

    def unpack(self, archive: bytes) -> bool:
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            Tree(descriptor, Owners.CALLER).apply(TarReader([archive]))
        except SigkitError as err:
            assert err.kind in {Kind.UNPACK, Kind.LIMIT}, err  # noqa: PT017 (most lists are refused, some are not)
            return False
        finally:
            os.close(descriptor)
            assert self.state() == self.before
        return True


def remove(top: Path) -> None:
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in ("root", "outside", "copy"):
            if (top / name).exists():
                (top / name).chmod(0o700)
        if os.geteuid() == 0:
            empty(descriptor)
    finally:
        os.close(descriptor)
    shutil.rmtree(top, ignore_errors=True)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ENTRIES, max_size=6))
def test_unpacked_tree_stays_below_its_root(entries):
    top = Path(tempfile.mkdtemp())
    try:
        Place(top).unpack(layer(*entries))
    finally:
        remove(top)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ENTRIES, max_size=4), st.binary(max_size=40), st.integers(0, 3000))
def test_damaged_archive_is_refused_or_unpacked_below_its_root(entries, noise, at):
    archive = layer(*entries)
    top = Path(tempfile.mkdtemp())
    try:
        Place(top).unpack(archive[:at] + noise + archive[at + len(noise) :])
    finally:
        remove(top)


@pytest.mark.root  # the copy is made as root of a namespace, who may read files of mode 0
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ENTRIES, max_size=6))
def test_copy_of_a_layer_shows_no_whiteout_and_stays_below_its_root(entries):
    top = Path(tempfile.mkdtemp())
    try:
        place = Place(top)
        if not place.unpack(layer(*entries)):
            return
        (top / "copy").mkdir()
        source, target = (os.open(top / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("root", "copy"))
        try:
            LayerCopy(target).add(source)
        finally:
            os.close(source)
            os.close(target)
        copied = listing(top / "copy")
        assert "whiteout" not in copied.values()
        assert "opaque" not in copied.values()
        unpacked = {name: what for name, what in listing(top / "root").items() if what != "whiteout"}
        assert copied == {name: "dir" if what == "opaque" else what for name, what in unpacked.items()}
    finally:
        remove(top)
