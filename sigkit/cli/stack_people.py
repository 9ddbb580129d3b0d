"""`sigkit stack token` and `approve`: who may sign in whose name."""

from __future__ import annotations

import shlex
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from sigkit.cli.options import filled
from sigkit.cli.output import EXITS
from sigkit.cli.stack_directory import StackCommand, directory_argument
from sigkit.clock import SystemClock
from sigkit.errors import Place, UnnamableIdentity
from sigkit.text import escape, format_time, human_age

if TYPE_CHECKING:
    from sigkit.cli.output import Output
    from sigkit.services.logins import Waiting
    from sigkit.strict import Json


@click.command(
    cls=StackCommand,
    name="token",
    epilog=EXITS,
    examples="""
    (umask 077; sigkit stack token ./stack https://ci.acme.example/app > token)
    sigkit stack token ./stack https://ci.acme.example/app --claim sourceRepositoryURI=https://git.acme.example/app --lifetime 3600
    sigkit stack token ./stack mia@acme.example
    """,
)
@directory_argument
@click.argument("subject", metavar="URI|EMAIL")
@click.option("--lifetime", "lifetime_s", type=click.IntRange(1, 86_400), default=600, show_default=True, metavar="SECONDS")
@click.option("--audience", callback=filled, default="sigstore", show_default=True, help="Whom the token is for.")
@click.option(
    "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Another claim; Fulcio's extension names reach the certificate."
)
@click.pass_obj
def token(output: Output, directory: str, subject: str, lifetime_s: int, audience: str, claims: tuple[str, ...]) -> None:
    """Print an identity token for SUBJECT: a workload's URI, or a person's e-mail address.

    Whoever holds it can sign in that name until it ends. The stack need not run.
    """
    from sigkit.services.stack import layout
    from sigkit.services.stack.cores import open_issuer

    clock = SystemClock()
    named = _claims(claims)
    issuer = open_issuer(directory, layout.load_config(directory), clock)
    try:
        made = issuer.issue_token(subject, lifetime=timedelta(seconds=lifetime_s), audience=audience, claims=named)
    except UnnamableIdentity as err:
        if "://" not in subject and "@" not in subject:
            err.expected = "a workload's URI such as https://ci.acme.example/app, or a person's e-mail address"
        raise err.within(Place.operator(subject)) from err
    silent = _silent_claims(subject, named)
    if silent:
        output.note(f"note  in the token alone, for no certificate carries it: --claim {escape(', '.join(silent))}")
    if not output.json and not sys.stdout.isatty():
        click.echo(made, nl=False)  # cosign sends a file as it is, and a header with a line end is none
        return
    output.answer(
        [made],
        {
            "schema": "sigkit.stack.token/1",
            "token": made,
            "subject": subject,
            "issuer": issuer.url,
            "lifetimeSeconds": lifetime_s,
            "claimsInNoCertificate": list(silent),
        },
    )


_NEAR: Final = 0.8  # of difflib's likeness: another case, a word cut short, a letter more or fewer


def _claims(given: tuple[str, ...]) -> dict[str, str]:
    import difflib

    from sigkit.services.issuers import CLAIM_NAMES

    plain = {name.lower(): name for name in CLAIM_NAMES}
    found: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name or name in found:
            raise click.UsageError(f"--claim is NAME=VALUE, each name once: {item[:80]!r}", click.get_current_context())
        near = difflib.get_close_matches(name.lower(), plain, n=1, cutoff=_NEAR)
        if near and plain[near[0]] != name:  # the certificate would say nothing, and nobody would notice
            raise click.UsageError(f"--claim {name[:80]}: did you mean {plain[near[0]]}?", click.get_current_context())
        found[name] = value
    return found


def _silent_claims(subject: str, claims: dict[str, str]) -> list[str]:
    """Return the claims that reach no certificate: a person's has the address alone, a workload's what Fulcio has a name for."""
    from sigkit.services.issuers import CLAIM_NAMES, is_email

    return [name for name in claims if is_email(subject) or name not in CLAIM_NAMES]


@click.command(
    cls=StackCommand,
    name="approve",
    epilog=EXITS,
    examples="""
    sigkit stack approve ./stack
    sigkit stack approve ./stack ABCD-EFGH --email mia@acme.example
    sigkit stack approve ./stack ABCD-EFGH --deny
    """,
)
@directory_argument
@click.argument("code", required=False)
@click.option("--email", metavar="ADDRESS", help="Whom this login is for: the address that the certificate will carry.")
@click.option("--deny", is_flag=True, help="End the login without a token.")
@click.pass_obj
def approve(output: Output, directory: str, code: str | None, email: str | None, deny: bool) -> None:  # noqa: FBT001 - click's
    """Answer a login: let it end in a token for an address, or deny it. Without CODE, list those that wait.

    CODE is what the person's browser or terminal shows. Whoever approves says that it is this person.
    """
    from sigkit.services.issuers import is_email
    from sigkit.services.stack import layout
    from sigkit.services.stack.cores import open_issuer
    from sigkit.services.stack.owner import refuse_other_user
    from sigkit.services.stack.process import is_locked
    from sigkit.services.stack.restore import up_line

    config = layout.load_config(directory)
    refuse_other_user(directory)
    logins = open_issuer(directory, config, SystemClock()).logins
    if not is_locked(directory):
        line = escape(up_line(directory, config.origin))
        output.note(f"note  the stack does not run, so nobody begins a login or gets the token of one; it is started by: {line}")
    if code is None:
        _list(output, directory, logins.waiting())
        return
    if email is not None and deny:
        raise click.UsageError("Give --email ADDRESS or --deny: one of the two, not both.", click.get_current_context())
    if email is None and not deny:
        raise click.UsageError("Give --email ADDRESS or --deny.", click.get_current_context())
    if email is not None and not is_email(email):
        raise click.UsageError(f"--email is one e-mail address: {email[:80]!r}", click.get_current_context())
    answered = logins.deny(code) if email is None else logins.approve(code, email)
    output.answer(
        [f"denied  {answered}" if email is None else f"approved  {answered} for {escape(email)}"],
        {"schema": "sigkit.stack.approve/1", "code": answered, "email": email, "denied": deny},
    )


def _list(output: Output, directory: str, waiting: tuple[Waiting, ...]) -> None:
    """Say who waits, since when and for how long, and how each is answered."""
    from sigkit.services.stack.process import is_locked

    now, lines = SystemClock().now(), []
    for login in waiting:
        age, left = (human_age(max(span, timedelta())) for span in (now - login.started, login.ends - now))
        where = f" from {login.peer}" if login.peer else ""
        lines += [
            f"{login.user_code}  a {login.by}'s login{where}, {age} old; it ends by itself in {left}",
            f"  next     sigkit stack approve {escape(shlex.quote(directory))} {login.user_code} --email ADDRESS",
        ]
    found: list[Json] = [
        {
            "code": login.user_code,
            "started": format_time(login.started),
            "ends": format_time(login.ends),
            "by": login.by,
            "from": login.peer,
        }
        for login in waiting
    ]
    output.answer(lines or ["no login waits"], {"schema": "sigkit.stack.logins/1", "running": is_locked(directory), "logins": found})
