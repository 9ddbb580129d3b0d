"""The command line as a user starts it, from this checkout, whether sigkit is installed here or not."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from unittest.mock import patch

from sigkit.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]

# What `-m sigkit` does where it is installed: isolated, so that root does not start itself again.
_MAIN = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); sys.argv[0] = 'sigkit'; from sigkit.__main__ import main; main()"

# An argument list to which a test adds its own: `subprocess.run([*SIGKIT, "why", "SK-NET-001"])`.
SIGKIT = (sys.executable, "-I", "-c", _MAIN)


def run_here(*arguments: str, home: str | Path = ".", environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command in this process, which takes a fortieth of starting one, and return its status and what it printed to both streams.

    For tests of what a command answers. Where it matters that it is a process (signals, locales, other users), start one.
    """
    with ExitStack() as stack:
        out, err = (stack.enter_context(TemporaryFile("w+", encoding="utf-8")) for _ in range(2))
        with chdir(home), patch.dict(os.environ, environment or {}), redirect_stdout(out), redirect_stderr(err):
            status = run(arguments)
        for stream in (out, err):
            stream.seek(0)
        return status, out.read(), err.read()


def put_on_path(directory: Path) -> Path:
    """Write a `sigkit` into `directory` that starts this checkout's, and return it."""
    program = directory / "sigkit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{_MAIN}" "$@"\n')
    program.chmod(0o755)
    return program
