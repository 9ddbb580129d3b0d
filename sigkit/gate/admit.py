"""From a reference to a decision, and from a decision to an admission: the same path for verify, pull, run and every service.

The shell around the pure rooms. It owns the ports and holds no rule: resolve once, collect, verify each, decide; then confine, write the
audit line, admit. A refusal of one piece of evidence is kept for the explanation; what keeps the evidence from being listed whole is an
error, because the part that is missing could change the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sigkit.errors import SigkitError
from sigkit.evidence.collect import collect
from sigkit.oci.resolve import resolve_and_pin
from sigkit.policy.decide import decide
from sigkit.policy.decision import Deny, Reason, RefusedEvidence, Request
from sigkit.policy.model import Unverified
from sigkit.trust.root import root_of_keys
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from sigkit.clock import Clock
    from sigkit.digest import Digest
    from sigkit.limits import Limits
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import Registry
    from sigkit.oci.resolve import Pinned
    from sigkit.policy.decision import Decision
    from sigkit.policy.model import Policy
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.facts import Facts


class Covers(Enum):
    """Whose signature counts when the reference names an index."""

    TOP = "top"  # the index's own: what `verify` is asked about
    IMAGE = "image"  # or else that of the manifest for the platform: what `run` starts


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision, what it is about, and notes on what was passed over while evidence was collected."""

    decision: Decision
    pinned: Pinned
    notes: tuple[str, ...]


def judge(
    reference: Reference, platform: Platform, policy: Policy, registry: Registry, clock: Clock, limits: Limits, covers: Covers = Covers.TOP
) -> Judgement:
    """Decide about what `reference` names now.

    An index that is signed vouches for its children, because it names them by digest. The signatures of the image's own manifest are
    looked for only with `Covers.IMAGE`, and only when those of the index are not enough.

    Raises:
        AbsentReference: (REF) nothing is there; exit 3, no decision was made.
        EvidenceUnlistable: (UNAVAIL) the evidence could not be listed whole.
        SigkitError: the image's documents are refused, or the registry could not be asked.
    """
    pinned = resolve_and_pin(registry, reference, platform)
    request = Request.of(pinned)
    rule = policy.rule_for(request.repository, request.tag)
    if rule is None or isinstance(rule.require, Unverified):
        # No evidence could change the verdict, so none is asked for.
        return Judgement(decide((), (), request, policy, clock.now()), pinned, ())
    root = root_of_keys(policy.keys, policy.name)
    found = _gather(pinned, pinned.top, registry, root, clock, limits)
    decision = decide(found.facts, found.refused, request, policy, clock.now())
    if covers is Covers.IMAGE and isinstance(decision, Deny) and pinned.manifest_digest != pinned.top:
        own = _gather(pinned, pinned.manifest_digest, registry, root, clock, limits)
        found = _Gathered(found.facts + own.facts, found.refused + own.refused, found.notes + own.notes)
        decision = decide(found.facts, found.refused, request, policy, clock.now())
    return Judgement(decision, pinned, found.notes)


@dataclass(frozen=True, slots=True)
class _Gathered:
    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    notes: tuple[str, ...]


def _gather(pinned: Pinned, about: Digest, registry: Registry, root: TrustedRoot, clock: Clock, limits: Limits) -> _Gathered:
    collected = collect(registry, pinned.repository, about, limits)
    facts: list[Facts] = []
    refused = [RefusedEvidence(item.place, Reason.of_unread(item.error)) for item in collected.unread]
    now = clock.now()
    for evidence in collected.evidence:
        try:
            facts.append(verify(evidence, about, root, now, limits))
        except SigkitError as err:
            refused.append(RefusedEvidence(evidence.place, Reason.of_error(err)))
    return _Gathered(tuple(facts), tuple(refused), collected.notes)
