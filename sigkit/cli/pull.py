"""`sigkit pull`: bring an image here that a policy admits."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import parse_image
from sigkit.cli.decisions import choose_host_policy, decision_lines
from sigkit.cli.options import platform_option, policy_options, registry_options, store_option
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags, PolicyFlags


@click.command(
    cls=Command,
    name="pull",
    epilog=EXITS,
    examples="""
    sigkit pull --policy policy.yaml registry.example/acme/app:1.0
    sigkit pull --key release.pub registry.example/acme/app@sha256:…
    """,
)
@click.argument("image")
@policy_options
@platform_option
@store_option
@registry_options
@click.pass_obj
def command(
    output: Output, image: str, wanted: PolicyFlags, platform_text: str | None, store_root: str | None, connection: ConnectionFlags
) -> int:
    """Judge IMAGE by a policy, and if it is allowed, pull and unpack exactly the digest that was judged.

    Every byte is verified on the way. What is refused leaves nothing behind.
    """
    from sigkit.cli.host import opened_host, teller
    from sigkit.gate.run import pull
    from sigkit.oci.descriptor import host_platform, parse_platform
    from sigkit.policy.decision import Deny, encode_decision, record_of

    policy = choose_host_policy(output, wanted)
    reference = parse_image(image)
    platform = parse_platform(platform_text) if platform_text else host_platform()
    with opened_host(output, store_root, connection, reference) as (ports, engine):
        pulled = pull(reference, platform, policy, ports, engine, teller(output))
    if isinstance(pulled, Deny):
        output.answer(decision_lines(output, pulled, sys.stdout, "allowed"), encode_decision(pulled))
        return record_of(pulled).exit_status()
    manifest = pulled.image.manifest
    packed = pulled.image.not_unpacked
    lines = [
        f"{output.word('pulled')}  {escape(str(reference.repository))}@{manifest.digest}",
        f"  layers  {len(manifest.layers)}",
    ]
    if packed is not None:
        lines.append(f"  packed  {escape(packed.problem)}: kept as verified blobs, no container can be made of them")
    output.answer(
        lines,
        {
            "schema": "sigkit.pull/1",
            "reference": image,
            "repository": str(reference.repository),
            "manifest": str(manifest.digest),
            "layers": [str(layer.digest) for layer in manifest.layers],
            "unpacked": packed is None,
            "decision": encode_decision(pulled.judgement.decision),
        },
    )
    return 0
