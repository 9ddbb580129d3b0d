"""Proofs of every small tree, against a tree that is built the plain way, and every bit of what proves something."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import BadConsistencyProof, BadInclusionProof, CheckpointNotSigned, MalformedCheckpoint, MalformedTile, Place, TlogError
from sigkit.keys.private import generate
from sigkit.services.log.tree import Tree
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.tlog.note import ED25519_TYPE, encode_line, key_id_of
from sigkit.tlog.proof import prove_consistency, prove_inclusion, root_of, verify_consistency
from sigkit.tlog.tile import TileNodes, encode_entries, parse_entries

PLACE = Place("proof")
MOST = 64
LEAVES = [leaf_hash(b"leaf %d" % number) for number in range(MOST)]


def naive_root(leaves):
    """RFC 6962 section 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def naive_path(index, leaves):
    """RFC 6962 section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*naive_path(index, leaves[:split]), naive_root(leaves[split:])]
    return [*naive_path(index - split, leaves[split:]), naive_root(leaves[:split])]


def naive_subproof(old, leaves, known):
    """RFC 6962 section 2.1.2, word for word."""
    if old == len(leaves):
        return [] if known else [naive_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return [*naive_subproof(old, leaves[:split], known), naive_root(leaves[split:])]
    return [*naive_subproof(old - split, leaves[split:], known=False), naive_root(leaves[:split])]


def tree(size):
    grown = Tree((), lambda _: ())
    grown.extend(LEAVES[:size])
    return grown


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_proofs_of_every_small_tree_are_the_specifications(size):
    node = tree(size).node
    leaves = LEAVES[:size]
    root = naive_root(leaves)
    assert root_of(size, node) == root
    for index, leaf in enumerate(leaves):
        proof = prove_inclusion(index, size, node)
        assert list(proof) == naive_path(index, leaves)
        verify_inclusion(leaf, index, size, proof, root, PLACE)
    for old in range(1, size):
        grown = prove_consistency(old, size, node)
        assert list(grown) == naive_subproof(old, leaves, known=True)
        verify_consistency(old, naive_root(leaves[:old]), size, root, grown, PLACE)


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_a_tree_holds_the_proofs_of_all_its_beginnings(size):
    node = tree(MOST).node
    leaves = LEAVES[:size]
    assert root_of(size, node) == naive_root(leaves)
    for index in range(size):
        assert list(prove_inclusion(index, size, node)) == naive_path(index, leaves)


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_a_proof_of_growth_holds_for_no_other_sizes_and_roots(size):
    leaves = LEAVES[:size]
    root = naive_root(leaves)
    for old in range(1, size):
        proof = naive_subproof(old, leaves, known=True)
        for other, other_root in ((old - 1, naive_root(leaves[: old - 1]) if old > 1 else root), (old + 1, root), (old, root)):
            if other:
                with pytest.raises(BadConsistencyProof):
                    verify_consistency(other, other_root, size, root, proof, PLACE)
        with pytest.raises(BadConsistencyProof):
            verify_consistency(size, root, old, naive_root(leaves[:old]), proof, PLACE)


def flips(raw):
    for at in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[at // 8] ^= 1 << at % 8
        yield bytes(flipped)


sizes = st.integers(2, MOST)


@given(sizes, st.data())
def test_any_flipped_bit_in_a_proof_of_inclusion_is_refused(size, data):
    index = data.draw(st.integers(0, size - 1))
    node = tree(size).node
    proof, root = prove_inclusion(index, size, node), root_of(size, node)
    at = data.draw(st.integers(0, len(proof) - 1))
    for flipped in flips(proof[at]):
        with pytest.raises(BadInclusionProof):
            verify_inclusion(LEAVES[index], index, size, (*proof[:at], flipped, *proof[at + 1 :]), root, PLACE)


@given(sizes, st.data())
def test_any_flipped_bit_in_a_proof_of_growth_is_refused(size, data):
    old = data.draw(st.integers(1, size - 1))
    node = tree(size).node
    proof, root, old_root = prove_consistency(old, size, node), root_of(size, node), root_of(old, node)
    at = data.draw(st.integers(0, len(proof) - 1))
    for flipped in flips(proof[at]):
        with pytest.raises(BadConsistencyProof):
            verify_consistency(old, old_root, size, root, (*proof[:at], flipped, *proof[at + 1 :]), PLACE)


@given(st.binary(min_size=1, max_size=60))
def test_any_flipped_bit_in_an_entry_is_refused(entry):
    leaves = [leaf_hash(entry), *LEAVES[:6]]
    for flipped in flips(entry):
        with pytest.raises(BadInclusionProof):
            verify_inclusion(leaf_hash(flipped), 0, 7, naive_path(0, leaves), naive_root(leaves), PLACE)


KEY = generate("ed25519")
ORIGIN = "log.example"
LOG_ID = key_id_of(ORIGIN, ED25519_TYPE, KEY.public.spki[-32:])


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.data())
def test_any_flipped_bit_in_a_checkpoint_is_refused(size, root, data):
    from sigkit.strict import encode_base64

    text = f"{ORIGIN}\n{size}\n{encode_base64(root)}\n"
    raw = f"{text}\n{encode_line(ORIGIN, LOG_ID, KEY.sign(text.encode()))}".encode()
    at = data.draw(st.integers(0, len(raw) - 1))
    verify_checkpoint(raw.decode(), KEY.public, LOG_ID, ORIGIN, PLACE)
    for flipped in list(flips(raw))[at * 8 : at * 8 + 8]:
        try:
            note = flipped.decode()
        except UnicodeDecodeError:
            continue
        with pytest.raises((CheckpointNotSigned, MalformedCheckpoint)):
            verify_checkpoint(note, KEY.public, LOG_ID, ORIGIN, PLACE)


WIDE = [leaf_hash(b"%d" % number) for number in range(700)]
WIDE_ROWS = [WIDE, [naive_root(WIDE[:256]), naive_root(WIDE[256:512])]]


def wide_tile(tile):
    return b"".join(WIDE_ROWS[tile.level][tile.number * 256 :][: tile.width])


@given(st.integers(0, 699), st.data())
def test_any_flipped_bit_in_a_tile_that_proves_something_is_refused(index, data):
    read = []

    def fetch(tile):
        read.append(tile)
        return wide_tile(tile)

    root = naive_root(WIDE)
    nodes = TileNodes(700, fetch, PLACE)
    verify_inclusion(WIDE[index], index, 700, prove_inclusion(index, 700, nodes), root, PLACE)
    altered = data.draw(st.sampled_from(read))
    bit = data.draw(st.integers(0, altered.width * 256 - 1))

    def fetch_altered(tile):
        raw = bytearray(wide_tile(tile))
        if tile == altered:
            raw[bit // 8] ^= 1 << bit % 8
        return bytes(raw)

    # The whole tree is read from the tiles: any bit of any tile changes its root hash, which a client compares before it believes a node.
    whole = TileNodes(700, fetch_altered, PLACE)
    hashes = [whole(0, number) for number in range(700)]
    bad_above = [whole(8, number) for number in range(2)] != WIDE_ROWS[1]
    assert naive_root(hashes) != root or bad_above
    try:
        proof = prove_inclusion(index, 700, TileNodes(700, fetch_altered, PLACE))
        verify_inclusion(WIDE[index], index, 700, proof, root, PLACE)
    except TlogError:
        return
    assert proof == prove_inclusion(index, 700, TileNodes(700, wide_tile, PLACE)), "altered hashes took part and were not noticed"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_of_entries_is_read_as_it_was_written(leaves):
    assert list(parse_entries(encode_entries(leaves), len(leaves), PLACE)) == leaves


@given(st.binary(max_size=600), st.integers(1, 256))
def test_anything_else_is_refused_or_is_a_bundle(raw, width):
    try:
        leaves = parse_entries(raw, width, PLACE)
    except MalformedTile:
        return
    assert encode_entries(leaves) == raw


@given(st.integers(0, 3_000), st.integers(0, 3))
def test_a_tree_that_is_cut_back_and_grows_again_is_the_same(size, back):
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    grown = Tree((), lambda _: ())
    grown.extend(leaves)
    grown.truncate(size - min(back, size))
    grown.extend(leaves[size - min(back, size) :])
    if size:
        assert root_of(size, grown.node) == naive_root(leaves)
