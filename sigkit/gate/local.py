"""A decision about an image of which nothing is read but its digest, over evidence that lies in files: no connection is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import MalformedReference, Place
from sigkit.gate.prove import prove
from sigkit.policy.decide import decide
from sigkit.policy.decision import Request
from sigkit.verify.bind import Artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits
    from sigkit.oci.reference import Reference
    from sigkit.policy.decision import Decision
    from sigkit.policy.model import Policy


def judge_named(reference: Reference, evidence: Sequence[Evidence], policy: Policy, now: datetime, limits: Limits) -> Decision:
    """Decide about the digest that `reference` names, by the evidence given.

    Nothing can be admitted by it: whether there is such an image, or for which platform, nobody looked.

    Raises:
        MalformedReference: (REF) it has no digest; the place is the operator's.
    """
    if reference.digest is None:
        raise MalformedReference(
            "an image whose evidence lies in a file is named by its digest",
            place=Place.operator(reference.text),
            expected=f"{reference.repository}@sha256:…",
            remedy="add the digest (`sigkit tree IMAGE` prints it); the image itself is not read",
        )
    digest = reference.digest
    request = Request(reference.text, reference.repository, None, digest, (digest,), digest, None, None)
    proved = prove(evidence, Artifact.of(digest), policy.roots, now, limits)
    return decide(proved.facts, proved.refused, request, policy, now)
