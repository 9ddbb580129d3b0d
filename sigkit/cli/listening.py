"""The options of what listens: a certificate and its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from sigkit.cli.options import FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.services.tls import Tls

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def tls_options(command: _Command) -> _Command:
    """Give a command --tls-cert and --tls-key, as `tls_cert` and `tls_key`."""
    command = click.option("--tls-key", type=FILE, metavar="FILE", help="Its private key, unencrypted.")(command)
    certificate = click.option(
        "--tls-cert", type=FILE, metavar="FILE", help="Certificate chain in PEM form. Needed to listen beyond loopback."
    )
    return certificate(command)


def tls_files(certificate: str | None, key: str | None) -> Tls | None:
    """Return the two files, or None where neither is given.

    Raises:
        UsageError: only one is.
    """
    from sigkit.services.tls import Tls

    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.", click.get_current_context())
    return Tls(certificate, key) if certificate is not None and key is not None else None
