"""Transparency logs in memory, of both generations, written without sigkit's own code for them."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Json = dict[str, Any]


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def compact(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def spki(key: Any) -> bytes:
    raw: bytes = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return raw


def root_hash(leaves: Sequence[bytes]) -> bytes:
    """Return RFC 6962's MTH of leaf hashes."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_hash(leaves[:split]) + root_hash(leaves[split:])).digest()


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return RFC 6962's PATH."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*proof(leaves[:split], index), root_hash(leaves[split:])]
    return [*proof(leaves[split:], index - split), root_hash(leaves[:split])]


class Clock:
    """The instance's time, which moves only when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Log:
    """What both generations share. Attributes are there to be changed: `window`, `operator`, and `change`, by the name of a step."""

    kind = ""
    details = ""

    def __init__(self, clock: Clock, host: str) -> None:
        self.clock = clock
        self.host = host
        self.operator = host
        self.window: tuple[str, str | None] = ("2020-01-01T00:00:00Z", None)
        self.leaves = [hashlib.sha256(b"\x00an earlier entry %d" % number).digest() for number in range(5)]
        self.change: dict[str, Callable[[Any], Any]] = {}

    def changed(self, step: str, value: Any) -> Any:
        return self.change[step](value) if step in self.change else value

    @property
    def log_id(self) -> bytes:
        raise NotImplementedError

    def line(self, text: str) -> str:
        """Return the log's signature line under a note."""
        raise NotImplementedError

    @property
    def origin(self) -> str:
        raise NotImplementedError

    def note(self, leaves: Sequence[bytes]) -> str:
        text = self.changed("checkpoint", f"{self.origin}\n{len(leaves)}\n{b64(root_hash(leaves))}\n")
        return str(self.changed("note", f"{text}\n{self.line(text)}"))

    def include(self, body: bytes) -> Json:
        """Append a leaf, and two more after it, and return the proof as a bundle holds it."""
        index = len(self.leaves)
        self.leaves += [hashlib.sha256(b"\x00" + self.changed("leaf", body)).digest(), *(hashlib.sha256(b"\x00later").digest(),) * 2]
        document = {
            "logIndex": str(index),
            "treeSize": str(len(self.leaves)),
            "rootHash": b64(root_hash(self.leaves)),
            "hashes": [b64(item) for item in proof(self.leaves, index)],
            "checkpoint": {"envelope": self.note(self.leaves)},
        }
        return dict(self.changed("proof", document))

    def trusted(self) -> Json:
        """Return the log as a trusted root lists it."""
        start, end = self.window
        return {
            "baseUrl": f"https://{self.host}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": b64(spki(self.key)),
                "keyDetails": self.details,
                "validFor": {"start": start, **({"end": end} if end else {})},
            },
            "logId": {"keyId": b64(self.log_id)},
            "operator": self.operator,
        }

    key: Any


class LogV1(Log):
    """Rekor of the first generation: ECDSA, and a promise with a time for each entry."""

    details = "PKIX_ECDSA_P256_SHA_256"

    def __init__(self, clock: Clock, host: str = "log1.example") -> None:
        super().__init__(clock, host)
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def log_id(self) -> bytes:
        return hashlib.sha256(spki(self.key)).digest()

    @property
    def origin(self) -> str:
        return f"{self.host} - 4711"

    def line(self, text: str) -> str:
        signature = self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        return f"\u2014 {self.host} {b64(self.log_id[:4] + signature)}\n"

    def add(self, body: Json) -> Json:
        """Log a body, and return the entry as a bundle of any version holds it."""
        body = self.changed("body", body)
        raw = compact(body)
        inclusion = self.include(raw)
        index = int(inclusion["logIndex"]) + 1_000  # over all shards
        time = int(self.changed("time", self.clock.now).timestamp())
        promised = {"body": b64(raw), "integratedTime": time, "logID": self.log_id.hex(), "logIndex": index}
        promise = self.key.sign(compact(self.changed("promise", promised)), ec.ECDSA(hashes.SHA256()))
        return {
            "logIndex": str(index),
            "logId": {"keyId": b64(self.log_id)},
            "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": b64(promise)},
            "inclusionProof": inclusion,
            "canonicalizedBody": b64(raw),
        }


class LogV2(Log):
    """Rekor of the second generation: Ed25519, no promise and no time."""

    details = "PKIX_ED25519"

    def __init__(self, clock: Clock, host: str = "log2.example") -> None:
        super().__init__(clock, host)
        self.key = ed25519.Ed25519PrivateKey.generate()

    @property
    def log_id(self) -> bytes:
        return hashlib.sha256(self.host.encode() + b"\n\x01" + self.key.public_key().public_bytes_raw()).digest()

    @property
    def origin(self) -> str:
        return self.host

    def line(self, text: str) -> str:
        return f"\u2014 {self.host} {b64(self.log_id[:4] + self.key.sign(text.encode()))}\n"

    def add(self, body: Json) -> Json:
        """Log a body, and return the entry as a bundle holds it."""
        body = self.changed("body", body)
        raw = compact(body)
        inclusion = self.include(raw)
        return {
            "logIndex": inclusion["logIndex"],
            "logId": {"keyId": b64(self.log_id)},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
            "inclusionProof": inclusion,
            "canonicalizedBody": b64(raw),
        }
