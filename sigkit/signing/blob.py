"""Sign a file, or what is said about one: the bundle is verified before its caller may write it anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.evidence.form import Found, evidence_of_bundle
from sigkit.keys.public import ECDSA_P384, ECDSA_P521
from sigkit.limits import DEFAULT
from sigkit.signing.keyed import sign_message, sign_payload
from sigkit.signing.payload import statement_for_file
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify

if TYPE_CHECKING:
    from sigkit.clock import Clock
    from sigkit.digest import Digest
    from sigkit.keys.private import Signer
    from sigkit.limits import Limits
    from sigkit.signing.predicate import Predicate

_OWN_KEY: Final = "signing key"
# What the bundle says of the file is the hash that the key signs with, as cosign has it; Ed25519 signs no hash.
_HASHES: Final = {ECDSA_P384: "sha384", ECDSA_P521: "sha512"}


class SignedFile(Data):
    """A bundle about the file whose digest this is, and the bare signature in it."""

    digest: Digest
    bundle: bytes
    signature: bytes


def sign_file(content: bytes, key: Signer, clock: Clock, limits: Limits = DEFAULT) -> SignedFile:
    """Sign the content of a file.

    Raises:
        SigError, BindError: the signature just made does not verify.
    """
    artifact = Artifact.of_content(content)
    made = sign_message(content, artifact.by(_HASHES.get(key.public.kind, "sha256")) or artifact.digest, key)
    _verify_own(made.bundle, artifact, key, clock, limits)
    return SignedFile(artifact.digest, *made)


def attest_file(content: bytes, name: str | None, predicate: Predicate, key: Signer, clock: Clock, limits: Limits = DEFAULT) -> SignedFile:
    """Sign what `predicate` says about a file, whose base name is `name`.

    Raises:
        TooLarge: (LIMIT) the attestation would be larger than evidence may be.
        SigError, BindError: the signature just made does not verify.
    """
    artifact = Artifact.of_content(content)
    made = sign_payload(statement_for_file(artifact.digest, name, predicate.type).encode(predicate.members), key)
    _verify_own(made.bundle, artifact, key, clock, limits)
    return SignedFile(artifact.digest, *made)


def _verify_own(bundle: bytes, artifact: Artifact, key: Signer, clock: Clock, limits: Limits) -> None:
    root = root_of_keys([TrustedKey(_OWN_KEY, key.public)], _OWN_KEY)
    verify(evidence_of_bundle(bundle, Found(_OWN_KEY, None, "file")), artifact, root, clock.now(), limits)
