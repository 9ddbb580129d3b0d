from __future__ import annotations

import errno

import pytest

from sigkit.errors import Bug, HostUnfit, KernelRefused, LauncherDied, MissingCommand, NotExecutable, Place, SourceChanged, UnsafeRootfs
from sigkit.runtime import failures, sync

PLACE = Place("/bundle")


def body(*fields: bytes | int) -> bytes:
    return b"\0".join(field if isinstance(field, bytes) else b"%d" % field for field in fields)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        pytest.param((sync.FAIL_KERNEL, b"pivot_root", errno.EINVAL, b"pivot_root"), KernelRefused, id="kernel"),
        pytest.param((sync.FAIL_KERNEL, b"new user namespace", errno.ENOSPC, b"unshare"), HostUnfit, id="no user namespaces"),
        pytest.param((sync.FAIL_KERNEL, b"a mount", errno.ENOSYS, b"fsopen"), HostUnfit, id="old kernel"),
        pytest.param((sync.FAIL_KERNEL, b"private propagation", errno.EINVAL, b"mount"), HostUnfit, id="chroot"),
        pytest.param((sync.FAIL_UNSAFE, b"a mount", b"a link", b"/dev"), UnsafeRootfs, id="unsafe"),
        pytest.param((sync.FAIL_SOURCE, b"a mount", b"/srv/data"), SourceChanged, id="source changed"),
        pytest.param((sync.FAIL_MISSING, b"x"), MissingCommand, id="missing"),
        pytest.param((sync.FAIL_EXECUTABLE, b"x", errno.EACCES), NotExecutable, id="not executable"),
        pytest.param((sync.FAIL_BUG, b"start", b"KeyError: 'x'"), Bug, id="bug"),
    ],
)
def test_each_failure_is_a_refusal_of_its_own(fields, kind):
    assert type(failures.failure(body(*fields), PLACE)) is kind


def test_silence_is_a_refusal():
    assert type(failures.died(PLACE)) is LauncherDied


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOENT])
def test_kernel_errors_are_named_and_not_worded(number):
    text = str(failures.failure(body(sync.FAIL_KERNEL, b"a mount", number, b"open_tree"), PLACE)).lower()
    assert errno.errorcode[number].lower() in text
    for words in ("permission denied", "operation not permitted", "no such file or directory"):
        assert words not in text


def test_words_for_a_missing_and_an_unexecutable_command_are_those_that_podman_reads():
    missing = str(failures.failure(body(sync.FAIL_MISSING, b"/nosuch"), PLACE))
    assert "executable file `/nosuch` not found: No such file or directory" in missing
    not_executable = str(failures.failure(body(sync.FAIL_EXECUTABLE, b"/etc/passwd", errno.EACCES), PLACE))
    assert "the path `/etc/passwd` exists but it is not executable: Operation not permitted" in not_executable
