"""Builds layers byte by byte, honest and hostile ones: what a tar library would refuse to write is the point.

`layer(file("a", b"x"), symlink("out", "/tmp"), …)` gives an uncompressed archive.
"""

from __future__ import annotations

import gzip
import os
import stat
from typing import TYPE_CHECKING

from sigkit.digest import Digest
from sigkit.engine.inflate import Compression
from sigkit.engine.unpack import Unpacked, Unpacking
from sigkit.errors import Place
from sigkit.runtime.users import choose_maps

if TYPE_CHECKING:
    from pathlib import Path

END = bytes(1024)
PLACE = Place("layer")


def header(  # a tar header has this many fields
    name: bytes | str,
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    link: bytes | str = b"",
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1_700_000_000,
    device: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Return one 512-byte header; a number given as bytes is written as it is."""
    fields = [
        _bytes(name).ljust(100, b"\0")[:100],
        number(mode, 8),
        number(uid, 8),
        number(gid, 8),
        number(size, 12),
        number(mtime, 12),
        b" " * 8,
        kind,
        _bytes(link).ljust(100, b"\0")[:100],
        magic.ljust(8, b"\0"),
        bytes(64),
        number(device[0], 8),
        number(device[1], 8),
        prefix.ljust(155, b"\0"),
        bytes(12),
    ]
    block = b"".join(fields)
    return seal(block, checksum)


def seal(block: bytes, checksum: bytes | None = None) -> bytes:
    """Return a header with its checksum put in."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + (checksum or b"%06o\0 " % sum(blank)) + blank[156:]


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def number(value: int | bytes, size: int) -> bytes:
    """Write a number as octal text, or in base-256 where that is too small or it is negative."""
    if isinstance(value, bytes):
        return value.ljust(size, b"\0")
    if 0 <= value < 8 ** (size - 1):
        return f"{value:0{size - 1}o}\0".encode()
    return base256(value, size)


def base256(value: int, size: int) -> bytes:
    """Write a number in GNU's base-256."""
    first = b"\x80" if value >= 0 else b"\xff"
    return first + (value % (1 << 8 * (size - 1))).to_bytes(size - 1, "big")


def padded(data: bytes) -> bytes:
    """Return `data` filled to whole blocks."""
    return data + bytes(-len(data) % 512)


def file(name: bytes | str, data: bytes = b"", **fields) -> bytes:
    return header(name, **{"size": len(data), **fields}) + padded(data)


def directory(name: bytes | str, **fields) -> bytes:
    return header(name, b"5", **{"mode": 0o755, **fields})


def symlink(name: bytes | str, target: bytes | str, **fields) -> bytes:
    return header(name, b"2", link=target, **{"mode": 0o777, **fields})


def hard_link(name: bytes | str, target: bytes | str, **fields) -> bytes:
    return header(name, b"1", link=target, **fields)


def character(name: bytes | str, major: int, minor: int, **fields) -> bytes:
    return header(name, b"3", device=(major, minor), **fields)


def block_device(name: bytes | str, major: int, minor: int, **fields) -> bytes:
    return header(name, b"4", device=(major, minor), **fields)


def fifo(name: bytes | str, **fields) -> bytes:
    return header(name, b"6", **fields)


def whiteout(name: str) -> bytes:
    above, _, last = name.rpartition("/")
    return file(f"{above}/.wh.{last}" if above else f".wh.{last}")


def opaque(name: str) -> bytes:
    return file(f"{name}/.wh..wh..opq")


def record(key: str, value: bytes | str) -> bytes:
    """Return one PAX record, whose length counts itself."""
    rest = b" " + key.encode() + b"=" + _bytes(value) + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def pax(records: dict[str, bytes | str] | bytes, kind: bytes = b"x") -> bytes:
    """Return an extension header that describes the next entry (kind x) or all later ones (kind g)."""
    data = records if isinstance(records, bytes) else b"".join(record(key, value) for key, value in records.items())
    return header("PaxHeaders/x", kind, size=len(data)) + padded(data)


def gnu_long(kind: bytes, text: bytes) -> bytes:
    """Return GNU's header for a long name (kind L) or a long link (kind K)."""
    return header("././@LongLink", kind, size=len(text) + 1, magic=b"ustar  \0") + padded(text + b"\0")


def layer(*entries: bytes) -> bytes:
    """Return an uncompressed layer."""
    return b"".join(entries) + END


def unpack(archive: bytes, into: Path, compression: Compression = Compression.NONE, diff_id: Digest | None = None) -> Unpacked:
    """Unpack a layer through the real process into the new directory `into`, as this user can."""
    into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    into.mkdir(mode=0o755)
    with Unpacking(str(into), compression, choose_maps(None), diff_id or Digest.of(_plain(archive, compression)), PLACE) as unpacking:
        unpacking.feed(archive)
        return unpacking.finish()


def _plain(archive: bytes, compression: Compression) -> bytes:
    return gzip.decompress(archive) if compression is Compression.GZIP and archive[:2] == b"\x1f\x8b" else archive


def listing(root: Path) -> dict[str, str]:
    """Describe every file below `root` in a word, with what it holds or where it leads."""
    found = {}
    for directory_, names, files in os.walk(root):
        for name in sorted(names + files):
            path = os.path.join(directory_, name)
            found[os.path.relpath(path, root)] = _describe(path)
    return found


def _describe(path: str) -> str:
    status = os.lstat(path)
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        return f"link {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return "opaque" if "user.overlay.opaque" in os.listxattr(path) else "dir"
    if stat.S_ISCHR(mode):
        return "whiteout" if status.st_rdev == 0 else f"char {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    if stat.S_ISFIFO(mode):
        return "fifo"
    with open(path, "rb") as content:
        return f"file {content.read(64).decode('ascii', 'replace')}"
