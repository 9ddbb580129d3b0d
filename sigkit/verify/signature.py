"""Who signed: the trusted key, or the key in the certificate, that verifies the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import BadSignature, DigestNotCompared, OtherKey
from sigkit.evidence.bundle import describe_hint

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.trust.root import TrustedKey, TrustedRoot
    from sigkit.verify.bind import Artifact


class OverBytes(Data):
    """These bytes were signed."""

    message: bytes


class OverArtifact(Data):
    """The artifact's own bytes were signed, of which perhaps only digests are known."""

    artifact: Artifact


Signed: TypeAlias = OverBytes | OverArtifact


def key_hint(key: TrustedKey) -> str:
    """Return the hint that cosign 3 writes for a key: its fingerprint in base64."""
    return strict.encode_base64(key.key.fingerprint.value)


def verify_by_key(signed: Signed, signature: bytes, hint: str, root: TrustedRoot, place: Place) -> TrustedKey:
    """Prove that one of the root's keys made the signature, and return which.

    Args:
        signed: what was signed.
        signature: over it.
        hint: names the key to try first. It is not signed: a wrong one costs time and changes no answer.
        root: its keys are all the keys there are.
        place: of the evidence.

    Raises:
        BadSignature: (SIG) the key that the hint names did not make it, nor did another; or nothing names a key, and it may as well be that
            the file was changed.
        OtherKey: (SIG) the hint names none of the root's keys, and none of them made it.
        DigestNotCompared: (BIND) the artifact is not known by a digest that such a key signs.
    """
    hinted = [key for key in root.keys if key_hint(key) == hint]
    uncompared: DigestNotCompared | None = None
    for trusted in (*hinted, *(key for key in root.keys if key not in hinted)):
        try:
            verify_signature(trusted.key, signed, signature, place)
        except DigestNotCompared as err:  # another key may sign such a digest: the order of keys decides nothing
            uncompared = uncompared or err
            continue
        except BadSignature:
            continue
        return trusted
    if uncompared:
        raise uncompared
    if hinted:
        raise BadSignature("the signature is not valid for the key that it names", place=place, expected=_describe(hinted[0]))
    trusted_keys = " or ".join(map(_describe, root.keys)) or "a key: none is trusted"
    if not hint and isinstance(signed, OverArtifact) and root.keys:
        raise BadSignature(
            "the signature does not fit this file and key: the file was changed, or another key signed", place=place, expected=trusted_keys
        )
    raise OtherKey(
        "no trusted key made this signature",
        place=place,
        expected=trusted_keys,
        got=describe_hint(hint),
    )


def verify_signature(key: PublicKey, signed: Signed, signature: bytes, place: Place) -> None:
    """Prove that `key` made the signature.

    Raises:
        BadSignature: (SIG) it did not.
        DigestNotCompared: (BIND) the artifact is known by digests alone, and a key of this kind signs none of them.
    """
    if isinstance(signed, OverBytes):
        return key.verify(signature, signed.message)
    artifact = signed.artifact
    if artifact.content is not None:
        return key.verify(signature, artifact.content)
    fitting = [digest for digest in artifact.digests if digest.algorithm in key.digest_algorithms]
    if not fitting:
        raise DigestNotCompared(
            f"a key of kind {key.kind} signs no digest that is known of the artifact",
            place=place,
            expected=" or ".join(key.digest_algorithms) or "the file itself",
            got=str(artifact.digest),
            remedy="verify with the file itself instead of its digest",
        )
    for digest in fitting[:-1]:
        try:
            return key.verify_digest(signature, digest)
        except BadSignature:
            continue
    return key.verify_digest(signature, fitting[-1])


def _describe(trusted: TrustedKey) -> str:
    return f"{trusted.name} ({trusted.key.kind} {trusted.key.fingerprint})"
