"""`sigkit policy`: check trust policies before they decide anything."""

from __future__ import annotations

import click

from sigkit.cli.options import FILE
from sigkit.cli.output import EXITS, Command, Output


@click.group(name="policy")
def command() -> None:
    """Check trust policies."""


@command.command(
    cls=Command,
    name="check",
    epilog=EXITS,
    examples="""
    sigkit policy check policy.yaml
    sigkit policy check policy.yaml --output json
    """,
)
@click.argument("path", type=FILE, metavar="FILE")
@click.pass_obj
def check(output: Output, path: str) -> None:
    """Load a policy as the gate would, and say what it means.

    An error names file, line and column. A warning is no error: the policy can be used.
    """
    from sigkit.policy.lint import check_policy, encode_summary, summary_lines

    summary = check_policy(path)
    output.answer(summary_lines(summary), encode_summary(summary))
