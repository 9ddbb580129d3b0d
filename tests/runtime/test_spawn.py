from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from sigkit.runtime import spawn


def hold_and_end(launcher: spawn.Launcher) -> int:
    """Keep hold of a running program's file, as the attack does, and let the program end."""
    held = os.open(f"/proc/{launcher.pid}/exe", os.O_PATH)
    os.close(launcher.sync)
    os.waitpid(launcher.pid, 0)
    return held


@pytest.mark.root
@pytest.mark.attack("CVE-2019-5736")
def test_interpreter_of_the_launcher_lies_on_a_read_only_mount():
    held = hold_and_end(spawn.spawn_launcher(-1, 0))
    try:
        assert os.fstatvfs(held).f_flag & os.ST_RDONLY
        assert not os.statvfs(os.path.realpath(sys.executable)).f_flag & os.ST_RDONLY
    finally:
        os.close(held)


@pytest.mark.attack("CVE-2019-5736")
def test_sealed_interpreter_cannot_be_written_once_it_has_ended():
    held = hold_and_end(spawn.spawn_sealed_launcher(-1, 0))
    try:
        # Root may open it and not write; anybody else may not even open it.
        with pytest.raises(PermissionError), open(f"/proc/self/fd/{held}", "wb", buffering=0) as writable:
            writable.write(b"x")
    finally:
        os.close(held)


def test_launcher_without_a_plan_ends_by_itself():
    launcher = spawn.spawn_launcher(-1, 0)
    os.close(launcher.sync)
    _, status = os.waitpid(launcher.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 125


@pytest.mark.attack("CVE-2024-21626")
def test_launcher_has_no_environment_and_no_descriptor_of_ours():
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    launcher = spawn.spawn_launcher(-1, 0)
    try:
        # Its first act is to close what it was not given; then it waits for the plan.
        deadline = time.monotonic() + 30
        while (held := os.listdir(f"/proc/{launcher.pid}/fd")) != ["0", "1", "2", "3"] and time.monotonic() < deadline:
            pass
        assert held == ["0", "1", "2", "3"]
        assert Path(f"/proc/{launcher.pid}/environ").read_bytes() == b""
    finally:
        os.close(leaked)
        os.close(launcher.sync)
        os.waitpid(launcher.pid, 0)
