"""How many elements of a threshold are met by distinct signers. Pure.

Two patterns can fit one identity: then one signature must not count for both, and which of the two it counts for must not depend on the
order of anything. So each element is given a signer of its own, as many elements as can be: a maximum matching.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias, assert_never

from sigkit.policy.model import takes_several
from sigkit.verify.facts import IdentitySigner, KeySigner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigkit.policy.decision import Met
    from sigkit.policy.model import Requirement
    from sigkit.verify.facts import Signer

SignerId: TypeAlias = tuple[str, ...]


def signer_id(signer: Signer) -> SignerId:
    """Return what makes a signer one: the key, or issuer and subject, whatever the certificates (cases.md C21)."""
    match signer:
        case KeySigner(key):
            return "key", str(key)
        case IdentitySigner(issuer, subject):
            return "identity", issuer, subject
        case _:
            assert_never(signer)


def count_distinct(met: Sequence[tuple[Requirement, Met]]) -> int:
    """Return how many of these elements can be met at once, each by a signer of its own.

    An element that takes several signers is of keys alone, and these stand in no other element (held at load): it takes nobody's.
    """
    offers: list[list[SignerId]] = []
    for index, (require, child) in enumerate(met):
        alone: list[SignerId] = [("element", str(index))]
        offers.append(alone if takes_several(require) else [signer_id(signer) for signer in child.by])
    taken: dict[SignerId, int] = {}
    return sum(_place_element(index, offers, taken) for index in range(len(offers)))


def _place_element(first: int, offers: list[list[SignerId]], taken: dict[SignerId, int]) -> bool:
    """Give one more element a signer, moving others to signers that are free (an augmenting path, breadth first)."""
    came_from: dict[SignerId, tuple[int, SignerId | None]] = {}
    todo: deque[tuple[int, SignerId | None]] = deque([(first, None)])
    while todo:
        element, through = todo.popleft()
        for signer in offers[element]:
            if signer in came_from:
                continue
            came_from[signer] = (element, through)
            if signer in taken:
                todo.append((taken[signer], signer))
                continue
            step: SignerId | None = signer
            while step is not None:
                owner, before = came_from[step]
                taken[step] = owner
                step = before
            return True
    return False
