"""What a policy means, in lines, and what in it deserves a second look. A warning is no error: the policy can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sigkit.data import Data
from sigkit.policy.decision import encode_time
from sigkit.policy.evaluate import describe_leaf
from sigkit.policy.expression import find_doubts
from sigkit.policy.identity import AnyText, Expression
from sigkit.policy.load import load_policy
from sigkit.policy.model import (
    AllOf,
    AnyOf,
    Anything,
    AtLeast,
    AttestationRequirement,
    Commands,
    Grant,
    IdentityRequirement,
    ImageOwn,
    KeyRequirement,
    Mode,
    NameRule,
    Network,
    Unverified,
    leaves_of,
)
from sigkit.policy.scope import ANY_COMPONENTS, match_components
from sigkit.text import escape, format_time

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from sigkit.errors import Place
    from sigkit.policy.model import Policy, Requirement, Rule
    from sigkit.strict import Json
    from sigkit.trust.root import TrustedRoot, Window


class PolicyWarning(Data):
    """Something that is allowed and may not be meant."""

    place: Place
    text: str


class PolicySummary(Data):
    """A policy that was loaded, and warnings about it."""

    policy: Policy
    warnings: tuple[PolicyWarning, ...]


def check_policy(path: str | os.PathLike[str]) -> PolicySummary:
    """Load a policy as the gate would, and look it over.

    Raises:
        SigkitError: as `load_policy`.
    """
    policy = load_policy(path)
    return PolicySummary(policy, tuple(dict.fromkeys(_warnings(policy))))  # an authority is warned of once, however often it is named


def _warnings(policy: Policy) -> Iterator[PolicyWarning]:
    for unnamed in policy.unnamed:
        yield PolicyWarning(policy.place, f"{unnamed} is named by no rule")
    for rule in policy.rules:
        yield from _rule_warnings(rule, policy)


def _rule_warnings(rule: Rule, policy: Policy) -> Iterator[PolicyWarning]:
    if isinstance(rule.require, Unverified):
        everything = any(image.components == (ANY_COMPONENTS,) for image in rule.scope.images)
        what = "every image that no other rule matches starts" if everything else "these images start"
        yield PolicyWarning(rule.place, f"{what} without any evidence")
    else:
        yield from _requirement_warnings(rule.require)
        for leaf in leaves_of(rule.require):
            yield from _out_of_reach(leaf, policy.roots)
        if rule.name is NameRule.ANY:
            yield PolicyWarning(rule.place, "`name: any`: a signature that was copied from another repository counts")
    if rule.mode is Mode.WARN:
        yield PolicyWarning(rule.place, "`mode: warn`: what is refused starts all the same")
    for image in rule.scope.images:
        for other in rule.scope.images:
            if image.is_literal() and other is not image and match_components(other.components, image.components):
                yield PolicyWarning(rule.place, f"pattern `{image}` adds nothing: `{other}` of the same rule matches it")
    yield from _grant_warnings(rule)


def _requirement_warnings(require: Requirement) -> Iterator[PolicyWarning]:
    match require:
        case KeyRequirement():
            return
        case IdentityRequirement():
            yield from _identity_warnings(require)
            return
        case AttestationRequirement(_, by, _):
            yield from _requirement_warnings(by)
            return
        case AllOf(of, place) | AnyOf(of, place) if len(of) == 1:
            yield PolicyWarning(place, "a list of one: its element alone says the same")
        case AtLeast(n, of, place) if n == len(of):
            yield PolicyWarning(place, f"at least {n} of {n} is all of them: `allOf` says so")
        case AtLeast(1, _, place):
            yield PolicyWarning(place, "at least 1 is any of them: `anyOf` says so")
        case _:
            pass
    for part in require.of:
        yield from _requirement_warnings(part)


def _identity_warnings(require: IdentityRequirement) -> Iterator[PolicyWarning]:
    identity = require.identity
    texts = (("issuer", identity.issuer), ("subject", identity.subject), *identity.extensions.items())
    for name, wanted in texts:
        if isinstance(wanted, Expression):
            for doubt in find_doubts(wanted.text):
                suggestion = f"; write {doubt.suggestion}" if doubt.suggestion else ""
                yield PolicyWarning(require.place, f"expression of {name} `{wanted.text}`: {doubt.text}{suggestion}")
    if not require.demands.log_entries and not require.demands.log_inclusions and not isinstance(identity.issuer, AnyText):
        yield PolicyWarning(require.place, "no log is asked for: a signature by a stolen identity would be seen by nobody")


def _out_of_reach(require: KeyRequirement | IdentityRequirement, roots: tuple[TrustedRoot, ...]) -> Iterator[PolicyWarning]:
    """Warn of demands that no evidence can meet: the root has fewer operators than are asked for."""
    demands, anchor = require.demands, require.anchor
    if anchor is None:
        return
    logs = [log for root in roots for log in root.logs]
    for field, wanted, services in (
        ("logEntries", demands.log_entries, logs),
        ("logInclusions", demands.log_inclusions, logs),
        ("timestamps", demands.timestamps, [stamper for root in roots for stamper in root.timestamp_authorities]),
        ("certificateLogs", demands.certificate_logs, [log for root in roots for log in root.ct_logs]),
    ):
        there = len({service.operator or service.name for service in services if service.source.digest == anchor.logs})
        if wanted > there:
            text = f"`{field}: {wanted}` can never be met: {anchor.name} has {there} of distinct operators, and one operator counts once"
            yield PolicyWarning(require.place, text)


def _grant_warnings(rule: Rule) -> Iterator[PolicyWarning]:
    grant = rule.run
    if isinstance(grant.command, Anything):
        yield PolicyWarning(rule.place, "`command: any`: the verified image may run any program in it, with any arguments")
    if "*" in grant.environment:
        yield PolicyWarning(rule.place, "`environment: ['*']`: variables such as LD_PRELOAD change what a program does")
    if grant.network is Network.HOST:
        yield PolicyWarning(rule.place, "`network: host`: the container shares every interface and abstract socket of the host")
    if "CAP_SYS_ADMIN" in grant.capabilities:
        yield PolicyWarning(rule.place, "SYS_ADMIN is close to root on the host")
    for mount in grant.mounts:
        if mount.source == "/":
            yield PolicyWarning(rule.place, "the whole host can be mounted")
        if mount.target == "/":
            yield PolicyWarning(rule.place, f"{mount.source} can be mounted anywhere, also over the image's programs")


def summary_lines(summary: PolicySummary) -> tuple[str, ...]:
    """Return what a policy means, for a person; escaped."""
    policy = summary.policy
    head = [
        f"policy {policy.name}  {policy.digest}",
        f"  rules {len(policy.rules)}, keys {len(policy.keys)}; what no rule matches is refused",
    ]
    keys = [f"  key {key.name}: {key.key.kind} {key.key.fingerprint}" for key in policy.keys]
    roots = [f"  {trusted.kind} {trusted.name} of {trusted.root}: {_describe_window(trusted.valid)}" for trusted in _trusted(policy)]
    rules = [line for rule in policy.rules for line in _rule_lines(rule)]
    warnings = [f"warning  {warning.place}: {warning.text}" for warning in summary.warnings]
    return tuple(escape(line, 2000) for line in (*head, *keys, *roots, *rules, *warnings))


class _Trusted(Data):
    """A log or an authority of a trusted root, and when its word counts."""

    kind: str
    name: str
    root: str
    valid: Window


def _trusted(policy: Policy) -> tuple[_Trusted, ...]:
    """Return everything besides keys whose word the policy counts, each once."""
    found: list[_Trusted] = []
    for root in policy.roots:
        kinds = (
            ("certificate authority", root.certificate_authorities),
            ("certificate log", root.ct_logs),
            ("log", root.logs),
            ("timestamp authority", root.timestamp_authorities),
        )
        found += [_Trusted(kind, item.name, item.source.name, item.valid) for kind, items in kinds for item in items]
    return tuple(dict.fromkeys(found))


def _describe_window(window: Window) -> str:
    start = f"from {format_time(window.start)}" if window.start else "no beginning"
    end = f"until {format_time(window.end)}" if window.end else "no end"
    return f"{start}, {end}"


def _rule_lines(rule: Rule) -> Iterator[str]:
    yield f"  rule {rule.label()}  ({rule.place.inside})"
    if isinstance(rule.require, Unverified):
        yield f"    starts unverified: {rule.require.reason}"
    else:
        yield f"    requires {describe(rule.require)}"
        yield f"    name: {rule.name.value}" + "".join(f"; {remap.source} was signed as {remap.target}" for remap in rule.remaps)
        for name, value in rule.annotations.items():
            yield f"    annotation: {name}={value}"
        yield f"    mode: {rule.mode.value}"
    yield f"    may run {_describe_command(rule.run)}; {_describe_grant(rule.run)}"


def describe(require: Requirement) -> str:
    """Write a requirement in words."""
    match require:
        case KeyRequirement() | IdentityRequirement():
            return describe_leaf(require)
        case AttestationRequirement(predicate_type, by, _):
            return f"an attestation of type {predicate_type} by {describe(by)}"
        case AllOf(of, _):
            return f"all of ({'; '.join(map(describe, of))})"
        case AnyOf(of, _):
            return f"any of ({'; '.join(map(describe, of))})"
        case AtLeast(n, of, _):
            return f"at least {n} of ({'; '.join(map(describe, of))})"
        case _:
            assert_never(require)


def _describe_command(grant: Grant) -> str:
    match grant.command:
        case ImageOwn():
            return "the image's own command"
        case Anything():
            return "any command"
        case Commands(prefixes):
            return "the image's own command or " + " or ".join(f"{' '.join(prefix)} …" for prefix in prefixes)
        case _:
            assert_never(grant.command)


def _describe_grant(grant: Grant) -> str:
    mounts = ", ".join(f"{mount.source} ({mount.access.value})" for mount in grant.mounts)
    return "; ".join(
        (
            f"variables: {', '.join(grant.environment) or 'none'}",
            f"mounts: {mounts or 'none'}",
            f"network: {grant.network.value}",
            f"{len(grant.capabilities)} capabilities",
        )
    )


def encode_summary(summary: PolicySummary) -> dict[str, Json]:
    """Return a summary as the document `sigkit.policy/1`."""
    policy = summary.policy
    return {
        "schema": "sigkit.policy/1",
        "name": policy.name,
        "digest": str(policy.digest),
        "keys": [{"name": key.name, "kind": key.key.kind, "fingerprint": str(key.key.fingerprint)} for key in policy.keys],
        "trusted": [
            {
                "kind": trusted.kind,
                "name": trusted.name,
                "root": trusted.root,
                "from": encode_time(trusted.valid.start) if trusted.valid.start else None,
                "until": encode_time(trusted.valid.end) if trusted.valid.end else None,
            }
            for trusted in _trusted(policy)
        ],
        "rules": [
            {
                "images": [image.text for image in rule.scope.images],
                "tags": list(rule.scope.tags),
                "place": {"source": rule.place.source, "inside": rule.place.inside},
                "requires": None if isinstance(rule.require, Unverified) else describe(rule.require),
                "unverified": rule.require.reason if isinstance(rule.require, Unverified) else None,
                "name": rule.name.value,
                "annotations": dict(rule.annotations),
                "mode": rule.mode.value,
            }
            for rule in policy.rules
        ],
        "warnings": [
            {"place": {"source": warning.place.source, "inside": warning.place.inside}, "text": warning.text}
            for warning in summary.warnings
        ],
    }
