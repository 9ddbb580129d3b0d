"""Start the command line, isolated when privileged.

A root process must not import from the working directory, PYTHONPATH or the user's site directory; an entry point that pip writes has no
`-I`. So the first thing done as root is to look whether any of these is in play, and then to start again with `-I`. Where none is, the one
directory that `-I` would have left out, the script's own, is taken off the path: the same state without a second start (11 ms of a
verification's 100). What was honoured before this line runs is in docs/security.md.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# A start allocates some 40,000 objects that stay, and collecting among them 57 times takes 5 ms. What runs for long is collected still.
_COLLECT_AFTER_OBJECTS = 100_000
_EXIT_INTERRUPTED = 130  # that of sigkit.cli.main, whose import may be what is interrupted


def main() -> NoReturn:
    """Run the command line with this process's arguments, and exit with its status; interrupted before that can say so, without a word."""
    try:
        _end(_run())
    except KeyboardInterrupt:
        os._exit(_EXIT_INTERRUPTED)


def _run() -> int:
    if os.geteuid() == 0 and not sys.flags.isolated:
        if _is_steered():
            os.execv(sys.executable, [sys.executable, "-I", "-m", "sigkit", *sys.argv[1:]])  # noqa: S606 - itself
        sys.path.pop(0)
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    import warnings

    from sigkit.cli.main import run

    if not sys.warnoptions:  # what a library tells its programmers, of a certificate's odd name, is no word to who runs this
        warnings.simplefilter("ignore")
    return run(sys.argv[1:])


def _end(status: int) -> NoReturn:
    """End with `status` without taking the interpreter apart: that is 30 of a verification's 160 ms, to free what the kernel frees.

    Where a thread is left, or an output does not take what was written, the interpreter ends as it always does.
    """
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        sys.exit(status)
    atexit._run_exitfuncs()  # noqa: SLF001 - what sys.exit runs first
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(status)
    os._exit(status)


def _is_steered() -> bool:
    """Tell whether anything but the installation decides what this interpreter imports, besides the script's own directory."""
    if any(name.startswith("PYTHON") for name in os.environ):
        return True
    script = os.path.dirname(os.path.abspath(sys.argv[0]))
    if not sys.path or sys.path[0] != script:
        return True  # started in a way that pip's entry points are not
    site = sys.modules.get("site")
    return getattr(site, "ENABLE_USER_SITE", None) is not False and os.path.isdir(getattr(site, "USER_SITE", None) or "")


if __name__ == "__main__":
    main()
