"""Going on with a backup, once its owner has said that what was logged after it is lost."""

from __future__ import annotations

import os
from typing import Final

from sigkit import durable
from sigkit.errors import FileUnwritable, Place
from sigkit.services.stack import layout
from sigkit.services.stack.layout import BACKUP

_DONE: Final = "restored.json"
_LOCK_TIMEOUT_S: Final = 1.0


def go_on(directory: str) -> None:
    """Let a backup be served; what it said of itself stays in `restored.json`. A stack that is none is left as it is.

    Raises:
        LockTimeout: (UNAVAIL) another process serves it.
        NoStack, OtherStackVersion: (UNAVAIL) see `layout.load_config`.
        FileUnwritable: (UNAVAIL) no permission.
    """
    with layout.owned(directory, "it is no backup", timeout_s=_LOCK_TIMEOUT_S):
        try:
            os.rename(os.path.join(directory, BACKUP), os.path.join(directory, _DONE))
            durable.sync_directory(directory)
        except FileNotFoundError:
            return
        except OSError as err:
            raise FileUnwritable(f"cannot take the mark away: {err.strerror}", place=Place(os.path.join(directory, BACKUP))) from err
