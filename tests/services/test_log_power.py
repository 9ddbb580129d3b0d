"""Whatever the log answered outlasts a power cut, also where a process before was killed or met a failing disk."""

from __future__ import annotations

import contextlib
import errno
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from sigkit.errors import LogHalted
from sigkit.keys.private import generate
from sigkit.services.log.store import TileLog
from tests.simulators.power import Disk, Killed
from tests.simulators.trusting import FixedClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sigkit.services.log.batch import Appended

ORIGIN: Final = "log.example"
KEY: Final = generate("ed25519")
BATCHES: Final = 4
BATCH: Final = 130  # two of them become a whole tile
STEPS: Final = 50  # more than they take


@pytest.fixture
def root(tmp_path) -> Path:
    made: Path = tmp_path / "log"
    TileLog.create(made, ORIGIN, KEY, FixedClock(datetime.now(UTC)))
    return made


@pytest.fixture
def disk(root, monkeypatch) -> Iterator[Disk]:
    with contextlib.closing(Disk(root, monkeypatch)) as watched:
        yield watched


def append(root: Path, answers: list[tuple[bytes, Appended]], batches: int = BATCHES) -> None:
    """Append some batches, and keep each answer."""
    with TileLog.open(root, KEY, filed_at=200) as log:
        for number in range(batches):
            leaves = [f"entry {number * BATCH + at}".encode() for at in range(BATCH)]
            answers += zip(leaves, log.append_many(leaves), strict=True)


def check(root: Path, answers: list[tuple[bytes, Appended]]) -> None:
    """Open what the power cut left, and hold the log to all that it answered: the entry where it was, in a tree that grew from that one."""
    (root / "index.sqlite").unlink(missing_ok=True)  # it is made from the entries
    with TileLog.open(root, KEY, filed_at=200) as log:
        log.check()
        for leaf, answer in answers:
            assert log.find(answer.index) == leaf
        by_size = {answer.size: answer.root for _, answer in answers}
        again = log.append_many([b"another"])[0]
        assert by_size.setdefault(again.size, again.root) == again.root


def test_the_kills_below_reach_every_step(root, disk):
    append(root, [])
    assert 24 < disk.steps < STEPS


@pytest.mark.attack("power cut")
@pytest.mark.parametrize("batches", [0, 1, BATCHES], ids=["nothing is appended again", "one batch is", "all are"])
@pytest.mark.parametrize("killed_at", [*range(1, 24), *(pytest.param(at, marks=pytest.mark.slow) for at in range(24, STEPS))])
def test_what_was_answered_outlasts_a_kill_at_any_step_and_then_a_power_cut(root, disk, killed_at, batches):
    answers: list[tuple[bytes, Appended]] = []
    disk.kill_at = killed_at
    with contextlib.suppress(Killed):
        append(root, answers)
    disk.kill_at = 0
    append(root, answers, batches)
    disk.cut()
    check(root, answers)


@pytest.mark.attack("power cut")
def test_what_was_answered_after_a_failed_sync_and_a_restart_outlasts_a_power_cut(root, disk, monkeypatch):
    answers: list[tuple[bytes, Appended]] = []

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", fail)
        with pytest.raises(LogHalted):
            append(root, answers)
    append(root, answers, 1)
    disk.cut()
    check(root, answers)
