"""The flags of the verify commands as a policy of one rule. Pure.

So there is one matcher, one explanation, and no flag that could switch off a binding.

Peers' flags have peers' names (cosign's `--certificate-identity` …) and one difference: an expression must fit the whole text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.data import NOTHING, Data
from sigkit.errors import MalformedOption, Place
from sigkit.policy.model import (
    FLAGS,
    NO_DEMANDS,
    OPEN_GRANT,
    Anchor,
    AnyOf,
    AtLeast,
    AttestationRequirement,
    IdentityRequirement,
    KeyRequirement,
    NameRule,
    Policy,
    Rule,
    policy_digest,
)
from sigkit.policy.scope import ANY_COMPONENTS, ImagePattern, Scope
from sigkit.strict import encode_json
from sigkit.trust.root import root_of_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.policy.identity import TextMatch
    from sigkit.policy.model import Demands, Requirement
    from sigkit.strict import Json
    from sigkit.trust.root import TrustedKey, TrustedRoot

_FLAGS: Final = Place(FLAGS)

# cosign's flags for Fulcio's extensions: `--certificate-github-workflow-…`, and the name of the extension.
EXTENSION_FLAGS: Final[Mapping[str, str]] = {
    "certificate-github-workflow-trigger": "githubWorkflowTrigger",
    "certificate-github-workflow-sha": "githubWorkflowSHA",
    "certificate-github-workflow-name": "githubWorkflowName",
    "certificate-github-workflow-repository": "githubWorkflowRepository",
    "certificate-github-workflow-ref": "githubWorkflowRef",
}


class WantedText(Data):
    """A pair of flags of which one is given: the text itself, or an expression that it must fit whole. Both "": neither."""

    flag: str  # `--certificate-identity`; the other has `-regexp` after it
    exact: str = ""
    expression: str = ""


class WantedIdentity(Data):
    """What identity must have signed."""

    subject: WantedText
    issuer: WantedText
    extensions: Mapping[str, str] = NOTHING  # name of Fulcio's extension, and its whole value


class WantedKeys(Data):
    """Which keys must have signed: `threshold` of them."""

    keys: tuple[TrustedKey, ...]
    threshold: int = 1


class WantedRoot(Data):
    """A trusted root, and how `sigkit sign` is told of its instance."""

    root: TrustedRoot
    signs_with: tuple[str, ...] | None = None


class Wanted(Data):
    """Everything that flags say about who must have signed what.

    `roots` are the trusted roots, none for keys alone. `attestation_type` is "" for signatures, else a URI or one of cosign's names.
    """

    signer: WantedKeys | WantedIdentity
    demands: Demands = NO_DEMANDS
    name_rule: NameRule = NameRule.IF_SIGNED
    annotations: Mapping[str, str] = NOTHING
    attestation_type: str = ""
    roots: tuple[WantedRoot, ...] = ()

    def trusted_roots(self) -> tuple[TrustedRoot, ...]:
        """Return the roots themselves."""
        return tuple(wanted.root for wanted in self.roots)


def policy_for_flags(wanted: Wanted) -> Policy:
    """Compile flags to a policy of one rule: any image that is signed as wanted may do what is asked for.

    Raises:
        MalformedOption: (PARSE) a threshold beyond the keys, an issuer or a subject that is missing or given twice, an unknown type, or
            annotations of an attestation.
        MalformedExpression: (PARSE) an expression is malformed.
        DuplicateTrustedKey: (ROOT) one key twice.
        RootError: an identity is asked for, and no trusted root is given.
    """
    if wanted.annotations and wanted.attestation_type:  # nothing would look at them
        raise MalformedOption("annotations are asked of signatures, not of attestations", place=Place.operator("-a"), remedy="leave out -a")
    keys, roots = wanted.signer.keys if isinstance(wanted.signer, WantedKeys) else (), wanted.trusted_roots()
    require = requirement_for_flags(wanted)
    scope = Scope((ImagePattern(ANY_COMPONENTS, (ANY_COMPONENTS,)),))
    rule = Rule(scope, require, wanted.name_rule, _FLAGS, run=OPEN_GRANT, annotations=wanted.annotations)
    digest = policy_digest(encode_json(_content(wanted)), keys, {f"{root.name} {root.digest}": root.digest for root in roots})
    return Policy(FLAGS, digest, _FLAGS, (rule,), keys, roots_with_keys(keys, roots, FLAGS))


def requirement_for_flags(wanted: Wanted) -> Requirement:
    """Return who must have signed, or attested: what `decide_blob` takes.

    Raises:
        SigkitError: as `policy_for_flags`.
    """
    if isinstance(wanted.signer, WantedKeys):
        require = _keys(wanted.signer, wanted.demands)
    else:
        require = _identity(wanted.signer, wanted.demands, wanted.roots)
    if not wanted.attestation_type:
        return require
    from sigkit.evidence.predicate_types import PREDICATE_TYPES, predicate_type_of
    from sigkit.evidence.statement import PREDICATE_SIGNATURE

    predicate_type = predicate_type_of(wanted.attestation_type)
    if predicate_type is None or predicate_type == PREDICATE_SIGNATURE:
        expected = f"a URI, or {', '.join(PREDICATE_TYPES)}"
        got = wanted.attestation_type
        raise MalformedOption("not a type of attestations", place=Place.operator("--type"), expected=expected, got=got)
    return AttestationRequirement(predicate_type, require, _FLAGS)


def signed_or_attested(require: Requirement) -> Requirement:
    """Return a requirement that any statement about the artifact meets, of whatever type, as the conformance protocol asks."""
    return AnyOf((require, AttestationRequirement(None, require, _FLAGS)), _FLAGS)


def policy_for_keys(keys: tuple[TrustedKey, ...], *, name_rule: NameRule = NameRule.IF_SIGNED) -> Policy:
    """Compile the flags `--key` and `--name`: a signature by one of these keys.

    Args:
        keys: not empty, distinct (`root_of_keys` refuses others).
        name_rule: what `--name` says.
    """
    return policy_for_flags(Wanted(WantedKeys(keys), name_rule=name_rule))


def roots_with_keys(keys: tuple[TrustedKey, ...], roots: tuple[TrustedRoot, ...], name: str) -> tuple[TrustedRoot, ...]:
    """Return every root together with the keys, or the keys alone where there is no root.

    Raises:
        DuplicateTrustedKey: (ROOT) one key twice.
    """
    alone = root_of_keys(keys, name)
    if not roots:
        return (alone,)
    from sigkit.trust.root import with_keys

    return tuple(with_keys(root, alone) for root in roots)


def anchor_of(root: TrustedRoot, signs_with: tuple[str, ...] | None = None) -> Anchor:
    """Return how facts name this root: an authority of one's own brings its certificates, and logs of another source."""
    authorities = {authority.source.digest for authority in root.certificate_authorities} or {root.digest}
    logs = {log.source.digest for log in root.logs} | {authority.source.digest for authority in root.timestamp_authorities}
    return Anchor(root.name, min(authorities, key=str), min(logs or {root.digest}, key=str), signs_with)


def text_match(wanted: WantedText) -> TextMatch:
    """Return what a pair of flags asks for.

    Raises:
        MalformedOption: (PARSE) neither is given, or both.
        MalformedExpression: (PARSE).
    """
    from sigkit.policy.expression import check_expression
    from sigkit.policy.identity import Exactly, Expression

    regexp = f"{wanted.flag}-regexp"
    if bool(wanted.exact) == bool(wanted.expression):
        got = "both" if wanted.exact else "neither"
        raise MalformedOption(f"an identity needs one of {wanted.flag} and {regexp}", place=Place.operator(wanted.flag), got=got)
    if wanted.exact:
        return Exactly(wanted.exact)
    return Expression(check_expression(wanted.expression, Place.operator(regexp)))


def check_identity(wanted: WantedIdentity) -> None:
    """Raise unless subject and issuer are each given once.

    Raises:
        MalformedOption, MalformedExpression: (PARSE) as `text_match`.
    """
    for text in (wanted.issuer, wanted.subject):
        text_match(text)


def _keys(wanted: WantedKeys, demands: Demands) -> Requirement:
    leaves = tuple(KeyRequirement(key, _FLAGS, demands) for key in wanted.keys)
    if not 1 <= wanted.threshold <= len(leaves):
        expected = f"1 to {len(leaves)}, the number of keys"
        raise MalformedOption(
            "the threshold is out of range", place=Place.operator("--threshold"), expected=expected, got=str(wanted.threshold)
        )
    if len(leaves) == 1:
        return leaves[0]
    return AnyOf(leaves, _FLAGS) if wanted.threshold == 1 else AtLeast(wanted.threshold, leaves, _FLAGS)


def _identity(wanted: WantedIdentity, demands: Demands, roots: tuple[WantedRoot, ...]) -> Requirement:
    from sigkit.policy.identity import Exactly, IdentityPattern  # a key needs none of it

    pattern = IdentityPattern(
        text_match(wanted.issuer), text_match(wanted.subject), {name: Exactly(v) for name, v in wanted.extensions.items()}
    )
    leaves = tuple(IdentityRequirement(pattern, anchor_of(named.root, named.signs_with), _FLAGS, demands) for named in roots)
    if not leaves:
        raise MalformedOption("an identity needs a trusted root", place=Place.operator("--trusted-root"))
    return leaves[0] if len(leaves) == 1 else AnyOf(leaves, _FLAGS)


def _content(wanted: Wanted) -> Json:
    """Write down what flags ask for beyond keys and roots, for the policy's digest."""
    signer: Json
    if isinstance(wanted.signer, WantedKeys):
        signer = {"threshold": wanted.signer.threshold}
    else:
        texts = (wanted.signer.subject, wanted.signer.issuer)
        signer = {"texts": [[text.exact, text.expression] for text in texts], "extensions": dict(wanted.signer.extensions)}
    demands = wanted.demands
    return {
        "signer": signer,
        "demands": [demands.log_entries, demands.log_inclusions, demands.timestamps, demands.certificate_logs],
        "name": wanted.name_rule.value,
        "annotations": dict(wanted.annotations),
        "type": wanted.attestation_type,
    }
