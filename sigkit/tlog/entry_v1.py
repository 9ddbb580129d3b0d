"""Entries of logs of the first generation: the body as the log wrote it, and the log's promise.

Four kinds are read. Bodies are parsed strictly: a repeated member would let two readers see two entries. The verifier of a body names the
certificate or key; whether it is the evidence's is compared by `verify`.

Source: sigstore/rekor pkg/types (hashedrekord 0.0.1, dsse 0.0.1, intoto 0.0.2, rekord 0.0.1), pkg/generated/models.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from sigkit import limits as all_limits
from sigkit import strict
from sigkit.data import Data
from sigkit.digest import Digest, parse_digest
from sigkit.errors import BadPromise, BadSignature, UnsupportedEntry
from sigkit.tlog.entry import InclusionProof, LogEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.limits import Limits
    from sigkit.strict import Cursor

_HASH: Final = re.compile("[0-9a-f]{64}", re.ASCII)


class Over(Enum):
    """What the digest of a body is of: the bytes that were signed, or the payload in the envelope."""

    ARTIFACT = "artifact"
    PAYLOAD = "payload"


class LoggedBy(Data):
    """A signature in a body, and the PEM of the certificate or key that made it."""

    signature: bytes
    verifier: bytes


class LoggedSignature(Data):
    """What a body says was signed, and by whom."""

    over: Over
    digest: Digest
    signatures: tuple[LoggedBy, ...]


def parse_body(entry: LogEntry, place: Place, limits: Limits) -> LoggedSignature:
    """Read the body of an entry.

    Raises:
        UnsupportedEntry: (TLOG) a kind or version that is not read, or the body is of another than the entry says.
        TooLarge, TooMany, TooDeep: (LIMIT).
        MalformedJson, MalformedBase64, WrongShape: (PARSE).
        MalformedDigest: (DIGEST).
    """
    read = _READERS.get((entry.kind, entry.version))
    if read is None:
        known = ", ".join(" ".join(name) for name in _READERS)
        raise UnsupportedEntry("a kind of entry that is not read", place=place, expected=known, got=f"{entry.kind} {entry.version}"[:200])
    top = strict.parse_json(entry.body, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth)
    top.only(("apiVersion", "kind", "spec"))
    said = (top.member("kind").text(), top.member("apiVersion").text())
    if said != (entry.kind, entry.version):
        raise UnsupportedEntry("the body is of another kind than the entry", place=place, expected=entry.kind, got=" ".join(said)[:200])
    return read(top.member("spec"))


def encode_hashedrekord(digest: Digest, signature: bytes, verifier: bytes) -> bytes:
    """Write the body of a hashedrekord 0.0.1 as the log writes it: canonical JSON, in which nothing needs an escape.

    Args:
        digest: of the file.
        signature: over it.
        verifier: the PEM of certificate or key.

    Source: sigstore/rekor pkg/types/hashedrekord/v0.0.1/entry.go, Canonicalize; RFC 8785.
    """
    text = (
        '{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"'
        f'{digest.algorithm}","value":"{digest.hex}"'
        '}},"signature":{"content":"'
        f'{strict.encode_base64(signature)}","publicKey":{{"content":"{strict.encode_base64(verifier)}"'
        "}}}}"
    )
    return text.encode("ascii")


def verify_promise(entry: LogEntry, key: PublicKey, place: Place) -> datetime:
    """Prove that the log promised to include the entry, and return the time that it signed with the promise.

    Raises:
        BadPromise: (TLOG) there is none, it is about nothing, or it is not the log's.

    Source: sigstore/rekor pkg/verify (SET over canonical JSON, RFC 8785, of body, integratedTime, logID and logIndex).
    """
    if entry.promise is None or not 0 < entry.integrated_time <= all_limits.LATEST_S:
        raise BadPromise("the log promised nothing, or at no time", place=place, got=f"time {entry.integrated_time}")
    if not entry.body:  # evidence of a v2 entry may leave it out
        raise BadPromise("a promise about nothing", place=place, expected="the body that the log promised to include")
    # Numbers, base64 and hexadecimal: nothing here has two ways to be written.
    said = (strict.encode_base64(entry.body), entry.integrated_time, entry.log_id.hex(), entry.index)
    message = ('{"body":"%s","integratedTime":%d,"logID":"%s","logIndex":%d}' % said).encode("ascii")  # noqa: UP031 - braces are JSON's
    try:
        key.verify(entry.promise, message)
    except BadSignature as err:
        raise BadPromise("the log's promise is not valid", place=place, got=f"entry {entry.index}") from err
    return datetime.fromtimestamp(entry.integrated_time, UTC)


def parse_logged(top: Cursor) -> LogEntry:
    """Read an entry as the log's API answers it: the one member of an object, named by its UUID. Nothing is proved.

    Raises:
        MalformedJson, MalformedBase64, WrongShape: (PARSE).

    Source: sigstore/rekor openapi.yaml, LogEntry.
    """
    entries = top.object()
    if len(entries) != 1:
        top.fail("not exactly one entry", expected="1", got=str(len(entries)))
    entry = top.member(next(iter(entries)))
    body = entry.member("body")
    raw = body.base64()
    kind = strict.parse_json(raw, most_bytes=len(raw), place=body.at())
    verification = entry.member("verification")
    proof = verification.member("inclusionProof")
    promise = verification.find("signedEntryTimestamp")
    return LogEntry(
        index=entry.member("logIndex").integer(),
        log_id=parse_hash(entry.member("logID")),
        kind=kind.member("kind").text(),
        version=kind.member("apiVersion").text(),
        integrated_time=entry.member("integratedTime").integer(),
        promise=promise.base64() if promise else None,
        proof=InclusionProof(
            index=proof.member("logIndex").integer(),
            size=proof.member("treeSize").integer(),
            root=parse_hash(proof.member("rootHash")),
            hashes=tuple(parse_hash(item) for item in proof.member("hashes").items(all_limits.PROOF_HASHES)),
            checkpoint=proof.member("checkpoint").text(),
        ),
        body=raw,
    )


def parse_hash(cursor: Cursor) -> bytes:
    """Read a hash as the log's API writes it.

    Raises:
        WrongShape: (PARSE) anything but 64 characters of lower-case hex.
    """
    text = cursor.text()
    if not _HASH.fullmatch(text):
        cursor.fail("not a hash", expected="64 characters of lower-case hex")
    return bytes.fromhex(text)


def _read_hashedrekord(spec: Cursor) -> LoggedSignature:
    spec.only(("data", "signature"))
    signature = spec.member("signature").only(("content", "publicKey"))
    return LoggedSignature(Over.ARTIFACT, _hash(spec.member("data").only(("hash",)).member("hash")), (_signed_by(signature),))


def _read_rekord(spec: Cursor) -> LoggedSignature:
    spec.only(("data", "signature"))
    signature = spec.member("signature").only(("format", "content", "publicKey"))
    kind = signature.member("format")
    if kind.text() != "x509":
        kind.fail("a format of signature that is not read", expected="x509")
    return LoggedSignature(Over.ARTIFACT, _hash(spec.member("data").only(("hash",)).member("hash")), (_signed_by(signature),))


def _read_dsse(spec: Cursor) -> LoggedSignature:
    # `envelopeHash` is over the JSON text that was submitted, which nobody has kept: it says nothing here.
    spec.only(("envelopeHash", "payloadHash", "signatures"))
    _hash(spec.member("envelopeHash"))
    signatures = tuple(
        LoggedBy(item.only(("signature", "verifier")).member("signature").base64(), item.member("verifier").base64())
        for item in spec.member("signatures").items(all_limits.LOG_ENTRIES)
    )
    return LoggedSignature(Over.PAYLOAD, _hash(spec.member("payloadHash")), signatures)


def _read_intoto(spec: Cursor) -> LoggedSignature:
    content = spec.only(("content",)).member("content").only(("envelope", "hash", "payloadHash"))
    if digest := content.find("hash"):
        _hash(digest)
    envelope = content.member("envelope").only(("payload", "payloadType", "signatures"))
    signatures = tuple(_intoto_signed_by(item) for item in envelope.member("signatures").items(all_limits.LOG_ENTRIES))
    return LoggedSignature(Over.PAYLOAD, _hash(content.member("payloadHash")), signatures)


def _intoto_signed_by(item: Cursor) -> LoggedBy:
    sig = item.only(("sig", "publicKey", "keyid")).member("sig")
    # Base64 twice: the log encoded the text that the envelope holds.
    inner = strict.decode_utf8(sig.base64(), sig.at())
    return LoggedBy(strict.decode_base64(inner, sig.at()), item.member("publicKey").base64())


def _signed_by(signature: Cursor) -> LoggedBy:
    key = signature.member("publicKey").only(("content",)).member("content")
    return LoggedBy(signature.member("content").base64(), key.base64())


def _hash(cursor: Cursor) -> Digest:
    cursor.only(("algorithm", "value"))
    return parse_digest(f"{cursor.member('algorithm').text()}:{cursor.member('value').text()}", cursor.at())


_READERS: Final[dict[tuple[str, str], Callable[[Cursor], LoggedSignature]]] = {
    ("hashedrekord", "0.0.1"): _read_hashedrekord,
    ("dsse", "0.0.1"): _read_dsse,
    ("intoto", "0.0.2"): _read_intoto,
    ("rekord", "0.0.1"): _read_rekord,
}
