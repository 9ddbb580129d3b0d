"""Log entries: each of a known log is proved, and is about this very signature, or the evidence is refused.

The order: the log is one of the trust root's; the entry is about these bytes, this signature and this key; the log promised it, or its tree
includes it. An entry of an unknown log proves nothing and is named as unchecked. Of a Rekor v2 entry the leaf is made anew from the
evidence, so that the proof of inclusion is about the evidence and not about a body beside it (sigstore-go#611).

Source: sigstore/rekor types; sigstore/rekor-tiles CLIENTS.md; RFC 6962 section 2.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import CheckpointMismatch, OtherEntry, UnsupportedEntry
from sigkit.keys.pem import encode_pem, parse_pem
from sigkit.keys.public import PUBLIC_LABELS, parse_public_key
from sigkit.tlog.checkpoint import verify_checkpoint
from sigkit.tlog.merkle import leaf_hash, verify_inclusion
from sigkit.verify.facts import Attested, InclusionFact, PromiseFact, Source, TimeFact, TimeKind, Unchecked
from sigkit.verify.signature import OverBytes
from sigkit.verify.windows import show_window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.limits import Limits
    from sigkit.tlog.entry import InclusionProof, LogEntry
    from sigkit.trust.root import TransparencyLog
    from sigkit.verify.signature import Signed

_V2: Final = ("hashedrekord", "0.0.2")
_V1_FILE: Final = ("hashedrekord", "0.0.1")
_CERTIFICATE: Final = "CERTIFICATE"  # the label in PEM


class Logged(Data):
    """What a log entry must be about.

    `payload` is the envelope's payload, or None when no envelope was signed. `certificate` is the signer's, in DER, or None when a key
    signed that has none.
    """

    signed: Signed
    signature: bytes
    payload: bytes | None
    key: PublicKey
    certificate: bytes | None


def verify_entries(entries: Sequence[LogEntry], logged: Logged, logs: Sequence[TransparencyLog], place: Place, limits: Limits) -> Attested:
    """Prove every entry of a known log.

    Raises:
        OtherEntry: (BIND) one is about something else.
        TlogError: a proof, checkpoint or promise is wrong, or the kind of the entry is for something else.
        ParseError: a body is malformed.
    """
    proved = [_verify_entry(entry, logged, logs, place, limits) for entry in entries]
    return Attested(
        tuple(fact for part in proved for fact in part.inclusions),
        tuple(fact for part in proved for fact in part.promises),
        tuple(fact for part in proved for fact in part.times),
        tuple(log for part in proved for log in part.logs),
        tuple(item for part in proved for item in part.unchecked),
    )


def without_retired(entries: Attested, now: datetime) -> Attested:
    """Return what entries prove where nothing attests a time: nothing, if their log is not trusted `now`.

    Whoever has the key of a log that was given up can include anything in it; only a time inside its window speaks against that.
    """
    kept: list[InclusionFact] = []
    unchecked = list(entries.unchecked)
    for fact, log in zip(entries.inclusions, entries.logs, strict=True):  # no time, so no promise: one inclusion for each log
        if log.valid.holds(now):
            kept.append(fact)
        else:
            why = f"trusted {show_window(log.valid)}, and nothing says when the signature was made"
            unchecked.append(Unchecked(f"inclusion in the log {log.name}", why))
    return Attested(tuple(kept), logs=entries.logs, unchecked=tuple(unchecked))


def _verify_entry(entry: LogEntry, logged: Logged, logs: Sequence[TransparencyLog], place: Place, limits: Limits) -> Attested:
    log = next((log for log in logs if log.log_id == entry.log_id), None)
    if log is None:
        name = f"entry {entry.index} of the log {strict.encode_base64(entry.log_id)}"
        return Attested(unchecked=(Unchecked(name, "the trust root holds no such log"),))
    leaf = _rebuild(entry, logged, place) if (entry.kind, entry.version) == _V2 else _bind_body(entry, logged, place, limits)
    source = Source(log.source.name, log.source.digest, log.name)
    inclusions, unchecked = _verify_inclusion(entry, leaf, log, source, place)
    if entry.promise is None:
        if not inclusions:
            raise UnsupportedEntry("neither a checkpoint nor a promise stands behind the entry", place=place, got=f"entry {entry.index}")
        return Attested(inclusions, logs=(log,), unchecked=unchecked)
    # Local: most entries of today have no promise.
    from sigkit.tlog.entry_v1 import verify_promise

    when = verify_promise(entry, log.key, place)
    time = TimeFact(when, log.name, source, TimeKind.INTEGRATED, log.operator)
    promise = PromiseFact(log.name, entry.index, source, log.operator)
    return Attested(inclusions, (promise,), (time,), (log,), unchecked)


def _bind_body(entry: LogEntry, logged: Logged, place: Place, limits: Limits) -> bytes:
    """Prove that a body as the log wrote it is about this signature, and return the leaf."""
    from sigkit.tlog.entry_v1 import Over, parse_body

    if _is_usual_body(entry, logged):
        return entry.body
    said = parse_body(entry, place, limits)
    if said.over is Over.ARTIFACT and logged.payload is not None:
        raise UnsupportedEntry("an envelope that is logged as a file", place=place, expected="dsse 0.0.1 or intoto 0.0.2", got=entry.kind)
    if said.over is Over.PAYLOAD:
        known = None if logged.payload is None else Digest.of(logged.payload, said.digest.algorithm)
    else:
        known = _signed_digest(logged.signed, said.digest.algorithm)
    if known != said.digest:
        raise OtherEntry("the log entry is about another artifact", place=place, expected=str(known), got=str(said.digest))
    if [by.signature for by in said.signatures] != [logged.signature]:
        raise OtherEntry("the log entry is about another signature", place=place)
    for by in said.signatures:
        _bind_verifier(by.verifier, logged, place)
    return entry.body


def _is_usual_body(entry: LogEntry, logged: Logged) -> bool:
    """Tell whether the body is, byte for byte, what the log writes about this signature of a file: then there is nothing to read in it."""
    from sigkit.tlog.entry_v1 import encode_hashedrekord

    digest = _signed_digest(logged.signed, "sha256")
    if (entry.kind, entry.version) != _V1_FILE or logged.payload is not None or digest is None:
        return False
    pem = logged.key.encode_pem() if logged.certificate is None else encode_pem(_CERTIFICATE, logged.certificate)
    return entry.body == encode_hashedrekord(digest, logged.signature, pem)


def _bind_verifier(pem: bytes, logged: Logged, place: Place) -> None:
    """Prove that the entry names the certificate, or the key, that made the signature."""
    if logged.certificate is not None and pem == encode_pem(_CERTIFICATE, logged.certificate):
        return  # as logs write it; reading it takes five times as long
    block = parse_pem(pem, (_CERTIFICATE, *PUBLIC_LABELS), place)
    if block.label == _CERTIFICATE:
        fits = block.data == logged.certificate
    else:
        fits = logged.certificate is None and parse_public_key(pem, place) == logged.key
    if not fits:
        raise OtherEntry("the log entry names another certificate or key", place=place, got=f"a PEM block {block.label}")


def _rebuild(entry: LogEntry, logged: Logged, place: Place) -> bytes:
    """Make the leaf of a Rekor v2 entry from the evidence; a body beside it must be the same."""
    from sigkit.tlog.entry_v2 import CertificateVerifier, KeyVerifier, encode_hashedrekord, scheme_of

    key_details, algorithm = scheme_of(logged.key, place)
    if entry.proof is not None and entry.proof.index != entry.index:  # such a log is one tree
        raise OtherEntry("two indexes in one entry", place=place, expected=str(entry.proof.index), got=str(entry.index))
    digest = _signed_digest(logged.signed, algorithm)
    if digest is None:
        raise OtherEntry("the log entry is about a digest that is not known of the artifact", place=place, expected=algorithm)
    verifier = KeyVerifier(logged.key.spki) if logged.certificate is None else CertificateVerifier(logged.certificate)
    leaf = encode_hashedrekord(digest, logged.signature, verifier, key_details)
    if entry.body and entry.body != leaf:
        raise OtherEntry("the log entry is about another signature, key or artifact", place=place)
    return leaf


def _signed_digest(signed: Signed, algorithm: str) -> Digest | None:
    if isinstance(signed, OverBytes):
        return Digest.of(signed.message, algorithm)
    return signed.artifact.by(algorithm)


def _verify_inclusion(
    entry: LogEntry, leaf: bytes, log: TransparencyLog, source: Source, place: Place
) -> tuple[tuple[InclusionFact, ...], tuple[Unchecked, ...]]:
    proof = entry.proof
    if proof is None:
        return (), ()
    verify_inclusion(leaf_hash(leaf), proof.index, proof.size, proof.hashes, proof.root, place)
    if not proof.checkpoint:
        return (), (Unchecked(f"inclusion in the log {log.name}", "the proof comes without a checkpoint that the log signed"),)
    # The first line of a v1 checkpoint holds the tree's number, which the trust root does not know.
    origin = log.origin if (entry.kind, entry.version) == _V2 else None
    others = _verify_checkpoint(proof, log, origin, place)
    witnesses = _verify_witnesses(proof, log, place)
    seen = {identifier.rpartition("+")[0] for identifier in witnesses}
    # The log's own signature is under the index in its tree; the one that counts over its shards is signed with a promise only.
    index = proof.index if entry.promise is None else entry.index
    unchecked = [Unchecked(f"cosignature of {name}", "the trust root holds no such witness") for name in others if name not in seen]
    if index != entry.index:
        unchecked.append(Unchecked(f"index {entry.index} over all shards of the log {log.name}", "the log did not sign it"))
    return (InclusionFact(log.name, index, source, log.operator, witnesses),), tuple(unchecked)


def _verify_witnesses(proof: InclusionProof, log: TransparencyLog, place: Place) -> tuple[str, ...]:
    """Return which of the log's witnesses signed the tree of the proof; the checkpoint is proved to be of that."""
    if not log.witnesses:
        return ()
    from sigkit.tlog.cosignature import verify_cosignatures
    from sigkit.tlog.note import parse_note

    return tuple(found.identifier for found in verify_cosignatures(parse_note(proof.checkpoint, place), log.witnesses, place))


def _verify_checkpoint(proof: InclusionProof, log: TransparencyLog, origin: str | None, place: Place) -> tuple[str, ...]:
    signed = verify_checkpoint(proof.checkpoint, log.key, log.checkpoint_key_id or log.log_id, origin, place)
    if (signed.checkpoint.size, signed.checkpoint.root) != (proof.size, proof.root):
        raise CheckpointMismatch(
            "the checkpoint is of another tree than the proof",
            place=place,
            expected=f"size {proof.size}, root {proof.root.hex()}",
            got=f"size {signed.checkpoint.size}, root {signed.checkpoint.root.hex()}",
        )
    return tuple(dict.fromkeys(line.name for line in signed.others))
