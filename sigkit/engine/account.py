"""Who a container's process is: `user[:group]` looked up in the image's own passwd and group files. Pure.

A name is looked for first, then a number. A number may be absent from passwd, a name may not. Ids are 0 to 2**31 - 1: what a C program
would wrap or cut is refused instead of becoming root (CVE-2024-40635, CVE-2016-3697).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.data import Data
from sigkit.errors import Place, UnknownUser

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_ID = 2**31 - 1


class Account(Data):
    """Ids of a process, all its groups beside `gid`, and its home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _User(Data):
    name: str
    uid: str
    gid: str
    home: str


def find_account(user: str, passwd: bytes, group: bytes, place: Place) -> Account:
    """Return the account that `user` names; empty is root.

    Args:
        user: `name`, `number`, `name:group` …, as the image or the operator wrote it.
        passwd: the image's /etc/passwd, empty if there is none.
        group: its /etc/group, likewise.
        place: who wrote `user`.

    Raises:
        UnknownUser: (RUNTIME) there is no such user or group, or its id is out of range.
    """
    name, colon, group_name = user.partition(":")
    if (colon and not (name and group_name)) or ":" in group_name:
        raise UnknownUser("a malformed user", place=place, expected="user or user:group", got=user[:200])
    found = _find_user(name or "0", passwd)
    if found is None:
        uid, gid, home = _number(name or "0", "user", place), 0, "/"
    else:
        uid, home = _number(found.uid, "user", place), found.home if found.home.startswith("/") else "/"
        gid = _number(found.gid, "group", place)
    if group_name:
        return Account(uid, _find_group(group_name, group, place), (), home)
    groups = _groups_of(found.name, group, place) if found is not None else ()
    return Account(uid, gid, tuple(g for g in groups if g != gid), home)


def _find_user(wanted: str, passwd: bytes) -> _User | None:
    by_number: _User | None = None
    for fields in _lines(passwd, 6):
        user = _User(fields[0], fields[2], fields[3], fields[5])
        if user.name == wanted:
            return user
        if by_number is None and user.uid == wanted:
            by_number = user
    return by_number


def _find_group(wanted: str, group: bytes, place: Place) -> int:
    for fields in _lines(group, 3):
        if fields[0] == wanted:
            return _number(fields[2], "group", place)
    return _number(wanted, "group", place)


def _groups_of(name: str, group: bytes, place: Place) -> tuple[int, ...]:
    found = dict.fromkeys(_number(fields[2], "group", place) for fields in _lines(group, 4) if name in fields[3].split(","))
    if len(found) > limits.RUNTIME_GROUPS:
        raise UnknownUser("a user in too many groups", place=place, expected=f"at most {limits.RUNTIME_GROUPS}", got=str(len(found)))
    return tuple(found)


def _lines(data: bytes, least_fields: int) -> Iterator[list[str]]:
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) >= least_fields and fields[0]:
            yield fields


def _number(text: str, what: str, place: Place) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise UnknownUser(f"no such {what} in the image", place=place, got=text[:200])
    number = int(text) if len(text) <= 10 else _LARGEST_ID + 1
    if number > _LARGEST_ID:
        raise UnknownUser(f"a {what} id out of range", place=place, expected=f"0 to {_LARGEST_ID}", got=text[:40])
    return number
