"""The tar reader: what it takes from honest archives, in pieces of any size, and where it finds two archives in one."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from sigkit.engine.tar import TarReader
from sigkit.errors import Kind, SigkitError
from tests.simulators.layers import (
    END,
    base256,
    directory,
    file,
    gnu_long,
    header,
    layer,
    number,
    padded,
    pax,
    record,
    seal,
    symlink,
)


def read(archive: bytes, step: int = 1 << 20) -> list[tuple]:
    reader = TarReader(archive[at : at + step] for at in range(0, len(archive), step))
    found = [(entry, b"".join(bytes(piece) for piece in reader.content())) for entry in reader]
    reader.drain()
    return found


def refused(archive: bytes) -> SigkitError:
    with pytest.raises(SigkitError) as caught:
        read(archive)
    return caught.value


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_another_program_wrote_is_read_in_pieces_of_any_size(form, step):
    buffer = io.BytesIO()
    long = "d" * 90 + "/" + "f" * 90 if form == tarfile.USTAR_FORMAT else "d" * 200 + "/" + "f" * 200
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in (("a", b"x" * 1000), (long, b""), ("b", b"y" * 512)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid, info.mode = len(data), 1_700_000_000, 1000, 0o640
            archive.addfile(info, io.BytesIO(data))
    found = read(buffer.getvalue(), step)
    assert [(entry.name.decode(), data) for entry, data in found] == [("a", b"x" * 1000), (long, b""), ("b", b"y" * 512)]
    assert {(entry.mtime_ns, entry.uid, entry.mode) for entry, _ in found} == {(1_700_000_000 * 10**9, 1000, 0o640)}


def test_content_that_nobody_takes_is_passed_over():
    reader = TarReader([layer(file("a", b"x" * 5000), file("b", b"y"))])
    assert [entry.name for entry in reader] == [b"a", b"b"]


def test_large_numbers_in_base_256():
    (found, _), *_ = read(layer(file("a", mtime=base256(2**40, 12), uid=base256(2**31, 8))))
    assert (found.mtime_ns, found.uid) == (2**40 * 10**9, 2**31)


def test_negative_time_is_a_time():
    (found, _), *_ = read(layer(file("a", mtime=base256(-5, 12))))
    assert found.mtime_ns == -5 * 10**9


def test_size_beyond_octal_comes_from_pax():
    reader = TarReader([pax({"size": str(2**34)}), header("a", size=0)])
    assert next(iter(reader)).size == 2**34


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(END, id="two-zero-blocks"),
        pytest.param(bytes(512), id="one-zero-block"),
        pytest.param(b"", id="nothing"),
        pytest.param(END + b"junk behind the end", id="something-behind-the-end"),
    ],
)
def test_empty_archive_has_no_entries(archive):
    assert read(archive) == []


BAD = [
    pytest.param(file("a", b"x" * 600)[:700], id="cut-in-content"),
    pytest.param(file("a")[:300], id="cut-in-a-header"),
    pytest.param(pax({"path": "a"}), id="extension-without-entry"),
    pytest.param(layer(gnu_long(b"L", b"a")), id="long-name-without-entry"),
    pytest.param(bytes(512) + file("a") + END, id="lone-zero-block"),
    pytest.param(b"not a tar archive".ljust(512, b"x"), id="text"),
    pytest.param(layer(header("a", checksum=b"0000000\0")), id="checksum"),
    pytest.param(layer(header("a", checksum=b"\xff" * 8)), id="negative-checksum"),
    pytest.param(layer(header("a", mode=b"0o777")), id="mode"),
    pytest.param(layer(header("a", mode=b"888")), id="mode-not-octal"),
    pytest.param(layer(header("a", size=b"1_0")), id="size-with-underscore"),
    pytest.param(layer(header("a", size=b"+1")), id="size-with-sign"),
    pytest.param(layer(header("a", mtime=base256(2**80, 12))), id="time-out-of-range"),
    pytest.param(layer(header("d", b"5", size=512), bytes(512)), id="directory-with-content"),
    pytest.param(layer(header("l", b"1", size=512, link="a"), bytes(512)), id="hard-link-with-content"),
    pytest.param(layer(header("s", b"2", size=1, link="a")), id="link-with-content"),
    pytest.param(layer(pax({"path": "a"}), pax({"mtime": "1"}), file("c")), id="two-pax-headers"),
    *[pytest.param(layer(header("a", kind)), id=f"kind-{kind.decode()}") for kind in (b"7", b"V", b"Z", b"D", b"M")],
    pytest.param(layer(gnu_long(b"L", b"a"), gnu_long(b"L", b"b"), file("c")), id="two-long-names"),
    pytest.param(layer(gnu_long(b"L", b"a"), pax({"path": "b"}), file("c")), id="pax-and-gnu-names"),
    pytest.param(layer(pax(record("path", "a") + record("path", "b")), file("c")), id="record-twice"),
    pytest.param(layer(pax({"path": ""}), file("c")), id="empty-path"),
    pytest.param(layer(pax({"path": b"a\0b"}), file("c")), id="nul-in-path"),
    pytest.param(layer(pax({"linkpath": b"a\0b"}), symlink("c", "d")), id="nul-in-link"),
    pytest.param(layer(pax({"size": "0x10"}), file("c")), id="size-not-decimal"),
    pytest.param(layer(pax({"size": "-1"}), file("c")), id="negative-size"),
    pytest.param(layer(pax({"mtime": "1e9"}), file("c")), id="time-with-exponent"),
    pytest.param(layer(pax({"mtime": "nan"}), file("c")), id="time-not-a-number"),
    pytest.param(layer(pax(b"6 a=b"), file("c")), id="record-without-newline"),
    pytest.param(layer(pax(b"99 a=b\n"), file("c")), id="record-too-long"),
    pytest.param(layer(pax(b"3 a=b\n"), file("c")), id="record-too-short"),
    pytest.param(layer(pax(b"06 a=b\n"), file("c")), id="record-with-leading-zero"),
    pytest.param(layer(pax(b"5 ab\n"), file("c")), id="record-without-equals"),
    pytest.param(layer(pax(b"5 =b\n"), file("c")), id="record-without-key"),
    pytest.param(layer(pax(b"7 \xff\xff=b\n"), file("c")), id="key-not-utf-8"),
    pytest.param(layer(pax({"SCHILY.xattr.": "b"}), file("c")), id="attribute-without-name"),
    pytest.param(layer(header("c", b"3", device=(5000, 1))), id="device-number"),
    *[
        pytest.param(layer(pax({key: "1"}, b"g"), file("c")), id=f"global-{key}")
        for key in ("path", "linkpath", "size", "uid", "gid", "GNU.sparse.major", "SCHILY.xattr.user.a")
    ],
]


@pytest.mark.parametrize("archive", BAD)
def test_malformed_archive_is_refused(archive):
    assert refused(archive).kind is Kind.UNPACK


def old_sparse(pieces: list[tuple[int, int]], stored: bytes, real_size: int) -> bytes:
    """Return a file in GNU's oldest sparse form, with extension blocks from the fifth piece on."""

    def slots(some: list[tuple[int, int]], count: int) -> bytes:
        return b"".join(number(offset, 12) + number(length, 12) for offset, length in some).ljust(24 * count, b"\0")

    block = bytearray(header("holes", b"S", size=len(stored), magic=b"ustar  \0"))
    block[386:482] = slots(pieces[:4], 4)
    block[482] = int(len(pieces) > 4)
    block[483:495] = number(real_size, 12)
    more = b""
    for at in range(4, len(pieces), 21):
        more += slots(pieces[at : at + 21], 21) + bytes([int(len(pieces) > at + 21)]) + bytes(7)
    return seal(bytes(block)) + more + padded(stored)


PIECES = [(0, 3), (100, 2), (1000, 0)]
STORED = b"abcde"


def pax_sparse(form: str, pieces: list[tuple[int, int]] = PIECES, stored: bytes = STORED, real_size: int = 1000) -> bytes:
    if form == "0.0":
        records = record("GNU.sparse.size", str(real_size)) + record("GNU.sparse.numblocks", str(len(pieces)))
        for offset, length in pieces:
            records += record("GNU.sparse.offset", str(offset)) + record("GNU.sparse.numbytes", str(length))
        return pax(records) + file("holes", stored)
    if form == "0.1":
        listed = ",".join(f"{offset},{length}" for offset, length in pieces)
        records = record("GNU.sparse.size", str(real_size)) + record("GNU.sparse.map", listed) + record("GNU.sparse.name", "holes")
        return pax(records) + file("GNUSparseFile.1/holes", stored)
    lines = padded("".join(f"{number}\n" for number in (len(pieces), *(n for piece in pieces for n in piece))).encode())
    records = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "holes")
    return pax(records + record("GNU.sparse.realsize", str(real_size))) + file("GNUSparseFile.1/holes", lines + stored)


@pytest.mark.parametrize("form", ["old", "0.0", "0.1", "1.0"])
def test_sparse_file_of_each_form_is_read(form):
    entry = old_sparse(PIECES, STORED, 1000) if form == "old" else pax_sparse(form)
    (found, data), (after, _) = read(layer(entry, file("after")))
    assert (found.name, found.pieces, found.real_size, data) == (b"holes", tuple(PIECES), 1000, STORED)
    assert after.name == b"after"


def test_old_sparse_map_goes_on_in_further_blocks():
    pieces = [(10 * n, 1) for n in range(60)]
    (found, data), *_ = read(layer(old_sparse(pieces, b"x" * 60, 1000)))
    assert (found.pieces, len(data)) == (tuple(pieces), 60)


def test_sparse_file_as_gnu_tar_writes_it_comes_out_whole(tmp_path):
    import shutil
    import subprocess

    if shutil.which("tar") is None:
        pytest.skip("no tar on this machine")
    with (tmp_path / "holes").open("wb") as sparse:
        sparse.write(b"begin")
        sparse.seek(1 << 20)
        sparse.write(b"end")
    for form in ("--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"):
        command = ["tar", "-C", str(tmp_path), "--sparse", form, *(["--format=pax"] if "version" in form else []), "-cf", "-", "holes"]
        archive = subprocess.run(command, check=True, capture_output=True).stdout
        (found, data), *_ = read(archive)
        assert found.pieces is not None, form
        whole = bytearray(found.real_size)
        for offset, length in found.pieces:
            whole[offset : offset + length], data = data[:length], data[length:]
        assert bytes(whole) == (tmp_path / "holes").read_bytes(), form


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([(0, 3), (2, 2)], id="overlap"),
        pytest.param([(100, 3), (0, 2)], id="order"),
        pytest.param([(0, 3), (999, 2)], id="beyond-the-end"),
        pytest.param([(0, 3)], id="less-than-stored"),
        pytest.param([(0, 3), (100, 200)], id="more-than-stored"),
    ],
)
@pytest.mark.parametrize("form", ["0.0", "0.1", "1.0", "old"])
def test_sparse_map_that_does_not_fit_is_refused(form, pieces):
    entry = old_sparse(pieces, STORED, 1000) if form == "old" else pax_sparse(form, pieces)
    assert refused(layer(entry)).kind is Kind.UNPACK


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(record("GNU.sparse.major", "2") + record("GNU.sparse.minor", "0"), id="version"),
        pytest.param(record("GNU.sparse.map", "0,5"), id="no-size"),
        pytest.param(record("GNU.sparse.size", "9") + record("GNU.sparse.map", "0,x"), id="map"),
        pytest.param(record("GNU.sparse.size", "9") + record("GNU.sparse.numbytes", "5"), id="order"),
        pytest.param(record("GNU.sparse.size", "9") + record("GNU.sparse.numblocks", "2") + record("GNU.sparse.map", "0,5"), id="count"),
    ],
)
def test_malformed_sparse_records_are_refused(records):
    assert refused(layer(pax(records), file("holes", STORED))).kind is Kind.UNPACK


def test_sparse_records_of_something_else_than_a_file_are_refused():
    assert refused(layer(pax(record("GNU.sparse.size", "0") + record("GNU.sparse.map", "")), directory("d/"))).kind is Kind.UNPACK


def test_endless_lines_of_a_sparse_map_are_refused():
    records = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.realsize", "1")
    assert refused(layer(pax(records), file("holes", b"1" * 4096))).kind is Kind.UNPACK
    assert refused(layer(pax(records), file("holes", padded(b"99999999\n")))).kind is Kind.UNPACK


def test_random_bytes_are_refused():
    for _ in range(200):
        assert refused(os.urandom(2048)).kind in {Kind.UNPACK, Kind.LIMIT}
