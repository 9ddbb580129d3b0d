"""Many images in one process: shared connections, so many at a time, a line each, in the order in which they were named.

What is kept in memory does not grow with their number, but for their names.
"""

from __future__ import annotations

import re
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from sigkit.cli.connect import open_source, parse_image
from sigkit.cli.inputs import STDIN, place_of, read_input
from sigkit.cli.progress import Counter
from sigkit.text import escape, escape_own

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from sigkit.cli.output import Output
    from sigkit.cli.verify import Asking
    from sigkit.errors import SigkitError
    from sigkit.oci.descriptor import Platform
    from sigkit.oci.reference import Reference
    from sigkit.oci.registry import Registry
    from sigkit.policy.decision import Record
    from sigkit.strict import Json

SCHEMA: Final = "sigkit.verify-many/1"
AT_A_TIME: Final = 8  # round trips overlap; the checks themselves take a hundredth of their time
AHEAD: Final = 64  # verdicts that may wait for a slow image before them; one is a few kilobytes
MOST_BYTES: Final = 16 * 2**20  # 100,000 references of 160 bytes
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")


def listed_images(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Read references from files, one a line; `#` begins a comment, at the start of a line or behind a space.

    Raises:
        UsageError: standard input is named twice.
        MalformedReference: (REF) a line is none; the place is the file's line.
        FileUnreadable: (UNAVAIL), NotUtf8: (PARSE), TooLarge: (LIMIT); the place is the operator's.
    """
    if paths.count(STDIN) > 1:
        raise click.UsageError("Standard input can be read once.", click.get_current_context())
    return tuple(image for path in paths for image in _lines_of(path))


def _lines_of(path: str) -> Iterator[str]:
    from sigkit.errors import MalformedReference, Place
    from sigkit.strict import decode_utf8

    place = place_of(path)
    for number, line in enumerate(decode_utf8(read_input(path, MOST_BYTES), place).splitlines(), 1):
        image = _COMMENT.sub("", line).strip()
        if not image:
            continue
        try:
            parse_image(image)
        except MalformedReference as err:
            raise err.within(Place.operator(place.source, f"line {number}, {image}")) from err
        yield image


def verify_many(output: Output, images: tuple[str, ...], asking: Asking) -> int:
    """Verify every image, print a line for each, and return 1 if any is refused, else 3 if any could not be checked.

    A line is printed as soon as its image and all that were named before it are judged. Where it ends early (Ctrl-C, a file of the
    operator's that only a later image needed), the lines that were printed hold, and the images left are named: in JSON as `left`. The
    last one printed may be among them, where it was not known yet to be.

    Raises:
        UsageError: no image is named.
        MalformedReference: one is none; nothing was asked then.
        SigkitError: a file of the operator's cannot be used.
    """
    from sigkit.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNCHECKED
    from sigkit.in_order import results_in_order

    if not images:
        raise click.UsageError("Name an image, or a file with images: -f FILE.", click.get_current_context())
    registries = {reference.repository.registry: reference for reference in map(parse_image, images)}
    platform, counter, teller = asking.platform(), Counter(output, "judged", len(images)), _Teller(output, images)
    statuses: set[int] = set()
    with open_source(asking.connection, asking.source, *registries.values()) as registry, teller:

        def judge(image: str) -> _Told:
            return _judge(parse_image(image), platform, asking, registry, output.form)

        with closing(results_in_order(judge, images, AT_A_TIME, AHEAD, counter.advance)) as results:
            try:
                for result, as_cosign in results:
                    counter.clear()
                    statuses.add(teller.tell(result, as_cosign))
            finally:
                counter.clear()
    if failed := teller.failed:
        from sigkit.cli.again import command_again

        output.note(f"{failed} of {len(images)} are not verified; why, and what to do, is said of each by itself:")
        output.note(f"  next  {escape_own(command_again((_command(),), (teller.first_failed,), ('listed',)))}")
    return EXIT_REFUSED if EXIT_REFUSED in statuses else EXIT_UNCHECKED if statuses - {EXIT_DONE} else EXIT_DONE


def _command() -> str:
    return click.get_current_context().command.name or "verify"


class _Teller:
    """Prints what is known of each image, in the form that was asked for; the document is whole in whatever way it ends."""

    def __init__(self, output: Output, images: tuple[str, ...]) -> None:
        self._output, self._images = output, images
        self._told = 0
        self.failed = 0  # of those that were told
        self.first_failed = ""
        self._listing = output.listing({"schema": SCHEMA}, "images")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: object) -> None:
        left, interrupted = self._images[self._told :], isinstance(err, KeyboardInterrupt)
        # An error before anything is printed is a document of its own; after an OSError there may be nobody who could read the end.
        if self._output.json and (self._listing.begun or err is None or interrupted) and not isinstance(err, OSError):
            self._listing.close({"left": list(left)})
            self._output.leave_stdout()  # one document: what ended it early is told on stderr
        if left and interrupted:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            self._output.note(f"left undone: {escape(left[0])}{more}, of {len(self._images)} images")

    def tell(self, result: _Result, as_cosign: tuple[str, ...]) -> int:
        """Print the result of the next image, and return its status."""
        from sigkit.errors import EXIT_DONE
        from sigkit.policy.decision import Record

        output, image = self._output, self._images[self._told]
        if output.json:
            self._listing.add(_encode(image, result))
        elif output.form == "cosign":
            from sigkit.cli.as_cosign import answer_as_cosign

            answer_as_cosign(output, as_cosign, (_line(output, image, result),))
        else:
            output.answer((_line(output, image, result),), None)
        self._told += 1
        status = result.exit_status() if isinstance(result, Record) else result.exit_status
        if status != EXIT_DONE:
            self.failed += 1
            self.first_failed = self.first_failed or image
        return status


def _judge(reference: Reference, platform: Platform, asking: Asking, registry: Registry, form: str | None) -> _Told:
    from sigkit.cli.verify import decide_image
    from sigkit.errors import EXIT_USAGE, SigkitError
    from sigkit.policy.decision import record_of

    try:
        decision, _, evidence = decide_image(reference, platform, asking, registry)
        record = record_of(decision)
        if form != "cosign":
            return record, ()
        from sigkit.cli.as_cosign import cosign_lines

        return record, cosign_lines(record, asking.policy, evidence, asking.attestation_type)
    except SigkitError as err:
        if err.status() == EXIT_USAGE:  # a file of the operator's is wrong: that is about no image
            raise
        return err, ()


def _line(output: Output, image: str, result: _Result) -> str:
    from sigkit.cli.decisions import verdict_word
    from sigkit.cli.output import status_word
    from sigkit.policy.decision import Record

    if not isinstance(result, Record):
        return f"{output.word(status_word(result.exit_status), sys.stdout)}  {escape(image)}  {escape(result.problem)}  [{result.code}]"
    digest = f"  {result.request.top}" if result.request.tag is not None else ""  # else it stands in the name
    line = f"{output.word(verdict_word(result), sys.stdout)}  {escape(image)}{digest}"
    for reason in result.reasons[:1]:
        found = f", found: {escape(reason.got)}" if reason.got else ""
        line += f"  {escape_own(reason.problem)}{found}  [{reason.code}]"
    return line


def _encode(image: str, result: _Result) -> dict[str, Json]:
    from sigkit.policy.decision import Reason, Record, encode_reason, encode_verdict

    if isinstance(result, Record):
        return {"image": image, "decision": encode_verdict(result)}
    return {"image": image, "error": encode_reason(Reason.of_error(result))}


if TYPE_CHECKING:
    _Result: TypeAlias = Record | SigkitError
    _Told: TypeAlias = tuple[_Result, tuple[str, ...]]  # and what cosign would print, where that was asked for
