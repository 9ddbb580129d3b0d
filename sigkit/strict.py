"""JSON, base64 and UTF-8 without leniency.

Two readers of one text must never see two documents: what the standard library lets pass (duplicate members, NaN, a byte-order mark,
lone surrogates, 5,000-digit integers, characters skipped in base64) is refused here.
"""

from __future__ import annotations

import binascii
import json
import re

from sigkit import limits
from sigkit.errors import NOWHERE, MalformedBase64, MalformedJson, NotUtf8, Place, TooDeep, TooLarge, TooMany, WrongShape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn, TypeAlias

    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

INT64_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
_PEM = "-----BEGIN "
_SHOWN_CHARACTERS = 80  # of one value in a refusal: refusals are kept, logged and counted


def decode_utf8(raw: bytes, place: Place = NOWHERE) -> str:
    """Decode UTF-8 text that has no byte-order mark.

    Raises:
        NotUtf8: the bytes are something else; the place inside is the offset of the first wrong byte.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise NotUtf8("the text starts with a byte-order mark", place=Place("", "byte 0").within(place), remedy="remove the mark")
    try:
        return raw.decode("utf-8", "strict")
    except UnicodeDecodeError as err:
        raise NotUtf8("not UTF-8", place=Place("", f"byte {err.start}").within(place)) from err


def decode_base64(text: str, place: Place = NOWHERE) -> bytes:
    """Decode standard base64 with padding.

    Raises:
        MalformedBase64: other alphabets, white space, missing padding, non-zero trailing bits.

    Source: RFC 4648 sections 3.3, 3.5 and 4.
    """
    try:
        encoded = text.encode("ascii")
        raw = binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as err:
        raise MalformedBase64("not standard base64 with padding", place=place, got=text[:_SHOWN_CHARACTERS]) from err
    # strict_mode lets non-zero trailing bits pass, in the last group: two texts for the same bytes.
    if binascii.b2a_base64(raw[-(len(raw) % 3 or 3) :], newline=False) != encoded[-4:]:
        raise MalformedBase64("not canonical base64", place=place, got=text[:_SHOWN_CHARACTERS])
    return raw


def encode_base64(raw: bytes) -> str:
    """Encode as standard base64 with padding, without line breaks."""
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


def encode_json(value: Json) -> bytes:
    """Encode compactly: no spaces, members in the order given, UTF-8 kept as it is."""
    return _ENCODER.encode(value).encode("utf-8")


def parse_json(
    raw: bytes, *, most_bytes: int, place: Place = NOWHERE, depth: int = limits.JSON_DEPTH, most_integer: int = INT64_MAX
) -> Cursor:
    """Parse one JSON document and return a cursor at its top.

    Args:
        raw: the whole document.
        most_bytes: refused beyond, before anything is parsed.
        place: where `raw` came from; the cursor adds JSON paths to it.
        depth: deepest nesting of arrays and objects.
        most_integer: INT64_MAX, or UINT64_MAX for formats that have such members.

    Raises:
        TooLarge, TooDeep: (LIMIT) by the arguments above.
        TooMany: (LIMIT) more values than any document has.
        NotUtf8, MalformedJson: (PARSE) anything that RFC 8259 or a second reader could see otherwise.
    """
    if len(raw) > most_bytes:
        raise TooLarge(f"more than {most_bytes} bytes", place=place, got=f"{len(raw)} bytes")
    text = decode_utf8(raw, place)
    brackets = text.count("[") + text.count("{")
    # Between two values stands a comma, and a bracket before the first: 8 MiB of `{},{}` would be 200 MiB of objects.
    if brackets + text.count(",") > limits.JSON_VALUES:
        raise TooMany(f"more than {limits.JSON_VALUES} values", place=place)
    if brackets > depth:
        _check_depth(text, depth, place)
    try:
        value = (_DECODER if most_integer == INT64_MAX else _decoder(most_integer)).decode(text)
    except _Refused as err:
        raise MalformedJson(err.args[0], place=place) from err
    except json.JSONDecodeError as err:
        inside = Place("", f"{err.lineno}:{err.colno}")
        raise MalformedJson(f"not JSON: {_why_no_json(text, err)}", place=inside.within(place)) from err
    except RecursionError as err:
        raise TooDeep(f"nested deeper than {depth}", place=place) from err
    # Other escapes are no halves, and a bundle's checkpoint has some: its dash, its line ends. One character is found soonest.
    if any(escape.startswith(("ud", "uD")) for escape in text.split("\\")[1:]):
        _check_surrogates(value, place)
    return Cursor(value, "$", place)


def _why_no_json(text: str, err: json.JSONDecodeError) -> str:
    if text.startswith(_PEM):
        label = text[len(_PEM) :].partition("-----")[0]
        return f"it looks like PEM, {label[:_SHOWN_CHARACTERS]!r}"
    return err.msg[0].lower() + err.msg[1:].removesuffix(" starting at")


class _Refused(ValueError):
    """A value that the decoder met and that is not allowed."""


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Refused(f"member {name[:_SHOWN_CHARACTERS]!r} is there twice")
            seen.add(name)
    return members


def _decoder(most_integer: int) -> json.JSONDecoder:
    def integer(digits: str) -> int:
        if len(digits) > len(str(most_integer)) + 1 or digits == "-0":
            raise _Refused(f"number {digits[:40]} is out of range")
        value = int(digits)
        if not -INT64_MAX - 1 <= value <= most_integer:
            raise _Refused(f"number {digits[:40]} is out of range")
        return value

    return json.JSONDecoder(object_pairs_hook=_object, parse_int=integer, parse_float=_float, parse_constant=_constant)


def _float(digits: str) -> float:
    value = float(digits)
    if value in {float("inf"), float("-inf")}:
        raise _Refused(f"number {digits[:40]} is out of range")
    return value


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


_DECODER = _decoder(INT64_MAX)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


_BRACKETS = re.compile(r"[\[\]{}]")


def _check_depth(text: str, depth: int, place: Place) -> None:
    # What is escaped lies in strings, or the parser stops there; without it every second part between quotes is a string.
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    level = 0
    for bracket in _BRACKETS.findall(outside):
        if bracket in "[{":
            level += 1
            if level > depth:
                raise TooDeep(f"nested deeper than {depth}", place=place)
        else:
            level -= 1


def _check_surrogates(value: Json, place: Place) -> None:
    rest: list[Json] = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            try:
                item.encode("utf-8")  # refuses halves only, and forty times sooner than a look at each character
            except UnicodeEncodeError as err:
                raise MalformedJson("a string holds half of a surrogate pair", place=place) from err
        elif isinstance(item, list):
            rest.extend(item)
        elif isinstance(item, dict):
            rest.extend(item)
            rest.extend(item.values())


class Cursor:
    """A JSON value and the path to it: asks for a type, and refuses with the place when it is another.

    Parsers walk a document through cursors, so that every refusal names file and JSON path.
    """

    __slots__ = ("_above", "_step", "place", "value")

    def __init__(self, value: Json, step: str | int, place: Place, above: Cursor | None = None) -> None:
        """Stand at a value: at a path, or one step below the cursor `above`, at a member or an element."""
        self.value = value
        self.place = place
        self._step = step
        self._above = above

    @property
    def path(self) -> str:
        """The JSON path, put together when somebody asks: a bundle has a hundred values, and refusals are few."""
        step = self._step
        if self._above is None:
            return str(step)
        return self._above.path + (f"[{step}]" if isinstance(step, int) else f".{step[:_SHOWN_CHARACTERS]}")

    def at(self) -> Place:
        """Return the place of this value."""
        return Place("", self.path).within(self.place)

    def fail(self, problem: str, *, expected: str = "", got: str = "", remedy: str = "") -> NoReturn:
        """Refuse this value.

        Raises:
            WrongShape: always.
        """
        raise WrongShape(problem, place=self.at(), expected=expected, got=got or describe(self.value), remedy=remedy)

    def object(self) -> dict[str, Json]:
        """Return this object's members as they are."""
        if not isinstance(self.value, dict):
            self.fail("wrong type", expected="an object")
        return self.value

    def only(self, names: Iterable[str]) -> Cursor:
        """Return this cursor if the object has no member but `names`.

        Raises:
            WrongShape: an unknown member, by name, with what is known.
        """
        known = tuple(names)
        for name in self.object():
            if name not in known:
                raise WrongShape(
                    f"unknown member {name[:_SHOWN_CHARACTERS]!r}",
                    place=self.at(),
                    expected="one of " + ", ".join(known),
                    got=repr(name[:_SHOWN_CHARACTERS]),
                )
        return self

    def find(self, name: str) -> Cursor | None:
        """Return the member `name`, or None when it is absent or null."""
        value = self.object().get(name)
        return None if value is None else Cursor(value, name, self.place, self)

    def member(self, name: str) -> Cursor:
        """Return the member `name`.

        Raises:
            WrongShape: it is absent or null.
        """
        found = self.find(name)
        if found is None:
            raise WrongShape(f"member {name!r} is missing", place=self.at(), expected=f"{self.path}.{name}", got="nothing")
        return found

    def items(self, most: int) -> tuple[Cursor, ...]:
        """Return the elements of this array.

        Raises:
            WrongShape: it is no array.
            TooMany: it has more than `most` elements.
        """
        if not isinstance(self.value, list):
            self.fail("wrong type", expected="an array")
        if len(self.value) > most:
            raise TooMany(f"more than {most} elements", place=self.at(), got=str(len(self.value)))
        return tuple([Cursor(v, i, self.place, self) for i, v in enumerate(self.value)])

    def text(self) -> str:
        """Return this string."""
        if not isinstance(self.value, str):
            self.fail("wrong type", expected="a string")
        return self.value

    def boolean(self) -> bool:
        """Return this boolean."""
        if not isinstance(self.value, bool):
            self.fail("wrong type", expected="true or false")
        return self.value

    def integer(self, least: int = 0, most: int = INT64_MAX) -> int:
        """Return this integer; a float, even a whole one, is refused."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.fail("wrong type", expected="an integer")
        if not least <= self.value <= most:
            self.fail("out of range", expected=f"{least} to {most}", got=str(self.value))
        return self.value

    def base64(self) -> bytes:
        """Return the bytes that this string encodes."""
        text = self.text()
        try:
            return decode_base64(text)
        except MalformedBase64 as err:  # a bundle has forty such strings: the place is put together for the one that fails
            raise err.within(self.at()) from err.__cause__

    def texts(self, most: int) -> dict[str, str]:
        """Return this object, whose members must all be strings."""
        members = self.object()
        if len(members) > most:
            raise TooMany(f"more than {most} members", place=self.at(), got=str(len(members)))
        return {name: self.member(name).text() if value is not None else self.fail("a member is null") for name, value in members.items()}


def describe(value: Json) -> str:
    """Say in a few words what a JSON value is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value[:_SHOWN_CHARACTERS])
    if isinstance(value, (int, float)):
        return str(value)
    return "an array" if isinstance(value, list) else "an object"
