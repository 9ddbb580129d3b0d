"""This host's gate and engine, put together for one command."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from sigkit.cli.connect import connect
from sigkit.cli.decisions import decision_lines
from sigkit.cli.output import tell
from sigkit.cli.progress import LayerProgress
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from sigkit.cli.options import ConnectionFlags
    from sigkit.cli.output import Output
    from sigkit.engine.containers import LocalEngine
    from sigkit.gate.admit import Judgement, Ports
    from sigkit.gate.run import Engine
    from sigkit.oci.reference import Reference


@contextlib.contextmanager
def opened_host(
    output: Output,
    store_root: str | None,
    connection: ConnectionFlags,
    reference: Reference,
    trace_fd: int | None = None,
    meanwhile: Callable[[LocalEngine], AbstractContextManager[None]] = lambda _: contextlib.nullcontext(),
) -> Iterator[tuple[Ports, Engine]]:
    """Give the ports of the gate and the engine of the host whose store is `store_root`, or the usual one.

    Args:
        output: where progress and warnings go.
        store_root: the store's directory.
        connection: how the registry is reached.
        reference: what will be asked for.
        trace_fd: where the runtime writes its steps.
        meanwhile: makes, of the engine, what is open as long as this is.
    """
    from sigkit.clock import SystemClock
    from sigkit.engine.store import default_root
    from sigkit.gate.admit import Ports
    from sigkit.gate.audit import AuditLog
    from sigkit.gate.run import local_engine
    from sigkit.gate.state import SqliteState
    from sigkit.limits import DEFAULT

    root = store_root or default_root()
    clock = SystemClock()
    progress = LayerProgress(output, "pulling")
    engine = local_engine(root, clock, progress, lambda warning: output.note(f"note: {escape(warning)}"), trace_fd=trace_fd)
    try:
        with meanwhile(engine), SqliteState(os.path.join(root, "gate.db")) as state, connect(connection, reference) as registry:
            yield Ports(registry, clock, DEFAULT, state, AuditLog(os.path.join(root, "audit.log"), clock)), engine
    finally:
        progress.close()


def teller(output: Output) -> Callable[[Judgement], None]:
    """Return what tells a person of a judgement that lets pass: on stderr, since stdout is the container's."""

    def tell_judgement(judgement: Judgement) -> None:
        from sigkit.policy.decision import Allow, Warn

        for note in judgement.notes:
            output.detail(escape(note))
        match judgement.decision:
            case Allow():
                for line in decision_lines(output, judgement.decision, sys.stderr, "allowed"):
                    output.detail(line)
            case Warn():
                # Also with --quiet: it mutes notes, and this is why something unproved starts.
                tell("\n".join(decision_lines(output, judgement.decision, sys.stderr, "allowed")))
            case _:
                pass

    return tell_judgement
