"""Who signed: the one trusted key that verifies the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit import strict
from sigkit.errors import BadSignature, OtherKey
from sigkit.verify.facts import KeySigner, SignerFact, Source

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.trust.root import TrustedKey, TrustedRoot


def key_hint(key: TrustedKey) -> str:
    """Return the hint that cosign 3 writes for a key: its fingerprint in base64."""
    return strict.encode_base64(key.key.fingerprint.value)


def verify_by_key(message: bytes, signature: bytes, hint: str, root: TrustedRoot, place: Place) -> SignerFact:
    """Prove that one of the root's keys signed `message`.

    Args:
        message: the very bytes that were signed.
        signature: over `message`.
        hint: names the key to try first. It is not signed: a wrong one costs time and changes no answer.
        root: its keys are all the keys there are.
        place: of the evidence.

    Raises:
        BadSignature: (SIG) the key that the hint names did not make it, nor did another.
        OtherKey: (SIG) the hint names none of the root's keys, and none of them made it.
    """
    hinted = [key for key in root.keys if key_hint(key) == hint]
    for trusted in (*hinted, *(key for key in root.keys if key not in hinted)):
        try:
            trusted.key.verify(signature, message)
        except BadSignature:
            continue
        signer = KeySigner(trusted.key.fingerprint, trusted.key.kind, trusted.name)
        return SignerFact(signer, Source(root.name, root.digest, trusted.name))
    if hinted:
        raise BadSignature("the signature is not valid for the key that it names", place=place, expected=_describe(hinted[0]))
    raise OtherKey(
        "no trusted key made this signature",
        place=place,
        expected=" or ".join(map(_describe, root.keys)) or "a key: none is trusted",
        got=f"a key whose hint is {hint[:100]}" if hint else "a key without a hint",
    )


def _describe(trusted: TrustedKey) -> str:
    return f"{trusted.name} ({trusted.key.kind} {trusted.key.fingerprint})"
