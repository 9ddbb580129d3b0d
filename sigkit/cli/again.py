"""Commands for a person to paste, made of the one that was given: the same flags, quoted for a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def command_again(words: Sequence[str], arguments: Sequence[str], left_out: Collection[str] = ()) -> str:
    """Return a command with the flags that were given on the command line.

    Args:
        words: of the command, without the program's name.
        arguments: that follow the flags.
        left_out: parameters that are not repeated.
    """
    return _joined("sigkit", *words, *_given(left_out), *arguments)


def inspect_command(source: Sequence[str]) -> str:
    """Return the command that shows the evidence in `source`, in the registry that was asked with the flags that reach it.

    Args:
        source: options and argument of `sigkit inspect`.
    """
    from sigkit.cli.options import ConnectionFlags

    parameters = {parameter.name or "" for parameter in click.get_current_context().command.params}
    return _joined("sigkit", "inspect", *_given(parameters - set(ConnectionFlags._fields)), *source)


def _joined(*words: str) -> str:
    from shlex import join

    return join(words)


def _given(left_out: Collection[str]) -> tuple[str, ...]:
    """Return the options that stand on the command line, each with its value; not those that say how the answer looks."""
    context = click.get_current_context()
    found: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if not isinstance(parameter, click.Option) or not parameter.expose_value or name in left_out or not given:
            continue
        value, option = context.params[name], max(parameter.opts, key=len)
        if parameter.is_flag:
            found.append(option)
            continue
        for one in value if parameter.multiple else (value,):
            found += (option, f"{one:g}" if isinstance(one, float) else str(one))
    return tuple(found)
