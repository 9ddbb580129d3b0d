"""Merkle trees of transparency logs: what a proof of inclusion implies.

`root_from_inclusion` is arithmetic; `verify_inclusion` adds the comparison with a root hash. The length of a proof is fixed by index and
size and is checked before anything is hashed.

Source: RFC 6962 section 2.1; RFC 9162 section 2.1.3.2.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sigkit.errors import BadInclusionProof, Place
from sigkit.strict import INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256 of 0x00 and `data`."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node: SHA-256 of 0x01 and its children's hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(leaf: bytes, index: int, size: int, hashes: Sequence[bytes], place: Place) -> bytes:
    """Compute the root hash that a proof implies for the leaf at `index`.

    Args:
        leaf: its hash, 32 bytes.
        index: zero-based, 0 <= index < size.
        size: leaves in the tree, at most 2**63 - 1.
        hashes: of the siblings, 32 bytes each, leaf level first.
        place: of the proof.

    Returns:
        32 bytes. Equality with a trusted root hash is the caller's proof; this alone proves nothing.

    Raises:
        BadInclusionProof: (TLOG) index outside the tree, or a wrong number or size of hashes; before any hashing.

    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size <= INT64_MAX:
        raise BadInclusionProof("the leaf lies outside the tree", place=place, expected=f"0 to {size - 1}", got=str(index))
    inner = (index ^ (size - 1)).bit_length()
    wanted = inner + (index >> inner).bit_count()
    if len(hashes) != wanted or any(len(item) != HASH_BYTES for item in (leaf, *hashes)):
        raise BadInclusionProof("a wrong number of hashes", place=place, expected=f"{wanted} of {HASH_BYTES} bytes", got=str(len(hashes)))
    root = leaf
    for level, sibling in enumerate(hashes):
        # Up to where the paths of this leaf and of the last one part, a sibling is right or left; above, all are left.
        is_right = level < inner and not (index >> level) & 1
        root = node_hash(root, sibling) if is_right else node_hash(sibling, root)
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes, place: Place) -> None:
    """Prove that the tree with this root hash holds the leaf at `index`.

    Raises:
        BadInclusionProof: (TLOG) the proof leads elsewhere, or is none.
    """
    implied = root_from_inclusion(leaf, index, size, hashes, place)
    if implied != root:
        raise BadInclusionProof("the proof leads to another root hash", place=place, expected=root.hex(), got=implied.hex())
