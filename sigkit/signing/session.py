"""Sign or attest an image and attach the evidence: once, and only what verifies.

Before a key signs again, what it has signed already is looked for; before anything becomes public, the registry is asked
whether it takes a push. The finished bundle is verified, by the root that its readers have, before it is pushed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import SigkitError
from sigkit.evidence.attach import attach
from sigkit.evidence.collect import collect
from sigkit.evidence.form import Form, Found, evidence_of_bundle
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.limits import DEFAULT
from sigkit.signing.asking import after_publishing, asking
from sigkit.signing.finish import verify_finished
from sigkit.signing.keyed import StatementToSign, check_statement
from sigkit.signing.payload import statement_for
from sigkit.signing.predicate import Predicate
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.clock import Clock
    from sigkit.evidence.form import Evidence
    from sigkit.evidence.statement import Statement
    from sigkit.limits import Limits
    from sigkit.oci.registry import Registry
    from sigkit.oci.resolve import Resolved
    from sigkit.signing.keyed import Signatory
    from sigkit.verify.facts import Facts


class Signed(Data):
    """What a signature proves, the manifest that holds it, and whether it was added now or was there already."""

    added: bool
    manifest: Digest
    facts: Facts


def sign_image(
    registry: Registry, resolved: Resolved, signatory: Signatory, annotations: Mapping[str, str], clock: Clock, limits: Limits = DEFAULT
) -> Signed:
    """Sign what was resolved, and attach the signature, unless there is one that the signatory would make again.

    Raises:
        WrongShape: (PARSE) an annotation whose name is reserved; nothing was asked of the registry.
        EvidenceUnlistable: (UNAVAIL) what is there cannot be listed; nothing was signed.
        EvidenceNotAttached: (UNAVAIL) the registry took the signature and does not list it.
        SigkitError: it could not be signed, or what was made does not verify; nothing was attached.
    """
    signature = Predicate(PREDICATE_SIGNATURE, {})
    return _attach_once(registry, resolved, signatory, statement_for(resolved, annotations), signature, clock, limits)


def attest_image(
    registry: Registry, resolved: Resolved, signatory: Signatory, predicate: Predicate, clock: Clock, limits: Limits = DEFAULT
) -> Signed:
    """Sign what `predicate` says about what was resolved, and attach it, unless the signatory has attached the same.

    Raises:
        TooLarge: (LIMIT) the attestation would be larger than evidence may be; nothing was signed.
        SigkitError: as `sign_image`.
    """
    return _attach_once(registry, resolved, signatory, statement_for(resolved, {}, predicate.type), predicate, clock, limits)


def _attach_once(
    registry: Registry, resolved: Resolved, by: Signatory, statement: Statement, predicate: Predicate, clock: Clock, limits: Limits
) -> Signed:
    thing = StatementToSign(statement.encode(predicate.members))
    check_statement(thing, limits)
    if by.repeats:
        for evidence in collect(registry, resolved.repository, resolved.digest, limits).evidence:
            there = _same(evidence, resolved.digest, by, statement, thing, clock, limits)
            if there and evidence.found.digest:
                return Signed(added=False, manifest=evidence.found.digest, facts=there)
    if by.publishes:
        with asking(_registry(resolved), "nothing was logged or attached"):
            registry.check_push(resolved.repository)  # a registry that takes nothing says so before anything is public
    made = by.make(thing)
    with after_publishing(made.public, "nothing was attached"):
        finished = evidence_of_bundle(made.bundle, Found(str(resolved.repository), None, "file"))
        facts = verify_finished(finished, Artifact.of(resolved.digest), by.root, made.complete, clock, limits)
    with asking(_registry(resolved), "the signature was logged, and is not attached" if made.complete.logs else "nothing was attached"):
        descriptor = attach(registry, resolved, made.bundle, statement.predicate_type, clock.now())
    return Signed(added=True, manifest=descriptor.digest, facts=facts)


def _registry(resolved: Resolved) -> str:
    return f"the registry {resolved.repository.registry}"


def _same(
    evidence: Evidence, digest: Digest, by: Signatory, statement: Statement, thing: StatementToSign, clock: Clock, limits: Limits
) -> Facts | None:
    """Return what `evidence` proves if it is what would be made now; signatures differ each time, so they are not compared."""
    if evidence.form is not Form.BUNDLE:
        return None
    try:
        there = verify(evidence, Artifact.of(digest), by.root, clock.now(), limits)
    except SigkitError:  # another's, or worthless: either way not this one
        return None
    if not by.has_made(there):
        return None
    said = there.signature
    if statement.predicate_type != PREDICATE_SIGNATURE:  # what an attestation says is all of its payload
        return there if said.payload_digest == Digest.of(thing.payload) else None
    subject = statement.subjects[0]
    same = (said.predicate_type, said.repository, dict(said.annotations)) == (
        PREDICATE_SIGNATURE,
        subject.name,
        dict(subject.annotations),
    )
    return there if same else None
