"""Which log a command of `sigkit log` asks, by which key it is known, and whether it is still trusted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import click

from sigkit.cli.options import FILE, ROOT, Number, filled, grouped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sigkit.cli.output import Output
    from sigkit.errors import Place
    from sigkit.net.url import Origin
    from sigkit.tlog.client import LogReader
    from sigkit.tlog.known import KnownLog
    from sigkit.trust.root import TransparencyLog, TrustedRoot, Window


class LogFlags(NamedTuple):
    """Which log, and whose word says which key it has."""

    rekor_url: str | None
    trusted_root: str
    log_key: str | None
    services_cacert: str | None
    timeout_s: float


class Opened(NamedTuple):
    """A log that is trusted and was reached."""

    url: str
    place: Place
    known: KnownLog
    reader: LogReader
    valid: Window  # when the trusted root trusts it


log_options = grouped(
    "at",
    LogFlags,
    click.option("--rekor-url", callback=filled, metavar="URL", help="The log. Default: the newest that the trusted root has."),
    click.option(
        "--trusted-root",
        default="public-good",
        show_default=True,
        type=ROOT,
        metavar="NAME|FILE",
        help="Which logs are trusted, with their keys: a root of `sigkit trust`, or a trusted_root.json.",
    ),
    click.option(
        "--log-key", callback=filled, metavar="KEY", help="In place of a trusted root: the log's key as C2SP writes it, name+id+base64."
    ),
    click.option("--services-cacert", type=FILE, metavar="FILE", help="Trust the certificate authorities in this PEM file for the log."),
    click.option(
        "--timeout",
        "timeout_s",
        type=Number(1, 3600),
        default=60,
        show_default=True,
        metavar="SECONDS",
        help="For everything that is asked, in all.",
    ),
)


@contextlib.contextmanager
def opened(output: Output, at: LogFlags) -> Iterator[Opened]:
    """Give the log that the flags name, reached.

    Raises:
        LogNotTrusted: (ROOT) no trusted root has it.
        SigkitError: as `find_log` and the trusted root.
    """
    from sigkit.errors import Place
    from sigkit.net.session import NetOptions, Session
    from sigkit.tlog.client import RekorV1Reader, find_log
    from sigkit.tlog.known import KnownLog, of_first_generation
    from sigkit.trust.root import Window

    if at.log_key is not None:
        url, known = _named_by_key(at, at.log_key)
        valid = Window(None, None)
    else:
        trusted = _trusted_log(output, at)
        valid = trusted.valid
        url, known = at.rekor_url or trusted.name, KnownLog(trusted.key, trusted.checkpoint_key_id or trusted.log_id, trusted.origin)
    with Session(NetOptions(ca_file=at.services_cacert, ca_option="--services-cacert FILE")) as session:
        reader = find_log(session, url, Place.operator(url), at.timeout_s)
        if isinstance(reader, RekorV1Reader):
            known = of_first_generation(known)
        _say_not_before(output, valid)
        yield Opened(url, Place(url), known, reader, valid)


def _say_not_before(output: Output, valid: Window) -> None:
    from sigkit.clock import SystemClock
    from sigkit.text import format_time

    if valid.start is not None and SystemClock().now() < valid.start:
        output.note(f"not before {format_time(valid.start)}, says the trusted root: what the log signed until then is no evidence")


def _named_by_key(at: LogFlags, text: str) -> tuple[str, KnownLog]:
    from sigkit.errors import Place
    from sigkit.tlog.cosignature import parse_log_key
    from sigkit.tlog.known import KnownLog

    if at.rekor_url is None:
        raise click.UsageError("--log-key says which key a log has, not where it is: name it by --rekor-url.", click.get_current_context())
    key = parse_log_key(text, Place.operator("--log-key"))
    return at.rekor_url, KnownLog(key.key, key.log_id, key.name)


def _trusted_log(output: Output, at: LogFlags) -> TransparencyLog:
    from sigkit.cli.trusting import opened_roots

    with opened_roots(output, "network") as roots:
        root = roots.load_named_or_file(at.trusted_root).root
    return _choose(root, at.rekor_url)


def _choose(root: TrustedRoot, url: str | None) -> TransparencyLog:
    """Return the newest log at a URL, or anywhere: one that is trusted now before all that are not.

    Raises:
        LogNotTrusted: (ROOT) there is none.
    """
    from datetime import UTC, datetime

    from sigkit.clock import SystemClock
    from sigkit.errors import LogNotTrusted, Place
    from sigkit.net.url import parse_url

    now = SystemClock().now()
    if url is None:
        logs = [log for log in root.logs if log.valid.holds(now) and log.name.startswith("http")]
    else:
        at = parse_url(url, Place.operator(url)).origin
        logs = [log for log in root.logs if log.name.rstrip("/") == url.rstrip("/")] or [log for log in root.logs if _is_at(log, at)]
    if not logs:
        raise LogNotTrusted(
            "the trusted root has no such log" if url else "the trusted root trusts no log now",
            place=Place.operator(url or root.name),
            expected=", ".join(log.name for log in root.logs) or "a log",
            remedy="name the root that has it (--trusted-root), or the log's key (--log-key)"
            if url
            else "name a retired one: --rekor-url URL",
        )
    return max(logs, key=lambda log: (log.valid.holds(now), log.valid.start or datetime.min.replace(tzinfo=UTC)))


def _is_at(log: TransparencyLog, origin: Origin) -> bool:
    """Tell whether a log's URL has this scheme, host and port: on one host logs of several stacks may listen."""
    from sigkit.errors import UrlRefused
    from sigkit.net.url import parse_url

    try:
        return parse_url(log.name).origin == origin
    except UrlRefused:  # a root may list a log without a URL
        return False


def retired(log: Opened) -> datetime | None:
    """Return since when the trusted root does not trust a log any more, if that has come."""
    from sigkit.clock import SystemClock

    end = log.valid.end
    return end if end is not None and end < SystemClock().now() else None
