"""From a reference to a decision, and from a decision to an admission: the same path for verify, pull, run and every service.

The shell around the pure rooms. It owns the ports and holds no rule: resolve once, collect, verify each, decide; then confine, write the
audit line, admit. A refusal of one piece of evidence is kept for the explanation; what keeps the evidence from being listed whole is an
error, because the part that is missing could change the answer.
"""

from __future__ import annotations

import os
from datetime import UTC, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from sigkit import limits as all_limits
from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import AdmissionExpired, AdmissionUsed, NotAllowed, NotDecided, Place, SigkitError
from sigkit.evidence.collect import collect
from sigkit.gate.prove import prove
from sigkit.oci.resolve import resolve_and_pin
from sigkit.policy.decide import decide
from sigkit.policy.decision import Allow, Deny, Reason, RefusedEvidence, Request, Standing, encode_decision, encode_reason, encode_request
from sigkit.policy.model import Unverified
from sigkit.strict import encode_json
from sigkit.text import format_time
from sigkit.verify.bind import Artifact

if TYPE_CHECKING:
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.engine.admission import Admission, Confinement, Redeem
    from sigkit.evidence.form import Evidence
    from sigkit.gate.audit import AuditLog
    from sigkit.gate.confine import Asked
    from sigkit.gate.state import State
    from sigkit.limits import Limits
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import Registry
    from sigkit.oci.resolve import Pinned
    from sigkit.policy.decision import Decision, Warn
    from sigkit.policy.model import Policy
    from sigkit.strict import Json
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.facts import Facts

_ISSUED: Final = "admission/"


class Ports(Data):
    """What the gate needs of the world around it."""

    registry: Registry
    clock: Clock
    limits: Limits
    state: State
    audit: AuditLog


class Covers(Enum):
    """Whose signature counts when the reference names an index."""

    TOP = "top"  # the index's own: what `verify` is asked about
    IMAGE = "image"  # or else that of the manifest for the platform: what `run` starts


class Judgement(Data):
    """A decision, what it is about, notes on what was passed over while evidence was collected, and the evidence as it was found."""

    decision: Decision
    pinned: Pinned
    notes: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()


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
    return judge_pinned(resolve_and_pin(registry, reference, platform), policy, registry, clock, limits, covers)


def judge_pinned(
    pinned: Pinned, policy: Policy, registry: Registry, clock: Clock, limits: Limits, covers: Covers = Covers.TOP
) -> Judgement:
    """Decide about an image that was looked up; as `judge`."""
    request = Request.of(pinned)
    rule = policy.rule_for(request.repository, request.tag)
    if rule is None or isinstance(rule.require, Unverified):
        # No evidence could change the verdict, so none is asked for.
        return Judgement(decide((), (), request, policy, clock.now()), pinned, ())
    found = _gather(pinned, pinned.top, registry, policy.roots, clock, limits)
    decision = decide(found.facts, found.refused, request, policy, clock.now())
    if covers is Covers.IMAGE and not isinstance(decision, Allow) and pinned.manifest_digest != pinned.top:
        own = _gather(pinned, pinned.manifest_digest, registry, policy.roots, clock, limits)
        found = _Gathered(found.facts + own.facts, found.refused + own.refused, found.notes + own.notes, found.evidence + own.evidence)
        decision = decide(found.facts, found.refused, request, policy, clock.now())
    return Judgement(decision, pinned, found.notes, found.evidence)


class _Gathered(Data):
    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    notes: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def _gather(pinned: Pinned, about: Digest, registry: Registry, roots: tuple[TrustedRoot, ...], clock: Clock, limits: Limits) -> _Gathered:
    collected = collect(registry, pinned.repository, about, limits)
    unread = tuple(RefusedEvidence(item.place, Reason.of_unread(item.error)) for item in collected.unread)
    proved = prove(collected.evidence, Artifact.of(about), roots, clock.now(), limits)
    return _Gathered(proved.facts, unread + proved.refused, collected.notes, collected.evidence)


def admit(judgement: Judgement, asked: Asked, ports: Ports) -> Admission:
    """Turn an allow, or a warning, into leave to start one container: within the grant, once, and not for long.

    The line in the audit log is durable before the admission exists. A refusal is written there too, and so is an admission that could
    not be kept.

    Raises:
        NotAllowed: (POLICY) the decision is deny.
        NotDecided: (UNAVAIL) it is deny because something could not be checked.
        AdmissionExpired: (POLICY) the decision is old.
        PolicyError: more is asked for than the rule grants; the code says what.
        SigkitError: log or state cannot be written; then there is no admission.
    """
    from sigkit.gate.confine import confine  # here, since `verify` needs none of it

    decision = judgement.decision
    if isinstance(decision, Deny):
        record_denial(decision, ports)
        raise _refusal(decision)
    now = ports.clock.now()
    if not timedelta(0) <= now - decision.decided_at <= timedelta(seconds=all_limits.DECISION_AGE_S):
        raise AdmissionExpired(
            "the decision is too old to be acted on", got=format_time(decision.decided_at), remedy="run the command again"
        )
    try:
        confinement = confine(asked, decision.grant, decision.rule_place, lambda: _argv(judgement.pinned, asked, ports.registry))
    except SigkitError as err:
        reason = Reason.of_error(err)
        ports.audit.append("deny", {"request": encode_request(decision.request), "rule": decision.rule, "reasons": [encode_reason(reason)]})
        raise
    admission = _admit(decision, judgement.pinned, asked, confinement, ports)
    try:
        _issue(admission, ports)
    except SigkitError as err:
        record_failure(admission.audit_id, err, ports)
        raise
    return admission


def _refusal(decision: Deny) -> NotAllowed | NotDecided:
    unchecked = [reason for reason in decision.reasons if reason.standing is Standing.UNCHECKED]
    error, reason = (NotDecided, unchecked[0]) if unchecked else (NotAllowed, decision.reasons[0])
    # Not as the operator's: that would be a usage error.
    place = Place(reason.place.source, reason.place.inside)
    return error(f"{reason.code} {reason.problem}", place=place, remedy=reason.remedy)


def record_denial(decision: Deny, ports: Ports) -> None:
    """Write a refusal to the audit log."""
    ports.audit.append("deny", {"decision": encode_decision(decision)})


def record_failure(audit_id: str, err: BaseException, ports: Ports) -> None:
    """Write to the audit log that an admission came to nothing, and why. Of a foreign exception only the type: its text is anybody's."""
    foreign = Reason("", type(err).__name__, standing=Standing.UNCHECKED)
    reason = Reason.of_error(err) if isinstance(err, SigkitError) else foreign
    ports.audit.append("failed", {"admission": audit_id, "reason": encode_reason(reason)})


def _issue(admission: Admission, ports: Ports) -> None:
    # What runs that were killed left behind: expired, so nobody could redeem it.
    ports.state.forget(_ISSUED, f"{_ISSUED}{_moment(ports.clock.now())}")
    if not ports.state.compare_and_set(_key(admission), None, _fingerprint(admission)):
        raise AdmissionUsed("the state has this admission already", got=admission.nonce)


def _admit(decision: Allow | Warn, pinned: Pinned, asked: Asked, confinement: Confinement, ports: Ports) -> Admission:
    from sigkit.engine.admission import Admission

    nonce = os.urandom(16).hex()
    expires_at = ports.clock.now() + timedelta(seconds=all_limits.ADMISSION_LIFETIME_S)
    request = decision.request
    audit_id = ports.audit.append(
        "admit",
        {
            "nonce": nonce,
            "expires": format_time(expires_at),
            "decision": encode_decision(decision),
            "command": _listed(asked.command),
            "entrypoint": _listed(asked.entrypoint),
            "environment": [name for name, _ in asked.environment],  # values may be secret
            "confinement": _encode_confinement(confinement),
        },
    )
    return Admission(
        nonce=nonce,
        repository=request.repository,
        top=request.top,
        manifest=request.manifest,
        config=pinned.manifest.config.digest,
        platform=pinned.platform,
        command=asked.command,
        environment=asked.environment,
        confinement=confinement,
        policy_name=decision.policy.name,
        policy_digest=decision.policy.digest,
        expires_at=expires_at,
        audit_id=audit_id,
        reference=request.reference,
        tag=request.tag,
        entrypoint=asked.entrypoint,
    )


def redeemer(state: State, clock: Clock) -> Redeem:
    """Return what uses an admission up: it raises unless the gate gave exactly this one, not long ago, and nobody used it."""

    def redeem(admission: Admission) -> None:
        place = Place(admission.reference)
        if clock.now() >= admission.expires_at:
            withdraw(admission, state)
            raise AdmissionExpired("the admission has expired", place=place, expected=f"use before {format_time(admission.expires_at)}")
        if not state.compare_and_set(_key(admission), _fingerprint(admission), None):
            raise AdmissionUsed("the admission was used already, or the gate never gave it", place=place)

    return redeem


def withdraw(admission: Admission, state: State) -> None:
    """Make an admission worthless; one that was used already stays so."""
    state.compare_and_set(_key(admission), _fingerprint(admission), None)


def _argv(pinned: Pinned, asked: Asked, registry: Registry) -> tuple[str, ...]:
    """Return the command line that would run."""
    from sigkit.oci.image import parse_image_config

    config = pinned.manifest.config
    raw = registry.fetch_blob(pinned.repository, config, most_bytes=all_limits.CONFIG_BYTES)
    return parse_image_config(raw, Place(f"{pinned.repository}@{config.digest}")).argv(asked.entrypoint, asked.command)


def _key(admission: Admission) -> str:
    return f"{_ISSUED}{_moment(admission.expires_at)}/{admission.nonce}"


def _moment(when: datetime) -> str:
    """Write a time so that texts sort as times do."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def _fingerprint(admission: Admission) -> bytes:
    """Name everything that an admission grants, so that a changed copy is another one."""
    document: Json = {
        "repository": str(admission.repository),
        "digests": [str(admission.top), str(admission.manifest), str(admission.config)],
        "platform": str(admission.platform),
        "command": _listed(admission.command),
        "entrypoint": _listed(admission.entrypoint),
        "environment": [[name, value] for name, value in admission.environment],
        "confinement": _encode_confinement(admission.confinement),
        "policy": [admission.policy_name, str(admission.policy_digest)],
        "expires": admission.expires_at.isoformat(),
        "audit": admission.audit_id,
    }
    return str(Digest.of(encode_json(document))).encode()


def _listed(arguments: tuple[str, ...] | None) -> Json:
    return None if arguments is None else list(arguments)


def _encode_confinement(confinement: Confinement) -> Json:
    return {
        "network": confinement.network.value,
        "capabilities": list(confinement.capabilities),
        "mounts": [[mount.source, mount.destination, mount.access.value] for mount in confinement.mounts],
        "readOnly": confinement.read_only,
        "memoryBytes": confinement.memory_bytes,
        "pids": confinement.pids,
        "cpus": confinement.cpus,
        "noNewPrivileges": confinement.no_new_privileges,
        "user": confinement.user,
        "workingDir": confinement.working_dir,
        "hostname": confinement.hostname,
    }
