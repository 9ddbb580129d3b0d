"""Samples of whole commands: wall clock, processor time and peak memory, taken in turns so that all see the same machine."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SPAWN = Path(__file__).with_name("spawn.py")


class Sample(NamedTuple):
    """One run of one command."""

    wall_ms: float
    cpu_ms: float
    peak_mib: float


class Row(NamedTuple):
    """The medians of one command's samples."""

    name: str
    wall_ms: float
    least_ms: float
    cpu_ms: float
    peak_mib: float


class Subject(NamedTuple):
    """A command to measure, and what makes each run start from the same state."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = {}
    before: Callable[[], None] = lambda: None
    cwd: str = "/"


def take(subject: Subject) -> Sample:
    """Run a command once, in a process of a small parent.

    Raises:
        RuntimeError: it did not end with 0; a failed command has no figure.
    """
    subject.before()
    program = shutil.which(subject.argv[0]) or subject.argv[0]
    ended = subprocess.run(
        [sys.executable, "-I", "-S", SPAWN, program, *subject.argv[1:]],
        capture_output=True,
        # As on a user's machine: a PYTHON… variable would make root's sigkit start twice.
        env={**{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}, **subject.env},
        cwd=subject.cwd,
        check=True,
    )
    used = json.loads(ended.stdout.splitlines()[-1])
    if used["status"] != 0:
        raise RuntimeError(f"{subject.name}: exit {used['status']}: {ended.stderr.decode(errors='replace')[-500:]}")
    return Sample(used["wall"] * 1000, used["cpu"] * 1000, used["peak"] / 1024)


def compare(subjects: Sequence[Subject], rounds: int) -> list[Row]:
    """Measure all subjects `rounds` times in turns, after one unmeasured round, and return their medians."""
    for subject in subjects:
        take(subject)
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            samples[subject.name].append(take(subject))
    return [_row(name, taken) for name, taken in samples.items()]


def _row(name: str, taken: Sequence[Sample]) -> Row:
    walls = [sample.wall_ms for sample in taken]
    return Row(
        name,
        statistics.median(walls),
        min(walls),
        statistics.median(sample.cpu_ms for sample in taken),
        max(sample.peak_mib for sample in taken),
    )


def table(title: str, rows: Sequence[Row], against: str, goal: str) -> str:
    """Write rows as a Markdown table; the last column is the multiple of the row named `against`."""
    base = next(row for row in rows if row.name == against)
    head = [
        f"### {title}",
        "",
        f"Goal: {goal}.",
        "",
        f"| what | wall ms, median (least) | CPU ms | peak MiB | ratio to {against} |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(_line(row, row.wall_ms / base.wall_ms) for row in rows), ""])


def _line(row: Row, ratio: float) -> str:
    return f"| {row.name} | {row.wall_ms:.1f} ({row.least_ms:.1f}) | {row.cpu_ms:.1f} | {row.peak_mib:.0f} | {ratio:.2f} |"
