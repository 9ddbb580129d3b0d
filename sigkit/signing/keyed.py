"""Signing a statement with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit import strict
from sigkit.evidence.bundle import encode_bundle
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope, pre_authentication_encoding

if TYPE_CHECKING:
    from sigkit.evidence.statement import Statement
    from sigkit.keys.private import Signer


def sign(statement: Statement, key: Signer) -> bytes:
    """Sign `statement` and return the bundle, byte for byte as it is to be stored.

    No `keyid` is written: cosign refuses any but one spelling. The hint is cosign's: SHA-256 of the public key in base64.
    """
    payload = statement.encode()
    signature = key.sign(pre_authentication_encoding(IN_TOTO_TYPE, payload))
    hint = strict.encode_base64(key.public.fingerprint.value)
    return encode_bundle(hint, Envelope(payload, IN_TOTO_TYPE, signature))
