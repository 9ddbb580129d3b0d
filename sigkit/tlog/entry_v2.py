"""Entries of logs of the second generation: the leaf, made from the evidence.

There is one kind, hashedrekord 0.0.2; an envelope is logged as the digest of its pre-authentication encoding. A leaf is RFC 8785 JSON, so
that everybody writes it alike, and nobody needs the body that comes with a proof.

Source: sigstore/rekor-tiles CLIENTS.md and api/proto; sigstore/protobuf-specs sigstore_common.proto (PublicKeyDetails).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import UnsupportedEntry
from sigkit.keys.public import ECDSA_P256, ECDSA_P384, ECDSA_P521, ED25519, RSA

if TYPE_CHECKING:
    from sigkit.digest import Digest
    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey

KIND: Final = ("hashedrekord", "0.0.2")
# What each kind of key signs for such a log: the name of the scheme, and the hash of the digest.
_SCHEMES: Final = {
    ECDSA_P256: ("PKIX_ECDSA_P256_SHA_256", "sha256"),
    ECDSA_P384: ("PKIX_ECDSA_P384_SHA_384", "sha384"),
    ECDSA_P521: ("PKIX_ECDSA_P521_SHA_512", "sha512"),
    ED25519: ("PKIX_ED25519_PH", "sha512"),
}
_RSA_BITS: Final = (2048, 3072, 4096)
_HASH_NAMES: Final = {"sha256": "SHA2_256", "sha384": "SHA2_384", "sha512": "SHA2_512"}


class CertificateVerifier(Data):
    """The signer's certificate, in DER."""

    der: bytes


class KeyVerifier(Data):
    """The signer's key, as SubjectPublicKeyInfo in DER."""

    spki: bytes


Verifier: TypeAlias = CertificateVerifier | KeyVerifier


def scheme_of(key: PublicKey, place: Place) -> tuple[str, str]:
    """Return what a key signs for such a log: the scheme's name in protobuf, and the hash algorithm.

    Raises:
        UnsupportedEntry: (TLOG) these logs take no such key.
    """
    if key.kind != RSA:
        return _SCHEMES[key.kind]
    bits = key.size_bits
    if bits not in _RSA_BITS:
        raise UnsupportedEntry("logs of this kind take no such key", place=place, expected=f"RSA of {_RSA_BITS} bits", got=f"{bits} bits")
    return f"PKIX_RSA_PKCS1V15_{bits}_SHA256", "sha256"


def encode_hashedrekord(digest: Digest, signature: bytes, verifier: Verifier, key_details: str) -> bytes:
    """Write the leaf for a signature.

    Source: RFC 8785: members sorted, no white space. Everything in it is ASCII.
    """
    if isinstance(verifier, CertificateVerifier):  # sorted, "x509Certificate" and "publicKey" both come after "keyDetails"
        name, raw = "x509Certificate", verifier.der
    else:
        name, raw = "publicKey", verifier.spki
    # A log writes one for each request, and nothing in it needs an escape: names, and base64.
    return (
        f'{{"apiVersion":"{KIND[1]}","kind":"{KIND[0]}","spec":{{"hashedRekordV002":{{'
        f'"data":{{"algorithm":"{_HASH_NAMES[digest.algorithm]}","digest":"{strict.encode_base64(digest.value)}"}},'
        f'"signature":{{"content":"{strict.encode_base64(signature)}",'
        f'"verifier":{{"keyDetails":"{key_details}","{name}":{{"rawBytes":"{strict.encode_base64(raw)}"}}}}}}}}}}}}'
    ).encode("ascii")
