"""A row of the table of mutants."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulators.removed import Edit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulators.sigstore import Case, Simulator


class Row(NamedTuple):
    """Evidence with one mistake, the code under which it is refused, and the edit that takes the check out.

    There is no edit where what follows could not go on: nothing is left of a certificate that cannot be read.
    """

    make: Callable[[Simulator], Case]
    code: str
    check: tuple[Edit, ...]


def drop(module: str, condition: str, *, becomes: str = "if False:") -> tuple[Edit, ...]:
    return (Edit(module, condition, becomes),)


def without(module: str, statement: str) -> tuple[Edit, ...]:
    return (Edit(module, statement, "pass"),)
