"""The keys that the process of a stack signs with: each is there, belongs to its certificate, and is the one that clients were told of.

Another key is worse than none: what it signs looks whole, and is refused by whoever verifies it first, perhaps years later.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sigkit.errors import ForeignServices, Place, SigkitError
from sigkit.services import ca, ct, oidc, pki, tsa
from sigkit.services.stack import clients
from sigkit.services.stack.access import find_unsafe_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sigkit.keys.private import PrivateKey
    from sigkit.services.stack.layout import StackConfig
    from sigkit.trust.root import CertificateAuthority, TimestampAuthority, TransparencyLog, TrustedRoot

_LOG_KEY: Final = "log/log.key"


def make_log_key(directory: str) -> PrivateKey:
    """Make the key of the stack's log.

    Raises:
        FileUnwritable: (UNAVAIL) there is one, no space, no permission.
    """
    return pki.make_log_key(os.path.join(directory, _LOG_KEY))


def load_log_key(directory: str) -> PrivateKey:
    """Read the key of the stack's log.

    Raises:
        SigkitError: as `pki.load_log_key`.
    """
    return pki.load_log_key(os.path.join(directory, _LOG_KEY))


def find_bad_keys(directory: str, config: StackConfig) -> Iterator[SigkitError]:
    """Give for each key that the running process needs and must not sign with why that is; the place is its file.

    Raises:
        SigkitError: TUF's repository is not whole: it says which are its keys, and what clients were told.
    """
    repository = clients.open_repository(directory)
    told = clients.read_trusted_root(repository)
    yield from find_unsafe_keys(directory)
    for check in (*_TOLD, _check_unlisted):
        try:
            check(directory, config, told)
        except SigkitError as err:
            yield err
    yield from repository.find_bad_keys()


def check_told(directory: str, config: StackConfig, told: TrustedRoot) -> None:
    """Prove that what a trust root lists under the stack's URL is what signs here.

    Raises:
        ForeignServices: (ROOT) something else is; the place is the file of the key.
        SigkitError: a key cannot be read.
    """
    for check in _TOLD:
        check(directory, config, told)


def _check_ca(directory: str, config: StackConfig, told: TrustedRoot) -> None:
    _check_authority(os.path.join(directory, "ca"), ca.FILES, config, told.certificate_authorities)


def _check_tsa(directory: str, config: StackConfig, told: TrustedRoot) -> None:
    _check_authority(os.path.join(directory, "tsa"), tsa.FILES, config, told.timestamp_authorities)


def _check_authority(
    directory: str, files: pki.Files, config: StackConfig, told: Iterable[CertificateAuthority | TimestampAuthority]
) -> None:
    _, chain = files.load(directory)
    certificates = [certificate for item in told if clients.is_of(config, item.name) for certificate in item.certificates]
    _check_told(os.path.join(directory, files.key), chain[0], certificates)


def _check_certificate_log(directory: str, config: StackConfig, told: TrustedRoot) -> None:
    path = os.path.join(directory, "ct", ct.KEY)
    _check_told(path, pki.spki(pki.load_key(path).public_key()), _keys_of(config, told.ct_logs))


def _check_log(directory: str, config: StackConfig, told: TrustedRoot) -> None:
    _check_told(os.path.join(directory, _LOG_KEY), load_log_key(directory).public.spki, _keys_of(config, told.logs))


def _keys_of(config: StackConfig, told: Iterable[TransparencyLog]) -> list[bytes]:
    return [log.key.spki for log in told if clients.is_of(config, log.name)]


def _check_told(path: str, own: object, told: Sequence[object]) -> None:
    """Refuse what signs here in place of what clients were told of; that they were told of services elsewhere is the operator's will."""
    if told and own not in told:
        raise ForeignServices(
            "the trust root that clients have lists another under this stack's URL",
            place=Place.operator(path),
            remedy="restore the file from a backup of this stack; or, if the file is right, publish the stack's own root again",
        )


def _check_unlisted(directory: str, *_: object) -> None:
    pki.load_log_key(os.path.join(directory, "ct", ct.CHECKPOINT_KEY))
    pki.load_key(os.path.join(directory, "oidc", oidc.KEY))


_TOLD: Final = (_check_ca, _check_tsa, _check_certificate_log, _check_log)
