"""One structured change to a JSON document, drawn from a seed: what differential tests ask two verifiers about."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

Path = tuple[Any, ...]


def paths_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in a document, its own first."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths_of(child, (*path, key))


def at_path(value: Any, path: Path) -> Any:
    """Return the value there.

    Raises:
        LookupError, TypeError: there is none.
    """
    for step in path:
        value = value[step]
    return value


def mutated(document: Any, donor: Any, dice: random.Random) -> Any:
    """Return a copy with one value removed, repeated, emptied, taken from another document, or changed a little; None if it cannot be."""
    changed = copy.deepcopy(document)
    path = dice.choice([path for path in paths_of(changed) if path])
    above, last = at_path(changed, path[:-1]), path[-1]
    value = above[last]
    match dice.randrange(6):
        case 0:
            del above[last]
        case 1:
            try:
                above[last] = copy.deepcopy(at_path(donor, path))
            except (LookupError, TypeError):
                return None
        case 2 if isinstance(value, str) and value:
            at = dice.randrange(len(value))
            above[last] = value[:at] + dice.choice("ABab01+/=\n ") + value[at + 1 :]
        case 3 if isinstance(value, str) and value.isdecimal():
            above[last] = str(int(value) + dice.choice((-1, 1, 10**6)))
        case 4 if isinstance(above, list):
            above.append(copy.deepcopy(value))
        case 5:
            above[last] = type(value)()
        case _:
            return None
    return changed if changed != document else None


def difference(document: Any, changed: Any) -> tuple[Path, Any]:
    """Return where two documents differ first, and what the second has there: "removed" where it has nothing, "added" where it has more."""
    for path in paths_of(document):
        try:
            there = at_path(changed, path)
        except (LookupError, TypeError):
            return path, "removed"
        here = at_path(document, path)
        if not isinstance(here, (dict, list)) and here != there:
            return path, there
    return (), "added"
