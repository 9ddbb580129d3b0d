"""Going on with a backup, once its owner has said that what was logged after it is lost.

Clients may have seen newer TUF metadata than the backup has, and would refuse what is older: it is signed under versions beyond.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.errors import FileUnwritable, NoBackup, Place
from sigkit.services.stack import layout
from sigkit.services.stack.cores import open_repository
from sigkit.services.stack.layout import BACKUP, RESTORED

if TYPE_CHECKING:
    from sigkit.clock import Clock

_LOCK_TIMEOUT_S: Final = 1.0


def go_on(directory: str, clock: Clock) -> None:
    """Let a backup be served; what it said of itself stays in `restored.json`. One that was let already is left as it is.

    Raises:
        NoBackup: (UNAVAIL) the stack is none: nothing was restored.
        LockTimeout: (UNAVAIL) another process serves it.
        NoStack, OtherStackVersion: (UNAVAIL) see `layout.load_config`.
        FileUnwritable: (UNAVAIL) no permission.
    """
    with layout.owned(directory, "it is no backup", timeout_s=_LOCK_TIMEOUT_S):
        if not os.path.lexists(os.path.join(directory, BACKUP)):
            if os.path.lexists(os.path.join(directory, RESTORED)):
                return
            raise NoBackup(
                "this stack is no backup: nothing was restored",
                place=Place.operator(directory),
                remedy=f"sigkit stack up {shlex.quote(directory)}",
            )
        open_repository(directory).resign_beyond(clock.now())  # first: killed after it, it is only done once more
        try:
            os.rename(os.path.join(directory, BACKUP), os.path.join(directory, RESTORED))
            durable.sync_directory(directory)
        except OSError as err:
            raise FileUnwritable(f"cannot take the mark away: {err.strerror}", place=Place(os.path.join(directory, BACKUP))) from err
