from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def after_disarming(code: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.append({str(CHECKOUT)!r}); from sigkit.runtime import init; init.disarm()\n{code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.attack("import after pivot_root")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import json", id="statement"),
        pytest.param("sys.path.append('/usr/lib'); import json", id="path put back"),
        pytest.param("__import__('importlib.util')", id="submodule"),
    ],
)
def test_no_module_can_be_imported_any_more(code):
    done = after_disarming(code)
    assert done.returncode != 0
    assert "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr


@pytest.mark.attack("import after pivot_root")
def test_codec_that_was_not_loaded_is_not_looked_for():
    done = after_disarming("'x.y'.encode('idna')")
    assert "LookupError" in done.stderr


@pytest.mark.attack("import after pivot_root")
def test_uncaught_exception_is_written_without_the_traceback_module():
    done = after_disarming("raise ValueError('caf\\u00e9')")
    assert done.stderr == "sigkit launcher: ValueError: caf\\xe9\n"


@pytest.mark.attack("import after pivot_root")
def test_launcher_disarms_itself_before_it_acts_on_the_plan():
    script = f"""
import marshal, os, sys
sys.path.append({str(CHECKOUT)!r})
from sigkit.runtime import init, sync, syscalls
ours, theirs = syscalls.stream_pair()
sync.send(ours, sync.PLAN, marshal.dumps({{}}))
end = os._exit
os._exit = lambda status: (os.write(1, b"%d" % len(sys.meta_path + sys.path + sys.path_hooks)), end(status))
init.main(theirs, -1, 0)
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("0", 125)
