"""Is a requirement met by what was proved: the one matcher, for images and files, for policies and flags. Pure.

Facts of one piece of evidence count together or not at all: signer, authority, kind of statement, name, annotations and demands are looked
for inside one. Each further fact can only help, so that dropping one never turns a deny into an allow.

For a part that is not met, the reason is that of the evidence which came nearest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from sigkit import limits
from sigkit.data import Data
from sigkit.errors import (
    CertificateNotLogged,
    NameNotSigned,
    NoAttestation,
    NoGoodSignature,
    NoneMet,
    NotAllMet,
    NotASignature,
    NotLogged,
    NotTimestamped,
    NotWitnessed,
    OtherKey,
    Place,
    SigkitError,
    ThresholdNotMet,
    Unsigned,
    WrongAnnotation,
    WrongAuthority,
    WrongIdentity,
    WrongKey,
    WrongName,
)
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.oci.reference import parse_reference
from sigkit.policy.commands import SIGNED, Said, Thing, ask_command, sign_command
from sigkit.policy.decision import Met, Reason, Standing, Unmet
from sigkit.policy.distinct import count_distinct, signer_id
from sigkit.policy.model import FLAGS, AllOf, AnyOf, AtLeast, AttestationRequirement, IdentityRequirement, KeyRequirement, NameRule
from sigkit.verify.facts import IdentitySigner, KeySigner, TimeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sigkit.digest import Digest
    from sigkit.policy.decision import ReasonTree, RefusedEvidence
    from sigkit.policy.model import Anchor, Requirement
    from sigkit.verify.facts import Facts, InclusionFact, PromiseFact, Signer, Source

IMAGE_SIGNATURES: Final[frozenset[str | None]] = frozenset((PREDICATE_SIGNATURE,))
FILE_SIGNATURES: Final[frozenset[str | None]] = frozenset((PREDICATE_SIGNATURE, None))


class Case(Data):
    """What a requirement is applied to: facts about one artifact, and how names and annotations are compared."""

    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    name: NameRule
    wanted_name: str  # "" where there is none to compare with
    annotations: Mapping[str, str]
    thing: Thing
    artifact: str  # for commands that a person pastes


# There is evidence, and none of it holds: nobody should sign that away.
_ASK: Final = "do not use it: compare the digest with the one that its publisher names, and ask there for evidence about it"


def is_signature(fact: Facts) -> bool:
    """Tell a signature from an attestation (CVE-2022-35929: any type of statement satisfied)."""
    return fact.signature.predicate_type in FILE_SIGNATURES


def describe_signer(signer: Signer) -> str:
    """Name a signer for people."""
    match signer:
        case KeySigner(key, kind, name):
            return f"key {name} ({kind}, {key})"
        case IdentitySigner(issuer, subject):
            return f"identity {subject} of {issuer}" if issuer else f"identity {subject}"
        case _:
            assert_never(signer)


def evaluate(case: Case, require: Requirement) -> ReasonTree:
    """Apply a requirement: what is met and by whom, or what is missing, part by part."""
    return _evaluate(case, require, SIGNED)


def _evaluate(case: Case, require: Requirement, said: Said) -> ReasonTree:
    match require:
        case KeyRequirement() | IdentityRequirement():
            return _leaf(case, require, said)
        case AttestationRequirement(predicate_type, by, _):
            return _evaluate(case, by, Said(attested=True, predicate_type=predicate_type))
        case AllOf(of, place):
            return _several(case, said, len(of), f"all of {len(of)}", of, _seen(place), NotAllMet)
        case AnyOf(of, place):
            return _several(case, said, 1, f"any of {len(of)}", of, _seen(place), NoneMet)
        case AtLeast(n, of, place):
            return _several(case, said, n, f"at least {n} of {len(of)}, by distinct signers", of, _seen(place), ThresholdNotMet)
        case _:
            assert_never(require)


def _several(
    case: Case, said: Said, needed: int, demand: str, of: tuple[Requirement, ...], place: Place, error: type[SigkitError]
) -> ReasonTree:
    children = tuple(_evaluate(case, part, said) for part in of)
    met = [(part, child) for part, child in zip(of, children, strict=True) if isinstance(child, Met)]
    count = count_distinct(met) if error is ThresholdNotMet else len(met)
    # Not `all()` of what is there: an empty list would be met (Kyverno's vacuous `all`). Load refuses it; so does this.
    if of and count >= needed:
        signers = {signer_id(signer): signer for _, child in met for signer in child.by}
        evidence = dict.fromkeys(where for _, child in met for where in child.evidence)
        return Met(demand, place, tuple(signers.values()), children, tuple(evidence))
    missing = tuple(child.reason for child in children if isinstance(child, Unmet))
    standing = _standing(needed - count, missing)
    problem = f"{count} of {needed} distinct" if error is ThresholdNotMet else f"{count} of {needed} met"
    return Unmet(demand, place, Reason(error.code, problem, place, demand, "", "", standing, missing), children, needed - count)


def _leaf(case: Case, require: KeyRequirement | IdentityRequirement, said: Said) -> ReasonTree:
    """Narrow the facts step by step; where none is left, that step is the reason."""
    place = _seen(require.place)
    demand = _demand(require, said)
    told = [fact for fact in case.facts if _is_said(case, fact, said)]
    mine = [fact for fact in told if _is_by(fact, require)]
    steps: tuple[tuple[Callable[[Facts], bool], Callable[[list[Facts]], Reason]], ...] = (
        (lambda fact: _is_anchored(fact, require), lambda left: _wrong_authority(case, left, require, place)),
        (lambda fact: _name_fits(case, fact), lambda left: _wrong_name(case, left, require, said, place)),
        (lambda fact: said.attested or _annotated(case, fact), lambda left: _wrong_annotation(case, left, require, place)),
        (lambda fact: not _lacking(fact, require), lambda left: _not_enough(case, left, require, place)),
    )
    if not mine:
        return Unmet(demand, place, _not_by(case, told, require, said, place, demand))
    for fits, reason in steps:
        left = [fact for fact in mine if fits(fact)]
        if not left:
            return Unmet(demand, place, reason(mine))
        mine = left
    mine.sort(key=lambda fact: (fact.place.source, fact.place.inside))  # the order in which a registry lists them decides nothing
    signers = {signer_id(fact.signer.signer): fact.signer.signer for fact in mine}
    evidence = tuple(dict.fromkeys(fact.place for fact in mine))  # of one piece there are facts under several roots
    return Met(demand, place, tuple(signers[name] for name in sorted(signers)), (), evidence)


def _demand(require: KeyRequirement | IdentityRequirement, said: Said) -> str:
    what = "a signature"
    if said.attested:
        what = f"an attestation of type {said.predicate_type}" if said.predicate_type else "an attestation"
    return f"{what} by {describe_leaf(require)}"


def describe_leaf(require: KeyRequirement | IdentityRequirement) -> str:
    """Name in words who is asked for, and what must vouch for the signature."""
    demands = require.demands
    counts = (
        (demands.log_entries, "logEntries"),
        (demands.log_inclusions, "logInclusions"),
        (demands.timestamps, "timestamps"),
        (demands.certificate_logs, "certificateLogs"),
        (demands.witnesses, "witnesses"),
    )
    extra = "".join(f", {what} {number}" for number, what in counts if number)
    match require:
        case KeyRequirement(key):
            return f"key {key.name}{extra}"
        case IdentityRequirement(identity, anchor, _, _, label):
            named = f"authority {label}: " if label else ""
            return f"{named}identity {identity}, certified by {anchor.name}{extra}"
        case _:
            assert_never(require)


def _is_by(fact: Facts, require: KeyRequirement | IdentityRequirement) -> bool:
    signer = fact.signer.signer
    if isinstance(require, KeyRequirement):
        return isinstance(signer, KeySigner) and signer.key == require.key.key.fingerprint
    return isinstance(signer, IdentitySigner) and not require.identity.differs(signer)


def _is_said(case: Case, fact: Facts, said: Said) -> bool:
    predicate_type = fact.signature.predicate_type
    if not said.attested:
        return predicate_type in (IMAGE_SIGNATURES if case.thing is Thing.IMAGE else FILE_SIGNATURES)
    if predicate_type is None:
        return False
    return said.predicate_type is None or predicate_type == said.predicate_type


def _is_anchored(fact: Facts, require: KeyRequirement | IdentityRequirement) -> bool:
    """Tell whether the anchor vouches: its authorities for the signer, and its own root for when. One chain may stand under two anchors."""
    if isinstance(require, KeyRequirement):
        return True
    clocks = {time.source.root_digest for time in fact.times}
    return fact.signer.source.root_digest == require.anchor.authorities and require.anchor.logs in clocks


def _annotated(case: Case, fact: Facts) -> bool:
    return all(fact.signature.annotations.get(name) == value for name, value in case.annotations.items())


def _name_fits(case: Case, fact: Facts) -> bool:
    name = fact.signature.repository
    match case.name:
        case NameRule.ANY:
            return True
        case NameRule.IF_SIGNED if name is None:
            return True
        case _:
            return name is not None and _same_name(name, case.wanted_name)


def _same_name(signed: str, wanted: str) -> bool:
    """Compare a signed name, brought to canonical form, with a canonical one; a tag in it is not looked at."""
    if signed == wanted:
        return True
    try:
        return str(parse_reference(signed, Place("signed name")).repository) == wanted
    except SigkitError:
        return False


def _lacking(fact: Facts, require: KeyRequirement | IdentityRequirement) -> tuple[tuple[type[SigkitError], str, int, int], ...]:
    """Return each demand that this one piece of evidence does not meet: error, what is counted, how many there are and should be."""
    demands = require.demands
    counted = (
        (NotLogged, "transparency logs", _logs(fact, require.anchor), demands.log_entries),
        (NotLogged, "transparency logs that prove it", _inclusions(fact, require.anchor), demands.log_inclusions),
        (NotTimestamped, "timestamp authorities", _stamps(fact, require.anchor), demands.timestamps),
        (CertificateNotLogged, "certificate logs", _certificate_logs(fact, require.anchor), demands.certificate_logs),
        (NotWitnessed, "witnesses", _witnesses(fact, require), demands.witnesses),
    )
    return tuple((error, what, there, wanted) for error, what, there, wanted in counted if there < wanted)


def _logs(fact: Facts, anchor: Anchor | None) -> int:
    entries: tuple[InclusionFact | PromiseFact, ...] = (*fact.inclusions, *fact.promises)
    return _operators((item.source, item.operator, item.log) for item in entries if _counts(item.source, anchor))


def _inclusions(fact: Facts, anchor: Anchor | None) -> int:
    return _operators((item.source, item.operator, item.log) for item in fact.inclusions if _counts(item.source, anchor))


def _stamps(fact: Facts, anchor: Anchor | None) -> int:
    stamps = (item for item in fact.times if item.kind is TimeKind.TIMESTAMP)
    return _operators((item.source, item.operator, item.authority) for item in stamps if _counts(item.source, anchor))


def _certificate_logs(fact: Facts, anchor: Anchor | None) -> int:
    return _operators((item.source, item.operator, item.log) for item in fact.certificate_logs if _counts(item.source, anchor))


def _witnesses(fact: Facts, require: KeyRequirement | IdentityRequirement) -> int:
    """Count those of the witnesses asked for that signed one tree with the entry in it: of two trees each could be shown to one reader."""
    asked = {witness.identifier for witness in require.demands.witnessed_by}
    return max((len(asked.intersection(item.witnesses)) for item in fact.inclusions if _counts(item.source, require.anchor)), default=0)


def _counts(source: Source, anchor: Anchor | None) -> bool:
    wanted: Digest | None = anchor.logs if anchor else None
    return wanted is None or source.root_digest == wanted


def _operators(found: Iterable[tuple[Source, str, str]]) -> int:
    """Count distinct operators; a log or authority whose operator the root does not name stands for itself."""
    return len({operator or f"{source.root_digest} {name}" for source, operator, name in found})


def _standing(short: int, missing: tuple[Reason, ...]) -> Standing:
    """Call it unchecked only if what could not be read might have been enough."""
    unread = sum(reason.standing is Standing.UNCHECKED for reason in missing)
    return Standing.UNCHECKED if unread and unread >= short else Standing.REFUSED


def _seen(place: Place) -> Place:
    """Return a place in the policy as part of a verdict: the policy is right, so it is no usage error."""
    return Place(place.source, place.inside)


# Reasons. They say what came nearest and what would make it pass; nothing is decided here.


def _reason(
    case: Case,
    error: type[SigkitError],
    problem: str,
    place: Place,
    expected: str,
    got: str,
    remedy: str,
    children: tuple[Reason, ...] = (),
) -> Reason:
    # Any piece that could not be read might have been the one that is missing.
    unread = any(item.reason.standing is Standing.UNCHECKED for item in case.refused)
    standing = Standing.UNCHECKED if unread else Standing.REFUSED
    return Reason(error.code, problem, place, expected, got, remedy, standing, children)


def _sign(case: Case, require: KeyRequirement | IdentityRequirement, said: Said = SIGNED, given: Sequence[str] = ()) -> str:
    return sign_command(case.thing, case.artifact, require, said, given)


def _not_by(case: Case, told: list[Facts], require: KeyRequirement | IdentityRequirement, said: Said, place: Place, demand: str) -> Reason:
    """Tell apart: said by others, something else said, evidence that was refused, and nothing there."""
    who = f"key {require.key.name}" if isinstance(require, KeyRequirement) else f"the identity {require.identity}"
    children = tuple(item.reason for item in case.refused)
    remedy = _sign(case, require, said)
    mine = [fact for fact in case.facts if _is_by(fact, require)]
    if mine:
        types = ", ".join(sorted({fact.signature.predicate_type or "a signature" for fact in mine}))
        if said.attested:
            return _reason(case, NoAttestation, f"{who} made no attestation of this type", place, demand, types, remedy)
        problem, got = f"{who} attested, but did not sign", f"attestations only: {types}"
        if any(fact.signature.predicate_type is None for fact in mine):
            problem, got = f"{who} signed it as a file, not as an image", "the signature of a file"
        return _reason(case, NotASignature, problem, place, demand, got, _or_ask(remedy, case, mine))
    others = [_as_found(fact, require) for fact in told]
    others += [f"a key that is not trusted here ({item.got or item.place})" for item in children if item.code == OtherKey.code]
    verb = "attested" if said.attested else "signed"
    if others:
        got = _listed(others)
        error = WrongKey if isinstance(require, KeyRequirement) else WrongIdentity
        problem = f"{verb}, but not by {who}"
        if slash := next(filter(None, (_issuer_but_for_a_slash(fact, require) for fact in told)), ""):
            problem, remedy = f"{problem}: the issuers differ by a slash at the end", _meant_issuer(slash, place)
        return _reason(case, error, problem, place, demand, got, remedy, children)
    what = "attestation" if said.attested else "signature"
    if children:
        problem = f"no {what} by {who} among {len(children)} piece{'s' if len(children) > 1 else ''} of evidence"
        return _reason(case, NoGoodSignature, problem, place, demand, "", _ASK, children)
    if said.attested:
        types = ", ".join(sorted({fact.signature.predicate_type or "a signature" for fact in case.facts}))
        return _reason(case, NoAttestation, "no attestation of this type is there", place, demand, types or "no evidence", remedy)
    got = "attestations only" if case.facts else "no evidence"
    problem = "no signature is attached to the image" if case.thing is Thing.IMAGE else "there is no signature of the file"
    return _reason(case, Unsigned, problem, place, demand, got, _or_ask(remedy, case, case.facts))


def _or_ask(remedy: str, case: Case, facts: Iterable[Facts]) -> str:
    """Add to the command that signs the one that asks for what is there, if that is a statement."""
    stated = next((found for fact in facts if (found := fact.signature.predicate_type)), None)
    return remedy if stated is None else f"{remedy}; what is stated of it is asked for by {ask_command(case.thing, stated)}"


def _issuer_but_for_a_slash(fact: Facts, require: KeyRequirement | IdentityRequirement) -> str:
    signer = fact.signer.signer
    if isinstance(require, KeyRequirement) or not isinstance(signer, IdentitySigner):
        return ""
    return require.identity.issuer_but_for_a_slash(signer)


def _meant_issuer(issuer: str, place: Place) -> str:
    from shlex import quote

    written = f"--certificate-oidc-issuer {quote(issuer)}" if place.source == FLAGS else f"`issuer: {issuer}` in the policy"
    return f"if that issuer is meant, write {written}"


def _listed(others: list[str]) -> str:
    """Write down who signed, each once; of very many the first, since `policy explain` lists them all."""
    names = sorted(set(others))
    more = len(names) - limits.SIGNERS_SHOWN
    return "; ".join(names[: limits.SIGNERS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _as_found(fact: Facts, require: KeyRequirement | IdentityRequirement) -> str:
    signer = fact.signer.signer
    found = describe_signer(signer)
    if isinstance(require, IdentityRequirement) and isinstance(signer, IdentitySigner):
        differs = [item for item in require.identity.differs(signer) if not item.startswith(("subject ", "issuer "))]
        return f"{found} ({', '.join(differs)})" if differs else found
    return found


def _wrong_authority(case: Case, mine: list[Facts], require: KeyRequirement | IdentityRequirement, place: Place) -> Reason:
    found = ", ".join(sorted({_certified(fact, require.anchor) for fact in mine}))
    wanted = require.anchor.name if require.anchor else ""
    where = "with --trusted-root" if place.source == FLAGS else "in the rule"
    remedy = f"name that trust root {where}, if its authorities may vouch for this identity"
    return _reason(
        case, WrongAuthority, "the identity is certified by another authority", place, f"an authority of {wanted}", found, remedy
    )


def _certified(fact: Facts, anchor: Anchor | None) -> str:
    """Say who certified the signer; by whose clock, where that is what is wrong."""
    said = f"{fact.signer.source.authority} of {fact.signer.source.root}"
    if anchor and fact.signer.source.root_digest == anchor.authorities:
        return f"{said}, at a time by {', '.join(sorted({f'{time.authority} of {time.source.root}' for time in fact.times})) or 'none'}"
    return said


def _wrong_name(case: Case, mine: list[Facts], require: KeyRequirement | IdentityRequirement, said: Said, place: Place) -> Reason:
    sign = _sign(case, require, said)
    names = dict.fromkeys(sorted(fact.signature.repository for fact in mine if fact.signature.repository is not None))
    expected = f"the name {case.wanted_name}"
    if names:
        repository = case.artifact.partition("@")[0]
        remap = f"map the name in the rule: `name: {{remap: [{{from: {repository}, to: …}}]}}`"
        remedy = f"{sign}; or {'say --name any, if one for another repository may count' if place.source == FLAGS else remap}"
        return _reason(case, WrongName, "the signature was made for another repository", place, expected, ", ".join(names), remedy)
    remedy = f"{sign}; or {'leave out --name' if place.source == FLAGS else 'write `name: any` in the rule'}"
    return _reason(case, NameNotSigned, "the signature names no repository", place, expected, "no name", remedy)


def _wrong_annotation(case: Case, mine: list[Facts], require: KeyRequirement | IdentityRequirement, place: Place) -> Reason:
    wanted = ", ".join(f"{name}={value}" for name, value in case.annotations.items())
    found = sorted({", ".join(f"{name}={value}" for name, value in sorted(fact.signature.annotations.items())) for fact in mine})
    problem = "the signature does not hold the required annotations"
    given = [part for name, value in case.annotations.items() for part in ("-a", f"{name}={value}")]
    got = "; ".join(item or "none" for item in found)
    return _reason(case, WrongAnnotation, problem, place, wanted, got, _sign(case, require, given=given))


def _not_enough(case: Case, mine: list[Facts], require: KeyRequirement | IdentityRequirement, place: Place) -> Reason:
    lacking = min((_lacking(fact, require) for fact in mine), key=_distance)
    error, what, there, wanted = lacking[0]
    root = f" of {require.anchor.name}" if require.anchor else ""
    got = "; ".join(f"{there} {what}" for _, what, there, _ in lacking)
    expected = "; ".join(_count(what, wanted, root) for _, what, _, wanted in lacking)
    field, flag = _FIELDS[what]
    again = "sign again with it (--signing-config, docs/sign.md)"
    remedy = f"{again}; or write `{field}: {there}` where the authority is defined, if that is enough"
    if error is NotWitnessed:
        enough = f"`atLeast: {there}` of the `witnesses`" if there else "no `witnesses`"
        remedy = f"sign again once they sign the log's checkpoints; or write {enough} where the authority is defined, if that is enough"
    if place.source == FLAGS:
        remedy = f"sign again with it; {flag} none is asked for"
    return _reason(case, error, f"{there} of {wanted} {what} vouch for the signature", place, expected, got, remedy)


def _distance(lacking: Sequence[tuple[type[SigkitError], str, int, int]]) -> tuple[int, list[int], list[str]]:
    """Return how far evidence is from enough; of as much, what is lacking decides, and not which was listed first."""
    return len(lacking), [wanted - there for _, _, there, wanted in lacking], [what for _, what, _, _ in lacking]


def _count(what: str, wanted: int, root: str) -> str:
    """Name what is asked for. Witnesses are the policy's own: no trusted root has them."""
    if what == "witnesses":
        return f"{wanted} of the policy's witnesses"
    one = {"transparency logs": "transparency log", "timestamp authorities": "timestamp authority", "certificate logs": "certificate log"}
    return f"{wanted} {one.get(what, what) if wanted == 1 else what}{root}"


_FIELDS: Final = {
    "transparency logs": ("logEntries", "with --insecure-ignore-tlog"),
    "transparency logs that prove it": ("logInclusions", "with --insecure-ignore-tlog"),
    "timestamp authorities": ("timestamps", "without --use-signed-timestamps"),
    "certificate logs": ("certificateLogs", "with --insecure-ignore-sct"),
    "witnesses": ("witnesses", "without a policy that asks for witnesses"),
}
