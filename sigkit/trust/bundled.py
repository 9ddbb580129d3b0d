"""The public-good instance's trusted root, as a dated copy that comes with sigkit.

A copy knows nothing of keys that were replaced after it, so its age is shown wherever it is used. `public_good.json` is the target
`trusted_root.json` of tuf-repo-cdn.sigstore.dev as the package sigstore 4.5.1 carries it, byte for byte.
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

NAME: Final = "public-good"
COPIED: Final = date(2026, 10, 20)  # the day on which sigstore 4.5.1 was uploaded: the copy is at least as old
_FILE: Final = os.path.join(os.path.dirname(__file__), "public_good.json")


def load_public_good() -> TrustedRoot:
    """Read the copy.

    Raises:
        FileUnreadable: (UNAVAIL) this installation of sigkit is not whole.
    """
    place = Place(_FILE)
    return parse_trusted_root(durable.read(_FILE, most_bytes=limits.BUNDLE_BYTES, place=place), NAME, place, limits.DEFAULT)


def age_days(today: date) -> int:
    """Return how old the copy is, at least, in days."""
    return (today - COPIED).days
