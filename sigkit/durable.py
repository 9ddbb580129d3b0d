"""Files and databases that survive a power cut: whole, or as they were before.

A file is written beside its final name, synced, renamed over it, and the directory synced. Each step has a name, and a test can end the
process there (`SIGKIT_FAILPOINTS`): then the same command runs again and the five invariants of docs/security.md must hold.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time

from sigkit.errors import DatabaseUnusable, FileUnreadable, FileUnwritable, LockTimeout, Place, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

_FAILPOINTS_VARIABLE = "SIGKIT_FAILPOINTS"


def failpoint(name: str) -> None:
    """End the process, or fail as a full disk does, if a test armed the step `name`.

    `SIGKIT_FAILPOINTS="store.commit.rename=2*kill;audit.write=eio"`: on its 2nd passage kill -9, on its 1st EIO; also `enospc`.
    """
    armed = os.environ.get(_FAILPOINTS_VARIABLE)
    if armed:
        _pass_failpoint(name, armed)


# What lies in a user's own place beside the images, whichever of them is there first.
STATE_NAMES = frozenset({"checkpoints", "trust"})

_passages: dict[str, int] = {}


def _pass_failpoint(name: str, armed: str) -> None:
    for item in armed.split(";"):
        point, _, action = item.partition("=")
        if point != name:
            continue
        count, star, act = action.partition("*")
        wanted = int(count) if star else 1
        _passages[name] = _passages.get(name, 0) + 1
        if _passages[name] != wanted:
            continue
        act = act if star else action
        if act == "kill":
            os.kill(os.getpid(), 9)
        raise OSError({"enospc": errno.ENOSPC, "eio": errno.EIO}[act], f"failpoint {name}")


def home_directory() -> str | None:
    """Return where this user's files are kept: the system's place for root, the user's own (XDG base directories) else.

    None without a home: below the working directory, which may be anybody's, files would wait that count as one's own.
    """
    if os.geteuid() == 0:
        return "/var/lib/sigkit"
    data = os.environ.get("XDG_DATA_HOME", "")
    found = os.path.join(data if data.startswith("/") else os.path.expanduser("~/.local/share"), "sigkit")
    return found if found.startswith("/") else None


def state_directory(name: str, variable: str) -> str | None:
    """Return where this user's files of a kind, of `STATE_NAMES`, are kept: where `variable` says, else in the user's own place."""
    named = os.environ.get(variable, "")
    if named:
        return os.path.abspath(named)
    home = home_directory()
    return os.path.join(home, name) if home is not None else None


def read(path: str | os.PathLike[str], *, most_bytes: int, place: Place) -> bytes:
    """Read a whole regular file of at most `most_bytes` bytes.

    Raises:
        FileUnreadable: absent, not a regular file, or not readable.
        TooLarge: it is larger.
    """
    try:
        with open(path, "rb", opener=_open_regular) as file:
            data = file.read(most_bytes + 1)
    except OSError as err:
        raise FileUnreadable(f"cannot read the file: {err.strerror or err}", place=place) from err
    except ValueError as err:
        raise FileUnreadable("no file can have this name: it holds a NUL", place=place) from err
    if len(data) > most_bytes:
        raise TooLarge(f"the file has more than {most_bytes} bytes", place=place)
    return data


def _open_regular(path: str, flags: int) -> int:
    # O_NONBLOCK: a FIFO in the place of a file must not hang us.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def write(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o644, point: str = "durable.write") -> None:
    """Put `data` at `path`, durably; a reader sees the old file or the new one.

    Raises:
        FileUnwritable: no space, no permission; nothing is left behind.
    """
    with create(path, mode=mode, point=point) as file:
        file.write(data)


@contextlib.contextmanager
def create(path: str | os.PathLike[str], *, mode: int = 0o644, point: str = "durable.write") -> Iterator[IO[bytes]]:
    """Give a file to fill, which takes its name `path` durably when the block ends without an exception.

    Raises:
        FileUnwritable: no space, no permission; nothing is left behind but, if only the last sync failed, the whole file.
    """
    final = os.fspath(path)
    directory, temporary = os.path.dirname(final), _unfinished(final)
    try:
        file = open(  # noqa: SIM115 - closed below, by the same block that renames or removes it
            temporary, "xb", opener=lambda p, flags: os.open(p, flags | os.O_CLOEXEC, mode)
        )
    except OSError as err:
        raise _unwritable(final, err) from err
    try:
        with file:
            yield file
            file.flush()
            failpoint(f"{point}.fsync")
            os.fsync(file.fileno())
        failpoint(f"{point}.rename")
        os.rename(temporary, final)
        failpoint(f"{point}.directory")
        sync_directory(directory or ".")
    except BaseException as err:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(err, OSError):
            raise _unwritable(final, err) from err
        raise


def _unfinished(final: str) -> str:
    """Return a new name beside `final` for what is to be that file."""
    directory, name = os.path.split(final)
    return os.path.join(directory, f".{name[:100]}.{os.getpid()}.{os.urandom(6).hex()}.tmp")


def is_unfinished(name: str) -> bool:
    """Tell whether a file of this name was being written by `create`: nobody has used it, and if its process was killed nobody will."""
    return name.startswith(".") and name.endswith(".tmp")


def create_new(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, point: str = "durable.create") -> None:
    """Put `data` at `path`, durably, only if nothing is there.

    Raises:
        FileUnwritable: something is there already, no space, no permission; nothing is half-written.
    """
    final = os.fspath(path)
    directory, temporary = os.path.dirname(final), _unfinished(final)
    write(temporary, data, mode=mode, point=point)
    try:
        os.link(temporary, final, follow_symlinks=False)  # unlike rename, link never replaces
        sync_directory(directory or ".")
    except OSError as err:
        raise _unwritable(final, err) from err
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def create_together(directory: str, files: Mapping[str, bytes], *, mode: int = 0o644) -> None:
    """Put several files into a directory, durably, only if none of them is there.

    A process that is killed in between leaves each file under a second name, by which the next one that does the same knows that they are
    not all there, and begins anew.

    Raises:
        FileUnwritable: one is there already, no space, no permission; nothing is left then.
    """
    finals = {os.path.join(directory, f".{name}.new"): os.path.join(directory, name) for name in files}
    try:
        left = [final for second, final in finals.items() if _is_one(second, final)]
        if len(left) < len(finals):
            for final in left:
                os.unlink(final)
        for second, data in zip(finals, files.values(), strict=True):
            write(second, data, mode=mode)
        _link_all(finals)
        sync_directory(directory)
    except OSError as err:
        raise _unwritable(directory, err) from err
    finally:
        with contextlib.suppress(OSError):
            for second in finals:
                if os.path.lexists(second):
                    os.unlink(second)
            sync_directory(directory)


def _is_one(path: str, other: str) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.lstat(other))
    except FileNotFoundError:
        return False


def _link_all(finals: Mapping[str, str]) -> None:
    linked = []
    try:
        for second, final in finals.items():
            failpoint("durable.together.link")
            os.link(second, final, follow_symlinks=False)  # unlike rename, link never replaces
            linked.append(final)
    except OSError:
        for final in linked:
            os.unlink(final)
        raise


def make_directory(path: str, mode: int) -> None:
    """Make a directory and those above it, each durably; one that is there stays as it is.

    Raises:
        FileUnwritable: no space, no permission.
    """
    if os.path.isdir(path):
        return
    make_directory(os.path.dirname(path), mode)
    try:
        os.mkdir(path, mode)
        sync_directory(os.path.dirname(path))
    except FileExistsError:
        return
    except OSError as err:
        with contextlib.suppress(OSError):
            os.rmdir(path)  # else it is found there the next time, and is not durable
        raise FileUnwritable(f"cannot make a directory: {err.strerror}", place=Place(path)) from err


def settle(root: str | os.PathLike[str]) -> None:
    """Make all names below a directory durable, and remove what `create` was writing: a process that was killed may have done neither.

    A name that it left is in the kernel's memory, and nobody who finds it there syncs it. A file was synced before it got its name.

    Raises:
        FileUnwritable: no permission, or the disk failed.
    """
    try:
        for directory, _, names in os.walk(root, onerror=_fail):
            for name in names:
                if is_unfinished(name):
                    os.unlink(os.path.join(directory, name))
            sync_directory(directory)
    except OSError as err:
        raise FileUnwritable(f"cannot settle a directory: {err.strerror}", place=Place(os.fspath(root))) from err


def _fail(err: OSError) -> None:
    raise err


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: str, err: OSError) -> FileUnwritable:
    return FileUnwritable(f"cannot write the file: {err.strerror or err}", place=Place(path))


@contextlib.contextmanager
def lock(path: str | os.PathLike[str], *, timeout_s: float = 60.0) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is created and stays; the kernel frees it when the process ends.

    Where nothing can be written, a file that is there is locked all the same.

    Raises:
        LockTimeout: another process holds it for `timeout_s` seconds.
        FileUnwritable: the lock file cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as err:
        try:
            if err.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            raise _unwritable(os.fspath(path), err) from err
    try:
        deadline = time.monotonic() + timeout_s
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise LockTimeout(f"locked by another process for {timeout_s:g} s", place=Place(os.fspath(path)))
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
            return False
        raise
    return True


def open_database(path: str | os.PathLike[str], *, application: int, steps: Sequence[str]) -> sqlite3.Connection:
    """Open a SQLite database in WAL mode, made or brought to the newest schema.

    Args:
        path: the file.
        application: `PRAGMA application_id`, 31 bits: a database of another kind is refused.
        steps: the schema as a list of SQL scripts; `PRAGMA user_version` counts how many were applied. Only append.

    Raises:
        DatabaseUnusable: damaged, of another kind, of a newer version, or locked.
    """
    import sqlite3

    place = Place(os.fspath(path))
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        _prepare(connection, application, steps, place)
    except sqlite3.Error as err:
        if connection is not None:
            connection.close()
        raise DatabaseUnusable(f"cannot use the database: {err}", place=place) from err
    except DatabaseUnusable:
        if connection is not None:
            connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, application: int, steps: Sequence[str], place: Place) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    # In one statement: another process may be making the schema between two.
    marks = "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
    found, version = connection.execute(marks).fetchone()
    if found not in {0, application} or (found == 0 and version):
        raise DatabaseUnusable("a database of another program", place=place, expected=hex(application), got=hex(found))
    if version > len(steps):
        raise DatabaseUnusable(
            "written by a newer version of sigkit", place=place, expected=f"schema {len(steps)} or older", got=f"schema {version}"
        )
    if version == len(steps):
        return
    with transaction(connection):
        # Another process may have done it while we waited for the lock.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in steps[version:]:
            for statement in step.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA application_id={application}")
        connection.execute(f"PRAGMA user_version={len(steps)}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block as one write transaction, committed at its end, rolled back by any exception, also one of the commit.

    Raises:
        sqlite3.Error: no space; the connection can be used again.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        _pass_commit()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself after some failures, and then refuses to do it again
            connection.execute("ROLLBACK")
        raise


def _pass_commit() -> None:
    import sqlite3

    try:
        failpoint("database.commit")
    except OSError as err:
        raise sqlite3.OperationalError(f"database or disk is full: {err}") from err  # as SQLite says it
