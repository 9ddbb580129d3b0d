"""`sigkit attest-blob`: sign what a predicate says about a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from sigkit.cli.options import FILE, filled, predicate_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.cli.signing_options import signing_options
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import PredicateFlags
    from sigkit.cli.signing_options import SigningFlags


@click.command(
    cls=Command,
    name="attest-blob",
    epilog=EXITS,
    examples="""
    sigkit attest-blob --key release.key --type slsaprovenance1 --predicate provenance.json --bundle app.sigstore.json app.tar.gz
    """,
)
@click.argument("file", type=FILE)
@signing_options
@predicate_options
@click.option("--bundle", required=True, type=FILE, callback=filled, metavar="OUT", help="Write the bundle here.")
@click.pass_obj
def command(output: Output, file: str, by: SigningFlags, told: PredicateFlags, bundle: str) -> None:
    """Sign what the predicate says about FILE, or about standard input for `-`, and write it as a bundle.

    With --key a key signs. Without, an identity does, as in `sigkit sign`.

    The key's password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal.

    The attestation names FILE's digest, and its name without directories. It is verified before it is written, whole or not at all.
    """
    from sigkit import limits
    from sigkit.cli.inputs import STDIN, place_of, read_input
    from sigkit.cli.outputs import check_outputs, file_lines, write_output
    from sigkit.cli.signatory import input_files, open_signatory, prepare
    from sigkit.cli.signed_words import signer_document
    from sigkit.clock import SystemClock
    from sigkit.signing.asking import after_publishing
    from sigkit.signing.blob import attest_file
    from sigkit.signing.predicate import parse_predicate

    if file == told.predicate == STDIN:
        raise click.UsageError("FILE and --predicate cannot both be standard input.")
    check_outputs({"--bundle": bundle}, (file, *input_files(by), told.predicate))
    clock = SystemClock()
    raw = read_input(told.predicate, limits.BUNDLE_BYTES)
    predicate = parse_predicate(raw, told.predicate_type, clock.now(), limits.DEFAULT, place_of(told.predicate))
    content = read_input(file, limits.SIGNED_FILE_BYTES)
    setup = prepare(output, by)
    with open_signatory(output, setup) as signatory:
        attested = attest_file(content, None if file == STDIN else os.path.basename(file), predicate, signatory, clock)
    with after_publishing(attested.public, "nothing was written"):
        write_output(bundle, attested.bundle)
    output.answer(
        [
            *file_lines(output, "attested", file, attested.digest, attested.facts),
            f"  type      {escape(predicate.type)}",
            f"  written   {escape(bundle)}",
        ],
        {
            "schema": "sigkit.attest-blob/1",
            "file": file,
            "digest": str(attested.digest),
            "predicate_type": predicate.type,
            "bundle": bundle,
            **signer_document(attested.facts),
        },
    )
