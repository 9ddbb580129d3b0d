"""Start the command line, isolated when privileged.

A root process must not import from the working directory, PYTHONPATH or the user's site directory; an entry point that pip writes has no
`-I`, so the first thing it does as root is to start itself again with it. What this leaves open is in docs/security.md.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line with this process's arguments, and exit with its status."""
    if os.geteuid() == 0 and not sys.flags.isolated:
        os.execv(sys.executable, [sys.executable, "-I", "-m", "sigkit", *sys.argv[1:]])  # noqa: S606 - itself
    from sigkit.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
