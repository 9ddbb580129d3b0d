"""`sigkit images`: what this host's store holds."""

from __future__ import annotations

import click

from sigkit.cli.options import store_option
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape, human_size

HEADINGS = ("REPOSITORY", "TAG", "MANIFEST", "PLATFORM", "SIZE", "PULLED", "POLICY")
SHORT_DIGEST = 19  # sha256: and 12 digits, as other engines show


@click.command(
    cls=Command,
    name="images",
    epilog=EXITS,
    examples="""
    sigkit images
    sigkit images --output json
    """,
)
@store_option
@click.pass_obj
def command(output: Output, store_root: str | None) -> None:
    """List the images that were pulled, newest first.

    A tag is what was asked for then; it may name another image in the registry now. POLICY is what admitted the image.
    """
    from sigkit.engine.images import list_images
    from sigkit.engine.store import Store, default_root

    records = list_images(Store(store_root or default_root()))
    rows = [
        (
            escape(record.repository),
            escape(record.tag or "-"),
            str(record.manifest)[:SHORT_DIGEST],
            record.platform,
            human_size(record.size_bytes),
            record.pulled_at,
            escape(record.policy_name),
        )
        for record in records
    ]
    widths = [max(len(row[column]) for row in (HEADINGS, *rows)) for column in range(len(HEADINGS))]
    output.answer(
        ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (HEADINGS, *rows)],
        {
            "schema": "sigkit.images/1",
            "images": [
                {
                    "repository": record.repository,
                    "tag": record.tag,
                    "reference": record.reference,
                    "top": str(record.top),
                    "manifest": str(record.manifest),
                    "config": str(record.config),
                    "platform": record.platform,
                    "sizeBytes": record.size_bytes,
                    "pulledAt": record.pulled_at,
                    "policy": {"name": record.policy_name, "digest": str(record.policy_digest)},
                }
                for record in records
            ],
        },
    )
