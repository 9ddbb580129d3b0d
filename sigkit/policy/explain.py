"""A decision in lines for a person: what was proved, what was not checked, why it was refused, and what to do next. Pure.

Lines hold raw outside text. Whoever prints them escapes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sigkit.data import Data
from sigkit.errors import OtherKey, WrongIdentity, WrongKey
from sigkit.policy.decision import Hint, Met, Outcome, Standing, evidence_of, record_of, signers_of
from sigkit.policy.distinct import signer_id
from sigkit.policy.evaluate import describe_signer, is_signature
from sigkit.text import format_time
from sigkit.verify.facts import IdentitySigner, TimeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sigkit.digest import Digest
    from sigkit.policy.decision import Decision, Reason, Record
    from sigkit.verify.facts import Facts


class Line(Data):
    """One line: how far it is indented, what it says about what, and a code if it has one."""

    depth: int
    label: str
    text: str
    code: str = ""


class Explanation(Data):
    """A decision, explained."""

    word: str  # allowed, warned, refused, could not check
    subject: str  # the image by digest
    facts: tuple[Line, ...]
    unchecked: tuple[Line, ...]
    reasons: tuple[Line, ...]
    next: tuple[str, ...]  # commands and edits that would make it pass
    hints: tuple[Hint, ...]  # what else to try

    def lines(self) -> tuple[Line, ...]:
        """Return everything below the headline, in the order to print."""
        steps = (*(Line(1, "next", step) for step in self.next), *map(hint_line, self.hints))
        return (*self.facts, *self.unchecked, *self.reasons, *steps)


_NAMES_THE_OTHERS = (WrongKey.code, WrongIdentity.code)
_SHOWN = 20  # pieces of evidence, or parts of a rule, that are told one by one: an image can have 1,000 signatures
_WORDS = {Outcome.ALLOW: "allowed", Outcome.WARN: "warned", Outcome.DENY: "refused"}


def word_for(record: Record) -> str:
    """Return the word for a decision: it tells a refusal from what could not be checked."""
    unchecked = any(reason.standing is Standing.UNCHECKED for reason in record.reasons)
    return "could not check" if unchecked else _WORDS[record.outcome]


def explain(decision: Decision) -> Explanation:
    """Explain a decision."""
    return explain_record(record_of(decision))


def explain_record(record: Record) -> Explanation:
    """Explain a decision that was stored."""
    request = record.request
    facts = [Line(1, "image", request.reference), *_digests(record), Line(1, "policy", _policy(record))]
    counted = evidence_of(record.tree) if isinstance(record.tree, Met) else frozenset()
    for item in sorted(record.facts, key=_by_weight(record)):
        if counted and item.place not in counted:
            kind = "signed" if is_signature(item) else "attested"
            facts.append(Line(1, "not needed", f"{kind} by {describe_signer(item.signer.signer)}, at {item.place}"))
        else:
            facts += fact_lines(item, 1)
    if isinstance(record.tree, Met):
        by = f", by {'; '.join(map(describe_signer, record.tree.by))}" if record.tree.children and record.tree.by else ""
        facts.append(Line(1, "met", f"{record.tree.demand}{by} ({record.tree.place})"))
    facts += [Line(1, "by index", _index(record, digest)) for digest in record.accepted_by() if digest != request.manifest]
    unchecked = tuple(Line(1, "unchecked", f"{item.what}: {item.why}") for item in record.unchecked)
    return Explanation(
        word_for(record),
        request.pinned_text(),
        tuple(facts),
        unchecked,
        tuple(_reasons(record)),
        next_steps(record.reasons),
        record.hints(),
    )


def hint_line(hint: Hint) -> Line:
    """Say what else to try."""
    match hint:
        case Hint.NAME_THE_INDEX:
            step = "if it is part of an index, that may be signed, and vouches for it: `sigkit verify --index INDEX IMAGE@DIGEST`"
            return Line(1, "or", step)
        case _:
            assert_never(hint)


def _by_weight(record: Record) -> Callable[[Facts], tuple[bool, bool, float]]:
    """Order pieces of evidence: by those who counted first, then the newest."""
    counted = {signer_id(signer) for signer in signers_of(record.tree)} if record.tree else set()
    evidence = evidence_of(record.tree) if record.tree else frozenset()

    def weight(facts: Facts) -> tuple[bool, bool, float]:
        newest = max((time.when.timestamp() for time in facts.times), default=0.0)
        return facts.place not in evidence, signer_id(facts.signer.signer) not in counted, -newest

    return weight


def _digests(record: Record) -> Iterator[Line]:
    request = record.request
    if request.top != request.manifest:
        yield Line(1, "index", str(request.top))
    yield Line(1, "manifest", f"{request.manifest} ({request.platform})" if request.platform else str(request.manifest))


def _index(record: Record, index: Digest) -> str:
    below = "" if record.request.chain[-2] == index else ", through an index within,"
    return f"the index {index} is signed{below} and names the image {record.request.manifest}"


def _policy(record: Record) -> str:
    rule = "no rule" if record.rule is None else f"rule {record.rule} at {record.rule_place}"
    return f"{record.policy.name} {record.policy.digest}, {rule}"


def fact_lines(facts: Facts, depth: int) -> Iterator[Line]:
    """Give what one piece of evidence proved."""
    signature = facts.signature
    kind = "signed by" if is_signature(facts) else "attested by"
    signer, within = facts.signer.signer, depth + 1
    yield Line(depth, kind, describe_signer(signer))
    if signature.predicate_type is not None and not is_signature(facts):
        yield Line(within, "type", signature.predicate_type)
    yield Line(within, "digest", str(signature.artifact))
    if signature.repository is not None:
        yield Line(within, "name", signature.repository)
    for name, value in signature.annotations.items():
        if value != signature.repository:
            yield Line(within, "annotation", f"{name}={value}")
    if isinstance(signer, IdentitySigner):
        for name, value in sorted(signer.extensions.items()):
            if value not in {signer.issuer, signer.subject}:
                yield Line(within, "extension", f"{name}={value}")
    yield from _vouching_lines(facts, within)
    source = facts.signer.source
    yield Line(within, "trusted by", f"{source.authority} of trust root {source.root} {source.root_digest}")
    yield Line(within, "found at", str(facts.place))


def _vouching_lines(facts: Facts, depth: int) -> Iterator[Line]:
    for inclusion in facts.inclusions:
        yield Line(depth, "in log", f"{inclusion.log} at index {inclusion.index}")
        for witness in inclusion.witnesses:
            yield Line(depth, "witness", f"{witness.rpartition('+')[0]}, of that log's tree")
    proved = {(inclusion.log, inclusion.index) for inclusion in facts.inclusions}
    for promise in facts.promises:
        if (promise.log, promise.index) in proved:
            continue  # an older bundle has both; what is proved need not be promised
        yield Line(depth, "promised", f"by log {promise.log} for index {promise.index}; not proved to be there")
    for logged in facts.certificate_logs:
        yield Line(depth, "cert log", f"{logged.log} at {format_time(logged.when)}")
    for time in facts.times:
        word = "timestamp by" if time.kind is TimeKind.TIMESTAMP else "log time by"
        yield Line(depth, "at", f"{format_time(time.when)}, {word} {time.authority}")


def _reasons(record: Record) -> Iterator[Line]:
    for reason in record.reasons:
        yield from reason_lines(reason, 1)
    told = {child for reason in record.reasons for child in _walk(reason)}
    untold = [item.reason for item in record.refused if item.reason not in told]
    for reason in untold[:_SHOWN]:
        yield from reason_lines(reason, 1, label="passed over")
    if len(untold) > _SHOWN:
        yield Line(1, "passed over", f"{len(untold) - _SHOWN} more pieces of evidence; `sigkit policy explain` lists them all")


def reason_lines(reason: Reason, depth: int, label: str = "because") -> Iterator[Line]:
    """Give a reason and those below it."""
    yield Line(depth, label, reason.problem, reason.code)
    if str(reason.place):
        yield Line(depth + 1, "where", str(reason.place))
    if reason.expected:
        yield Line(depth + 1, "wanted", reason.expected)
    if reason.got:
        yield Line(depth + 1, "found", reason.got)
    # Who signed instead stands in `found` already; a block for each says nothing more.
    children = [child for child in reason.children if not (reason.code in _NAMES_THE_OTHERS and child.code == OtherKey.code)]
    for child in children[:_SHOWN]:
        yield from reason_lines(child, depth + 1)
    if len(children) > _SHOWN:
        yield Line(depth + 1, "because", f"{len(children) - _SHOWN} more reasons; `sigkit policy explain` lists them all")


def _walk(reason: Reason) -> Iterator[Reason]:
    yield reason
    for child in reason.children:
        yield from _walk(child)


def next_steps(reasons: Sequence[Reason]) -> tuple[str, ...]:
    """List what would make it pass, innermost and most concrete first, each once."""
    steps = [step.remedy for reason in reasons for step in reversed(tuple(_walk(reason))) if step.remedy]
    if reasons:
        steps.append(f"sigkit why {reasons[0].code}")
    return tuple(dict.fromkeys(steps))
