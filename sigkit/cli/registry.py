"""`sigkit registry serve`: an OCI registry over a directory."""

from __future__ import annotations

import click

from sigkit.cli.listening import tls_files, tls_options
from sigkit.cli.options import DIRECTORY
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape


@click.group(name="registry")
def command() -> None:
    """Serve a registry from a directory."""


@command.command(
    cls=Command,
    name="serve",
    epilog=EXITS,
    examples="""
    sigkit registry serve --listen 127.0.0.1:5000 --root ./registry
    sigkit registry serve --listen 0.0.0.0:443 --root /srv/registry --tls-cert cert.pem --tls-key key.pem
    """,
)
@click.option("--listen", default="127.0.0.1:5000", show_default=True, metavar="HOST:PORT", help="Port 0 lets the kernel choose.")
@click.option("--root", required=True, type=DIRECTORY, metavar="DIR", help="Where blobs and manifests are kept; made if it is absent.")
@tls_options
@click.option("--name", "names", multiple=True, metavar="HOST", help="Without TLS: also answer requests for this host (a proxy in front).")
@click.pass_obj
def serve(output: Output, listen: str, root: str, tls_cert: str | None, tls_key: str | None, names: tuple[str, ...]) -> None:
    """Serve OCI distribution 1.1, with the referrers API, until interrupted.

    Whoever can connect can push and delete: without TLS it listens on loopback only, and answers 421 to requests for another host.
    """
    from sigkit.services.serve import serve_registry

    tls = tls_files(tls_cert, tls_key)

    def ready(address: str) -> None:
        scheme = "https" if tls else "http"
        output.answer(
            [f"serving {escape(root)} at {scheme}://{address} (Ctrl-C stops it)"],
            {"schema": "sigkit.registry/1", "address": address, "url": f"{scheme}://{address}", "root": root},
        )

    serve_registry(root, listen, ready=ready, tls=tls, names=names)
