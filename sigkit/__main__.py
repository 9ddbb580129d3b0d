"""Start the command line, isolated when privileged.

A root process must not import from the working directory, PYTHONPATH or the user's site directory; an entry point that pip writes has no
`-I`, so the first thing it does as root is to start itself again with it. What this leaves open is in docs/security.md.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line with this process's arguments, and exit with its status."""
    _open_standard_streams()
    if os.geteuid() == 0 and not sys.flags.isolated:
        os.execv(sys.executable, [sys.executable, "-I", "-m", "sigkit", *sys.argv[1:]])  # noqa: S606 - itself
    from sigkit.cli.main import run

    sys.exit(run(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Put /dev/null where a standard descriptor is closed: else the next file or socket takes its number, and is written to as output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(null, True)  # noqa: FBT003 - os has no keyword for it
            name = ("stdin", "stdout", "stderr")[number]
            setattr(sys, name, os.fdopen(null, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


if __name__ == "__main__":
    main()
