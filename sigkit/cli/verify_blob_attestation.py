"""`sigkit verify-blob-attestation`: prove who attested what about a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.options import attestation_option, evidence_options, file_signer_options
from sigkit.cli.output import EXITS, Command, Output

if TYPE_CHECKING:
    from sigkit.cli.options import EvidenceFlags, PolicyFlags


@click.command(
    cls=Command,
    name="verify-blob-attestation",
    epilog=EXITS,
    examples="""
    sigkit verify-blob-attestation --key release.pub --type slsaprovenance1 --bundle app.tar.gz.sigstore.json app.tar.gz
    """,
)
@click.argument("artifact", metavar="FILE")
@attestation_option
@evidence_options
@file_signer_options
@click.pass_obj
def command(output: Output, artifact: str, attestation_type: str, evidence: EvidenceFlags, wanted: PolicyFlags) -> int:
    """Check that FILE, standard input (`-`), or what has a digest (sha256:HEX) has an attestation of this type by a key or an identity.

    No connection is made.
    """
    from sigkit.cli.blobs import verify_file

    return verify_file(output, artifact, evidence, wanted, attestation_type)
