"""sigkit with some lines changed, imported beside the real one: does a test notice when a check is gone?"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import sigkit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

HERE = Path(sigkit.__file__).parent


class Edit(NamedTuple):
    """In this module, this text, which stands there once, becomes another."""

    module: str  # below sigkit: "verify.times"
    old: str
    new: str


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Gives the edited modules; all others are found as ever."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self.sources: dict[str, str] = {}
        for module, old, new in edits:
            name = f"sigkit.{module}"
            text = self.sources.get(name) or HERE.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{module} holds this {text.count(old)} times: {old}"
            self.sources[name] = text.replace(old, new)

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.util.spec_from_loader(fullname, self) if fullname in self.sources else None

    def get_source(self, fullname: str) -> str:
        return self.sources[fullname]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        del spec  # Python's own way to make modules is right


def _ours() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name == "sigkit" or name.startswith("sigkit.")}


@contextlib.contextmanager
def edited(*edits: Edit) -> Iterator[None]:
    """Import sigkit anew, with edits, for what imports it inside; afterwards the real one is back."""
    finder, real = _Finder(edits), _ours()
    for name in real:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in _ours():
            del sys.modules[name]
        sys.modules.update(real)
