"""The directory of a log: how one begins, and which version it is of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from sigkit import durable, strict
from sigkit.errors import DatabaseUnusable, FileUnwritable, Place
from sigkit.services.log.head import sign_head
from sigkit.services.log.journal import Journal, Record
from sigkit.text import format_time
from sigkit.tlog.merkle import leaf_hash

if TYPE_CHECKING:
    from sigkit.clock import Clock
    from sigkit.keys.private import Signer

SCHEMA: Final = "sigkit.log/1"
JOURNAL: Final = "journal"
LOCK: Final = "lock"
LOCK_TIMEOUT_S: Final = 1.0  # for one that is just stopping
_VERSION: Final = "version"


def make_log(path: str, origin: str, key: Signer, clock: Clock) -> None:
    """Make a log with its first entry; see `TileLog.create`."""
    place = Place(path)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        _refuse_other(path)  # before a lock is made in what is something else
    except OSError as err:
        raise FileUnwritable(f"cannot make the log's directory: {err.strerror}", place=place) from err
    first = strict.encode_json({"apiVersion": "0.0.1", "kind": "sigkit-log", "spec": {"origin": origin, "time": format_time(clock.now())}})
    with durable.lock(os.path.join(path, LOCK), timeout_s=LOCK_TIMEOUT_S):
        _refuse_other(path)  # another process may have made one while this one waited
        head = sign_head(origin, key, 1, leaf_hash(first))
        Journal.write(os.path.join(path, JOURNAL), Record(0, (first,), head.checkpoint))
        # Last: a directory without it is one that was never made to the end, and nobody was answered.
        durable.write(os.path.join(path, _VERSION), f"{SCHEMA}\n{origin}\n".encode(), point="log.version")


def _refuse_other(path: str) -> None:
    if not all(name in {JOURNAL, LOCK} or durable.is_unfinished(name) for name in os.listdir(path)):
        raise FileUnwritable("there is a log already, or something else", place=Place(path), expected="an absent or empty directory")


def read_origin(path: str) -> str:
    """Return the origin of the log in a directory.

    Raises:
        DatabaseUnusable: (UNAVAIL) no log, one that is half-made, or of another version.
    """
    file = os.path.join(path, _VERSION)
    place = Place(file)
    if not os.path.exists(file):
        raise DatabaseUnusable("there is no log, or one that is not whole", place=place, remedy="restore it from a backup")
    version, _, rest = strict.decode_utf8(durable.read(file, most_bytes=4_096, place=place), place).partition("\n")
    origin = rest.removesuffix("\n")
    if version != SCHEMA or not origin or "\n" in origin:
        raise DatabaseUnusable("written by another version of sigkit", place=place, expected=SCHEMA, got=version[:80])
    return origin
