"""Entries that real logs wrote: known leaves, and proof, checkpoint and promise that hold for them and for nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from sigkit import limits
from sigkit.errors import BadInclusionProof, BadPromise, CheckpointNotSigned, MalformedCheckpoint, Place
from sigkit.evidence.bundle import parse_bundle
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.entry import LogEntry
from sigkit.tlog.entry_v1 import Over, parse_body, verify_promise
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.trust.bundled import load_public_good
from sigkit.trust.trusted_root import parse_trusted_root

PLACE = Place("bundle")
# The first eight bytes of the hash of each leaf, and what the digest in a body of the first generation is of.
V1 = {
    "happy-path-v0.1": ("86407f5cc9c6f0d1", Over.ARTIFACT),
    "happy-path-v0.3": ("aee3c920bb1132e9", Over.ARTIFACT),
    "happy-path-intoto-in-dsse-v3": ("875d33538d49eb9b", Over.PAYLOAD),
    "intoto-with-custom-trust-root": ("a5ce3689e72e8d53", Over.PAYLOAD),
    "managed-key-happy-path": ("251d7335e207fb69", Over.ARTIFACT),
}
V2 = {
    "rekor2-happy-path": "78470eff2921878c",
    "rekor2-dsse-happy-path": "fe40655a0f968947",
    "bundle-with-sct-with-extensions": "77063a9d60402d55",
}


@pytest.fixture
def case(vectors):
    def read(name):
        folder = vectors / "sigstore-conformance/test/assets/bundle-verify" / name
        (entry,) = parse_bundle((folder / "bundle.sigstore.json").read_bytes(), limits.DEFAULT, PLACE).entries
        file = folder / "trusted_root.json"
        root = parse_trusted_root(file.read_bytes(), "case", PLACE, limits.DEFAULT) if file.is_file() else load_public_good()
        (log,) = [log for log in root.logs if log.log_id == entry.log_id]
        return entry, log

    return read


def prove(proof, leaf):
    verify_inclusion(leaf, proof.index, proof.size, proof.hashes, proof.root, PLACE)


@pytest.mark.parametrize("name", [*V1, *V2])
def test_the_leaf_is_the_known_one_and_is_proved(name, case):
    entry, _ = case(name)
    leaf = leaf_hash(entry.body)
    known = (V1 | V2)[name]
    assert leaf.hex()[:16] == (known if isinstance(known, str) else known[0])
    prove(entry.proof, leaf)
    with pytest.raises(BadInclusionProof):
        prove(entry.proof, leaf_hash(entry.body + b" "))


def test_a_tree_of_one_leaf_has_the_leaf_as_its_root(case):
    entry, _ = case("intoto-with-custom-trust-root")
    assert (entry.proof.size, entry.proof.hashes, entry.proof.root) == (1, (), leaf_hash(entry.body))


@pytest.mark.parametrize("name", V1)
def test_a_promise_holds_for_its_entry_and_for_no_other_index(name, case):
    entry, log = case(name)
    assert verify_promise(entry, log.key, PLACE) == datetime.fromtimestamp(entry.integrated_time, UTC)
    other = LogEntry(
        entry.index + 1, entry.log_id, entry.kind, entry.version, entry.integrated_time, entry.promise, entry.proof, entry.body
    )
    with pytest.raises(BadPromise):
        verify_promise(other, log.key, PLACE)


@pytest.mark.parametrize("name", V1)
def test_a_body_says_what_was_signed(name, case):
    entry, _ = case(name)
    said = parse_body(entry, PLACE, limits.DEFAULT)
    assert said.over is V1[name][1]
    (by,) = said.signatures
    assert by.verifier.startswith(b"-----BEGIN ")


@pytest.mark.parametrize("name", [*V1, *V2])
def test_a_checkpoint_is_of_the_tree_of_the_proof_and_of_no_other(name, case):
    entry, log = case(name)
    origin = log.origin if name in V2 else None
    log_id = log.checkpoint_key_id or log.log_id
    signed = verify_checkpoint(entry.proof.checkpoint, log.key, log_id, origin, PLACE)
    assert (signed.checkpoint.size, signed.checkpoint.root) == (entry.proof.size, entry.proof.root)
    # The size is changed, its signatures are not.
    other = re.sub(r"\n(\d+)\n", lambda size: f"\n{int(size[1]) + 1}\n", entry.proof.checkpoint, count=1)
    with pytest.raises(CheckpointNotSigned):
        verify_checkpoint(other, log.key, log_id, origin, PLACE)
    for junk in (entry.proof.checkpoint + "junk\n", entry.proof.checkpoint.removesuffix("\n")):
        with pytest.raises(MalformedCheckpoint):
            verify_checkpoint(junk, log.key, log_id, origin, PLACE)
