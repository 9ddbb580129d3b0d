"""Signing statements and files with a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sigkit import strict
from sigkit.evidence.bundle import MessageSignature, encode_bundle
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope, pre_authentication_encoding

if TYPE_CHECKING:
    from sigkit.digest import Digest
    from sigkit.keys.private import Signer


class Made(NamedTuple):
    """A bundle, byte for byte as it is to be stored, and the bare signature in it."""

    bundle: bytes
    signature: bytes


def sign_payload(payload: bytes, key: Signer) -> Made:
    """Sign an encoded statement.

    No `keyid` is written: cosign refuses any but one spelling. The hint is cosign's: SHA-256 of the public key in base64.
    """
    signature = key.sign(pre_authentication_encoding(IN_TOTO_TYPE, payload))
    return Made(encode_bundle(_hint(key), Envelope(payload, IN_TOTO_TYPE, signature)), signature)


def sign_message(content: bytes, digest: Digest, key: Signer) -> Made:
    """Sign a file's content, whose digest is `digest`."""
    signature = key.sign(content)
    return Made(encode_bundle(_hint(key), MessageSignature(signature, digest)), signature)


def _hint(key: Signer) -> str:
    return strict.encode_base64(key.public.fingerprint.value)
