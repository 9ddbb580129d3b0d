"""What was signed: does it name this artifact, and under which repository's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import NOTHING, Data
from sigkit.digest import Digest
from sigkit.errors import AmbiguousArtifact, DigestNotCompared, OtherArtifact
from sigkit.evidence.statement import PREDICATE_SIGNATURE, REPOSITORY_ANNOTATION
from sigkit.verify.facts import SignatureFact, Unchecked

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.evidence.bundle import MessageSignature
    from sigkit.evidence.simple_signing import SimpleSigning
    from sigkit.evidence.statement import Statement, Subject


class Artifact(Data):
    """What evidence must be about: digests of the same bytes by different algorithms, the first of which names it.

    `content` holds the bytes themselves where the caller has them: pure Ed25519 over a file cannot be checked without.
    """

    digests: tuple[Digest, ...]
    content: bytes | None = None

    @classmethod
    def of(cls, digest: Digest) -> Artifact:
        """Know an artifact by one digest, as an image is."""
        return cls((digest,))

    @classmethod
    def of_content(cls, content: bytes) -> Artifact:
        """Know an artifact by its bytes."""
        return cls(tuple(Digest.of(content, algorithm) for algorithm in ("sha256", "sha384", "sha512")), content)

    @property
    def digest(self) -> Digest:
        """The digest that names it."""
        return self.digests[0]

    def by(self, algorithm: str) -> Digest | None:
        """Return its digest by this algorithm, if it is known."""
        return next((digest for digest in self.digests if digest.algorithm == algorithm), None)


class Bound(Data):
    """A fact about the artifact, and what was signed beside it without a meaning that is known."""

    fact: SignatureFact
    unchecked: tuple[Unchecked, ...]


def bind_statement(statement: Statement, artifact: Artifact, payload_digest: Digest, place: Place) -> Bound:
    """Prove that the statement is about `artifact`.

    Raises:
        OtherArtifact: (BIND) no subject has its digest.
        AmbiguousArtifact: (BIND) the subject has a further digest, which was not compared and may be of something else; or two subjects
            have this digest and say different things about it.
    """
    matching = [subject for subject in statement.subjects if any(digest in subject.digests for digest in artifact.digests)]
    if not matching:
        got = ", ".join(str(digest) for subject in statement.subjects[:4] for digest in subject.digests[:4])
        raise OtherArtifact("the statement names another artifact", place=place, expected=str(artifact.digest), got=got or "no digest")
    subject = matching[0]
    for other in matching:
        _check_digests(other, artifact, place)
        if (dict(other.annotations), other.untold) != (dict(subject.annotations), subject.untold):
            raise AmbiguousArtifact(
                "two subjects with this digest say different things", place=place, expected="one subject", got=str(len(matching))
            )
    if REPOSITORY_ANNOTATION in subject.untold:
        raise AmbiguousArtifact("the signed repository is no text", place=place, expected=f"{REPOSITORY_ANNOTATION} as a string")
    fact = SignatureFact(
        artifact=artifact.digest,
        predicate_type=statement.predicate_type,
        payload_digest=payload_digest,
        repository=subject.annotations.get(REPOSITORY_ANNOTATION),
        annotations=subject.annotations,
    )
    return Bound(fact, _untold(subject.untold))


def bind_simple_signing(signed: SimpleSigning, artifact: Artifact, payload_digest: Digest, place: Place) -> Bound:
    """Prove that cosign's older form is about `artifact`. It makes the same claim as a signature's statement.

    Raises:
        OtherArtifact: (BIND) it names another digest.
    """
    if signed.digest not in artifact.digests:
        raise OtherArtifact("the signature names another artifact", place=place, expected=str(artifact.digest), got=str(signed.digest))
    fact = SignatureFact(
        artifact=artifact.digest,
        predicate_type=PREDICATE_SIGNATURE,
        payload_digest=payload_digest,
        repository=signed.repository,
        annotations=signed.annotations,
    )
    return Bound(fact, _untold(signed.untold))


def check_stated(message: MessageSignature, artifact: Artifact, place: Place) -> None:
    """Prove that nothing beside a signature over the artifact's own bytes speaks of another artifact.

    The digest that a bundle states is not signed, and must be right all the same. It is compared before the signature is checked, which
    fails too where the file was changed, and could not say why.

    Raises:
        OtherArtifact: (BIND) the stated digest is another's.
        DigestNotCompared: (BIND) it is by an algorithm by which the artifact's is not known.
    """
    if not message.digest:
        return
    known = artifact.by(message.digest.algorithm)
    if known is None:
        raise DigestNotCompared("the stated digest was not compared", place=place, expected=str(artifact.digest), got=str(message.digest))
    if known != message.digest:
        raise OtherArtifact("it is the signature of a file with another digest", place=place, expected=str(known), got=str(message.digest))


def bind_message(artifact: Artifact) -> Bound:
    """Return what a signature over the artifact's own bytes says: it is what binds."""
    return Bound(SignatureFact(artifact.digest, None, artifact.digest, None, NOTHING), ())


def _check_digests(subject: Subject, artifact: Artifact, place: Place) -> None:
    # cosign accepts one digest that matches beside one that does not; here nothing that a subject says may stay uncompared.
    uncompared = [digest for digest in subject.digests if digest not in artifact.digests]
    if uncompared:
        raise AmbiguousArtifact(
            "the subject has a further digest that was not compared", place=place, expected=str(artifact.digest), got=str(uncompared[0])
        )


def _untold(names: tuple[str, ...]) -> tuple[Unchecked, ...]:
    return tuple(Unchecked(f"annotation {name}", "its value is not a string") for name in names)
