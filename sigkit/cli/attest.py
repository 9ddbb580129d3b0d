"""`sigkit attest`: sign what a predicate says about an image, and attach it in its registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import connect, parse_image
from sigkit.cli.options import FILE, predicate_options, registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags, PredicateFlags


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
@click.option("--key", "key_path", required=True, type=FILE, metavar="FILE", help="The private key (cosign's form, or PEM).")
@predicate_options
@registry_options
@click.pass_obj
def command(output: Output, image: str, key_path: str, told: PredicateFlags, connection: ConnectionFlags) -> None:
    """Sign what FILE says about IMAGE's digest, together with its repository's name, and attach it.

    The key's password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal.

    Attesting the same again with the same key adds nothing.
    """
    from sigkit.cli.inputs import place_of, read_input
    from sigkit.cli.password import password
    from sigkit.clock import SystemClock
    from sigkit.keys.load import load_private
    from sigkit.limits import DEFAULT
    from sigkit.oci.resolve import resolve
    from sigkit.signing.predicate import parse_predicate
    from sigkit.signing.session import attest_and_attach

    reference = parse_image(image)
    clock = SystemClock()
    raw = read_input(told.predicate, DEFAULT.bundle_bytes)
    predicate = parse_predicate(raw, told.predicate_type, clock.now(), DEFAULT, place_of(told.predicate))
    key = load_private(key_path, password)
    with connect(connection, reference) as registry:
        resolved = resolve(registry, reference)
        attested = attest_and_attach(registry, resolved, key, predicate, clock)
    word = "attested" if attested.added else "already attested"
    output.answer(
        [
            f"{output.word(word)}  {escape(str(resolved.repository))}@{resolved.digest}",
            f"  by        key {key.public.fingerprint} ({key.public.kind})",
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
            "key": {"kind": key.public.kind, "fingerprint": str(key.public.fingerprint)},
        },
    )
