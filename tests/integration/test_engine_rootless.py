"""The engine's tests once more as an ordinary user: in a user namespace with one id.

They run in a mount namespace where this interpreter can be reached although it may lie below a closed home directory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
USER = 41234

# Pairs of arguments up to `--`: a prefix of this interpreter, and the topmost directory on the way that others may not enter (or nothing).
LANE = r"""
set -eu
mount --make-rprivate /
while [ "$1" != -- ]; do
    if [ -n "$2" ]; then
        mount --bind "$1" /mnt
        mount -t tmpfs -o mode=755 tmpfs "$2"
        mkdir -p "$1"
        mount --bind /mnt "$1"
        umount /mnt
    fi
    shift 2
done
shift
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir /tmp/home && chown "$USER_ID:$USER_ID" /tmp/home
exec setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups \
    env -i HOME=/tmp/home PATH="$PATH" SIGKIT_PEERS=/nowhere "$@"
"""


def closed_directory(path: Path) -> str:
    """Return the topmost directory on the way to `path` that others may not enter."""
    for above in reversed(path.parents):
        if not above.stat().st_mode & 0o001:
            return str(above)
    return ""


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_engine_works_for_an_ordinary_user():
    if closed_directory(CHECKOUT):
        pytest.skip("others may not read this checkout")
    # The virtual environment may lie below a closed directory too: tox makes `.tox` for its owner alone.
    ways = [word for prefix in (sys.base_prefix, sys.prefix) for word in (prefix, closed_directory(Path(prefix) / "x"))]
    names = (
        "status_of_the_program",
        "seen_as_one_tree",
        "granted_mount",
        "nobody_may_read",
        "signal_reaches",
        "killed_engine",
        "changed_layer",
    )
    tests = ("tests/integration/test_engine_containers.py", "tests/engine/test_pull.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", " or ".join((*names, "changed_layer")), *tests]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", LANE, "sh", *ways, "--", *command],
        cwd=CHECKOUT,
        env={**os.environ, "USER_ID": str(USER), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
