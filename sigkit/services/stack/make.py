"""Making a stack: beside its name, and renamed when it is whole and durable.

The keys that must stay offline are made from the first minute in a directory of their own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import Place, StackExists
from sigkit.services import ca, tsa
from sigkit.services.stack import cores, layout
from sigkit.services.stack.beside import beside, names_at, not_empty, put
from sigkit.services.stack.layout import CLIENTS, CONFIG, OFFLINE, SERVICES, StackConfig

if TYPE_CHECKING:
    from sigkit.clock import Clock
    from sigkit.net.url import Origin


_OFFLINE_STEMS: Final = (f"{ca.FILES.root}.", f"{tsa.FILES.root}.", "tuf-")


class MadeStack(Data):
    """A stack that was made."""

    directory: str
    offline: str
    config: StackConfig


def make_stack(directory: str, offline: str | None, name: str, origin: Origin, clock: Clock) -> MadeStack:
    """Make a stack in `directory`: keys, certificates, an empty log, trust root and signing config for clients.

    Args:
        directory: absent or empty.
        offline: where the keys go that the running process never reads, absent or empty; without it `directory`/offline.
        name: who runs it; see `layout.check_name`.
        origin: where clients reach it; see `layout.parse_base_url`.
        clock: tells when certificates begin.

    Raises:
        StackExists: (UNAVAIL) something is there already, or it would be inside another stack.
        FileUnwritable: (UNAVAIL) no space, no permission; nothing is left.
    """
    directory = os.path.abspath(directory)
    apart = os.path.abspath(offline) if offline is not None else None
    if apart is not None and (apart == directory or apart.startswith(directory + os.sep)):
        raise StackExists(
            "--offline names a place inside the stack's own directory", place=Place.operator(apart), remedy="leave --offline out"
        )
    for path in (directory, apart):
        if path is not None:
            _check_free(path)
            _check_apart(path)
    config = StackConfig(name, origin, clock.now().replace(microsecond=0))
    with beside(directory) as built, contextlib.ExitStack() as stack:
        keys = stack.enter_context(beside(apart)) if apart is not None else os.path.join(built, OFFLINE)
        if apart is None:
            layout.make_directory(keys)
        for service in (*SERVICES, CLIENTS):
            layout.make_directory(os.path.join(built, service))
        cores.make_cores(built, keys, config, clock)
        durable.write(os.path.join(built, CONFIG), config.encode(), point="stack.config")
        if apart is None:
            put(built, directory)
        else:
            _put_both(keys, apart, built, directory)
    return MadeStack(directory, apart or os.path.join(directory, OFFLINE), config)


def _put_both(keys: str, apart: str, built: str, directory: str) -> None:
    """Give the offline keys and the stack their names, or neither."""
    try:
        put(keys, apart)
        put(built, directory)
    except BaseException:
        if os.path.lexists(built) and not os.path.lexists(keys):  # a stack that has its name keeps its keys
            shutil.rmtree(apart, ignore_errors=True)
        raise


def _check_apart(path: str) -> None:
    """Refuse what lies inside a stack: that one's process, and whoever copies it, would hold the keys."""
    if above := layout.stack_above(os.path.realpath(path)):
        raise StackExists(
            "the place is inside a stack's own directory", place=Place.operator(path), got=above[0], remedy="name one outside it"
        )


def _check_free(path: str) -> None:
    found = names_at(path)
    if CONFIG in found:
        remedy = f"sigkit stack status {shlex.quote(path)}, or name a new directory"
        raise StackExists("a stack is there already", place=Place.operator(path), remedy=remedy)
    if any(name in found for name in SERVICES):
        raise layout.no_stack(path)
    if any(name.startswith(_OFFLINE_STEMS) and name.endswith((".key", ".pem")) for name in found):
        raise StackExists(
            "offline keys are there already, of a stack that needs them, or left by an init that was killed",
            place=Place.operator(path),
            got=", ".join(sorted(found))[:200],
            remedy="name a new directory",
        )
    if found:
        raise not_empty(path, found)
