"""What verification proved, by whose word, and what it did not check.

A fact names the trust root, by name and digest, and the authority in it that stands behind it. Facts hold no verdict: whether they are
enough is the policy's question.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from sigkit.data import Data

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sigkit.digest import Digest
    from sigkit.errors import Place
    from sigkit.evidence.form import Form
    from sigkit.trust.root import TransparencyLog


class KeySigner(Data):
    """A public key: its fingerprint (SHA-256 of the SubjectPublicKeyInfo), its kind, and what the trust root calls it."""

    key: Digest
    kind: str
    name: str


class IdentitySigner(Data):
    """An identity in a certificate: issuer and subject together, and Fulcio's extensions by name.

    `issuer` is "" where the certificate names none, as those of one's own authority may. `kind` is that of the subject alternative name:
    `email`, `uri`, `username`, `dns` or `ip`.
    """

    issuer: str
    subject: str
    extensions: Mapping[str, str]
    kind: str = "uri"


Signer: TypeAlias = KeySigner | IdentitySigner


class Source(Data):
    """Who stands behind a fact: a trust root, by name and digest, and the key or authority in it."""

    root: str
    root_digest: Digest
    authority: str


class SignatureFact(Data):
    """These bytes were signed about this artifact.

    `predicate_type` tells a signature from an attestation; it is None for a signature over the artifact's own bytes, which says nothing
    else. `repository` is the name that was signed with the digest, or None when none was; `annotations` are those that are signed.
    """

    artifact: Digest
    predicate_type: str | None
    payload_digest: Digest
    repository: str | None
    annotations: Mapping[str, str]


class SignerFact(Data):
    """This key or identity made the signature."""

    signer: Signer
    source: Source


class InclusionFact(Data):
    """This log includes the entry of this very signature, at this index. `operator` is who runs the log, "" where the root says nothing.

    `witnesses` signed the tree that includes it: each by its name and the whole id of its key.
    """

    log: str
    index: int
    source: Source
    operator: str = ""
    witnesses: tuple[str, ...] = ()


class PromiseFact(Data):
    """This log promised to include the entry of this very signature, at this index. Nothing proves that it did."""

    log: str
    index: int
    source: Source
    operator: str = ""


class CertificateLogFact(Data):
    """This certificate log promised, at this time, to include the signer's certificate."""

    log: str
    when: datetime
    source: Source
    operator: str = ""


class TimeKind(Enum):
    """Whose word a time is: a timestamp authority's, or that of a log that signed when it took the entry."""

    TIMESTAMP = "timestamp"
    INTEGRATED = "integrated"


class TimeFact(Data):
    """This authority attests that the signature existed at this time."""

    when: datetime
    authority: str
    source: Source
    kind: TimeKind = TimeKind.TIMESTAMP
    operator: str = ""


class Unchecked(Data):
    """Something that the evidence claims and that was not checked, and why."""

    what: str
    why: str


class Attested(Data):
    """What logs and timestamp authorities prove about a signature, and the logs that prove it: a step on the way to facts."""

    inclusions: tuple[InclusionFact, ...] = ()
    promises: tuple[PromiseFact, ...] = ()
    times: tuple[TimeFact, ...] = ()
    logs: tuple[TransparencyLog, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()


class Vouched(Data):
    """Who signed, and the certificate logs that know of the certificate: a step on the way to facts."""

    signer: SignerFact
    certificate_logs: tuple[CertificateLogFact, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()


class Facts(Data):
    """Everything proved about one piece of evidence."""

    place: Place
    form: Form
    signature: SignatureFact
    signer: SignerFact
    inclusions: tuple[InclusionFact, ...] = ()
    times: tuple[TimeFact, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    promises: tuple[PromiseFact, ...] = ()
    certificate_logs: tuple[CertificateLogFact, ...] = ()
