"""`sigkit log forget`: a log whose operator has explained a fault is followed anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.output import EXITS, Command
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.output import Output


@click.command(
    cls=Command,
    name="forget",
    epilog=EXITS,
    examples="""
    sigkit log forget log.acme.example
    """,
)
@click.argument("origin", metavar="ORIGIN")
@click.pass_obj
def forget(output: Output, origin: str) -> None:
    """Forget the last checkpoint that this machine saw of a log; ORIGIN is the first line of its checkpoints.

    For a log whose operator has said which entries were lost, as after a restored backup. The next checkpoint counts as the first; what was
    seen is kept beside it under another name, because it may still prove a fault.
    """
    from sigkit.tlog.monitor import Monitor, default_directory

    directory = default_directory()
    monitor = Monitor(directory or "")
    seen = monitor.remembered() if directory else {}
    paths = [path for path, name in seen.items() if name == origin or name.startswith(f"{origin} - ")]
    if not paths:
        known = ", ".join(sorted(set(seen.values()))) or "none"
        raise click.UsageError(f"No checkpoint of {origin!r} is remembered here. Those that are: {known}.", click.get_current_context())
    kept = [monitor.forget(path) for path in paths]
    output.answer(
        [f"forgot  {escape(origin)}", *(f"  kept    {escape(path)}" for path in kept)],
        {"schema": "sigkit.log.forget/1", "origin": origin, "kept": list(kept)},
    )
