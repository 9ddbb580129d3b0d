"""Sign or attest an image and attach the evidence: once, and only what verifies.

The finished bundle is verified against the signer's own public key before anything is pushed: what is stored and cannot be verified would
be worse than nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import SigkitError
from sigkit.evidence.attach import attach
from sigkit.evidence.collect import collect
from sigkit.evidence.form import Form, Found, evidence_of_bundle
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.limits import DEFAULT
from sigkit.signing.keyed import sign_payload
from sigkit.signing.payload import statement_for
from sigkit.signing.predicate import Predicate
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.digest import Digest
    from sigkit.evidence.form import Evidence
    from sigkit.evidence.statement import Statement
    from sigkit.keys.private import Signer
    from sigkit.limits import Limits
    from sigkit.oci.registry import Registry
    from sigkit.oci.resolve import Resolved
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.facts import Facts

_OWN_KEY: Final = "signing key"


class Signed(Data):
    """What a signature proves, the manifest that holds it, and whether it was added now or was there already."""

    added: bool
    manifest: Digest
    facts: Facts


def sign_and_attach(
    registry: Registry, resolved: Resolved, key: Signer, annotations: Mapping[str, str], clock: Clock, limits: Limits = DEFAULT
) -> Signed:
    """Sign what was resolved, and attach the signature, unless one with the same facts is there.

    Raises:
        WrongShape: (PARSE) an annotation whose name is reserved; nothing was asked of the registry.
        EvidenceUnlistable: (UNAVAIL) what is there cannot be listed; nothing was pushed.
        EvidenceNotAttached: (UNAVAIL) the registry took the signature and does not list it.
        SigError, BindError: the signature just made does not verify; nothing was pushed.
    """
    signature = Predicate(PREDICATE_SIGNATURE, {})
    return _attach_once(registry, resolved, key, statement_for(resolved, annotations), signature, clock.now(), limits)


def attest_and_attach(
    registry: Registry, resolved: Resolved, key: Signer, predicate: Predicate, clock: Clock, limits: Limits = DEFAULT
) -> Signed:
    """Sign what `predicate` says about what was resolved, and attach it, unless this key has attached the same.

    Raises:
        TooLarge: (LIMIT) the attestation would be larger than evidence may be; nothing was pushed.
        EvidenceUnlistable, EvidenceNotAttached, SigError, BindError: as `sign_and_attach`.
    """
    return _attach_once(registry, resolved, key, statement_for(resolved, {}, predicate.type), predicate, clock.now(), limits)


def _attach_once(
    registry: Registry, resolved: Resolved, key: Signer, statement: Statement, predicate: Predicate, now: datetime, limits: Limits
) -> Signed:
    root = root_of_keys([TrustedKey(_OWN_KEY, key.public)], _OWN_KEY)
    bundle = sign_payload(statement.encode(predicate.members), key).bundle
    finished = evidence_of_bundle(bundle, Found(str(resolved.repository), None, "file"))
    facts = verify(finished, Artifact.of(resolved.digest), root, now, limits)
    for evidence in collect(registry, resolved.repository, resolved.digest, limits).evidence:
        there = _same(evidence, facts, root, now, limits)
        if there and evidence.found.digest:
            return Signed(added=False, manifest=evidence.found.digest, facts=there)
    descriptor = attach(registry, resolved, bundle, statement.predicate_type, now)
    return Signed(added=True, manifest=descriptor.digest, facts=facts)


def _same(evidence: Evidence, facts: Facts, root: TrustedRoot, now: datetime, limits: Limits) -> Facts | None:
    """Return what `evidence` proves if it is what `facts` say; signatures differ each time, so they are not compared."""
    if evidence.form is not Form.BUNDLE:
        return None
    try:
        there = verify(evidence, Artifact.of(facts.signature.artifact), root, now, limits)
    except SigkitError:  # another's, or worthless: either way not this one
        return None
    mine, theirs = facts.signature, there.signature
    if mine.predicate_type != PREDICATE_SIGNATURE:  # what an attestation says is all of its payload
        return there if theirs.payload_digest == mine.payload_digest else None
    same = (theirs.predicate_type, theirs.repository, dict(theirs.annotations)) == (
        mine.predicate_type,
        mine.repository,
        dict(mine.annotations),
    )
    return there if same else None
