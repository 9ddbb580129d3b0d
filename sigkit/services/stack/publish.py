"""Handing clients of a stack other documents than those that it was made with.

Evidence is proved for as long as the trust root lists who signed it: what the new one leaves out of the old is told, and agreed to, first.
"""

from __future__ import annotations

import os
import shlex
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sigkit import durable, limits
from sigkit.errors import ForeignServices, OldEvidenceDropped, Place
from sigkit.services.stack import clients, layout
from sigkit.services.stack.keys import check_told
from sigkit.services.stack.layout import CLIENTS, CONFIG
from sigkit.services.stack.owner import OFFLINE_TOO, refuse_other_user
from sigkit.services.stack.restore import refuse_backup
from sigkit.text import format_time
from sigkit.trust.signing_config import parse_signing_config
from sigkit.trust.trusted_root import parse_trusted_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.services.stack.clients import Documents
    from sigkit.services.stack.layout import StackConfig
    from sigkit.trust.root import CertificateAuthority, TimestampAuthority, TransparencyLog, TrustedRoot, Window
    from sigkit.trust.signing_config import Service, SigningConfig

    _Trusted = TransparencyLog | CertificateAuthority | TimestampAuthority


class Old(Enum):
    """What may become of what the old trust root proves and the new one does not."""

    KEEP = "it has to be proved still"
    DROP = "it may fail"


def publish_documents(directory: str, offline: str, trusted_root: str, signing_config: str, clock: Clock, old: Old = Old.KEEP) -> Documents:
    """Publish a trust root and a signing config by the stack's TUF repository, write them into its `clients/`, and return them.

    Args:
        directory: of the stack, which may run.
        offline: with the keys of TUF's targets.
        trusted_root: the file.
        signing_config: the file.
        clock: for the dates of the metadata.
        old: what may become of what is left out.

    Raises:
        OldEvidenceDropped: (ROOT) something is, and it has to be kept; nothing was published.
        ForeignServices: (ROOT) clients would sign with what they refuse; nothing was published.
        NoStack, OtherStackVersion: (UNAVAIL) see `layout.load_config`.
        OtherUsersStack: (UNAVAIL) it is another user's.
        StackRestored: (UNAVAIL) it is a backup: two roots of one version could come to be.
        FileUnreadable, FileUnwritable: (UNAVAIL) a file, or an offline key.
        SigkitError: (PARSE, ROOT, LIMIT) clients would not take a document; nothing was published.
    """
    config = layout.load_config(directory)
    refuse_other_user(directory, OFFLINE_TOO)
    refuse_backup(directory, config.origin)
    places = Place.operator(trusted_root), Place.operator(signing_config)
    root, signing = (durable.read(place.source, most_bytes=limits.BUNDLE_BYTES, place=place) for place in places)
    new = parse_trusted_root(root, os.path.basename(trusted_root), places[0], limits.DEFAULT)
    services = parse_signing_config(signing, places[1], limits.DEFAULT)
    # Or another's could come between what is looked at and what is written, and `clients` have one's root and the other's services.
    with durable.lock(os.path.join(directory, CONFIG)):  # a file that is there, and stays
        now, repository = clock.now(), clients.open_repository(directory)
        _check(clients.read_trusted_root(repository), new, services, places, old, now)
        _check_own(directory, config, new, places[0])
        published = clients.Documents(root, signing)
        repository.publish(offline, clients.targets(published), now)
        clients.write(os.path.join(directory, CLIENTS), published, repository.initial_root)
        return published


def _check(told: TrustedRoot, new: TrustedRoot, services: SigningConfig, places: tuple[Place, Place], old: Old, now: datetime) -> None:
    """Refuse what clients must not be told after what they were told last."""
    if old is Old.KEEP and (lost := tuple(find_dropped(told, new, now))):
        raise OldEvidenceDropped(
            f"what was signed before would be refused: {'; '.join(lost)}",
            place=places[0],
            remedy="list it beside the new (sigkit trust create, docs/scaling.md); --drop publishes without it",
        )
    if strangers := tuple(find_strangers(services, new, now)):
        raise ForeignServices(
            f"the trust root does not have what signs from now on: {'; '.join(strangers)}",
            place=places[1],
            remedy="publish both documents of the same instance (sigkit trust create, docs/scaling.md)",
        )


def _check_own(directory: str, config: StackConfig, new: TrustedRoot, place: Place) -> None:
    """Refuse a root with other keys under the stack's own URL: nothing that this stack signs would count, and it would not start."""
    try:
        check_told(directory, config, new)
    except ForeignServices as err:
        raise ForeignServices(
            "the trust root lists another key under this stack's URL than the stack has",
            place=place,
            expected=f"that of {err.place}",
            remedy=f"list the stack's own services: {shlex.quote(os.path.join(directory, CLIENTS, clients.TRUSTED_ROOT))} has them",
        ) from err


def find_dropped(old: TrustedRoot, new: TrustedRoot, now: datetime) -> Iterator[str]:
    """Give each log, authority and key of `old` that does not count in `new` for all the time until now that it counted, in words."""
    for log in old.logs:
        yield from _dropped("log", log, [item for item in new.logs if _same_log(item, log)], now)
    for log in old.ct_logs:
        yield from _dropped("certificate log", log, [item for item in new.ct_logs if _same_key(item, log)], now)
    for authority in old.certificate_authorities:
        same = [item for item in new.certificate_authorities if set(authority.certificates) <= set(item.certificates)]
        yield from _dropped("certificate authority", authority, same, now)
    for stamps in old.timestamp_authorities:
        stamped = [item for item in new.timestamp_authorities if set(stamps.certificates) <= set(item.certificates)]
        yield from _dropped("timestamp authority", stamps, stamped, now)


def find_strangers(services: SigningConfig, root: TrustedRoot, now: datetime) -> Iterator[str]:
    """Give each service that clients may ask and whose word would not count by `root`, in words.

    A service is known by its host. An authority whose URL the root does not state may be any.
    """
    kinds: tuple[tuple[str, Sequence[Service], Sequence[_Trusted]], ...] = (
        ("log", services.logs, root.logs),
        ("certificate authority", services.certificate_authorities, root.certificate_authorities),
        ("timestamp authority", services.timestamp_authorities, root.timestamp_authorities),
    )
    for kind, listed, trusted in kinds:
        for service in listed:
            asked = max(now, service.valid.start or now)  # first
            ended = service.valid.end is not None and service.valid.end < now
            if not ended and not any(item.valid.holds(asked) and _host(item.name) in {"", _host(service.url)} for item in trusted):
                yield f"{kind} {service.url}"


def _host(url: str) -> str:
    """Return host and port of what may be a URL."""
    return urlsplit(url).netloc.lower() if url.startswith(("http://", "https://")) else ""


def _same_log(one: TransparencyLog, other: TransparencyLog) -> bool:
    return _same_key(one, other) and one.origin == other.origin  # by another address its checkpoints have another name


def _same_key(one: TransparencyLog, other: TransparencyLog) -> bool:
    return (one.log_id, one.key.spki) == (other.log_id, other.key.spki)


def _dropped(kind: str, old: _Trusted, same: Sequence[_Trusted], now: datetime) -> Iterator[str]:
    if not same:
        yield f"{kind} {old.name} is left out"
    elif not any(_covers(item.valid, old.valid, now) for item in same):
        yield f"{kind} {old.name} counts {' or '.join(_show(item.valid) for item in same)} only, and counted {_show(old.valid)}"


def _covers(new: Window, old: Window, now: datetime) -> bool:
    """Tell whether a window holds what another held until now: to end something is no loss of what it signed until then."""
    until = now if old.end is None else min(old.end, now)
    starts = new.start is None or (old.start is not None and new.start <= old.start)
    return starts and (new.end is None or new.end >= until)


def _show(window: Window) -> str:
    start = f"from {format_time(window.start)}" if window.start else ""
    end = f"until {format_time(window.end)}" if window.end else ""
    return " ".join(filter(None, (start, end))) or "always"
