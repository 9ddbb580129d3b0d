"""A log entry as evidence claims it: numbers and bytes of the right shape, and nothing proved.

Source: sigstore/protobuf-specs sigstore_rekor.proto.
"""

from __future__ import annotations

from sigkit.data import Data


class InclusionProof(Data):
    """The claim that a tree of `size` leaves, whose root hash is `root`, holds a leaf at `index`.

    `hashes` are the siblings, leaf level first, 32 bytes each. `checkpoint` is the signed note about that tree; "" where there is none,
    which only bundles of version 0.1 may have.
    """

    index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


class LogEntry(Data):
    """An entry of the log `log_id`.

    `index` counts over all shards of the log; the proof has its own. `integrated_time` is in seconds, 0 where there is none. `promise` is
    the signed entry timestamp. `body` is the decoded canonicalised body, b"" where the evidence leaves it out.
    """

    index: int
    log_id: bytes
    kind: str
    version: str
    integrated_time: int
    promise: bytes | None
    proof: InclusionProof | None
    body: bytes
