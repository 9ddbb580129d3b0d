"""How far a pull, a copy, or a run through many images has come: on a terminal after half a second, removed at the end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from sigkit.text import human_size

if TYPE_CHECKING:
    from sigkit.cli.output import Output
    from sigkit.digest import Digest

QUIET_S = 0.5  # what is faster needs no bar
REDRAW_S = 0.1
BAR_CHARACTERS = 24
LARGE_BYTES = 16 << 20  # of a layer that has a line where there is no terminal: no log depends on how busy a machine is


class LayerProgress:
    """Watches the layers of one pull or copy. Called from several threads, one at a time."""

    def __init__(self, output: Output, word: str) -> None:
        self._word = word
        self._silent = output.quiet or output.json
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._drawn = False
        self._done: dict[Digest, int] = {}
        self._total: dict[Digest, int] = {}

    def advance(self, layer: Digest, done_bytes: int, total_bytes: int) -> None:
        """Take note that `done_bytes` of `total_bytes` of a layer have come."""
        # What was in the store already is reported once, as whole: that is no news.
        finished = done_bytes >= total_bytes > self._done.get(layer, total_bytes)
        self._done[layer], self._total[layer] = done_bytes, total_bytes
        if self._silent:
            return
        if self._terminal:
            self._draw()
        elif finished and total_bytes >= LARGE_BYTES:
            click.echo(f"layer {str(layer)[:19]}  {human_size(total_bytes)}", err=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._began < QUIET_S or now - self._drawn_at < REDRAW_S:
            return
        self._drawn, self._drawn_at = True, now
        done, total = sum(self._done.values()), sum(self._total.values())
        filled = BAR_CHARACTERS * done // max(total, 1)
        bar = "=" * filled + " " * (BAR_CHARACTERS - filled)
        whole = sum(self._done[layer] >= self._total[layer] for layer in self._total)
        click.echo(
            f"\r\x1b[K{self._word} [{bar}] {human_size(done)} of {human_size(total)}, {whole}/{len(self._total)} layers", err=True, nl=False
        )


class Counter:
    """Counts what is finished of many, on a terminal only: in one line, which is removed before anything else is written there."""

    def __init__(self, output: Output, word: str, total: int) -> None:
        self._word, self._total = word, total
        self._shown = sys.stderr.isatty() and not output.quiet
        self._drawn_at = time.monotonic() + QUIET_S - REDRAW_S
        self._drawn = False

    def advance(self, number: int) -> None:
        """Take note that so many are finished."""
        now = time.monotonic()
        if self._shown and now - self._drawn_at >= REDRAW_S:
            self._drawn, self._drawn_at = True, now
            click.echo(f"\r\x1b[K{self._word} {number} of {self._total}", err=True, nl=False)

    def clear(self) -> None:
        """Remove the line."""
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False
