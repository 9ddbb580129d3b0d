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


def watched(clock, seconds: float, *silent: str, size: int = 2048) -> LayerProgress:
    output = Output()
    for name in silent:
        setattr(output, name, True)
    progress = LayerProgress(output, "copying")
    progress.advance(OTHER, 5, 5)  # was there before
    progress.advance(LAYER, 0, size)
    clock[0] += seconds
    progress.advance(LAYER, size // 2, size)
    progress.advance(LAYER, size, size)
    return progress


@pytest.mark.parametrize(("size", "told"), [(2048, ""), (16 << 20, f"layer {str(LAYER)[:19]}  16.0 MiB\n")])
def test_in_a_log_each_large_layer_has_a_line_however_long_it_took(clock, capsys, size, told):
    for seconds in (0.1, 2.0):
        watched(clock, seconds, size=size).close()
        assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("silent", ["quiet", "json"])
def test_nothing_is_said_where_nobody_reads_it(clock, capsys, silent):
    watched(clock, 2.0, silent, size=16 << 20).close()
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
