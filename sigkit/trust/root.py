"""The trust root that is handed to verification: everything whose word counts, under a name and a digest.

Public keys that flags or a policy name are part of it; authorities and logs come from a `trusted_root.json`. Each says which root it is
of, so that every fact can name it. Whether a signer is the *wanted* one is the policy's question.

Source: sigstore/protobuf-specs sigstore_trustroot.proto.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import DuplicateTrustedKey, Place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography import x509

    from sigkit.keys.public import PublicKey
    from sigkit.tlog.cosignature import NoteKey

_DIGEST_DOMAIN = b"sigkit.trusted-keys/1\n"


class Origin(Data):
    """Which trust root says so: its name, and the digest of its file."""

    name: str
    digest: Digest


class Window(Data):
    """When something is trusted, both ends included; None is no end."""

    start: datetime | None
    end: datetime | None

    def holds(self, when: datetime) -> bool:
        """Tell whether a time lies in it."""
        return (self.start is None or self.start <= when) and (self.end is None or when <= self.end)


class TrustedKey(Data):
    """A public key and what flags or a policy call it: `release`, or the file's name; trusted at any time unless `valid` says when."""

    name: str
    key: PublicKey
    valid: Window | None = None


class TransparencyLog(Data):
    """A log of signatures, or of certificates.

    `log_id` is what entries call it; `checkpoint_key_id` the four bytes of its line under a checkpoint, where the root states them;
    `origin` the first line of its checkpoints (the host of its URL, for logs of the second generation). Evidence of one operator counts
    once. `witnesses` are those whose signatures under its checkpoints are looked at: a policy names them, no trusted root does.
    """

    name: str
    log_id: bytes
    key: PublicKey
    valid: Window
    operator: str
    checkpoint_key_id: bytes | None
    origin: str
    source: Origin
    witnesses: tuple[NoteKey, ...] = ()


class CertificateAuthority(Data):
    """An authority for signers' certificates: intermediates first, the anchor last. Each was issued by the next (held at parse)."""

    name: str
    certificates: tuple[x509.Certificate, ...]
    valid: Window
    operator: str
    source: Origin


class TimestampAuthority(Data):
    """An authority for timestamps: the certificate that signs them first, the anchor last. Each was issued by the next (held at parse)."""

    name: str
    certificates: tuple[x509.Certificate, ...]
    valid: Window
    operator: str
    source: Origin


class TrustedRoot(Data):
    """What verification trusts. Two roots with the same content have the same digest, whatever they are called."""

    name: str
    digest: Digest
    keys: tuple[TrustedKey, ...]
    certificate_authorities: tuple[CertificateAuthority, ...] = ()
    logs: tuple[TransparencyLog, ...] = ()
    ct_logs: tuple[TransparencyLog, ...] = ()
    timestamp_authorities: tuple[TimestampAuthority, ...] = ()


def root_of_keys(keys: Iterable[TrustedKey], name: str) -> TrustedRoot:
    """Make a trust root of keys alone.

    Its digest covers the keys, in the order of their fingerprints, and when each is trusted; not their names.

    Raises:
        DuplicateTrustedKey: (ROOT) one key twice, under one name or two.
    """
    trusted = tuple(keys)
    seen: dict[bytes, str] = {}
    for item in trusted:
        if item.key.spki in seen:
            got = f"{seen[item.key.spki]} and {item.name}: {item.key.fingerprint}"
            raise DuplicateTrustedKey("the same key is given twice", place=Place.operator(item.name), got=got)
        seen[item.key.spki] = item.name
    content = hashlib.sha256(_DIGEST_DOMAIN)
    for line in sorted(f"{item.key.fingerprint}{_show_window(item.valid)}\n" for item in trusted):
        content.update(line.encode("ascii"))
    return TrustedRoot(name, Digest("sha256", content.digest()), trusted)


def _show_window(window: Window | None) -> str:
    if window is None:
        return ""
    return "".join(f" {when.timestamp():.6f}" if when else " -" for when in (window.start, window.end))


def with_keys(root: TrustedRoot, keys: TrustedRoot) -> TrustedRoot:
    """Return one root with the authorities and logs of `root`, and the keys of `keys`, whose name and digest it has."""
    return TrustedRoot(
        keys.name,
        keys.digest,
        keys.keys,
        root.certificate_authorities,
        root.logs,
        root.ct_logs,
        root.timestamp_authorities,
    )


def with_witnesses(root: TrustedRoot, witnesses: tuple[NoteKey, ...]) -> TrustedRoot:
    """Return the root with these witnesses of all its logs. Its digest stays: whose word counts is what it was."""
    logs = (
        TransparencyLog(
            log.name, log.log_id, log.key, log.valid, log.operator, log.checkpoint_key_id, log.origin, log.source, witnesses=witnesses
        )
        for log in root.logs
    )
    return TrustedRoot(
        root.name,
        root.digest,
        root.keys,
        root.certificate_authorities,
        tuple(logs),
        root.ct_logs,
        root.timestamp_authorities,
    )
