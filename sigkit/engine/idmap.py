"""The ids of a user namespace for a user who is not root: a range of subordinate ids where the system gives one, else the user's own alone.

Source: user_namespaces(7), subuid(5), newuidmap(1).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

_SUBORDINATE_BYTES = 1 << 20
_LEAST_IDS = 65_536  # images use ids up to nobody's 65534
_HELPERS = ("/usr/bin", "/bin", "/usr/local/bin")  # setuid programs: never looked up in the user's PATH


@dataclass(frozen=True, slots=True)
class IdRange:
    """Ids inside a user namespace, beginning at `inside`, and the ids of the host that they are."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class HostIds:
    """No user namespace: ids are the host's."""


@dataclass(frozen=True, slots=True)
class OwnId:
    """Root inside is the caller outside; there is no other id. `why` says what is missing for more."""

    uid: int
    gid: int
    why: str


@dataclass(frozen=True, slots=True)
class SubordinateIds:
    """Root inside is the caller outside; the other ids are the caller's subordinate ones."""

    users: tuple[IdRange, ...]
    groups: tuple[IdRange, ...]
    newuidmap: str
    newgidmap: str


IdMap: TypeAlias = HostIds | OwnId | SubordinateIds


def own_id_map() -> IdMap:
    """Return the id map that this process's user gets."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _is_initial_namespace():
        return HostIds()
    helpers = [_find_helper(name) for name in ("newuidmap", "newgidmap")]
    if not all(helpers):
        return OwnId(uid, gid, "newuidmap is not installed (Debian: package uidmap)")
    users, groups = _subordinate("/etc/subuid", uid), _subordinate("/etc/subgid", uid)
    if users is None or groups is None:
        return OwnId(uid, gid, f"no range of {_LEAST_IDS} ids for this user in /etc/subuid and /etc/subgid")
    return SubordinateIds((IdRange(0, uid, 1), users), (IdRange(0, gid, 1), groups), helpers[0], helpers[1])


def _is_initial_namespace() -> bool:
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return file.read(4096).split() == [b"0", b"0", b"4294967295"]
    except OSError:
        return False


def _find_helper(name: str) -> str:
    for directory in _HELPERS:
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


def _subordinate(path: str, uid: int) -> IdRange | None:
    try:
        with open(path, "rb") as file:
            lines = file.read(_SUBORDINATE_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    names = {str(uid), *_login_name(uid)}
    for line in lines:
        name, _, numbers = line.partition(":")
        start, _, count = numbers.partition(":")
        if name in names and start.isdecimal() and count.isdecimal() and int(count) >= _LEAST_IDS:
            return IdRange(1, int(start), int(count))
    return None


def _login_name(uid: int) -> tuple[str, ...]:
    import pwd

    try:
        return (pwd.getpwuid(uid).pw_name,)
    except KeyError:
        return ()
