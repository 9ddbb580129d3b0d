"""A power cut, for what one process keeps in a directory: of all that was written only what was synced is left.

This is stricter than any disk: a file has the content of its last sync, a directory the names of its last sync, and nothing else reached
either in the meantime. Syncs of Python are seen; what SQLite syncs is not, so no database survives. The process can be killed before each
step: a sync, or what gives a name or takes one away.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

P = ParamSpec("P")


class Killed(BaseException):
    """The process ends here, and runs none of its own code any more but to close files."""


class Disk:
    """What is durable below a directory."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take all that is there as durable, and watch from now on."""
        self._root = root
        self._files: dict[int, bytes] = {}
        self._directories: dict[int, dict[str, tuple[int, bool]]] = {}
        self._held: list[int] = []  # so that no number of a file is given to another
        self.steps = 0
        self.kill_at = 0
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._counted(self._keep))  # nothing waits for the real disk
        for name in ("rename", "link", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        for directory, _, names in os.walk(root):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                descriptor = os.open(path, os.O_RDONLY)
                self._keep(descriptor)
                os.close(descriptor)

    def _counted(self, step: Callable[P, None]) -> Callable[P, None]:
        def counted(*arguments: P.args, **options: P.kwargs) -> None:
            if self.steps + 1 == self.kill_at:
                raise Killed  # and again at each later step: what it would tidy up it does not
            self.steps += 1
            step(*arguments, **options)

        return counted

    def _keep(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(descriptor) as found:
                self._directories[status.st_ino] = {entry.name: (entry.inode(), entry.is_dir()) for entry in found}
        else:
            self._files[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def cut(self) -> None:
        """Leave what was synced."""
        number = self._root.stat().st_ino
        shutil.rmtree(self._root)
        self._root.mkdir()
        self._restore(number, self._root)

    def _restore(self, number: int, path: Path) -> None:
        for name, (inode, is_directory) in self._directories.get(number, {}).items():
            if is_directory:
                (path / name).mkdir()
                self._restore(inode, path / name)
            else:
                (path / name).write_bytes(self._files.get(inode, b""))

    def close(self) -> None:
        """Let go of the files."""
        while self._held:
            os.close(self._held.pop())
