"""The verdict: verified facts and a policy in, a decision out. Pure.

A requirement is met only by what was proved. Facts of one piece of evidence count together or not at all: the key, the kind of statement
and the name are looked for inside one. Evidence that verification refused meets nothing; it stays beside the verdict for the
explanation. So removing evidence can only take an allow away, and adding some never does.

What could not be checked is no refusal: it denies in warn mode too, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import NOTHING
from sigkit.errors import NoRule, Place
from sigkit.oci.reference import parse_reference
from sigkit.policy.commands import Thing
from sigkit.policy.decision import Allow, Deny, Met, PolicyRef, Reason, Standing, Warn
from sigkit.policy.evaluate import Case, describe_signer, evaluate, is_signature
from sigkit.policy.model import Mode, NameRule, Unverified
from sigkit.verify.facts import Unchecked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sigkit.policy.blob import BlobDecision
    from sigkit.policy.decision import Decision, ReasonTree, RefusedEvidence, Request
    from sigkit.policy.model import Policy, Requirement, Rule
    from sigkit.verify.bind import Artifact
    from sigkit.verify.facts import Facts


def decide(facts: Sequence[Facts], refused: Sequence[RefusedEvidence], request: Request, policy: Policy, now: datetime) -> Decision:
    """Decide whether the image may run.

    Args:
        facts: what verification proved: one `Facts` for each piece of evidence and each trust root under which it holds; those about other
            images count for nothing.
        refused: the evidence that it accepted under no root.
        request: the image asked for.
        policy: whose rules hold.
        now: written into the decision.

    Returns:
        Allow if the requirement of the most specific rule is met; Warn if it is refused in warn mode; else Deny, also when no rule
        matches (policy-controller#235).
    """
    ref = PolicyRef(policy.name, policy.digest)
    rule = policy.rule_for(request.repository, request.tag)
    if rule is None:
        place = Place(policy.place.source)
        return Deny(request, ref, None, place, None, (_no_rule(request, place),), tuple(facts), tuple(refused), (), now)
    about = tuple(fact for fact in facts if fact.signature.artifact in request.chain)
    place = Place(rule.place.source, rule.place.inside)  # the policy is right, so it is no usage error
    if isinstance(rule.require, Unverified):
        tree: ReasonTree = Met(f"nothing: {rule.require.reason}", Place(rule.require.place.source, rule.require.place.inside), ())
        unchecked: tuple[Unchecked, ...] = (Unchecked("signatures", f"the policy says so in writing: {rule.require.reason}"),)
    else:
        wanted = rule.wanted_name(request.repository)
        case = Case(about, tuple(refused), rule.name, wanted, rule.annotations, Thing.IMAGE, request.pinned_text())
        tree = evaluate(case, rule.require)
        unchecked = _unchecked(rule, request, about)
    given = (request, ref, rule.label(), place)
    found = (about, tuple(refused), unchecked)
    if isinstance(tree, Met):
        return Allow(*given, tree, *found, rule.run, now)
    if rule.mode is Mode.WARN and tree.reason.standing is Standing.REFUSED:
        return Warn(*given, tree, *found, rule.run, now)
    return Deny(*given, tree, (tree.reason,), *found, now)


def decide_blob(
    facts: Sequence[Facts],
    refused: Sequence[RefusedEvidence],
    artifact: Artifact,
    require: Requirement,
    now: datetime,
    name: str = "FILE",
) -> BlobDecision:
    """Decide about a file, by the same evaluation as images.

    A signature over the file's own bytes counts as a signature; files have no repository, so no name is compared.

    Args:
        facts: what verification proved; those about other artifacts count for nothing.
        refused: what it did not accept.
        artifact: the file.
        require: who must have signed, or attested.
        now: written into the decision.
        name: of the file, as a word of the shell, for the commands that a refusal tells.
    """
    from sigkit.policy.blob import BlobDecision  # images need none of it

    about = tuple(fact for fact in facts if fact.signature.artifact in artifact.digests)
    case = Case(about, tuple(refused), NameRule.ANY, "", NOTHING, Thing.FILE, name)
    return BlobDecision(artifact.digest, evaluate(case, require), about, tuple(refused), _open_ends(about), now)


def _unchecked(rule: Rule, request: Request, facts: tuple[Facts, ...]) -> tuple[Unchecked, ...]:
    """List what these facts and this rule leave open."""
    open_ends: list[Unchecked] = []
    if request.tag is not None:
        open_ends.append(Unchecked(f"tag {request.tag}", "a tag is not signed; everything is about the digest it had"))
    else:
        asked = parse_reference(request.reference, Place(request.reference))
        if asked.tag:
            why = (
                "never looked up; the digest beside it is what counts" if asked.digest else "not known there; the only image is what counts"
            )
            open_ends.append(Unchecked(f"tag {asked.tag}", why))
    open_ends += _open_ends(facts)
    for fact in facts:
        name = fact.signature.repository
        if name is None and rule.name in {NameRule.IF_SIGNED, NameRule.ANY}:
            open_ends.append(Unchecked("repository name", "the signature names none"))
        elif name is not None and rule.name is NameRule.ANY:
            open_ends.append(Unchecked(f"repository name {name}", "the rule says `name: any`"))
    return tuple(dict.fromkeys(open_ends))


def _open_ends(facts: tuple[Facts, ...]) -> tuple[Unchecked, ...]:
    """List what these facts leave open, whatever was asked for; of each piece of evidence by itself, since one vouches for no other."""
    open_ends = [item for fact in facts for item in fact.unchecked]
    pieces: dict[Place, list[Facts]] = {}  # each with what it proves under one root or several
    for fact in facts:
        pieces.setdefault(fact.place, []).append(fact)
    unlogged = [piece for piece in pieces.values() if not any(fact.inclusions for fact in piece)]
    for piece in unlogged:
        whose = "the signature" if len(unlogged) == len(pieces) else _named(piece[0])
        promised = any(fact.promises for fact in piece)
        why = f"a log promised to include {whose}; nothing proves that it did" if promised else f"nothing proves that {whose} was logged"
        open_ends.append(Unchecked("transparency log", why))
    untimed = [piece for piece in pieces.values() if not any(fact.times for fact in piece)]
    for piece in untimed:
        why = "nothing attests it" if len(untimed) == len(pieces) else f"nothing attests that of {_named(piece[0])}"
        open_ends.append(Unchecked("time of signing", why))
    return tuple(dict.fromkeys(open_ends))


def _named(fact: Facts) -> str:
    return f"the {'signature' if is_signature(fact) else 'attestation'} by {describe_signer(fact.signer.signer)}"


def _no_rule(request: Request, place: Place) -> Reason:
    kind = f"tag {request.tag}" if request.tag is not None else "a digest, which matches only rules without tags"
    remedy = f"add a rule to {place.source}: `- images: {request.repository}` with what it must have"
    return Reason(NoRule.code, f"no rule matches {request.repository}", place, "a rule for it", kind, remedy)
