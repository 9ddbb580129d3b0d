"""`sigkit verify`: prove who signed an image, or say why it is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import connect, parse_image
from sigkit.cli.options import platform_option, policy_options, registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags, PolicyFlags


@click.command(
    cls=Command,
    name="verify",
    epilog=EXITS,
    examples="""
    sigkit verify --key release.pub registry.example/acme/app:1.0
    sigkit verify --policy policy.yaml registry.example/acme/app@sha256:…
    sigkit verify --key release.pub --output json registry.example/acme/app:1.0
    """,
)
@click.argument("image")
@policy_options
@platform_option
@registry_options
@click.pass_obj
def command(output: Output, image: str, wanted: PolicyFlags, platform_text: str | None, connection: ConnectionFlags) -> int:
    """Check the signatures of IMAGE against keys or a policy, and say what was proved and what was not.

    The reference is resolved once; everything after that is about the digest that it had.
    """
    from sigkit.cli.decisions import choose_policy, decision_lines
    from sigkit.clock import SystemClock
    from sigkit.gate.admit import judge
    from sigkit.limits import DEFAULT
    from sigkit.oci.descriptor import host_platform, parse_platform
    from sigkit.policy.decision import encode_record, record_of

    policy = choose_policy(wanted)
    reference = parse_image(image)
    platform = parse_platform(platform_text) if platform_text else host_platform()
    with connect(connection, reference) as registry:
        judgement = judge(reference, platform, policy, registry, SystemClock(), DEFAULT)
    record = record_of(judgement.decision)
    for note in judgement.notes:
        output.detail(escape(note))
    word = "verified" if record.facts else "allowed"  # a rule may ask for nothing, and nothing was proved then
    output.answer(decision_lines(output, judgement.decision, sys.stdout, word), encode_record(record))
    return record.exit_status()
