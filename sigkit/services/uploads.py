"""Uploads that are under way: bytes are appended and hashed as they come, and get a name only when the digest fits.

An upload lives in this process's memory and in one file. It is dropped when its digest is wrong, when nobody goes on with it for an hour
(for a minute, if it is empty), when it is the one that nobody went on with for longest and there is room for no more, and when the registry
starts. Its file is made once, and never again under its name: a file that came after it was dropped would hold less than was hashed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sigkit.digest import Digest
from sigkit.errors import DigestMismatch, FileUnwritable, Place, TooLarge, TooMany

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.limits import ServedLimits


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
        self._hash: hashlib._Hash | None = hashlib.sha256(usedforsecurity=True)
        self._write(b"", os.O_CREAT | os.O_EXCL)

    def append(self, data: bytes) -> None:
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

    def _write(self, data: bytes, flags: int = 0) -> None:
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

    def start(self, repository: str) -> Upload:
        """Start an upload into a repository.

        Raises:
            TooMany: (LIMIT) requests are working on as many as the registry keeps.
        """
        self._drop_idle()
        if len(self._open) >= self._limits.uploads and not self._drop_oldest():
            raise TooMany(f"more than {self._limits.uploads} uploads at once", place=Place("uploads"))
        identifier = secrets.token_hex(16)
        upload = Upload(identifier, repository, os.path.join(self._directory, identifier), self._limits.blob_bytes)
        self._open[identifier] = upload
        return upload

    def find(self, repository: str, identifier: str) -> Upload | None:
        """Return an upload of that repository, if there is such a one."""
        upload = self._open.get(identifier)
        return upload if upload and upload.repository == repository else None

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

    def _drop_oldest(self) -> bool:
        """Make room; tell whether there was an upload to drop. Its client begins again, whoever asked for the others need not come back."""
        oldest = min(self._idle(), key=lambda upload: upload.last_used_s, default=None)
        if oldest:
            self.drop(oldest)
        return oldest is not None

    def _idle(self) -> list[Upload]:
        # Of a copy: another thread may start or drop one meanwhile.
        return [upload for upload in tuple(self._open.values()) if not upload.busy.locked()]
