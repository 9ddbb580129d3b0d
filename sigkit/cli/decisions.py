"""From flags to a policy, and from a decision to what a person reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

import click

from sigkit.cli.options import HOST_POLICY
from sigkit.text import escape

if TYPE_CHECKING:
    from sigkit.cli.options import PolicyFlags
    from sigkit.cli.output import Output
    from sigkit.policy.decision import Decision
    from sigkit.policy.model import Policy

LINE_CHARACTERS = 2_000
DETAILS = frozenset({"digest", "manifest", "policy", "trusted by", "found at"})
DETAILS_OF_REFUSAL = frozenset({"unchecked", "annotation"})


def choose_policy(flags: PolicyFlags) -> Policy:
    """Return the policy that the flags name or compile to.

    Raises:
        UsageError: neither keys nor a policy are given, or both.
        SigkitError: a key or the policy cannot be used; the place is the operator's.
    """
    context = click.get_current_context()
    if flags.keys and flags.policy and context.get_parameter_source("policy") is not click.core.ParameterSource.ENVIRONMENT:
        raise click.UsageError("--key and --policy exclude each other: write the key into the policy.", context)
    if flags.name and not flags.keys:
        raise click.UsageError("--name goes with --key; a policy has the name rule in each rule.", context)
    if flags.keys:
        return _policy_of_keys(flags)
    if flags.policy:
        from sigkit.policy.load import load_policy

        return load_policy(flags.policy)
    raise click.UsageError(
        "Say what must have signed: --key FILE (a public key), --policy FILE (a trust policy), or an identity "
        "(--certificate-identity with --certificate-oidc-issuer: not in this version).",
        context,
    )


def choose_host_policy(flags: PolicyFlags) -> Policy:
    """Return the policy that the flags name or compile to, or else this host's."""
    if not flags.keys and not flags.policy and os.path.exists(HOST_POLICY):
        flags = flags._replace(policy=HOST_POLICY)
    if not flags.keys and not flags.policy and not flags.name:
        raise click.UsageError(
            f"Say what must have signed: --key FILE (a public key) or --policy FILE (a trust policy); this host has no {HOST_POLICY}.",
            click.get_current_context(),
        )
    return choose_policy(flags)


def _policy_of_keys(flags: PolicyFlags) -> Policy:
    from sigkit.keys.load import load_public
    from sigkit.policy.flags import policy_for_keys
    from sigkit.policy.model import NameRule
    from sigkit.trust.root import TrustedKey

    keys = tuple(TrustedKey(os.path.basename(path), load_public(path)) for path in flags.keys)
    return policy_for_keys(keys, name_rule=NameRule(flags.name or NameRule.IF_SIGNED.value))


def decision_lines(output: Output, decision: Decision, stream: TextIO, allowed: str) -> list[str]:
    """Return a decision as lines for a person, escaped; all of them with -v, else those that answer the next question.

    Args:
        stream: where they go, for colour.
        allowed: the word for an allow.
    """
    from sigkit.policy.explain import explain

    explained = explain(decision)
    word = allowed if explained.word == "allowed" else explained.word
    lines = [f"{output.word(word, stream)}  {escape(explained.subject)}"]
    left_out = DETAILS if explained.word == "allowed" else DETAILS | DETAILS_OF_REFUSAL
    for line in explained.lines():
        if line.label in left_out and not output.verbosity:
            continue
        code = f"  [{line.code}]" if line.code else ""
        lines.append(f"{'  ' * line.depth}{line.label:<10}  {escape(line.text, LINE_CHARACTERS)}{code}")
    return lines
