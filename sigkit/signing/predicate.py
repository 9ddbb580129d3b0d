"""What an attestation says: the predicate, read from a file and checked before anybody signs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import MalformedOption, Place, WrongShape
from sigkit.evidence.predicate_types import EXACT, ONE_OF, PREDICATE_CUSTOM, PREDICATE_TYPES, REQUIRED_MEMBERS, predicate_type_of
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sigkit.limits import Limits
    from sigkit.strict import Cursor, Json


class Predicate(Data):
    """A predicate type and the members of its predicate."""

    type: str
    members: Mapping[str, Json]


def parse_predicate(raw: bytes, type_name: str, now: datetime, limits: Limits, place: Place) -> Predicate:
    """Read a predicate of the type that `type_name` (cosign's name, or a URI) means.

    `custom` takes any text, and holds it as a string with the time, as cosign does. Every other type is a JSON object.

    Raises:
        MalformedOption: (PARSE) no such type, or the type of signatures: an attestation must not pass for one.
        TooLarge, TooDeep: (LIMIT) larger than evidence may be.
        NotUtf8, MalformedJson: (PARSE).
        WrongShape: (PARSE) no object, or a member is missing that the type demands.
    """
    predicate_type = predicate_type_of(type_name)
    if predicate_type is None or predicate_type == PREDICATE_SIGNATURE:
        raise MalformedOption(
            "no type of predicate", place=Place.operator("--type"), expected=", ".join(PREDICATE_TYPES) + ", or a URI", got=type_name
        )
    if not raw.strip():
        raise WrongShape("an empty predicate says nothing", place=place, expected="what is said about the artifact")
    if type_name in PREDICATE_TYPES and predicate_type == PREDICATE_CUSTOM:
        return Predicate(predicate_type, {"Data": strict.decode_utf8(raw, place), "Timestamp": format_time(now)})
    top = strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth)
    if isinstance(top.value, str):
        top.fail("text as a predicate, which no verifier reads", expected="a JSON object (for SPDX: its JSON form, --type spdxjson)")
    members = top.object()
    _check_form(predicate_type, top)
    return Predicate(predicate_type, members)


def _check_form(predicate_type: str, top: Cursor) -> None:
    """Refuse what no reader of the type would take for one; whether it is whole is for them to say."""
    members = top.object()
    for name in REQUIRED_MEMBERS.get(predicate_type, ()):
        top.member(name)
    if predicate_type in EXACT:
        name, wanted = EXACT[predicate_type]
        if members[name] != wanted:
            raise WrongShape(
                "not of this type", place=top.member(name).at(), expected=strict.describe(wanted), got=strict.describe(members[name])
            )
    either = ONE_OF.get(predicate_type, ())
    if either and not any(isinstance(found := members.get(name), str) and found.startswith(start) for name, start in either):
        top.fail("not of this type", expected=" or ".join(f"{name} {start}…" for name, start in either))
