"""C16, no home and nowhere to write, as far as nothing is fetched: verification needs neither, and leaves nothing behind."""

from __future__ import annotations

import subprocess

import pytest

from tests.simulators.command import SIGKIT
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT


@pytest.mark.parametrize("home", [{}, {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}], ids=["unset", "absent"])
def test_c16_without_a_home_the_verdict_is_the_same_and_no_file_is_made(tmp_path, home):
    case = Simulator().make("message", ("hashedrekord",))
    for name, raw in (("file", FILE), ("b.json", case.parts["bundle"]), ("root.json", case.root)):
        (tmp_path / name).write_bytes(raw)
    who = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")
    line = [*SIGKIT, "verify-blob", *who, "--bundle", "b.json", "file"]
    environment = {"PATH": "/usr/bin:/bin", **home}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "file", "root.json"]
