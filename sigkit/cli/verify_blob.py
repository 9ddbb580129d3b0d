"""`sigkit verify-blob`: prove who signed a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.options import evidence_options, file_signer_options
from sigkit.cli.output import EXITS, Command, Output

if TYPE_CHECKING:
    from sigkit.cli.options import EvidenceFlags, PolicyFlags


@click.command(
    cls=Command,
    name="verify-blob",
    epilog=EXITS,
    examples="""
    sigkit verify-blob --key release.pub --bundle app.tar.gz.sigstore.json app.tar.gz
    sigkit verify-blob --key release.pub --signature app.tar.gz.sig app.tar.gz
    sigkit verify-blob --certificate-identity ci@acme.example --certificate-oidc-issuer https://issuer.example --bundle b.json sha256:…
    """,
)
@click.argument("artifact", metavar="FILE")
@evidence_options
@file_signer_options
@click.pass_obj
def command(output: Output, artifact: str, evidence: EvidenceFlags, wanted: PolicyFlags) -> int:
    """Check the signature of FILE, of standard input (`-`), or of what has a digest (sha256:HEX), against a key or an identity.

    No connection is made.
    """
    from sigkit.cli.blobs import verify_file

    return verify_file(output, artifact, evidence, wanted)
