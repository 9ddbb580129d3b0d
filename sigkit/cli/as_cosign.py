"""The answer of `cosign verify`, for scripts that parse it: one JSON list for each image that is allowed, with what counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.evidence.form import Form
from sigkit.evidence.simple_signing import COSIGN_TYPE
from sigkit.policy.decision import Met, Outcome
from sigkit.policy.distinct import signer_id
from sigkit.policy.evaluate import is_signature
from sigkit.strict import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sigkit.cli.output import Output
    from sigkit.policy.decision import ReasonTree, Record
    from sigkit.strict import Json
    from sigkit.verify.facts import Facts, Signer


def answer_as_cosign(output: Output, records: Sequence[Record], lines: Sequence[str]) -> None:
    """Print the answer in cosign's form; for a person, on stderr, `lines`."""
    for line in lines:
        output.note(line)
    output.answer([line for record in records for line in cosign_lines(record)], None)


def cosign_lines(record: Record) -> list[str]:
    """Return what cosign would print about an image: nothing for one that is refused, as there."""
    if record.outcome is Outcome.DENY or record.tree is None:
        return []
    counted = {signer_id(signer) for signer in _signers(record.tree)}
    facts = [item for item in record.facts if is_signature(item) and signer_id(item.signer.signer) in counted]
    return [encode_json([_signature(item, record.request.reference) for item in facts]).decode()]


def _signature(facts: Facts, typed: str) -> Json:
    """Write one signature down as cosign 3 does; of cosign's older form as it was signed."""
    signature, older = facts.signature, facts.form is Form.SIMPLE_SIGNING
    name = typed if "@" in typed else f"{typed}@{signature.artifact}"
    annotations: dict[str, Json] = dict(signature.annotations)
    return {
        "critical": {
            "identity": {"docker-reference": (signature.repository or "") if older else name},
            "image": {"docker-manifest-digest": str(signature.artifact)},
            "type": COSIGN_TYPE if older else signature.predicate_type or "",
        },
        "optional": annotations,
    }


def _signers(tree: ReasonTree) -> Iterator[Signer]:
    if isinstance(tree, Met):
        yield from tree.by
    for child in tree.children:
        yield from _signers(child)
