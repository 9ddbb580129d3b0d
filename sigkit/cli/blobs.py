"""From the flags of the commands about files to a verdict about one."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Final

import click

from sigkit.cli.inputs import STDIN, place_of, read_input
from sigkit.text import escape, escape_own

if TYPE_CHECKING:
    from sigkit.cli.options import EvidenceFlags, PolicyFlags
    from sigkit.cli.output import Output
    from sigkit.evidence.form import Evidence
    from sigkit.policy.blob import BlobDecision
    from sigkit.verify.bind import Artifact

_DIGEST: Final = re.compile(r"sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})", re.ASCII)


def verify_file(output: Output, artifact: str, evidence: EvidenceFlags, flags: PolicyFlags, attestation_type: str = "") -> int:
    """Verify the evidence about one file, print the verdict, and return the exit status.

    Raises:
        UsageError: no signer is named, or no evidence.
        SigkitError: a file cannot be read, or a key or trusted root cannot be used.
    """
    from sigkit import limits
    from sigkit.cli.decisions import wanted_by
    from sigkit.cli.output import status_word
    from sigkit.clock import SystemClock
    from sigkit.gate.prove import prove
    from sigkit.policy.blob import encode_blob_decision
    from sigkit.policy.decide import decide_blob
    from sigkit.policy.flags import WantedKeys, requirement_for_flags, roots_with_keys
    from sigkit.policy.model import FLAGS

    if bool(flags.keys) == bool(flags.identity):
        raise click.UsageError("Say who must have signed: --key FILE, or --certificate-identity with --certificate-oidc-issuer.")
    wanted = wanted_by(output, flags, "nothing", attestation_type=attestation_type)
    require = requirement_for_flags(wanted)
    keys = wanted.signer.keys if isinstance(wanted.signer, WantedKeys) else ()
    found = _evidence(evidence)
    thing = artifact_of(artifact)
    now = SystemClock().now()
    proved = prove((found,), thing, roots_with_keys(keys, wanted.trusted_roots(), FLAGS), now, limits.DEFAULT)
    decision = decide_blob(proved.facts, proved.refused, thing, require, now, _name_of(artifact))
    steps = _of_another_kind(decision, artifact, attestation_type)
    output.answer(_lines(output, artifact, evidence.bundle, decision, steps), encode_blob_decision(decision))
    for reason in decision.reasons:
        word = status_word(decision.exit_status())
        output.tell_again(f"{output.word(word, sys.stderr)}  {escape(artifact)}  {escape_own(reason.problem)}  [{reason.code}]")
    return decision.exit_status()


def _name_of(artifact: str) -> str:
    """Return the file as a word of the shell; what has only a digest cannot be signed."""
    from shlex import quote

    return "FILE" if _DIGEST.fullmatch(artifact) else quote(artifact)


def artifact_of(text: str) -> Artifact:
    """Read a file or standard input, or take a digest for what it names.

    Raises:
        UsageError: a file has a digest for its name: whoever may write it here would choose what is verified.
        FileUnreadable: (UNAVAIL), TooLarge: (LIMIT).
    """
    from sigkit import limits
    from sigkit.digest import parse_digest
    from sigkit.verify.bind import Artifact

    if _DIGEST.fullmatch(text):
        if os.path.lexists(text):
            raise click.UsageError(f"{text} is a digest and a file: write ./{text} for the file.", click.get_current_context())
        return Artifact.of(parse_digest(text, place_of(text)))
    return Artifact.of_content(read_input(text, limits.SIGNED_FILE_BYTES))


def _evidence(flags: EvidenceFlags) -> Evidence:
    from sigkit import limits
    from sigkit.evidence.local import detached_signature, evidence_of_file

    if bool(flags.bundle) == bool(flags.signature):
        raise click.UsageError("Give the evidence: --bundle FILE, or --signature FILE where there is no bundle.")
    if flags.bundle:
        if flags.certificate or flags.certificate_chain:
            raise click.UsageError("--certificate goes with --signature; a bundle has its own.")
        return evidence_of_file(read_input(flags.bundle, limits.BUNDLE_BYTES), flags.bundle, limits.DEFAULT)
    paths = (flags.signature, flags.certificate, flags.certificate_chain)
    signature, certificate, chain = (read_input(path, limits.BUNDLE_BYTES) if path else None for path in paths)
    return detached_signature(signature or b"", certificate, chain, str(flags.signature))


def _of_another_kind(decision: BlobDecision, artifact: str, attestation_type: str) -> tuple[str, ...]:
    """Return the command for what the evidence is, where it is not what was asked for: a signature, or an attestation of its type."""
    from sigkit.cli.again import command_again
    from sigkit.evidence.predicate_types import predicate_type_of
    from sigkit.policy.evaluate import is_signature

    signed = [fact for fact in decision.facts if is_signature(fact)]
    types = sorted({str(fact.signature.predicate_type) for fact in decision.facts if fact not in signed})
    if attestation_type:
        if not decision.facts or predicate_type_of(attestation_type) in types:
            return ()
    elif not types or signed:
        return ()
    words = ("verify-blob-attestation", "--type", types[0]) if types else ("verify-blob",)
    return (command_again(words, (artifact,), ("attestation_type",)),)


def _lines(output: Output, artifact: str, bundle: str | None, decision: BlobDecision, steps: tuple[str, ...]) -> list[str]:
    from sigkit.cli.again import inspect_command
    from sigkit.cli.decisions import DETAILS, shown_lines
    from sigkit.cli.output import status_word
    from sigkit.errors import EXIT_DONE
    from sigkit.policy.explain import Line, fact_lines, next_steps, reason_lines

    status = decision.exit_status()
    name = "standard input" if artifact == STDIN else artifact
    told = [line for facts in decision.facts for line in fact_lines(facts, 1)]
    told += [line for reason in decision.reasons for line in reason_lines(reason, 1)]
    if status == EXIT_DONE:
        told += [Line(1, "unchecked", f"{item.what}: {item.why}") for item in decision.unchecked]
    told += [Line(1, "next", step) for step in (*steps, *next_steps(decision.reasons))]
    if bundle and bundle != STDIN and status != EXIT_DONE:
        told.append(Line(1, "next", inspect_command((bundle,))))
    return [f"{output.word(status_word(status), sys.stdout)}  {escape(name)}  {decision.artifact}", *shown_lines(output, told, DETAILS)]
