"""The packages that only a server needs, and what to say where one is missing."""

from __future__ import annotations

import importlib
import shlex
import sys
from typing import TYPE_CHECKING, Final

from sigkit.errors import MissingExtra

if TYPE_CHECKING:
    from sigkit.errors import Place

# As pyproject.toml has them in the extra `serve`, which a test compares.
REQUIREMENTS: Final = ("PyJWT>=2.12", "httptools>=0.6.4", "uvicorn>=0.32", "uvloop>=0.21")
# What they are imported as, and what needs them.
TOKENS: Final = ("jwt",)
SERVER: Final = ("httptools", "uvicorn", "uvloop")


def need_extra(place: Place, *modules: str) -> None:
    """Raise unless these modules can be imported.

    Raises:
        MissingExtra: (UNAVAIL) one cannot. The remedy names the packages themselves: `sigkit[serve]` would be taken from the package index,
            where that name is another program's.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as err:
            command = shlex.join([sys.executable, "-m", "pip", "install", *REQUIREMENTS])
            raise MissingExtra(f"this needs {name}, which is not installed", place=place, remedy=command) from err
