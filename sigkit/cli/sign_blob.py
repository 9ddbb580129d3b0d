"""`sigkit sign-blob`: sign a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.options import FILE, filled
from sigkit.cli.output import EXITS, Command, Output
from sigkit.cli.signing_options import signing_options
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.signing_options import SigningFlags


@click.command(
    cls=Command,
    name="sign-blob",
    epilog=EXITS,
    examples="""
    sigkit sign-blob --key release.key --bundle app.tar.gz.sigstore.json app.tar.gz
    tar c dist | sigkit sign-blob --key release.key --bundle dist.sigstore.json -
    """,
)
@click.argument("file", type=FILE)
@signing_options
@click.option("--bundle", type=FILE, callback=filled, metavar="OUT", help="Write the bundle here.")
@click.option("--output-signature", type=FILE, callback=filled, metavar="OUT", help="Write the bare signature here, in base64.")
@click.pass_obj
def command(output: Output, file: str, by: SigningFlags, bundle: str | None, output_signature: str | None) -> None:
    """Sign FILE, or standard input for `-`, and write the signature as a bundle.

    With --key a key signs. Without, an identity does, as in `sigkit sign`.

    The key's password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal.

    The signature is verified before anything is written; each file is written whole or not at all.
    """
    from sigkit import limits, strict
    from sigkit.cli.inputs import read_input
    from sigkit.cli.outputs import check_outputs, file_lines, write_output
    from sigkit.cli.signatory import input_files, open_signatory, prepare
    from sigkit.cli.signed_words import signer_document
    from sigkit.clock import SystemClock
    from sigkit.signing.asking import after_publishing
    from sigkit.signing.blob import sign_file

    if not bundle and not output_signature:
        raise click.UsageError("Nowhere to write the signature: give --bundle OUT, or --output-signature OUT.")
    check_outputs({"--bundle": bundle, "--output-signature": output_signature}, (file, *input_files(by)))
    content = read_input(file, limits.SIGNED_FILE_BYTES)
    setup = prepare(output, by)
    with open_signatory(output, setup) as signatory:
        signed = sign_file(content, signatory, SystemClock())
    signature = strict.encode_base64(signed.signature)
    written: list[str] = []
    for path, data in ((bundle, signed.bundle), (output_signature, signature.encode("ascii"))):
        if path:
            with after_publishing(signed.public, f"{written[0]} was written" if written else "nothing was written"):
                write_output(path, data)
            written.append(path)
    output.answer(
        [
            *file_lines(output, "signed", file, signed.digest, signed.facts),
            *(f"  written   {escape(path)}" for path in written),
        ],
        {
            "schema": "sigkit.sign-blob/1",
            "file": file,
            "digest": str(signed.digest),
            "signature": signature,
            "bundle": bundle,
            **signer_document(signed.facts),
        },
    )
