"""`sigkit completion SHELL`: the script that makes a shell complete sigkit's commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sigkit.cli.output import Command


@click.command(
    cls=Command,
    name="completion",
    examples="""
    sigkit completion bash > ~/.local/share/bash-completion/completions/sigkit
    sigkit completion zsh > "${fpath[1]}/_sigkit"
    sigkit completion fish > ~/.config/fish/completions/sigkit.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
def command(shell: str | None) -> None:
    """Print the completion script for bash, zsh or fish."""
    from sigkit.cli.main import COMPLETION_VARIABLE, group

    if shell is None:
        raise click.UsageError("Name the shell: bash, zsh or fish.", click.get_current_context())
    kind = get_completion_class(shell)
    if kind is None:  # the choice above allows only what click has
        raise click.UsageError(f"No completion for {shell}.")
    click.echo(kind(group, {}, "sigkit", COMPLETION_VARIABLE).source())
