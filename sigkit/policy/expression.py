r"""Expressions over identities: the syntax of RE2, matched against the whole text, in time linear in it and in bounded memory.

Whole means whole: `https://git\.example/acme/` fits nothing but itself. A pattern that matched anywhere would fit
`https://evil.example/?x=https://git.example/acme/` too. `.` stands for no end of a line, and `$` for no place before one.

re2 is imported where an expression is, and nowhere else.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sigkit import limits
from sigkit.data import Data
from sigkit.errors import MalformedExpression

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.errors import Place

_REPEATS: Final = "*+?{"
_OPERATORS: Final = "*+?{|([^$"
_LITERAL_ESCAPE = re.compile(r"\\[^A-Za-z0-9]")
_OPEN_START = re.compile(r"\^?\.[*+]")
ONE_STRING: Final = "it can match one string only, the whole of it"
_EVERYTHING = re.compile(r"\^?\(?\.[*+]\)?\$?")


class Fault(Data):
    """Why an expression is none, and the character that it is about, counted from 0."""

    problem: str
    offset: int


class Doubt(Data):
    """What in an expression may not be meant, the character that it is about, counted from 0, and what may be meant."""

    text: str
    offset: int
    suggestion: str


def find_fault(text: str) -> Fault | None:
    """Return why `text` is no expression, or None if it is one."""
    if len(text) > limits.EXPRESSION_CHARACTERS:
        return Fault(f"the expression has more than {limits.EXPRESSION_CHARACTERS} characters", limits.EXPRESSION_CHARACTERS)
    import re2

    try:
        re2.compile(text, _options())
    except re2.error as err:
        raw = err.args[0] if err.args else b""
        said = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        problem, _, part = said.partition(": ")
        return Fault(problem or "not an expression", _where(text, problem, part))
    except UnicodeEncodeError as err:
        return Fault("not UTF-8", err.start)
    return None


def check_expression(text: str, place: Place) -> str:
    """Return `text` if it is an expression.

    Raises:
        MalformedExpression: (PARSE) with the column in what was found.
    """
    if fault := find_fault(text):
        raise MalformedExpression(
            fault.problem, place=place, expected="an expression in the syntax of RE2", got=f"{text[:200]} (column {fault.offset + 1})"
        )
    return text


def fits_whole(expression: str, text: str) -> bool:
    """Tell whether the whole of `text` fits an expression that was checked."""
    return _compiled(expression).fullmatch(text) is not None


def find_doubts(text: str) -> Iterator[Doubt]:
    """Give what in an expression may not be meant (cases.md C14)."""
    dots, operators = _scan(text)
    # `[.]` and not `\.`: what is printed has its backslashes doubled, and this can be copied.
    escaped = "".join(f"[{character}]" if index in dots else character for index, character in enumerate(text))
    for offset in dots:
        yield Doubt(f"unescaped dot at column {offset + 1}: it stands for any character", offset, escaped)
    inner = text.removeprefix("^").removesuffix("$")
    if _EVERYTHING.fullmatch(text):
        yield Doubt("it fits any text", 0, "")
    elif not operators:
        literal = re.sub(_LITERAL_ESCAPE, lambda found: found[0][1:], inner)
        below = f"{escaped.removeprefix('^').removesuffix('$')}.+"
        yield Doubt(ONE_STRING, 0, f"{literal} as exact text, or the expression {below}")
    elif _OPEN_START.match(text):
        yield Doubt("its beginning is open: any host can stand there", 0, "")


@lru_cache(maxsize=128)
def _compiled(expression: str) -> Any:  # noqa: ANN401 - re2 has no types
    import re2

    return re2.compile(expression, _options())


def _options() -> Any:  # noqa: ANN401 - re2 has no types
    import re2

    options = re2.Options()
    options.log_errors = False  # else it writes to the process's stderr
    options.max_mem = limits.EXPRESSION_MEMORY_BYTES
    return options


def _where(text: str, problem: str, part: str) -> int:
    """Find the character that re2, which names none, complains of."""
    if problem == "missing )":
        return _unclosed(text)
    if problem.startswith("trailing"):
        return len(text) - 1
    return max(text.rfind(part) if problem == "missing ]" else text.find(part), 0)


def _unclosed(text: str) -> int:
    opened: list[int] = []
    for index, character in _outside_classes(text):
        if character == "(":
            opened.append(index)
        elif character == ")" and opened:
            opened.pop()
    return opened[-1] if opened else 0


def _scan(text: str) -> tuple[list[int], list[int]]:
    """Return where dots stand that are not repeated, and where anything stands that makes an expression fit more than one text."""
    dots: list[int] = []
    operators: list[int] = []
    last = len(text) - 1
    for index, character in _outside_classes(text):
        if character == "." and text[index + 1 : index + 2] not in tuple(_REPEATS):
            dots.append(index)
        elif character == "\\" or character in _OPERATORS:
            anchor = (character == "^" and index == 0) or (character == "$" and index == last)
            if not anchor:
                operators.append(index)
    return dots, operators


def _outside_classes(text: str) -> Iterator[tuple[int, str]]:
    """Give each character that is neither escaped nor inside of brackets; of an escape with a meaning of its own, its backslash."""
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\":
            if not _LITERAL_ESCAPE.match(text, index):
                yield index, character
            index += 2
            continue
        yield index, character
        if character == "[":
            index = _end_of_class(text, index)
            continue
        index += 1


def _end_of_class(text: str, index: int) -> int:
    index += 1
    if text[index : index + 1] == "^":
        index += 1
    if text[index : index + 1] == "]":  # the first one is literal
        index += 1
    while index < len(text) and text[index] != "]":
        index += 2 if text[index] == "\\" else 1
    return index + 1
