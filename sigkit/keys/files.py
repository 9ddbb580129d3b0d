"""Writing key files: the private one mode 0600, both whole or neither there, and never over another file."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from sigkit import durable
from sigkit.errors import FileUnwritable, Place, SigkitError
from sigkit.keys import cosign_pem
from sigkit.keys.private import generate

if TYPE_CHECKING:
    from sigkit.keys.private import PrivateKey
    from sigkit.keys.public import PublicKey


def write_key_pair(prefix: str, kind: str, password: str) -> PublicKey:
    """Make a key pair of `kind` and write it as `store_key_pair` does.

    Raises:
        UnsupportedKey: (SIG) no such kind can be made.
        FileUnwritable: (UNAVAIL) one of the files is there already, or cannot be written.
    """
    key = generate(kind)
    store_key_pair(prefix, key, password)
    return key.public


def store_key_pair(prefix: str, key: PrivateKey, password: str) -> None:
    """Write `prefix.key`, encrypted, and `prefix.pub`: both new, or neither.

    Raises:
        FileUnwritable: (UNAVAIL) one of the files is there already, or cannot be written.
    """
    private_path, public_path = f"{prefix}.key", f"{prefix}.pub"
    directory = os.path.dirname(prefix) or "."
    if not os.path.isdir(directory):
        raise FileUnwritable("there is no such directory", place=Place.operator(directory), remedy=f"mkdir -p {directory}")
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise FileUnwritable(
                "the file is there already, and a key is never overwritten",
                place=Place.operator(path),
                remedy="choose another --output-key-prefix, or move the old pair away",
            )
    durable.create_new(private_path, cosign_pem.encode_private(key, password), mode=0o600, point="keys.private")
    try:
        durable.create_new(public_path, key.public.encode_pem(), mode=0o644, point="keys.public")
    except SigkitError:
        with contextlib.suppress(OSError):
            os.unlink(private_path)
        raise
