"""Signals on their way to the container, and its exit status on the way back."""

from __future__ import annotations

import os
import signal

# What the kernel gives a process for its own faults, what cannot be blocked, what a broken pipe of ours causes: not meant for the
# container.
_OWN = frozenset(
    [
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGURG,
    ]
)


def forwarded() -> frozenset[int]:
    """Return the signals that are passed on: all but this process's own, and those that it was told to ignore (nohup)."""
    return frozenset(
        number for number in signal.valid_signals() if number not in _OWN and signal.getsignal(number) is not signal.SIG_IGN
    ) | {signal.SIGCHLD}


def wait(launcher: int, container: int) -> int:
    """Pass signals on until the launcher ends; return its exit status, or -1 if a signal ended it.

    The signals are blocked and taken one by one: no handler, so no moment at which one is lost.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the kernel throws the status away
    waited_for = forwarded()
    try:
        target = os.pidfd_open(container)
    except ProcessLookupError:
        target = -1  # it has ended already
    try:
        while True:
            done, status = os.waitpid(launcher, os.WNOHANG)
            if done:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
            number = signal.sigwaitinfo(waited_for).si_signo
            if number != signal.SIGCHLD and target >= 0:
                try:
                    signal.pidfd_send_signal(target, number)
                except ProcessLookupError:
                    pass  # it has ended; SIGCHLD is next
    finally:
        if target >= 0:
            os.close(target)
