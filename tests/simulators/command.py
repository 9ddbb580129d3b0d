"""The command line as a user starts it, from this checkout, whether sigkit is installed here or not."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# What `-m sigkit` does where it is installed: isolated, so that root does not start itself again.
_MAIN = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); sys.argv[0] = 'sigkit'; from sigkit.__main__ import main; main()"

# An argument list to which a test adds its own: `subprocess.run([*SIGKIT, "why", "SK-NET-001"])`.
SIGKIT = (sys.executable, "-I", "-c", _MAIN)


def put_on_path(directory: Path) -> Path:
    """Write a `sigkit` into `directory` that starts this checkout's, and return it."""
    program = directory / "sigkit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{_MAIN}" "$@"\n')
    program.chmod(0o755)
    return program
