"""Signing statements and files with a key: what its bundle holds, and by what it is proved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, assert_never

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import Place, TooLarge
from sigkit.evidence.bundle import MessageSignature, encode_bundle
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope, pre_authentication_encoding
from sigkit.evidence.statement import parse_statement
from sigkit.keys.public import ECDSA_P384, ECDSA_P521
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.facts import KeySigner

if TYPE_CHECKING:
    from sigkit.evidence.bundle import Content
    from sigkit.keys.private import Signer
    from sigkit.keys.public import PublicKey
    from sigkit.limits import Limits
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.facts import Facts, IdentitySigner

OWN_KEY: Final = "signing key"
BESIDE_BYTES: Final = 64 << 10  # of a bundle, for all but the payload: a certificate, timestamps and entries have 10 KB together
# What the bundle says of the file is the hash that the key signs with, as cosign has it; Ed25519 signs no hash.
_HASHES: Final = {ECDSA_P384: "sha384", ECDSA_P521: "sha512"}


class StatementToSign(Data):
    """An encoded statement: its pre-authentication encoding is signed."""

    payload: bytes


class FileToSign(Data):
    """A file's content: it is signed as it is."""

    content: bytes


ToSign: TypeAlias = StatementToSign | FileToSign


class Complete(Data):
    """What the facts about a finished bundle must hold: this signer, and as many logs and timestamps of distinct operators."""

    signer: KeySigner | IdentitySigner
    logs: int = 0
    timestamps: int = 0


class Made(Data):
    """A bundle, byte for byte as it is to be stored, the bare signature in it, and what the bundle must prove.

    `public` says in sentences what is public by now, for whatever fails after it.
    """

    bundle: bytes
    signature: bytes
    complete: Complete
    public: tuple[str, ...] = ()


class Signatory(Protocol):
    """Makes bundles; where it publishes something, that has been agreed to before."""

    @property
    def root(self) -> TrustedRoot:
        """By what its bundles are proved."""
        ...

    @property
    def publishes(self) -> bool:
        """Tell whether signing makes something public, which cannot be taken back."""
        ...

    @property
    def repeats(self) -> bool:
        """Tell whether it would make again what is there already; else there is no use in looking."""
        ...

    def make(self, thing: ToSign) -> Made:
        """Sign, and return the bundle, not yet verified as a whole."""
        ...

    def has_made(self, facts: Facts) -> bool:
        """Tell whether evidence with these facts is what it would make again, so that there is no use in it."""
        ...


class KeySignatory:
    """Signs with a key, and has nobody else vouch for it."""

    publishes = False
    repeats = True

    def __init__(self, key: Signer) -> None:
        self._key = key
        self.root = root_of_keys([TrustedKey(OWN_KEY, key.public)], OWN_KEY)

    def make(self, thing: ToSign) -> Made:
        """Sign. No `keyid` is written: cosign refuses any but one spelling."""
        signature = self._key.sign(message_of(thing))
        bundle = encode_bundle(hint_of(self._key.public), content_of(thing, signature, self._key.public))
        return Made(bundle, signature, Complete(key_signer(self._key.public)))

    def has_made(self, facts: Facts) -> bool:
        """Tell whether this key made it."""
        return facts.signer.signer == key_signer(self._key.public)


def key_signer(key: PublicKey) -> KeySigner:
    """Return how facts name the key that signs here."""
    return KeySigner(key.fingerprint, key.kind, OWN_KEY)


def hint_of(key: PublicKey) -> str:
    """Return cosign's hint for a key: SHA-256 of its SubjectPublicKeyInfo, in base64."""
    return strict.encode_base64(key.fingerprint.value)


def message_of(thing: ToSign) -> bytes:
    """Return the bytes that a key signs."""
    match thing:
        case StatementToSign():
            return pre_authentication_encoding(IN_TOTO_TYPE, thing.payload)
        case FileToSign():
            return thing.content
        case _:
            assert_never(thing)


def content_of(thing: ToSign, signature: bytes, key: PublicKey) -> Content:
    """Return what a bundle holds of it."""
    match thing:
        case StatementToSign():
            return Envelope(thing.payload, IN_TOTO_TYPE, signature)
        case FileToSign():
            artifact = Artifact.of_content(thing.content)
            return MessageSignature(signature, artifact.by(_HASHES.get(key.kind, "sha256")) or artifact.digest)
        case _:
            assert_never(thing)


def check_statement(thing: ToSign, limits: Limits) -> None:
    """See before anything is signed, and maybe public, that a statement fits into evidence and can be read there.

    Raises:
        TooLarge: (LIMIT) its base64, with what comes beside it, is larger.
        SigkitError: as `parse_statement`: one that is too deep, as its predicate alone may not be.
    """
    if not isinstance(thing, StatementToSign):
        return
    most = max(limits.bundle_bytes - BESIDE_BYTES, 0) // 4 * 3
    if len(thing.payload) > most:
        raise TooLarge(f"more than {most} bytes", got=f"a statement of {len(thing.payload)} bytes, which goes into evidence in base64")
    parse_statement(thing.payload, limits, Place.operator("what is to be signed"))
