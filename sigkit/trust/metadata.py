"""The checks of The Update Framework on one piece of metadata: bytes, and who vouches for them, in; what they say out.

Bytes and times are handed in, so the same checks serve what a mirror sends and what lies on disk. Formats, signatures and the encoding that
is signed are python-tuf's. Added is what it leaves to its user: JSON that two readers could see differently is refused, and a key counts
once towards a threshold, under however many ids it is listed.

Source: TUF specification 1.0.33 sections 4 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sigkit import limits, strict
from sigkit.errors import MalformedMetadata, MetadataExpired, MetadataMismatch, MetadataNotSigned, MetadataRolledBack, Place
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from securesystemslib.signer import Key
    from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

    Delegator = Root | Targets

ROOT: Final = "root"
TIMESTAMP: Final = "timestamp"
SNAPSHOT: Final = "snapshot"
TARGETS: Final = "targets"
MOST_BYTES: Final = {
    ROOT: limits.TUF_ROOT_BYTES,
    TIMESTAMP: limits.TUF_TIMESTAMP_BYTES,
    SNAPSHOT: limits.TUF_SNAPSHOT_BYTES,
    TARGETS: limits.TUF_TARGETS_BYTES,
}


def parse_pinned(raw: bytes, place: Place) -> Root:
    """Read the root that is trusted because somebody said so. It must fit itself.

    Raises:
        MalformedMetadata, ParseError: (PARSE).
        LimitError: too big.
        MetadataNotSigned: (ROOT) by fewer of its own keys than it asks for.
    """
    metadata = _parse(raw, ROOT, place)
    root: Root = metadata.signed
    _check_signed(root, ROOT, metadata, place)
    return root


def parse_next_root(trusted: Root, raw: bytes, place: Place) -> Root:
    """Read the root that follows `trusted`: of the next version, signed as both ask for.

    Raises:
        MalformedMetadata, ParseError: (PARSE).
        LimitError: too big.
        MetadataNotSigned: (ROOT).
        MetadataMismatch: (ROOT) another version than the next.

    Source: section 5.3.4, 5.3.5.
    """
    metadata = _parse(raw, ROOT, place)
    root: Root = metadata.signed
    _check_signed(trusted, ROOT, metadata, place)
    if root.version != trusted.version + 1:
        raise MetadataMismatch("not the next root", place=place, expected=f"version {trusted.version + 1}", got=f"version {root.version}")
    _check_signed(root, ROOT, metadata, place)
    return root


def parse_timestamp(root: Root, raw: bytes, place: Place, seen: Timestamp | None) -> Timestamp:
    """Read a timestamp that is no older than the one `seen` before. Whether it is expired is `check_expiry`'s question.

    Raises:
        MalformedMetadata, ParseError: (PARSE).
        LimitError: too big.
        MetadataNotSigned: (ROOT).
        MetadataRolledBack: (ROOT) it, or the snapshot that it names, is older than what was seen.

    Source: section 5.4.2, 5.4.3.
    """
    metadata = _parse(raw, TIMESTAMP, place)
    timestamp: Timestamp = metadata.signed
    _check_signed(root, TIMESTAMP, metadata, place)
    if seen is not None:
        _check_version(timestamp.version, seen.version, TIMESTAMP, place)
        if timestamp.version > seen.version:
            _check_version(timestamp.snapshot_meta.version, seen.snapshot_meta.version, SNAPSHOT, place)
    return timestamp


def parse_snapshot(root: Root, raw: bytes, place: Place, named: MetaFile, seen: Snapshot | None) -> Snapshot:
    """Read the snapshot that a timestamp names, in which nothing is older or gone that was `seen` before.

    Raises:
        MalformedMetadata, ParseError: (PARSE).
        LimitError: too big.
        MetadataNotSigned: (ROOT).
        MetadataMismatch: (ROOT) other bytes, or another version, than the timestamp names.
        MetadataRolledBack: (ROOT).

    Source: section 5.5.2 to 5.5.5.
    """
    check_content(named, raw, place)
    snapshot = parse_seen_snapshot(root, raw, place)
    for name, item in seen.meta.items() if seen else ():
        if name not in snapshot.meta:
            raise MetadataRolledBack("the snapshot lists less than one that was seen before", place=place, expected=name, got="nothing")
        _check_version(snapshot.meta[name].version, item.version, name, place)
    _check_named(snapshot.version, named, SNAPSHOT, place)
    return snapshot


def parse_seen_snapshot(root: Root, raw: bytes, place: Place) -> Snapshot:
    """Read a snapshot that was good once, to hold later ones to it.

    Raises:
        MalformedMetadata, ParseError: (PARSE).
        LimitError: too big.
        MetadataNotSigned: (ROOT).
    """
    metadata = _parse(raw, SNAPSHOT, place)
    _check_signed(root, SNAPSHOT, metadata, place)
    snapshot: Snapshot = metadata.signed
    return snapshot


def parse_targets(delegator: Delegator, role: str, raw: bytes, place: Place, named: MetaFile) -> Targets:
    """Read the targets of a role that a snapshot names, signed as its delegator asks for.

    Raises:
        MalformedMetadata, ParseError: (PARSE).
        LimitError: too big.
        MetadataNotSigned: (ROOT).
        MetadataMismatch: (ROOT) other bytes, or another version, than the snapshot names.

    Source: section 5.6.2 to 5.6.4.
    """
    check_content(named, raw, place)
    metadata = _parse(raw, TARGETS, place)
    _check_signed(delegator, role, metadata, place)
    targets: Targets = metadata.signed
    _check_named(targets.version, named, role, place)
    return targets


def check_content(named: MetaFile | TargetFile, raw: bytes, place: Place) -> None:
    """Prove that these are the bytes that are named, as far as length and hashes are given.

    Raises:
        MetadataMismatch: (ROOT).
    """
    from tuf.api.exceptions import LengthOrHashMismatchError

    try:
        named.verify_length_and_hashes(raw)
    except LengthOrHashMismatchError as err:
        raise MetadataMismatch("not the bytes that the metadata names", place=place, got=str(err)[:200]) from err


def check_expiry(role: str, signed: Root | Timestamp | Snapshot | Targets, when: datetime, place: Place) -> None:
    """Refuse what is not valid any more.

    Raises:
        MetadataExpired: (ROOT).
    """
    if when >= signed.expires:
        raise MetadataExpired(
            f"the metadata of the role {role} has expired",
            place=place,
            expected=f"valid at {format_time(when)}",
            got=f"valid until {format_time(signed.expires)}",
        )


def _parse(raw: bytes, kind: str, place: Place) -> Metadata[Any]:
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    _check_thresholds(strict.parse_json(raw, most_bytes=MOST_BYTES[kind], place=place))
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(raw)
    except DeserializationError as err:
        cause = err.__cause__ or err
        got = f"nothing called {cause}" if isinstance(cause, KeyError) else str(cause)
        raise MalformedMetadata("not TUF metadata", place=place, expected=f"signed metadata of the role {kind}", got=got[:200]) from err
    if metadata.signed.type != kind:
        raise MalformedMetadata("metadata of another role", place=place, expected=kind, got=metadata.signed.type[:80])
    return metadata


def _check_thresholds(top: strict.Cursor) -> None:
    """Refuse a role that asks for no signature: any metadata would meet that (CVE-2026-23992)."""
    pending = [top]
    while pending:
        cursor = pending.pop()
        if isinstance(cursor.value, list):
            pending += cursor.items(len(cursor.value))
        elif isinstance(cursor.value, dict):
            pending += [found for name in cursor.value if (found := cursor.find(name)) is not None]
            threshold = cursor.value.get("threshold") if "keyids" in cursor.value else None
            if isinstance(threshold, int) and threshold < 1:
                raise MetadataNotSigned("a role that asks for no signature", place=cursor.at(), got=f"threshold {threshold}")


def _check_signed(delegator: Delegator, role: str, metadata: Metadata[Any], place: Place) -> None:
    from tuf.api.serialization import SerializationError

    try:
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except SerializationError as err:
        raise MalformedMetadata("metadata that has no canonical form to sign", place=place) from err
    except ValueError as err:
        raise MetadataNotSigned("nobody may sign this role", place=place, got=str(err)[:200]) from err
    keys = len(_distinct(result.signed.values()))
    if keys < result.threshold:
        raise MetadataNotSigned(
            f"the metadata of the role {role} is not signed by enough of its keys",
            place=place,
            expected=f"{result.threshold} of {len(result.signed) + len(result.unsigned)}",
            got=str(keys),
        )


def _distinct(keys: Iterable[Key]) -> set[bytes]:
    """Return the keys by what they are: ids are only names (CVE-2020-6174, CVE-2020-15093, GHSA-3633-5h82-39pq)."""
    from securesystemslib.signer import SSlibKey

    return {_material(key) if isinstance(key, SSlibKey) else key.keyid.encode() for key in keys}


def _material(key: Key) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    public = str(key.keyval["public"])
    if not public.lstrip().startswith("-----"):
        return bytes.fromhex(public)  # has just verified, so it can be read
    return load_pem_public_key(public.encode()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_version(version: int, seen: int, what: str, place: Place) -> None:
    if version < seen:
        raise MetadataRolledBack(
            f"an older {what} than was seen before", place=place, expected=f"version {seen} or later", got=f"version {version}"
        )


def _check_named(version: int, named: MetaFile, what: str, place: Place) -> None:
    if version != named.version:
        raise MetadataMismatch(f"not the {what} that is named", place=place, expected=f"version {named.version}", got=f"version {version}")
