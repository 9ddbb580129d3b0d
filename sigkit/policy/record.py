"""A stored decision, read back: the document `sigkit.decision/1`, strictly.

What is read is a `Record`: it can be explained, compared and counted, and it admits nothing. Members that the document grew may be absent:
an audit log holds decisions of older versions.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.digest import parse_digest
from sigkit.errors import Place
from sigkit.evidence.form import Form
from sigkit.oci.descriptor import parse_platform
from sigkit.oci.reference import parse_repository
from sigkit.policy.decision import SCHEMA, Met, Outcome, PolicyRef, Reason, Record, RefusedEvidence, Request, Standing, Unmet, encode_record
from sigkit.policy.model import Access, Anything, Commands, Grant, ImageOwn, MountGrant, Network, Users
from sigkit.strict import encode_json, parse_json
from sigkit.verify.facts import (
    CertificateLogFact,
    Facts,
    IdentitySigner,
    InclusionFact,
    KeySigner,
    PromiseFact,
    SignatureFact,
    SignerFact,
    Source,
    TimeFact,
    TimeKind,
    Unchecked,
)

if TYPE_CHECKING:
    from sigkit.digest import Digest
    from sigkit.policy.decision import ReasonTree
    from sigkit.strict import Cursor
    from sigkit.verify.facts import Signer

_MOST = limits.EVIDENCE_ITEMS * 10
_TOP = ("schema", "outcome", "decidedAt", "request", "policy", "rule", "tree", "reasons", "facts", "refused", "unchecked", "grant")
_DERIVED = ("acceptedBy", "hints")  # from the others
_REASON = ("code", "problem", "place", "expected", "got", "remedy", "standing", "children")


def parse_record(raw: bytes, place: Place) -> Record:
    """Read a decision.

    Raises:
        ParseError, LimitError, DigestError, RefError: it is not one, or not of this version; the place has the JSON path.
    """
    top = parse_json(raw, most_bytes=limits.AUDIT_RECORD_BYTES, place=place).only((*_TOP, *_DERIVED))
    for name in _TOP:
        if name not in top.object():
            top.fail(f"member {name!r} is missing", expected=name, got="nothing")
    schema = top.member("schema")
    if schema.text() != SCHEMA:
        schema.fail("not a decision of a version that is known", expected=SCHEMA)
    policy = top.member("policy").only(("name", "digest"))
    rule = top.member("rule").only(("images", "place"))
    tree, grant = top.find("tree"), top.find("grant")
    record = Record(
        outcome=Outcome(_choice(top.member("outcome"), *(outcome.value for outcome in Outcome))),
        request=_request(top.member("request")),
        policy=PolicyRef(policy.member("name").text(), _digest(policy.member("digest"))),
        rule=_text_or_none(rule.find("images")),
        rule_place=_place(rule.member("place")),
        tree=_tree(tree) if tree else None,
        reasons=tuple(_reason(item) for item in top.member("reasons").items(_MOST)),
        facts=tuple(_facts(item) for item in top.member("facts").items(_MOST)),
        refused=tuple(_refused(item) for item in top.member("refused").items(_MOST)),
        unchecked=_unchecked(top.member("unchecked")),
        grant=_grant(grant) if grant else None,
        decided_at=_time(top.member("decidedAt")),
    )
    derived = encode_record(record)
    for name in _DERIVED:
        if name in top.object() and top.object()[name] != derived[name]:
            top.member(name).fail("not what the rest of the decision says", expected=encode_json(derived[name]).decode())
    return record


def _request(at: Cursor) -> Request:
    at.only(("reference", "registry", "path", "tag", "top", "chain", "manifest", "config", "platform"))
    platform, config = at.find("platform"), at.find("config")
    return Request(
        reference=at.member("reference").text(),
        repository=parse_repository(f"{at.member('registry').text()}/{at.member('path').text()}", at.at()),
        tag=_text_or_none(at.find("tag")),
        top=_digest(at.member("top")),
        chain=tuple(_digest(item) for item in at.member("chain").items(limits.INDEX_DEPTH + 2)),
        manifest=_digest(at.member("manifest")),
        config=_digest(config) if config else None,
        platform=parse_platform(platform.text(), platform.at()) if platform else None,
    )


def _reason(at: Cursor) -> Reason:
    at.only(_REASON)
    return Reason(
        code=at.member("code").text(),
        problem=at.member("problem").text(),
        place=_place(at.member("place")),
        expected=at.member("expected").text(),
        got=at.member("got").text(),
        remedy=at.member("remedy").text(),
        standing=Standing(_choice(at.member("standing"), *(standing.value for standing in Standing))),
        children=tuple(_reason(item) for item in at.member("children").items(_MOST)),
    )


def _tree(at: Cursor) -> ReasonTree:
    children = tuple(_tree(item) for item in at.member("children").items(_MOST))
    demand, place = at.member("demand").text(), _place(at.member("place"))
    if at.member("met").boolean():
        at.only(("demand", "place", "met", "by", "children", "evidence"))
        evidence = _grown(at, "evidence")
        places = tuple(_place(item) for item in evidence.items(_MOST)) if evidence else ()
        return Met(demand, place, tuple(_signer(item) for item in at.member("by").items(_MOST)), children, places)
    at.only(("demand", "place", "met", "reason", "short", "children"))
    short = _grown(at, "short")
    return Unmet(demand, place, _reason(at.member("reason")), children, short.integer(1) if short else 1)


def _facts(at: Cursor) -> Facts:
    at.only(("place", "form", "signature", "signer", "inclusions", "promises", "certificateLogs", "times", "unchecked"))
    signature = at.member("signature").only(("artifact", "predicateType", "payloadDigest", "repository", "annotations"))
    signer = at.member("signer").only(("signer", "source"))
    return Facts(
        place=_place(at.member("place")),
        form=Form(_choice(at.member("form"), *(form.value for form in Form))),
        signature=SignatureFact(
            artifact=_digest(signature.member("artifact")),
            predicate_type=_text_or_none(signature.find("predicateType")),
            payload_digest=_digest(signature.member("payloadDigest")),
            repository=_text_or_none(signature.find("repository")),
            annotations=signature.member("annotations").texts(limits.ANNOTATIONS),
        ),
        signer=SignerFact(_signer(signer.member("signer")), _source(signer.member("source"))),
        inclusions=tuple(_inclusion(item) for item in at.member("inclusions").items(limits.LOG_ENTRIES)),
        times=tuple(_time_fact(item) for item in at.member("times").items(limits.TIMESTAMPS)),
        unchecked=_unchecked(at.member("unchecked")),
        promises=tuple(PromiseFact(*_entry(item)) for item in _items_or_none(_grown(at, "promises"))),
        certificate_logs=tuple(_certificate_log(item) for item in _items_or_none(_grown(at, "certificateLogs"))),
    )


def _grown(at: Cursor, name: str) -> Cursor | None:
    """Return a member that decisions of older versions do not have; where it stands, it is not null."""
    return at.member(name) if name in at.object() else None


def _operator(at: Cursor) -> str:
    operator = _grown(at, "operator")
    return operator.text() if operator else ""


def _items_or_none(at: Cursor | None) -> tuple[Cursor, ...]:
    return tuple(at.items(limits.LOG_ENTRIES)) if at else ()


def _signer(at: Cursor) -> Signer:
    if _choice(at.member("type"), "key", "identity") == "key":
        at.only(("type", "fingerprint", "kind", "name"))
        return KeySigner(_digest(at.member("fingerprint")), at.member("kind").text(), at.member("name").text())
    at.only(("type", "issuer", "subject", "subjectKind", "extensions"))
    extensions = at.member("extensions").texts(limits.ANNOTATIONS)
    kind = _grown(at, "subjectKind")
    return IdentitySigner(at.member("issuer").text(), at.member("subject").text(), extensions, kind.text() if kind else "uri")


def _source(at: Cursor) -> Source:
    at.only(("root", "rootDigest", "authority"))
    return Source(at.member("root").text(), _digest(at.member("rootDigest")), at.member("authority").text())


def _inclusion(at: Cursor) -> InclusionFact:
    witnesses = tuple(item.text() for item in _items_or_none(_grown(at, "witnesses")))
    return InclusionFact(*_entry(at, "witnesses"), witnesses)


def _entry(at: Cursor, *more: str) -> tuple[str, int, Source, str]:
    at.only(("log", "index", "operator", "source", *more))
    return at.member("log").text(), at.member("index").integer(), _source(at.member("source")), _operator(at)


def _certificate_log(at: Cursor) -> CertificateLogFact:
    at.only(("log", "time", "operator", "source"))
    return CertificateLogFact(at.member("log").text(), _time(at.member("time")), _source(at.member("source")), at.member("operator").text())


def _time_fact(at: Cursor) -> TimeFact:
    at.only(("time", "authority", "kind", "operator", "source"))
    kind = _grown(at, "kind")
    return TimeFact(
        _time(at.member("time")),
        at.member("authority").text(),
        _source(at.member("source")),
        TimeKind(_choice(kind, *(known.value for known in TimeKind))) if kind else TimeKind.TIMESTAMP,
        _operator(at),
    )


def _refused(at: Cursor) -> RefusedEvidence:
    at.only(("place", "reason"))
    return RefusedEvidence(_place(at.member("place")), _reason(at.member("reason")))


def _unchecked(at: Cursor) -> tuple[Unchecked, ...]:
    items = (item.only(("what", "why")) for item in at.items(_MOST))
    return tuple(Unchecked(item.member("what").text(), item.member("why").text()) for item in items)


def _grant(at: Cursor) -> Grant:
    at.only(("command", "environment", "mounts", "network", "capabilities", "user", "readOnly", "memoryBytes", "pids", "cpus"))
    command, user, cpus = at.member("command"), at.member("user"), at.find("cpus")
    memory, pids = at.find("memoryBytes"), at.find("pids")
    return Grant(
        command=_word(command) or Commands(tuple(_texts(prefix) for prefix in command.items(_MOST))),
        environment=_texts(at.member("environment")),
        mounts=tuple(_mount(item) for item in at.member("mounts").items(_MOST)),
        network=Network(_choice(at.member("network"), *(network.value for network in Network))),
        capabilities=_texts(at.member("capabilities")),
        user=_word(user) or Users(_texts(user)),
        root=Access.READ_ONLY if at.member("readOnly").boolean() else Access.READ_WRITE,
        memory_bytes=memory.integer(1) if memory else None,
        pids=pids.integer(1) if pids else None,
        cpus=_number(cpus) if cpus else None,
    )


def _mount(at: Cursor) -> MountGrant:
    at.only(("from", "to", "access"))
    access = Access(_choice(at.member("access"), *(access.value for access in Access)))
    return MountGrant(at.member("from").text(), at.member("to").text(), access)


def _word(at: Cursor) -> ImageOwn | Anything | None:
    if not isinstance(at.value, str):
        return None
    return ImageOwn() if _choice(at, "image", "any") == "image" else Anything()


def _texts(at: Cursor) -> tuple[str, ...]:
    return tuple(item.text() for item in at.items(_MOST))


def _place(at: Cursor) -> Place:
    at.only(("source", "inside"))
    return Place(at.member("source").text(), at.member("inside").text())


def _digest(at: Cursor) -> Digest:
    return parse_digest(at.text(), at.at())


def _text_or_none(at: Cursor | None) -> str | None:
    return at.text() if at else None


def _number(at: Cursor) -> float:
    if not isinstance(at.value, float) or at.value <= 0:
        at.fail("not a number of processors", expected="a number with a fraction, above 0")
    return at.value


def _choice(at: Cursor, *allowed: str) -> str:
    text = at.text()
    if text not in allowed:
        at.fail("a value that is not known", expected=" or ".join(allowed))
    return text


def _time(at: Cursor) -> datetime:
    try:
        when = datetime.fromisoformat(at.text())
    except ValueError:
        when = None
    if when is None or when.tzinfo is None or when.isoformat(timespec="microseconds") != at.text():
        at.fail("not a time of this document", expected="RFC 3339 in UTC, with microseconds")
    return when
