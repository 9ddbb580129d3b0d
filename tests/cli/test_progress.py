"""What takes long says how far it is; what is fast says nothing."""

from __future__ import annotations

import sys
import time

import pytest

from sigkit.cli.output import Output
from sigkit.cli.progress import LayerProgress
from sigkit.digest import Digest

LAYER, OTHER = Digest.of(b"a layer"), Digest.of(b"another")


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def watched(clock, seconds: float, *silent: str) -> LayerProgress:
    output = Output()
    for name in silent:
        setattr(output, name, True)
    progress = LayerProgress(output, "copying")
    progress.advance(OTHER, 5, 5)  # was there before
    progress.advance(LAYER, 0, 2048)
    clock[0] += seconds
    progress.advance(LAYER, 1024, 2048)
    progress.advance(LAYER, 2048, 2048)
    return progress


@pytest.mark.parametrize(("seconds", "told"), [(0.1, ""), (2.0, f"layer {str(LAYER)[:19]}  2.0 KiB\n")])
def test_in_a_log_each_layer_of_a_slow_copy_has_a_line(clock, capsys, seconds, told):
    watched(clock, seconds).close()
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("silent", ["quiet", "json"])
def test_nothing_is_said_where_nobody_reads_it(clock, capsys, silent):
    watched(clock, 2.0, silent).close()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_slow_copy_has_a_bar_that_is_removed(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    watched(clock, 0.1).close()
    assert capsys.readouterr().err == ""
    progress = watched(clock, 2.0)
    progress.close()
    said = capsys.readouterr().err
    assert "copying [============            ] 1.0 KiB of 2.0 KiB, 1/2 layers" in said
    assert said.endswith("\r\x1b[K")
