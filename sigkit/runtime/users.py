"""User namespaces: which ids there will be, and how the kernel is told.

Without root every container gets one. With newuidmap and a range in /etc/subuid and /etc/subgid it has 65,536 ids or
as many as that gives; without, it has one: root inside is this user outside, and nobody else exists.
"""

from __future__ import annotations

import os

from sigkit.errors import HostUnfit, Place
from sigkit.runtime import syscalls
from sigkit.runtime.spec import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.spec import Config

_HELPERS = ("/usr/bin/newuidmap", "/usr/bin/newgidmap")
_PR_GET_NO_NEW_PRIVS = 39


class Maps:
    """The ids of a new user namespace; `groups` says whether setgroups is possible inside."""

    __slots__ = ("gids", "groups", "uids")

    def __init__(self, uids: tuple[IdMap, ...], gids: tuple[IdMap, ...], groups: bool) -> None:  # noqa: FBT001 (a fact, not a switch)
        self.uids, self.gids, self.groups = uids, gids, groups


def choose_maps(config: Config | None) -> Maps | None:
    """Return the maps of the user namespace that there will be, or None if there will be none; without a config, this user's own."""
    if config is not None and config.namespace("user") is not None:
        alone = _is_single(config.uid_mappings, os.geteuid()) and _is_single(config.gid_mappings, os.getegid())
        return Maps(config.uid_mappings, config.gid_mappings, os.geteuid() == 0 or not alone)
    if os.geteuid() == 0:
        return None
    one = Maps((IdMap(0, os.geteuid(), 1),), (IdMap(0, os.getegid(), 1),), groups=False)
    if not all(os.access(path, os.X_OK) for path in _HELPERS) or syscalls.prctl(_PR_GET_NO_NEW_PRIVS):
        return one  # the helpers are set-user-id programs, which no_new_privs disarms
    uids, gids = _range("/etc/subuid"), _range("/etc/subgid")
    if uids is None or gids is None:
        return one
    return Maps((*one.uids, uids), (*one.gids, gids), groups=True)


def _is_single(maps: tuple[IdMap, ...], own: int) -> bool:
    return len(maps) == 1 and maps[0].size == 1 and maps[0].outside == own


def _range(path: str) -> IdMap | None:
    """Return the first range that this user has, as ids from 1 on."""
    try:
        with open(path, "rb") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return None
    import pwd

    names = {str(os.geteuid()).encode()}
    try:
        names.add(pwd.getpwuid(os.geteuid()).pw_name.encode())
    except KeyError:
        pass  # a user without a name
    for line in lines:
        name, _, numbers = line.partition(b":")
        first, _, size = numbers.partition(b":")
        if name in names and first.isdigit() and size.isdigit() and int(size):
            return IdMap(1, int(first), int(size))
    return None


def write_maps(maps: Maps, pid: int) -> None:
    """Write the maps of the user namespace that the process `pid` has just made.

    Raises:
        HostUnfit: the kernel or newuidmap refused.
    """
    if not maps.groups:
        # The kernel demands it before a map without privilege: dropping a group could open what that group is kept from.
        _write(f"/proc/{pid}/setgroups", "deny")
    for name, helper, ranges in (("uid_map", _HELPERS[0], maps.uids), ("gid_map", _HELPERS[1], maps.gids)):
        if os.geteuid() == 0 or not maps.groups:
            _write(f"/proc/{pid}/{name}", "".join(f"{m.inside} {m.outside} {m.size}\n" for m in ranges))
        else:
            _run_helper(helper, pid, ranges)


def _write(path: str, text: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode("ascii"))
        finally:
            os.close(file)
    except OSError as err:
        raise HostUnfit("the kernel does not take the ids of the user namespace", place=Place(path), got=text) from err


def _run_helper(helper: str, pid: int, ranges: tuple[IdMap, ...]) -> None:
    numbers = [str(number) for m in ranges for number in (m.inside, m.outside, m.size)]
    try:
        child = os.posix_spawn(helper, [helper, str(pid), *numbers], {})
    except OSError as err:
        raise HostUnfit("the program that maps a user's ids cannot be started", place=Place(helper)) from err
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise HostUnfit(
            "this user's ids cannot be mapped",
            place=Place(helper),
            got=" ".join(numbers),
            remedy="compare with the ranges in /etc/subuid and /etc/subgid",
        )
