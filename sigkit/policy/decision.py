"""What a decision is: allow, warn or deny, about one image, by one policy, with every reason.

Only `decide` makes an `Allow`. `record_of` gives the same as a `Record`, which can be stored, read back, explained and compared, and
which nothing takes for a decision: a file can never start a container.
"""

from __future__ import annotations

from datetime import UTC
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from sigkit.data import Data
from sigkit.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNCHECKED, NOWHERE, Kind, Place
from sigkit.policy.distinct import signer_id
from sigkit.policy.model import FLAGS, Access, Anything, Commands, ImageOwn, Users
from sigkit.verify.facts import IdentitySigner, KeySigner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sigkit.digest import Digest
    from sigkit.errors import SigkitError
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.reference import Repository
    from sigkit.oci.resolve import Pinned
    from sigkit.policy.model import Grant
    from sigkit.strict import Json
    from sigkit.verify.facts import Facts, InclusionFact, PromiseFact, Signer, Source, Unchecked


class Standing(Enum):
    """Whether something was looked at and refused, or could not be looked at."""

    REFUSED = "refused"
    UNCHECKED = "unchecked"


class Reason(Data):
    """Why something did not count: a stable code (`sigkit why` prints its text), what, where, and what would make it pass."""

    code: str
    problem: str
    place: Place = NOWHERE
    expected: str = ""
    got: str = ""
    remedy: str = ""
    standing: Standing = Standing.REFUSED
    children: tuple[Reason, ...] = ()

    @classmethod
    def of_error(cls, err: SigkitError) -> Reason:
        """Keep a refusal as a value."""
        standing = Standing.UNCHECKED if err.exit_status == EXIT_UNCHECKED else Standing.REFUSED
        return cls(err.code, err.problem, err.place, err.expected, err.got, err.remedy, standing)

    @classmethod
    def of_evidence(cls, err: SigkitError) -> Reason:
        """Keep as a value why one piece of evidence, all of which was read, was not accepted.

        A limit that it breaks is a fault of its own, whichever limit, and so a refusal: nothing that could change the answer is hidden
        behind it. Beside good evidence it takes no allow away. That is another thing than a list which is too long to be read whole.
        """
        if err.kind is Kind.LIMIT:
            return cls(err.code, err.problem, err.place, err.expected, err.got, err.remedy, Standing.REFUSED)
        return cls.of_error(err)

    @classmethod
    def of_unread(cls, err: SigkitError) -> Reason:
        """Keep as a value why something could not be read, whatever the kind: it might have been what is missing."""
        return cls(err.code, err.problem, err.place, err.expected, err.got, err.remedy, Standing.UNCHECKED)


class Met(Data):
    """A part of the requirement that is met, by whom, and which pieces of evidence meet it."""

    demand: str
    place: Place
    by: tuple[Signer, ...]
    children: tuple[ReasonTree, ...] = ()
    evidence: tuple[Place, ...] = ()


class Unmet(Data):
    """A part of the requirement that is not met, and why. `short` is how many more of its children it needs; 1 where it has none."""

    demand: str
    place: Place
    reason: Reason
    children: tuple[ReasonTree, ...] = ()
    short: int = 1


ReasonTree: TypeAlias = Met | Unmet


def signers_of(tree: ReasonTree) -> Iterator[Signer]:
    """Give every signer that counted for some part, as often as it did."""
    if isinstance(tree, Met):
        yield from tree.by
    for child in tree.children:
        yield from signers_of(child)


def evidence_of(tree: ReasonTree) -> frozenset[Place]:
    """Return the pieces of evidence that counted for some part."""
    own = frozenset(tree.evidence) if isinstance(tree, Met) else frozenset()
    return own.union(*map(evidence_of, tree.children))


class Request(Data):
    """The image that is asked for. The digests are what is decided about; the text is for display only.

    `tag` is None for a reference with a digest. `chain` leads from the digest asked for, through indexes, to the image's manifest.
    `config` is None where only the digest was given and no document was read. `platform` is what the index or the configuration says that
    the image was built for, None where neither was read.
    """

    reference: str
    repository: Repository
    tag: str | None
    top: Digest
    chain: tuple[Digest, ...]
    manifest: Digest
    config: Digest | None
    platform: Platform | None

    @classmethod
    def of(cls, pinned: Pinned) -> Request:
        """Ask for what a reference was resolved to."""
        reference = pinned.reference
        return cls(
            reference=reference.text,
            repository=reference.repository,
            tag=None if reference.digest else reference.tag,
            top=pinned.chain[0],
            chain=pinned.chain,
            manifest=pinned.chain[-1],
            config=pinned.manifest.config.digest,
            platform=pinned.built_for,
        )

    def pinned_text(self) -> str:
        """Name the image by the digest that was asked for: the form for commands that a person pastes."""
        return f"{self.repository}@{self.top}"


class PolicyRef(Data):
    """Which policy decided."""

    name: str
    digest: Digest


class RefusedEvidence(Data):
    """A piece of evidence that verification did not accept, and why."""

    place: Place
    reason: Reason


class Allow(Data):
    """The requirement is met: the image may run within the grant."""

    request: Request
    policy: PolicyRef
    rule: str
    rule_place: Place
    tree: ReasonTree
    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    unchecked: tuple[Unchecked, ...]
    grant: Grant
    decided_at: datetime


class Warn(Data):
    """The requirement is not met, and the rule says to warn: the image may run within the same grant."""

    request: Request
    policy: PolicyRef
    rule: str
    rule_place: Place
    tree: Unmet
    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    unchecked: tuple[Unchecked, ...]
    grant: Grant
    decided_at: datetime

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why it would have been refused."""
        return (self.tree.reason,)


class Deny(Data):
    """Nothing may run. `rule` and `tree` are None when no rule matches; `rule_place` is then the policy."""

    request: Request
    policy: PolicyRef
    rule: str | None
    rule_place: Place
    tree: Unmet | None
    reasons: tuple[Reason, ...]
    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    unchecked: tuple[Unchecked, ...]
    decided_at: datetime


Decision: TypeAlias = Allow | Warn | Deny


class Outcome(Enum):
    """The three verdicts."""

    ALLOW = "allow"
    WARN = "warn"
    DENY = "deny"


class Hint(Enum):
    """What else to try where the verdict alone does not tell."""

    NAME_THE_INDEX = "name-the-index"  # an image in a signed index is unsigned by its own digest, and nothing about it tells


class Record(Data):
    """A decision as a document: for the audit log, for printing, for comparing. It admits nothing."""

    outcome: Outcome
    request: Request
    policy: PolicyRef
    rule: str | None
    rule_place: Place
    tree: ReasonTree | None
    reasons: tuple[Reason, ...]
    facts: tuple[Facts, ...]
    refused: tuple[RefusedEvidence, ...]
    unchecked: tuple[Unchecked, ...]
    grant: Grant | None
    decided_at: datetime

    def exit_status(self) -> int:
        """Return what `verify` ends with: 0 allowed or warned, 1 refused, 3 when that could not be found out."""
        if self.outcome is not Outcome.DENY:
            return EXIT_DONE
        return EXIT_UNCHECKED if any(reason.standing is Standing.UNCHECKED for reason in self.reasons) else EXIT_REFUSED

    def accepted_by(self) -> tuple[Digest, ...]:
        """Return which digests of the chain those who counted for an allow signed: an index's vouches for the image that it names."""
        if self.outcome is not Outcome.ALLOW or self.tree is None:
            return ()
        counted = {signer_id(signer) for signer in signers_of(self.tree)}
        signed = {facts.signature.artifact for facts in self.facts if signer_id(facts.signer.signer) in counted}
        return tuple(digest for digest in self.request.chain if digest in signed)

    def hints(self) -> tuple[Hint, ...]:
        """Say what else to try."""
        return (Hint.NAME_THE_INDEX,) if self.request.tag is None and self._is_bare_image() else ()

    def tag_may_be_of_a_child(self) -> bool:
        """Tell whether an image that was named by a tag may have its signature on an index: rarely, and so no hint in every refusal."""
        return self.request.tag is not None and self._is_bare_image()

    def _is_bare_image(self) -> bool:
        request = self.request
        alone = request.chain == (request.manifest,) and request.config is not None
        return alone and self.outcome is not Outcome.ALLOW and self.tree is not None and not self.facts and not self.refused


def record_of(decision: Decision) -> Record:
    """Return a decision as a record."""
    reasons: tuple[Reason, ...]
    grant: Grant | None
    match decision:
        case Allow():
            outcome, reasons, grant = Outcome.ALLOW, (), decision.grant
        case Warn():
            outcome, reasons, grant = Outcome.WARN, decision.reasons, decision.grant
        case Deny():
            outcome, reasons, grant = Outcome.DENY, decision.reasons, None
    return Record(
        outcome=outcome,
        request=decision.request,
        policy=decision.policy,
        rule=decision.rule,
        rule_place=decision.rule_place,
        tree=decision.tree,
        reasons=reasons,
        facts=decision.facts,
        refused=decision.refused,
        unchecked=decision.unchecked,
        grant=grant,
        decided_at=decision.decided_at,
    )


SCHEMA: Final = "sigkit.decision/1"


def encode_decision(decision: Decision) -> dict[str, Json]:
    """Return a decision as the document `sigkit.decision/1` (docs/policy.md)."""
    return encode_record(record_of(decision))


def encode_record(record: Record) -> dict[str, Json]:
    """Return a record as the document `sigkit.decision/1`; equal records give equal documents."""
    return {
        "schema": SCHEMA,
        "outcome": record.outcome.value,
        "decidedAt": encode_time(record.decided_at),
        "request": encode_request(record.request),
        "policy": {"name": record.policy.name, "digest": str(record.policy.digest)},
        "rule": {"images": record.rule, "place": _place(record.rule_place)},
        "tree": None if record.tree is None else encode_tree(record.tree),
        "reasons": [encode_reason(reason) for reason in record.reasons],
        "facts": [encode_facts(facts) for facts in record.facts],
        "refused": [encode_refused(item) for item in record.refused],
        "unchecked": [encode_unchecked(item) for item in record.unchecked],
        "grant": None if record.grant is None else _grant(record.grant),
        "acceptedBy": [str(digest) for digest in record.accepted_by()],
        "hints": [hint.value for hint in record.hints()],
    }


def encode_verdict(record: Record) -> dict[str, Json]:
    """Return a record as it stands in the answer of a command that starts nothing: what flags would let run, nobody wrote down."""
    document = encode_record(record)
    return document | {"grant": None} if record.rule_place.source == FLAGS else document


def encode_request(request: Request) -> dict[str, Json]:
    """Return a request as it stands in `sigkit.decision/1`."""
    return {
        "reference": request.reference,
        "registry": request.repository.registry,
        "path": request.repository.path,
        "tag": request.tag,
        "top": str(request.top),
        "chain": [str(digest) for digest in request.chain],
        "manifest": str(request.manifest),
        "config": str(request.config) if request.config else None,
        "platform": str(request.platform) if request.platform else None,
    }


def _place(place: Place) -> Json:
    return {"source": place.source, "inside": place.inside}


def encode_reason(reason: Reason) -> dict[str, Json]:
    """Return a reason as it stands in `sigkit.decision/1`."""
    return {
        "code": reason.code,
        "problem": reason.problem,
        "place": _place(reason.place),
        "expected": reason.expected,
        "got": reason.got,
        "remedy": reason.remedy,
        "standing": reason.standing.value,
        "children": [encode_reason(child) for child in reason.children],
    }


def encode_tree(tree: ReasonTree) -> dict[str, Json]:
    """Return a reason tree as it stands in `sigkit.decision/1`."""
    children: Json = [encode_tree(child) for child in tree.children]
    head: dict[str, Json] = {"demand": tree.demand, "place": _place(tree.place), "met": isinstance(tree, Met)}
    if isinstance(tree, Met):
        evidence: Json = [_place(place) for place in tree.evidence]
        return {**head, "by": [encode_signer(signer) for signer in tree.by], "children": children, "evidence": evidence}
    return {**head, "reason": encode_reason(tree.reason), "short": tree.short, "children": children}


def encode_signer(signer: Signer) -> dict[str, Json]:
    """Return a signer as it stands in `sigkit.decision/1`."""
    match signer:
        case KeySigner(key, kind, name):
            return {"type": "key", "fingerprint": str(key), "kind": kind, "name": name}
        case IdentitySigner(issuer, subject, extensions, kind):
            return {"type": "identity", "issuer": issuer, "subject": subject, "subjectKind": kind, "extensions": dict(extensions)}
        case _:
            assert_never(signer)


def _source(source: Source) -> Json:
    return {"root": source.root, "rootDigest": str(source.root_digest), "authority": source.authority}


def encode_facts(facts: Facts) -> dict[str, Json]:
    """Return what one piece of evidence proved as it stands in `sigkit.decision/1`."""
    signature = facts.signature
    return {
        "place": _place(facts.place),
        "form": facts.form.value,
        "signature": {
            "artifact": str(signature.artifact),
            "predicateType": signature.predicate_type,
            "payloadDigest": str(signature.payload_digest),
            "repository": signature.repository,
            "annotations": dict(signature.annotations),
        },
        "signer": {"signer": encode_signer(facts.signer.signer), "source": _source(facts.signer.source)},
        "inclusions": [_entry(fact) | ({"witnesses": list(fact.witnesses)} if fact.witnesses else {}) for fact in facts.inclusions],
        "promises": [_entry(fact) for fact in facts.promises],
        "certificateLogs": [
            {"log": fact.log, "time": encode_time(fact.when), "operator": fact.operator, "source": _source(fact.source)}
            for fact in facts.certificate_logs
        ],
        "times": [
            {
                "time": encode_time(fact.when),
                "authority": fact.authority,
                "kind": fact.kind.value,
                "operator": fact.operator,
                "source": _source(fact.source),
            }
            for fact in facts.times
        ],
        "unchecked": [encode_unchecked(item) for item in facts.unchecked],
    }


def _entry(fact: InclusionFact | PromiseFact) -> dict[str, Json]:
    return {"log": fact.log, "index": fact.index, "operator": fact.operator, "source": _source(fact.source)}


def encode_time(when: datetime) -> str:
    """Return a time as it stands in `sigkit.decision/1`."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def encode_refused(item: RefusedEvidence) -> dict[str, Json]:
    """Return a piece of evidence that was not accepted as it stands in `sigkit.decision/1`."""
    return {"place": _place(item.place), "reason": encode_reason(item.reason)}


def encode_unchecked(item: Unchecked) -> Json:
    """Return what is open as it stands in `sigkit.decision/1`."""
    return {"what": item.what, "why": item.why}


def _grant(grant: Grant) -> Json:
    return {
        "command": _words(grant.command),
        "environment": list(grant.environment),
        "mounts": [{"from": mount.source, "to": mount.target, "access": mount.access.value} for mount in grant.mounts],
        "network": grant.network.value,
        "capabilities": list(grant.capabilities),
        "user": _words(grant.user),
        "readOnly": grant.root is Access.READ_ONLY,
        "memoryBytes": grant.memory_bytes,
        "pids": grant.pids,
        "cpus": grant.cpus,
    }


def _words(granted: ImageOwn | Anything | Commands | Users) -> Json:
    match granted:
        case ImageOwn():
            return "image"
        case Anything():
            return "any"
        case Commands(prefixes):
            return [list(prefix) for prefix in prefixes]
        case Users(names):
            return list(names)
        case _:
            assert_never(granted)
