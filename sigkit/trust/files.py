"""Trusted roots in files of this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit import durable, limits
from sigkit.errors import Place
from sigkit.trust.trusted_root import parse_trusted_root

if TYPE_CHECKING:
    from sigkit.trust.root import TrustedRoot


def load_trusted_root(path: str) -> TrustedRoot:
    """Read a `trusted_root.json`; in facts it is called by its path as given, since many have one name.

    Raises:
        FileUnreadable: (UNAVAIL) it cannot be read.
        SigkitError: as `parse_trusted_root`; the place is the operator's.
    """
    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.BUNDLE_BYTES, place=place)
    return parse_trusted_root(raw, path, place, limits.DEFAULT)
