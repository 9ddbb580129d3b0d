"""Proofs made from the nodes of a tree, and the check that one tree is the beginning of another.

A node is the hash of a whole subtree: `node(height, number)` is MTH of the leaves number * 2**height up to, not including,
(number + 1) * 2**height. A tree has such nodes only, and what is left at its right edge is put together here.

Source: RFC 6962 section 2.1; RFC 9162 sections 2.1.3 and 2.1.4.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sigkit.errors import BadConsistencyProof, Place
from sigkit.strict import INT64_MAX
from sigkit.tlog.merkle import HASH_BYTES, node_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Nodes: TypeAlias = Callable[[int, int], bytes]

EMPTY_ROOT = hashlib.sha256(b"").digest()


def root_of(size: int, node: Nodes) -> bytes:
    """Return the root hash of the tree's first `size` leaves."""
    return range_root(0, size, node) if size else EMPTY_ROOT


def range_root(start: int, end: int, node: Nodes) -> bytes:
    """Return the hash over the leaves from `start` up to `end`, where a subtree of that size begins at `start`."""
    # From the right: the parts are whole subtrees, the largest first, and each is joined to all that is right of it.
    root: bytes | None = None
    while end > start:
        part = (end - start) & -(end - start)
        height = part.bit_length() - 1
        whole = node(height, (end >> height) - 1)
        root = whole if root is None else node_hash(whole, root)
        end -= part
    if root is None:
        raise ValueError("no leaves")
    return root


def prove_inclusion(index: int, size: int, node: Nodes) -> tuple[bytes, ...]:
    """Return the hashes that prove the leaf at `index` in the tree's first `size` leaves, leaf level first.

    Source: RFC 9162 section 2.1.3.1.
    """
    hashes = []
    height = 0
    while (1 << height) < size:
        sibling = (index >> height) ^ 1
        start, end = sibling << height, (sibling + 1) << height
        if end <= size:
            hashes.append(node(height, sibling))
        elif start < size:
            hashes.append(range_root(start, size, node))
        height += 1
    return tuple(hashes)


def prove_consistency(old: int, new: int, node: Nodes) -> tuple[bytes, ...]:
    """Return the hashes that prove the tree's first `old` leaves to be the beginning of its first `new`.

    Source: RFC 9162 section 2.1.4.1.
    """
    if not 0 < old < new:
        return ()
    height = (old & -old).bit_length() - 1
    number = (old >> height) - 1  # the last whole subtree of the old tree: where the two trees' paths part
    hashes = [] if number == 0 else [node(height, number)]
    while (1 << height) < new:
        sibling = number ^ 1
        start, end = sibling << height, (sibling + 1) << height
        if end <= new:
            hashes.append(node(height, sibling))
        elif start < new:
            hashes.append(range_root(start, new, node))
        number >>= 1
        height += 1
    return tuple(hashes)


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, hashes: Sequence[bytes], place: Place) -> None:
    """Prove that the tree of `new` leaves begins with the whole tree of `old` leaves.

    An empty tree is the beginning of every tree, and proves nothing about it.

    Raises:
        BadConsistencyProof: (TLOG) it does not, or the proof has another length than the sizes fix; the length is checked first.

    Source: RFC 9162 section 2.1.4.2.
    """
    if not 0 <= old <= new <= INT64_MAX:
        raise BadConsistencyProof("the tree is smaller than the one before", place=place, expected=f"{old} leaves or more", got=str(new))
    wanted = _consistency_hashes(old, new)
    if len(hashes) != wanted or any(len(item) != HASH_BYTES for item in (old_root, new_root, *hashes)):
        raise BadConsistencyProof("a wrong number of hashes", place=place, expected=f"{wanted} of {HASH_BYTES} bytes", got=str(len(hashes)))
    implied_old, implied_new = _implied(old, old_root, new, hashes) if old else (EMPTY_ROOT, new_root)
    if old == new:
        implied_new = old_root
    if implied_old != old_root or implied_new != new_root:
        which, want, got = ("older", old_root, implied_old) if implied_old != old_root else ("newer", new_root, implied_new)
        raise BadConsistencyProof(f"the proof leads to another {which} root hash", place=place, expected=want.hex(), got=got.hex())


def _consistency_hashes(old: int, new: int) -> int:
    if not 0 < old < new:
        return 0
    shift = (old & -old).bit_length() - 1
    first = (old >> shift) - 1
    inner = (first ^ ((new - 1) >> shift)).bit_length()
    # As many as a proof of inclusion for that subtree has, and the subtree's own hash, which the old root gives when it is all of it.
    return inner + (first >> inner).bit_count() + (1 if first else 0)


def _implied(old: int, old_root: bytes, new: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes]:
    rest = list(hashes)
    if old & (old - 1) == 0:
        rest.insert(0, old_root)
    first, last = old - 1, new - 1
    while first & 1:
        first >>= 1
        last >>= 1
    if not rest:
        return old_root, old_root
    left = right = rest[0]
    for item in rest[1:]:
        if first & 1 or first == last:
            left, right = node_hash(item, left), node_hash(item, right)
            while first and not first & 1:
                first >>= 1
                last >>= 1
        else:
            right = node_hash(right, item)
        first >>= 1
        last >>= 1
    return left, right
