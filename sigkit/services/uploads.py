"""Uploads that are under way: bytes are appended and hashed as they come, and get a name only when the digest fits.

An upload lives in this process's memory and in one file. It is dropped when its digest is wrong, when nobody goes on with it for an hour
(for a minute, if it is empty), when it is the one that nobody went on with for longest and there is room for no more, and when the registry
starts. Where requests work on all of them, that one gives way whose bytes come most slowly: never one that comes at the least rate, nor one
of which all has come. Its file is made once, and never again under its name: a file that came after it was dropped would hold less than was
hashed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sigkit.digest import Digest
from sigkit.errors import DigestMismatch, FileUnwritable, Place, TooLarge, TooMany
from sigkit.services.exchange import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from concurrent.futures import Executor

    from sigkit.limits import ServedLimits

_BATCH_BYTES: Final = 1 << 20  # written and hashed in one go, outside the event loop
_SMALL_BATCH_BYTES: Final = 1 << 16  # where many come at once; a thousand of them are 64 MiB


class Coming:
    """The body of one request, as it comes for an upload."""

    def __init__(self, limits: ServedLimits) -> None:
        """Start with nothing."""
        self._safe_s = limits.upload_safe_s
        self._least_bytes_per_s = limits.body.least_bytes_per_s
        self._bytes = 0
        self._waited_s = 0.0  # for the client, and not for the disk: that is no fault of its own
        self._since_s: float | None = None  # it is waited for
        self.deadline = asyncio.timeout(None)
        self.gave_way = False

    async def read(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Give what comes."""
        while True:
            began_s = self._since_s = time.monotonic()
            try:
                piece = await anext(pieces, None)
            finally:
                self._since_s = None
                self._waited_s += time.monotonic() - began_s
            if piece is None:
                return
            self._bytes += len(piece)
            yield piece

    def behind_bytes(self) -> float:
        """Return how many bytes fewer came than at the least rate; 0 before they had time to, and while it is not waited for."""
        if self._since_s is None:
            return 0
        waited_s = self._waited_s + time.monotonic() - self._since_s
        return max((waited_s - self._safe_s) * self._least_bytes_per_s - self._bytes, 0)

    def give_way(self) -> None:
        """Take no more of it."""
        self.gave_way = True
        self.deadline.reschedule(0)


class Upload:
    """One upload into a repository. One request at a time works on it."""

    def __init__(self, identifier: str, repository: str, path: str, most_bytes: int) -> None:
        """Start empty; the file is made at once.

        Raises:
            FileUnwritable: it cannot be.
        """
        self._most_bytes = most_bytes
        self.identifier = identifier
        self.repository = repository
        self.path = path
        self.size = 0
        self.last_used_s = time.monotonic()
        self.busy = threading.Lock()
        self.coming: Coming | None = None
        self._hash: hashlib._Hash | None = hashlib.sha256(usedforsecurity=True)
        self._write(b"", os.O_CREAT | os.O_EXCL)

    def append(self, data: bytes | bytearray) -> None:
        """Add bytes at the end.

        Raises:
            TooLarge: (LIMIT) the blob is larger than the registry takes.
            FileUnwritable: no space, or the upload was dropped.
        """
        if self.size + len(data) > self._most_bytes:
            raise TooLarge(f"more than {self._most_bytes} bytes", place=Place(f"upload {self.identifier}"))
        self._write(data)
        self.size += len(data)
        if self._hash:
            self._hash.update(data)
        self.last_used_s = time.monotonic()

    def truncate(self, size: int) -> None:
        """Forget what came after the first `size` bytes."""
        os.truncate(self.path, size)
        self.size = size
        self._hash = None  # of bytes that are gone

    def check(self, expected: Digest) -> None:
        """Compare the digest of all bytes with `expected`.

        Raises:
            DigestMismatch: (DIGEST) it is another.
        """
        if self._hash and expected.algorithm == "sha256":
            got = Digest("sha256", self._hash.digest())
        else:
            with open(self.path, "rb") as file:
                got = Digest(expected.algorithm, hashlib.file_digest(file, expected.algorithm).digest())
        if got != expected:
            place = Place(f"upload {self.identifier}")
            raise DigestMismatch("the bytes have another digest", place=place, expected=str(expected), got=str(got))

    def _write(self, data: bytes | bytearray, flags: int = 0) -> None:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
            with open(descriptor, "wb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
        except OSError as err:
            raise FileUnwritable(f"cannot keep the upload: {err.strerror}", place=Place(self.path)) from err


class Uploads:
    """All uploads that are under way."""

    def __init__(self, directory: str, limits: ServedLimits) -> None:
        """Keep their files in `directory`, which is empty."""
        self._directory = directory
        self._limits = limits
        self._open: dict[str, Upload] = {}
        self._bytes = 0  # that have come and are not written

    def start(self, repository: str) -> Upload:
        """Start an upload into a repository.

        Raises:
            TooMany: (LIMIT) requests are working on as many as the registry keeps, and all of them come fast enough.
        """
        self._drop_idle()
        # One that was just begun goes last: its client is about to send, and where all others are slow it would be the only one to go.
        if len(self._open) >= self._limits.uploads and not (
            self._drop_oldest(self._limits.upload_safe_s) or self._end_slowest() or self._drop_oldest(0)
        ):
            raise TooMany(f"more than {self._limits.uploads} uploads at once", place=Place("uploads"))
        identifier = secrets.token_hex(16)
        upload = Upload(identifier, repository, os.path.join(self._directory, identifier), self._limits.blob_bytes)
        self._open[identifier] = upload
        return upload

    def find(self, repository: str, identifier: str) -> Upload | None:
        """Return an upload of that repository, if there is such a one."""
        upload = self._open.get(identifier)
        return upload if upload and upload.repository == repository else None

    async def receive(self, upload: Upload, pieces: AsyncIterator[bytes], threads: Executor) -> None:
        """Add all that comes to an upload, which its request holds; `threads` are to write it.

        Raises:
            Refused: it gave way to another, and is dropped.
            SigkitError: as `Upload.append`.
        """
        upload.coming = coming = Coming(self._limits)
        held = bytearray()  # not a list: of the shortest pieces it would take forty times as much
        loop = asyncio.get_running_loop()
        try:
            async with coming.deadline:
                async for piece in coming.read(pieces):
                    if coming.gave_way:  # it came before it could be told
                        raise TimeoutError
                    held += piece
                    self._bytes += len(piece)
                    if len(held) >= self._batch_bytes():
                        await loop.run_in_executor(threads, upload.append, held)
                        self._bytes -= len(held)
                        held = bytearray()
                if coming.gave_way:
                    raise TimeoutError
                if held:
                    await loop.run_in_executor(threads, upload.append, held)
        except TimeoutError as err:
            raise Refused(408, "BLOB_UPLOAD_INVALID", "the upload came too slowly and gave way to another, begin again") from err
        finally:
            upload.coming = None
            self._bytes -= len(held)

    def _batch_bytes(self) -> int:
        return _BATCH_BYTES if self._bytes <= self._limits.uploads_bytes else _SMALL_BATCH_BYTES

    def drop(self, upload: Upload) -> None:
        """Forget an upload and remove its file, if it is still there."""
        self._open.pop(upload.identifier, None)
        try:
            os.unlink(upload.path)
        except FileNotFoundError:
            pass  # it became a blob

    @contextmanager
    def dropped_at_end(self, upload: Upload) -> Iterator[Upload]:
        """Drop the upload at the end of the block, whatever happens in it."""
        try:
            yield upload
        finally:
            self.drop(upload)

    def _drop_idle(self) -> None:
        now_s = time.monotonic()
        for upload in self._idle():
            most_s = self._limits.upload_idle_s if upload.size else self._limits.upload_empty_s
            if now_s - upload.last_used_s > most_s:
                self.drop(upload)

    def _drop_oldest(self, idle_s: float) -> bool:
        """Make room; tell whether there was an upload to drop. Its client begins again, whoever asked for the others need not come back."""
        oldest = min(self._idle(), key=lambda upload: upload.last_used_s, default=None)
        if oldest is None or time.monotonic() - oldest.last_used_s < idle_s:
            return False
        self.drop(oldest)
        return True

    def _end_slowest(self) -> bool:
        """Make room; tell whether any came so slowly that it may be ended: else a byte for each would keep everybody else from pushing."""
        coming = [(upload.coming.behind_bytes(), upload.coming, upload) for upload in tuple(self._open.values()) if upload.coming]
        behind_bytes, slowest, upload = max(coming, key=lambda found: found[0], default=(0, None, None))
        if slowest is None or upload is None or behind_bytes <= 0:
            return False
        slowest.give_way()
        self.drop(upload)
        return True

    def _idle(self) -> list[Upload]:
        # Of a copy: another thread may start or drop one meanwhile.
        return [upload for upload in tuple(self._open.values()) if not upload.busy.locked()]
