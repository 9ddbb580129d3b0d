"""What was signed: does it name this artifact, and under which repository's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.errors import AmbiguousArtifact, OtherArtifact
from sigkit.evidence.statement import PREDICATE_SIGNATURE, REPOSITORY_ANNOTATION
from sigkit.verify.facts import SignatureFact, Unchecked

if TYPE_CHECKING:
    from sigkit.digest import Digest
    from sigkit.errors import Place
    from sigkit.evidence.simple_signing import SimpleSigning
    from sigkit.evidence.statement import Statement, Subject


class Bound(Data):
    """A fact about the artifact, and what was signed beside it without a meaning that is known."""

    fact: SignatureFact
    unchecked: tuple[Unchecked, ...]


def bind_statement(statement: Statement, artifact: Digest, payload_digest: Digest, place: Place) -> Bound:
    """Prove that the statement is about `artifact`.

    Raises:
        OtherArtifact: (BIND) no subject has its digest.
        AmbiguousArtifact: (BIND) the subject has a further digest, which was not compared and may be of something else; or two subjects
            have this digest and say different things about it.
    """
    matching = [subject for subject in statement.subjects if artifact in subject.digests]
    if not matching:
        got = ", ".join(str(digest) for subject in statement.subjects[:4] for digest in subject.digests[:4])
        raise OtherArtifact("the statement names another artifact", place=place, expected=str(artifact), got=got or "no digest")
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
        artifact=artifact,
        predicate_type=statement.predicate_type,
        payload_digest=payload_digest,
        repository=subject.annotations.get(REPOSITORY_ANNOTATION),
        annotations=subject.annotations,
    )
    return Bound(fact, _untold(subject.untold))


def bind_simple_signing(signed: SimpleSigning, artifact: Digest, payload_digest: Digest, place: Place) -> Bound:
    """Prove that cosign's older form is about `artifact`. It makes the same claim as a signature's statement.

    Raises:
        OtherArtifact: (BIND) it names another digest.
    """
    if signed.digest != artifact:
        raise OtherArtifact("the signature names another artifact", place=place, expected=str(artifact), got=str(signed.digest))
    fact = SignatureFact(
        artifact=artifact,
        predicate_type=PREDICATE_SIGNATURE,
        payload_digest=payload_digest,
        repository=signed.repository,
        annotations=signed.annotations,
    )
    return Bound(fact, _untold(signed.untold))


def _check_digests(subject: Subject, artifact: Digest, place: Place) -> None:
    # cosign accepts one digest that matches beside one that does not; here nothing that a subject says may stay uncompared.
    uncompared = [digest for digest in subject.digests if digest != artifact]
    if uncompared:
        raise AmbiguousArtifact(
            "the subject has a further digest that was not compared", place=place, expected=str(artifact), got=str(uncompared[0])
        )


def _untold(names: tuple[str, ...]) -> tuple[Unchecked, ...]:
    return tuple(Unchecked(f"annotation {name}", "its value is not a string") for name in names)
