"""Proofs of inclusion, against a tree that is built the plain way."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import BadInclusionProof, Place
from sigkit.strict import INT64_MAX
from sigkit.tlog.merkle import leaf_hash, root_from_inclusion, verify_inclusion

PLACE = Place("proof")


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*naive_path(index, leaves[:split]), naive_root(leaves[split:])]
    return [*naive_path(index - split, leaves[split:]), naive_root(leaves[:split])]


LEAVES = [f"leaf {number}".encode() for number in range(64)]


@pytest.mark.parametrize("size", range(1, 65))
def test_every_leaf_of_every_small_tree_is_proved_and_at_no_other_index(size):
    leaves = LEAVES[:size]
    root = naive_root(leaves)
    for index, leaf in enumerate(leaves):
        path = naive_path(index, leaves)
        verify_inclusion(leaf_hash(leaf), index, size, path, root, PLACE)
        for other in range(size):
            if other != index:
                with pytest.raises(BadInclusionProof):
                    verify_inclusion(leaf_hash(leaf), other, size, path, root, PLACE)


@given(st.integers(1, 64), st.data())
def test_a_flipped_bit_anywhere_in_a_proof_is_refused(size, data):
    leaves = LEAVES[:size]
    index = data.draw(st.integers(0, size - 1))
    parts = [leaf_hash(leaves[index]), naive_root(leaves), *naive_path(index, leaves)]
    which, bit = data.draw(st.integers(0, len(parts) - 1)), data.draw(st.integers(0, 255))
    parts[which] = (int.from_bytes(parts[which], "big") ^ (1 << bit)).to_bytes(32, "big")
    with pytest.raises(BadInclusionProof):
        verify_inclusion(parts[0], index, size, parts[2:], parts[1], PLACE)


@pytest.mark.parametrize(
    ("index", "size", "count"),
    [
        pytest.param(0, 0, 0, id="an empty tree"),
        pytest.param(1, 1, 0, id="an index beyond the tree"),
        pytest.param(0, 0, 1, id="an empty tree with a hash"),
        pytest.param(1, 1, 1, id="an index that is the size, with the hashes that it would need"),
        pytest.param(4, 4, 3, id="the same of a larger tree"),
        pytest.param(-1, 4, 2, id="a negative index"),
        pytest.param(-1, 4, 4, id="a negative index, with the hashes that it would need"),
        pytest.param(0, 4, 1, id="too few hashes"),
        pytest.param(0, 4, 3, id="too many hashes"),
        pytest.param(0, INT64_MAX + 1, 63, id="a size beyond 63 bits"),
        pytest.param(INT64_MAX, 2**64 - 1, 63, id="a size of 2**64 - 1"),
    ],
)
def test_a_proof_that_cannot_be_one_is_refused_before_anything_is_hashed(index, size, count):
    with pytest.raises(BadInclusionProof):
        root_from_inclusion(bytes(32), index, size, [bytes(32)] * count, PLACE)


@pytest.mark.parametrize("hashes", [[bytes(31), bytes(32)], [bytes(32), bytes(33)], [b"", bytes(32)]])
def test_a_hash_of_another_size_is_refused(hashes):
    with pytest.raises(BadInclusionProof):
        root_from_inclusion(bytes(32), 0, 4, hashes, PLACE)


@pytest.mark.parametrize("leaf", [b"", bytes(31), bytes(33)])
def test_a_leaf_that_is_no_hash_is_refused(leaf):
    with pytest.raises(BadInclusionProof):
        root_from_inclusion(leaf, 0, 1, [], PLACE)


def test_the_largest_tree_has_a_proof():
    assert len(root_from_inclusion(bytes(32), INT64_MAX - 1, INT64_MAX, [bytes(32)] * 62, PLACE)) == 32
