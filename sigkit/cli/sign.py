"""`sigkit sign`: sign what a reference names now, and attach the signature in its registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import connect, parse_image
from sigkit.cli.options import key_values, registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.cli.signing_options import signing_options
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags
    from sigkit.cli.signing_options import SigningFlags


@click.command(
    cls=Command,
    name="sign",
    epilog=EXITS,
    examples="""
    sigkit sign --key release.key registry.example/acme/app:1.0
    sigkit sign --key release.key -a build=1234 registry.example/acme/app@sha256:…
    sigkit sign --yes --signing-config signing_config.json --trusted-root trusted_root.json registry.example/acme/app:1.0
    """,
)
@click.argument("image")
@signing_options
@click.option(
    "-a",
    "--annotations",
    "annotations",
    multiple=True,
    metavar="KEY=VALUE",
    help="Sign this with the digest. Can be given several times.",
)
@registry_options
@click.pass_obj
def command(output: Output, image: str, by: SigningFlags, annotations: tuple[str, ...], connection: ConnectionFlags) -> None:
    """Sign IMAGE's digest together with its repository's name, and attach the signature.

    With --key a key signs. Without, an identity does: that of the CI job, of a token, or of whoever logs in. What becomes public is said
    before.

    The key's password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal.

    An index is signed as an index. Signing the same digest again with the same key, name and annotations adds nothing.
    """
    from sigkit.cli.signatory import open_signatory, prepare
    from sigkit.cli.signed_words import signer_document, signer_lines
    from sigkit.clock import SystemClock
    from sigkit.oci.resolve import resolve
    from sigkit.signing.asking import asking
    from sigkit.signing.session import sign_image

    reference = parse_image(image)
    extra = key_values(annotations, "-a")
    setup = prepare(output, by)
    with connect(connection, reference) as registry:
        with asking(f"the registry {reference.repository.registry}", "nothing was signed, logged or attached"):
            resolved = resolve(registry, reference)
        with open_signatory(output, setup) as signatory:
            signed = sign_image(registry, resolved, signatory, extra, SystemClock())
    word = "signed" if signed.added else "already signed"
    output.answer(
        [
            f"{output.word(word)}  {escape(str(resolved.repository))}@{resolved.digest}",
            *signer_lines(signed.facts),
            f"  name      {escape(str(resolved.repository))} (signed)",
            f"  attached  {signed.manifest}",
        ],
        {
            "schema": "sigkit.sign/1",
            "added": signed.added,
            "repository": str(resolved.repository),
            "digest": str(resolved.digest),
            "signature": str(signed.manifest),
            **signer_document(signed.facts),
            "annotations": dict(extra),
        },
    )
