"""Going on with a backup, once its owner has said that what was logged after it is lost.

Clients may have seen newer TUF metadata than the backup has, and would refuse what is older: it is signed under versions beyond. What says
that it is a backup is taken away last, when it is served: whatever stands in the way of serving, the owner is asked again.
"""

from __future__ import annotations

import os
import shlex
from enum import Enum
from typing import TYPE_CHECKING

from sigkit import durable
from sigkit.errors import FileUnwritable, NoBackup, Place, StackRestored
from sigkit.net.address import is_loopback_name
from sigkit.services.stack.layout import BACKUP, RESTORED

if TYPE_CHECKING:
    from sigkit.net.url import Origin
    from sigkit.services.tls import Tls


class Said(Enum):
    """What the owner of a stack said of its log when he started it."""

    NOTHING = "nothing"
    GO_ON = "a backup may go on"


def up_line(directory: str, origin: Origin, said: Said = Said.NOTHING, tls: Tls | None = None) -> str:
    """Return the whole command that serves a stack under its URL on this machine."""
    listen = "" if is_loopback_name(origin.host) else f" --listen 0.0.0.0:{origin.port}"
    cert, key = (shlex.quote(tls.certificate), shlex.quote(tls.key)) if tls else ("CERT", "KEY")
    files = f" --tls-cert {cert} --tls-key {key}" if origin.scheme == "https" else ""
    return f"sigkit stack up{' --restored' if said is Said.GO_ON else ''} {shlex.quote(directory)}{listen}{files}"


def resume_line(backup: str, origin: Origin) -> str:
    """Return the command that goes on with a backup, on a copy of it: what is served is no backup any more."""
    return f"cp -a {shlex.quote(backup)} NEW && {up_line('NEW', origin, Said.GO_ON)}"


def refuse_backup(directory: str, origin: Origin) -> None:
    """Let nothing be done with a stack that is a backup of which nobody has said that it may go on.

    Raises:
        StackRestored: (UNAVAIL) it is one.
    """
    is_marked(directory, origin, Said.NOTHING)


def is_marked(directory: str, origin: Origin, said: Said) -> bool:
    """Tell whether the stack is a backup that is served now for the first time, as its owner said.

    Raises:
        StackRestored: (UNAVAIL) it is a backup, and he said nothing.
        NoBackup: (UNAVAIL) he said so of a stack that is none, nor has been one: nothing was restored.
    """
    marked = os.path.lexists(os.path.join(directory, BACKUP))
    place = Place.operator(directory)
    if said is Said.NOTHING:
        if marked:
            raise StackRestored(
                "this is a backup of a stack", place=place, remedy=f"{resume_line(directory, origin)}  # what that means: docs/stack.md"
            )
    elif not marked and not os.path.lexists(os.path.join(directory, RESTORED)):
        raise NoBackup("this stack is no backup: nothing was restored", place=place, remedy=up_line(directory, origin))
    return marked


def take_mark_away(directory: str) -> None:
    """Let what is a backup be served without asking; what it said of itself stays in `restored.json`.

    Raises:
        FileUnwritable: (UNAVAIL) no permission.
    """
    mark = os.path.join(directory, BACKUP)
    try:
        os.rename(mark, os.path.join(directory, RESTORED))
        durable.sync_directory(directory)
    except OSError as err:
        raise FileUnwritable(f"cannot take the mark of a backup away: {err.strerror}", place=Place(mark)) from err
