"""`sigkit trust`: whose authorities and logs count on this machine, under which names, and how fresh that is."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

import click

from sigkit.cli.options import FILE, ROOT
from sigkit.cli.output import EXITS, Command, Output, error_document
from sigkit.cli.trust_create import command as create
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sigkit.digest import Digest
    from sigkit.errors import Place, SigkitError
    from sigkit.strict import Json
    from sigkit.trust.store import NamedRoot, RootStore

LINE_CHARACTERS = 2_000


@click.group(name="trust")
def command() -> None:
    """Pin trust roots under names, keep them fresh, and make your own."""


@command.command(
    cls=Command,
    name="init",
    epilog=EXITS,
    examples="""
    sigkit trust init public-good
    sigkit trust init acme --mirror https://trust.acme.example/tuf --root 1.root.json
    sigkit trust init acme --mirror https://trust.acme.example/tuf --sha256 4f2c…
    """,
)
@click.argument("name")
@click.option("--mirror", metavar="URL", help="Where the TUF repository is. For public-good it is known.")
@click.option("--root", "root_path", type=FILE, metavar="FILE", help="The root metadata that everything is proved from.")
@click.option("--sha256", "hexadecimal", metavar="HEX", help="Or its digest: then the mirror's first root is taken, if it has that.")
@click.option("--mirror-cacert", type=FILE, metavar="FILE", help="Trust the certificate authorities in this PEM file for the mirror.")
@click.pass_obj
def init(output: Output, name: str, mirror: str | None, root_path: str | None, hexadecimal: str | None, mirror_cacert: str | None) -> None:
    """Pin a TUF repository under NAME, and fetch the trusted root that it publishes.

    Root or digest must come by another way than the mirror does: who chooses them decides who is trusted. Nothing is pinned unless all
    that the mirror has is proved from it.
    """
    from sigkit.cli.trusting import opened_roots

    with opened_roots(output, "network") as roots, _hinting(mirror, mirror_cacert):
        url, root, place = _find_repository(name, mirror, root_path, hexadecimal, mirror_cacert)
        word = _word(roots, name)
        _tell(output, ((name, roots.pin_repository(name, url, root, mirror_cacert, place)),), f"{word}  {name}")


command.add_command(create)


def _word(roots: RootStore, name: str) -> str:
    """Say what is done by pinning: another root is refused, so that one that is there is the same."""
    return "was pinned already" if name in roots.names() else "pinned"


@contextlib.contextmanager
def _hinting(mirror: str | None, ca_file: str | None) -> Iterator[None]:
    """Where a mirror has no metadata, say what to do; a stack has its own below the URL that people know."""
    from sigkit.errors import MetadataMissing, Place, SigkitError
    from sigkit.trust.mirror import find_below
    from sigkit.trust.store import open_session

    try:
        yield
    except MetadataMissing as err:
        if mirror:
            err.remedy = err.remedy or "check the address: the mirror of a repository is where its timestamp.json is"
            with contextlib.suppress(SigkitError), open_session(ca_file) as session:
                if below := find_below(session, mirror, Place.operator("--mirror")):
                    err.remedy = f"a repository is below it: --mirror {shlex.quote(below)}"
        raise


def _find_repository(
    name: str, mirror: str | None, root_path: str | None, hexadecimal: str | None, ca_file: str | None
) -> tuple[str, bytes, Place]:
    from sigkit import durable, limits
    from sigkit.errors import Place
    from sigkit.trust import bundled

    context = click.get_current_context()
    if name == bundled.NAME and not root_path and not hexadecimal:
        return mirror or bundled.MIRROR, bundled.load_public_good_tuf_root(), Place(bundled.NAME)
    if root_path and hexadecimal:
        raise click.UsageError("Give --root FILE or --sha256 HEX, not both.", context)
    missing = (*(() if mirror else ("--mirror URL",)), *(() if root_path or hexadecimal else ("--root FILE or --sha256 HEX",)))
    if missing or not mirror:
        raise click.UsageError(f"{escape(name)} needs {', and '.join(missing)} too: a mirror, and by what its root is known.", context)
    if root_path:
        place = Place.operator(root_path)
        return mirror, durable.read(root_path, most_bytes=limits.TUF_ROOT_BYTES, place=place), place
    return mirror, _fetch_first_root(mirror, _parse_sha256(str(hexadecimal)), ca_file), Place(mirror)


def _parse_sha256(text: str) -> Digest:
    from sigkit.digest import parse_digest
    from sigkit.errors import MalformedDigest, Place

    found = text.removeprefix("sha256:")
    try:
        return parse_digest(f"sha256:{found}", Place.operator("--sha256"))
    except MalformedDigest as err:
        err.expected = "64 hex digits, in lower case"
        err.got = str(len(found)) if found and set(found) <= set("0123456789abcdef") else text[:160]
        raise


def _fetch_first_root(mirror: str, wanted: Digest, ca_file: str | None) -> bytes:
    from sigkit import limits
    from sigkit.errors import MetadataMissing, Place
    from sigkit.trust.mirror import NetMirror
    from sigkit.trust.pins import check_pinned
    from sigkit.trust.store import open_session

    with open_session(ca_file) as session:
        source = NetMirror(session, mirror, Place.operator("--mirror"))
        raw = source.fetch_metadata("1.root.json", limits.TUF_ROOT_BYTES)
        if raw is None and source.fetch_metadata("timestamp.json", limits.TUF_TIMESTAMP_BYTES) is None:
            raise MetadataMissing("there is no TUF repository at this address: no timestamp.json", place=source.place("timestamp.json"))
        if raw is None:
            raise MetadataMissing("the mirror has no first root", place=source.place("1.root.json"), remedy="give it with --root FILE")
        check_pinned(raw, wanted, source.place("1.root.json"))
        return raw


@command.command(
    cls=Command,
    name="update",
    epilog=EXITS,
    examples="""
    sigkit trust update
    sigkit trust update acme
    """,
)
@click.argument("names", nargs=-1, type=ROOT, metavar="[NAME...]")
@click.pass_obj
def update(output: Output, names: tuple[str, ...]) -> int:
    """Fetch the newest state of each NAME, of all roots without one; -v explains each as `show` does.

    Verifying does so once a day by itself where it connects anyway. It never does with --offline, --bundle or --layout, nor for files:
    there this command is what keeps roots fresh. Of several roots one that fails stands in no other's way.
    """
    from sigkit.cli.trusting import opened_roots
    from sigkit.errors import SigkitError

    done: list[tuple[str, NamedRoot]] = []
    failed: list[tuple[str, SigkitError]] = []
    with opened_roots(output, "network") as roots:
        for name in dict.fromkeys(names or roots.names()):
            try:
                done.append((name, roots.update(name)))
            except SigkitError as err:
                failed.append((name, err))
        if not done and not failed:
            output.note("no root is pinned here: sigkit trust init public-good follows the public-good instance")
        headline = f"{len(failed)} of {len(done) + len(failed)} not updated" if failed else ""
        _tell(output, tuple(done), headline, tuple(failed), _lines if output.verbosity else _updated_lines)
    return _status(tuple(err for _, err in failed))


def _status(failed: tuple[SigkitError, ...]) -> int:
    """Return the exit status of many: what was refused counts most, then what could not be checked."""
    from sigkit.errors import EXIT_DONE, EXIT_REFUSED, EXIT_UNCHECKED, EXIT_USAGE

    found = {err.status() for err in failed}
    return next((status for status in (EXIT_REFUSED, EXIT_UNCHECKED, EXIT_USAGE) if status in found), EXIT_DONE)


@command.command(
    cls=Command,
    name="pin",
    epilog=EXITS,
    examples="""
    sigkit trust pin acme trusted_root.json
    sigkit trust pin acme trusted_root.json --sha256 4f2c…
    """,
)
@click.argument("name")
@click.argument("path", type=FILE, metavar="FILE")
@click.option("--sha256", "hexadecimal", metavar="HEX", help="What its digest must be.")
@click.pass_obj
def pin(output: Output, name: str, path: str, hexadecimal: str | None) -> None:
    """Pin a trusted_root.json under NAME, for an instance without a TUF repository. It stays as it is: nothing is fetched for it."""
    from sigkit import durable, limits
    from sigkit.cli.trusting import opened_roots
    from sigkit.errors import Place
    from sigkit.trust.pins import check_pinned

    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.BUNDLE_BYTES, place=place)
    if hexadecimal:
        check_pinned(raw, _parse_sha256(hexadecimal), Place(path))
    with opened_roots(output, "nothing") as roots:
        word = _word(roots, name)
        _tell(output, ((name, roots.pin_trusted_root(name, raw, place)),), f"{word}  {name}")


@command.command(
    cls=Command,
    name="show",
    epilog=EXITS,
    examples="""
    sigkit trust show
    sigkit trust show public-good
    sigkit trust show ./trusted_root.json
    """,
)
@click.argument("name", required=False, type=ROOT, metavar="[NAME|FILE]")
@click.pass_obj
def show(output: Output, name: str | None) -> None:
    """Explain a trust root in words, or list those of this machine. No connection is made."""
    from sigkit.cli.trusting import opened_roots

    with opened_roots(output, "nothing") as roots:
        if name is None:
            _list(output, roots)
        else:
            _tell(output, ((name, roots.load_named_or_file(name)),), "")


def _list(output: Output, roots: RootStore) -> None:
    from sigkit.errors import SigkitError
    from sigkit.trust.bundled import NAME

    lines: list[str] = []
    found: list[Json] = []
    for name in dict.fromkeys((NAME, *roots.names())):
        try:
            source, problem = roots.load(name).source, ""
        except SigkitError as err:
            source, problem = "", f"{err.code} {err.problem}"
        lines.append(f"{escape(name)}  {escape(source or problem)}")
        found.append({"name": name, "source": source, "problem": problem})
    output.answer(lines, {"schema": "sigkit.trust-list/1", "directory": roots.directory, "roots": found})


def _updated_lines(name: str, named: NamedRoot, now: datetime) -> list[str]:
    from sigkit.text import format_time

    del now
    if named.freshness is None:
        return [f"{name}  stays as it is: {named.source}"]
    return [f"{name}  up to date, valid until {format_time(named.freshness.expires)}"]


def _tell(
    output: Output,
    named: tuple[tuple[str, NamedRoot], ...],
    headline: str,
    failed: tuple[tuple[str, SigkitError], ...] = (),
    lines_of: Callable[[str, NamedRoot, datetime], list[str]] | None = None,
) -> None:
    from sigkit.clock import SystemClock

    now = SystemClock().now()
    lines = [headline] if headline else []
    for name, root in named:
        lines += [escape(line, LINE_CHARACTERS) for line in (lines_of or _lines)(name, root, now)]
    for name, err in failed:
        lines.append(f"{escape(name)}  not updated: {err.code} {escape(err.problem)}")
        told = (("where", str(err.place)), ("expected", err.expected), ("got", err.got), ("next", err.remedy or f"sigkit why {err.code}"))
        lines += [f"  {label:<8}  {escape(text)}" for label, text in told if text]
    problems: list[Json] = [{"name": name, "refusal": error_document(err, err.status())} for name, err in failed]
    output.answer(lines, {"schema": "sigkit.trust/1", "roots": [_encode(name, root, now) for name, root in named], "failed": problems})


def _lines(name: str, named: NamedRoot, now: datetime) -> list[str]:
    from sigkit.cli.trusting import config_beside
    from sigkit.text import format_time
    from sigkit.trust.words import operators_of, parties_of, selector_word, services_of

    lines = [f"{name}  {named.source}", f"  {'digest':<15}  {named.root.digest}"]
    if named.freshness:
        lines.append(f"  {'checked':<15}  {format_time(named.freshness.checked)}; valid until {format_time(named.freshness.expires)}")
    lines += [f"  {party.role:<15}  {party.text(now)}" for party in parties_of(named.root)]
    lines.append(f"  {'operators':<15}  {', '.join(operators_of(named.root)) or 'none is named'}")
    if named.signing:
        lines += [f"  {'signs with':<15}  {kind} {item.url}, version {item.version}" for kind, item in services_of(named.signing)]
        lines.append(
            f"  {'it takes':<15}  {selector_word(named.signing.log_selector)} of the logs, "
            f"{selector_word(named.signing.timestamp_selector)} of the timestamp authorities"
        )
    else:
        config = shlex.quote(config_beside(name, "FILE"))
        lines.append(f"  {'signs with':<15}  no services are named; to sign: --signing-config {config} --trusted-root {shlex.quote(name)}")
    return lines


def _encode(name: str, named: NamedRoot, now: datetime) -> Json:
    from sigkit.text import format_time
    from sigkit.trust.words import parties_of, services_of

    fresh = named.freshness
    return {
        "name": name,
        "source": named.source,
        "digest": str(named.root.digest),
        "checked": format_time(fresh.checked) if fresh else None,
        "expires": format_time(fresh.expires) if fresh else None,
        "trusts": [party.encode(now) for party in parties_of(named.root)],
        "signsWith": [{"kind": kind, "url": item.url, "version": item.version} for kind, item in services_of(named.signing)]
        if named.signing
        else [],
    }
