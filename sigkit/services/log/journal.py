"""The journal: batches of entries that are durable and in no tile's file yet, each with the checkpoint that the log signed for it.

A batch is one record, and one sync makes it durable. A record begins with its length and two sums, one of them over the length:

    magic 4 | length of what follows the head 4 | SHA-256 of that 32 | CRC-32 of the 40 bytes before 4
    first index 8 | number of entries 4 | each entry: length 4, bytes | checkpoint

What a killed process or a power cut leaves at the end of the file is the beginning of a record, or a file that was grown and of which the
last pages never came, so that zeros stand there from some sector on; only that is left out when the journal is opened, for nobody was
answered. Anything else that is not whole was damaged later, and is never passed over: those entries were answered.

What is read when it is opened need not be on the disk: a process that was killed before its sync, or whose sync failed, leaves records
that only the kernel's memory has, and that another sync need not write. So it is written anew before anybody is answered from it.

Of the disk it is assumed that a sync that returned holds, and that a sector is there whole or not at all. A disk that forgets what it
synced takes answered entries with it, and their zeros look like those of a record that was never finished; once they are in files or in
the index, a journal that lost them is refused as an old copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from typing import TYPE_CHECKING, Final, Self

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import FileUnreadable, FileUnwritable, LogDamaged, LogHalted, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC: Final = b"SKL1"
_SUM_BYTES: Final = 32
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_HEAD_BYTES: Final = len(_MAGIC) + 4 + _SUM_BYTES + 4
_SECTOR_BYTES: Final = 512  # the least that a disk writes, and that the pages of any file system are made of


class Record(Data):
    """A batch: the index of its first entry, the entries, and the checkpoint that covers them and all before."""

    start: int
    leaves: tuple[bytes, ...]
    checkpoint: str


class Journal:
    """The file. One thread at a time."""

    def __init__(self, path: str, file: int, size_bytes: int) -> None:
        """Take an open file; `create` and `open` make one."""
        self.size_bytes = size_bytes
        self._path = path
        self._file = file
        self._halted = False
        self._is_replaced = False  # the open file has no name any more, and what is appended to such a file is lost

    @staticmethod
    def write(path: str, record: Record) -> None:
        """Put a journal of one record at `path`, durably, over the one that may be there."""
        durable.write(path, _encode(record), mode=0o600, point="log.journal")

    @classmethod
    def open(cls, path: str) -> tuple[Self, tuple[Record, ...]]:
        """Open the journal and read its records, all of which are durable then.

        Raises:
            FileUnreadable: (UNAVAIL) it is absent or cannot be read.
            FileUnwritable: (UNAVAIL) no space for writing it anew; it is as it was.
            LogDamaged: (TLOG) a record was damaged after it was made durable; it is as it was.
        """
        place = Place(path)
        try:
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as old:
                raw = old.read()
        except OSError as err:
            raise FileUnreadable(f"cannot read the log's journal: {err.strerror}", place=place) from err
        found = tuple(_parse(raw, place))
        if not found:  # the first came by a rename: nothing that was killed leaves it cut
            raise LogDamaged("the log's journal has no whole record", place=place, expected="the newest checkpoint at least")
        records, ends = zip(*found, strict=True)
        size = ends[-1]
        durable.write(path, raw[:size], mode=0o600, point="log.opened")
        try:
            return cls(path, os.open(path, _FLAGS), size), records
        except OSError as err:
            raise FileUnreadable(f"cannot open the log's journal: {err.strerror}", place=place) from err

    def append(self, record: Record) -> None:
        """Make a batch durable.

        Raises:
            FileUnwritable: (UNAVAIL) no space; nothing was added.
            LogHalted: (UNAVAIL) the disk failed, now or before. Whether the record is there is known when the journal is opened anew.
        """
        if self._halted:
            raise LogHalted("the log takes no entries since its disk failed", place=Place(self._path))
        self._reopen()
        data = _encode(record)
        try:
            durable.failpoint("log.journal.append")
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
                durable.failpoint("log.journal.written")
        except OSError as err:
            self._take_back(err)
            raise FileUnwritable(f"cannot write the log's journal: {err.strerror}", place=Place(self._path)) from err
        try:
            durable.failpoint("log.journal.sync")
            os.fdatasync(self._file)  # the length is synced with the data; times of the file are nobody's need
        except OSError as err:
            # After a failed sync nobody knows which pages are on the disk, and a second sync may succeed without them.
            self._halted = True
            raise LogHalted(f"cannot sync the log's journal: {err.strerror}", place=Place(self._path)) from err
        durable.failpoint("log.journal.synced")
        self.size_bytes += len(data)

    def replace(self, record: Record) -> None:
        """Begin anew with one record, durably.

        Raises:
            FileUnwritable: (UNAVAIL) no space; the records are those from before, or the journal is halted.
        """
        self._halted = True  # until it is known which of the two has the name
        try:
            self.write(self._path, record)
        except FileUnwritable:
            self._halted = not os.path.samestat(os.fstat(self._file), os.stat(self._path))
            raise
        self._halted, self._is_replaced = False, True
        with contextlib.suppress(FileUnwritable):  # the records are there; who appends is told
            self._reopen()

    def _reopen(self) -> None:
        """Open the file that took the open one's place, if one did. It may take a while until there is a descriptor for it."""
        if not self._is_replaced:
            return
        try:
            durable.failpoint("log.journal.reopen")
            file = os.open(self._path, _FLAGS)
        except OSError as err:
            raise FileUnwritable(f"cannot open the log's journal: {err.strerror}", place=Place(self._path)) from err
        os.close(self._file)
        self._file, self._is_replaced = file, False
        self.size_bytes = os.lseek(file, 0, os.SEEK_END)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._halted = True

    def _take_back(self, cause: OSError) -> None:
        try:
            os.ftruncate(self._file, self.size_bytes)
        except OSError:
            self._halted = True
            raise LogHalted(f"cannot write the log's journal: {cause.strerror}", place=Place(self._path)) from cause


def _encode(record: Record) -> bytes:
    parts = [record.start.to_bytes(8, "big"), len(record.leaves).to_bytes(4, "big")]
    for leaf in record.leaves:
        parts += (len(leaf).to_bytes(4, "big"), leaf)
    parts.append(record.checkpoint.encode("utf-8"))
    body = b"".join(parts)
    head = _MAGIC + len(body).to_bytes(4, "big") + hashlib.sha256(body).digest()
    return head + zlib.crc32(head).to_bytes(4, "big") + body


def _parse(raw: bytes, place: Place) -> Iterator[tuple[Record, int]]:
    """Give each whole record, and where it ends."""
    at = 0
    while at < len(raw):
        head = raw[at : at + _HEAD_BYTES]
        where = Place("", f"byte {at}").within(place)
        if len(head) < _HEAD_BYTES:
            return
        if not head.startswith(_MAGIC) or zlib.crc32(head[:-4]).to_bytes(4, "big") != head[-4:]:
            if _zeros_from(raw, at) < at + _HEAD_BYTES:
                return
            raise LogDamaged("a record of the log's journal is damaged", place=where)
        end = at + _HEAD_BYTES + int.from_bytes(head[4:8], "big")
        if end > len(raw):
            return
        body = raw[at + _HEAD_BYTES : end]
        if hashlib.sha256(body).digest() != head[8 : 8 + _SUM_BYTES]:
            if end == len(raw) and _zeros_from(raw, at) < end:
                return
            raise LogDamaged("a record of the log's journal is damaged", place=where)
        yield _decode(body, where), end
        at = end


def _zeros_from(raw: bytes, begin: int) -> int:
    """Return where in the file the sectors begin that are zeros to its end, if `begin` is where its last record does.

    No record that was written ends in zeros: its checkpoint ends a line.
    """
    written = begin + len(raw[begin:].rstrip(b"\0"))
    return begin if written == begin else -(-written // _SECTOR_BYTES) * _SECTOR_BYTES


def _decode(body: bytes, where: Place) -> Record:
    """Take apart what the sums proved to be as it was written: by a log, or by whoever may write in its directory, which root reads too."""
    leaves = []
    at = 12
    for _ in range(int.from_bytes(body[8:12], "big")):
        end = at + 4 + int.from_bytes(body[at : at + 4], "big")
        if end > len(body):
            raise LogDamaged("a record of the log's journal was not written by a log", place=where)
        leaves.append(body[at + 4 : end])
        at = end
    return Record(int.from_bytes(body[:8], "big"), tuple(leaves), body[at:].decode("utf-8", "replace"))
