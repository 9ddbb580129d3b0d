"""The audit log: what was admitted and what was refused, one JSON document a line, each line holding the digest of the one before.

A line is durable when `append` returns; nothing starts before. Lines are never changed: an admission whose pull or start failed is followed
by a line that says so. The chain shows that a line was changed, removed or put in, but not that the newest were cut off: whoever must
know that keeps the head's digest elsewhere. Host root can write anything, as everywhere on this host.

A process that was killed while it wrote leaves a torn last line. The next `append` moves it to a file beside the log, and a line says so.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.data import Data
from sigkit.digest import Digest, parse_digest
from sigkit.errors import AuditDamaged, FileUnreadable, FileUnwritable, Place, SigkitError, TooLarge
from sigkit.strict import encode_json, parse_json
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sigkit.clock import Clock
    from sigkit.strict import Json

SCHEMA: Final = "sigkit.audit/1"
_MEMBERS: Final = ("schema", "sequence", "time", "previous", "event", "body")
_CHUNK_BYTES: Final = 64 * 2**10


class Entry(Data):
    """One line: its place in the chain, the digest that names it, and what it says."""

    sequence: int
    digest: Digest
    event: str
    body: Mapping[str, Json]


class _Tail(Data):
    """Where the log ends: the last whole line, if any, and how many bytes are whole."""

    last: Entry | None
    whole_bytes: int


class AuditLog:
    """Appends to one file, mode 0600, one process at a time."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock) -> None:
        """Name the file; it is made by the first line."""
        self._path = os.fspath(path)
        self._clock = clock
        self._place = Place(self._path)

    def append(self, event: str, body: Mapping[str, Json]) -> str:
        """Write one line, durably, and return the digest that names it.

        Raises:
            TooLarge: (LIMIT) the line would be longer than is read back.
            AuditDamaged: (UNAVAIL) the log's end is no whole chain, or the file is not this user's alone.
            FileUnwritable, LockTimeout: (UNAVAIL) it cannot be written; the line is not in it.
        """
        with durable.lock(f"{self._path}.lock"), self._opened() as descriptor:
            tail = self._recover(descriptor)
            entry = self._write(descriptor, tail, event, body)
        return str(entry.digest)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        new = not os.path.lexists(self._path)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as err:
            raise FileUnwritable(f"cannot open the audit log: {err.strerror}", place=self._place) from err
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                got = f"{stat.filemode(found.st_mode)} of user {found.st_uid}"
                raise AuditDamaged("the audit log is not this user's alone", place=self._place, expected="mode 0600", got=got)
            if new:
                durable.sync_directory(os.path.dirname(self._path) or ".")
            yield descriptor
        except OSError as err:
            raise FileUnwritable(f"cannot write the audit log: {err.strerror or err}", place=self._place) from err
        finally:
            os.close(descriptor)

    def _recover(self, descriptor: int) -> _Tail:
        """Return where the log ends, after moving a torn last line away."""
        size = os.fstat(descriptor).st_size
        tail = _find_tail(descriptor, size, self._place)
        if tail.whole_bytes == size:
            return tail
        torn = os.pread(descriptor, size - tail.whole_bytes, tail.whole_bytes)
        kept = f"{self._path}.torn-{tail.whole_bytes}-{Digest.of(torn).hex[:12]}"
        if not os.path.lexists(kept):
            durable.create_new(kept, torn, point="audit.torn")
        os.ftruncate(descriptor, tail.whole_bytes)
        os.fsync(descriptor)
        body: dict[str, Json] = {"kept": os.path.basename(kept), "bytes": len(torn), "digest": str(Digest.of(torn))}
        entry = self._write(descriptor, tail, "recovered", body)
        return _Tail(entry, os.fstat(descriptor).st_size)

    def _write(self, descriptor: int, tail: _Tail, event: str, body: Mapping[str, Json]) -> Entry:
        line = encode_json(
            {
                "schema": SCHEMA,
                "sequence": tail.last.sequence + 1 if tail.last else 1,
                "time": format_time(self._clock.now()),
                "previous": str(tail.last.digest) if tail.last else None,
                "event": event,
                "body": dict(body),
            }
        )
        if len(line) > limits.AUDIT_RECORD_BYTES:
            raise TooLarge(f"the audit line would have more than {limits.AUDIT_RECORD_BYTES} bytes", place=self._place)
        try:
            durable.failpoint("audit.write")
            left = memoryview(line + b"\n")
            while left:
                left = left[os.write(descriptor, left) :]
            durable.failpoint("audit.fsync")
            os.fsync(descriptor)
        except OSError:
            # What was not synced must not look like a line; if even this fails, the line stands for nothing: its caller stops.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, tail.whole_bytes)
            raise
        return Entry(tail.last.sequence + 1 if tail.last else 1, Digest.of(line), event, body)


def read_log(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Give every line of a log in order, each proved to follow the one before.

    Raises:
        FileUnreadable: (UNAVAIL) the file cannot be read.
        AuditDamaged: (UNAVAIL) a line is malformed, torn, or does not follow; the place names it.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            previous: Entry | None = None
            while line := file.readline(limits.AUDIT_RECORD_BYTES + 2):
                place = Place(name, f"line {previous.sequence + 1 if previous else 1}")
                previous = _parse_line(line, previous, place)
                yield previous
    except OSError as err:
        raise FileUnreadable(f"cannot read the audit log: {err.strerror or err}", place=Place(name)) from err


def _parse_line(line: bytes, previous: Entry | None, place: Place) -> Entry:
    if not line.endswith(b"\n"):
        raise AuditDamaged("the line is torn or too long", place=place, remedy="a torn last line is moved away by the next admission")
    entry, named = _parse_entry(line[:-1], place)
    expected = (previous.sequence + 1, previous.digest) if previous else (1, None)
    if (entry.sequence, named) != expected:
        raise AuditDamaged(
            "the line does not follow the one before", place=place, expected=_chained(*expected), got=_chained(entry.sequence, named)
        )
    return entry


def _chained(sequence: int, previous: Digest | None) -> str:
    return f"number {sequence} after {previous or 'nothing'}"


def _parse_entry(line: bytes, place: Place) -> tuple[Entry, Digest | None]:
    try:
        top = parse_json(line, most_bytes=limits.AUDIT_RECORD_BYTES, place=place).only(_MEMBERS)
        if top.member("schema").text() != SCHEMA:
            top.member("schema").fail("not a line of this log", expected=SCHEMA)
        previous = top.find("previous")
        named = parse_digest(previous.text(), place) if previous else None
        entry = Entry(top.member("sequence").integer(1), Digest.of(line), top.member("event").text(), top.member("body").object())
    except SigkitError as err:
        raise AuditDamaged(f"the line is malformed: {err.problem}", place=place) from err
    return entry, named


def _find_tail(descriptor: int, size: int, place: Place) -> _Tail:
    """Find the last line that ends in a line feed, reading backwards."""
    read = b""
    start = size
    while start and read.count(b"\n") < 2 and len(read) <= 2 * limits.AUDIT_RECORD_BYTES:
        step = min(_CHUNK_BYTES, start)
        start -= step
        read = os.pread(descriptor, step, start) + read
    end = read.rfind(b"\n")
    if end < 0:
        if start:
            raise AuditDamaged("the end of the audit log is no line", place=place)
        return _Tail(None, 0)
    begin = read.rfind(b"\n", 0, end) + 1
    if begin == 0 and start:
        raise AuditDamaged("the last line of the audit log is too long", place=place)
    entry, _ = _parse_entry(read[begin:end], Place(place.source, "last line"))
    return _Tail(entry, start + end + 1)
