"""Take a container away that its runtime did not: it was killed, or is to be ended from outside."""

from __future__ import annotations

import os
import signal
import time

from sigkit.errors import LimitUnavailable, Place, WrongState
from sigkit.runtime import state
from sigkit.runtime.cgroups import files

_ATTEMPTS = 500
_PAUSE_S = 0.01


def end(found: state.State) -> None:
    """Kill the container's process, and with it all of its pid namespace.

    Raises:
        WrongState: it does not end.
    """
    if not found.alive():
        return
    try:
        target = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return
    try:
        if found.alive():  # the same process as before the descriptor was opened
            signal.pidfd_send_signal(target, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(target)
    for _ in range(_ATTEMPTS):
        if not found.alive():
            found.status = "stopped"
            return
        time.sleep(_PAUSE_S)
    raise WrongState("the container does not end", place=Place(found.container_id), remedy="look at its processes: they wait in the kernel")


def remove(root: str, found: state.State) -> None:
    """Remove what is left of a stopped container: cgroups and state. Its runtime may be doing the same.

    Raises:
        WrongState: it is running.
    """
    if found.alive():
        raise WrongState(
            "the container is running", place=Place(found.container_id), remedy=f"sigkit-runtime delete --force {found.container_id}"
        )
    for directory in found.cgroups:
        try:
            files.write(directory, "cgroup.kill", "1")
        except LimitUnavailable:
            pass  # v1, or gone already
    files.remove(found.cgroups)
    state.forget(root, found.container_id)
