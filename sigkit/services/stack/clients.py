"""What clients of a stack are handed: the trust root that proves its evidence, and the signing config that says where its services are.

The same two documents are the targets of its TUF repository. With one operator and one service of each kind every client chooses alike.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.data import Data
from sigkit.errors import Place
from sigkit.keys.public import parse_public_key
from sigkit.services.tuf import Repository
from sigkit.strict import parse_json
from sigkit.trust import store
from sigkit.trust.root import TrustedRoot, Window
from sigkit.trust.signing_config import Service
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.trust.write import (
    WRITTEN,
    certificate_authority_of,
    certificate_log_of,
    encode_signing_config,
    encode_trusted_root,
    log_of,
    timestamp_authority_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

    from sigkit.keys.public import PublicKey
    from sigkit.services.stack.layout import StackConfig

TRUSTED_ROOT: Final = "trusted_root.json"
SIGNING_CONFIG: Final = "signing_config.json"
TRUST_CONFIG: Final = "trust_config.json"  # both in one, which sigstore-python takes
INITIAL_ROOT: Final = "root.json"  # of TUF, which `cosign initialize` takes
_TRUST_CONFIG_TYPE: Final = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"


_STAMPS: Final = "/api/v1/timestamp"


class Documents(Data):
    """Both documents, as their files."""

    trusted_root: bytes
    signing_config: bytes


def documents(
    config: StackConfig, ca: Sequence[x509.Certificate], tsa: Sequence[x509.Certificate], ct_key: bytes, log_key: PublicKey
) -> Documents:
    """Write both documents for a stack's services.

    Args:
        config: of the stack.
        ca: the certificate authority's chain, the intermediate first.
        tsa: the timestamp authority's chain, the signing certificate first.
        ct_key: of the certificate log, in DER.
        log_key: of the transparency log.
    """
    url, name = config.url, config.name
    valid = Window(config.created, None)
    stamps = url + _STAMPS
    root = TrustedRoot(
        config.name,
        WRITTEN.digest,
        (),
        logs=(log_of(url, log_key, valid, name),),
        certificate_authorities=(certificate_authority_of(url, ca, valid, name),),
        ct_logs=(certificate_log_of(url, parse_public_key(ct_key, Place("ct")), valid, name),),
        timestamp_authorities=(timestamp_authority_of(stamps, tsa, valid, name),),
    )
    one = Service(url, 1, valid, name)
    signing = encode_signing_config(
        certificate_authorities=[one],
        issuers=[one],
        logs=[Service(url, 2, valid, name)],
        timestamp_authorities=[Service(stamps, 1, valid, name)],
    )
    return Documents(encode_trusted_root(root), signing)


def targets(published: Documents) -> Mapping[str, bytes]:
    """Return them by the names that clients look them up by in a TUF repository."""
    return {store.TRUSTED_ROOT: published.trusted_root, store.SIGNING_CONFIG: published.signing_config}


def open_repository(directory: str) -> Repository:
    """Open the TUF repository of the stack in `directory`.

    Raises:
        FileUnreadable: (UNAVAIL) it is not whole.
    """
    return Repository.open(os.path.join(directory, "tuf"))


def read_trusted_root(repository: Repository) -> TrustedRoot:
    """Read the trust root that clients get now.

    Raises:
        FileUnreadable: (UNAVAIL) the repository is not whole.
        SigkitError: (PARSE, ROOT, LIMIT) it is malformed.
    """
    raw, place = repository.read_target(store.TRUSTED_ROOT)
    return parse_trusted_root(raw, TRUSTED_ROOT, place, limits.DEFAULT)


def is_of(config: StackConfig, url: str) -> bool:
    """Tell whether a trust root that names a service so means this stack's."""
    return url.rstrip("/").removesuffix(_STAMPS) == config.url


def write(directory: str, published: Documents, initial_root: bytes) -> None:
    """Write what clients are handed into `directory`.

    Raises:
        FileUnwritable: (UNAVAIL) no space.
    """
    place = Place(directory)
    both = {
        "mediaType": _TRUST_CONFIG_TYPE,
        "trustedRoot": parse_json(published.trusted_root, most_bytes=len(published.trusted_root), place=place).value,
        "signingConfig": parse_json(published.signing_config, most_bytes=len(published.signing_config), place=place).value,
    }
    for name, content in (
        (TRUSTED_ROOT, published.trusted_root),
        (SIGNING_CONFIG, published.signing_config),
        (TRUST_CONFIG, json.dumps(both, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"),
        (INITIAL_ROOT, initial_root),
    ):
        durable.write(os.path.join(directory, name), content)
