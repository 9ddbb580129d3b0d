"""Trusted roots in files of this host, and which of a file and a name a text is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sigkit import durable, limits
from sigkit.errors import Place
from sigkit.trust.pins import is_name
from sigkit.trust.trusted_root import parse_trusted_root

if TYPE_CHECKING:
    from sigkit.trust.root import TrustedRoot
    from sigkit.trust.store import RootStore


def load_trusted_root(path: str) -> TrustedRoot:
    """Read a `trusted_root.json`; in facts it has the name of its file.

    Raises:
        FileUnreadable: (UNAVAIL) it cannot be read.
        SigkitError: as `parse_trusted_root`; the place is the operator's.
    """
    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.BUNDLE_BYTES, place=place)
    return parse_trusted_root(raw, os.path.basename(path), place, limits.DEFAULT)


def load_named_root(text: str, store: RootStore) -> TrustedRoot:
    """Read what a user calls a trusted root: a name that is pinned on this machine, or a file, whose path has a dot or a slash.

    A file of this name in the working directory, which may be anybody's, is not meant.

    Raises:
        SigkitError: as `load_trusted_root` and `RootStore.load`.
    """
    return store.load(text).root if is_name(text) else load_trusted_root(text)
