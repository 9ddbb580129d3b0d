"""`sigkit why CODE`: what a code means and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sigkit.cli.output import Command, Output
from sigkit.errors import Place, SigkitError, UnknownCode, all_codes

if TYPE_CHECKING:
    from sigkit.strict import Json


@click.command(
    cls=Command,
    name="why",
    examples="""
    sigkit why SK-DIGEST-002
    sigkit why --all
    """,
)
@click.argument("code", required=False, shell_complete=lambda _ctx, _param, begun: [c for c in all_codes() if c.startswith(begun.upper())])
@click.option("--all", "every", is_flag=True, help="List all codes.")
@click.pass_obj
def command(output: Output, code: str | None, every: bool) -> None:  # noqa: FBT001 - click's signature
    """Explain the code of a refusal, and what to do about it."""
    codes = all_codes()
    if every:
        asked = sorted(codes)
        output.answer([f"{name}  {_title(codes[name])}" for name in asked], _document([codes[name] for name in asked]))
        return
    if code is None:
        raise click.UsageError("Name a code, or --all.", click.get_current_context())
    found = codes.get(code.upper())
    if found is None:
        raise UnknownCode(
            "no such code", place=Place.operator("CODE"), expected="such as SK-DIGEST-002", got=code, remedy="sigkit why --all"
        )
    output.answer([f"{found.code}  {_title(found)}", "", *_advice(found).splitlines()], _document([found]))


def _document(codes: list[type[SigkitError]]) -> Json:
    return {"schema": "sigkit.why/1", "codes": [{"code": c.code, "title": _title(c), "advice": _advice(c)} for c in codes]}


def _title(error: type[SigkitError]) -> str:
    return (error.__doc__ or "").strip().partition("\n")[0]


def _advice(error: type[SigkitError]) -> str:
    _, _, rest = (error.__doc__ or "").strip().partition("\n")
    return "\n".join(line.strip() for line in rest.strip().splitlines())
