"""`sigkit policy`: check trust policies before they decide anything, and ask them why they decided as they did."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sigkit.cli.options import FILE, asked_options, asked_type_option, platform_option, policy_options, registry_options, source_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import AskedFlags, ConnectionFlags, PolicyFlags, SourceFlags

LINE_CHARACTERS = 4_000


@click.group(name="policy")
def command() -> None:
    """Check trust policies, and explain what they decide."""


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


@command.command(
    cls=Command,
    name="explain",
    epilog=EXITS,
    examples="""
    sigkit policy explain --policy policy.yaml registry.example/acme/app:1.0
    sigkit policy explain --policy policy.yaml --output json registry.example/acme/app@sha256:…
    """,
)
@click.argument("image")
@asked_type_option
@asked_options
@policy_options
@source_options
@platform_option
@registry_options
@click.pass_obj
def explain(
    output: Output,
    image: str,
    attestation_type: str,
    asked: AskedFlags,
    wanted: PolicyFlags,
    source: SourceFlags,
    platform_text: str | None,
    connection: ConnectionFlags,
) -> int:
    """Say why IMAGE is allowed or refused: everything that was tried, and the smallest change that would make it pass.

    Every piece of evidence is listed with what it proved or why it was refused, each part of the rule with who met it or what is missing,
    and who signed instead. It takes the flags of `sigkit verify` and of `sigkit verify-attestation`, and ends as these would.
    """
    from sigkit.cli.decisions import choose_host_policy, line_text
    from sigkit.cli.options import ImageFlags
    from sigkit.cli.verify import Asking, check_source, decide_one
    from sigkit.policy.explain import explain as explain_shortly
    from sigkit.policy.why import encode_why, explain_why

    check_source(source, ImageFlags((image,), ()), platform_text)
    policy = choose_host_policy(output, wanted, asked, attestation_type, source.reach)
    decision, notes, _ = decide_one(image, Asking(policy, platform_text, connection, source))
    why, headline = explain_why(decision), explain_shortly(decision)
    lines = [f"{output.word(headline.word, sys.stdout)}  {escape(headline.subject)}"]
    lines += [line_text(line, LINE_CHARACTERS) for line in why.lines()]
    lines += [f"  note        {escape(note)}" for note in notes]
    output.answer(lines, encode_why(why))
    return why.record.exit_status()
