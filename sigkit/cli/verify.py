"""`sigkit verify`: prove who signed an image, or say why it is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from sigkit.cli.connect import find_in_layout, open_source, parse_image
from sigkit.cli.options import asked_options, image_options, platform_option, policy_options, registry_options, source_options
from sigkit.cli.output import EXITS, Command, Output
from sigkit.text import escape, escape_own

if TYPE_CHECKING:
    from sigkit.cli.options import AskedFlags, ConnectionFlags, ImageFlags, PolicyFlags, SourceFlags
    from sigkit.evidence.form import Evidence
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import Registry
    from sigkit.policy.decision import Decision, Record
    from sigkit.policy.model import Policy


class Asking(NamedTuple):
    """What must be true of an image, and where it is read."""

    policy: Policy
    platform_text: str | None
    connection: ConnectionFlags
    source: SourceFlags
    attestation_type: str = ""  # what must be attested; "" for a signature

    def platform(self) -> Platform:
        """Return the platform that is asked for; this machine's if none is named."""
        from sigkit.oci.descriptor import host_platform, parse_platform

        return parse_platform(self.platform_text) if self.platform_text else host_platform()


class Decided(NamedTuple):
    """A decision, notes on what was passed over, and the evidence as it was found."""

    decision: Decision
    notes: tuple[str, ...]
    evidence: tuple[Evidence, ...]


@click.command(
    cls=Command,
    name="verify",
    epilog=EXITS,
    forms=("cosign",),
    examples="""
    sigkit verify --key release.pub registry.example/acme/app:1.0
    sigkit verify --certificate-identity ci@acme.example --certificate-oidc-issuer https://issuer.example registry.example/acme/app:1.0
    sigkit verify --policy policy.yaml registry.example/acme/app@sha256:… registry.example/acme/web:2.1
    sigkit verify --policy policy.yaml -f images.txt --output json
    sigkit verify --key release.pub --offline --layout ./image registry.example/acme/app:1.0
    """,
)
@image_options
@asked_options
@policy_options
@source_options
@platform_option
@registry_options
@click.pass_obj
def command(
    output: Output,
    named: ImageFlags,
    asked: AskedFlags,
    wanted: PolicyFlags,
    source: SourceFlags,
    platform_text: str | None,
    connection: ConnectionFlags,
) -> int:
    """Check the signatures of each IMAGE against keys, an identity or a policy, and say what was proved and what was not.

    A reference is resolved once; everything after that is about the digest that it had.

    Several images get a line each, and share connections: 1 if any is refused, else 3 if any could not be checked.
    """
    from sigkit.cli.decisions import choose_policy

    check_source(source, named, platform_text)
    policy = choose_policy(output, wanted, asked, reach=source.reach)
    return verify_images(output, named, Asking(policy, platform_text, connection, source))


def check_source(source: SourceFlags, named: ImageFlags, platform_text: str | None) -> None:
    """Refuse flags about where evidence lies that exclude each other.

    Raises:
        UsageError: they do.
    """
    context = click.get_current_context()
    if source.bundle and (source.layout is not None or source.by_index is not None):
        raise click.UsageError("--bundle is about the digest in IMAGE alone: --layout and --index read images.", context)
    if source.bundle and platform_text is not None:
        raise click.UsageError("--bundle is about the digest in IMAGE alone: nothing is read that could say its --platform.", context)
    if (source.bundle or source.by_index is not None) and (named.listed or len(named.images) != 1):
        raise click.UsageError("--bundle and --index go with one IMAGE.", context)


def verify_images(output: Output, named: ImageFlags, asking: Asking) -> int:
    """Verify one image and tell all about it, or several with a line each; return the exit status."""
    if named.listed or len(named.images) != 1:
        from sigkit.cli.many import listed_images, verify_many

        return verify_many(output, (*named.images, *listed_images(named.listed)), asking)
    return _verify_one(output, named.images[0], asking)


def decide_image(reference: Reference, platform: Platform, asking: Asking, registry: Registry) -> Decided:
    """Decide about one image in a registry or a layout.

    Raises:
        SigkitError: no decision can be made.
    """
    from sigkit.clock import SystemClock
    from sigkit.gate.admit import judge_pinned
    from sigkit.limits import DEFAULT

    if asking.source.layout is not None:
        reference = find_in_layout(registry, reference)
    if asking.source.by_index is None:
        from sigkit.oci.resolve import resolve_and_pin

        pinned = resolve_and_pin(registry, reference, platform)
    else:
        from sigkit.gate.children import pin_child

        pinned = pin_child(registry, reference, parse_image(asking.source.by_index), platform)
    if asking.platform_text is not None:  # else the image's own configuration is not read: nobody said what it must be for
        from sigkit.oci.resolve import check_built_for

        pinned = check_built_for(registry, pinned)
    judgement = judge_pinned(pinned, asking.policy, registry, SystemClock(), DEFAULT)
    return Decided(judgement.decision, judgement.notes, judgement.evidence)


def decide_one(image: str, asking: Asking) -> Decided:
    """Decide about one image wherever its evidence is read.

    Raises:
        SigkitError: no decision can be made.
    """
    reference = parse_image(image)
    if asking.source.bundle:
        return _decide_by_files(reference, asking)
    with open_source(asking.connection, asking.source, reference) as registry:
        return decide_image(reference, asking.platform(), asking, registry)


def _verify_one(output: Output, image: str, asking: Asking) -> int:
    from sigkit.cli.decisions import decision_lines, line_text, verdict_word
    from sigkit.policy.decision import encode_verdict, record_of
    from sigkit.policy.explain import Line

    decision, notes, evidence = decide_one(image, asking)
    record = record_of(decision)
    for note in notes:
        output.detail(escape(note))
    lines = decision_lines(output, decision, sys.stdout, verdict_word(record))
    if record.reasons and (record.facts or record.refused):
        from sigkit.cli.again import command_again, inspect_command

        steps = (inspect_command(_where(record, asking.source)), command_again(("policy", "explain"), (image,)))
        lines += [line_text(Line(1, "next", step)) for step in steps]
    if output.form == "cosign":
        from sigkit.cli.as_cosign import answer_as_cosign, cosign_lines

        answer_as_cosign(output, cosign_lines(record, asking.policy, evidence, asking.attestation_type), lines)
    else:
        output.answer(lines, encode_verdict(record))
        for reason in record.reasons[:1]:
            word = verdict_word(record)
            output.tell_again(f"{output.word(word, sys.stderr)}  {escape(image)}  {escape_own(reason.problem)}  [{reason.code}]")
    return record.exit_status()


def _where(record: Record, source: SourceFlags) -> tuple[str, ...]:
    """Return what `sigkit inspect` takes to show the evidence that was read."""
    if source.bundle:
        return source.bundle[:1]
    layout = ("--layout", source.layout) if source.layout is not None else ()
    return (*layout, record.request.pinned_text())


def _decide_by_files(reference: Reference, asking: Asking) -> Decided:
    from sigkit.cli.inputs import read_input
    from sigkit.clock import SystemClock
    from sigkit.evidence.local import evidence_of_file
    from sigkit.gate.local import judge_named
    from sigkit.limits import DEFAULT

    found = tuple(evidence_of_file(read_input(path, DEFAULT.bundle_bytes), path, DEFAULT) for path in asking.source.bundle)
    return Decided(judge_named(reference, found, asking.policy, SystemClock().now(), DEFAULT), (), found)
