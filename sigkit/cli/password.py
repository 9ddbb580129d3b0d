"""Where a private key's password comes from: the environment, or a prompt on a terminal. Never an argument: other users read those."""

from __future__ import annotations

import os
import sys

import click

from sigkit.errors import PasswordMissing, Place

VARIABLES = ("SIGKIT_PASSWORD", "COSIGN_PASSWORD")


def password() -> str:
    """Return the password of an existing key.

    Raises:
        PasswordMissing: neither variable is set and there is no terminal.
    """
    found = _from_environment()
    return (
        found
        if found is not None
        else str(click.prompt("Password of the private key", hide_input=True, default="", show_default=False, err=True))
    )


def new_password() -> str:
    """Return the password for a new key, asked for twice.

    Raises:
        PasswordMissing: neither variable is set and there is no terminal.
    """
    found = _from_environment()
    if found is not None:
        return found
    return str(
        click.prompt(
            "Password for the new private key", hide_input=True, confirmation_prompt=True, default="", show_default=False, err=True
        )
    )


def _from_environment() -> str | None:
    for name in VARIABLES:
        if name in os.environ:
            return os.environ[name]
    if not sys.stdin.isatty():
        raise PasswordMissing(
            "no password and no terminal to ask on",
            place=Place.operator("environment"),
            expected=" or ".join(VARIABLES),
            remedy=f"set {VARIABLES[0]}",
        )
    return None
