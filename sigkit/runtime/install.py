"""Write the `sigkit-runtime` program: `python -m sigkit.runtime.install PREFIX`.

An entry point made by pip starts the interpreter without `-I` and `-S`, and podman calls a runtime with an almost empty environment: so
this is a shell script with absolute paths, and nothing of the caller's environment decides which code runs as root.
"""

from __future__ import annotations

import os
import sys

from sigkit.runtime.trace import quote


def script() -> bytes:
    """Return the wrapper's text for this interpreter and this copy of sigkit."""
    python = os.path.realpath(sys.executable)
    cli = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cli.py")
    return f'#!/bin/sh\nexec {quote(os.fsencode(python))} -I -S {quote(os.fsencode(cli))} "$@"\n'.encode()


def install(prefix: str) -> str:
    """Write PREFIX/bin/sigkit-runtime and return its path.

    Raises:
        FileUnwritable: it cannot be written.
    """
    from sigkit import durable
    from sigkit.errors import FileUnwritable, Place

    directory = os.path.join(os.path.abspath(prefix), "bin")
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as err:
        raise FileUnwritable(f"cannot make the directory: {err.strerror}", place=Place.operator(directory)) from err
    path = os.path.join(directory, "sigkit-runtime")
    durable.write(path, script(), mode=0o755, point="runtime.install")
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sigkit.runtime.install PREFIX")
    sys.stdout.write(install(sys.argv[1]) + "\n")
