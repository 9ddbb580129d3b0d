"""`sigkit verify`: prove who signed an image, or say why it is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import connect, parse_image
from sigkit.cli.options import FILE, asked_options, platform_option, policy_options, registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import AskedFlags, ConnectionFlags, PolicyFlags
    from sigkit.oci.descriptor import Platform
    from sigkit.policy.model import Policy


@click.command(
    cls=Command,
    name="verify",
    epilog=EXITS,
    examples="""
    sigkit verify --key release.pub registry.example/acme/app:1.0
    sigkit verify --certificate-identity ci@acme.example --certificate-oidc-issuer https://issuer.example registry.example/acme/app:1.0
    sigkit verify --policy policy.yaml registry.example/acme/app@sha256:… registry.example/acme/web:2.1
    sigkit verify --policy policy.yaml -f images.txt --output json
    """,
)
@click.argument("images", nargs=-1, metavar="IMAGE...")
@click.option("-f", "--file", "listed", type=FILE, metavar="FILE", help="A file of images, one a line; `-` for standard input.")
@asked_options
@policy_options
@platform_option
@registry_options
@click.pass_obj
def command(
    output: Output,
    images: tuple[str, ...],
    listed: str | None,
    asked: AskedFlags,
    wanted: PolicyFlags,
    platform_text: str | None,
    connection: ConnectionFlags,
) -> int:
    """Check the signatures of each IMAGE against keys, an identity or a policy, and say what was proved and what was not.

    A reference is resolved once; everything after that is about the digest that it had.

    Several images get a line each, and share connections: 1 if any is refused, else 3 if any could not be checked.
    """
    from sigkit.cli.decisions import choose_policy

    return verify_images(output, images, listed, choose_policy(output, wanted, asked), platform_text, connection)


def verify_images(
    output: Output, images: tuple[str, ...], listed: str | None, policy: Policy, platform_text: str | None, connection: ConnectionFlags
) -> int:
    """Verify one image and tell all about it, or several with a line each; return the exit status."""
    from sigkit.oci.descriptor import host_platform, parse_platform

    platform = parse_platform(platform_text) if platform_text else host_platform()
    if listed is not None or len(images) != 1:
        from sigkit.cli.many import listed_images, verify_many

        return verify_many(output, (*images, *listed_images(listed)), policy, platform, connection)
    return _verify_one(output, images[0], policy, platform, connection)


def _verify_one(output: Output, image: str, policy: Policy, platform: Platform, connection: ConnectionFlags) -> int:
    from sigkit.cli.decisions import decision_lines
    from sigkit.clock import SystemClock
    from sigkit.gate.admit import judge
    from sigkit.limits import DEFAULT
    from sigkit.policy.decision import encode_record, record_of

    reference = parse_image(image)
    with connect(connection, reference) as registry:
        judgement = judge(reference, platform, policy, registry, SystemClock(), DEFAULT)
    record = record_of(judgement.decision)
    for note in judgement.notes:
        output.detail(escape(note))
    word = "verified" if record.facts else "allowed"  # a rule may ask for nothing, and nothing was proved then
    output.answer(decision_lines(output, judgement.decision, sys.stdout, word), encode_record(record))
    return record.exit_status()
