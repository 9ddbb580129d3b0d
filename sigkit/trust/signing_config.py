"""`signing_config.json`: the services of an instance that sign, and how many of each kind must answer.

Which of them are asked is one pure function, `select`, so that every kind of service is chosen by the same rules: those valid now, of the
highest version that both sides know, one of each operator.

Source: sigstore/protobuf-specs sigstore_trustroot.proto, SigningConfig and ServiceConfiguration.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from sigkit import limits as all_limits
from sigkit import strict
from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import NoService, UnsupportedSigningConfig
from sigkit.text import format_time
from sigkit.trust.trusted_root import ANY_TRUSTED_ROOT, parse_window

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sigkit.errors import Place
    from sigkit.limits import Limits
    from sigkit.strict import Cursor
    from sigkit.trust.root import Window

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
_MEMBERS: Final = ("mediaType", "caUrls", "oidcUrls", "rekorTlogUrls", "rekorTlogConfig", "tsaUrls", "tsaConfig")
_MOST_NUMBER: Final = 2**31 - 1  # of versions and counts: protobuf's uint32, which readers in Java hold as int
_URL: Final = re.compile(r"https?://[!-~]+", re.ASCII)


class Service(Data):
    """One service: where it is, the major version of its API, when it may be asked, and who runs it."""

    url: str
    version: int
    valid: Window
    operator: str


class AnyOne(Data):
    """One service must answer: the next is asked where one fails."""


class EveryOne(Data):
    """Every service must answer."""


class Exactly(Data):
    """As many services must answer as `count` says."""

    count: int


Selector: TypeAlias = AnyOne | EveryOne | Exactly


class SigningConfig(Data):
    """The services of an instance. Of certificate authorities and issuers one is enough.

    URLs are those that paths are put behind, but for timestamp authorities, where it is the whole one.
    """

    digest: Digest
    certificate_authorities: tuple[Service, ...]
    issuers: tuple[Service, ...]
    logs: tuple[Service, ...]
    log_selector: Selector
    timestamp_authorities: tuple[Service, ...]
    timestamp_selector: Selector


def parse_signing_config(raw: bytes, place: Place, limits: Limits) -> SigningConfig:
    """Read a signing config of version 0.2.

    Args:
        raw: the file.
        place: of the file.
        limits: on its size and depth.

    Raises:
        UnsupportedSigningConfig: (ROOT) another version, or a selector that is not read.
        MalformedTrustedRoot: (ROOT) a window that ends before it starts.
        LimitError: too big, too many, too deep.
        ParseError: malformed; an unknown or a missing member; services without the rule for how many must answer.
    """
    top = strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth)
    _check_type(top)
    top.only(_MEMBERS)
    logs, authorities = _parse_services(top, "rekorTlogUrls"), _parse_services(top, "tsaUrls")
    return SigningConfig(
        Digest.of(raw),
        _parse_services(top, "caUrls"),
        _parse_services(top, "oidcUrls"),
        logs,
        _parse_selector(top, "rekorTlogConfig", logs),
        authorities,
        _parse_selector(top, "tsaConfig", authorities),
    )


def select(
    services: Collection[Service], selector: Selector, supported_versions: Collection[int], now: datetime, place: Place
) -> tuple[Service, ...]:
    """Return the services that may be asked, in the order in which they are: the newest first.

    Those valid now whose version is supported, of them the highest version there is, and of each operator the one that started last.

    Args:
        services: of one kind.
        selector: `needed` says how many of the answer must answer.
        supported_versions: what the caller speaks.
        now: for the windows.
        place: of the signing config, with the name of the list.

    Raises:
        NoService: (UNAVAIL) fewer are left than must answer.

    Source: sigstore_trustroot.proto, ServiceSelector; sigstore-go pkg/root/signing_config.go, SelectServices.
    """
    usable = [service for service in services if service.version in supported_versions and service.valid.holds(now)]
    highest = max((service.version for service in usable), default=0)
    newest: dict[str, Service] = {}
    for service in sorted((service for service in usable if service.version == highest), key=_start, reverse=True):
        newest.setdefault(service.operator, service)
    chosen = tuple(newest.values())
    wanted = selector.count if isinstance(selector, Exactly) else 1
    if len(chosen) < wanted:
        versions = " or ".join(str(version) for version in sorted(supported_versions))
        begins = [service.valid.start for service in services if service.version in supported_versions and service.valid.start]
        if begins and not usable and min(begins) > now:
            raise NoService(
                "the services of the signing config are valid only later: this machine's clock is behind, or they begin in the future",
                place=place,
                expected=f"{format_time(min(begins))} or later, as the signing config says",
                got=f"{format_time(now)} by this machine's clock",
                remedy="set this machine's clock: timedatectl set-ntp true",
            )
        raise NoService(
            "the signing config names too few services that can be asked now",
            place=place,
            expected=f"{wanted} of version {versions}, each by another operator",
            got=f"{len(chosen)} of {len(services)} listed",
        )
    return chosen


def needed(selector: Selector, candidates: Collection[Service]) -> int:
    """Return how many of the candidates must answer."""
    match selector:
        case AnyOne():
            return 1
        case EveryOne():
            return len(candidates)
        case Exactly(count):
            return count


def _start(service: Service) -> float:
    start = service.valid.start
    return start.timestamp() if start else 0.0


def _check_type(top: Cursor) -> None:
    kind = top.member("mediaType")
    if kind.text().startswith(ANY_TRUSTED_ROOT):
        raise UnsupportedSigningConfig(
            "this is a trusted root, not a signing config",
            place=kind.at(),
            expected=MEDIA_TYPE,
            got=kind.text()[:200],
            remedy="give the signing_config.json of the instance; are --signing-config and --trusted-root swapped?",
        )
    if kind.text() != MEDIA_TYPE:
        raise UnsupportedSigningConfig("not a signing config that is read", place=kind.at(), expected=MEDIA_TYPE, got=kind.text()[:200])


def _parse_services(top: Cursor, name: str) -> tuple[Service, ...]:
    found = top.find(name)
    return tuple(_parse_service(item) for item in found.items(all_limits.TRUSTED_ITEMS)) if found else ()


def _parse_service(cursor: Cursor) -> Service:
    cursor.only(("url", "majorApiVersion", "validFor", "operator"))
    url, operator = cursor.member("url"), cursor.find("operator")
    return Service(
        _parse_url(url),
        cursor.member("majorApiVersion").integer(1, _MOST_NUMBER),
        parse_window(cursor.member("validFor")),
        operator.text() if operator else "",
    )


def _parse_url(cursor: Cursor) -> str:
    """Read an absolute URL. Whether a connection may be made to it is judged when it is made."""
    text = cursor.text()
    try:
        host = urlsplit(text).hostname if _URL.fullmatch(text) else None
    except ValueError:
        host = None
    if not host:
        cursor.fail("not the URL of a service", expected="https://… or http://…")
    return text


def _parse_selector(top: Cursor, name: str, services: tuple[Service, ...]) -> Selector:
    found = top.find(name)
    if found is None:
        if services:  # cosign's client ends in a crash without it; nobody agrees on what it would mean
            top.member(name)
        return AnyOne()
    found.only(("selector", "count"))
    selector = found.member("selector")
    if selector.value == "ANY":
        return AnyOne()
    if selector.value == "ALL":
        return EveryOne()
    if selector.value == "EXACT":
        return Exactly(found.member("count").integer(1, _MOST_NUMBER))
    raise UnsupportedSigningConfig(
        "a selector that is not read", place=selector.at(), expected="ANY, ALL or EXACT", got=strict.describe(selector.value)
    )
