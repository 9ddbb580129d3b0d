"""`sigkit attest`: sign what a predicate says about an image, and attach it in its registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import connect, parse_image
from sigkit.cli.options import predicate_options, registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.cli.signing_options import signing_options
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags, PredicateFlags
    from sigkit.cli.signing_options import SigningFlags


@click.command(
    cls=Command,
    name="attest",
    epilog=EXITS,
    examples="""
    sigkit attest --key release.key --type spdxjson --predicate sbom.json registry.example/acme/app:1.0
    sigkit attest --key release.key --type slsaprovenance1 --predicate - registry.example/acme/app@sha256:… < provenance.json
    """,
)
@click.argument("image")
@signing_options
@predicate_options
@registry_options
@click.pass_obj
def command(output: Output, image: str, by: SigningFlags, told: PredicateFlags, connection: ConnectionFlags) -> None:
    """Sign what FILE says about IMAGE's digest, together with its repository's name, and attach it.

    With --key a key signs. Without, an identity does, as in `sigkit sign`.

    The key's password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal.

    Attesting the same again with the same key adds nothing.
    """
    from sigkit.cli.inputs import place_of, read_input
    from sigkit.cli.signatory import open_signatory, prepare
    from sigkit.cli.signed_words import signer_document, signer_lines
    from sigkit.clock import SystemClock
    from sigkit.limits import DEFAULT
    from sigkit.oci.resolve import resolve
    from sigkit.signing.asking import asking
    from sigkit.signing.predicate import parse_predicate
    from sigkit.signing.session import attest_image

    reference = parse_image(image)
    clock = SystemClock()
    raw = read_input(told.predicate, DEFAULT.bundle_bytes)
    predicate = parse_predicate(raw, told.predicate_type, clock.now(), DEFAULT, place_of(told.predicate))
    setup = prepare(output, by)
    with connect(connection, reference) as registry:
        with asking(f"the registry {reference.repository.registry}", "nothing was signed, logged or attached"):
            resolved = resolve(registry, reference)
        with open_signatory(output, setup) as signatory:
            attested = attest_image(registry, resolved, signatory, predicate, clock)
    word = "attested" if attested.added else "already attested"
    output.answer(
        [
            f"{output.word(word)}  {escape(str(resolved.repository))}@{resolved.digest}",
            *signer_lines(attested.facts),
            f"  type      {escape(predicate.type)}",
            f"  name      {escape(str(resolved.repository))} (signed)",
            f"  attached  {attested.manifest}",
        ],
        {
            "schema": "sigkit.attest/1",
            "added": attested.added,
            "repository": str(resolved.repository),
            "digest": str(resolved.digest),
            "attestation": str(attested.manifest),
            "predicate_type": predicate.type,
            **signer_document(attested.facts),
        },
    )
