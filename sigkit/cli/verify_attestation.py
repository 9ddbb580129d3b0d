"""`sigkit verify-attestation`: prove who attested what about an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.options import (
    asked_options,
    attestation_option,
    attester_options,
    image_options,
    platform_option,
    registry_options,
    source_options,
)
from sigkit.cli.output import EXITS, Command, Output

if TYPE_CHECKING:
    from sigkit.cli.options import AskedFlags, ConnectionFlags, ImageFlags, PolicyFlags, SourceFlags


@click.command(
    cls=Command,
    name="verify-attestation",
    epilog=EXITS,
    forms=("cosign",),
    examples="""
    sigkit verify-attestation --key release.pub --type slsaprovenance1 registry.example/acme/app:1.0
    sigkit verify-attestation --key release.pub --type spdxjson registry.example/acme/app@sha256:…
    """,
)
@image_options
@attestation_option
@asked_options
@attester_options
@source_options
@platform_option
@registry_options
@click.pass_obj
def command(
    output: Output,
    named: ImageFlags,
    attestation_type: str,
    asked: AskedFlags,
    wanted: PolicyFlags,
    source: SourceFlags,
    platform_text: str | None,
    connection: ConnectionFlags,
) -> int:
    """Check that each IMAGE has an attestation of this type by a key or an identity.

    A policy says in its rules what must be attested: `sigkit verify --policy`.
    """
    from sigkit.cli.decisions import choose_policy
    from sigkit.cli.verify import Asking, check_source, verify_images

    check_source(source, named, platform_text)
    if not wanted.keys and not wanted.identity:
        raise click.UsageError("Say who must have attested: --key FILE or an identity; with a policy it is `sigkit verify --policy`.")
    policy = choose_policy(output, wanted, asked, attestation_type, source.reach)
    return verify_images(output, named, Asking(policy, platform_text, connection, source, attestation_type))
