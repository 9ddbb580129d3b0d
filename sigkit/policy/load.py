"""From a policy file to a `Policy`: unknown fields, empty lists, ties and keys that count twice are refused with line, column and caret.

Everything is checked here, so that `decide` never meets a policy that could mean two things. docs/policy.md is the reference of the
language; its examples are loaded by a test.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, TypeVar

from sigkit import durable, limits
from sigkit.errors import (
    AmbiguousRules,
    FileUnreadable,
    Place,
    SameKeyTwice,
    SigkitError,
    TooMany,
    UnsupportedPolicyVersion,
)
from sigkit.keys.public import parse_public_key
from sigkit.oci.reference import parse_repository
from sigkit.policy.document import meant, parse_document
from sigkit.policy.load_run import parse_grant
from sigkit.policy.model import (
    API_VERSION,
    KIND,
    AllOf,
    AnyOf,
    AtLeast,
    Grant,
    KeyRequirement,
    Mode,
    NameRule,
    Policy,
    Remap,
    Rule,
    Unverified,
    keys_of,
    policy_digest,
)
from sigkit.policy.scope import ImagePattern, Scope, component_rank, overlap, overlap_text, parse_image_pattern, parse_tag_pattern
from sigkit.trust.root import TrustedKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sigkit.keys.public import PublicKey
    from sigkit.policy.document import Field
    from sigkit.policy.model import Requirement

_Pattern = TypeVar("_Pattern", ImagePattern, str)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"[0-9]{1,4}")
_REQUIREMENTS: Final = ("key", "allOf", "anyOf", "atLeast")


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read a policy and the key files that it names, which lie relative to it.

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

    def read_key(relative: str) -> bytes:
        key_path = os.path.join(directory, relative)
        return durable.read(key_path, most_bytes=limits.KEY_FILE_BYTES, place=Place.operator(key_path))

    return parse_policy(raw, place, read_key)


def parse_policy(raw: bytes, place: Place, read_key: Callable[[str], bytes]) -> Policy:
    """Parse a policy.

    Args:
        raw: the file.
        place: the operator's place of it.
        read_key: gives the bytes of a key file, named as the policy names it.

    Raises:
        SigkitError: as `load_policy`.
    """
    top = parse_document(raw, place)
    found = top.members()
    _check_version(top, found)
    top.only("apiVersion", "kind", "metadata", "keys", "rules")
    metadata = found["metadata"].only("name") if "metadata" in found else {}
    name = metadata["name"].text() if "name" in metadata else os.path.basename(place.source)
    keys = _parse_keys(found["keys"], read_key) if "keys" in found else {}
    fields = top.require(found, "rules").items()
    rules = tuple(_parse_rule(field, keys) for field in fields)
    _check_ties(rules, fields)
    named = tuple(keys.values())
    return Policy(name, policy_digest(raw, named), place, rules, named)


def _check_version(top: Field, found: Mapping[str, Field]) -> None:
    for name, known in (("apiVersion", API_VERSION), ("kind", KIND)):
        field = top.require(dict(found), name)
        if field.text() != known:
            error = UnsupportedPolicyVersion(f"`{name}` is not one that this sigkit reads", expected=known, got=field.text())
            raise field.mark(error)


def _parse_keys(field: Field, read_key: Callable[[str], bytes]) -> dict[str, TrustedKey]:
    keys: dict[str, TrustedKey] = {}
    seen: dict[bytes, str] = {}
    for name, value in field.members().items():
        if not _NAME.fullmatch(name):
            value.fail("malformed name of a key", expected="1 to 64 letters, digits, _ . and -", got=name)
        key = TrustedKey(name, _parse_key(value, read_key))
        if (other := seen.get(key.key.spki)) is not None:
            raise value.mark(
                SameKeyTwice("one key has two names", got=f"{other} and {name}: {key.key.fingerprint}", remedy=f"use `{other}` only")
            )
        seen[key.key.spki] = name
        keys[name] = key
    if not keys:
        field.fail("`keys` is empty", expected="at least one key, or no `keys`")
    return keys


def _parse_key(field: Field, read_key: Callable[[str], bytes]) -> PublicKey:
    found = field.only("file", "pem")
    if len(found) != 1:
        field.fail("a key has either `file` or `pem`", got=" and ".join(found) or "neither")
    where = next(iter(found.values()))
    text = where.text()
    try:
        if "pem" in found:
            return parse_public_key(text.encode(), where.place())
        return parse_public_key(read_key(text), Place.operator(text))
    except SigkitError as err:
        # The fault lies in the key; what the operator can point at is the line that names it.
        err.problem = f"{err.problem} (key file {err.place.source})" if "file" in found else err.problem
        if isinstance(err, FileUnreadable):
            err.remedy = err.remedy or "the path is relative to the policy file"
        where.mark(err)
        raise


def _parse_rule(field: Field, keys: Mapping[str, TrustedKey]) -> Rule:
    found = field.only("images", "tags", "require", "unverified", "name", "mode", "run")
    images = _distinct(field.require(found, "images"), parse_image_pattern)
    scope = Scope(images, _distinct(found["tags"], parse_tag_pattern) if "tags" in found else ())
    run = parse_grant(found["run"]) if "run" in found else Grant()
    if ("require" in found) == ("unverified" in found):
        remedy = "`unverified: {reason: …}` starts images without any evidence, and only in writing"
        field.fail("a rule has either `require` or `unverified`", got="both" if "require" in found else "neither", remedy=remedy)
    if "unverified" in found:
        for name in ("name", "mode"):
            if name in found:
                found[name].fail(f"`{name}` means nothing beside `unverified`", remedy="remove it")
        return Rule(scope, _parse_unverified(found["unverified"]), NameRule.ANY, field.place(), run=run)
    name_rule, remaps = _parse_name(found["name"]) if "name" in found else (NameRule.REPOSITORY, ())
    mode = Mode(found["mode"].choice(*(mode.value for mode in Mode))) if "mode" in found else Mode.ENFORCE
    return Rule(scope, _parse_require(found["require"], keys), name_rule, field.place(), remaps=remaps, mode=mode, run=run)


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


def _parse_require(field: Field, keys: Mapping[str, TrustedKey]) -> Requirement:
    found = field.only(*_REQUIREMENTS)
    if len(found) != 1:
        field.fail("a requirement is exactly one of " + ", ".join(_REQUIREMENTS), got=" and ".join(found) or "none")
    kind, value = next(iter(found.items()))
    match kind:
        case "key":
            return _parse_key_requirement(value, keys)
        case "atLeast":
            return _parse_at_least(value, keys)
        case _:
            items = value.items()
            of = tuple(_parse_require(item, keys) for item in items)
            # Only keys that stand in this list themselves: [allOf [a, b], allOf [a, c]] has its meaning.
            _check_repeated([{part.key.name} if isinstance(part, KeyRequirement) else set() for part in of], items)
            return AllOf(of, field.place()) if kind == "allOf" else AnyOf(of, field.place())


def _parse_key_requirement(field: Field, keys: Mapping[str, TrustedKey]) -> KeyRequirement:
    name = field.text()
    if name not in keys:
        expected = "one of " + ", ".join(keys) if keys else "a name under `keys`"
        field.fail(f"there is no key `{name[:80]}`", expected=expected, got=name[:80], remedy=meant(name, keys))
    return KeyRequirement(keys[name], field.place())


def _parse_at_least(field: Field, keys: Mapping[str, TrustedKey]) -> AtLeast:
    found = field.only("n", "of")
    count, items = field.require(found, "n"), field.require(found, "of").items()
    of = tuple(_parse_require(item, keys) for item in items)
    text = count.text()
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= len(of):
        count.fail("`n` is out of range", expected=f"1 to {len(of)}, the length of `of`", got=text)
    _check_repeated([{key.name for key in keys_of(part)} for part in of], items)
    return AtLeast(int(text), of, field.place())


def _check_repeated(parts: list[set[str]], items: tuple[Field, ...]) -> None:
    """Refuse a key in two elements of one list: one signer would count twice (cases.md C21)."""
    seen: set[str] = set()
    for names, item in zip(parts, items, strict=True):
        if twice := sorted(seen & names):
            remedy = "keep it in one element; one signer counts once"
            raise item.mark(SameKeyTwice(f"key `{twice[0]}` is in two elements of this list", got=twice[0], remedy=remedy))
        seen |= names


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
