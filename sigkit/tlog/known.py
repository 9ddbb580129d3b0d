"""A log that is trusted, and what its entries and checkpoints prove when they are read from the log itself.

Source: C2SP tlog-checkpoint.md; RFC 6962 section 2.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.errors import CheckpointMismatch, IndexNotProved
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.entry_v1 import verify_promise
from sigkit.tlog.merkle import leaf_hash, verify_inclusion

if TYPE_CHECKING:
    from datetime import datetime

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.tlog.checkpoint import Checkpoint
    from sigkit.tlog.entry import LogEntry


class KnownLog(Data):
    """A log by its key. `origin` is the first line of its checkpoints; None for one of the first generation, where it has a number.

    `name` is what the caller calls a log without an origin, if it has a name for it. The log may write another one: Rekor of the first
    generation writes the name of the machine that it runs on, unless it was told one.
    """

    key: PublicKey
    log_id: bytes
    origin: str | None
    name: str = ""


class ProvedEntry(Data):
    """What was proved of an entry: the tree that holds it, and the time that the log promised it at, if it did."""

    checkpoint: Checkpoint
    note: str
    promised: datetime | None


def of_first_generation(log: KnownLog) -> KnownLog:
    """Return a log as one whose checkpoints have the number of a tree, or as it is where it cannot be one.

    Rekor of the first generation goes by the fingerprint of its key, of whatever kind that is. A log that goes by another id, as one of the
    second with an Ed25519 key does, keeps its origin: what answers in its place under a number, or another name, is refused.

    Source: sigstore/rekor pkg/util/signed_note.go; C2SP signed-note.md "Signatures".
    """
    if log.log_id[:4] != log.key.fingerprint.value[:4]:
        return log
    return KnownLog(log.key, log.log_id, None, log.origin or "")


def verify_head(note: str, log: KnownLog, place: Place) -> Checkpoint:
    """Prove that the log signed a checkpoint.

    Raises:
        MalformedCheckpoint, CheckpointNotSigned: (TLOG) it did not.
    """
    return verify_checkpoint(note, log.key, log.log_id, log.origin, place).checkpoint


def prove_entry(entry: LogEntry, log: KnownLog, place: Place) -> ProvedEntry:
    """Prove that the log holds an entry: its body, at its place, in a tree that the log signed, and that this place has the entry's index.

    Raises:
        CheckpointMismatch: (TLOG) there is no proof, or the checkpoint is of another tree.
        IndexNotProved: (TLOG) the entry's index is not its place in that tree, and the log did not promise it.
        BadInclusionProof, MalformedCheckpoint, CheckpointNotSigned, BadPromise: (TLOG).
    """
    proof = entry.proof
    if proof is None:
        raise CheckpointMismatch("the log gave no proof of the entry", place=place, expected="a proof and a checkpoint")
    checkpoint = verify_head(proof.checkpoint, log, place)
    if (checkpoint.size, checkpoint.root) != (proof.size, proof.root):
        raise CheckpointMismatch("the checkpoint is of another tree", place=place, expected=str(proof.size), got=str(checkpoint.size))
    verify_inclusion(leaf_hash(entry.body), proof.index, proof.size, proof.hashes, proof.root, place)
    if entry.promise is not None:
        return ProvedEntry(checkpoint, proof.checkpoint, verify_promise(entry, log.key, place))
    if log.origin is None or entry.index != proof.index:  # a log without a name of its own has several trees
        raise IndexNotProved(
            "the log holds this entry, but does not promise that it has this index",
            place=place,
            expected=f"the log's promise of {entry.index}",
            got=f"leaf {proof.index} of {checkpoint.origin[:200]}",
        )
    return ProvedEntry(checkpoint, proof.checkpoint, None)
