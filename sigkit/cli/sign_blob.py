"""`sigkit sign-blob`: sign a file."""

from __future__ import annotations

import click

from sigkit.cli.options import FILE
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape


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
@click.option("--key", "key_path", required=True, type=FILE, metavar="FILE", help="The private key (cosign's form, or PEM).")
@click.option("--bundle", type=FILE, metavar="OUT", help="Write the bundle here.")
@click.option("--output-signature", type=FILE, metavar="OUT", help="Write the bare signature here, in base64.")
@click.pass_obj
def command(output: Output, file: str, key_path: str, bundle: str | None, output_signature: str | None) -> None:
    """Sign FILE, or standard input for `-`, and write the signature as a bundle.

    The key's password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal.

    The signature is verified before anything is written; each file is written whole or not at all.
    """
    from sigkit import limits, strict
    from sigkit.cli.inputs import read_input
    from sigkit.cli.outputs import file_lines, refuse_overwriting, write_output
    from sigkit.cli.password import password
    from sigkit.clock import SystemClock
    from sigkit.keys.load import load_private
    from sigkit.signing.blob import sign_file

    if not bundle and not output_signature:
        raise click.UsageError("Nowhere to write the signature: give --bundle OUT, or --output-signature OUT.")
    refuse_overwriting({"--bundle": bundle, "--output-signature": output_signature}, (file, key_path))
    content = read_input(file, limits.SIGNED_FILE_BYTES)
    key = load_private(key_path, password)
    signed = sign_file(content, key, SystemClock())
    signature = strict.encode_base64(signed.signature)
    if bundle:
        write_output(bundle, signed.bundle)
    if output_signature:
        write_output(output_signature, signature.encode("ascii"))
    output.answer(
        [
            *file_lines(output, "signed", file, signed.digest, key.public),
            *(f"  written   {escape(path)}" for path in (bundle, output_signature) if path),
        ],
        {
            "schema": "sigkit.sign-blob/1",
            "file": file,
            "digest": str(signed.digest),
            "signature": signature,
            "bundle": bundle,
            "key": {"kind": key.public.kind, "fingerprint": str(key.public.fingerprint)},
        },
    )
