"""The trust root that is handed to verification: everything whose word counts, under a name and a digest.

Public keys that flags or a policy name are part of it. Whether a signer is the *wanted* one is the policy's question.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import DuplicateTrustedKey, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sigkit.keys.public import PublicKey

_DIGEST_DOMAIN = b"sigkit.trusted-keys/1\n"


class TrustedKey(Data):
    """A public key and what flags or a policy call it: `release`, or the file's name."""

    name: str
    key: PublicKey


class TrustedRoot(Data):
    """What verification trusts. Two roots with the same content have the same digest, whatever they are called."""

    name: str
    digest: Digest
    keys: tuple[TrustedKey, ...]


def root_of_keys(keys: Iterable[TrustedKey], name: str) -> TrustedRoot:
    """Make a trust root of keys alone.

    Its digest covers the keys, in the order of their fingerprints, and not their names.

    Raises:
        DuplicateTrustedKey: (ROOT) one key twice, under one name or two.
    """
    trusted = tuple(keys)
    seen: dict[bytes, str] = {}
    for item in trusted:
        if item.key.spki in seen:
            got = f"{seen[item.key.spki]} and {item.name}: {item.key.fingerprint}"
            raise DuplicateTrustedKey("the same key is given twice", place=Place.operator(item.name), got=got)
        seen[item.key.spki] = item.name
    content = hashlib.sha256(_DIGEST_DOMAIN)
    for fingerprint in sorted(str(item.key.fingerprint) for item in trusted):
        content.update(f"{fingerprint}\n".encode("ascii"))
    return TrustedRoot(name, Digest("sha256", content.digest()), trusted)
