"""Attacks by logs on those who read them, and accidents inside a log."""

from __future__ import annotations

import json
import shutil

import pytest

from sigkit.cli.main import run
from sigkit.errors import BadConsistencyProof, BadInclusionProof, LogDamaged, MalformedCheckpoint, Place
from sigkit.services.log.store import TileLog
from sigkit.strict import encode_base64
from sigkit.tlog.checkpoint import parse_checkpoint
from sigkit.tlog.cosignature import COSIGNATURE_TYPE
from sigkit.tlog.merkle import leaf_hash, node_hash, verify_inclusion
from sigkit.tlog.note import encode_line
from sigkit.tlog.proof import verify_consistency
from sigkit.tlog.tile import encode_entries
from tests.simulators.log_server import KEY, LOG_KEY, ORIGIN, Now, read_file, tile_log
from tests.simulators.note_keys import encode_note_key

PLACE = Place("log")
LEAVES = [b'{"entry":%d}' % number for number in range(400)]


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGKIT_CHECKPOINTS", str(tmp_path / "seen"))


@pytest.fixture
def served(tmp_path):
    with tile_log(tmp_path / "log", LEAVES) as (log, front, url, _):
        yield log, front, url


def ask(capsys, url, *arguments):
    status = run(["log", *arguments, "--rekor-url", url, "--log-key", LOG_KEY, "--output", "json"])
    document = json.loads(capsys.readouterr().out)
    return status, document.get("error", document)


@pytest.mark.attack("CVE-2026-42501")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="empty"),
        pytest.param(encode_entries([b"unrelated"] * 256), id="unrelated"),
        pytest.param(encode_entries([b""] * 256), id="empty entries"),
        pytest.param(encode_entries([LEAVES[1]] * 256), id="another entry of the log"),
    ],
)
def test_an_answer_that_does_not_hold_the_entry_proves_nothing(served, capsys, answer):
    _, front, url = served
    front.altered("tile/entries/000", lambda _: answer)
    status, error = ask(capsys, url, "get", "1")
    assert (status, error["kind"]) == (1, "TLOG")


@pytest.mark.attack("CVE-2026-56865")
def test_a_forged_tile_under_a_genuine_checkpoint_proves_nothing(served, capsys, tmp_path):
    _, front, url = served
    with tile_log(tmp_path / "forged", [b"forged"] * 1 + LEAVES[1:]) as (other, _, _, _):
        for part in ("tile/0/000", "tile/entries/000"):
            forged = read_file(other, part)
            front.altered(part, lambda _, forged=forged: forged)
    status, error = ask(capsys, url, "get", "1")
    assert (status, error["kind"]) == (1, "TLOG")


@pytest.mark.attack("CVE-2026-56864")
def test_hashes_beyond_what_a_tiles_name_says_are_refused(served, capsys):
    _, front, url = served
    front.altered("tile/0/001.p/", lambda raw: raw + bytes(32))
    status, error = ask(capsys, url, "get", "300")
    assert (status, error["kind"]) == (1, "TLOG")


@pytest.mark.attack("CVE-2026-56864")
def test_lines_of_unknown_signers_change_nothing(served, capsys):
    _, front, url = served
    front.altered("/checkpoint", lambda raw: raw + encode_line("stranger.example", b"1234", bytes(64)).encode())
    status, document = ask(capsys, url, "get", "300")
    assert (status, document["body"]) == (0, {"entry": 299})


@pytest.mark.attack("sigstore-rust, Merkle proofs")
@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**64, -1])
def test_sizes_at_the_end_of_64_bits_are_refused_before_anything_is_hashed(size):
    with pytest.raises(BadInclusionProof):
        verify_inclusion(bytes(32), 0, size, [bytes(32)] * 63, bytes(32), PLACE)
    with pytest.raises(BadInclusionProof):
        verify_inclusion(bytes(32), size, 2**63 - 1, [bytes(32)] * 63, bytes(32), PLACE)
    with pytest.raises(BadConsistencyProof):
        verify_consistency(1, bytes(32), size, bytes(32), [bytes(32)] * 63, PLACE)
    with pytest.raises(MalformedCheckpoint):
        parse_checkpoint(f"{ORIGIN}\n{size}\n{encode_base64(bytes(32))}\n", PLACE)


@pytest.mark.attack("sigstore-rust, Merkle proofs")
@pytest.mark.parametrize("bits", [63, 64])
def test_a_tree_beyond_63_bits_is_refused_though_its_proof_leads_to_its_root_hash(bits):
    root = bytes(32)
    for _ in range(bits):
        root = node_hash(root, bytes(32))
    with pytest.raises(BadConsistencyProof):
        verify_consistency(1, bytes(32), 2**bits, root, [bytes(32)] * bits, PLACE)
    with pytest.raises(BadInclusionProof):
        verify_inclusion(bytes(32), 0, 2**bits, [bytes(32)] * bits, root, PLACE)


@pytest.mark.attack("sigstore-rust, Merkle proofs")
@pytest.mark.parametrize("hashes", [0, 61, 62, 64])
def test_a_proof_in_the_largest_tree_has_exactly_63_hashes(hashes):
    with pytest.raises(BadInclusionProof) as caught:
        verify_inclusion(bytes(32), 0, 2**63 - 1, [bytes(32)] * hashes, bytes(32), PLACE)
    assert caught.value.expected.startswith("63 ")


@pytest.mark.attack("split view")
@pytest.mark.parametrize("more", [0, 5])
def test_another_tree_than_the_one_shown_before_is_an_alarm(served, capsys, tmp_path, more):
    _, _, url = served
    assert ask(capsys, url, "checkpoint")[0] == 0
    with tile_log(tmp_path / "other", [b"another", *LEAVES[1:], *[b"more %d" % number for number in range(more)]]) as (_, _, other, _):
        for command in (["checkpoint"], ["verify", "300"]):
            status, error = ask(capsys, other, *command)
            assert (status, error["kind"]) == (1, "TLOG")
    assert ask(capsys, url, "checkpoint")[1]["seen"] == "same"


@pytest.mark.attack("split view")
def test_a_view_that_no_witness_signed_is_refused_where_one_is_asked_for(served, capsys):
    from sigkit.keys.private import generate

    _, _, url = served
    witness = encode_note_key("w.example", COSIGNATURE_TYPE, generate("ed25519").public)
    status, error = ask(capsys, url, "checkpoint", "--witness", witness)
    assert (status, error["kind"]) == (1, "TLOG")
    assert ask(capsys, url, "checkpoint")[1]["seen"] == "first", "what was refused is not remembered"


@pytest.mark.attack("rolled-back log")
def test_a_log_restored_from_an_old_copy_is_noticed_by_clients_and_by_itself(tmp_path, capsys):
    root = tmp_path / "log"
    with tile_log(root, LEAVES[:100]) as (_, _, url, _):
        pass
    shutil.copytree(root, tmp_path / "copy")
    with TileLog.open(root, KEY, filed_at=1) as log:
        log.append_many(LEAVES)
    # Only the journal is old: the log sees it by the files that lie beside it.
    shutil.copy(tmp_path / "copy" / "journal", root / "journal")
    with pytest.raises(LogDamaged), TileLog.open(root, KEY):
        pass
    # The whole directory is old, and other entries follow: whoever saw the larger tree sees it.
    del url
    shutil.rmtree(tmp_path / "copy")
    with tile_log(tmp_path / "copy", LEAVES) as (_, _, url, _):
        assert ask(capsys, url, "checkpoint")[0] == 0
    shutil.rmtree(tmp_path / "copy")
    with tile_log(tmp_path / "copy", LEAVES[:100]) as (_, _, url, _):
        status, error = ask(capsys, url, "checkpoint")
    assert (status, error["kind"]) == (1, "TLOG")


@pytest.mark.attack("Yeti 2022")
@pytest.mark.parametrize("height", [0, 1, 3])
def test_a_bit_that_flips_in_memory_is_not_signed_and_the_log_stops(tmp_path, height):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY) as log:
        log.append_many(LEAVES[:14] if height else [])
        before = log.head()
        vars(vars(log)["_tree"])["_rows"][height][-1] ^= 1
        for _ in range(2):
            with pytest.raises(LogDamaged):
                log.append_many([b"x"])
        assert log.head() == before
    with TileLog.open(root, KEY) as log:  # it was the memory alone: what is on the disk is the tree that was signed
        assert log.head() == before
        assert log.append_many([b"x"])[0].index == before.size


class Flickering(bytes):
    """An entry in which a bit flips after it was hashed into the tree: the third time that it is hashed, it is another."""

    times = 0

    def __radd__(self, before):
        self.times += 1
        return before + bytes(self) + (b"flipped" if self.times > 2 else b"")


@pytest.mark.attack("Yeti 2022")
def test_an_entry_that_is_not_the_one_that_was_hashed_is_not_signed_and_the_log_stops(tmp_path):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY) as log:
        with pytest.raises(LogDamaged):
            log.append_many([LEAVES[0], Flickering(b"x")])
        assert log.head().size == 1
        with pytest.raises(LogDamaged):
            log.append_many([b"y"])


@pytest.mark.attack("Yeti 2022")
def test_a_bit_that_flipped_on_the_disk_is_not_served_in_a_proof_and_the_log_stops(tmp_path):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY, filed_at=1) as log:
        log.append_many(LEAVES)
        flip_bit(root / "tile/0/000", 3 * 32)
        flip_bit(root / "tile/entries/000", 3 * 32)  # from which the tile could be made anew
        with pytest.raises(LogDamaged):
            log.append_many([LEAVES[1]])  # a duplicate, whose proof is made from that tile
        with pytest.raises(LogDamaged):
            log.append_many([b"x"])


@pytest.mark.attack("Yeti 2022")
def test_a_bit_that_flipped_in_a_tile_on_the_disk_is_in_no_proof_and_the_tile_is_made_anew_from_whole_entries(tmp_path):
    root = tmp_path / "log"
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY, filed_at=1) as log:
        log.append_many(LEAVES)
        whole = (root / "tile/0/000").read_bytes()
        flip_bit(root / "tile/0/000", 3 * 32)
        again = log.append_many([LEAVES[1]])[0]
        verify_inclusion(leaf_hash(LEAVES[1]), again.index, again.size, again.proof, again.root, Place("log"))
        assert (root / "tile/0/000").read_bytes() == whole


def flip_bit(path, at):
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
