"""Sign a file, or what is said about one: the bundle is verified before its caller may write it anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import Place
from sigkit.evidence.bundle import parse_bundle
from sigkit.evidence.form import Found, evidence_of_bundle
from sigkit.keys.public import ECDSA_P384, ECDSA_P521
from sigkit.limits import DEFAULT
from sigkit.signing.keyed import sign_message, sign_payload
from sigkit.signing.payload import statement_for_file
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.signature import key_hint, verify_by_key
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from sigkit.clock import Clock
    from sigkit.keys.private import Signer
    from sigkit.limits import Limits
    from sigkit.signing.predicate import Predicate
    from sigkit.trust.root import TrustedRoot

_OWN_KEY: Final = "signing key"
_PLACE: Final = Place(_OWN_KEY)
# What the bundle says of the file is the hash that the key signs with, as cosign has it; Ed25519 signs no hash.
_HASHES: Final = {ECDSA_P384: "sha384", ECDSA_P521: "sha512"}


class SignedFile(Data):
    """A bundle about the file whose digest this is, and the bare signature in it."""

    digest: Digest
    bundle: bytes
    signature: bytes


def sign_file(content: bytes, key: Signer, limits: Limits = DEFAULT) -> SignedFile:
    """Sign the content of a file.

    Raises:
        SigError: the signature just made does not verify.
    """
    digest = Digest.of(content)
    said = Digest.of(content, _HASHES[key.public.kind]) if key.public.kind in _HASHES else digest
    made = sign_message(content, said, key)
    signed = parse_bundle(made.bundle, limits, _PLACE).content
    verify_by_key(content, signed.signature, key_hint(TrustedKey(_OWN_KEY, key.public)), _own_root(key), _PLACE)
    return SignedFile(digest, *made)


def attest_file(content: bytes, name: str | None, predicate: Predicate, key: Signer, clock: Clock, limits: Limits = DEFAULT) -> SignedFile:
    """Sign what `predicate` says about a file, whose base name is `name`.

    Raises:
        TooLarge: (LIMIT) the attestation would be larger than evidence may be.
        SigError, BindError: the signature just made does not verify.
    """
    digest = Digest.of(content)
    made = sign_payload(statement_for_file(digest, name, predicate.type).encode(predicate.members), key)
    verify(evidence_of_bundle(made.bundle, Found(_OWN_KEY, None, "file")), digest, _own_root(key), clock.now(), limits)
    return SignedFile(digest, *made)


def _own_root(key: Signer) -> TrustedRoot:
    return root_of_keys([TrustedKey(_OWN_KEY, key.public)], _OWN_KEY)
