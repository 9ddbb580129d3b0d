"""The files of the embedded registry.

    blobs/<algorithm>/<hex>                                   content of blobs and manifests
    repositories/<name>/_blobs/<algorithm>/<hex>              this repository has that blob
    repositories/<name>/_manifests/<algorithm>/<hex>          this repository has that manifest; holds its media type and subject
    repositories/<name>/_tags/<tag>                           holds a digest
    repositories/<name>/_referrers/<subject>/<referrer>       holds the referrer's descriptor
    uploads/<id>                                              unfinished; removed when the registry starts

No component of a repository's name starts with an underscore, so names and our directories cannot meet. What a repository has is what its
links say, never what lies in blobs/: a blob that was deleted is gone at once, also while another repository keeps the content
(CVE-2026-35172).
Content gets its name after it was hashed and synced. A manifest is listed with its subject before it is linked, and what is listed without
a link is passed over; a tag comes last: whoever finds a name finds all that it stands for. A blob is linked before it is there, and is had
by nobody until then: without a link nobody could delete it.
A process that was killed leaves names that no disk has: they are synced when the registry starts, before anybody is told of them.
One process owns the directory, by a lock.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import IO, TYPE_CHECKING, Final, Self

from sigkit import durable, limits
from sigkit.digest import SIZES, Digest, parse_digest
from sigkit.errors import DatabaseUnusable, DigestMismatch, FileUnreadable, FileUnwritable, Place, SigkitError, UnavailError
from sigkit.oci.descriptor import parse_descriptor
from sigkit.oci.manifest import describe_referrer
from sigkit.services.listed import Listings, Referrer
from sigkit.strict import decode_utf8, encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sigkit.oci.manifest import Index, Manifest

SCHEMA: Final = b"sigkit.registry/1\n"
_LINK_BYTES = limits.MANIFEST_BYTES  # the largest link is a referrer's descriptor, which holds a manifest's annotations
_LOCK_TIMEOUT_S = 1.0  # for one that is just stopping
_THREADS: Final = 6  # as asyncio has on two processors


class TagRule(Enum):
    """Whether a tag may be moved."""

    MOVABLE = "movable"
    IMMUTABLE = "immutable"


@dataclass(frozen=True, slots=True)
class Content:
    """An open file of some content, to be closed by whoever gets it."""

    file: IO[bytes]
    size: int
    media_type: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted."""

    most: int
    most_bytes: int
    after: str = ""  # what comes up to this is not wanted


@dataclass(frozen=True, slots=True)
class Referrers:
    """Part of a list of referrers."""

    found: tuple[Referrer, ...]
    last: str  # after which the rest comes; empty: nothing does


class Storage:
    """What the registry keeps. Its methods block on the disk; those that change something may be called from several threads."""

    def __init__(self, root: str) -> None:
        """Take a directory that `open` has prepared."""
        self.root = root
        self.uploads = os.path.join(root, "uploads")
        self._changes = threading.Lock()
        self._holders: dict[str, int] | None = None  # how many repositories have some content, see `_count_holders`
        self._tagged: dict[str, dict[str, Digest | None]] = {}  # what tags name, by repository and tag, see `_learn_tags`
        self._moving: list[set[tuple[str, str]]] = []  # for each repository whose tags are being read, those that were put meanwhile
        self._listings = Listings()
        # For who serves it: those of its event loop are for other services, too, and whoever pushes is not to hold up those that verify.
        self.own_threads = ThreadPoolExecutor(_THREADS, "sigkit-registry")
        self.list_thread = ThreadPoolExecutor(1, "sigkit-registry-lists")

    @classmethod
    @contextlib.contextmanager
    def open(cls, root: str | os.PathLike[str]) -> Iterator[Self]:
        """Own the directory `root`, made if it is absent, until the block ends.

        Raises:
            LockTimeout: another process serves it.
            DatabaseUnusable: it holds something else, or was written by another version.
            FileUnwritable: it cannot be written.
        """
        path = os.path.abspath(root)
        durable.make_directory(os.path.dirname(path), 0o777)
        durable.make_directory(path, 0o700)
        with durable.lock(os.path.join(path, "lock"), timeout_s=_LOCK_TIMEOUT_S):
            storage = cls(path)
            storage._prepare()
            try:
                yield storage
            finally:
                for threads in (storage.own_threads, storage.list_thread):
                    threads.shutdown(cancel_futures=True)

    def _prepare(self) -> None:
        version = os.path.join(self.root, "version")
        if not os.path.exists(version):
            # A process that was killed at its very first step leaves a temporary file beside the lock.
            if any(name != "lock" and not durable.is_unfinished(name) for name in os.listdir(self.root)):
                raise DatabaseUnusable("not a registry's directory", place=Place(self.root), remedy="name an empty or absent directory")
            with _written(self.root), contextlib.suppress(PermissionError):  # whoever may not look there did not make it either
                durable.sync_directory(os.path.dirname(self.root))
            durable.write(version, SCHEMA, point="registry.version")
        found = durable.read(version, most_bytes=64, place=Place(version))
        if found != SCHEMA:
            raise DatabaseUnusable(
                "written by another version of sigkit", place=Place(version), expected=SCHEMA.decode().strip(), got=repr(found)
            )
        with _written(self.uploads):
            os.makedirs(self.uploads, mode=0o700, exist_ok=True)
            for name in os.listdir(self.uploads):
                os.unlink(os.path.join(self.uploads, name))
        durable.settle(self.root)  # 100,000 blobs in a thousand repositories, with 20,000 subjects: 3 s from a cold disk

    # --- reading

    def has_repository(self, name: str) -> bool:
        """Tell whether anything was ever pushed to the repository."""
        return any(os.path.isdir(os.path.join(self._repository(name), part)) for part in ("_blobs", "_manifests"))

    def has_blob(self, name: str, digest: Digest) -> bool:
        """Tell whether the repository has the blob."""
        return os.path.exists(self._link(name, "_blobs", digest)) and os.path.exists(self._content(digest))

    def open_blob(self, name: str, digest: Digest) -> Content | None:
        """Open a blob of the repository, if it has it."""
        if not os.path.exists(self._link(name, "_blobs", digest)):
            return None
        return self._open(digest, "application/octet-stream")

    def find_tag(self, name: str, tag: str) -> Digest | None:
        """Return what a tag names, if there is such a tag."""
        path = os.path.join(self._repository(name), "_tags", tag)
        text = _read_link(path)
        with _own(path):
            return parse_digest(text, Place(path)) if text else None

    def open_manifest(self, name: str, digest: Digest) -> Content | None:
        """Open a manifest of the repository, if it has it."""
        link = _read_link(self._link(name, "_manifests", digest))
        return self._open(digest, link.partition("\n")[0]) if link else None

    def has_manifest(self, name: str, digest: Digest) -> bool:
        """Tell whether the repository has the manifest."""
        return os.path.exists(self._link(name, "_manifests", digest))

    def list_tags(self, name: str) -> tuple[str, ...]:
        """Return the repository's tags in the order in which a registry lists them.

        Source: OCI distribution-spec 1.1 "Listing Tags": lexical, without regard to case.
        """
        tags = _list(os.path.join(self._repository(name), "_tags"))
        return tuple(sorted(tags, key=lambda tag: (tag.lower(), tag)))

    def list_referrers(self, name: str, subject: Digest, page: Page) -> Referrers:
        """Return some of the manifests whose subject is `subject`, by digest; no file is read that the page has no room for but one."""
        directory = self._referrers(name, subject)
        listing = self._listings.open(name, str(subject))
        entries = self._listings.entries(listing, lambda: _list(directory))
        found: list[Referrer] = []
        last, size_bytes = "", 0
        first = bisect.bisect_right(entries, page.after)
        for entry in entries[first : first + page.most]:
            referrer = self._listings.referrer(listing, entry, lambda name_of_it: self._read_referrer(name, directory, name_of_it))
            size_bytes += len(referrer.encoded) if referrer else 0
            if found and size_bytes > page.most_bytes:
                break
            last = entry
            if referrer:
                found.append(referrer)
        return Referrers(tuple(found), last if last and last != entries[-1] else "")

    def _read_referrer(self, name: str, directory: str, entry: str) -> Referrer | None:
        """Read what is said of a referrer; None: it was deleted, or a push of it was ended before it was whole."""
        path = os.path.join(directory, entry)
        with _own(path):
            digest = parse_digest(entry, Place(path))
            text = _read_link(path).encode() if self.has_manifest(name, digest) else b""
            if not text:
                return None
            described = parse_descriptor(parse_json(text, most_bytes=_LINK_BYTES, place=Place(path)))
            return Referrer(digest, described.artifact_type, encode_json(described.encode()))

    # --- changing

    def put_blob(self, name: str, digest: Digest, path: str, size: int) -> None:
        """Take the file `path`, whose bytes have that digest, as a blob of the repository.

        Raises:
            DigestMismatch: (DIGEST) it has not the size of what was hashed: it would lie over everybody's good content of that digest.
            FileUnwritable: nothing was changed but for the file, which may be gone.
        """
        with _written(path), open(path, "rb") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise DigestMismatch("the file is not what was hashed", place=Place(str(digest)), expected=f"{size} bytes", got=f"{found}")
            durable.failpoint("registry.blob.fsync")
            os.fsync(file.fileno())
        final = self._content(digest)
        with self._changes, _written(path):
            durable.make_directory(os.path.dirname(final), 0o700)
            self._put_content_link(name, "_blobs", digest, b"")
            # Over what may be there: the bytes there may have been damaged, these were hashed just now.
            os.rename(path, final)
            durable.sync_directory(os.path.dirname(final))

    def mount_blob(self, name: str, digest: Digest, source: str) -> bool:
        """Give the repository a blob of the repository `source`; tell whether that has it."""
        with self._changes:
            if not self.has_blob(source, digest):
                return False
            self._put_content_link(name, "_blobs", digest, b"")
            return True

    def put_manifest(self, name: str, document: Manifest | Index, tag: str | None, rule: TagRule = TagRule.MOVABLE) -> bool:
        """Store a manifest in the repository, list it with its subject, and let `tag` name it; tell whether the rule allows that."""
        with self._changes:
            if tag is not None and rule is TagRule.IMMUTABLE and self.find_tag(name, tag) not in {None, document.digest}:
                return False
            content = self._content(document.digest)
            durable.make_directory(os.path.dirname(content), 0o700)
            durable.write(content, document.raw, point="registry.manifest")
            self._put_manifest_link(name, document)
            if tag is not None:
                self._put_tag(name, tag, document.digest)
            return True

    def _put_manifest_link(self, name: str, document: Manifest | Index) -> None:
        if not document.subject:
            self._put_content_link(name, "_manifests", document.digest, f"{document.media_type}\n".encode())
            return
        subject = document.subject.digest
        try:
            self._put_link(os.path.join(self._referrers(name, subject), str(document.digest)), encode_referrer(document))
            self._put_content_link(name, "_manifests", document.digest, f"{document.media_type}\n{subject}".encode())
        finally:
            self._listings.change(name, str(subject), str(document.digest))

    def _put_tag(self, name: str, tag: str, digest: Digest) -> None:
        for moved in self._moving:
            moved.add((name, tag))
        known = self._tagged.pop(name, None)  # for good if it cannot be written, for then nobody knows what it names
        self._put_link(os.path.join(self._repository(name), "_tags", tag), str(digest).encode())
        if known is not None:
            known[tag] = digest
            self._tagged[name] = known

    def delete_tag(self, name: str, tag: str) -> bool:
        """Remove a tag; tell whether there was one."""
        with self._changes:
            self._tagged.get(name, {}).pop(tag, None)
            return _unlink(os.path.join(self._repository(name), "_tags", tag))

    def delete_manifest(self, name: str, digest: Digest) -> bool:
        """Remove a manifest with the tags that name it and its place among its subject's referrers; tell whether it was there."""
        path = self._link(name, "_manifests", digest)
        if not self.has_manifest(name, digest):  # else whoever asks for what is not there would have all tags read
            return False
        self._learn_tags(name)
        with self._changes:
            link = _read_link(path)
            if not link:
                return False
            holders = self._count_holders()
            # The subject is in the link, so that a manifest whose content was damaged can be removed as well.
            subject = link.partition("\n")[2]
            with _own(path):
                listed = parse_digest(subject, Place(path)) if subject else None
            self._delete_tags(name, digest)
            try:
                self._drop_link(path, digest, holders)
                if listed is not None:
                    _unlink(os.path.join(self._referrers(name, listed), str(digest)))
            finally:
                self._listings.change(name, subject, str(digest))
            return True

    def _delete_tags(self, name: str, digest: Digest) -> None:
        known = self._tagged.get(name)
        if known is None:  # a tag could not be written since
            known = self._read_tags(name)
        for tag in [tag for tag, named in known.items() if named == digest]:
            if self.find_tag(name, tag) == digest:
                _unlink(os.path.join(self._repository(name), "_tags", tag))
            del known[tag]

    def _read_tags(self, name: str) -> dict[str, Digest | None]:
        return {tag: self.find_tag(name, tag) for tag in self.list_tags(name)}

    def _learn_tags(self, name: str) -> None:
        """Let it be known what the tags of a repository name; reading them holds up nobody.

        All are read for the repository's first deletion only; from then on what is known follows each change, and a process that ends takes
        it along. 250 bytes for each tag are less than its inode on the disk.
        """
        moved: set[tuple[str, str]] = set()
        with self._changes:
            if name in self._tagged:
                return
            self._moving.append(moved)
        try:
            found = self._read_tags(name)
            with self._changes:
                self._tagged[name] = found | {tag: self.find_tag(name, tag) for repository, tag in moved if repository == name}
        finally:
            with self._changes:
                self._moving = [other for other in self._moving if other is not moved]

    def delete_blob(self, name: str, digest: Digest) -> bool:
        """Remove a blob from the repository; tell whether it had it."""
        path = self._link(name, "_blobs", digest)
        with self._changes:
            return os.path.exists(path) and self._drop_link(path, digest, self._count_holders())

    # --- names

    def _repository(self, name: str) -> str:
        return os.path.join(self.root, "repositories", name)

    def _content(self, digest: Digest) -> str:
        return os.path.join(self.root, "blobs", digest.algorithm, digest.hex)

    def _link(self, name: str, part: str, digest: Digest) -> str:
        return os.path.join(self._repository(name), part, digest.algorithm, digest.hex)

    def _referrers(self, name: str, subject: Digest) -> str:
        return os.path.join(self._repository(name), "_referrers", str(subject))

    def _open(self, digest: Digest, media_type: str) -> Content | None:
        path = self._content(digest)
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - the receiver of the answer closes it
        except FileNotFoundError:
            return None
        except OSError as err:
            raise FileUnreadable(f"cannot read content: {err.strerror}", place=Place(path)) from err
        return Content(file, os.fstat(file.fileno()).st_size, media_type, digest)

    def _put_content_link(self, name: str, part: str, digest: Digest, data: bytes) -> None:
        path = self._link(name, part, digest)
        if self._holders is not None and not os.path.exists(path):
            # Before it is there: when writing fails the number is too high, and some content stays that nobody has.
            self._holders[digest.hex] = self._holders.get(digest.hex, 0) + 1
        self._put_link(path, data)

    def _put_link(self, path: str, data: bytes) -> None:
        durable.make_directory(os.path.dirname(path), 0o700)
        durable.write(path, data, point="registry.link")

    def _drop_link(self, path: str, digest: Digest, holders: dict[str, int]) -> bool:
        """Remove a link, and the content when no other link to it is left; tell whether the link was there."""
        if not _unlink(path):
            return False
        left = holders.pop(digest.hex, 1) - 1
        if left:
            holders[digest.hex] = left
        else:
            _unlink(self._content(digest))
        return True

    def _count_holders(self) -> dict[str, int]:
        """Return how many links each content has, by its hexadecimal digest, whose length tells the algorithm.

        All repositories are walked for the first deletion only; from then on the numbers follow each change, and a process that ends takes
        them along. 200 bytes for each content are less than its inode on the disk. `_changes` is held. Content that has no link, as a push
        leaves it that was ended, is removed on that occasion.

        Raises:
            FileUnreadable: something could not be looked into: what lies there may have links.
        """
        if self._holders is None:
            found: dict[str, int] = {}
            waiting = [os.path.join(self.root, "repositories")]
            while waiting:
                directory = waiting.pop()
                for name in _list_strictly(directory):
                    path = os.path.join(directory, name)
                    if name in {"_blobs", "_manifests"}:
                        for link in (link for algorithm in SIZES for link in _list_strictly(os.path.join(path, algorithm))):
                            found[link] = found.get(link, 0) + 1
                    elif not name.startswith("_"):
                        waiting.append(path)
            self._remove_content(found)
            self._holders = found
        return self._holders

    def _remove_content(self, held: Collection[str]) -> None:
        for algorithm in SIZES:
            directory = os.path.join(self.root, "blobs", algorithm)
            for name in _list_strictly(directory):
                if name not in held:
                    _unlink(os.path.join(directory, name))


def encode_referrer(document: Manifest | Index) -> bytes:
    """Return what a list of referrers says of a document that has a subject, as it is kept and sent."""
    return encode_json(describe_referrer(document).encode())


@contextlib.contextmanager
def _written(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise FileUnwritable(f"cannot write to the registry's directory: {err.strerror}", place=Place(path)) from err


@contextlib.contextmanager
def _own(path: str) -> Iterator[None]:
    """Let what is wrong with a file of the registry's own be no fault of whoever asks, who would be told where it lies."""
    try:
        yield
    except UnavailError:
        raise
    except SigkitError as err:
        raise FileUnreadable(f"a file of the registry is damaged: {err.problem}", place=Place(path)) from err


def _unlink(path: str) -> bool:
    with _written(path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        durable.sync_directory(os.path.dirname(path))
        return True


def _read_link(path: str) -> str:
    """Return the text of a link, or nothing when it is absent."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if not stat.S_ISREG(found.st_mode):
        return ""
    try:
        with _own(path):
            return decode_utf8(durable.read(path, most_bytes=_LINK_BYTES, place=Place(path)), Place(path))
    except FileUnreadable:
        if os.path.exists(path):
            raise
        return ""


def _list(directory: str) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if not name.startswith(".")]  # a dot: being written
    except (FileNotFoundError, NotADirectoryError):
        return []


def _list_strictly(directory: str) -> list[str]:
    try:
        return _list(directory)
    except OSError as err:
        raise FileUnreadable(f"cannot list what the registry has: {err.strerror}", place=Place(directory)) from err
