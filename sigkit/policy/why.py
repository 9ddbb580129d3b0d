"""Why a decision is what it is, whole.

Every piece of evidence that was tried, what it proved, who had signed instead, and the smallest change that would make it pass.
`explain` answers the next question of somebody whose command was refused; this answers all of them, for `sigkit policy explain`. Lines
hold raw outside text. Whoever prints them escapes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sigkit.errors import (
    CertificateNotLogged,
    NameNotSigned,
    NoAttestation,
    NoGoodSignature,
    NotASignature,
    NotLogged,
    NotTimestamped,
    Unsigned,
    WrongAnnotation,
    WrongAuthority,
    WrongIdentity,
    WrongKey,
    WrongName,
)
from sigkit.policy.decision import (
    Hint,
    Met,
    Outcome,
    Unmet,
    encode_facts,
    encode_refused,
    encode_signer,
    encode_verdict,
    record_of,
    signers_of,
)
from sigkit.policy.distinct import signer_id
from sigkit.policy.evaluate import describe_signer, is_signature
from sigkit.policy.explain import Line, fact_lines, hint_line, reason_lines
from sigkit.policy.model import FLAGS
from sigkit.strict import encode_json
from sigkit.verify.facts import IdentitySigner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.policy.decision import Decision, Reason, ReasonTree, Record
    from sigkit.strict import Json
    from sigkit.verify.facts import Signer

SCHEMA: Final = "sigkit.explanation/1"

# How far a part is from being met: something small is missing beside a good signature; the signer said something else; another signed;
# nobody did.
_SMALL: Final = (NotLogged, NotTimestamped, CertificateNotLogged, NameNotSigned, WrongName, WrongAnnotation)
_DISTANCE: Final = {
    **{error.code: 1 for error in _SMALL},
    WrongAuthority.code: 2,
    NotASignature.code: 3,
    NoAttestation.code: 3,
    WrongKey.code: 4,
    WrongIdentity.code: 4,
    NoGoodSignature.code: 5,
    Unsigned.code: 6,
}
_FAR: Final = 9
_ANOTHER_SIGNED: Final = (WrongKey.code, WrongIdentity.code)


class Change(NamedTuple):
    """One thing to do, and the part of the policy that asks for it."""

    step: str
    where: str


class Why(NamedTuple):
    """A decision, explained whole."""

    record: Record
    instead: tuple[Signer, ...]  # who signed or attested, and met nothing
    changes: tuple[Change, ...]  # all of them together make it pass; none when it is allowed

    def lines(self) -> Iterator[Line]:
        """Give everything below the headline, in the order to print."""
        record = self.record
        by_flags = str(record.rule_place) == FLAGS
        rule = "no rule matches" if record.rule is None else f"{record.rule}  ({record.rule_place})"
        yield Line(1, "image", record.request.reference)
        yield Line(1, "policy", f"{record.policy.name} {record.policy.digest}")
        yield Line(1, "rule", "none: the flags say who must have signed" if by_flags else rule)
        if not record.facts and not record.refused:
            yield Line(1, "tried", "nothing: no evidence was found, or the rule asks for none")
        for number, facts in enumerate(record.facts, 1):
            yield Line(1, "tried", f"{number}. {facts.place}, which proves:")
            yield from (line for line in fact_lines(facts, 2) if line.label != "found at")
        for number, item in enumerate(record.refused, len(record.facts) + 1):
            yield Line(1, "tried", f"{number}. {item.place}, which proves nothing:")
            yield from (line for line in reason_lines(item.reason, 2) if (line.label, line.text) != ("where", str(item.place)))
        if record.tree is not None:
            yield from _tree_lines(record.tree, 1)
        elif record.reasons:
            yield from reason_lines(record.reasons[0], 1)
        for signer in self.instead:
            yield Line(1, "instead", describe_signer(signer))
        for left in record.unchecked:
            yield Line(1, "unchecked", f"{left.what}: {left.why}")
        for change in self.changes:
            yield Line(1, "change", f"{change.step}  ({change.where})" if change.where and not by_flags else change.step)
        hints = record.hints()
        yield from map(hint_line, hints)
        if not hints and record.tag_may_be_of_a_child():
            yield hint_line(Hint.NAME_THE_INDEX)
        # Where the right one signed, and something else is missing, another signer would be no help.
        if record.tree is not None and any(leaf.reason.code in _ANOTHER_SIGNED for leaf in _unmet_leaves(record.tree)):
            for signer in self.instead:
                step = f"give {_as_flags(signer)}" if by_flags else f"let the rule say so: {_as_requirement(signer)}"
                yield Line(1, "or", f"if {describe_signer(signer)} may vouch for it, {step}")


def explain_why(decision: Decision) -> Why:
    """Explain a decision whole."""
    record = record_of(decision)
    met = {signer_id(signer) for signer in signers_of(record.tree)} if record.tree else set()
    found = {signer_id(facts.signer.signer): facts.signer.signer for facts in record.facts}
    instead = tuple(found[name] for name in sorted(found) if name not in met)
    if record.outcome is Outcome.ALLOW:
        return Why(record, instead, ())
    if record.tree is None:
        return Why(record, instead, tuple(Change(reason.remedy, str(reason.place)) for reason in record.reasons))
    return Why(record, instead, smallest_change(record.tree))


def smallest_change(tree: ReasonTree) -> tuple[Change, ...]:
    """Return the fewest things that would have to be done, the nearest first where several would do."""
    return _cheapest(tree)[1]


def _cheapest(tree: ReasonTree) -> tuple[tuple[int, int], tuple[Change, ...]]:
    """Return what it costs, first in changes and then in distance, and the changes."""
    if isinstance(tree, Met):
        return (0, 0), ()
    if not tree.children:
        reason = tree.reason
        return (1, _DISTANCE.get(reason.code, _FAR)), (Change(reason.remedy or reason.problem, str(tree.place)),)
    open_parts = sorted((_cheapest(child) for child in tree.children if isinstance(child, Unmet)), key=lambda item: item[0])
    taken = open_parts[: tree.short]
    if len(taken) < tree.short:  # enough elements are met, but by too few signers
        missing = Change(tree.reason.remedy or f"another signer: {tree.reason.problem}", str(tree.place))
        return (tree.short, _FAR), (*(change for _, changes in taken for change in changes), missing)
    cost = (sum(cost[0] for cost, _ in taken), sum(cost[1] for cost, _ in taken))
    return cost, tuple(dict.fromkeys(change for _, changes in taken for change in changes))


def _unmet_leaves(tree: ReasonTree) -> Iterator[Unmet]:
    if isinstance(tree, Unmet) and not tree.children:
        yield tree
    for child in tree.children:
        yield from _unmet_leaves(child)


def _tree_lines(tree: ReasonTree, depth: int) -> Iterator[Line]:
    if isinstance(tree, Met):
        by = f", by {'; '.join(map(describe_signer, tree.by))}" if tree.by and not tree.children else ""
        yield Line(depth, "met", f"{tree.demand}{by}")
    else:
        yield Line(depth, "not met", tree.demand)
        yield from _own_reason(tree.reason, depth + 1, told=bool(tree.children))
    for child in tree.children:
        yield from _tree_lines(child, depth + 1)


def _own_reason(reason: Reason, depth: int, *, told: bool) -> Iterator[Line]:
    """Give a reason without what is said elsewhere: its parts stand in the tree, and evidence that was refused in the list."""
    yield Line(depth, "because", reason.problem, reason.code)
    if str(reason.place) and not told:
        yield Line(depth + 1, "where", str(reason.place))
    if reason.got:
        yield Line(depth + 1, "found", reason.got)


def _as_requirement(signer: Signer) -> str:
    """Write who signed as a policy would ask for it; text in double quotes, as YAML and JSON both read it."""
    if isinstance(signer, IdentitySigner):
        named: dict[str, Json] = {"issuer": signer.issuer, "subject": signer.subject} if signer.issuer else {"subject": signer.subject}
        return f"identity: {encode_json(named).decode()}"
    return f"key: NAME, with the key {signer.key} under `keys`"


def _as_flags(signer: Signer) -> str:
    """Write who signed as the flags that ask for it; where no issuer is named, any will do."""
    from shlex import quote

    if not isinstance(signer, IdentitySigner):
        return f"--key FILE with the key {signer.key}"
    issuer = f"--certificate-oidc-issuer {quote(signer.issuer)}" if signer.issuer else "--certificate-oidc-issuer-regexp '.*'"
    return f"--certificate-identity {quote(signer.subject)} {issuer}"


def encode_why(why: Why) -> dict[str, Json]:
    """Return an explanation as the document `sigkit.explanation/1` (docs/policy.md)."""
    record = why.record
    tried: list[Json] = [{"proved": encode_facts(facts), "isSignature": is_signature(facts)} for facts in record.facts]
    tried += [{"refused": encode_refused(item)} for item in record.refused]
    return {
        "schema": SCHEMA,
        "decision": encode_verdict(record),
        "tried": tried,
        "signedInstead": [encode_signer(signer) for signer in why.instead],
        "smallestChange": [{"step": change.step, "where": change.where} for change in why.changes],
    }
