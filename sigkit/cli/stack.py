"""`sigkit stack`: a private sigstore on this machine."""

from __future__ import annotations

import os
import random
import socket
from typing import TYPE_CHECKING

import click

from sigkit.cli.listening import tls_files, tls_options
from sigkit.cli.options import DIRECTORY, FILE, filled
from sigkit.cli.output import EXITS, Output
from sigkit.cli.stack_directory import StackCommand, directory_argument
from sigkit.cli.stack_people import approve, token
from sigkit.errors import AddressUnusable, Place
from sigkit.text import counted, escape, format_time

if TYPE_CHECKING:
    from sigkit.net.url import Origin
    from sigkit.services.stack.run import RunningStack


_PORTS = range(20_000, 30_000)
_TAKEN_S = 1.0  # of this machine the kernel answers at once


@click.group(name="stack")
def command() -> None:
    """Run a private sigstore: issuer, authorities, log, TUF repository and registry in one process.

    DIR may be left out where SIGKIT_STACK names it.
    """


@command.command(
    cls=StackCommand,
    name="init",
    epilog=EXITS,
    examples="""
    sigkit stack init ./stack
    sigkit stack init /srv/stack --name acme --url https://sigstore.acme.example --offline /media/usb/stack-keys
    """,
)
@directory_argument
@click.option("--name", default="stack", show_default=True, metavar="NAME", help="Who runs it: the organisation in its certificates.")
@click.option(
    "--url",
    callback=filled,
    metavar="URL",
    help="Where clients reach it; http://127.0.0.1:PORT on a free port unless given. It cannot be changed.",
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
    taken = _taken(origin) if url is not None else ""
    if taken:
        output.note(
            f"warning  something listens on {taken} already: while it does, `up` cannot. The URL cannot be changed: free the port, or make"
            " another stack with another --url"
        )
    output.answer(
        [
            f"made  {shown}, a stack at {made.config.url}",
            f"  clients  {shown}/clients: trusted_root.json, signing_config.json, root.json (TUF)",
            f"  offline  {escape(made.offline)}: keys that no running process needs; take them elsewhere",
            f"  next     {_next(directory, made.directory, made.config.origin)}",
        ],
        {
            "schema": "sigkit.stack.init/1",
            "directory": made.directory,
            "offline": made.offline,
            "name": made.config.name,
            "url": made.config.url,
            "urlInUse": bool(taken),
        },
    )


def _next(shown: str, directory: str, origin: Origin) -> str:
    """Return the command that serves the stack; before it, where they are not there, the one that installs what that needs."""
    from sigkit.errors import MissingExtra
    from sigkit.services.extra import SERVER, TOKENS, need_extra
    from sigkit.services.stack.restore import up_line

    up = escape(up_line(shown, origin))
    try:
        need_extra(Place(directory), *TOKENS, *SERVER)
    except MissingExtra as err:
        return f"{err.remedy}  # it needs more packages to be served\n           {up}"
    return up


def _taken(origin: Origin) -> str:
    """Return the address that a URL of this machine says, if somebody listens there already."""
    from sigkit.net.address import is_loopback_name

    if not is_loopback_name(origin.host):
        return ""
    host = origin.host if origin.host[0].isdecimal() or ":" in origin.host else "127.0.0.1"  # a name is asked of nobody
    try:
        with socket.create_connection((host, origin.port), timeout=_TAKEN_S):
            return origin.authority
    except OSError:
        return ""


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
    cls=StackCommand,
    name="up",
    epilog=EXITS,
    examples="""
    sigkit stack up ./stack
    sigkit stack up /srv/stack --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem
    """,
)
@directory_argument
@click.option("--listen", callback=filled, metavar="HOST:PORT", help="Where to listen, if it is not what the stack's URL says.")
@tls_options
@click.option("--restored", is_flag=True, help="Go on with a restored backup. Its log may be older than what was answered: docs/stack.md.")
@click.pass_obj
def up(output: Output, directory: str, listen: str | None, tls_cert: str | None, tls_key: str | None, restored: bool) -> None:  # noqa: FBT001 - click's
    """Serve the stack until interrupted.

    One process owns the directory. Without TLS it listens on loopback only.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack.access import describe_open_keys, find_open_keys
    from sigkit.services.stack.restore import Said
    from sigkit.services.stack.run import serve_stack
    from sigkit.services.stack.space import low_space
    from sigkit.services.stack.status import expired_while_running

    def ready(stack: RunningStack) -> None:
        lines = [f"serving {escape(directory)} at {stack.config.url} (Ctrl-C stops it)"]
        if stack.address != stack.config.origin.authority:
            lines.append(f"  listens on {stack.address}; clients are told {stack.config.url}")
        output.answer(
            lines,
            {
                "schema": "sigkit.stack.up/1",
                "directory": directory,
                "url": stack.config.url,
                "address": stack.address,
                "resumedAt": stack.resumed_at,
            },
        )
        if stack.resumed_at is not None:
            goes_on = f"the log goes on at {counted(stack.resumed_at, 'entry', 'entries')}; what was answered after the backup is lost"
            output.note(f"restored  {goes_on}")
        for item in expired_while_running(directory, SystemClock()):
            output.note(f"warning  {item.what} has expired: clients refuse it; it is renewed {item.renewal.words}")
        if keys := find_open_keys(directory):
            output.note(f"warning  {describe_open_keys(directory, keys)}")
        if low := low_space(directory):
            output.note(f"warning  {low}")

    said = Said.GO_ON if restored else Said.NOTHING
    serve_stack(directory, listen=listen, tls=tls_files(tls_cert, tls_key), said=said, ready=ready)


@command.command(cls=StackCommand, name="down", epilog=EXITS, examples="sigkit stack down ./stack")
@directory_argument
@click.pass_obj
def down(output: Output, directory: str) -> None:
    """Stop the process that serves the stack, and wait until it has ended.

    Where none serves it there is nothing to do, and that is said.
    """
    from sigkit.errors import StackNotRunning
    from sigkit.services.stack.process import is_locked, stop

    pid: int | None = None
    try:
        pid = stop(directory).pid
    except StackNotRunning:
        if is_locked(directory):  # one that is just starting, or another user's
            raise
    output.answer(
        [f"stopped  {escape(directory)} (process {pid})" if pid is not None else f"not running  {escape(directory)}"],
        {"schema": "sigkit.stack.down/1", "directory": directory, "stopped": pid is not None, "pid": pid},
    )


@command.command(cls=StackCommand, name="status", epilog=EXITS, examples="sigkit stack status ./stack --output json")
@directory_argument
@click.pass_obj
def status(output: Output, directory: str) -> int:
    """Say whether the stack runs, how large it is, and what expires when.

    It ends with 1 where something has expired that is not signed again by itself, and where a key cannot be read without which the stack
    does not start.
    """
    from sigkit.clock import SystemClock
    from sigkit.errors import EXIT_DONE, EXIT_REFUSED
    from sigkit.services.stack.status import describe, encode, is_good, read_status

    read = read_status(directory, SystemClock())
    output.answer(describe(read), encode(read))
    return EXIT_DONE if is_good(read) else EXIT_REFUSED


@command.command(cls=StackCommand, name="backup", epilog=EXITS, examples="sigkit stack backup ./stack /media/backup/stack-2026-01-31")
@directory_argument
@click.argument("into", type=DIRECTORY, metavar="DEST")
@click.pass_obj
def backup(output: Output, directory: str, into: str) -> None:
    """Copy the stack to DEST, while it runs.

    The copy is whole and its log is checked. It is served again with `sigkit stack up --restored`, after docs/stack.md was read: what was
    logged after the backup is lost. The offline keys are not in it.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack.backup import make_backup
    from sigkit.strict import decode_base64

    made = make_backup(directory, into, SystemClock(), output.note)
    root = decode_base64(made.log_root, Place(into)).hex()  # as `sigkit log` shows it
    output.answer(
        [
            f"copied  {escape(directory)} -> {escape(into)}",
            f"  log   {counted(made.log_size, 'entry', 'entries')}, root hash {root}",
        ],
        {
            "schema": "sigkit.stack.backup/1",
            "directory": made.directory,
            "logSize": made.log_size,
            "logRoot": root,
            "sizeBytes": made.size_bytes,
        },
    )


@command.command(
    cls=StackCommand,
    name="renew",
    epilog=EXITS,
    examples="""
    sigkit stack renew ./stack --offline /media/usb/stack-keys
    sigkit stack renew ./stack --offline /media/usb/stack-keys --rotate timestamp
    """,
)
@directory_argument
@click.option("--offline", type=DIRECTORY, metavar="DIR", help="Where the offline keys are; DIR/offline unless given.")
@click.option("--rotate", type=click.Choice(["root", "targets", "snapshot", "timestamp"]), help="Give this role of TUF a new key as well.")
@click.pass_obj
def renew(output: Output, directory: str, offline: str | None, rotate: str | None) -> None:
    """Sign TUF's root and targets again with the offline keys, so that clients take them for another two years.

    The stack may run: it serves the new metadata at once. Clients that have an older root follow by themselves.
    """
    from sigkit.clock import SystemClock
    from sigkit.services.stack import layout
    from sigkit.services.stack.clients import open_repository
    from sigkit.services.stack.owner import OFFLINE_TOO, refuse_other_user
    from sigkit.services.stack.restore import refuse_backup

    config = layout.load_config(directory)
    refuse_other_user(directory, OFFLINE_TOO)
    refuse_backup(directory, config.origin)
    repository = open_repository(directory)
    keys, now = offline or os.path.join(directory, layout.OFFLINE), SystemClock().now()
    rotated = None
    if rotate is None:
        repository.renew(keys, now)
    else:
        rotated = repository.rotate(keys, rotate, now)
    until = {role: format_time(when) for role, when in repository.expiries().items()}
    output.answer(
        [
            f"renewed  {escape(directory)}",
            *(f"  {role:<9}  until {when}" for role, when in until.items()),
            *([f"  new key    {escape(rotated.new)}"] if rotated else ()),
            *(f"  old key    {escape(path)}: it counts no longer; delete it" for path in (rotated.old if rotated else ())),
        ],
        {
            "schema": "sigkit.stack.renew/1",
            "directory": directory,
            "rotated": rotate,
            "newKey": rotated.new if rotated else None,
            "oldKeys": list(rotated.old) if rotated else [],
            "until": dict(until),
        },
    )


@command.command(
    cls=StackCommand,
    name="publish",
    epilog=EXITS,
    examples="""
    sigkit stack publish ./stack --trusted-root trusted_root.json --signing-config signing_config.json --offline ./stack-keys
    """,
)
@directory_argument
@click.option("--trusted-root", required=True, type=FILE, metavar="FILE", help="The trust root that clients get from now on.")
@click.option("--signing-config", required=True, type=FILE, metavar="FILE", help="The services that clients sign with from now on.")
@click.option("--offline", type=DIRECTORY, metavar="DIR", help="Where the offline keys are; DIR/offline unless given.")
@click.option("--drop", is_flag=True, help="Publish even where what was signed before is refused from then on.")
@click.pass_obj
def publish(
    output: Output,
    directory: str,
    trusted_root: str,
    signing_config: str,
    offline: str | None,
    drop: bool,  # noqa: FBT001 - click's
) -> None:
    """Hand clients another trust root and signing config, by the stack's TUF repository and in DIR/clients.

    So clients follow to services elsewhere (docs/scaling.md). A trust root that leaves out what signed before makes old evidence fail: what
    that is is listed, and nothing is published without --drop.
    """
    from sigkit.clock import SystemClock
    from sigkit.digest import Digest
    from sigkit.services.stack.publish import Old, publish_documents

    keys = offline or os.path.join(directory, "offline")
    published = publish_documents(directory, keys, trusted_root, signing_config, SystemClock(), Old.DROP if drop else Old.KEEP)
    digests = {"trustedRoot": str(Digest.of(published.trusted_root)), "signingConfig": str(Digest.of(published.signing_config))}
    output.answer(
        [f"published  {escape(directory)}/clients, and in its TUF repository"],
        {"schema": "sigkit.stack.publish/1", "directory": directory, **digests},
    )


command.add_command(token)
command.add_command(approve)
