"""Whose a stack is: its files are for their owner alone, so nobody else writes into it, root neither.

A file that another user makes there, a lock or a log's journal that is begun anew, is one that the owner cannot open.
"""

from __future__ import annotations

import os
import pwd
import shlex

from sigkit.errors import DatabaseUnusable, FileUnreadable, OtherUsersStack, Place, SigkitError
from sigkit.services.stack.space import causes

OFFLINE_TOO = "; offline keys that it may not read: let it have a copy for --offline, and remove that afterwards"


def refuse_other_user(directory: str, also: str = "") -> None:
    """Let nobody write into a stack but the user whom its directory belongs to.

    Args:
        directory: of the stack.
        also: what that user needs for it, behind the next step.

    Raises:
        OtherUsersStack: (UNAVAIL) it is another user's.
        FileUnreadable: (UNAVAIL) it cannot be looked at.
    """
    place = Place.operator(directory)
    try:
        owner = os.stat(directory).st_uid
    except OSError as err:
        raise FileUnreadable(f"cannot look at the directory: {err.strerror}", place=place) from err
    user = os.geteuid()
    if user != owner:
        raise OtherUsersStack(
            "another user's stack: what this one writes there its owner could not open",
            place=place,
            expected=_show(owner),
            got=_show(user),
            remedy=f"run the same command as its owner, by sudo -u {_named(owner)}{also}",
        )


def advise_denied(path: str, stack: str = "") -> str:
    """Return what is to be done about a path that this process was denied, in a stack if it is in one."""
    user = os.geteuid()
    try:
        found, above = os.lstat(path), os.stat(stack or os.path.dirname(os.path.abspath(path)))
    except OSError:
        return "run it as its owner"
    if found.st_uid == user:
        return f"its owner may not use it by its mode: chmod u+rwX {shlex.quote(path)}"
    if above.st_uid == user:  # root wrote into the stack
        return f"another user has made it in this one's directory: sudo chown -R {user} {shlex.quote(stack or path)}"
    return "run it as its owner"


def is_denied(err: SigkitError) -> bool:
    """Tell whether what failed did so for want of permission."""
    if any(isinstance(cause, PermissionError) for cause in causes(err)):
        return True
    # SQLite says only that it cannot open or write the file.
    path = err.place.source
    return isinstance(err, DatabaseUnusable) and os.path.isfile(path) and not os.access(path, os.R_OK | os.W_OK, effective_ids=True)


def _named(user: int) -> str:
    """Return a user as sudo takes one: by name, or by number where it has none, as in a container."""
    try:
        return shlex.quote(pwd.getpwuid(user).pw_name)
    except KeyError:
        return f"'#{user}'"


def _show(user: int) -> str:
    try:
        return f"user {user} ({pwd.getpwuid(user).pw_name})"
    except KeyError:
        return f"user {user}"
