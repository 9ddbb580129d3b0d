"""From flags to a policy, and from a decision to what a person reads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

import click

from sigkit.cli.options import HOST_POLICY, NOTHING_ASKED, key_values
from sigkit.text import escape, escape_own

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sigkit.cli.options import AskedFlags, PolicyFlags, Reach
    from sigkit.cli.output import Output
    from sigkit.policy.decision import Decision, Record
    from sigkit.policy.explain import Line
    from sigkit.policy.flags import Wanted, WantedIdentity, WantedKeys, WantedRoot
    from sigkit.policy.model import Demands, Policy

LINE_CHARACTERS = 2_000
DETAILS = frozenset({"digest", "index", "manifest", "policy", "trusted by", "found at", "not needed"})
DETAILS_OF_REFUSAL = frozenset({"unchecked", "annotation"})
# Lines of what the user asked for, and of commands to paste: a backslash in an expression stays one.
_OWN_WORDS = frozenset({"because", "wanted", "met", "not met", "next", "change"})


def choose_policy(
    output: Output,
    flags: PolicyFlags,
    asked: AskedFlags = NOTHING_ASKED,
    attestation_type: str = "",
    reach: Reach = "network",
) -> Policy:
    """Return the policy that the flags name or compile to.

    Args:
        output: for a note on the age of the trust root that is used.
        flags: who must have signed.
        asked: what else the signature must have.
        attestation_type: what must be attested; "" for a signature.
        reach: whether trust roots may be fetched.

    Raises:
        UsageError: neither keys nor an identity nor a policy are given, or several.
        SigkitError: a key, trusted root or policy cannot be used; the place is the operator's.
    """
    context = click.get_current_context()
    if flags.keys and flags.identity:
        raise click.UsageError("--key and an identity exclude each other: a policy can ask for both.", context)
    if flags.keys or flags.identity:
        if flags.policy and not is_policy_of_environment(context):
            raise click.UsageError("--policy says who must have signed: write the key or the identity into it.", context)
        from sigkit.policy.flags import policy_for_flags

        return policy_for_flags(wanted_by(output, flags, reach, asked, attestation_type))
    beside = (
        ("--name", flags.name),
        ("--trusted-root", flags.trusted_root),
        ("--type", attestation_type),
        ("--use-signed-timestamps", flags.use_signed_timestamps),
        ("--insecure-ignore-tlog", flags.insecure_ignore_tlog),
        ("--insecure-ignore-sct", flags.insecure_ignore_sct),
    )
    for flag, given in (*beside, *asked.given()):
        if given:
            raise click.UsageError(f"{flag} goes with --key or an identity; a policy says it in its rules.", context)
    if flags.policy:
        from sigkit.cli.trusting import opened_roots
        from sigkit.policy.load import load_policy

        with opened_roots(output, reach) as roots:
            return load_policy(flags.policy, roots)
    raise click.UsageError(
        "Say what must have signed: --key FILE (a public key), --policy FILE (a trust policy), or an identity "
        "(--certificate-identity with --certificate-oidc-issuer).",
        context,
    )


def is_policy_of_environment(context: click.Context) -> bool:
    """Tell whether the policy is that of SIGKIT_POLICY, which gives way to flags that name a signer."""
    return context.get_parameter_source("policy") is click.core.ParameterSource.ENVIRONMENT


def choose_host_policy(
    output: Output,
    flags: PolicyFlags,
    asked: AskedFlags = NOTHING_ASKED,
    attestation_type: str = "",
    reach: Reach = "network",
) -> Policy:
    """Return the policy that the flags name or compile to, or else this host's; as `choose_policy`."""
    nobody = not flags.keys and not flags.identity and not flags.policy
    if nobody and os.path.exists(HOST_POLICY):
        flags = flags._replace(policy=HOST_POLICY)
    elif nobody and not flags.name:
        raise click.UsageError(
            f"Say what must have signed: --key FILE (a public key) or --policy FILE (a trust policy); this host has no {HOST_POLICY}.",
            click.get_current_context(),
        )
    return choose_policy(output, flags, asked, attestation_type, reach)


def wanted_by(output: Output, flags: PolicyFlags, reach: Reach, asked: AskedFlags = NOTHING_ASKED, attestation_type: str = "") -> Wanted:
    """Return what flags say about who must have signed what; the trusted roots that they name are read, or fetched.

    Raises:
        SigkitError: a key or trusted root cannot be used; the place is the operator's.
    """
    from sigkit.policy.flags import Wanted, WantedIdentity, check_identity
    from sigkit.policy.model import NameRule

    signer = _signer(flags, asked)
    if isinstance(signer, WantedIdentity):
        check_identity(signer)  # before a trust root is opened, whose age is told
        _note_doubts(output, signer)
    return Wanted(
        signer,
        _demands(flags),
        NameRule(flags.name or NameRule.IF_SIGNED.value),
        key_values(asked.annotations, "-a"),
        attestation_type,
        _roots(output, flags, reach),
    )


def _signer(flags: PolicyFlags, asked: AskedFlags) -> WantedKeys | WantedIdentity:
    from sigkit.policy.flags import EXTENSION_FLAGS, WantedIdentity, WantedKeys, WantedText

    if flags.keys:
        from sigkit.keys.load import load_public
        from sigkit.trust.root import TrustedKey

        return WantedKeys(tuple(TrustedKey(os.path.basename(path), load_public(path)) for path in flags.keys), asked.threshold or 1)
    if asked.threshold:
        raise click.UsageError(
            "--threshold counts keys: give several --key. Of identities a policy counts some: `atLeast`.", click.get_current_context()
        )
    given = flags._asdict()
    return WantedIdentity(
        WantedText("--certificate-identity", flags.certificate_identity, flags.certificate_identity_regexp),
        WantedText("--certificate-oidc-issuer", flags.certificate_oidc_issuer, flags.certificate_oidc_issuer_regexp),
        {name: value for flag, name in EXTENSION_FLAGS.items() if (value := given[flag.replace("-", "_")])},
    )


def _note_doubts(output: Output, signer: WantedIdentity) -> None:
    """Say what is probably not meant: an issuer that calls itself a little otherwise, and of an expression what cosign reads otherwise."""
    from sigkit.policy.expression import ONE_STRING, find_doubts
    from sigkit.signing.public_good import near_issuer

    if near := near_issuer(signer.issuer.exact):
        output.note(escape_own(f"{signer.issuer.flag} {signer.issuer.exact}: this issuer calls itself {near}", LINE_CHARACTERS))
    for wanted in (signer.subject, signer.issuer):
        for doubt in find_doubts(wanted.expression) if wanted.expression else ():
            told = f"{wanted.flag}-regexp `{wanted.expression}`: {doubt.text}" + (f"; write {doubt.suggestion}" if doubt.suggestion else "")
            (output.note if doubt.text == ONE_STRING else output.detail)(escape_own(told, LINE_CHARACTERS))


def _demands(flags: PolicyFlags) -> Demands:
    from sigkit.policy.model import KEYLESS_DEMANDS, NO_DEMANDS, Demands

    asked = NO_DEMANDS if flags.keys else KEYLESS_DEMANDS
    return Demands(
        log_entries=0 if flags.insecure_ignore_tlog else asked.log_entries,
        log_inclusions=0 if flags.insecure_ignore_tlog else asked.log_inclusions,
        timestamps=1 if flags.use_signed_timestamps else asked.timestamps,
        certificate_logs=0 if flags.insecure_ignore_sct else asked.certificate_logs,
    )


def _roots(output: Output, flags: PolicyFlags, reach: Reach) -> tuple[WantedRoot, ...]:
    if flags.keys and not flags.trusted_root:
        return ()
    from sigkit.cli.trusting import config_beside, opened_roots
    from sigkit.policy.flags import WantedRoot
    from sigkit.policy.model import signing_options
    from sigkit.trust.bundled import NAME

    with opened_roots(output, reach) as roots:
        named = tuple((text, roots.load_named_or_file(text)) for text in flags.trusted_root or (NAME,))
    return tuple(WantedRoot(found.root, signing_options(text, found.signing, config_beside(text))) for text, found in named)


def verdict_word(record: Record) -> str:
    """Return the word for what `verify` decided: an allow is `verified` where somebody's signature counted for it."""
    from sigkit.policy.decision import Outcome, signers_of
    from sigkit.policy.explain import word_for

    proved = record.outcome is Outcome.ALLOW and record.tree is not None and any(True for _ in signers_of(record.tree))
    return "verified" if proved else word_for(record)


def decision_lines(output: Output, decision: Decision, stream: TextIO, allowed: str) -> list[str]:
    """Return a decision as lines for a person, escaped; all of them with -v, else those that answer the next question.

    Args:
        stream: where they go, for colour.
        allowed: the word for an allow.
    """
    from sigkit.policy.explain import explain

    explained = explain(decision)
    word = allowed if explained.word == "allowed" else explained.word
    left_out = DETAILS if explained.word == "allowed" else DETAILS | DETAILS_OF_REFUSAL
    return [f"{output.word(word, stream)}  {escape(explained.subject)}", *shown_lines(output, explained.lines(), left_out)]


def shown_lines(output: Output, lines: Iterable[Line], left_out: frozenset[str]) -> list[str]:
    """Return lines of an explanation as a person reads them, without those of the labels in `left_out` unless `-v` asks for all."""
    return [line_text(line) for line in lines if output.verbosity or line.label not in left_out]


def line_text(line: Line, characters: int = LINE_CHARACTERS) -> str:
    """Return one line of an explanation as a person reads it: indented, escaped, no longer than `characters`, its code at the end."""
    code = f"  [{line.code}]" if line.code else ""
    shown = escape_own if line.label in _OWN_WORDS else escape
    return f"{'  ' * line.depth}{line.label:<10}  {shown(line.text, characters)}{code}"
