"""`sigkit tree`: what is attached to an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import connect, parse_image
from sigkit.cli.options import registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags


@click.command(
    cls=Command,
    name="tree",
    epilog=EXITS,
    examples="""
    sigkit tree registry.example/acme/app:1.0
    sigkit tree --output json registry.example/acme/app@sha256:…
    """,
)
@click.argument("image")
@registry_options
@click.pass_obj
def command(output: Output, image: str, connection: ConnectionFlags) -> None:
    """Show what the registry holds about IMAGE: signatures and attestations, by the form they are in and where they are listed.

    This is what evidence claims; `sigkit verify` says what is proved.
    """
    from sigkit.evidence.collect import collect
    from sigkit.evidence.describe import describe
    from sigkit.limits import DEFAULT
    from sigkit.oci.resolve import resolve

    reference = parse_image(image)
    with connect(connection, reference) as registry:
        resolved = resolve(registry, reference)
        collected = collect(registry, resolved.repository, resolved.digest, DEFAULT)
    described = [describe(evidence, DEFAULT) for evidence in collected.evidence]
    lines = [f"{escape(image)}  {resolved.digest}"]
    last = len(described) - 1
    for number, item in enumerate(described):
        lines.append(f"{'└── ' if number == last else '├── '}{item.kind}  {item.manifest}  (via {item.via})")
        lines.append(f"{'    ' if number == last else '│   '}    {escape(item.claims)}")
    if not described:
        lines.append("└── nothing that sigkit reads")
    lines += [f"    note: {escape(note)}" for note in collected.notes]
    lines += [f"    unread: {escape(str(item.error))}" for item in collected.unread]
    output.answer(
        lines,
        {
            "schema": "sigkit.tree/1",
            "reference": image,
            "digest": str(resolved.digest),
            "attached": [{"kind": item.kind, "manifest": item.manifest, "via": item.via, "claims": item.claims} for item in described],
            "notes": list(collected.notes),
            "unread": [str(item.error) for item in collected.unread],
        },
    )
