"""`sigkit key`: key pairs in cosign's form, so that either program reads the other's."""

from __future__ import annotations

import os

import click

from sigkit.cli.options import FILE
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape


@click.group(name="key")
def command() -> None:
    """Generate key pairs and show public keys."""


@command.command(
    cls=Command,
    name="generate",
    short_help="Generate a key pair, encrypted with a password.",
    epilog=EXITS,
    examples="""
    sigkit key generate --output-key-prefix release
    SIGKIT_PASSWORD="$SECRET" sigkit key generate --output-key-prefix ci --type ed25519
    """,
)
@click.option("--output-key-prefix", "prefix", default="sigkit", show_default=True, metavar="P", help="Write P.key and P.pub.")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["ecdsa-p256", "ecdsa-p384", "ed25519"]),
    default="ecdsa-p256",
    show_default=True,
    help="Kind of key. cosign cannot verify image signatures of its own by Ed25519; it verifies sigkit's.",
)
@click.pass_obj
def generate(output: Output, prefix: str, kind: str) -> None:
    """Generate a key pair: P.key, encrypted with a password, and P.pub.

    The password comes from SIGKIT_PASSWORD or COSIGN_PASSWORD, or is asked for on a terminal. Existing files are never replaced.
    """
    from sigkit.cli.password import new_password
    from sigkit.keys.files import write_key_pair

    password = new_password()
    public = write_key_pair(os.fspath(prefix), kind, password)
    if not password:  # as cosign allows it; in a pipeline it is more often a secret that is not there
        output.note(f"note: the password is empty: whoever reads {escape(prefix)}.key can sign with it")
    output.answer(
        [f"private key  {prefix}.key", f"public key   {prefix}.pub", f"fingerprint  {public.fingerprint}"],
        {
            "schema": "sigkit.key/1",
            "private": f"{prefix}.key",
            "public": f"{prefix}.pub",
            "kind": public.kind,
            "fingerprint": str(public.fingerprint),
        },
    )


@command.command(
    cls=Command,
    name="public",
    epilog=EXITS,
    examples="""
    sigkit key public --key release.key > release.pub
    sigkit key public --key release.pub --output json
    """,
)
@click.option("--key", "path", required=True, type=FILE, metavar="FILE", help="A private or public key.")
@click.pass_obj
def public(output: Output, path: str) -> None:
    """Print the public key of a key file as PEM."""
    from sigkit.cli.password import password
    from sigkit.keys.load import load_public_of

    key = load_public_of(path, password)
    pem = key.encode_pem().decode("ascii")
    output.answer(
        pem.rstrip("\n").splitlines(), {"schema": "sigkit.key/1", "public_pem": pem, "kind": key.kind, "fingerprint": str(key.fingerprint)}
    )
