"""Many images in one process: shared connections, so many at a time, a line each, in the order in which they were named."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from sigkit.cli.connect import open_source, parse_image
from sigkit.cli.inputs import place_of, read_input
from sigkit.cli.progress import Counter
from sigkit.text import escape

if TYPE_CHECKING:
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
MOST_BYTES: Final = 16 * 2**20  # 100,000 references of 160 bytes


def listed_images(path: str | None) -> tuple[str, ...]:
    """Read references from a file, one a line; empty lines and those that begin with # are passed over.

    Raises:
        FileUnreadable: (UNAVAIL), NotUtf8: (PARSE), TooLarge: (LIMIT); the place is the operator's.
    """
    if path is None:
        return ()
    from sigkit.strict import decode_utf8

    lines = (line.strip() for line in decode_utf8(read_input(path, MOST_BYTES), place_of(path)).splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def verify_many(output: Output, images: tuple[str, ...], asking: Asking) -> int:
    """Verify every image, print a line for each, and return 1 if any is refused, else 3 if any could not be checked.

    Raises:
        UsageError: no image is named.
        MalformedReference: one is none; nothing was asked then.
        SigkitError: a file of the operator's cannot be used; about no image is anything printed then.
    """
    from concurrent.futures import ThreadPoolExecutor

    from sigkit.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNCHECKED

    if not images:
        raise click.UsageError("Name an image, or a file with images: -f FILE.", click.get_current_context())
    references = [parse_image(image) for image in images]
    platform = asking.platform()
    results: list[_Result] = []
    counter = Counter(output, "judged", len(images))
    with open_source(asking.connection, asking.source, *references) as registry, ThreadPoolExecutor(AT_A_TIME) as pool:
        waiting = [pool.submit(_judge, reference, platform, asking, registry) for reference in references]
        for number, (image, future) in enumerate(zip(images, waiting, strict=True), 1):
            result = future.result()
            results.append(result)
            counter.advance(number, image)
    counter.close()
    lines = [_line(output, image, result) for image, result in zip(images, results, strict=True)]
    if output.form == "cosign":
        from sigkit.cli.as_cosign import answer_as_cosign
        from sigkit.policy.decision import Record

        answer_as_cosign(output, [result for result in results if isinstance(result, Record)], lines)
    else:
        output.answer(lines, {"schema": SCHEMA, "images": [_encode(image, result) for image, result in zip(images, results, strict=True)]})
    statuses = {_status(result) for result in results}
    return EXIT_REFUSED if EXIT_REFUSED in statuses else EXIT_UNCHECKED if statuses - {EXIT_DONE} else EXIT_DONE


def _judge(reference: Reference, platform: Platform, asking: Asking, registry: Registry) -> _Result:
    from sigkit.cli.verify import decide_image
    from sigkit.errors import EXIT_USAGE, SigkitError
    from sigkit.policy.decision import record_of

    try:
        return record_of(decide_image(reference, platform, asking, registry)[0])
    except SigkitError as err:
        if err.status() == EXIT_USAGE:  # a file of the operator's is wrong: that is about no image
            raise
        return err


def _status(result: _Result) -> int:
    from sigkit.policy.decision import Record

    return result.exit_status() if isinstance(result, Record) else result.exit_status


def _line(output: Output, image: str, result: _Result) -> str:
    from sigkit.errors import EXIT_UNCHECKED
    from sigkit.policy.decision import Outcome, Record

    if not isinstance(result, Record):
        word = "could not check" if result.exit_status == EXIT_UNCHECKED else "refused"
        return f"{output.word(word, sys.stdout)}  {escape(image)}  {escape(result.problem)}  [{result.code}]"
    pinned = escape(result.request.pinned_text())
    if result.outcome is not Outcome.DENY:
        word = "warned" if result.outcome is Outcome.WARN else "verified" if result.facts else "allowed"
        return f"{output.word(word, sys.stdout)}  {pinned}"
    word = "could not check" if result.exit_status() == EXIT_UNCHECKED else "refused"
    reason = result.reasons[0]
    return f"{output.word(word, sys.stdout)}  {pinned}  {escape(reason.problem)}  [{reason.code}]"


def _encode(image: str, result: _Result) -> dict[str, Json]:
    from sigkit.policy.decision import Reason, Record, encode_reason, encode_record

    if isinstance(result, Record):
        return {"image": image, "decision": encode_record(result)}
    return {"image": image, "error": encode_reason(Reason.of_error(result))}


if TYPE_CHECKING:
    _Result: TypeAlias = Record | SigkitError
