"""A value with some fields changed, for tests that need a liar: the product has no way to make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from sigkit.data import Data

D = TypeVar("D", bound="Data")


def altered(value: D, **changes: Any) -> D:
    """Return a new value of the same type, with these fields and otherwise those of `value`."""
    fields = {name: getattr(value, name) for name in type(value).__match_args__}
    return type(value)(**fields | changes)
