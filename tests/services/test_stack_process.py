"""The process of a stack: who is stopped by `down`, what is signed again while it runs, and what its operator is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import linecache
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sigkit import durable
from sigkit.clock import SystemClock
from sigkit.errors import EXIT_USAGE, AddressUnusable, StackNotRunning, StackProcessUnproved
from sigkit.limits import BodyLimits
from sigkit.services.app import Mount
from sigkit.services.serve import running
from sigkit.services.stack import layout
from sigkit.services.stack.clients import open_repository
from sigkit.services.stack.process import find_process, stop, told
from sigkit.services.stack.run import fresh, running_stack
from tests.simulators import stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sigkit.services.exchange import Answer, Request
    from sigkit.services.tuf import Repository


class MovedClock:
    """The wall clock, moved."""

    def __init__(self, **by: float) -> None:
        self.by = timedelta(**by)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return stacks.make(tmp_path_factory.mktemp("made") / "stack")


@pytest.fixture
def stack(made, tmp_path):
    """A stack of the test's own: a copy, which is quicker than making one."""
    shutil.copytree(made.directory, tmp_path / "stack")
    return stacks.Stack(tmp_path / "stack", made.url)


def until(true: Callable[[], bool]) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while not true():
        assert datetime.now(UTC) < deadline


# --- stopping


def test_down_never_stops_a_stranger_that_has_the_number_of_a_killed_process(stack):
    directory = str(stack.directory)
    with told(directory, "127.0.0.1:1", SystemClock()):
        said = json.loads((stack.directory / "run.json").read_text())
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            # What a killed one left, while another holds the lock and has not got as far as to remove it.
            (stack.directory / "run.json").write_text(json.dumps(said | {"pid": stranger.pid}))
            with durable.lock(stack.directory / "lock"):
                assert find_process(directory) is not None
                with pytest.raises(StackNotRunning) as caught:
                    stop(directory)
            assert "just starting" in caught.value.problem
            os.kill(stranger.pid, 0)
            assert stranger.poll() is None
        finally:
            stranger.kill()
        assert stranger.wait(20) == -9


@contextlib.contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that must not be stopped."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
            os.kill(process.pid, 0)
            assert process.poll() is None
        finally:
            process.kill()


def name_process(stack: stacks.Stack, pid: int) -> None:
    """Say in `run.json` that a process serves the stack, with all that is true of it."""
    ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    document = {"schema": "sigkit.stack.run/1", "pid": pid, "startTicks": ticks, "address": "127.0.0.1:1", "started": "x"}
    (stack.directory / "run.json").write_text(json.dumps(document))


@pytest.mark.attack("process that run.json names")
def test_down_never_stops_a_process_that_does_not_hold_the_lock(stack):
    with sleeping() as stranger, durable.lock(stack.directory / "lock"):
        name_process(stack, stranger.pid)
        with pytest.raises(StackProcessUnproved) as caught:
            stop(str(stack.directory))
        assert (caught.value.status(), "lock" in caught.value.problem) == (EXIT_USAGE, True)
        assert f"kill {stranger.pid}" in caught.value.remedy


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMFILE])
def test_a_process_that_cannot_be_held_on_to_is_left_to_the_operator(stack, monkeypatch, number):
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with sleeping() as stranger, durable.lock(stack.directory / "lock"):
        name_process(stack, stranger.pid)
        with pytest.raises(StackProcessUnproved) as caught:
            stop(str(stack.directory))
    assert (caught.value.status(), os.strerror(number) in caught.value.problem) == (EXIT_USAGE, True)
    assert f"kill {stranger.pid}" in caught.value.remedy


HOLDER = """
import fcntl, sys, time
held = open(sys.argv[1], "rb+")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
@pytest.mark.attack("process that run.json names")
def test_down_never_stops_a_process_of_another_user_than_the_directorys(stack):
    line = [sys.executable, "-I", "-c", HOLDER, str(stack.directory / "lock")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        name_process(stack, holder.pid)
        os.chown(stack.directory, 65_534, -1)
        with pytest.raises(StackProcessUnproved) as caught:
            stop(str(stack.directory))
        assert (caught.value.expected, caught.value.got) == ("user 65534, as the directory", f"user {os.getuid()}")
        assert holder.poll() is None
        os.chown(stack.directory, os.getuid(), -1)
        assert stop(str(stack.directory)).pid == holder.pid
        assert holder.wait(20) == -signal.SIGTERM


def test_what_a_killed_process_said_of_itself_is_gone_before_anything_is_opened(stack):
    (stack.directory / "run.json").write_text("{}")
    with layout.owned(str(stack.directory), "", timeout_s=0):
        assert not (stack.directory / "run.json").exists()
        assert find_process(str(stack.directory)) is None


def test_a_disk_that_lets_no_name_be_removed_does_not_keep_the_stack_from_stopping(stack):
    said = stack.directory / "run.json"
    with told(str(stack.directory), "127.0.0.1:1", SystemClock()):
        said.unlink()
        said.mkdir()  # which, as on a disk that was mounted anew for reading only, is not unlinked
    assert said.exists()


def test_what_no_process_serves_cannot_be_stopped(stack):
    with pytest.raises(StackNotRunning) as caught:
        stop(str(stack.directory))
    assert caught.value.status() == EXIT_USAGE


# --- signing again


def expiry(repository: Repository) -> datetime:
    return repository.expiries()["timestamp"]


def test_metadata_is_signed_again_while_the_stack_runs(stack):
    repository = open_repository(str(stack.directory))
    clock = MovedClock()
    with fresh(repository, clock, every_s=0.01):
        clock.by = timedelta(days=5)
        until(lambda: expiry(repository) > clock.now() + timedelta(days=6))


@pytest.mark.attack("a clock that was ahead")
def test_what_was_signed_while_the_clock_was_ahead_is_signed_again_and_told(stack, caplog):
    repository = open_repository(str(stack.directory))
    repository.resign_timestamp(SystemClock().now() + timedelta(days=3650))
    with fresh(repository, SystemClock()):
        pass
    assert expiry(repository) < SystemClock().now() + timedelta(days=8)
    [line] = caplog.records
    assert "clock" in line.getMessage()


@pytest.mark.parametrize("moved", [timedelta(days=-30), timedelta(0)])
def test_a_clock_that_stands_before_the_stack_was_made_is_told_at_each_start(stack, caplog, moved):
    clock = MovedClock()
    clock.by = moved
    for _ in range(2):  # the second time nothing was signed later than now
        caplog.clear()
        with running_stack(str(stack.directory), clock=clock):
            pass
    assert ["was made at" in line for line in caplog.messages] == ([True] if moved else [])


def test_what_expired_while_the_stack_was_off_is_signed_again_before_it_listens(stack):
    repository = open_repository(str(stack.directory))
    before = expiry(repository)
    with pytest.raises(AddressUnusable), running_stack(str(stack.directory), listen="192.0.2.1:1", clock=MovedClock(days=9)):
        pass
    assert expiry(repository) > before


def test_a_disk_that_is_full_for_a_while_stops_nothing_and_is_told_once(stack, monkeypatch, caplog):
    repository = open_repository(str(stack.directory))
    good_until, clock = expiry(repository), MovedClock()
    with fresh(repository, clock, every_s=0.01):
        monkeypatch.setattr(durable, "_passages", {})
        monkeypatch.setenv("SIGKIT_FAILPOINTS", ";".join(f"tuf.timestamp.fsync={number}*enospc" for number in (1, 3)))  # each item counts
        clock.by = timedelta(days=5)
        until(lambda: expiry(repository) > clock.now() + timedelta(days=6))
    [line] = [record for record in caplog.records if record.name == "sigkit.services"]
    assert line.levelno == logging.ERROR
    assert good_until.strftime("%Y-%m-%dT%H:%M:%SZ") in line.getMessage()
    assert "SK-UNAVAIL-002" in line.getMessage()


def test_what_goes_on_failing_is_told_again_after_an_hour(stack, caplog):
    repository = open_repository(str(stack.directory))
    clock = MovedClock()
    with fresh(repository, clock, every_s=0.01):
        shutil.rmtree(stack.directory / "tuf" / "keys")
        clock.by = timedelta(days=5)
        until(lambda: len(caplog.records) == 1)
        clock.by += timedelta(minutes=59)
        until(lambda: len(caplog.records) == 1)
        clock.by += timedelta(minutes=1)
        until(lambda: len(caplog.records) == 2)


class Unforeseen:
    """A repository whose second signing fails as no code of sigkit's does."""

    def __init__(self) -> None:
        self.asked = 0

    def is_ahead(self, now: datetime) -> bool:
        del now
        return False

    def resign_if_due(self, now: datetime) -> bool:
        del now
        self.asked += 1
        if self.asked == 2:
            raise ZeroDivisionError("no one")
        return False

    def expiries(self) -> dict[str, datetime]:
        return dict.fromkeys(("timestamp", "snapshot"), datetime(2026, 1, 1, tzinfo=UTC))


def test_an_error_that_nobody_foresaw_does_not_end_the_signing(caplog):
    repository: Any = Unforeseen()
    with fresh(repository, SystemClock(), every_s=0.01):
        until(lambda: repository.asked > 3)
    [line] = caplog.records
    assert "ZeroDivisionError: no one" in line.getMessage()


# --- ending


class Waiting:
    """A core that answers nobody before its server ends."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.threads: set[int] = set()

    async def answer(self, request: Request) -> Answer:
        del request
        self.threads.add(threading.get_ident())
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


@contextlib.contextmanager
def asking(core: Waiting, address: str) -> Iterator[None]:
    """Have a request under way until the block ends."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        assert core.asked.wait(20)
        yield


def interrupt_in_stop() -> None:
    """Interrupt the main thread once it waits for the server's end."""
    main = threading.main_thread().ident
    assert main is not None
    line = ""
    while ".get()" not in line and ".join()" not in line:
        frame = sys._current_frames()[main]  # noqa: SLF001 - what shows where a thread is
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    os.kill(os.getpid(), signal.SIGINT)


def test_what_is_interrupted_while_it_stops_gives_its_files_away_only_when_nobody_is_answered_any_more():
    core = Waiting()
    interrupting = threading.Thread(target=interrupt_in_stop)
    served = running([Mount("", core, BodyLimits(0))], "127.0.0.1:0")
    with contextlib.ExitStack() as stack, pytest.raises(KeyboardInterrupt), served as address:  # noqa: PT012 - it is the server's end that raises
        stack.enter_context(asking(core, address))
        interrupting.start()
    interrupting.join()
    assert [frame for number, frame in sys._current_frames().items() if number in core.threads] == []  # noqa: SLF001 - see above


@pytest.mark.slow
def test_a_request_that_is_cut_off_at_the_end_is_counted_and_no_traceback(caplog):
    core = Waiting()
    with contextlib.ExitStack() as stack, running([Mount("", core, BodyLimits(0))], "127.0.0.1:0") as address:
        stack.enter_context(asking(core, address))
    assert core.asked.is_set()
    [record] = caplog.records
    assert record.exc_info is None
    assert "1 running task" in record.getMessage()
