"""Tiles: names, forms, and the nodes that are read from them."""

from __future__ import annotations

import hashlib

import pytest

from sigkit.errors import MalformedTile, Place
from sigkit.tlog.merkle import leaf_hash
from sigkit.tlog.proof import root_of
from sigkit.tlog.tile import ENTRIES, Tile, TileNodes, count_at, encode_entries, parse_entries, parse_tile_path, split_hashes, tile_at

PLACE = Place("log")


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "tile/0/000"),
        (Tile(0, 273, 112), "tile/0/273.p/112"),
        (Tile(1, 1, 17), "tile/1/001.p/17"),
        (Tile(2, 1_234_067, 256), "tile/2/x001/x234/067"),
        (Tile(ENTRIES, 1_000, 1), "tile/entries/x001/000.p/1"),
        (Tile(63, 0, 255), "tile/63/000.p/255"),
    ],
)
def test_a_tile_has_the_path_that_the_specification_gives_it(tile, path):
    assert tile.path == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/001",
        "tile/0/001/067",
        "tile/0/x001/67",
        "tile/entries/../../journal",
        "tile/0/000\n",
        "/tile/0/000",
        "tile/-1/000",
        "tile/0/\u0660\u0660\u0660",
    ],
)
def test_what_is_not_written_canonically_is_no_tile(path):
    assert parse_tile_path(path) is None


def test_a_log_of_70000_leaves_serves_the_tiles_of_the_specifications_example():
    assert [count_at(level, 70_000) for level in range(4)] == [70_000, 273, 1, 0]
    assert tile_at(0, 273, 70_000) == Tile(0, 273, 112)
    assert tile_at(1, 1, 70_000) == Tile(1, 1, 17)
    assert tile_at(2, 0, 70_000) == Tile(2, 0, 1)


def test_a_bundle_of_entries_is_taken_apart_as_it_was_put_together():
    leaves = (b"", b"one", b"x" * 65_535)
    assert parse_entries(encode_entries(leaves), 3, PLACE) == leaves


@pytest.mark.parametrize("width", [1, 3])
def test_a_bundle_of_another_number_of_entries_is_refused(width):
    with pytest.raises(MalformedTile):
        parse_entries(encode_entries([b"one", b"two"]), width, PLACE)


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_bundle_that_ends_within_an_entry_is_refused(cut):
    with pytest.raises(MalformedTile):
        parse_entries(encode_entries([b"one", b"two"])[:-cut], 2, PLACE)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_tile_of_another_size_than_its_name_says_is_refused(length):
    with pytest.raises(MalformedTile):
        split_hashes(bytes(length), 1, PLACE)


def naive_root(hashes):
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + naive_root(hashes[:split]) + naive_root(hashes[split:])).digest()


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700, 65_536, 66_000])
def test_the_root_hash_is_made_from_the_tiles_of_any_size(size):
    hashes = [leaf_hash(b"%d" % number) for number in range(size)]
    rows = [hashes, [naive_root(hashes[at : at + 256]) for at in range(0, size // 256 * 256, 256)]]
    rows.append([naive_root(rows[1][at : at + 256]) for at in range(0, len(rows[1]) // 256 * 256, 256)])

    def fetch(tile):
        return b"".join(rows[tile.level][tile.number * 256 :][: tile.width])

    assert root_of(size, TileNodes(size, fetch, PLACE)) == naive_root(hashes)


def test_a_node_beyond_the_tree_is_refused():
    nodes = TileNodes(5, lambda tile: bytes(32 * tile.width), PLACE)
    for height, number in ((0, 5), (1, 2), (3, 0), (8, 0)):
        with pytest.raises(MalformedTile):
            nodes(height, number)
