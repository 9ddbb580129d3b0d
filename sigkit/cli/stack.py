"""`sigkit stack`: a private sigstore on this machine."""

from __future__ import annotations

import os
import random
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from sigkit.cli.options import DIRECTORY, FILE
from sigkit.cli.output import EXITS, Command, Output
from sigkit.errors import AddressUnusable, Place, UnnamableIdentity
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.services.serve import Tls
    from sigkit.services.stack.run import RunningStack


_PORTS = range(20_000, 30_000)


def _directory(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("directory", type=DIRECTORY, metavar="DIR", envvar="SIGKIT_STACK")(function)


@click.group(name="stack")
def command() -> None:
    """Run a private sigstore: issuer, authorities, log, TUF repository and registry in one process.

    DIR may be left out where SIGKIT_STACK names it.
    """


@command.command(
    cls=Command,
    name="init",
    epilog=EXITS,
    examples="""
    sigkit stack init ./stack
    sigkit stack init /srv/stack --name acme --url https://sigstore.acme.example --offline /media/usb/stack-keys
    """,
)
@_directory
@click.option("--name", default="stack", show_default=True, metavar="NAME", help="Who runs it: the organisation in its certificates.")
@click.option(
    "--url", metavar="URL", help="Where clients reach it; http://127.0.0.1:PORT on a free port unless given. It cannot be changed."
)
@click.option(
    "--offline", type=DIRECTORY, metavar="DIR", help="Where the keys of the roots go, which no running process reads; DIR/offline."
)
@click.pass_obj
def init(output: Output, directory: str, name: str, url: str | None, offline: str | None) -> None:
    """Make a stack: its keys, its certificates, an empty log, and what clients are handed.

    The keys of the certificate authorities' roots and of TUF's root and targets are made in a directory of their own, which the running
    process never reads. Take it to another machine: it is needed to renew what they sign, and for nothing else.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack import layout
    from sigkit.services.stack.make import make_stack

    origin = layout.parse_base_url(url or f"http://127.0.0.1:{_free_port()}", Place.operator("--url"))
    layout.check_name(name, Place.operator("--name"))
    made = make_stack(directory, offline, name, origin, SystemClock())
    shown = escape(directory)
    output.answer(
        [
            f"made  {shown}, a stack at {made.config.url}",
            f"  clients  {shown}/clients: trusted_root.json, signing_config.json, root.json (TUF)",
            f"  offline  {escape(made.offline)}: keys that no running process needs; take them elsewhere",
            f"  next     sigkit stack up {shown}",
        ],
        {
            "schema": "sigkit.stack.init/1",
            "directory": made.directory,
            "offline": made.offline,
            "name": made.config.name,
            "url": made.config.url,
        },
    )


def _free_port() -> int:
    """Return a port that is free now, below those that the kernel gives to clients: none of them will sit on it tomorrow."""
    for port in random.SystemRandom().sample(_PORTS, 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AddressUnusable("no free port was found", place=Place("127.0.0.1"), remedy="--url http://127.0.0.1:PORT")


@command.command(
    cls=Command,
    name="up",
    epilog=EXITS,
    examples="""
    sigkit stack up ./stack
    sigkit stack up /srv/stack --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem
    """,
)
@_directory
@click.option("--listen", metavar="HOST:PORT", help="Where to listen, if it is not what the stack's URL says.")
@click.option("--tls-cert", type=FILE, metavar="FILE", help="Certificate chain in PEM form. Needed to listen beyond loopback.")
@click.option("--tls-key", type=FILE, metavar="FILE", help="Its private key.")
@click.option("--restored", is_flag=True, help="Go on with a restored backup. Its log may be older than what was answered: docs/stack.md.")
@click.pass_obj
def up(output: Output, directory: str, listen: str | None, tls_cert: str | None, tls_key: str | None, restored: bool) -> None:  # noqa: FBT001 - click's
    """Serve the stack until interrupted.

    One process owns the directory. Without TLS it listens on loopback only.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack.restore import go_on
    from sigkit.services.stack.run import serve_stack

    def ready(stack: RunningStack) -> None:
        output.answer(
            [f"serving {escape(directory)} at {stack.config.url} (Ctrl-C stops it)"],
            {"schema": "sigkit.stack.up/1", "directory": directory, "url": stack.config.url, "address": stack.address},
        )

    if restored:
        go_on(directory, SystemClock())
    serve_stack(directory, listen=listen, tls=_tls(tls_cert, tls_key), ready=ready)


def _tls(certificate: str | None, key: str | None) -> Tls | None:
    from sigkit.services.serve import Tls

    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.", click.get_current_context())
    return Tls(certificate, key) if certificate is not None and key is not None else None


@command.command(cls=Command, name="down", epilog=EXITS, examples="sigkit stack down ./stack")
@_directory
@click.pass_obj
def down(output: Output, directory: str) -> None:
    """Stop the process that serves the stack, and wait until it has ended."""
    from sigkit.services.stack.process import stop

    stopped = stop(directory)
    output.answer(
        [f"stopped  {escape(directory)} (process {stopped.pid})"],
        {"schema": "sigkit.stack.down/1", "directory": directory, "pid": stopped.pid},
    )


@command.command(cls=Command, name="status", epilog=EXITS, examples="sigkit stack status ./stack --output json")
@_directory
@click.pass_obj
def status(output: Output, directory: str) -> None:
    """Say whether the stack runs, how large it is, and what expires when."""
    from sigkit.clock import SystemClock
    from sigkit.services.stack.status import describe, encode, read_status

    read = read_status(directory, SystemClock())
    output.answer(describe(read), encode(read))


@command.command(cls=Command, name="backup", epilog=EXITS, examples="sigkit stack backup ./stack /media/backup/stack-2026-01-31")
@_directory
@click.argument("into", type=DIRECTORY, metavar="DEST")
@click.pass_obj
def backup(output: Output, directory: str, into: str) -> None:
    """Copy the stack to DEST, while it runs.

    The copy is whole and its log is checked. It is served again with `sigkit stack up --restored`, after docs/stack.md was read: what was
    logged after the backup is lost. The offline keys are not in it.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack.backup import make_backup

    made = make_backup(directory, into, SystemClock())
    output.answer(
        [f"copied  {escape(directory)} -> {escape(into)}", f"  log   {made.log_size} entries, root hash {made.log_root}"],
        {
            "schema": "sigkit.stack.backup/1",
            "directory": made.directory,
            "log_size": made.log_size,
            "log_root": made.log_root,
            "size_bytes": made.size_bytes,
        },
    )


@command.command(
    cls=Command,
    name="renew",
    epilog=EXITS,
    examples="""
    sigkit stack renew ./stack --offline /media/usb/stack-keys
    sigkit stack renew ./stack --offline /media/usb/stack-keys --rotate timestamp
    """,
)
@_directory
@click.option("--offline", type=DIRECTORY, metavar="DIR", help="Where the offline keys are; DIR/offline unless given.")
@click.option("--rotate", type=click.Choice(["root", "targets", "snapshot", "timestamp"]), help="Give this role of TUF a new key as well.")
@click.pass_obj
def renew(output: Output, directory: str, offline: str | None, rotate: str | None) -> None:
    """Sign TUF's root and targets again with the offline keys, so that clients take them for another two years.

    The stack may run: it serves the new metadata at once. Clients that have an older root follow by themselves.
    """
    from sigkit.clock import SystemClock, format_time
    from sigkit.services.stack import layout
    from sigkit.services.stack.cores import open_repository

    layout.load_config(directory)
    repository = open_repository(directory)
    keys, now = offline or os.path.join(directory, layout.OFFLINE), SystemClock().now()
    if rotate is None:
        repository.renew(keys, now)
    else:
        repository.rotate(keys, rotate, now)
    until = {role: format_time(when) for role, when in repository.expiries().items()}
    output.answer(
        [f"renewed  {escape(directory)}", *(f"  {role:<9}  until {when}" for role, when in until.items())],
        {"schema": "sigkit.stack.renew/1", "directory": directory, "rotated": rotate, "until": dict(until)},
    )


@command.command(
    cls=Command,
    name="publish",
    epilog=EXITS,
    examples="""
    sigkit stack publish ./stack --trusted-root trusted_root.json --signing-config signing_config.json --offline ./stack-keys
    """,
)
@_directory
@click.option("--trusted-root", required=True, type=FILE, metavar="FILE", help="The trust root that clients get from now on.")
@click.option("--signing-config", required=True, type=FILE, metavar="FILE", help="The services that clients sign with from now on.")
@click.option("--offline", type=DIRECTORY, metavar="DIR", help="Where the offline keys are; DIR/offline unless given.")
@click.pass_obj
def publish(output: Output, directory: str, trusted_root: str, signing_config: str, offline: str | None) -> None:
    """Hand clients another trust root and signing config, by the stack's TUF repository and in DIR/clients.

    So clients follow to services elsewhere (docs/scaling.md). A trust root that leaves out what signed before makes old evidence fail.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack.publish import publish_documents

    keys = offline or os.path.join(directory, "offline")
    publish_documents(directory, keys, trusted_root, signing_config, SystemClock())
    output.answer(
        [f"published  {escape(directory)}/clients, and in its TUF repository"], {"schema": "sigkit.stack.publish/1", "directory": directory}
    )


@command.command(
    cls=Command,
    name="token",
    epilog=EXITS,
    examples="""
    sigkit stack token ./stack https://ci.acme.example/app > token
    sigkit stack token ./stack https://ci.acme.example/app --claim sourceRepositoryURI=https://git.acme.example/app --lifetime 3600
    sigkit stack token ./stack mia@acme.example
    """,
)
@_directory
@click.argument("subject")
@click.option("--lifetime", "lifetime_s", type=click.IntRange(1, 86_400), default=600, show_default=True, metavar="SECONDS")
@click.option("--audience", default="sigstore", show_default=True, help="Whom the token is for.")
@click.option(
    "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Another claim; Fulcio's extension names reach the certificate."
)
@click.pass_obj
def token(output: Output, directory: str, subject: str, lifetime_s: int, audience: str, claims: tuple[str, ...]) -> None:
    """Print an identity token for SUBJECT: a workload's URI, or a person's e-mail address.

    Whoever holds it can sign in that name until it ends. The stack need not run.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack import layout
    from sigkit.services.stack.cores import open_issuer

    clock = SystemClock()
    issuer = open_issuer(directory, layout.load_config(directory), clock)
    try:
        made = issuer.issue_token(subject, lifetime=timedelta(seconds=lifetime_s), audience=audience, claims=_claims(claims))
    except UnnamableIdentity as err:
        raise err.within(Place.operator(subject)) from err
    output.answer(
        [made], {"schema": "sigkit.stack.token/1", "token": made, "subject": subject, "issuer": issuer.url, "lifetime_s": lifetime_s}
    )


def _claims(given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name or name in found:
            raise click.UsageError(f"--claim is NAME=VALUE, each name once: {item[:80]!r}", click.get_current_context())
        found[name] = value
    return found


@command.command(
    cls=Command,
    name="approve",
    epilog=EXITS,
    examples="""
    sigkit stack approve ./stack
    sigkit stack approve ./stack ABCD-EFGH --email mia@acme.example
    sigkit stack approve ./stack ABCD-EFGH --deny
    """,
)
@_directory
@click.argument("code", required=False)
@click.option("--email", metavar="ADDRESS", help="Whom this login is for: the address that the certificate will carry.")
@click.option("--deny", is_flag=True, help="End the login without a token.")
@click.pass_obj
def approve(output: Output, directory: str, code: str | None, email: str | None, deny: bool) -> None:  # noqa: FBT001 - click's
    """Answer a login: let it end in a token for an address, or deny it. Without CODE, list those that wait.

    CODE is what the person's browser or terminal shows. Whoever approves says that it is this person.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.issuers import is_email
    from sigkit.services.stack import layout
    from sigkit.services.stack.cores import open_issuer

    logins = open_issuer(directory, layout.load_config(directory), SystemClock()).logins
    if code is None:
        waiting = logins.waiting()
        lines = [f"{login.user_code}  waits" for login in waiting] or ["no login waits"]
        output.answer(lines, {"schema": "sigkit.stack.logins/1", "logins": [{"code": login.user_code} for login in waiting]})
        return
    if (email is None) == (not deny):
        raise click.UsageError("Give --email ADDRESS or --deny.", click.get_current_context())
    if email is not None and not is_email(email):
        raise click.UsageError(f"--email is one e-mail address: {email[:80]!r}", click.get_current_context())
    if email is None:
        logins.deny(code)
    else:
        logins.approve(code, email)
    output.answer(
        [f"denied  {escape(code)}" if email is None else f"approved  {escape(code)} for {escape(email)}"],
        {"schema": "sigkit.stack.approve/1", "code": code, "email": email},
    )
