"""docs/security.md says which attack is held by which test, and it is true."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_every_attack_has_a_row_and_a_test_and_the_page_is_current():
    done = subprocess.run(
        [sys.executable, CHECKOUT / "docs/generate.py", "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
