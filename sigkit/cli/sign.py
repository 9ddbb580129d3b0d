"""`sigkit sign`: sign what a reference names now, and attach the signature in its registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.connect import connect, parse_image
from sigkit.cli.options import FILE, key_values, registry_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import ConnectionFlags


@click.command(
    cls=Command,
    name="sign",
    epilog=EXITS,
    examples="""
    sigkit sign --key release.key registry.example/acme/app:1.0
    sigkit sign --key release.key -a build=1234 registry.example/acme/app@sha256:…
    """,
)
@click.argument("image")
@click.option("--key", "key_path", required=True, type=FILE, metavar="FILE", help="The private key (cosign's form, or PEM).")
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
def command(output: Output, image: str, key_path: str, annotations: tuple[str, ...], connection: ConnectionFlags) -> None:
    """Sign IMAGE's digest together with its repository's name, and attach the signature.

    The key's password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal.

    An index is signed as an index. Signing the same digest again with the same key, name and annotations adds nothing.
    """
    from sigkit.cli.password import password
    from sigkit.clock import SystemClock
    from sigkit.keys.load import load_private
    from sigkit.oci.resolve import resolve
    from sigkit.signing.session import sign_and_attach

    reference = parse_image(image)
    extra = key_values(annotations, "-a")
    key = load_private(key_path, password)
    with connect(connection, reference) as registry:
        resolved = resolve(registry, reference)
        signed = sign_and_attach(registry, resolved, key, extra, SystemClock())
    word = "signed" if signed.added else "already signed"
    output.answer(
        [
            f"{output.word(word)}  {escape(str(resolved.repository))}@{resolved.digest}",
            f"  by        key {key.public.fingerprint} ({key.public.kind})",
            f"  name      {escape(str(resolved.repository))} (signed)",
            f"  attached  {signed.manifest}",
        ],
        {
            "schema": "sigkit.sign/1",
            "added": signed.added,
            "repository": str(resolved.repository),
            "digest": str(resolved.digest),
            "signature": str(signed.manifest),
            "key": {"kind": key.public.kind, "fingerprint": str(key.public.fingerprint)},
            "annotations": dict(extra),
        },
    )
