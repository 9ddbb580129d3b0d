"""Sign a file, or what is said about one: the bundle is verified before its caller may write it anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.evidence.form import Found, evidence_of_bundle
from sigkit.limits import DEFAULT
from sigkit.signing.asking import after_publishing
from sigkit.signing.finish import verify_finished
from sigkit.signing.keyed import FileToSign, StatementToSign, check_statement
from sigkit.signing.payload import statement_for_file
from sigkit.verify.bind import Artifact

if TYPE_CHECKING:
    from sigkit.clock import Clock
    from sigkit.digest import Digest
    from sigkit.limits import Limits
    from sigkit.signing.keyed import Signatory, ToSign
    from sigkit.signing.predicate import Predicate
    from sigkit.verify.facts import Facts


class SignedFile(Data):
    """A bundle about the file whose digest this is, the bare signature in it, what the bundle proves, and what is public, as in `Made`."""

    digest: Digest
    bundle: bytes
    signature: bytes
    facts: Facts
    public: tuple[str, ...]


def sign_file(content: bytes, signatory: Signatory, clock: Clock, limits: Limits = DEFAULT) -> SignedFile:
    """Sign the content of a file.

    Raises:
        SigkitError: it could not be signed, or what was made does not verify.
    """
    return _make(FileToSign(content), Artifact.of_content(content), signatory, clock, limits)


def attest_file(
    content: bytes, name: str | None, predicate: Predicate, signatory: Signatory, clock: Clock, limits: Limits = DEFAULT
) -> SignedFile:
    """Sign what `predicate` says about a file, whose base name is `name`.

    Raises:
        TooLarge: (LIMIT) the attestation would be larger than evidence may be.
        SigkitError: as `sign_file`.
    """
    artifact = Artifact.of_content(content)
    statement = statement_for_file(artifact.digest, name, predicate.type).encode(predicate.members)
    return _make(StatementToSign(statement), artifact, signatory, clock, limits)


def _make(thing: ToSign, artifact: Artifact, signatory: Signatory, clock: Clock, limits: Limits) -> SignedFile:
    check_statement(thing, limits)
    made = signatory.make(thing)
    with after_publishing(made.public, "nothing was written"):
        evidence = evidence_of_bundle(made.bundle, Found("the bundle just made", None, "file"))
        facts = verify_finished(evidence, artifact, signatory.root, made.complete, clock, limits)
    return SignedFile(artifact.digest, made.bundle, made.signature, facts, made.public)
