"""The cores of a stack: what each makes when the stack is made, and which paths each answers when it runs.

What is made offline first are the roots of the authorities and the keys of TUF's root and targets; nothing below `opened_cores` reads them.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.limits import BodyLimits
from sigkit.net.session import Session
from sigkit.services import ca, issuer_list, tsa
from sigkit.services.app import Mount
from sigkit.services.ca import CertificateAuthority
from sigkit.services.ct import CertificateLog, load_public_key
from sigkit.services.issuer_keys import IssuerKeySets
from sigkit.services.issuers import Issuer, OwnIssuer
from sigkit.services.log.hashedrekord import terms_of
from sigkit.services.log.rekor import RekorV2, health_answer
from sigkit.services.log.store import TileLog
from sigkit.services.oidc import OidcIssuer
from sigkit.services.registry import RegistryService, RegistryVariant
from sigkit.services.stack import clients
from sigkit.services.stack.keys import find_bad_keys, load_log_key, make_log_key
from sigkit.services.stack.layout import CLIENTS, LOG_STATE
from sigkit.services.storage import Storage
from sigkit.services.tokens import TokenVerifier
from sigkit.services.tsa import TimestampAuthority
from sigkit.services.tuf import Repository
from sigkit.strict import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.clock import Clock
    from sigkit.services.exchange import Answer, Request
    from sigkit.services.stack.layout import StackConfig

# Each core has a limit of its own, and answers in its own form; this one holds whatever they forget.
_BODY: Final = BodyLimits(8 * 2**20)


def make_cores(directory: str, offline: str, config: StackConfig, clock: Clock) -> None:
    """Make keys, certificates and state of each service, and what clients are handed.

    Args:
        directory: of the stack, with an empty directory for each service.
        offline: an empty directory for the keys that stay offline.
        config: of the stack.
        clock: tells when certificates begin.

    Raises:
        FileUnwritable: (UNAVAIL) no space.
    """
    at = {name: os.path.join(directory, name) for name in ("ca", "ct", "tsa", "oidc", "log", "tuf", CLIENTS)}
    for authority, where in ((CertificateAuthority, "ca"), (TimestampAuthority, "tsa")):
        authority.create_offline(offline, config.name, clock)
        authority.create(at[where], offline, config.name, clock)
    CertificateLog.create(at["ct"], config.origin.host, clock)
    OidcIssuer.create(at["oidc"])
    durable.write(os.path.join(directory, issuer_list.FILE), encode_json({"schema": issuer_list.SCHEMA, "issuers": []}) + b"\n")
    key = make_log_key(directory)
    TileLog.create(os.path.join(at["log"], LOG_STATE), config.origin.host, key, clock)
    chains = ca.FILES.load_chain(at["ca"]), tsa.FILES.load_chain(at["tsa"])
    published = clients.documents(config, *chains, load_public_key(at["ct"]), key.public)
    repository = Repository.create(at["tuf"], offline, clients.targets(published), clock)
    clients.write(at[CLIENTS], published, repository.initial_root)


@contextlib.contextmanager
def opened_cores(directory: str, config: StackConfig, clock: Clock) -> Iterator[tuple[tuple[Mount, ...], Repository]]:
    """Open each service, and give its core with the paths that it answers, and what has to be signed again.

    Raises:
        SigkitError: what a service keeps is damaged, or of another version, or a key is not the one that belongs there.
    """
    for bad in find_bad_keys(directory, config):
        raise bad
    variant = RegistryVariant()
    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(Storage.open(os.path.join(directory, "registry")))
        issuer = open_issuer(directory, config, clock)
        issuer.logins.check()
        session = Session()
        stack.callback(session.close)
        issuers = [*issuer_list.load_issuers(os.path.join(directory, issuer_list.FILE), config.url), Issuer(config.url, OwnIssuer())]
        keys = IssuerKeySets({config.url: issuer.key_set()}, session)
        tokens = TokenVerifier(issuers, keys, clock)
        log = stack.enter_context(opened_log(directory))
        certificate_log = stack.enter_context(opened_certificate_log(directory, clock))
        authority = CertificateAuthority.open(os.path.join(directory, "ca"), tokens, certificate_log, clock)
        stack.callback(authority.close)  # before the log that it writes to
        stack.callback(keys.close)
        repository = clients.open_repository(directory)
        yield (
            (
                Mount("/v2", RegistryService(storage, variant), variant.limits.body),
                Mount("/.well-known", issuer, _BODY),
                Mount("/oidc", issuer, _BODY),
                *(Mount(f"/api/v2/{path}", authority, _BODY) for path in ("signingCert", "trustBundle", "configuration")),
                Mount("/api/v2", RekorV2(log), _BODY),
                Mount("/api/v1/timestamp", TimestampAuthority.open(os.path.join(directory, "tsa"), clock), _BODY),
                Mount("/ct", certificate_log, _BODY),
                Mount("/tuf", repository, _BODY),
                Mount("/healthz", _Health(log, certificate_log.tiles), _BODY),
            ),
            repository,
        )


def open_issuer(directory: str, config: StackConfig, clock: Clock) -> OidcIssuer:
    """Open the stack's issuer, for its operator too: the process that serves it may run or not."""
    return OidcIssuer.open(os.path.join(directory, "oidc"), config.url, clock)


@contextlib.contextmanager
def opened_log(directory: str) -> Iterator[TileLog]:
    """Own the stack's log until the block ends; its files make the tree that it signed last.

    Raises:
        LogDamaged: (TLOG) they do not.
        SigkitError: as `TileLog.open`.
    """
    with TileLog.open(os.path.join(directory, "log", LOG_STATE), load_log_key(directory), terms=terms_of) as log:
        yield log


@contextlib.contextmanager
def opened_certificate_log(directory: str, clock: Clock) -> Iterator[CertificateLog]:
    """Own the stack's certificate log until the block ends; it takes chains of the stack's own root.

    Raises:
        SigkitError: as `opened_log`.
    """
    root = ca.FILES.load_chain(os.path.join(directory, "ca"))[-1]
    with CertificateLog.open(os.path.join(directory, "ct"), root, clock) as log:
        yield log


class _Health:
    """Answers whether the process takes requests."""

    def __init__(self, *logs: TileLog) -> None:
        self._logs = logs

    async def answer(self, request: Request) -> Answer:
        del request
        return health_answer(self._logs)
