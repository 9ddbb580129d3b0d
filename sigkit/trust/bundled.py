"""The public-good instance, as a dated copy that comes with sigkit: its trusted root, its signing config, the root of its repository.

A copy knows nothing of keys that were replaced after it, so its age is shown wherever it is used; `sigkit trust init public-good` fetches
the newest from then on. The files are those of tuf-repo-cdn.sigstore.dev as the package sigstore 4.5.1 carries them, byte for byte: the
targets `trusted_root.json` and `signing_config.v0.2.json`, and `15.root.json`, which is the same in sigstore/root-signing.
"""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.errors import Place
from sigkit.trust.trusted_root import parse_trusted_root

if TYPE_CHECKING:
    from sigkit.trust.root import TrustedRoot
    from sigkit.trust.signing_config import SigningConfig

NAME: Final = "public-good"
MIRROR: Final = "https://tuf-repo-cdn.sigstore.dev"
COPIED: Final = date(2026, 10, 20)  # the day on which sigstore 4.5.1 was uploaded: the copy is at least as old


def load_public_good() -> TrustedRoot:
    """Read the copy of the trusted root.

    Raises:
        FileUnreadable: (UNAVAIL) this installation of sigkit is not whole.
    """
    raw, place = _read("public_good.json")
    return parse_trusted_root(raw, NAME, place, limits.DEFAULT)


def load_public_good_signing_config() -> SigningConfig:
    """Read the copy of the signing config.

    Raises:
        FileUnreadable: (UNAVAIL) this installation of sigkit is not whole.
    """
    from sigkit.trust.signing_config import parse_signing_config

    raw, place = _read("public_good_signing_config.json")
    return parse_signing_config(raw, place, limits.DEFAULT)


def load_public_good_tuf_root() -> bytes:
    """Read the copy of the root of the TUF repository: what its metadata is proved from.

    Raises:
        FileUnreadable: (UNAVAIL) this installation of sigkit is not whole.
    """
    return _read("public_good_root.json")[0]


def age_days(today: date) -> int:
    """Return how old the copy is, at least, in days."""
    return (today - COPIED).days


def _read(name: str) -> tuple[bytes, Place]:
    path = os.path.join(os.path.dirname(__file__), name)
    place = Place(path)
    return durable.read(path, most_bytes=limits.BUNDLE_BYTES, place=place), place
