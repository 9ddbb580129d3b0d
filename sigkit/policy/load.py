"""From a policy file to a `Policy`: unknown fields, empty lists, ties and keys that count twice are refused with line, column and caret.

Everything is checked here, so that `decide` never meets a policy that could mean two things. docs/policy.md is the reference of the
language; its examples are loaded by a test.
"""

from __future__ import annotations

import os
import re
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar, assert_never

from sigkit import durable, limits
from sigkit.data import NOTHING
from sigkit.errors import (
    AmbiguousRules,
    Place,
    SameIdentityTwice,
    SameKeyTwice,
    SigkitError,
    TooMany,
    UnsupportedPolicyVersion,
)
from sigkit.evidence.predicate_types import PREDICATE_TYPES, predicate_type_of
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.oci.reference import parse_repository
from sigkit.policy.document import parse_document
from sigkit.policy.flags import roots_with_keys
from sigkit.policy.load_run import parse_grant
from sigkit.policy.load_trust import find_authority, find_key, parse_identity, parse_trust
from sigkit.policy.model import (
    API_VERSION,
    KIND,
    AllOf,
    AnyOf,
    AtLeast,
    AttestationRequirement,
    Grant,
    IdentityRequirement,
    KeyRequirement,
    Mode,
    NameRule,
    Policy,
    Remap,
    Rule,
    Unverified,
    leaves_of,
    parts_of,
    policy_digest,
    takes_several,
)
from sigkit.policy.scope import ImagePattern, Scope, component_rank, overlap, overlap_text, parse_image_pattern, parse_tag_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sigkit.policy.document import Field
    from sigkit.policy.load_trust import Trust
    from sigkit.policy.model import Requirement
    from sigkit.trust.store import RootStore

_Pattern = TypeVar("_Pattern", ImagePattern, str)

_NUMBER = re.compile(r"[0-9]{1,4}")
_REQUIREMENTS: Final = ("key", "identity", "authority", "attestation", "allOf", "anyOf", "atLeast")


def load_policy(path: str | os.PathLike[str], roots: RootStore | None = None) -> Policy:
    """Read a policy and the files that it names, which lie relative to it.

    Args:
        path: of the policy.
        roots: this machine's trust roots, which it may name; without it those that are kept here, and nothing is fetched.

    Raises:
        FileUnreadable: (UNAVAIL) the policy or a key file cannot be read.
        MalformedYaml, MalformedPolicy, UnsupportedPolicyVersion: (PARSE) see docs/policy.md.
        AmbiguousRules, SameKeyTwice: (POLICY) it could mean two things, or one signer could count twice.
        ParseError, SigError: a key is malformed or of a kind that is not accepted.
        LimitError: it is too large, too deep, or has too many parts.
    """
    name = os.fspath(path)
    place = Place.operator(name)
    raw = durable.read(name, most_bytes=limits.POLICY_BYTES, place=place)
    directory = os.path.dirname(name)

    def read_file(relative: str) -> bytes:
        named = os.path.join(directory, relative)
        return durable.read(named, most_bytes=limits.POLICY_FILES_BYTES, place=Place.operator(named))

    return parse_policy(raw, place, read_file, roots)


def parse_policy(raw: bytes, place: Place, read_file: Callable[[str], bytes], roots: RootStore | None = None) -> Policy:
    """Parse a policy.

    Args:
        raw: the file.
        place: the operator's place of it.
        read_file: gives the bytes of a key, a trusted root or a chain, named as the policy names it.
        roots: as for `load_policy`.

    Raises:
        SigkitError: as `load_policy`.
    """
    top = parse_document(raw, place)
    found = top.members()
    _check_version(top, found)
    top.only("apiVersion", "kind", "metadata", "keys", "trustedRoots", "certificateAuthorities", "authorities", "rules")
    metadata = found["metadata"].only("name") if "metadata" in found else {}
    name = metadata["name"].text() if "name" in metadata else os.path.basename(place.source)
    trust = parse_trust(found, read_file, roots)
    fields = top.require(found, "rules").items()
    rules = tuple(_parse_rule(field, trust) for field in fields)
    _check_ties(rules, fields)
    keys = tuple(trust.keys.values())
    leaves = tuple(leaf for rule in rules if not isinstance(rule.require, Unverified) for leaf in leaves_of(rule.require))
    used = trust.roots_of(leaves)
    digest = policy_digest(raw, keys, {f"{root.anchor.name} {root.digest}": root.anchor.logs for root in used})
    named = roots_with_keys(keys, tuple(root.root for root in used), name)
    return Policy(name, digest, place, rules, keys, named, trust.unnamed(leaves))


def _check_version(top: Field, found: Mapping[str, Field]) -> None:
    for name, known in (("apiVersion", API_VERSION), ("kind", KIND)):
        field = top.require(dict(found), name)
        if field.text() != known:
            error = UnsupportedPolicyVersion(f"`{name}` is not one that this sigkit reads", expected=known, got=field.text())
            raise field.mark(error)


def _parse_rule(field: Field, trust: Trust) -> Rule:
    found = field.only("images", "tags", "require", "unverified", "name", "annotations", "mode", "run")
    images = _distinct(field.require(found, "images"), parse_image_pattern)
    scope = Scope(images, _distinct(found["tags"], parse_tag_pattern) if "tags" in found else ())
    run = parse_grant(found["run"]) if "run" in found else Grant()
    if ("require" in found) == ("unverified" in found):
        remedy = "`unverified: {reason: …}` starts images without any evidence, and only in writing"
        field.fail("a rule has either `require` or `unverified`", got="both" if "require" in found else "neither", remedy=remedy)
    if "unverified" in found:
        for name in ("name", "annotations", "mode"):
            if name in found:
                found[name].fail(f"`{name}` means nothing beside `unverified`", remedy="remove it")
        return Rule(scope, _parse_unverified(found["unverified"]), NameRule.ANY, field.place(), run=run)
    name_rule, remaps = _parse_name(found["name"]) if "name" in found else (NameRule.REPOSITORY, ())
    mode = Mode(found["mode"].choice(*(mode.value for mode in Mode))) if "mode" in found else Mode.ENFORCE
    annotations = _parse_annotations(found["annotations"]) if "annotations" in found else NOTHING
    require = _parse_require(found["require"], trust)
    if annotations and not _asks_signature(require):
        found["annotations"].fail(
            "`annotations` mean nothing where only attestations are asked for", remedy="remove it, or ask for a signature"
        )
    return Rule(scope, require, name_rule, field.place(), remaps=remaps, mode=mode, run=run, annotations=annotations)


def _asks_signature(require: Requirement) -> bool:
    match require:
        case KeyRequirement() | IdentityRequirement():
            return True
        case AttestationRequirement():
            return False
        case AllOf(of, _) | AnyOf(of, _) | AtLeast(_, of, _):
            return any(map(_asks_signature, of))
        case _:
            assert_never(require)


def _parse_annotations(field: Field) -> Mapping[str, str]:
    found = {name: value.text() for name, value in field.members().items()}
    if not found:
        field.fail("`annotations` is empty", expected="at least one, or no `annotations`")
    return found


def _distinct(field: Field, parse: Callable[[str, Place], _Pattern]) -> tuple[_Pattern, ...]:
    patterns: dict[_Pattern, None] = {}
    for item in field.one_or_more():
        text = item.text()
        try:
            pattern = parse(text, item.place())
        except SigkitError as err:
            item.mark(err)
            raise
        if pattern in patterns:
            item.fail("the same pattern is there twice", got=text)
        patterns[pattern] = None
    return tuple(patterns)


def _parse_unverified(field: Field) -> Unverified:
    found = field.only("reason")
    reason = field.require(found, "reason").text().strip()
    if not reason:
        found["reason"].fail("`reason` is empty", expected="why these images start without any evidence")
    return Unverified(reason, field.place())


def _parse_name(field: Field) -> tuple[NameRule, tuple[Remap, ...]]:
    if field.is_text():
        return NameRule(field.choice(NameRule.REPOSITORY.value, NameRule.ANY.value)), ()
    found = field.only("remap")
    remaps: dict[str, Remap] = {}
    for item in field.require(found, "remap").items():
        sides = item.only("from", "to")
        source, target = (_parse_prefix(item.require(sides, side)) for side in ("from", "to"))
        if source in remaps:
            sides["from"].fail("the same name is mapped twice", got=source)
        remaps[source] = Remap(source, target)
    return NameRule.REMAP, tuple(remaps.values())


def _parse_prefix(field: Field) -> str:
    """Read a registry, or a registry with the beginning of a path; nothing is added to it."""
    text = field.text()
    first, slash, _ = text.partition("/")
    if not (first == "localhost" or "." in first or ":" in first):
        field.fail("a mapped name begins with its registry", got=text, remedy=f"did you mean docker.io/{text} ?")
    try:
        repository = parse_repository(text if slash else f"{text}/x", field.place())
    except SigkitError as err:
        field.mark(err)
        raise
    return str(repository) if slash else repository.registry


def _parse_require(field: Field, trust: Trust) -> Requirement:
    found = field.only(*_REQUIREMENTS)
    if len(found) != 1:
        field.fail("a requirement is exactly one of " + ", ".join(_REQUIREMENTS), got=" and ".join(found) or "none")
    kind, value = next(iter(found.items()))
    match kind:
        case "key":
            return KeyRequirement(find_key(value, trust), value.place())
        case "authority":
            return find_authority(value, trust)
        case "identity":
            return parse_identity(value, {}, trust)
        case "attestation":
            return _parse_attestation(value, trust)
        case "atLeast":
            return _parse_at_least(value, trust)
        case _:
            items = value.items()
            of = tuple(_parse_require(item, trust) for item in items)
            # Only signers that stand in this list themselves: [allOf [a, b], allOf [a, c]] has its meaning.
            _check_repeated(
                [(part,) if isinstance(part, KeyRequirement | IdentityRequirement) else () for part in of], items, _Same.ANCHORED
            )
            return AllOf(of, field.place()) if kind == "allOf" else AnyOf(of, field.place())


def _parse_attestation(field: Field, trust: Trust) -> AttestationRequirement:
    found = field.only("type", "by")
    where = field.require(found, "type")
    predicate_type = predicate_type_of(where.text())
    if predicate_type is None:
        where.fail("not a type of attestations", expected="a URI, or one of " + ", ".join(PREDICATE_TYPES), got=where.text())
    if predicate_type == PREDICATE_SIGNATURE:
        where.fail("this is the type of signatures", got=where.text(), remedy="ask for the signer alone: `key: …`")
    by = _parse_require(field.require(found, "by"), trust)
    if any(isinstance(part, AttestationRequirement) for part in parts_of(by)):
        found["by"].fail("an attestation within an attestation", remedy="put both into `allOf`")
    return AttestationRequirement(predicate_type, by, field.place())


def _parse_at_least(field: Field, trust: Trust) -> AtLeast:
    found = field.only("n", "of")
    count, items = field.require(found, "n"), field.require(found, "of").items()
    of = tuple(_parse_require(item, trust) for item in items)
    text = count.text()
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= len(of):
        count.fail("`n` is out of range", expected=f"1 to {len(of)}, the length of `of`", got=text)
    _check_repeated([tuple(leaves_of(part)) for part in of], items, _Same.SIGNER)
    for part, item in zip(of, items, strict=True):
        for several in parts_of(part):
            if takes_several(several) and any(isinstance(leaf, IdentityRequirement) for leaf in leaves_of(several)):
                remedy = "name the identities in this list itself, or in an `anyOf` in it"
                item.fail("an element that takes several signers may hold keys only: two patterns can fit one identity", remedy=remedy)
    return AtLeast(int(text), of, field.place())


class _Same(Enum):
    """What makes two elements name one identity: who it is, or also by whom it is certified."""

    SIGNER = "signer"
    ANCHORED = "anchored"


def _check_repeated(parts: list[tuple[KeyRequirement | IdentityRequirement, ...]], items: tuple[Field, ...], same: _Same) -> None:
    """Refuse a signer in two elements of one list: it would count twice (cases.md C21)."""
    seen: dict[object, int] = {}
    for index, (leaves, item) in enumerate(zip(parts, items, strict=True)):
        for leaf in leaves:
            anchor = leaf.anchor if same is _Same.ANCHORED else None
            who = leaf.key.key.spki if isinstance(leaf, KeyRequirement) else (leaf.identity, anchor)
            if seen.setdefault(who, index) == index:
                continue
            remedy = "keep it in one element; one signer counts once"
            if isinstance(leaf, KeyRequirement):
                name = leaf.key.name
                raise item.mark(SameKeyTwice(f"key `{name}` is in two elements of this list", got=name, remedy=remedy))
            got = leaf.label or str(leaf.identity)
            raise item.mark(SameIdentityTwice("one identity is in two elements of this list", got=got, remedy=remedy))


def _check_ties(rules: tuple[Rule, ...], fields: tuple[Field, ...]) -> None:
    """Refuse two rules that one reference could match equally specifically."""
    buckets: dict[object, list[tuple[int, ImagePattern]]] = {}
    for index, rule in enumerate(rules):
        for image in rule.scope.images:
            buckets.setdefault(_bucket(image), []).append((index, image))
    compared = 0
    for members in buckets.values():
        for position, (index, image) in enumerate(members):
            for other_index, other in members[:position]:
                compared += 1
                if compared > limits.POLICY_PATTERN_PAIRS:
                    raise TooMany("too many patterns of equal weight to compare", place=rules[index].place)
                if index != other_index and overlap(image.components, other.components):
                    _check_tags(rules[index], rules[other_index], fields[index])


def _bucket(image: ImagePattern) -> object:
    """Group patterns that could tie: of equal weight, with the same literal components before the first `**`."""
    start = image.components[: image.components.index("**")] if "**" in image.components else image.components
    return image.rank(), tuple(None if "*" in component else component for component in start)


def _check_tags(rule: Rule, other: Rule, field: Field) -> None:
    pairs = [(one, two) for one in rule.scope.tags for two in other.scope.tags]
    tied = any(component_rank(one) == component_rank(two) and overlap_text(one, two) for one, two in pairs)
    if tied or not (rule.scope.tags or other.scope.tags):
        raise field.mark(
            AmbiguousRules(
                "two rules match the same images equally specifically",
                got=f"{rule.label()} and {other.label()} (line {other.place.inside.partition(':')[0]})",
                remedy="put them into one rule, or make one pattern more specific",
            )
        )
