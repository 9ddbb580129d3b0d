"""Each runtime dependency is argued in one line of docs/dependencies.md, and pinned for continuous integration."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]


def wanted() -> set[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return {canonicalize_name(Requirement(line).name) for line in [*project["dependencies"], *extras]}


def test_every_runtime_dependency_is_argued_and_nothing_else_is():
    rows = re.findall(r"^\| ([\w., -]+) \|", (CHECKOUT / "docs/dependencies.md").read_text(), re.MULTILINE)
    argued = {canonicalize_name(name) for row in rows for name in row.split(", ")} - {"package"}
    assert argued == wanted()


def test_every_runtime_dependency_is_pinned():
    lines = (CHECKOUT / ".ci/requirements.txt").read_text().splitlines()
    pinned = {canonicalize_name(name) for name, equals, _ in (line.partition("==") for line in lines) if equals}
    assert wanted() <= pinned
