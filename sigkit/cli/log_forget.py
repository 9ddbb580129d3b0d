"""`sigkit log forget`: a log whose operator has explained a fault is followed anew."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from sigkit.cli.output import EXITS, Command
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.output import Output
    from sigkit.tlog.monitor import Remembered


@click.command(
    cls=Command,
    name="forget",
    epilog=EXITS,
    examples="""
    sigkit log forget log.acme.example
    sigkit log forget ~/.local/share/sigkit/checkpoints/5f1c…
    """,
)
@click.argument("log", metavar="ORIGIN|FILE")
@click.pass_obj
def forget(output: Output, log: str) -> None:
    """Forget the last checkpoint that this machine saw of one log.

    ORIGIN is the first line of its checkpoints, whole; FILE is where the last is remembered, as an alarm says: several logs may have
    one origin. For a log whose operator has said which entries were lost, as after a restored backup. The next checkpoint counts as the
    first; what was seen is kept beside it under another name, because it may still prove a fault.
    """
    from sigkit.tlog.monitor import Monitor, default_directory

    directory = default_directory()
    monitor = Monitor(directory or "")
    seen = monitor.remembered() if directory else ()
    found = [item for item in seen if _is_file(log, item.path)] or [item for item in seen if log == item.origin]
    if len(found) != 1:
        problem = f"{len(found)} logs call themselves {log!r}: name the file" if found else f"No checkpoint of {log!r} is remembered here"
        known = "; ".join(f"{_name(item)} in {item.path}" for item in found or seen) or "none"
        raise click.UsageError(f"{problem}. Those that are: {known}.", click.get_current_context())
    kept = monitor.forget(found[0].path)
    output.answer(
        [f"forgot  {escape(_name(found[0]))}", f"  kept  {escape(kept)}"],
        {"schema": "sigkit.log.forget/1", "origin": found[0].origin, "size": _size(found[0]), "kept": [kept]},
    )


def _is_file(named: str, path: str) -> bool:
    try:
        return os.path.samefile(named, path)
    except OSError:  # nothing has that name: it is an origin
        return named == path


def _size(item: Remembered) -> int | None:
    """Return how many entries the file says; nobody has proved it."""
    from sigkit.tlog.client import is_index

    return int(item.size) if is_index(item.size) else None


def _name(item: Remembered) -> str:
    return f"{item.origin}, a tree of {item.size[:20]} entries" if item.origin else "one that cannot be read"
