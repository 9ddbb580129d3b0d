from __future__ import annotations

import errno
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from sigkit.errors import HostUnfit, InvalidConfig, Place, SigkitError, UnsupportedConfig
from sigkit.runtime import seccomp
from sigkit.runtime.capabilities import DEFAULT, NAMES
from sigkit.strict import Cursor


def profile(document: object) -> seccomp.Profile:
    return seccomp.parse_profile(Cursor(document, "$.linux.seccomp", Place("config.json")))  # type: ignore[arg-type]


def under(document: object, code: str, tmp_path: Path) -> str:
    """Run Python code in a process under a profile and return what it printed."""
    program = seccomp.filter_program(profile(document), str(tmp_path))
    checkout = str(Path(seccomp.__file__).parents[2])
    script = f"""
import sys, os
sys.path.append({checkout!r})
from sigkit.runtime import syscalls
syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
syscalls.seccomp_load({program!r}, 0)
{code}
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)
    return done.stdout.strip()


# settimeofday with a pointer that leads nowhere: the kernel itself would answer EFAULT.
TRY_SETTIMEOFDAY = """
import ctypes
number = {"x86_64": 164, "aarch64": 170}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(number, ctypes.c_void_p(8), None)
os.write(1, b"%d" % ctypes.get_errno())
"""


def test_default_profile_refuses_what_needs_a_capability_that_is_not_held(tmp_path):
    assert under(seccomp.default_profile(DEFAULT), TRY_SETTIMEOFDAY, tmp_path) == str(errno.EPERM)


def test_default_profile_allows_it_with_the_capability(tmp_path):
    assert under(seccomp.default_profile([*DEFAULT, "CAP_SYS_TIME"]), TRY_SETTIMEOFDAY, tmp_path) == str(errno.EFAULT)


# Each with arguments that the kernel itself would answer otherwise; the errno of each is written.
TRY_NESTING = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": (272, 56, 165, 250, 430), "aarch64": (97, 220, 40, 219, 430)}[os.uname().machine]
NEWUSER, SIGCHLD = 0x10000000, 17
calls = [(NEWUSER,), (NEWUSER | SIGCHLD, 0, 0, 0, 0), (None, None, None, 0, None), (0, -4, 0), (None, 0)]
for number, arguments in zip(numbers, calls):
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) == 0 and number == numbers[1]:
        os._exit(0)  # the child
    os.write(1, b"%d " % ctypes.get_errno())
"""


@pytest.mark.attack("CVE-2022-0492")
@pytest.mark.attack("keyring of the host")
def test_default_profile_lets_nobody_make_user_namespaces_mount_or_reach_keyrings(tmp_path):
    refused = f"{errno.EPERM} {errno.ENOSYS} {errno.EPERM} {errno.EPERM} {errno.EPERM}"
    assert under(seccomp.default_profile(DEFAULT), TRY_NESTING, tmp_path) == refused


def test_default_profile_lets_processes_and_threads_be_made(tmp_path):
    code = """
import threading
thread = threading.Thread(target=os.write, args=(1, b"thread "))
thread.start()
thread.join()
if os.fork() == 0:
    os.write(1, b"child ")
    os._exit(0)
os.wait()
os.write(1, b"parent")
"""
    assert under(seccomp.default_profile(DEFAULT), code, tmp_path) == "thread child parent"


def test_default_profile_allows_namespaces_and_mounts_with_the_capability_for_them(tmp_path):
    found = profile(seccomp.default_profile([*DEFAULT, "CAP_SYS_ADMIN"]))
    allowed = {name for rule in found.rules if rule.action == 0x7FFF0000 and not rule.arguments for name in rule.names}
    assert {"unshare", "clone", "clone3", "mount", "setns", "keyctl"} <= allowed


def test_default_profile_answers_an_unknown_call_with_ENOSYS(tmp_path):
    code = """
try:
    syscalls._call(1000, "none")
except OSError as err:
    os.write(1, b"%d" % err.errno)
"""
    assert under(seccomp.default_profile(DEFAULT), code, tmp_path) == str(errno.ENOSYS)


def test_condition_on_an_argument_is_kept(tmp_path):
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["getpgid"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 28,
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
            }
        ],
    }
    code = """
os.getpgid(0)
try:
    os.getpgid(1)
except OSError as err:
    os.write(1, b"%d" % err.errno)
"""
    assert under(document, code, tmp_path) == "28"


def test_profile_data_is_the_published_file():
    readme = Path(seccomp.__file__).parent / "data/README.md"
    assert hashlib.sha256((readme.parent / "seccomp.json").read_bytes()).hexdigest() in readme.read_text()


def test_every_capability_gives_a_profile_that_compiles():
    library = seccomp.Library()
    for name in NAMES:
        assert library.compile(profile(seccomp.default_profile([name])))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        pytest.param({"defaultAction": "SCMP_ACT_X"}, InvalidConfig, id="action"),
        pytest.param({"defaultAction": "SCMP_ACT_NOTIFY"}, UnsupportedConfig, id="notify"),
        pytest.param({"flags": ["X"]}, InvalidConfig, id="flag"),
        pytest.param({"listenerPath": "/x"}, UnsupportedConfig, id="listener"),
        pytest.param({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_X"}]}, InvalidConfig, id="rule's action"),
        pytest.param(
            {"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "X"}]}]},
            InvalidConfig,
            id="operator",
        ),
    ],
)
def test_wrong_profile_is_refused_with_its_path(change, kind):
    with pytest.raises(kind) as caught:
        profile({"defaultAction": "SCMP_ACT_ERRNO"} | change)
    assert caught.value.place.inside.startswith("$.linux.seccomp")


def test_profile_without_a_default_is_refused():
    with pytest.raises(SigkitError):
        profile({})


def test_unknown_architecture_is_refused():
    with pytest.raises(InvalidConfig):
        seccomp.Library().compile(profile({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_Z80"]}))


def test_call_that_libseccomp_cannot_deny_is_refused_where_the_default_would_let_it_pass():
    rules = [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]
    with pytest.raises(InvalidConfig):
        seccomp.Library().compile(profile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
    allowed = [{"names": ["no_such_call"], "action": "SCMP_ACT_ALLOW"}]
    assert seccomp.Library().compile(profile({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": allowed}))


def test_absent_libseccomp_is_a_refusal_with_the_reason(monkeypatch):
    monkeypatch.setattr(seccomp, "LIBRARY", "libnothing.so.9")
    with pytest.raises(HostUnfit) as caught:
        seccomp.Library()
    assert "libnothing.so.9" in caught.value.problem


def test_different_profiles_have_different_entries_in_the_cache(tmp_path):
    for number in (1, 2):
        seccomp.filter_program(profile({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": number}), str(tmp_path))
    assert len(list((tmp_path / "seccomp").iterdir())) == 2
