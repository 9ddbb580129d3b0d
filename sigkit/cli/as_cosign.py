"""The answers of `cosign verify` and `cosign verify-attestation`, for scripts that parse them: what counted of each image that is allowed.

Of signatures it is one JSON list a line for each image, of attestations one envelope a line. What stands in it was verified, but for what
cosign takes over as it was found: `Bundle` and `RFC3161Timestamp`, which a signature in the older form has beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from sigkit.evidence.form import BUNDLE_PART, LAYER_PART, REKOR_BUNDLE_PART, TIMESTAMP_PART, Form
from sigkit.limits import DEFAULT
from sigkit.policy.commands import Thing
from sigkit.policy.decision import Met, Outcome
from sigkit.policy.evaluate import Case, evaluate, is_signature
from sigkit.policy.model import AllOf, AnyOf, AtLeast, AttestationRequirement, IdentityRequirement, KeyRequirement, Unverified
from sigkit.strict import encode_json, parse_json
from sigkit.verify.facts import IdentitySigner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sigkit.cli.output import Output
    from sigkit.evidence.envelope import Envelope
    from sigkit.evidence.form import Evidence
    from sigkit.policy.decision import Record, Request
    from sigkit.policy.model import Policy, Requirement
    from sigkit.strict import Cursor, Json
    from sigkit.verify.facts import Facts

_NOTHING: Final = "[]"  # the list of an image that a policy lets pass unverified, or warns of
_OF_OLDER: Final = {"Bundle": REKOR_BUNDLE_PART, "RFC3161Timestamp": TIMESTAMP_PART}
_ISSUER_OID: Final = "1.3.6.1.4.1.57264.1.1"
# Those that cosign prints, each under its name and under its number.
_EXTENSIONS: Final = {
    "githubWorkflowTrigger": "1.3.6.1.4.1.57264.1.2",
    "githubWorkflowSHA": "1.3.6.1.4.1.57264.1.3",
    "githubWorkflowName": "1.3.6.1.4.1.57264.1.4",
    "githubWorkflowRepository": "1.3.6.1.4.1.57264.1.5",
    "githubWorkflowRef": "1.3.6.1.4.1.57264.1.6",
}


def answer_as_cosign(output: Output, answer: Sequence[str], lines: Sequence[str]) -> None:
    """Print the answer in cosign's form; for a person, on stderr, `lines`."""
    for line in lines:
        output.note(line)
    if any(line == _NOTHING for line in answer):
        output.note("the list on stdout is empty: the policy lets this image pass without a signature that counts")
    output.answer(answer, None)


def cosign_lines(record: Record, policy: Policy, evidence: Sequence[Evidence], attestation_type: str) -> tuple[str, ...]:
    """Return what cosign would print about an image: nothing for one that is refused, as there.

    Args:
        record: the verdict.
        policy: by which it was made.
        evidence: as it was found.
        attestation_type: what was to be attested; "" where signatures are asked for.
    """
    if record.outcome is Outcome.DENY:
        return ()
    found = {item.place: item for item in evidence}
    counted = {facts.place: facts for facts in _counted(record, policy)}.values()  # once, under however many roots it holds
    if attestation_type:
        return tuple(_envelope(found[facts.place]) for facts in counted if not is_signature(facts))
    return (encode_json([_signature(facts, found[facts.place], record.request) for facts in counted if is_signature(facts)]).decode(),)


def _counted(record: Record, policy: Policy) -> Iterator[Facts]:
    """Yield the facts each of which meets a part of what the rule asks for."""
    request = record.request
    rule = policy.rule_for(request.repository, request.tag)
    if rule is None or isinstance(rule.require, Unverified):
        return
    parts = tuple(_parts(rule.require))
    for facts in record.facts:
        case = Case((facts,), (), rule.name, rule.wanted_name(request.repository), rule.annotations, Thing.IMAGE, "")
        if any(isinstance(evaluate(case, part), Met) for part in parts):
            yield facts


def _parts(require: Requirement) -> Iterator[Requirement]:
    match require:
        case KeyRequirement() | IdentityRequirement():
            yield require
        case AttestationRequirement(predicate_type, by, place):
            for part in _parts(by):
                yield AttestationRequirement(predicate_type, part, place)
        case AllOf(of, _) | AnyOf(of, _) | AtLeast(_, of, _):
            for each in of:
                yield from _parts(each)
        case _:
            assert_never(require)


def _signature(facts: Facts, evidence: Evidence, request: Request) -> Json:
    """Write one signature down as cosign 3 does; one in the older form as it was signed, and what stands beside it."""
    if facts.form is Form.SIMPLE_SIGNING:
        signed = _document(evidence, LAYER_PART)
        optional = {**_members(signed.find("optional")), **_certificate(facts), **_beside(evidence)}
        return {"critical": signed.member("critical").value, "optional": optional or None}
    artifact = facts.signature.artifact
    envelope = _bundled(evidence)
    subjects = parse_json(envelope.payload, most_bytes=DEFAULT.bundle_bytes, place=evidence.place).member("subject").items(DEFAULT.subjects)
    about = next(item for item in subjects if item.member("digest").object().get(artifact.algorithm) == artifact.hex)
    critical: Json = {
        "identity": {"docker-reference": _typed(request)},
        "image": {"docker-manifest-digest": str(artifact)},
        "type": facts.signature.predicate_type or "",
    }
    return {"critical": critical, "optional": _members(about.find("annotations"))}


def _certificate(facts: Facts) -> dict[str, Json]:
    signer = facts.signer.signer
    if not isinstance(signer, IdentitySigner):
        return {}
    found: dict[str, Json] = {"Subject": signer.subject}
    if signer.issuer:
        found |= {"Issuer": signer.issuer, _ISSUER_OID: signer.issuer}
    for name, number in _EXTENSIONS.items():
        if value := signer.extensions.get(name):
            found |= {_cosign_name(name): value, number: value}
    return found


def _cosign_name(name: str) -> str:
    return name.replace("SHA", "Sha")


def _beside(evidence: Evidence) -> dict[str, Json]:
    return {name: _document(evidence, part).value for name, part in _OF_OLDER.items() if part in evidence.parts}


def _envelope(evidence: Evidence) -> str:
    if evidence.form is Form.ENVELOPE:
        return encode_json(_document(evidence, LAYER_PART).value).decode()
    return encode_json(dict(_bundled(evidence).encode())).decode()


def _bundled(evidence: Evidence) -> Envelope:
    """Return the envelope in a bundle that was verified."""
    from sigkit.evidence.bundle import parse_bundle
    from sigkit.evidence.envelope import Envelope

    content = parse_bundle(evidence.parts[BUNDLE_PART], DEFAULT, evidence.place).content
    if not isinstance(content, Envelope):
        raise TypeError("a signature or attestation of an image is an envelope")
    return content


def _document(evidence: Evidence, part: str) -> Cursor:
    return parse_json(evidence.parts[part], most_bytes=DEFAULT.bundle_bytes, place=evidence.place)


def _members(cursor: Cursor | None) -> dict[str, Json]:
    return dict(cursor.object()) if cursor is not None else {}


def _typed(request: Request) -> str:
    """Return the reference as cosign completes it; to its library Docker Hub has another name."""
    registry = "index.docker.io" if request.repository.registry == "docker.io" else request.repository.registry
    end = f"@{request.top}" if request.tag is None else f":{request.tag}"
    return f"{registry}/{request.repository.path}{end}"
