from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sigkit.runtime import install, state
from sigkit.runtime.cli import main
from tests.simulators.bundles import CLI


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-S", str(CLI), *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["run"],
        ["run", "--bundle"],
        ["run", "--unknown", "x"],
        ["run", "a", "b"],
        ["run", "--preserve-fds", "many", "x"],
        ["kill", "x", "NOSIGNAL", "y"],
        ["state"],
        ["features", "x"],
    ],
)
def test_command_line_without_sense_is_usage(words, capsys):
    assert main(words) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 256, "a\nb"])
def test_id_that_could_be_a_path_is_refused(name, tmp_path, capsys):
    assert main(["--root", str(tmp_path), "state", name]) == 2
    assert "SK-RUNTIME-013" in capsys.readouterr().err


def test_absent_container_is_refused_and_forced_away(tmp_path, capsys):
    root = ["--root", str(tmp_path)]
    assert main([*root, "state", "absent"]) == 1
    assert main([*root, "kill", "absent", "9"]) == 1
    assert main([*root, "delete", "absent"]) == 1
    assert main([*root, "delete", "--force", "absent"]) == 0
    assert capsys.readouterr().err.count("SK-RUNTIME-010") == 3


def test_features_is_one_json_document(capsys):
    assert main(["features"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["linux"]["cgroup"]["systemd"] is False
    assert told["hooks"] == []


def test_version_names_program_and_specification(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "spec: 1.2.1"


def test_bundle_without_config_is_refused(tmp_path):
    done = run("--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path), "x")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "SK-UNAVAIL-001" in done.stderr


def test_log_gets_the_last_error_as_callers_read_it(tmp_path):
    log = tmp_path / "log"
    run("--root", str(tmp_path), "--log", str(log), "--log-format", "json", "state", "absent")
    line = json.loads(log.read_text().splitlines()[-1])
    assert line["level"] == "error"
    assert "SK-RUNTIME-010" in line["msg"]


def test_outside_text_is_escaped(tmp_path):
    done = run("--root", str(tmp_path), "run", "--bundle", f"{tmp_path}/\x1b[2J", "x")
    assert "\x1b" not in done.stderr


def test_stopped_container_whose_runtime_was_killed_can_be_deleted(tmp_path):
    left = state.State("left", "/bundle")
    left.oci_version, left.pid, left.start_time, left.status = "1.2.1", os.getpid(), 1, "running"  # our number, another start time
    state.claim(str(tmp_path), "left")
    state.save(str(tmp_path), left)
    told = json.loads(run("--root", str(tmp_path), "state", "left").stdout)
    assert told["status"] == "stopped"
    assert "pid" not in told
    assert run("--root", str(tmp_path), "kill", "left", "KILL").returncode == 1
    assert run("--root", str(tmp_path), "delete", "left").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_claimed_id_whose_state_was_never_written_can_be_deleted(tmp_path):
    state.claim(str(tmp_path), "left")
    assert run("--root", str(tmp_path), "delete", "left").returncode == 0


def test_installed_program_runs_without_any_environment(tmp_path):
    path = install.install(str(tmp_path))
    done = subprocess.run([path, "--version"], env={}, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("sigkit-runtime version")


def test_environment_cannot_choose_what_the_installed_program_imports(tmp_path):
    path = install.install(str(tmp_path))
    (tmp_path / "json.py").write_text("raise SystemExit(99)")
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")}
    assert subprocess.run([path, "features"], env=environment, cwd=tmp_path, capture_output=True, check=False).returncode == 0
