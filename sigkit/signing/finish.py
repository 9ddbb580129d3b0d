"""The last step before anything is stored: the finished bundle, byte for byte, is verified as any verifier would, and must be complete.

What is stored and cannot be verified would be worse than nothing; what is stored without the log entry that everybody asks for, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import OtherIdentityCertified, ServiceNotTrusted
from sigkit.signing.stated import AHEAD
from sigkit.verify.facts import IdentitySigner
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from sigkit.clock import Clock
    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits
    from sigkit.signing.keyed import Complete
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.bind import Artifact
    from sigkit.verify.facts import Facts


def verify_finished(evidence: Evidence, artifact: Artifact, root: TrustedRoot, complete: Complete, clock: Clock, limits: Limits) -> Facts:
    """Prove that what was made just now verifies, and that nothing is missing.

    Raises:
        SigkitError: it does not verify.
        OtherIdentityCertified: (IDENT) it proves another signer.
        ServiceNotTrusted: (ROOT) fewer log entries or timestamps count than were asked for.
    """
    facts = verify(evidence, artifact, root, clock.now() + AHEAD, limits)
    if not is_complete(facts, complete):
        raise ServiceNotTrusted(
            "the evidence is not complete for a verifier with this trusted root",
            place=facts.place,
            expected=f"log entries: {complete.logs}, timestamps: {complete.timestamps}, each of another operator",
            got="; ".join(f"{item.what}: {item.why}" for item in facts.unchecked)
            or f"log entries: {len(facts.inclusions)}, timestamps: {len(facts.times)}",
        )
    if not same_signer(facts, complete):
        raise OtherIdentityCertified("the evidence proves another signer than the one who signed", place=facts.place)
    return facts


def is_complete(facts: Facts, complete: Complete) -> bool:
    """Tell whether as many distinct operators vouch for it as must."""
    from sigkit.verify.facts import TimeKind

    logs = {fact.operator or fact.log for fact in facts.inclusions}
    stamps = {fact.operator or fact.authority for fact in facts.times if fact.kind is TimeKind.TIMESTAMP}
    return len(logs) >= complete.logs and len(stamps) >= complete.timestamps


def same_signer(facts: Facts, complete: Complete) -> bool:
    """Tell whether the facts are about the signer who signed: of an identity issuer and subject decide."""
    found, wanted = facts.signer.signer, complete.signer
    if isinstance(found, IdentitySigner) and isinstance(wanted, IdentitySigner):
        return (found.issuer, found.subject, found.kind) == (wanted.issuer, wanted.subject, wanted.kind)
    return found == wanted
