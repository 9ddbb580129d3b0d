"""Trust roots for one command: from what flags name to what verification is handed, and what a person should know about it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.cli.options import Reach
    from sigkit.cli.output import Output
    from sigkit.trust.store import RootStore


@contextlib.contextmanager
def opened_roots(output: Output, reach: Reach) -> Iterator[RootStore]:
    """Give this user's trust roots; what there is to say about those that were loaded is said at the end, whatever that is."""
    from sigkit.clock import SystemClock
    from sigkit.trust.store import find_store, open_session

    store = find_store(SystemClock(), open_session if reach == "network" else None)
    try:
        yield store
    finally:
        for note in store.notes:
            output.note(escape(note))
        for note in store.details:
            output.detail(escape(note))


def config_beside(root: str, unknown: str = "CONFIG") -> str:
    """Return the signing config that lies beside a trusted root, as `trust create` and a stack lay them; else the word to fill in."""
    from sigkit.trust.pins import is_name

    path = os.path.join(os.path.dirname(root), "signing_config.json")
    return path if not is_name(root) and os.path.isfile(path) else unknown
