"""Log entries as a bundle holds them: numbers and bytes of the right shape, and nothing believed.

Two indexes stand in an entry: the outer one counts over all shards of a log and is what the log's promise is about; the one in the proof
is the place in the tree. protojson leaves out what is zero or empty, so an absent index is 0 and absent hashes are none.

Source: sigstore/protobuf-specs sigstore_rekor.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits, strict
from sigkit.evidence.bundle import V01
from sigkit.tlog.entry import InclusionProof, LogEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sigkit.strict import Cursor, Json

_HASH_BYTES: Final = 32
_MEMBERS = (*("logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody"),)
_PROOF_MEMBERS = ("logIndex", "rootHash", "treeSize", "hashes", "checkpoint")


def parse_entries(items: Iterable[Cursor], version: str) -> tuple[LogEntry, ...]:
    """Read the entries of a bundle of `version`.

    Raises:
        WrongShape: (PARSE) a member that is unknown, missing or out of range; a proof or promise that the version demands; an entry twice.
        TooMany: (LIMIT) a longer proof than any tree has.
        MalformedBase64: (PARSE).
    """
    found: list[LogEntry] = []
    seen: set[tuple[bytes, int]] = set()
    for cursor in items:
        entry = _parse_entry(cursor, version)
        if (entry.log_id, entry.index) in seen:  # as sigstore-go: one entry must not count twice
            cursor.fail("the same log entry twice", expected="another log or index", got=f"index {entry.index}")
        seen.add((entry.log_id, entry.index))
        found.append(entry)
    return tuple(found)


def encode_entry(entry: LogEntry) -> Json:
    """Write an entry, in protojson's order and with its numbers as text; no time and no promise where there is none."""
    document: dict[str, Json] = {
        "logIndex": str(entry.index),
        "logId": {"keyId": strict.encode_base64(entry.log_id)},
        "kindVersion": {"kind": entry.kind, "version": entry.version},
    }
    if entry.integrated_time:
        document["integratedTime"] = str(entry.integrated_time)
    if entry.promise is not None:
        document["inclusionPromise"] = {"signedEntryTimestamp": strict.encode_base64(entry.promise)}
    if entry.proof is not None:
        document["inclusionProof"] = {
            "logIndex": str(entry.proof.index),
            "rootHash": strict.encode_base64(entry.proof.root),
            "treeSize": str(entry.proof.size),
            "hashes": [strict.encode_base64(item) for item in entry.proof.hashes],
            "checkpoint": {"envelope": entry.proof.checkpoint},
        }
    document["canonicalizedBody"] = strict.encode_base64(entry.body)
    return document


def parse_int64(cursor: Cursor | None) -> int:
    """Read protojson's int64, a string or a number; absent is zero, and indexes, sizes and times are never negative.

    Raises:
        WrongShape: (PARSE) another type, a sign, a leading zero, out of range.
    """
    if cursor is None:
        return 0
    if not isinstance(cursor.value, str):
        return cursor.integer()
    text = cursor.value
    if not (text.isascii() and text.isdecimal() and len(text) <= limits.INTEGER_DIGITS and (text == "0" or text[0] != "0")):
        cursor.fail("not an integer", expected=f"0 to {strict.INT64_MAX}")
    value = int(text)
    if value > strict.INT64_MAX:
        cursor.fail("out of range", expected=f"0 to {strict.INT64_MAX}")
    return value


def _parse_entry(cursor: Cursor, version: str) -> LogEntry:
    cursor.only(_MEMBERS)
    kind = cursor.member("kindVersion").only(("kind", "version"))
    body = cursor.find("canonicalizedBody")
    entry = LogEntry(
        index=parse_int64(cursor.find("logIndex")),
        log_id=_filled(cursor.member("logId").only(("keyId",)).member("keyId")),
        kind=kind.member("kind").text(),
        version=kind.member("version").text(),
        integrated_time=parse_int64(cursor.find("integratedTime")),
        promise=_parse_promise(cursor.find("inclusionPromise")),
        proof=_parse_proof(cursor.find("inclusionProof")),
        body=body.base64() if body else b"",
    )
    _check_version(cursor, entry, version)
    return entry


def _check_version(cursor: Cursor, entry: LogEntry, version: str) -> None:
    if version == V01:
        if entry.promise is None:
            cursor.fail("an entry without the log's promise", expected="inclusionPromise in a bundle of version 0.1", got="none")
        return
    if entry.proof is None:
        cursor.fail("an entry without an inclusion proof", expected=f"inclusionProof in a bundle of version {version}", got="none")
    if not entry.proof.checkpoint:
        cursor.member("inclusionProof").fail(
            "an inclusion proof without its checkpoint", expected=f"checkpoint in a bundle of version {version}", got="none"
        )


def _parse_promise(cursor: Cursor | None) -> bytes | None:
    return _filled(cursor.only(("signedEntryTimestamp",)).member("signedEntryTimestamp")) if cursor else None


def _parse_proof(cursor: Cursor | None) -> InclusionProof | None:
    if cursor is None:
        return None
    cursor.only(_PROOF_MEMBERS)
    hashes, checkpoint = cursor.find("hashes"), cursor.find("checkpoint")
    envelope = checkpoint.only(("envelope",)).find("envelope") if checkpoint else None
    return InclusionProof(
        index=parse_int64(cursor.find("logIndex")),
        size=parse_int64(cursor.find("treeSize")),
        root=_parse_hash(cursor.member("rootHash")),
        hashes=tuple(_parse_hash(item) for item in hashes.items(limits.PROOF_HASHES)) if hashes else (),
        checkpoint=envelope.text() if envelope else "",
    )


def _parse_hash(cursor: Cursor) -> bytes:
    value = cursor.base64()
    if len(value) != _HASH_BYTES:
        cursor.fail("not a hash of the tree", expected=f"{_HASH_BYTES} bytes", got=f"{len(value)} bytes")
    return value


def _filled(cursor: Cursor) -> bytes:
    value = cursor.base64()
    if not value:
        cursor.fail("empty", expected="at least one byte")
    return value
