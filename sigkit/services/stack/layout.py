"""The directory of a stack.

    stack.json      what it is called, where clients reach it, which version of sigkit's layout this is
    issuers.json    other issuers whose tokens are taken; the operator's to write
    lock            held by the process that serves it
    run.json        that process, while there is one
    clients/        what is handed to clients: trusted_root.json, signing_config.json, trust_config.json, root.json
    ca/ ct/ log/ tsa/ oidc/ tuf/ registry/    the state and the keys of one service each
    offline/        the keys that no running process needs; better taken elsewhere

`stack.json` is written last, so a directory without it is no stack, whatever else it holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import (
    DatabaseUnusable,
    FileUnreadable,
    FileUnwritable,
    LockTimeout,
    LogDamaged,
    NoStack,
    OtherStackVersion,
    ParseError,
    Place,
    PlainHttpRefused,
    SigkitError,
    UrlRefused,
    WrongShape,
)
from sigkit.net.address import is_loopback_name
from sigkit.net.url import Origin, parse_url
from sigkit.services.stack.owner import advise_denied, is_denied, refuse_other_user
from sigkit.services.stack.space import causes, full_disk_told, is_full
from sigkit.strict import encode_json, parse_json
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sigkit.strict import Cursor

SCHEMA: Final = "sigkit.stack/1"
SERVICES: Final = ("ca", "ct", "log", "tsa", "oidc", "tuf", "registry")
CONFIG: Final = "stack.json"
LOCK: Final = "lock"
RUN: Final = "run.json"
CLIENTS: Final = "clients"
OFFLINE: Final = "offline"
BACKUP: Final = "backup.json"  # of a backup that nobody has said may go on
RESTORED: Final = "restored.json"  # the same file, once somebody has
LOG_STATE: Final = "state"  # below log/, whose key lies beside it
NAME_CHARACTERS: Final = 60  # of an organisation in a certificate: X.520 gives it 64, and a word comes behind it
_NAME: Final = re.compile(rf"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{{0,{NAME_CHARACTERS - 1}}})")
_MOST_NEAR: Final = 3  # that are named
_FILE_BYTES: Final = 64 * 2**10
_LASTING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM})
_SQLITE_LASTING: Final = frozenset({3, 8, 11, 14, 26})  # sqlite.org/rescode.html: PERM, READONLY, CORRUPT, CANTOPEN, NOTADB
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class StackConfig(Data):
    """What `stack.json` says."""

    name: str  # who runs it: the organisation in its certificates
    origin: Origin  # where clients reach it
    created: datetime

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return str(self.origin)

    def encode(self) -> bytes:
        """Return it as its file."""
        return encode_json({"schema": SCHEMA, "name": self.name, "url": self.url, "created": format_time(self.created)}) + b"\n"


def parse_config(raw: bytes, place: Place) -> StackConfig:
    """Parse `stack.json`.

    Raises:
        OtherStackVersion: (UNAVAIL) another version's.
        SigkitError: (PARSE, LIMIT, NET) malformed.
    """
    cursor = parse_json(raw, most_bytes=_FILE_BYTES, place=place)
    schema = cursor.member("schema").text()
    if schema != SCHEMA:
        raise OtherStackVersion("made by another version of sigkit", place=place, expected=SCHEMA, got=schema[:100])
    cursor.only(("schema", "name", "url", "created"))
    name, url = cursor.member("name").text(), cursor.member("url").text()
    return StackConfig(check_name(name, place), parse_base_url(url, place), _parse_time(cursor.member("created")))


def parse_base_url(text: str, place: Place) -> Origin:
    """Parse the URL under which clients reach a stack: scheme, host and port only.

    Raises:
        UrlRefused: (NET) malformed, or with a path: clients join it with theirs, each in its own way.
        PlainHttpRefused: (NET) without TLS, and not this machine.
    """
    url = parse_url(text, place)
    if url.target != "/":
        raise UrlRefused("a stack's URL has no path", place=place, expected=str(url.origin), got=text[:200])
    if url.origin.scheme == "http" and not is_loopback_name(url.origin.host):
        raise PlainHttpRefused(
            "without TLS a stack is for this machine only: tokens would pass in the clear",
            place=place,
            expected="https://…, or http://127.0.0.1:PORT",
            got=text[:200],
            remedy=f"--url https://{url.origin.host}",
        )
    return url.origin


def check_name(name: str, place: Place) -> str:
    """Return the name of who runs a stack, if certificates can carry it.

    Raises:
        WrongShape: (PARSE) they cannot.
    """
    if not _NAME.fullmatch(name):
        problem = f"a stack's name has up to {NAME_CHARACTERS} letters, digits, spaces, dots and dashes, a letter or digit first"
        raise WrongShape(problem, place=place, got=name[:200])
    return name


def load_config(directory: str) -> StackConfig:
    """Read a stack's `stack.json`.

    Raises:
        NoStack: (UNAVAIL) there is none: no stack, or one whose making was not finished.
        OtherStackVersion: (UNAVAIL) it is of another version.
        FileUnreadable: (UNAVAIL) it is another user's, or cannot be read for another reason: whether a stack is there is not known.
        ParseError: it is damaged.
    """
    path = os.path.join(directory, CONFIG)
    place = Place.operator(path)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise no_stack(directory) from None
    except OSError as err:
        remedy = advise_denied(path) if isinstance(err, PermissionError) else ""
        raise FileUnreadable(f"cannot read the stack: {err.strerror}", place=place, remedy=remedy) from err
    try:
        return parse_config(durable.read(path, most_bytes=_FILE_BYTES, place=place), place)
    except FileUnreadable as err:
        err.remedy = err.remedy or advise(err)
        raise
    except ParseError as err:
        raise NoStack(f"{CONFIG} is damaged: {err.problem}", place=err.place, remedy="restore it from a backup") from err


def advise(err: SigkitError) -> str:
    """Return what is to be done about what failed for want of permission; nothing where it did not."""
    path = err.place.source
    return advise_denied(path, *stack_above(path)) if is_denied(err) else ""


@contextlib.contextmanager
def denied_told() -> Iterator[None]:
    """Let the refusal of a file of a stack, for want of permission, advise about that, and count as what no retry mends.

    Raises:
        SigkitError: as the block.
    """
    try:
        yield
    except SigkitError as err:
        if is_denied(err) and stack_above(err.place.source):
            err.remedy = err.remedy or advise(err)
            err.place = Place.operator(err.place.source, err.place.inside)
        raise


def no_stack(directory: str) -> NoStack:
    """Return why a directory without `stack.json` is no stack, what it is instead, and the next step."""
    place, named = Place.operator(directory), shlex.quote(directory)
    try:
        found = sorted(os.listdir(directory))
    except FileNotFoundError:
        if near := _stacks_in(os.path.dirname(os.path.abspath(directory))):
            return NoStack("no such directory, but a stack is beside it", place=place, remedy=_name_one(near))
        return NoStack("no such directory", place=place, remedy=f"sigkit stack init {named} makes a stack there")
    except OSError as err:
        return NoStack(f"no stack can be seen there: {err.strerror}", place=place, remedy="name the directory of a stack")
    problem, remedy = _what_it_is(directory, found)
    return NoStack(problem, place=place, got=", ".join(found)[:200], remedy=remedy)


def _what_it_is(directory: str, found: Sequence[str]) -> tuple[str, str]:
    """Return in words what a directory is that is no stack, and the next step."""
    if any(name in found for name in SERVICES):
        # A stack gets its name when it is whole: one that has its name has been so, and its log may have entries.
        return f"a stack that is not whole: {CONFIG} is not there", "restore it from a backup; a new stack needs a new directory"
    if not found:
        return "the directory is empty: no stack is there", f"sigkit stack init {shlex.quote(directory)} makes one there"
    if near := _stacks_in(directory):
        return "no stack is there, but below it", _name_one(near)
    if near := stack_above(directory):
        return "no stack is there, but above it", _name_one(near)
    return "the directory holds something else: no stack is there", "name the directory of a stack"


def _name_one(stacks: Sequence[str]) -> str:
    """Return which of these stacks may be meant; a backup is rarely, so backups come last and say that they are one."""
    marked = [(os.path.lexists(os.path.join(path, BACKUP)), path) for path in stacks]
    named = [f"{shlex.quote(path)}{' (a backup)' if backup else ''}" for backup, path in sorted(marked)]
    return f"name {' or '.join(named[:_MOST_NEAR])}{' …' if len(named) > _MOST_NEAR else ''}"


def _stacks_in(directory: str) -> tuple[str, ...]:
    try:
        paths = [os.path.join(directory, name) for name in os.listdir(directory)]
    except OSError:
        return ()
    return tuple(path for path in paths if os.path.lexists(os.path.join(path, CONFIG)))


def stack_above(directory: str) -> tuple[str, ...]:
    """Return the stack that a directory is a part of."""
    above = os.path.abspath(directory)
    while (parent := os.path.dirname(above)) != above:
        above = parent
        if os.path.lexists(os.path.join(above, CONFIG)):
            return (above,)
    return ()


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Read a stack's own files inside: one that is absent or damaged is to be restored, never to be made again.

    What no retry mends is the operator's affair, and ends with 2: a service manager tries everything else again.

    Raises:
        FileUnreadable, DatabaseUnusable, LogDamaged: as the block, with that advice, unless the disk is full or the file another user's.
    """
    try:
        with full_disk_told():
            yield
    except (FileUnreadable, DatabaseUnusable, LogDamaged) as err:
        if _is_lasting(err):
            err.place = Place.operator(err.place.source, err.place.inside)
        err.remedy = err.remedy or advise(err) or "restore it from a backup of this stack: docs/stack.md"
        raise


def _is_lasting(err: SigkitError) -> bool:
    """Tell whether a file will not be better a moment later: it is absent, denied, or was read and is damaged."""
    if isinstance(err, LogDamaged) or is_full(err):
        return False  # of a log it is said, as of evidence, that it was checked and is refused
    for cause in causes(err):
        if isinstance(cause, OSError):
            return cause.errno in _LASTING
        if code := getattr(cause, "sqlite_errorcode", 0):
            return code & 0xFF in _SQLITE_LASTING
    return True


@contextlib.contextmanager
def owned(directory: str, doing: str, *, timeout_s: float) -> Iterator[StackConfig]:
    """Own a stack's directory until the block ends, and give what `stack.json` says.

    What one that was killed said of itself is removed first: its process number may be a stranger's by now.

    Args:
        directory: of the stack.
        doing: what is not possible while another process owns it, for the refusal.
        timeout_s: how long to wait for one that is just stopping.

    Raises:
        OtherUsersStack: (UNAVAIL) it is another user's.
        LockTimeout: (UNAVAIL) another process serves it.
        FileUnwritable: (UNAVAIL) no permission.
        SigkitError: as `load_config`.
    """
    config = load_config(directory)
    refuse_other_user(directory)
    try:
        with durable.lock(os.path.join(directory, LOCK), timeout_s=timeout_s):
            _forget_process(os.path.join(directory, RUN))
            yield config
    except LockTimeout as err:
        raise LockTimeout(
            f"another process serves this stack: {doing}",
            place=Place(directory),  # it may stop
            remedy=f"sigkit stack status {shlex.quote(directory)}; sigkit stack down {shlex.quote(directory)} stops it",
        ) from err


def _forget_process(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as err:
        raise FileUnwritable(f"cannot remove the file: {err.strerror}", place=Place(path)) from err


def make_directory(path: str) -> None:
    """Make a directory that only its owner may enter.

    Raises:
        FileUnwritable: (UNAVAIL) no space, no permission.
    """
    try:
        os.mkdir(path, 0o700)
    except OSError as err:
        raise FileUnwritable(f"cannot make the directory: {err.strerror}", place=Place(path)) from err


def _parse_time(cursor: Cursor) -> datetime:
    text = cursor.text()
    if not _TIME.fullmatch(text):
        cursor.fail("a time such as 2026-01-31T12:00:00Z", got=text[:100])
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        cursor.fail("no such time", got=text)
