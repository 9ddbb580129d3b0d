"""The verdict: verified facts and a policy in, a decision out. Pure.

A requirement is met only by what was proved. Facts of one piece of evidence count together or not at all: the key, the kind of statement
and the name are looked for inside one. Evidence that verification refused meets nothing; it stays beside the verdict for the
explanation. So removing evidence can only take an allow away, and adding some never does.

What could not be checked is no refusal: it denies in warn mode too, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sigkit.errors import (
    NameNotSigned,
    NoGoodSignature,
    NoneMet,
    NoRule,
    NotAllMet,
    NotASignature,
    OtherKey,
    Place,
    SigkitError,
    ThresholdNotMet,
    Unsigned,
    WrongKey,
    WrongName,
)
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.oci.reference import parse_reference
from sigkit.policy.decision import Allow, Deny, Met, PolicyRef, Reason, Standing, Unmet, Warn
from sigkit.policy.model import AllOf, AnyOf, AtLeast, KeyRequirement, Mode, NameRule, Unverified
from sigkit.verify.facts import IdentitySigner, KeySigner, Unchecked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sigkit.errors import PolicyError
    from sigkit.policy.decision import Decision, ReasonTree, RefusedEvidence, Request
    from sigkit.policy.model import Policy, Requirement, Rule
    from sigkit.verify.facts import Facts, Signer


def decide(facts: Sequence[Facts], refused: Sequence[RefusedEvidence], request: Request, policy: Policy, now: datetime) -> Decision:
    """Decide whether the image may run.

    Args:
        facts: what verification proved, one `Facts` for each piece of evidence; those about other images count for nothing.
        refused: what it did not accept.
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
    place = _seen(rule.place)
    if isinstance(rule.require, Unverified):
        tree: ReasonTree = Met(f"nothing: {rule.require.reason}", _seen(rule.require.place), ())
        unchecked: tuple[Unchecked, ...] = (Unchecked("signatures", f"the policy says so in writing: {rule.require.reason}"),)
    else:
        tree = _Case(rule, request, about, tuple(refused)).evaluate(rule.require)
        unchecked = _unchecked(rule, request, about)
    given = (request, ref, rule.label(), place)
    found = (about, tuple(refused), unchecked)
    if isinstance(tree, Met):
        return Allow(*given, tree, *found, rule.run, now)
    if rule.mode is Mode.WARN and tree.reason.standing is Standing.REFUSED:
        return Warn(*given, tree, *found, rule.run, now)
    return Deny(*given, tree, (tree.reason,), *found, now)


def is_signature(fact: Facts) -> bool:
    """Tell a signature from an attestation (CVE-2022-35929: any type of statement satisfied)."""
    return fact.signature.predicate_type == PREDICATE_SIGNATURE


def describe_signer(signer: Signer) -> str:
    """Name a signer for people."""
    match signer:
        case KeySigner(key, kind, name):
            return f"key {name} ({kind}, {key})"
        case IdentitySigner(issuer, subject, _):
            return f"identity {subject} of {issuer}"
        case _:
            assert_never(signer)


class _Case:
    """One rule applied to one image and its evidence."""

    def __init__(self, rule: Rule, request: Request, facts: tuple[Facts, ...], refused: tuple[RefusedEvidence, ...]) -> None:
        self.rule = rule
        self.request = request
        self.facts = facts
        self.refused = refused

    def evaluate(self, require: Requirement) -> ReasonTree:
        match require:
            case KeyRequirement():
                return self._key(require)
            case AllOf(of, place):
                return self._several(len(of), f"all of {len(of)}", of, _seen(place), NotAllMet)
            case AnyOf(of, place):
                return self._several(1, f"any of {len(of)}", of, _seen(place), NoneMet)
            case AtLeast(n, of, place):
                return self._several(n, f"at least {n} of {len(of)}, distinct", of, _seen(place), ThresholdNotMet)
            case _:
                assert_never(require)

    def _several(self, needed: int, demand: str, of: tuple[Requirement, ...], place: Place, error: type[PolicyError]) -> ReasonTree:
        children = tuple(self.evaluate(part) for part in of)
        met = [child for child in children if isinstance(child, Met)]
        # Not `all()` of what is there: an empty list would be met (Kyverno's vacuous `all`). Load refuses it; so does this.
        if of and len(met) >= needed:
            signers = dict.fromkeys(signer for child in met for signer in child.by)
            return Met(demand, place, tuple(signers), children)
        missing = tuple(child.reason for child in children if isinstance(child, Unmet))
        standing = _standing(needed - len(met), missing)
        problem = f"{len(met)} of {needed} distinct" if error is ThresholdNotMet else f"{len(met)} of {needed} met"
        return Unmet(demand, place, Reason(error.code, problem, place, demand, "", "", standing, missing), children)

    def _key(self, require: KeyRequirement) -> ReasonTree:
        fingerprint = require.key.key.fingerprint
        demand = f"a signature by key {require.key.name}"
        place = _seen(require.place)
        mine = [fact for fact in self.facts if isinstance(s := fact.signer.signer, KeySigner) and s.key == fingerprint]
        signatures = [fact for fact in mine if is_signature(fact)]
        if good := [fact for fact in signatures if self._name_fits(fact)]:
            return Met(demand, place, (good[0].signer.signer,))
        if signatures:
            reason = self._wrong_name(signatures, place)
        elif mine:
            types = ", ".join(sorted({fact.signature.predicate_type for fact in mine}))
            got = f"attestations only: {types}"
            reason = self._reason(NotASignature, f"key {require.key.name} attested, but did not sign", place, demand, got)
        else:
            reason = self._not_by(require, place, demand)
        return Unmet(demand, place, reason)

    def _not_by(self, require: KeyRequirement, place: Place, demand: str) -> Reason:
        """Tell apart: signed by others, evidence that was refused, and nothing there."""
        name, children = require.key.name, tuple(item.reason for item in self.refused)
        others = [describe_signer(fact.signer.signer) for fact in self.facts if is_signature(fact)]
        others += [f"a key that is not trusted here ({item.got or item.place})" for item in children if item.code == OtherKey.code]
        if others:
            got = "; ".join(dict.fromkeys(others))
            return self._reason(WrongKey, f"signed, but not by key {name}", place, demand, got, children)
        if children:
            problem = f"no signature by key {name} among {len(children)} piece{'s' if len(children) > 1 else ''} of evidence"
            return self._reason(NoGoodSignature, problem, place, demand, "", children)
        got = "attestations only" if self.facts else "no evidence"
        return self._reason(Unsigned, "no signature is attached to the image", place, demand, got)

    def _wrong_name(self, signatures: list[Facts], place: Place) -> Reason:
        wanted = self.rule.wanted_name(self.request.repository)
        names = dict.fromkeys(fact.signature.repository for fact in signatures if fact.signature.repository is not None)
        if names:
            problem = "the signature was made for another repository"
            return self._reason(WrongName, problem, place, f"the name {wanted}", ", ".join(names))
        return self._reason(NameNotSigned, "the signature names no repository", place, f"the name {wanted}", "no name")

    def _name_fits(self, fact: Facts) -> bool:
        name = fact.signature.repository
        match self.rule.name:
            case NameRule.ANY:
                return True
            case NameRule.IF_SIGNED if name is None:
                return True
            case _:
                return name is not None and _same_name(name, self.rule.wanted_name(self.request.repository))

    def _reason(
        self, error: type[PolicyError], problem: str, place: Place, expected: str, got: str, children: tuple[Reason, ...] = ()
    ) -> Reason:
        # Any piece that could not be read might have been the one that is missing.
        unread = any(item.reason.standing is Standing.UNCHECKED for item in self.refused)
        standing = Standing.UNCHECKED if unread else Standing.REFUSED
        return Reason(error.code, problem, place, expected, got, self._remedy(error), standing, children)

    def _remedy(self, error: type[PolicyError]) -> str:
        sign = f"sigkit sign --key KEY {self.request.pinned_text()}"
        if error is NameNotSigned:
            return f"{sign}, or write `name: any` in the rule"
        if error is WrongName:
            return f"{sign}, or map the name in the rule: `name: {{remap: [{{from: {self.request.repository}, to: …}}]}}`"
        return sign


def _standing(short: int, missing: tuple[Reason, ...]) -> Standing:
    """Call it unchecked only if what could not be read might have been enough."""
    unread = sum(reason.standing is Standing.UNCHECKED for reason in missing)
    return Standing.UNCHECKED if unread and unread >= short else Standing.REFUSED


def _same_name(signed: str, wanted: str) -> bool:
    """Compare a signed name, brought to canonical form, with a canonical one; a tag in it is not looked at."""
    if signed == wanted:
        return True
    try:
        return str(parse_reference(signed, Place("signed name")).repository) == wanted
    except SigkitError:
        return False


def _unchecked(rule: Rule, request: Request, facts: tuple[Facts, ...]) -> tuple[Unchecked, ...]:
    """List what these facts and this rule leave open."""
    open_ends = [item for fact in facts for item in fact.unchecked]
    if request.tag is not None:
        open_ends.append(Unchecked(f"tag {request.tag}", "a tag is not signed; everything is about the digest it had"))
    elif tag := parse_reference(request.reference, Place(request.reference)).tag:
        open_ends.append(Unchecked(f"tag {tag}", "never looked up; the digest beside it is what counts"))
    if facts and not any(fact.inclusions for fact in facts):
        open_ends.append(Unchecked("transparency log", "no proof that the signature was logged is asked for"))
    if facts and not any(fact.times for fact in facts):
        open_ends.append(Unchecked("time of signing", "no attested time is asked for"))
    for fact in facts:
        name = fact.signature.repository
        if name is None and rule.name in {NameRule.IF_SIGNED, NameRule.ANY}:
            open_ends.append(Unchecked("repository name", "the signature names none"))
        elif name is not None and rule.name is NameRule.ANY:
            open_ends.append(Unchecked(f"repository name {name}", "the rule says `name: any`"))
    return tuple(dict.fromkeys(open_ends))


def _no_rule(request: Request, place: Place) -> Reason:
    kind = f"tag {request.tag}" if request.tag is not None else "a digest, which matches only rules without tags"
    remedy = f"add a rule to {place.source}: `- images: {request.repository}` with what it must have"
    return Reason(NoRule.code, f"no rule matches {request.repository}", place, "a rule for it", kind, remedy)


def _seen(place: Place) -> Place:
    """Return a place in the policy as part of a verdict: the policy is right, so it is no usage error."""
    return Place(place.source, place.inside)
