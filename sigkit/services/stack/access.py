"""Who beside its owner may read or change the keys of a stack, by the modes in its directory; what lies above that is not looked at.

Whoever may change one, or put another in its place, chooses by which key is signed: it is not signed with. Whoever may read one signs as
this stack, and may have done so long ago: its operator is told.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import FileUnreadable, Place, UnsafeKey
from sigkit.services.stack.layout import OFFLINE
from sigkit.text import counted, escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SIGNING: Final = ("ca", "ct", "log", "tsa", "oidc", "tuf/keys")
_KEY: Final = re.compile(r".*\.key|tuf-.*\.pem")
_GROUP: Final = 3  # where its bits stand in a mode
_OTHERS: Final = 0
_USER: Final = "user "  # begins the fault of what another user owns
_READ, _WRITE, _SEARCH = 4, 2, 1


class OpenKey(Data):
    """A key that others than the stack's owner may read."""

    path: str
    mode: int


class _Key(Data):
    path: str
    mode: int
    is_open: bool  # others may read it
    fault: str  # by what others may change it


def find_open_keys(directory: str) -> tuple[OpenKey, ...]:
    """Return the keys that others than the stack's owner may read: those it signs with, and the offline ones if they are there.

    Raises:
        FileUnreadable: (UNAVAIL) a directory cannot be looked into.
    """
    keys = [key for below in _SIGNING for key in _keys_in(directory, below)]
    if os.access(os.path.join(directory, OFFLINE), os.R_OK | os.X_OK):  # who keeps them from the owner keeps them from others too
        keys += _keys_in(directory, OFFLINE)
    return tuple(OpenKey(key.path, key.mode) for key in keys if key.is_open)


def describe_open_keys(directory: str, keys: Sequence[OpenKey]) -> str:
    """Return in words what these keys of a stack are, and the next step."""
    first = f"{escape(keys[0].path)}{' first' if len(keys) > 1 else ''}"
    problem = f"others than the stack's owner may read {counted(len(keys), 'key', 'keys')}, {first}, and sign as this stack"
    return f"{problem}; if nobody has: {escape(shlex.join(['chmod', 'go=', directory]))}, as init made it"


def find_unsafe_keys(directory: str) -> Iterator[UnsafeKey]:
    """Give for each key that a stack signs with, and that others could have changed, why that is.

    Raises:
        FileUnreadable: (UNAVAIL) a directory cannot be looked into.
    """
    for below in _SIGNING:
        for key in _keys_in(directory, below):
            if key.fault:
                yield UnsafeKey(
                    "others than the stack's owner may change this key, or put another in its place",
                    place=Place.operator(key.path),
                    expected="mode 0600, in directories of mode 0700",
                    got=key.fault,
                    remedy=f"if nobody has: {_advise(directory, key)}; else restore it from a backup",
                )


def _advise(directory: str, key: _Key) -> str:
    named = shlex.quote(directory)
    return f"chown -R --reference={named} {named}" if key.fault.startswith(_USER) else f"chmod -R go-w {named}"


def _keys_in(directory: str, below: str) -> Iterator[_Key]:
    """Give the keys in a directory of the stack; that one is absent is said by whoever reads it."""
    parts = below.split("/")
    way = [os.path.join(directory, *parts[:depth]) for depth in range(len(parts) + 1)]
    try:
        try:
            above = [(path, os.stat(path)) for path in way]
            names = sorted(os.listdir(way[-1]))
        except FileNotFoundError:
            return
        for path in (os.path.join(way[-1], name) for name in names if _KEY.fullmatch(name)):
            try:
                found = os.stat(path)
            except FileNotFoundError:  # a link to nothing is no key, and hides none
                continue
            yield _look_at([*above, (path, found)])
    except OSError as err:
        raise FileUnreadable(f"cannot look at the keys: {err.strerror}", place=Place.operator(way[-1])) from err


def _look_at(way: Sequence[tuple[str, os.stat_result]]) -> _Key:
    """Say what others may do with a key, at the end of a way that begins at the stack's directory."""
    owner, (path, key) = way[0][1].st_uid, way[-1]
    faults = [f"{_USER}{found.st_uid}, of {name}" for name, found in way if found.st_uid not in {0, owner}]
    is_open = False
    for who in (_GROUP, _OTHERS):
        for name, found in way:
            bits = found.st_mode >> who
            # With the sticky bit, as in /tmp, others may add names, and neither remove nor rename those of its owner.
            if bits & _WRITE and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
                faults.append(f"mode {stat.S_IMODE(found.st_mode):04o}, of {name}")
            if name == path:
                is_open = is_open or bool(bits & _READ)
            elif not bits & _SEARCH:
                break  # what is below they do not reach
    return _Key(path, stat.S_IMODE(key.st_mode), is_open, faults[0] if faults else "")
