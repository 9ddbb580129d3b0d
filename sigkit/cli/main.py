"""The command group, loaded lazily, and the one place where an exception becomes an exit status.

`sigkit --help` imports no command: their names and one-line helps stand here, each module is imported when its command runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from sigkit import __version__
from sigkit.cli.options import is_utf8
from sigkit.cli.output import EXITS, Output, at_once, discard, drawn, open_standard_streams, output_options, tell
from sigkit.errors import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_RUN_REFUSED,
    EXIT_RUN_UNCHECKED,
    EXIT_RUN_USAGE,
    EXIT_UNCHECKED,
    EXIT_USAGE,
    Bug,
    Place,
    SigkitError,
)
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXIT_INTERRUPTED = 130
VERBOSITY_TRACEBACK = 2
TRACEBACK_CHARACTERS = 2_000  # of one line
EXIT_PIPE_CLOSED = 141
COMPLETION_VARIABLE = "_SIGKIT_COMPLETE"
# `run` returns the container's status, so its own answers lie where podman puts its own (docs/decisions).
RUN_STATUS = {EXIT_REFUSED: EXIT_RUN_REFUSED, EXIT_USAGE: EXIT_RUN_USAGE, EXIT_UNCHECKED: EXIT_RUN_UNCHECKED}


class _Lazy(NamedTuple):
    module: str
    help: str


# In the order in which a user meets them.
COMMANDS = {
    "demo": _Lazy("demo", "See the whole story on this machine, in nine steps."),
    "key": _Lazy("key", "Generate key pairs and show public keys."),
    "sign": _Lazy("sign", "Sign an image and attach the signature in its registry."),
    "attest": _Lazy("attest", "Sign what a file says about an image, and attach it."),
    "sign-blob": _Lazy("sign_blob", "Sign a file."),
    "attest-blob": _Lazy("attest_blob", "Sign what one file says about another."),
    "verify": _Lazy("verify", "Prove who signed an image, or say why it is refused."),
    "verify-attestation": _Lazy("verify_attestation", "Prove who attested what about an image."),
    "verify-blob": _Lazy("verify_blob", "Prove who signed a file."),
    "verify-blob-attestation": _Lazy("verify_blob_attestation", "Prove who attested what about a file."),
    "inspect": _Lazy("inspect", "Show what evidence says of itself, without judging it."),
    "copy": _Lazy("copy", "Copy an image with everything attached to it."),
    "tree": _Lazy("tree", "Show what is attached to an image."),
    "pull": _Lazy("pull", "Pull an image that a policy admits."),
    "run": _Lazy("run", "Run an image that a policy admits."),
    "images": _Lazy("images", "List the images in this host's store."),
    "trust": _Lazy("trust", "Pin trust roots, keep them fresh, and make your own."),
    "log": _Lazy("log", "Read transparency logs, and notice when one forks."),
    "policy": _Lazy("policy", "Check trust policies."),
    "registry": _Lazy("registry", "Serve a registry from a directory."),
    "stack": _Lazy("stack", "Run a private sigstore: issuer, authorities, log, registry."),
    "why": _Lazy("why", "Explain a code such as SK-DIGEST-002."),
    "completion": _Lazy("completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is used."""

    def get_help(self, ctx: click.Context) -> str:
        """Return the help as the reader of stdout can see it."""
        return drawn(super().get_help(ctx), sys.stdout)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a user meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return its command."""
        del ctx
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        command: click.Command = importlib.import_module(f"sigkit.cli.{lazy.module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing one."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named by the first argument, or say which ones are near."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            from sigkit.cli.absent import explain_command

            if instead := explain_command(name):
                raise click.UsageError(f"There is no command {name!r} here: {instead}", ctx)
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " `sigkit --help` lists them."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    params=[
        *output_options(),
        at_once(["--version"], lambda _: f"sigkit {__version__}", "Show the version and exit."),
        at_once(["-h", "--help"], click.Context.get_help, "Show this message and exit."),
    ],
    add_help_option=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXITS + " `run` returns the container's own; there refused is 122.",
)
def group() -> None:
    """Sign container images, prove who built them, and start only verified ones.

    \b
    Start here:
      sigkit demo
      sigkit key generate --output-key-prefix release
      sigkit sign --key release.key registry.example/acme/app:1.0
      sigkit verify --key release.pub registry.example/acme/app:1.0
    """  # noqa: D301 - the backspace is click's mark for lines that stay as they are


def run(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - one line for each way to end
    """Run one command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status (design.md, "Exit codes"). Everything that fails ends in a status other than 0.
    """
    open_standard_streams()
    output = Output.from_arguments(arguments)
    of_command = RUN_STATUS if _names_run(arguments) else {}
    try:
        _check_text(arguments)
        status = _invoke(arguments, output)
    except click.exceptions.NoArgsIsHelpError as err:
        if output.json:
            return output.usage_error(click.UsageError("Missing command.", err.ctx), EXIT_USAGE)
        output.note(err.format_message())
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        output.note("interrupted; what was finished stays, nothing is half-written")
        return EXIT_INTERRUPTED
    except click.NoSuchOption as err:
        from sigkit.cli.absent import explain_option

        return output.usage_error(explain_option(err), of_command.get(EXIT_USAGE, EXIT_USAGE))
    except click.ClickException as err:
        return output.usage_error(err, of_command.get(EXIT_USAGE, EXIT_USAGE))
    except SigkitError as err:
        _trace(output)
        return output.error(err, of_command.get(err.status(), err.status()))
    except OSError as err:
        if not output.is_lost():
            return _report_bug(output, err, of_command)
        if isinstance(err, BrokenPipeError):  # the reader has gone: nobody is left to be told. Not success: the answer did not arrive
            discard(sys.stdout)
            return EXIT_PIPE_CLOSED
        return output.answer_lost(err, of_command.get(EXIT_UNCHECKED, EXIT_UNCHECKED))
    except Exception as err:  # noqa: BLE001 - the last boundary: a bug is said to be one, and never allows anything
        return _report_bug(output, err, of_command)
    return status if isinstance(status, int) else EXIT_DONE


def _invoke(arguments: Sequence[str], output: Output) -> object:
    """Run the command as click does, but leave every way to end to `run`: click's own `main` exits 1 when a reader has gone."""
    asked_by_shell = os.environ.get(COMPLETION_VARIABLE)
    if asked_by_shell:
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, "sigkit", COMPLETION_VARIABLE, asked_by_shell)
    try:
        with group.make_context("sigkit", list(arguments), obj=output) as context:
            return group.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code


def _report_bug(output: Output, err: Exception, of_command: Mapping[int, int]) -> int:
    _trace(output)
    bug = Bug(f"{type(err).__name__}: {err}", place=Place("sigkit"), remedy="run it again with -vv and report what it prints")
    return output.error(bug, of_command.get(bug.status(), bug.status()))


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse what no signature, policy or audit line could hold: they are UTF-8."""
    for argument in arguments:
        if not is_utf8(argument):
            raise click.UsageError(f"An argument is not UTF-8: {argument!r}")


def _trace(output: Output) -> None:
    if output.verbosity >= VERBOSITY_TRACEBACK:
        import traceback

        for line in traceback.format_exc().splitlines():
            tell(escape(line, TRACEBACK_CHARACTERS))


def _names_run(arguments: Sequence[str]) -> bool:
    return next((a for a in arguments if a in COMMANDS), "") == "run"
