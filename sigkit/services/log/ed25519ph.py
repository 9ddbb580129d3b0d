"""The pre-hashed form of Ed25519, checked from the digest: a log is sent no message.

`cryptography` has the pure form only, and libsodium's pre-hashed one wants the message itself. So the equation of the specification is put
together from libsodium's points and scalars; all of it is public, so nothing needs constant time.

Source: RFC 8032 sections 5.1 and 5.1.7.
"""

from __future__ import annotations

import hashlib
from typing import Final

_DOM2: Final = b"SigEd25519 no Ed25519 collisions\x01\x00"  # pre-hashed, and no context
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_POINT_BYTES: Final = 32


def verifies_digest(point: bytes, signature: bytes, digest: bytes) -> bool:
    """Tell whether the key `point` signed a message with this SHA-512 digest.

    Args:
        point: the public key, of an order that is not small (`keys.public` accepts no other).
        signature: 64 bytes, else it is not valid.
        digest: 64 bytes.
    """
    from nacl import bindings
    from nacl.exceptions import RuntimeError as SodiumRefused

    commitment, scalar = signature[:_POINT_BYTES], signature[_POINT_BYTES:]
    if len(signature) != 2 * _POINT_BYTES or not 0 < int.from_bytes(scalar, "little") < _ORDER:  # a larger one would be a second signature
        return False
    challenge = bindings.crypto_core_ed25519_scalar_reduce(hashlib.sha512(_DOM2 + commitment + point + digest).digest())
    try:
        left = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar)
        right = bindings.crypto_scalarmult_ed25519_noclamp(challenge, point)
        return bool(bindings.crypto_core_ed25519_sub(left, right) == commitment)
    except SodiumRefused:  # a point off the curve or of another group
        return False
