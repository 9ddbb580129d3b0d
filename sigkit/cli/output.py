"""What the user sees: answers on stdout, everything else on stderr, outside text escaped, JSON when asked.

stdout holds the answer alone: text for a person, or one JSON document with a versioned `schema`, also for errors. Progress, notes and
errors go to stderr. Colour only where that stream is a terminal, and it never carries a meaning of its own.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from sigkit.errors import EXIT_DONE, EXIT_REFUSED, EXIT_RUN_USAGE, EXIT_UNCHECKED, EXIT_USAGE, FileUnwritable, Kind, Place, SigkitError
from sigkit.text import escape, escape_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sigkit.strict import Json

_WORDS = {
    EXIT_DONE: "verified",
    EXIT_REFUSED: "refused",
    EXIT_USAGE: "usage error",
    EXIT_UNCHECKED: "could not check",
    EXIT_RUN_USAGE: "usage error",
}
_COLOURS = {"refused": "red", "usage error": "yellow", "could not check": "yellow", "failed": "red", "bug": "red", "warned": "yellow"}

# The commands whose answer is a check. Of the others what is not done has failed.
_CHECKING = frozenset(
    (
        "",  # before any is known
        *("verify", "verify-attestation", "verify-blob", "verify-blob-attestation", "policy explain", "run", "pull"),
        *("log get", "log verify", "log checkpoint", "log search"),
    )
)

_IN_ASCII = str.maketrans({"└": "`", "├": "|", "│": "|", "─": "-", "·": "-", "…": "..."})


class Output:
    """Where and how this process prints."""

    def __init__(self) -> None:
        self.json = False
        self.form: str | None = None  # what was asked for by an option
        self.verbosity = 0
        self.quiet = False
        self.colour = True
        self.command = ""  # without the program's name
        self._stdout_left = False
        self._stdout_failed = False

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Output:
        """Guess early whether errors must be JSON: a usage error may come before any option was parsed."""
        output = cls()
        for argument, following in zip(arguments, (*arguments[1:], ""), strict=False):
            if argument == "--":
                break
            if argument in {"--output=json", "-ojson"} or (argument in {"--output", "-o"} and following == "json"):
                output.json = True
        return output

    def leave_stdout(self) -> None:
        """Leave stdout to a container: from now on errors go to stderr in either form."""
        self._stdout_left = True

    def answer(self, lines: Iterable[str], document: Json) -> None:
        """Print the command's answer.

        Args:
            lines: for a person; already escaped where they hold outside text.
            document: the same for a program; has a `schema`.
        """
        if self.json:
            self._print_document(document)
            return
        text = "\n".join(lines)  # in one piece: `| head -1` has it all before it leaves
        if text:
            self._print(text)

    def listing(self, head: Mapping[str, Json], member: str) -> Listing:
        """Begin a document whose list `member` is printed item by item; it has `head` before, and what `close` is given behind."""
        return Listing(self._print, head, member)

    def _print_document(self, document: Json) -> None:
        self._print(json.dumps(document, ensure_ascii=True, indent=2, allow_nan=False))

    def _print(self, text: str) -> None:
        if self._stdout_left:
            tell(text)
            return
        try:
            click.echo(drawn(text, sys.stdout))
        except OSError:
            self._stdout_failed = True
            raise

    def show(self, text: str) -> None:
        """Print a text for people, in whatever form the answer would have been."""
        self._print(text)

    def _print_failure(self, document: Json) -> None:
        try:
            self._print_document(document)
        except OSError:  # the status alone is left to tell it
            discard(sys.stdout)

    def is_lost(self) -> bool:
        """Tell whether stdout refuses what is written to it, by a command or by click."""
        try:
            sys.stdout.flush()
        except OSError:
            return True
        return self._stdout_failed

    def answer_lost(self, err: OSError, status: int) -> int:
        """Say on stderr, in either form, that stdout takes nothing more, and return `status`."""
        discard(sys.stdout)
        self.leave_stdout()
        return self.error(FileUnwritable(f"cannot write the answer: {err.strerror}", place=Place("standard output")), status)

    def note(self, text: str) -> None:
        """Tell a person something on stderr, unless `--quiet`."""
        if not self.quiet:
            tell(text)

    def tell_again(self, text: str) -> None:
        """Tell in a line on stderr what stdout holds, where that leads elsewhere (`>/dev/null`): a refusal must not be lost there."""
        if not sys.stdout.isatty() and not _is_one_file(sys.stdout, sys.stderr):
            self.note(text)

    def detail(self, text: str) -> None:
        """Tell something on stderr with `-v`."""
        if self.verbosity:
            tell(text)

    def word(self, word: str, stream: TextIO | None = None) -> str:
        """Return a verdict's word, coloured where the stream (stdout unless given) is a terminal."""
        if not self.in_colour(stream or sys.stdout):
            return word
        return click.style(word, fg=_COLOURS.get(word, "green"), bold=True)

    def in_colour(self, stream: TextIO) -> bool:
        """Tell whether colour may go to `stream` (no-color.org)."""
        return self.colour and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def error(self, err: SigkitError, status: int) -> int:
        """Print a refusal in a few lines, and return `status`."""
        if self.json:
            self._print_failure(error_document(err, status))
            return status
        word = "bug" if err.kind is Kind.INTERNAL else status_word(err.status())
        if err.status() == EXIT_UNCHECKED and word != "bug" and self.command not in _CHECKING:
            word = "failed"
        place = escape(str(err.place))
        tell(f"{self.word(word, sys.stderr)}  {err.code}  {escape(err.problem)}")
        if place:
            tell(f"  where     {place}")
        compared = " · ".join(f"{label} {escape(text)}" for label, text in (("expected", err.expected), ("got", err.got)) if text)
        if compared:
            label, _, rest = compared.partition(" ")
            tell(f"  {label:<8}  {rest}")
        for excerpt in getattr(err, "__notes__", ()):
            for line in excerpt.splitlines():
                tell(f"  {escape(line)}")
        tell(f"  next      {escape_own(err.remedy or f'sigkit why {err.code}', 2000)}")  # to be copied; the code stands above
        return status

    def usage_error(self, err: click.ClickException, status: int) -> int:
        """Print what click refused, and return `status`."""
        message = err.format_message()
        if self.json:
            place: Json = {"source": "arguments", "inside": ""}
            problem: dict[str, Json] = {"code": "", "kind": "USAGE", "problem": message, "place": place}
            problem |= {"expected": "", "got": "", "remedy": "", "notes": []}
            self._print_failure({"schema": "sigkit.error/1", "exit": status, "error": problem})
            return status
        context = getattr(err, "ctx", None)
        tell(f"{self.word('usage error', sys.stderr)}  {escape(message, 2000)}")
        if context is not None:
            tell(f"  usage     {context.get_usage().removeprefix('Usage: ')}")
            tell(f"  next      {context.command_path} --help")
        return status


def _is_one_file(one: TextIO, other: TextIO) -> bool:
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):  # closed, or no files
        return False


class Listing:
    """A JSON document with a list of which each item is printed, on a line of its own, when it is known.

    Nothing is printed before the first item is there, or the end.
    """

    def __init__(self, write: Callable[[str], None], head: Mapping[str, Json], member: str) -> None:
        self._write = write
        self._opening = "".join(["{", *(f"{_line(name)}: {_line(value)}, " for name, value in head.items()), f"{_line(member)}: ["])
        self._comma = " "
        self.begun = False

    def add(self, item: Json) -> None:
        """Print one more item."""
        self._begin()
        self._write(f"{self._comma}{_line(item)}")
        self._comma = ","

    def close(self, rest: Mapping[str, Json]) -> None:
        """Print the end of the list, and the members behind it."""
        self._begin()
        self._write("".join(["]", *(f", {_line(name)}: {_line(value)}" for name, value in rest.items()), "}"]))

    def _begin(self) -> None:
        if not self.begun:
            self._write(self._opening)
            self.begun = True


def _line(value: Json) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def status_word(status: int) -> str:
    """Return the word that a verdict begins with, by the exit status that it ends with."""
    return _WORDS.get(status, "refused")


def drawn(text: str, stream: TextIO) -> str:
    """Return `text` as the reader of `stream` can see it: in a locale that is said not to be UTF-8, in ASCII."""
    # Python takes the locale C for UTF-8 (PEP 540), so the stream alone does not tell.
    said = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "UTF-8").upper()
    if text.isascii() or (("UTF-8" in said or "UTF8" in said) and stream.encoding.upper() in {"UTF-8", "UTF8"}):
        return text
    return text.translate(_IN_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def tell(text: str) -> None:
    """Write a line to stderr; where it takes none, the exit status is all that is told."""
    try:
        click.echo(drawn(text, sys.stderr), err=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Let nothing more reach a stream's file, so that what is left in the buffer does not fail again at the end of the process."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def open_standard_streams() -> None:
    """Put /dev/null where a standard descriptor is closed: else the next file or socket takes its number, and is written to as output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(null, True)  # noqa: FBT003 - os has no keyword for it
            setattr(sys, name, os.fdopen(null, "w" if number else "r", encoding="utf-8", closefd=False))


def error_document(err: SigkitError, status: int) -> Json:
    """Return a refusal as the document `sigkit.error/1`."""
    return {
        "schema": "sigkit.error/1",
        "exit": status,
        "error": {
            "code": err.code,
            "kind": err.kind.value,
            "problem": err.problem,
            "place": {"source": err.place.source, "inside": err.place.inside},
            "expected": err.expected,
            "got": err.got,
            "remedy": err.remedy,
            "notes": list(getattr(err, "__notes__", ())),
        },
    }


def _set(attribute: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def callback(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        if value:
            setattr(ctx.ensure_object(Output), attribute, value)

    return callback


def _choose_form(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    output = ctx.ensure_object(Output)
    output.form = value or output.form
    if isinstance(ctx.command, Command):  # the last word: what was guessed may have been an argument for a container
        output.json = output.form == "json"


def output_options(*forms: str) -> list[click.Parameter]:
    """Return the options that every command takes, before or after its name; `forms` are further forms of the answer."""
    more = "".join(f" {form}: as {form} prints it." for form in forms)
    return [
        click.Option(
            ["--output", "-o", "json"],
            type=click.Choice(["text", "json", *forms]),
            expose_value=False,
            callback=_choose_form,
            help=f"Answer as text (default) or as one JSON document.{more}",
        ),
        click.Option(
            ["-v", "--verbose", "verbosity"],
            count=True,
            expose_value=False,
            callback=_set("verbosity"),
            help="Say more; -vv for tracebacks.",
        ),
        click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set("quiet"), help="No notes and no progress."),
        click.Option(["--no-color", "no_color"], is_flag=True, expose_value=False, callback=_no_colour, help="No colour. Also NO_COLOR."),
    ]


def at_once(names: Sequence[str], text: Callable[[click.Context], str], words: str) -> click.Option:
    """Return an option that prints a text and ends the command: `--help`, `--version`.

    click's own ask gettext for their help, which looks for translations in twenty places: 2 ms a start.
    """

    def callback(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
        if value and not ctx.resilient_parsing:
            ctx.ensure_object(Output).show(text(ctx))
            ctx.exit()

    return click.Option(names, is_flag=True, expose_value=False, is_eager=True, callback=callback, help=words)


def _no_colour(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        ctx.ensure_object(Output).colour = False


class Command(click.Command):
    """A command that takes the common output options and shows its examples as they were written."""

    def __init__(self, *args: Any, examples: str = "", forms: tuple[str, ...] = (), **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        """Take click's arguments, `examples`, lines for the end of the help, and `forms` of the answer beside text and JSON."""
        super().__init__(*args, **kwargs)
        self.add_help_option = False
        self.examples = examples
        taken = {name for param in self.params for name in param.opts}
        for option in output_options(*forms):
            # `run -v` mounts, as podman's does; there it is --verbose only.
            option.opts = [name for name in option.opts if name not in taken]
            self.params.append(option)
        # `run -h NAME` is podman's host name: with help in its place, a container that was never started would seem to have ended well.
        self.params.append(
            at_once(["--help"] if self.name == "run" else ["-h", "--help"], click.Context.get_help, "Show this message and exit.")
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, and refuse an option with one value that is given twice: click would take the last without a word."""
        try:
            if not ctx.resilient_parsing:
                ctx.ensure_object(Output).command = ctx.command_path.partition(" ")[2]
                _refuse_twice(ctx, self.make_parser(ctx).parse_args(list(args))[2])
            return super().parse_args(ctx, args)
        except click.BadOptionUsage as err:
            if not any(isinstance(param, click.Option) and param.is_flag and err.option_name in param.opts for param in self.params):
                raise
            message = f"{err.message} Write {err.option_name} alone, or leave it out."
            raise click.BadOptionUsage(err.option_name, message, ctx) from err

    def get_help(self, ctx: click.Context) -> str:
        """Return the help as the reader of stdout can see it."""
        return drawn(super().get_help(ctx), sys.stdout)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, one a line, and what the exit codes mean."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")
        super().format_epilog(ctx, formatter)


def _refuse_twice(ctx: click.Context, order: Sequence[click.Parameter]) -> None:
    once = [param for param in order if isinstance(param, click.Option) and not (param.multiple or param.count or param.is_flag)]
    for number, param in enumerate(once):
        if param in once[:number]:
            raise click.UsageError(f"{max(param.opts, key=len)} is given twice.", ctx)


EXITS = "Exit codes: 0 verified or done · 1 refused · 2 usage · 3 could not check."
EXITS_OF_RUN = "Exit codes: the container's own · 122 refused · 123 could not check · 125 usage · 126 not executable · 127 not found."
