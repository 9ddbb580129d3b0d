"""The stack that a command is about: its first argument, or SIGKIT_STACK where one argument fewer is given."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

import click

from sigkit.cli.options import DIRECTORY
from sigkit.cli.output import Command

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE: Final = "SIGKIT_STACK"
_CODE: Final = re.compile(r"[A-Za-z]{4}[- ]?[A-Za-z]{4}")


def directory_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument DIR, which may come from the environment."""
    return click.argument("directory", type=DIRECTORY, metavar="DIR", envvar=VARIABLE)(function)


class StackCommand(Command):
    """A command about a stack. Where SIGKIT_STACK names it and one argument is missing, that is DIR and not the last one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the directory of the environment before arguments that are one too few."""
        named = os.environ.get(VARIABLE)
        if named and not ctx.resilient_parsing and self._lacks_one(ctx, args):
            args = [named, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; where the disk is full, or a file of the stack another user's, that is what is advised about."""
        from sigkit.services.stack.layout import denied_told
        from sigkit.services.stack.space import full_disk_told

        with full_disk_told(), denied_told():
            return super().invoke(ctx)

    def _lacks_one(self, ctx: click.Context, args: list[str]) -> bool:
        *_, last = (param for param in self.params if isinstance(param, click.Argument))
        if last.name == "directory":
            return False  # click's own affair
        given = self.make_parser(ctx).parse_args(list(args))[0]
        first = given.get("directory")
        if not isinstance(first, str) or isinstance(given.get(last.name or ""), str):
            return False
        # An argument that may be left out: only what looks like a code, and is no directory, is one.
        return last.required or bool(_CODE.fullmatch(first) and not os.path.isdir(first))
