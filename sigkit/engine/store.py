"""The content of images on this host: blobs by digest, and an index of what images were pulled.

A blob takes its name only after all its bytes were hashed and synced; it is hashed again whenever it is used, and one that changed is
dropped and fetched again. One lock per digest: two pulls of one blob download it once. The index is convenience: it is rebuilt when it is
lost or damaged, and nothing is believed because it says so.

    blobs/<algorithm>/<hex>   locks/   index.db   and beside them what `snapshots` and `containers` keep

The directory is 0700: unpacked layers hold setuid programs that no user of the host may reach (CVE-2021-41103).
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from sigkit import durable, limits
from sigkit.digest import Digest, VerifyingReader, check_digest, parse_digest
from sigkit.errors import DatabaseUnusable, DigestError, FileUnreadable, FileUnwritable, LimitError, LockTimeout, MalformedDigest, Place

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import IO

    from sigkit.oci.descriptor import Descriptor

_APPLICATION = 0x53474B45  # "SGKE"
_SCHEMA = (
    """
    CREATE TABLE blobs (digest TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL) STRICT;
    CREATE TABLE images (
        repository TEXT NOT NULL,
        tag TEXT NOT NULL,
        reference TEXT NOT NULL,
        top TEXT NOT NULL,
        manifest TEXT NOT NULL,
        config TEXT NOT NULL,
        platform TEXT NOT NULL,
        policy_name TEXT NOT NULL,
        policy_digest TEXT NOT NULL,
        pulled_at TEXT NOT NULL,
        PRIMARY KEY (repository, tag, platform)
    ) STRICT;
    CREATE TABLE image_blobs (manifest TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (manifest, digest)) STRICT;
    """,
)
_LOCK_HEX = 96  # of a digest, in names of locks and temporary files: as much as `durable` keeps of a name


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn what the system refuses in a block that writes to `path` into a refusal of ours.

    Raises:
        FileUnwritable: (UNAVAIL) no space, no permission, a failing disk.
    """
    try:
        yield
    except OSError as err:
        raise FileUnwritable(f"cannot write: {err.strerror or err}", place=Place(path)) from err


def default_root() -> str:
    """Return where this user's images lie: the system's for root, the user's own (XDG base directories) else.

    Raises:
        FileUnwritable: (UNAVAIL) the user has no home directory.
    """
    root = durable.home_directory()
    if root is None:
        place, remedy = Place.operator("default --root"), "set HOME, or name a directory with --root"
        raise FileUnwritable("this user has no home directory", place=place, remedy=remedy)
    return root


class Store:
    """A directory of blobs. Any number of processes and threads may use it at once."""

    def __init__(self, root: str) -> None:
        """Open the store at `root`, made if missing.

        Raises:
            FileUnwritable: (UNAVAIL) it cannot be made, or is not this user's own. The place is the operator's where the path is of
                something else: then it is a usage error.
        """
        self.root = os.path.abspath(root)
        with writing(self.root):
            try:
                os.makedirs(os.path.dirname(self.root), mode=0o755, exist_ok=True)
                os.makedirs(self.root, mode=0o700, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as err:
                place, remedy = Place.operator(self.root), "name an empty or absent directory"
                raise FileUnwritable("a file stands where the store's directory should be", place=place, remedy=remedy) from err
            _close(self.root)
            for directory in (self._path("blobs"), self._path("locks")):
                os.makedirs(directory, mode=0o700, exist_ok=True)
            self._sweep()

    def _path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def lock(self, digest: Digest, purpose: str = "blob", *, timeout_s: float = limits.STORE_LOCK_S) -> AbstractContextManager[None]:
        """Hold the one lock that there is for `digest` and `purpose`, across processes and threads."""
        return durable.lock(self._path("locks", _lock_name(digest, purpose)), timeout_s=timeout_s)

    # --- blobs ---

    def blob_path(self, digest: Digest) -> str:
        """Return where the blob lies, or would lie."""
        return self._path("blobs", digest.algorithm, digest.hex)

    @contextlib.contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[VerifyingReader | None]:
        """Give a blob as a stream that ends only if size and digest fit, or None when it is not here."""
        path = self.blob_path(descriptor.digest)
        try:
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield None
            return
        except OSError as err:
            raise FileUnreadable(f"cannot read the blob: {err.strerror}", place=Place(path)) from err
        with os.fdopen(opened, "rb", buffering=0) as file:
            yield VerifyingReader(file, digest=descriptor.digest, size_bytes=descriptor.size, place=Place(path))

    def load_blob(self, digest: Digest, *, most_bytes: int) -> bytes | None:
        """Return a whole small blob, hashed again, or None when it is not here; a damaged one is dropped."""
        path = self.blob_path(digest)
        if not os.path.exists(path):
            return None
        place = Place(path)
        try:
            return check_digest(durable.read(path, most_bytes=most_bytes, place=place), digest, place)
        except (DigestError, FileUnreadable, LimitError):
            self.drop_blob(digest)
            return None

    @contextlib.contextmanager
    def create_blob(self, digest: Digest) -> Iterator[IO[bytes]]:
        """Give a file to fill with a blob, which becomes part of the store when the block ends without an exception.

        The caller proves the bytes, by a `VerifyingReader` read to its end, and holds the digest's lock.
        """
        path = self.blob_path(digest)
        with writing(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with durable.create(path, mode=0o600, point="store.blob") as file:
            yield file
            size_bytes = file.tell()
        with self.index() as index, durable.transaction(index):
            index.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?)", (str(digest), size_bytes))

    def add_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a small blob whose bytes the caller has checked."""
        if os.path.exists(self.blob_path(digest)):
            return
        with self.lock(digest):
            if not os.path.exists(self.blob_path(digest)):
                with self.create_blob(digest) as file:
                    file.write(data)

    def drop_blob(self, digest: Digest) -> None:
        """Forget a blob whose bytes are not those of its name any more."""
        path = self.blob_path(digest)
        with writing(path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with self.index() as index, durable.transaction(index):
            index.execute("DELETE FROM blobs WHERE digest = ?", (str(digest),))

    def _blobs(self) -> Iterator[tuple[Digest, int]]:
        for algorithm in _names(self._path("blobs")):
            for name in _names(self._path("blobs", algorithm)):
                with contextlib.suppress(MalformedDigest, FileNotFoundError):
                    digest = parse_digest(f"{algorithm}:{name}")
                    yield digest, os.stat(self.blob_path(digest)).st_size

    def _sweep(self) -> None:
        """Remove what killed processes left of their downloads; one that still runs holds the digest's lock."""
        for algorithm in _names(self._path("blobs")):
            for name in _names(self._path("blobs", algorithm)):
                if durable.is_unfinished(name):
                    lock = self._path("locks", f"blob-{algorithm}-{name[1:].partition('.')[0][:_LOCK_HEX]}")
                    with contextlib.suppress(LockTimeout, FileNotFoundError), durable.lock(lock, timeout_s=0):
                        os.unlink(self._path("blobs", algorithm, name))

    # --- index ---

    @contextlib.contextmanager
    def index(self) -> Iterator[sqlite3.Connection]:
        """Give a connection to the index, for one thread; a damaged index is set aside and rebuilt from the files."""
        import sqlite3

        path = self._path("index.db")
        # Opened by one at a time: two that make it at once would each see half of what the other does.
        with durable.lock(self._path("locks", "index")), writing(path):
            connection = self._open_index(path)
        try:
            with writing(path):
                yield connection
        except sqlite3.Error as err:
            raise DatabaseUnusable(f"cannot use the index: {err}", place=Place(path)) from err
        finally:
            connection.close()

    def _open_index(self, path: str) -> sqlite3.Connection:
        fresh = not os.path.exists(path)
        try:
            connection = durable.open_database(path, application=_APPLICATION, steps=_SCHEMA)
        except DatabaseUnusable as err:
            if not _is_damaged(err):
                raise
            os.replace(path, f"{path}.damaged")
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path + suffix)
            connection, fresh = durable.open_database(path, application=_APPLICATION, steps=_SCHEMA), True
        if fresh:
            _fill(connection, self._blobs())
        return connection


def _close(root: str) -> None:
    """Keep others out of the store's directory, which is there.

    Raises:
        FileUnwritable: they could write there until now: what they left would count as layers that were verified.
    """
    found = os.stat(root)
    if found.st_uid != os.geteuid():
        raise FileUnwritable("the store is another user's", place=Place(root))
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        got, remedy = f"mode {mode:04o}", "name a directory that only you can write to, or none: it is made"
        raise FileUnwritable("others can write to the store's directory", place=Place(root), expected="mode 0700", got=got, remedy=remedy)
    if mode == 0o700:
        return
    names = set(os.listdir(root)) - durable.STATE_NAMES
    if names and "blobs" not in names:
        raise FileUnwritable(
            "the directory holds something else than a store", place=Place.operator(root), remedy="name an empty or absent directory"
        )
    os.chmod(root, 0o700)


def _fill(connection: sqlite3.Connection, blobs: Iterable[tuple[Digest, int]]) -> None:
    with durable.transaction(connection):
        connection.executemany("INSERT OR REPLACE INTO blobs VALUES (?, ?)", ((str(digest), size) for digest, size in blobs))


def _is_damaged(err: DatabaseUnusable) -> bool:
    import sqlite3

    # Its subclasses mean locked, full or read-only; this very class means that the file is no database, or a broken one.
    return type(err.__cause__) is sqlite3.DatabaseError


def _lock_name(digest: Digest, purpose: str) -> str:
    return f"{purpose}-{digest.algorithm}-{digest.hex[:_LOCK_HEX]}"


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
