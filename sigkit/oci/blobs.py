"""Blobs over the wire: down, verified while they stream and continued where the transfer broke; up, in one piece or in chunks.

Down: bytes that were handed out are part of the hash, and a continued transfer goes on behind them, so the digest at the end covers
exactly what the reader got, from however many answers. A store that the registry redirects to gets no credentials; when its signed URL
has expired (403), the registry is asked for a new one, once. `urls` in descriptors are never followed.

Up: the location of an upload must stay on the registry's own scheme, host and port (CVE-2026-50151). A broken chunk is continued from
what the registry says it has; a broken upload in one piece starts again.

Source: OCI distribution-spec 1.1 "Pulling blobs", "Pushing blobs".
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import IO, TYPE_CHECKING, Final, cast

from sigkit.data import Data
from sigkit.digest import CHUNK_BYTES, Digest, VerifyingReader
from sigkit.errors import BlobAbsent, FileUnreadable, Place, SizeMismatch, TooLarge, Unreachable
from sigkit.net.hop import FilePart
from sigkit.net.retry import ATTEMPTS
from sigkit.net.session import Redirects
from sigkit.oci.exchange import Access, Exchange, Request, error_body, failed, unusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sigkit.net.address import Deadline
    from sigkit.net.session import Reply
    from sigkit.net.url import Url
    from sigkit.oci.descriptor import Descriptor
    from sigkit.oci.reference import Repository

RESUMES: Final = 8  # a layer of 1 GB over a line that breaks every 100 MB
UPLOADS: Final = 3
EXPIRED: Final = 1  # how often a store's 403 is answered by asking the registry again

_OCTETS: Final = (("Content-Type", "application/octet-stream"),)
_CONTENT_RANGE: Final = r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)"
_UPLOADED: Final = r"(?:bytes=)?0-(\d{1,19})"


@contextlib.contextmanager
def open_blob(exchange: Exchange, repository: Repository, descriptor: Descriptor) -> Iterator[VerifyingReader]:
    """Give a blob as a stream that ends only if size and digest fit.

    Raises:
        BlobAbsent, ServerFailed, AccessDenied, Unreachable, TimedOut: (UNAVAIL) it cannot be had.
        SizeMismatch: (DIGEST) the server promises another size.
    """
    with contextlib.closing(_Download(exchange, repository, descriptor)) as download:
        place = download.url.place()
        # A reader needs `read` and nothing else of a file.
        yield VerifyingReader(cast("IO[bytes]", download), digest=descriptor.digest, size_bytes=descriptor.size, place=place)


def fetch_blob(exchange: Exchange, repository: Repository, descriptor: Descriptor, *, most_bytes: int) -> bytes:
    """Return a whole blob, verified.

    Raises:
        TooLarge: (LIMIT) its descriptor says that it is larger; nothing was asked for.
    """
    if descriptor.size > most_bytes:
        place = exchange.url(repository, f"blobs/{descriptor.digest}").place()
        raise TooLarge(f"the blob has more than {most_bytes} bytes", place=place, got=f"{descriptor.size} bytes")
    with open_blob(exchange, repository, descriptor) as reader:
        return b"".join(reader)


class _Download:
    """The bytes of a blob from as many answers as it takes."""

    def __init__(self, exchange: Exchange, repository: Repository, descriptor: Descriptor) -> None:
        self._exchange = exchange
        self._repository = repository
        self._size_bytes = descriptor.size
        self._at = 0
        self._resumes = 0
        self._deadline = exchange.deadline(descriptor.size)
        self.url = exchange.url(repository, f"blobs/{descriptor.digest}")
        self._reply = self._ask()

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        while True:
            try:
                data = self._reply.read(size)
            except Unreachable:
                if self._resumes == RESUMES:
                    raise
                self._resumes += 1
                self._reply.close()
                self._reply = self._ask()
                continue
            self._at += len(data)
            return data

    def close(self) -> None:
        self._reply.close()

    def _ask(self) -> Reply:
        ranges = (("Range", f"bytes={self._at}-"),) if self._at else ()
        request = Request("GET", self._repository, self.url, self._deadline, headers=ranges, redirects=Redirects.FOLLOW)
        reply = self._exchange.send(request)
        for _ in range(EXPIRED):
            if reply.status == 403:  # the registry's own is an error before this: it is the store's
                reply.discard()
                reply = self._exchange.send(request)
        try:
            self._check(reply)
        except BaseException:
            reply.close()
            raise
        return reply

    def _check(self, reply: Reply) -> None:
        if reply.status == 404:
            raise BlobAbsent("the registry does not have the blob", place=self.url.place(), got="404")
        if reply.status == 206 and self._at:
            found = re.fullmatch(_CONTENT_RANGE, reply.headers.find("content-range") or "")
            if not found or int(found[1]) != self._at:
                raise unusable(reply, f"bytes {self._at}-", reply.headers.find("content-range") or "no Content-Range")
            promised = self._at
        elif reply.status == 200:
            promised = 0
        else:
            raise failed(reply, error_body(reply), "the blob cannot be fetched")
        if reply.size_bytes is not None and promised + reply.size_bytes != self._size_bytes:
            got = f"{promised + reply.size_bytes} bytes promised"
            raise SizeMismatch("not the promised size", place=self.url.place(), expected=f"{self._size_bytes} bytes", got=got)
        if promised < self._at:
            self._skip(reply)

    def _skip(self, reply: Reply) -> None:
        """Pass over what was handed out already: the store knows no ranges. What comes behind is hashed as any."""
        left = self._at
        while left:
            data = reply.read(min(left, CHUNK_BYTES))
            if not data:
                raise SizeMismatch("not the promised size", place=self.url.place(), expected=f"{self._size_bytes} bytes", got="fewer")
            left -= len(data)


def has_blob(exchange: Exchange, repository: Repository, digest: Digest) -> bool:
    """Tell whether the registry says that it has a blob."""
    url = exchange.url(repository, f"blobs/{digest}")
    # Not followed: a store's signed URL is for GET and answers HEAD with 403.
    with exchange.send(Request("HEAD", repository, url, exchange.deadline(), redirects=Redirects.RETURN)) as reply:
        reply.discard()
        if reply.status in {200, 301, 302, 303, 307, 308}:
            return True
        if reply.status == 404:
            return False
        raise failed(reply, b"", "the registry does not say whether it has the blob")


def push_blob(exchange: Exchange, repository: Repository, digest: Digest, source: bytes | Path) -> None:
    """Store a blob; one that is there already is not sent again.

    Raises:
        OtherHostRefused: (NET) the registry wants the upload sent to another host.
        FileUnreadable: `source` cannot be read.
        ServerFailed, AccessDenied, Unreachable, TimedOut: (UNAVAIL) it was not stored.
    """
    if has_blob(exchange, repository, digest):
        return
    upload = _Upload(exchange, repository, digest, source)
    for attempt in range(UPLOADS):
        try:
            upload.run()
        except Unreachable:
            if attempt == UPLOADS - 1:
                raise
        else:
            return


def check_push(exchange: Exchange, repository: Repository) -> None:
    """Raise unless the registry lets this caller begin an upload there; the upload is given up again.

    A blob that is there already would be no proof: `push_blob` asks for nothing then.

    Raises:
        OtherHostRefused: (NET) the registry wants uploads sent to another host.
        ServerFailed, AccessDenied, Unreachable, TimedOut: (UNAVAIL) it does not.

    Source: OCI distribution-spec 1.1, "Pushing a blob in chunks", "Canceling a blob upload".
    """
    _Upload(exchange, repository, Digest.of(b""), b"").give_up()


class _Session(Data):
    url: Url
    least_chunk_bytes: int


class _Upload:
    def __init__(self, exchange: Exchange, repository: Repository, digest: Digest, source: bytes | Path) -> None:
        self._exchange = exchange
        self._repository = repository
        self._digest = digest
        self._source = source
        self._size_bytes = _size_of(source)
        self._deadline: Deadline = exchange.deadline(self._size_bytes)

    def run(self) -> None:
        """Open an upload, send everything, close it under the digest."""
        session = self._open()
        chunk_bytes = max(self._exchange.chunk_bytes, session.least_chunk_bytes)
        if self._size_bytes <= chunk_bytes:
            self._finish(session.url, self._part(0, self._size_bytes))
            return
        at, url, resumes = 0, session.url, 0
        while at < self._size_bytes:
            end = min(at + chunk_bytes, self._size_bytes)
            try:
                url = self._patch(url, at, end)
                at = end
            except Unreachable:
                resumes += 1
                if resumes > RESUMES:
                    raise
                url, at = self._uploaded(url)
        self._finish(url, b"")

    def give_up(self) -> None:
        """Open an upload and cancel it; a registry that cannot cancel forgets it in its own time."""
        with self._send("DELETE", self._open().url, None) as reply:
            reply.discard()

    def _open(self) -> _Session:
        url = self._exchange.url(self._repository, "blobs/uploads/")
        with self._send("POST", url, b"") as reply:
            if reply.status != 202:
                raise failed(reply, error_body(reply), "no upload can be started")
            reply.discard()
            least = reply.headers.find("oci-chunk-min-length") or ""
            least_bytes = int(least) if least.isascii() and least.isdecimal() and len(least) < 12 else 0
            return _Session(self._location(reply), least_bytes)

    def _patch(self, url: Url, start: int, end: int) -> Url:
        ranges = (("Content-Range", f"{start}-{end - 1}"), *_OCTETS)
        with self._send("PATCH", url, self._part(start, end - start), ranges) as reply:
            if reply.status not in {202, 204}:
                raise failed(reply, error_body(reply), "a chunk was not stored")
            reply.discard()
            return self._location(reply)

    def _uploaded(self, url: Url) -> tuple[Url, int]:
        """Ask how much of a broken upload is there."""
        with self._send("GET", url, None) as reply:
            if reply.status not in {202, 204}:
                raise failed(reply, error_body(reply), "the upload is lost")
            reply.discard()
            found = re.fullmatch(_UPLOADED, reply.headers.find("range") or "0-0")
            last = int(found[1]) if found else 0
            # "0-0" is one byte or none (the specification cannot tell them apart): from the start is right for both.
            return self._location(reply), last + 1 if last else 0

    def _finish(self, url: Url, body: bytes | FilePart) -> None:
        joint = "&" if "?" in url.target else "?"
        closing = url._replace(target=f"{url.target}{joint}digest={str(self._digest).replace(':', '%3A')}")
        with self._send("PUT", closing, body, _OCTETS) as reply:
            if reply.status not in {201, 204}:
                raise failed(reply, error_body(reply), "the blob was not stored")
            reply.discard()

    def _send(self, method: str, url: Url, body: bytes | FilePart | None, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
        # A repeated PUT or PATCH would add to what the first has left: repeating is decided here, not in the session.
        attempts = 1 if method in {"PUT", "PATCH"} else ATTEMPTS
        request = Request(method, self._repository, url, self._deadline, access=Access.PUSH, headers=headers, body=body, attempts=attempts)
        return self._exchange.send(request)

    def _location(self, reply: Reply) -> Url:
        location = reply.headers.find("location")
        if location is None:
            raise unusable(reply, "a Location header", "none")
        return reply.url.join_own(location, "the upload")

    def _part(self, start: int, size_bytes: int) -> bytes | FilePart:
        if isinstance(self._source, bytes):
            return self._source[start : start + size_bytes]
        return FilePart(os.fspath(self._source), start, size_bytes)


def _size_of(source: bytes | Path) -> int:
    if isinstance(source, bytes):
        return len(source)
    try:
        return os.stat(source).st_size
    except OSError as err:
        raise FileUnreadable(f"cannot read the file: {err.strerror or err}", place=Place(os.fspath(source))) from err
