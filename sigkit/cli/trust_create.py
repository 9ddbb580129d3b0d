"""`sigkit trust create`: the two files by which clients know services of one's own."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import click

from sigkit.cli.options import DIRECTORY, grouped
from sigkit.cli.output import EXITS, Command, Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from sigkit.keys.public import PublicKey
    from sigkit.trust.root import TrustedRoot, Window
    from sigkit.trust.signing_config import Selector, Service

TRUSTED_ROOT = "trusted_root.json"
SIGNING_CONFIG = "signing_config.json"
_TIMES = ("start-time", "end-time", "operator")


class Described(NamedTuple):
    """The services, each as KEY=VALUE,…; the names of flags and keys are cosign's."""

    fulcio: tuple[str, ...]
    rekor: tuple[str, ...]
    ctfe: tuple[str, ...]
    tsa: tuple[str, ...]
    oidc_provider: tuple[str, ...]
    rekor_config: str
    tsa_config: str
    operator: str


described_options = grouped(
    "described",
    Described,
    click.option(
        "--fulcio", multiple=True, metavar="url=…,certificate-chain=PEM", help="A certificate authority: intermediates first, root last."
    ),
    click.option("--rekor", multiple=True, metavar="url=…,public-key=PEM", help="A log; also api-version=1 or 2 (the default)."),
    click.option("--ctfe", multiple=True, metavar="url=…,public-key=PEM", help="A certificate log."),
    click.option(
        "--tsa", multiple=True, metavar="url=…,certificate-chain=PEM", help="A timestamp authority: the whole URL; leaf first, root last."
    ),
    click.option("--oidc-provider", multiple=True, metavar="url=…", help="An issuer of identity tokens."),
    click.option("--rekor-config", default="ANY", show_default=True, metavar="ANY|ALL|EXACT:N", help="How many logs must take an entry."),
    click.option("--tsa-config", default="ANY", show_default=True, metavar="ANY|ALL|EXACT:N", help="How many timestamps must be given."),
    click.option(
        "--operator", default="", metavar="NAME", help="Who runs them, where operator=… says nothing else: one operator counts once."
    ),
)


@click.command(
    cls=Command,
    name="create",
    epilog=EXITS,
    examples="""
    sigkit trust create --operator acme.example --fulcio url=https://ca.example,certificate-chain=ca.pem --ctfe url=https://ct.example,public-key=ct.pub
    sigkit trust create --operator acme.example --rekor url=https://log.example,public-key=log.pub --output-dir trust
    """,
)
@described_options
@click.option("--output-dir", type=DIRECTORY, default=".", show_default=True, metavar="DIR", help="Where the files go; none is replaced.")
@click.pass_obj
def command(output: Output, described: Described, output_dir: str) -> None:
    """Write trusted_root.json and signing_config.json for your own services.

    Each service also takes start-time=… and end-time=… (RFC 3339) and operator=…; without a start it is trusted from now on.
    """
    from sigkit import durable, limits
    from sigkit.clock import SystemClock
    from sigkit.errors import FileUnwritable, Place
    from sigkit.trust.signing_config import parse_signing_config
    from sigkit.trust.trusted_root import parse_trusted_root
    from sigkit.trust.write import encode_trusted_root

    now = SystemClock().now().replace(microsecond=0)
    raw = encode_trusted_root(_trusted_root(described, now))
    root = parse_trusted_root(raw, TRUSTED_ROOT, Place.operator("trust create"), limits.DEFAULT)  # what others would refuse is not written
    config = _signing_config(described, now)
    parse_signing_config(config, Place.operator("trust create"), limits.DEFAULT)
    files = {TRUSTED_ROOT: raw, SIGNING_CONFIG: config}
    try:
        durable.create_together(output_dir, files)
    except FileUnwritable as err:
        if isinstance(err.__cause__, FileExistsError):
            raise click.UsageError(
                f"{err.__cause__.filename2} is there already, and no file is replaced: name another --output-dir.",
                click.get_current_context(),
            ) from err
        raise
    paths = [os.path.join(output_dir, name) for name in files]
    output.answer(
        [f"{'trusted root':<14}  {paths[0]}", f"{'signing config':<14}  {paths[1]}"],
        {"schema": "sigkit.trust-files/1", "trustedRoot": paths[0], "signingConfig": paths[1], "digest": str(root.digest)},
    )


class _Item(NamedTuple):
    """One service as it was described."""

    flag: str
    values: dict[str, str]

    def need(self, key: str) -> str:
        if key not in self.values:
            raise click.BadParameter(f"{key}=… is missing.", param_hint=self.flag)
        return self.values[key]

    def window(self, now: datetime) -> Window:
        from sigkit.trust.root import Window

        end = self.values.get("end-time")
        start = self.values.get("start-time")
        return Window(_parse_time(self.flag, start) if start else now, _parse_time(self.flag, end) if end else None)


def _items(flag: str, texts: Sequence[str], keys: Sequence[str], operator: str) -> tuple[_Item, ...]:
    return tuple(_parse(flag, text, ("url", *keys, *_TIMES), operator) for text in texts)


def _parse(flag: str, text: str, known: Sequence[str], operator: str) -> _Item:
    from sigkit.errors import Place, SigkitError
    from sigkit.net.url import parse_url

    values = {"operator": operator}
    seen: set[str] = set()
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not value or key not in known or key in seen:
            raise click.BadParameter(f"{part!r} is none of {', '.join(f'{name}=…' for name in known)}, or is there twice.", param_hint=flag)
        seen.add(key)
        values[key] = value
    item = _Item(flag, values)
    url = item.need("url")
    try:
        parse_url(url, Place.operator(flag))
    except SigkitError as err:
        raise click.BadParameter(f"url={url} is no URL of a service: {err.problem}.", param_hint=flag) from err
    return item


def _parse_time(flag: str, text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time such as 2026-01-01T00:00:00Z.", param_hint=flag) from None


def _trusted_root(described: Described, now: datetime) -> TrustedRoot:
    from sigkit.trust import write
    from sigkit.trust.root import TrustedRoot

    operator = described.operator
    fulcio = _items("--fulcio", described.fulcio, ("certificate-chain", "api-version"), operator)
    rekor = _items("--rekor", described.rekor, ("public-key", "api-version"), operator)
    ctfe = _items("--ctfe", described.ctfe, ("public-key",), operator)
    tsa = _items("--tsa", described.tsa, ("certificate-chain", "api-version"), operator)
    if not (fulcio or rekor or ctfe or tsa):
        raise click.UsageError("Describe at least one service: --fulcio, --rekor, --ctfe or --tsa.", click.get_current_context())
    return TrustedRoot(
        TRUSTED_ROOT,
        write.WRITTEN.digest,
        (),
        tuple(write.certificate_authority_of(item.need("url"), _chain(item), item.window(now), item.need("operator")) for item in fulcio),
        tuple(write.log_of(item.need("url"), _key(item), item.window(now), item.need("operator")) for item in rekor),
        tuple(write.certificate_log_of(item.need("url"), _key(item), item.window(now), item.need("operator")) for item in ctfe),
        tuple(write.timestamp_authority_of(item.need("url"), _chain(item), item.window(now), item.need("operator")) for item in tsa),
    )


def _signing_config(described: Described, now: datetime) -> bytes:
    from sigkit.trust.write import encode_signing_config

    operator = described.operator
    logs = _services(_items("--rekor", described.rekor, ("public-key", "api-version"), operator), now, "2")
    stampers = _services(_items("--tsa", described.tsa, ("certificate-chain", "api-version"), operator), now)
    return encode_signing_config(
        _services(_items("--fulcio", described.fulcio, ("certificate-chain", "api-version"), operator), now),
        _services(_items("--oidc-provider", described.oidc_provider, ("api-version",), operator), now),
        logs,
        stampers,
        log_selector=_within_reach("--rekor-config", _selector("--rekor-config", described.rekor_config), logs),
        timestamp_selector=_within_reach("--tsa-config", _selector("--tsa-config", described.tsa_config), stampers),
    )


def _within_reach(flag: str, selector: Selector, services: Sequence[Service]) -> Selector:
    """Return the selector, if as many services as it asks for can ever answer: those of the newest version, one of each operator."""
    from sigkit.trust.signing_config import Exactly

    newest = max((service.version for service in services), default=0)
    there = len({service.operator for service in services if service.version == newest})
    if isinstance(selector, Exactly) and selector.count > there:
        raise click.BadParameter(
            f"EXACT:{selector.count} can never be met: {there} of these can be asked, one of each operator=… and of the newest version.",
            param_hint=flag,
        )
    return selector


def _services(items: Sequence[_Item], now: datetime, version: str = "1") -> tuple[Service, ...]:
    from sigkit.trust.signing_config import Service

    services = []
    for item in items:
        stated = item.values.get("api-version", version)
        if stated not in {"1", "2"}:
            raise click.BadParameter(f"api-version={stated} is neither 1 nor 2.", param_hint=item.flag)
        services.append(Service(item.need("url"), int(stated), item.window(now), item.need("operator")))
    return tuple(services)


def _selector(flag: str, text: str) -> Selector:
    from sigkit.trust.signing_config import AnyOne, EveryOne, Exactly

    if text == "ANY":
        return AnyOne()
    if text == "ALL":
        return EveryOne()
    count = text.removeprefix("EXACT:")
    if count == text or not (count.isascii() and count.isdecimal() and 0 < int(count) < 100):
        raise click.BadParameter(f"{text!r} is none of ANY, ALL and EXACT:N.", param_hint=flag)
    return Exactly(int(count))


def _chain(item: _Item) -> tuple[x509.Certificate, ...]:
    from cryptography import x509

    from sigkit import durable, limits
    from sigkit.errors import MalformedCertificate, Place

    path = item.need("certificate-chain")
    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.POLICY_FILES_BYTES, place=place)
    try:
        return tuple(x509.load_pem_x509_certificates(raw))
    except ValueError as err:
        raise MalformedCertificate("no certificates in PEM", place=place) from err


def _key(item: _Item) -> PublicKey:
    from sigkit.keys.load import load_public

    return load_public(item.need("public-key"))
