"""The options that say who signs, by what, and who vouches for it: those of all commands that sign."""

from __future__ import annotations

from typing import Final, NamedTuple

import click

from sigkit.cli.options import FILE, ROOT, Number, filled, grouped

TOKEN_VARIABLE: Final = "SIGSTORE_ID_TOKEN"  # noqa: S105 # a name
LOGINS: Final = ("auto", "browser", "device", "never")


class SigningFlags(NamedTuple):
    """Who signs, and with whose help."""

    key_path: str | None = None
    cert: str | None = None
    cert_chain: str | None = None
    signing_config: str | None = None
    trusted_root: str | None = None
    identity_token: str | None = None
    login: str = "auto"
    oidc_issuer: str | None = None
    oidc_client_id: str = "sigstore"
    services_cacert: str | None = None
    wait_s: float = 120
    yes: bool = False


signing_options = grouped(
    "by",
    SigningFlags,
    click.option(
        "--key",
        "key_path",
        type=FILE,
        callback=filled,
        metavar="FILE",
        help="The private key (cosign's form, or PEM). Without one, an identity signs.",
    ),
    click.option(
        "--cert",
        type=FILE,
        callback=filled,
        metavar="FILE",
        help="With --key: its certificate in PEM, by an authority of the trusted root.",
    ),
    click.option(
        "--cert-chain",
        type=FILE,
        callback=filled,
        metavar="FILE",
        help="With --cert: those above it in PEM. The trusted root must list them too: no bundle holds them.",
    ),
    click.option(
        "--signing-config",
        type=FILE,
        callback=filled,
        metavar="FILE",
        help="A signing_config.json: the services that certify, log and timestamp. With --key: those that log and timestamp.",
    ),
    click.option(
        "--trusted-root",
        type=ROOT,
        callback=filled,
        metavar="NAME|FILE",
        help="The instance's trusted root, by which what is made must verify: one of `sigkit trust`, whose services sign without "
        "--signing-config, or a file. For identities public-good is the default.",
    ),
    click.option(
        "--identity-token",
        callback=filled,
        metavar="TOKEN|FILE",
        help=f"The identity's token, or a file with it. Also {TOKEN_VARIABLE}; else the CI job's own, or a login on a terminal.",
    ),
    click.option("--login", type=click.Choice(LOGINS), default="auto", show_default=True, help="How to log in where there is no token."),
    click.option("--oidc-issuer", callback=filled, metavar="URL", help="Where to log in. Default: the signing config's issuer."),
    click.option(
        "--oidc-client-id",
        callback=filled,
        default="sigstore",
        show_default=True,
        metavar="ID",
        help="Whom a token must be for: its audience.",
    ),
    click.option(
        "--services-cacert",
        type=FILE,
        callback=filled,
        metavar="FILE",
        help="Trust the certificate authorities in this PEM file for services.",
    ),
    click.option(
        "--wait",
        "wait_s",
        type=Number(1, 3600),
        default=120,
        show_default=True,
        metavar="SECONDS",
        help="How long each service that is busy or away is waited for.",
    ),
    click.option("-y", "--yes", is_flag=True, help="Agree that identity, signature and digest become public; do not ask."),
)
