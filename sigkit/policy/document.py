"""A policy file as nested fields that know their line and column.

YAML is read in two passes. The events of the parser come first, so that aliases, anchors, tags, depth and count are refused before
anything is built (CVE-2019-11253: aliases multiply; CVE-2020-14343: tags run code). Then nodes are composed and read as text only: `no` is
the text `no` and `012` the text `012`, and of two equal keys none wins.

An error from here has `file`, `line:column` as its place, and a note (PEP 678) with the line and a caret under the fault.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from sigkit import limits
from sigkit.errors import MalformedPolicy, MalformedYaml, Place, SigkitError, TooDeep, TooLarge, TooMany
from sigkit.strict import decode_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    import yaml

_EXCERPT_CHARACTERS: Final = 110
_NO_ALIAS: Final = "write the value out; a pattern that begins with * stands in quotes"
_TEXT: Final = "text"
_LIST: Final = "a list"
_MAPPING: Final = "a mapping"
# YAML 1.1 section 4.2: what libyaml counts as the end of a line.
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class _Mark(Protocol):
    """What both of PyYAML's parsers call a place."""

    line: int
    column: int


class Source:
    """The text of a file, for excerpts."""

    __slots__ = ("lines", "place")

    def __init__(self, text: str, place: Place) -> None:
        self.lines = _LINE_END.split(text)
        self.place = place

    def at(self, line: int, column: int) -> Place:
        """Return the place of a zero-based line and column."""
        return Place(self.place.source, f"{line + 1}:{column + 1}", self.place.owner)

    def excerpt(self, line: int, column: int) -> str:
        """Return the line with a caret under the column."""
        text = self.lines[line] if line < len(self.lines) else ""
        start = max(0, column - _EXCERPT_CHARACTERS + 20)
        shown = text[start : start + _EXCERPT_CHARACTERS].replace("\t", " ")
        gutter = f"{line + 1:>4} | "
        return f"{gutter}{shown}\n{' ' * (len(gutter) - 2)}| {' ' * (column - start)}^"


def mark_error(error: SigkitError, source: Source, line: int, column: int) -> SigkitError:
    """Give an error the place and the excerpt of a zero-based line and column."""
    error.place = source.at(line, column)
    error.add_note(source.excerpt(line, column))
    return error


class Field:
    """One value of the file: text, a list or a mapping; asks for the type, and refuses with the place when it is another."""

    __slots__ = ("name", "node", "source")

    def __init__(self, node: yaml.Node, source: Source, name: str) -> None:
        self.node = node
        self.source = source
        self.name = name

    def place(self) -> Place:
        """Return where the value begins."""
        return self.source.at(self.node.start_mark.line, self.node.start_mark.column)

    def mark(self, error: SigkitError) -> SigkitError:
        """Give an error this value's place and excerpt."""
        return mark_error(error, self.source, self.node.start_mark.line, self.node.start_mark.column)

    def mark_inside(self, error: SigkitError, offset: int) -> SigkitError:
        """Give an error the place of one character of this text, as far as the file shows where that is; else that of the text."""
        mark = self.node.start_mark
        lines = self.source.lines
        line = lines[mark.line] if mark.line < len(lines) else ""
        column = _column_of(line, mark.column, offset) if mark.line == self.node.end_mark.line else mark.column
        return mark_error(error, self.source, mark.line, column)

    def fail(self, problem: str, *, expected: str = "", got: str = "", remedy: str = "") -> NoReturn:
        """Refuse this value.

        Raises:
            MalformedPolicy: always.
        """
        raise self.mark(MalformedPolicy(problem, expected=expected, got=got, remedy=remedy))

    def text(self) -> str:
        """Return this text, exactly as it is written; empty text is refused."""
        if not self.is_text():
            self.fail(f"`{self.name}` must be text", got=self._is())
        if not self.node.value:
            self.fail(f"`{self.name}` is empty", expected="text")
        return str(self.node.value)

    def choice(self, *allowed: str) -> str:
        """Return this text if it is one of those allowed."""
        text = self.text()
        if text not in allowed:
            self.fail(
                f"`{self.name}` has a value that is not allowed", expected=" or ".join(allowed), got=text, remedy=meant(text, allowed)
            )
        return text

    def is_text(self) -> bool:
        """Tell text from lists and mappings."""
        return self._is() == _TEXT

    def is_list(self) -> bool:
        """Tell a list from the others."""
        return self._is() == _LIST

    def items(self) -> tuple[Field, ...]:
        """Return the elements of this list; an empty one is refused, because nothing is ever vacuously met."""
        if not self.is_list():
            self.fail(f"`{self.name}` must be a list", got=self._is())
        if not self.node.value:
            self.fail(f"`{self.name}` is an empty list", expected="at least one element")
        return tuple(Field(node, self.source, f"{self.name}[{i}]") for i, node in enumerate(self.node.value))

    def one_or_more(self) -> tuple[Field, ...]:
        """Return the elements of this list, or this text as the only one."""
        return (self,) if self.is_text() else self.items()

    def members(self) -> dict[str, Field]:
        """Return what this mapping holds, by name.

        Raises:
            MalformedYaml: (PARSE) a name stands there twice, or is no text.
            MalformedPolicy: (PARSE) it is no mapping.
        """
        if self._is() != _MAPPING:
            self.fail(f"`{self.name}` must be a mapping", got=self._is())
        found: dict[str, Field] = {}
        for key, value in self.node.value:
            where = Field(key, self.source, self.name)
            if not where.is_text():
                raise where.mark(MalformedYaml("a name must be text"))
            if key.value in found:
                raise where.mark(MalformedYaml(f"`{key.value}` is there twice", remedy="keep one of them"))
            found[key.value] = Field(value, self.source, key.value)
        return found

    def only(self, *known: str) -> dict[str, Field]:
        """Return what this mapping holds, all of it known.

        Raises:
            MalformedPolicy: (PARSE) an unknown name (CVE-2025-29778: a field that was skipped was the one that protected).
        """
        found = self.members()
        for key, _ in self.node.value:
            if key.value not in known:
                expected = "one of " + ", ".join(known)
                error = MalformedPolicy(
                    f"unknown field `{key.value[:80]}`", expected=expected, got=key.value[:80], remedy=meant(key.value, known)
                )
                raise Field(key, self.source, self.name).mark(error)
        return found

    def require(self, found: dict[str, Field], name: str) -> Field:
        """Return the member `name`.

        Raises:
            MalformedPolicy: (PARSE) it is missing.
        """
        if name not in found:
            self.fail(f"`{name}` is missing", expected=f"`{name}` in `{self.name}`")
        return found[name]

    def _is(self) -> str:
        import yaml

        match self.node:
            case yaml.ScalarNode():
                return _TEXT
            case yaml.SequenceNode():
                return _LIST
            case _:
                return _MAPPING


def parse_document(raw: bytes, place: Place) -> Field:
    """Parse one YAML document of mappings, lists and text.

    Raises:
        TooLarge, TooDeep, TooMany: (LIMIT) before anything is built.
        NotUtf8, MalformedYaml: (PARSE) with line, column and excerpt.
    """
    import yaml

    if len(raw) > limits.POLICY_BYTES:
        raise TooLarge(f"the policy has more than {limits.POLICY_BYTES} bytes", place=place, got=f"{len(raw)} bytes")
    text = decode_utf8(raw, place)
    source = Source(text, place)
    try:
        _check_events(yaml.parse(text, Loader=yaml.CSafeLoader), source)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        # libyaml takes an unquoted `**` for an alias without a name.
        remedy = _NO_ALIAS if "alias" in str(err.context) else ""
        error = MalformedYaml(f"not YAML: {err.problem or err.context}", remedy=remedy)
        raise _at(error, source, mark) from err
    except yaml.YAMLError as err:  # the reader's: a control character, which has an offset only
        offset = getattr(err, "position", 0)
        before = _LINE_END.split(text[:offset])
        error = MalformedYaml("a control character, which YAML does not allow")
        raise mark_error(error, source, len(before) - 1, len(before[-1])) from err
    if node is None:
        raise mark_error(MalformedYaml("the file holds no policy"), source, 0, 0)
    return Field(node, source, "policy")


def _check_events(events: Iterable[yaml.Event], source: Source) -> None:
    import yaml

    depth = documents = 0
    for count, event in enumerate(events):
        mark = event.start_mark
        if count >= limits.POLICY_EVENTS:
            raise _at(TooMany(f"the policy has more than {limits.POLICY_EVENTS} parts"), source, mark)
        match event:
            case yaml.AliasEvent():
                raise _at(MalformedYaml(f"an alias, `*{event.anchor}`", remedy=_NO_ALIAS), source, mark)
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1:
                    raise _at(MalformedYaml("a second document", remedy="one policy a file"), source, mark)
                if event.version or event.tags:
                    raise _at(MalformedYaml("a YAML directive", remedy="remove the line that begins with %"), source, mark)
            case yaml.ScalarEvent() | yaml.CollectionStartEvent():
                _check_plain(event, source)
            case _:
                pass
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > limits.POLICY_DEPTH:
                raise _at(TooDeep(f"the policy is nested deeper than {limits.POLICY_DEPTH}"), source, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_plain(event: yaml.ScalarEvent | yaml.CollectionStartEvent, source: Source) -> None:
    if event.anchor is not None:
        raise _at(MalformedYaml(f"an anchor, `&{event.anchor}`", remedy="remove it; write values out"), source, event.start_mark)
    if event.tag is not None:
        raise _at(MalformedYaml(f"a tag, `{event.tag}`", remedy="remove it; every value is text"), source, event.start_mark)


def _at(error: SigkitError, source: Source, mark: _Mark | None) -> SigkitError:
    return mark_error(error, source, mark.line if mark else 0, mark.column if mark else 0)


def _column_of(line: str, start: int, offset: int) -> int:
    """Return the column of a scalar's character: quotes stand before it, and some characters are written as several."""
    quote = line[start : start + 1]
    if quote not in {"'", '"'}:
        return start + offset
    column = start + 1
    for _ in range(offset):
        doubled = quote == "'" and line[column : column + 2] == "''"
        escaped = quote == '"' and line[column : column + 1] == "\\"
        column += 2 if doubled or escaped else 1  # \x and \u are longer, and then the caret stands a little before the fault
    return column


def meant(text: str, known: Iterable[str]) -> str:
    """Guess what was meant, as a remedy; empty when nothing is near."""
    import difflib

    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""
