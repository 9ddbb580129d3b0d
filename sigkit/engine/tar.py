"""Reads a tar archive from a stream, entry by entry, without touching the file system.

Headers of all kinds that image builders write: ustar with its prefix, PAX records, GNU long names, base-256 numbers, the four sparse forms.
Where two readers could see two archives, the layer is refused: PAX and ustar sizes that contradict each other (CVE-2025-62518), links and
directories with content, negative numbers (CVE-2025-8194), records given twice, a lone zero block with more behind it.

Not handled here: what an entry means to a layer (whiteouts, where it may lie). That is `tree`.

Source: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from sigkit import limits
from sigkit.engine import sparse
from sigkit.errors import MalformedLayer, Place, TooLarge, TooMany

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NoReturn

    from sigkit.engine.sparse import Piece

BLOCK = 512
FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_OLD_FILE, _GNU_SPARSE = b"\0", b"S"
_GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_WITHOUT_CONTENT = frozenset((HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))

# name mode uid gid size mtime checksum type link magic+version user group major minor prefix padding
_HEADER = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_ZERO = bytes(BLOCK)
_LARGEST_OCTAL_SIZE = 8**11 - 1
_LARGEST = 2**63 - 1
_LARGEST_ID = 2**32 - 2  # (uid_t)-1 means "leave it as it is" to chown
_FARTHEST_TIME_S = 2**53

_XATTR = "SCHILY.xattr."
# What would change every later entry: readers differ in whether they apply it, so no entry may depend on it.
_NEVER_GLOBAL = ("path", "linkpath", "size", "uid", "gid", "GNU.sparse.", _XATTR)


class Entry(NamedTuple):
    """One entry. Its content, `size` bytes as stored, follows in the stream."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: bytes
    device: tuple[int, int]
    size: int
    xattrs: tuple[tuple[str, bytes], ...]
    # Where the stored bytes belong in a sparse file, and its length with holes; None: they are the file.
    pieces: tuple[Piece, ...] | None
    real_size: int


class _Records:
    """What extension headers said about the next entry."""

    __slots__ = ("gnu_link", "gnu_name", "pax", "sparse")

    def __init__(self) -> None:
        self.pax: dict[str, bytes] = {}
        self.sparse: list[tuple[str, bytes]] = []
        self.gnu_name: bytes | None = None
        self.gnu_link: bytes | None = None

    def any(self) -> bool:
        return bool(self.pax or self.sparse) or self.gnu_name is not None or self.gnu_link is not None


_NO_RECORDS = _Records()


class TarReader:
    """Entries of an archive, in order. Each entry's content must be taken, or is skipped, before the next is read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Read from `chunks`, the uncompressed archive in pieces of any size."""
        self._chunks = iter(chunks)
        self._chunk: bytes = b""
        self._at = 0
        self._left = 0  # bytes of the current entry's content
        self._padding = 0
        self._name = b""
        self._budget = limits.LAYER_BYTES

    def __iter__(self) -> Iterator[Entry]:
        """Give the entries.

        Raises:
            MalformedLayer: (UNPACK).
            TooLarge, TooMany: (LIMIT).
        """
        count = 0
        while True:
            entry = self._next()
            if entry is None:
                return
            count += 1
            if count > limits.LAYER_ENTRIES:
                raise TooMany(f"more than {limits.LAYER_ENTRIES} entries in a layer")
            yield entry

    def content(self) -> Iterator[memoryview]:
        """Give the content of the current entry in pieces."""
        while self._left:
            if self._at == len(self._chunk) and not self._fill():
                self._fail("the archive ends inside a file")
            end = min(len(self._chunk), self._at + self._left)
            piece = memoryview(self._chunk)[self._at : end]
            self._left -= end - self._at
            self._at = end
            yield piece

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes of the current entry's content."""
        if size > self._left:
            self._fail("the content is shorter than its own description")
        self._left -= size
        return self._take(size)

    def drain(self) -> None:
        """Read the stream to its end: a layer's digest covers what lies behind the archive, too."""
        self._at = len(self._chunk)
        while self._fill():
            self._at = len(self._chunk)

    def _fail(self, problem: str, *, expected: str = "", got: str = "") -> NoReturn:
        raise MalformedLayer(problem, place=Place("", shown(self._name)), expected=expected, got=got)

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk, self._at = chunk, 0
                return True
        return False

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        parts = [self._chunk[self._at :]]
        missing = size - len(parts[0])
        while missing:
            if not self._fill():
                self._chunk, self._at = b"", 0
                self._fail("the archive is cut off")
            parts.append(self._chunk[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def _at_end(self) -> bool:
        return self._at == len(self._chunk) and not self._fill()

    def _skip_rest(self) -> None:
        for _ in self.content():
            pass
        if self._padding:
            self._take(self._padding)
            self._padding = 0

    def _next(self) -> Entry | None:
        self._skip_rest()
        records = _NO_RECORDS
        while True:
            block = None if self._at_end() else self._take(BLOCK)
            if block is None or block == _ZERO:
                if records.any():
                    self._fail("an extension header at the end of the archive")
                self._check_end()
                return None
            fields = _fields(block, self._fail)
            kind = fields[7]
            if kind in (_PAX, _GNU_NAME, _GNU_LINK):
                if records is _NO_RECORDS:
                    records = _Records()
                self._extend(records, kind, self._extension(fields))
            elif kind == _PAX_GLOBAL:
                self._check_global(self._extension(fields))
            else:
                return self._entry(block, fields, records)

    def _check_end(self) -> None:
        # The end is two zero blocks, or where the stream ends. Readers differ after a single one: some go on, some stop.
        if not self._at_end() and self._take(BLOCK) != _ZERO:
            self._fail("a lone zero block with more behind it")

    def _extension(self, fields: tuple[bytes, ...]) -> bytes:
        size = _number(fields[4], "size", self._fail)
        if not 0 <= size <= limits.TAR_HEADER_BYTES:
            raise TooLarge(f"an extension header of {size} bytes", expected=f"at most {limits.TAR_HEADER_BYTES}")
        data = self._take(size)
        self._take(-size % BLOCK)
        return data

    def _extend(self, records: _Records, kind: bytes, data: bytes) -> None:
        if kind == _PAX:
            if records.pax or records.sparse:
                self._fail("two PAX headers for one entry")
            for key, value in _pax_records(data, self._fail):
                if key.startswith("GNU.sparse."):
                    records.sparse.append((key, value))
                elif key in records.pax:
                    self._fail("a PAX record is there twice", got=key)
                else:
                    records.pax[key] = value
            return
        text = data.partition(b"\0")[0]
        if (records.gnu_name if kind == _GNU_NAME else records.gnu_link) is not None:
            self._fail("two GNU long names for one entry")
        if kind == _GNU_NAME:
            records.gnu_name = text
        else:
            records.gnu_link = text

    def _check_global(self, data: bytes) -> None:
        for key, _ in _pax_records(data, self._fail):
            if key.startswith(_NEVER_GLOBAL):
                self._fail("a global PAX header changes later entries", got=key)

    def _entry(self, block: bytes, fields: tuple[bytes, ...], records: _Records) -> Entry:
        pax, fail = records.pax, self._fail
        self._name = name = self._text(pax.get("path"), records.gnu_name, _ustar_name(fields), "name")
        link = self._text(pax.get("linkpath"), records.gnu_link, fields[8].partition(b"\0")[0], "link")
        kind = fields[7]
        if kind == _OLD_FILE:
            kind = DIRECTORY if name.endswith(b"/") else FILE
        if kind not in _WITHOUT_CONTENT and kind not in (FILE, _GNU_SPARSE):
            fail("an unknown kind of entry", expected="0 to 6 or S", got=repr(kind)[1:])
        if kind in (SYMLINK, HARD_LINK) and not link:
            fail("a link to nothing")
        self._left = size = self._size(fields[4], pax.get("size"), kind)
        self._padding = -size % BLOCK
        pieces: tuple[Piece, ...] | None = None
        real_size = size
        if kind == _GNU_SPARSE:
            kind = FILE
            pieces, real_size = sparse.parse_old(block, lambda: self._take(BLOCK), size, fail)
        elif records.sparse:
            if kind != FILE:
                fail("a sparse map for something that is no file")
            found = sparse.parse_pax(records.sparse, self, size, fail)
            pieces, real_size = found.pieces, found.real_size
            self._name = name = found.name or name
        self._charge(real_size)
        return Entry(
            name=name,
            kind=kind,
            mode=_number(fields[1], "mode", fail) & 0o7777,
            uid=_id(fields[2], pax.get("uid"), "owner", fail),
            gid=_id(fields[3], pax.get("gid"), "group", fail),
            mtime_ns=_time(fields[5], pax.get("mtime"), fail),
            link=link,
            device=_device(fields, fail) if kind in (CHARACTER, BLOCK_DEVICE) else (0, 0),
            size=self._left,
            xattrs=_xattrs(pax, fail) if pax else (),
            pieces=pieces,
            real_size=real_size,
        )

    def _charge(self, real_size: int) -> None:
        self._budget -= real_size
        if self._budget < 0:
            raise TooLarge(f"a layer of more than {limits.LAYER_BYTES} bytes", place=Place("", shown(self._name)))

    def _text(self, pax: bytes | None, gnu: bytes | None, ustar: bytes, what: str) -> bytes:
        if pax is not None and gnu is not None and pax != gnu:
            self._fail(f"PAX and GNU headers give two {what}s", expected=shown(pax), got=shown(gnu))
        text = pax if pax is not None else gnu if gnu is not None else ustar
        if b"\0" in text or (pax is not None and not pax):
            self._fail(f"a malformed {what}", got=shown(text))
        if len(text) > limits.TAR_NAME_BYTES:
            raise TooLarge(f"a {what} of {len(text)} bytes", place=Place("", shown(text)), expected=f"at most {limits.TAR_NAME_BYTES}")
        return text

    def _size(self, field: bytes, pax: bytes | None, kind: bytes) -> int:
        size = _number(field, "size", self._fail)
        if pax is not None:
            told = _decimal(pax, "size", self._fail)
            # A writer needs the record only for what octal cannot hold: then the field says nothing, and else both must agree.
            if told != size and told <= _LARGEST_OCTAL_SIZE:
                self._fail("PAX and ustar sizes contradict each other", expected=str(told), got=str(size))
            size = told
        if size < 0:
            self._fail("a negative size", got=str(size))
        if size and kind in _WITHOUT_CONTENT:
            self._fail("content where there can be none", expected="size 0", got=str(size))
        return size


def shown(name: bytes) -> str:
    """Write a name from an archive as text; what is not UTF-8 becomes escapes."""
    return name.decode("utf-8", "backslashreplace")


def _fields(block: bytes, fail: Fail) -> tuple[bytes, ...]:
    fields: tuple[bytes, ...] = _HEADER.unpack(block)
    total = sum(block) - sum(fields[6]) + 8 * 32
    if _number(fields[6], "checksum", fail) != total:
        fail("a wrong header checksum", expected=str(total), got=shown(fields[6].strip(b" \0")))
    return fields


def _ustar_name(fields: tuple[bytes, ...]) -> bytes:
    name = fields[0].partition(b"\0")[0]
    if fields[9][:6] == b"ustar\0" and fields[14][0]:  # GNU's own magic, "ustar  ", means that other things lie there
        return fields[14].partition(b"\0")[0] + b"/" + name
    return name


def _number(field: bytes, what: str, fail: Fail) -> int:
    """Read a number: octal text, or GNU's base-256 for what octal cannot hold."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        if value >> (bits - 1):
            value -= 1 << bits
        if abs(value) > _LARGEST:
            fail(f"a {what} out of range", got=str(value))
        return value
    text = field.strip(b" \0")
    if not text:
        return 0
    if text.translate(None, b"01234567"):
        fail(f"a malformed {what}", expected="an octal number", got=shown(text))
    return int(text, 8)


def _decimal(text: bytes, what: str, fail: Fail) -> int:
    if not text.isdigit() or len(text) > 19:
        fail(f"a malformed {what}", expected="a decimal number", got=shown(text[:40]))
    return int(text)


def _id(field: bytes, pax: bytes | None, what: str, fail: Fail) -> int:
    value = _number(field, what, fail) if pax is None else _decimal(pax, what, fail)
    if not 0 <= value <= _LARGEST_ID:
        fail(f"a malformed {what}", expected=f"0 to {_LARGEST_ID}", got=str(value))
    return value


def _time(field: bytes, pax: bytes | None, fail: Fail) -> int:
    if pax is None:
        seconds, nanoseconds = _number(field, "time", fail), 0
    else:
        sign = -1 if pax.startswith(b"-") else 1
        whole, _, fraction = pax[pax.startswith(b"-") :].partition(b".")
        if fraction and not fraction.isdigit():
            fail("a malformed time", got=shown(pax[:40]))
        seconds = sign * _decimal(whole, "time", fail)
        nanoseconds = sign * int(fraction[:9].ljust(9, b"0"))
    if abs(seconds) > _FARTHEST_TIME_S:
        fail("a time out of range", got=str(seconds))
    return seconds * 10**9 + nanoseconds


def _device(fields: tuple[bytes, ...], fail: Fail) -> tuple[int, int]:
    major, minor = _number(fields[12], "device number", fail), _number(fields[13], "device number", fail)
    if not (0 <= major < 2**12 and 0 <= minor < 2**20):
        fail("a device number out of range", got=f"{major}:{minor}")
    return major, minor


def _xattrs(pax: dict[str, bytes], fail: Fail) -> tuple[tuple[str, bytes], ...]:
    found = tuple((key[len(_XATTR) :], value) for key, value in pax.items() if key.startswith(_XATTR))
    for name, value in found:
        if not name or "\0" in name or len(name) > 255 or len(value) > limits.XATTR_BYTES:
            fail("a malformed extended attribute", got=name[:80])
    return found


def _pax_records(data: bytes, fail: Fail) -> Iterator[tuple[str, bytes]]:
    r"""Read records of the form `LENGTH KEY=VALUE\n`, where the length counts the whole record."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        digits = data[at:space]
        if space < 0 or not digits.isdigit() or digits.startswith(b"0"):
            fail("a malformed PAX header")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not key or not equals:
            fail("a malformed PAX header")
        try:
            yield key.decode("utf-8"), value
        except UnicodeDecodeError:
            fail("a malformed PAX header", got=shown(key[:80]))
        at = end


if TYPE_CHECKING:
    from typing import Protocol

    class Fail(Protocol):
        """Refuses the current entry."""

        def __call__(self, problem: str, *, expected: str = "", got: str = "") -> NoReturn:
            """Raise MalformedLayer with the entry's name as place."""
