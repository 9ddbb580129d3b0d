"""Content digests: the only names that sigkit trusts.

Source: OCI image-spec, descriptor.md "Digests". sha384 is not registered there; it is accepted because in-toto statements use it.
"""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING, Final

from sigkit.errors import NOWHERE, DigestMismatch, MalformedDigest, Place, SizeMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
CHUNK_BYTES = 1 << 20

_HEX = frozenset("0123456789abcdef")


class Digest:
    """An algorithm and the bytes it gave. Immutable; equal by value; `str()` is `sha256:<hex>`."""

    __slots__ = ("algorithm", "value")

    algorithm: str
    value: bytes

    def __init__(self, algorithm: str, value: bytes) -> None:
        if SIZES.get(algorithm) != len(value):
            raise MalformedDigest(
                "not a digest of an accepted algorithm", expected="32, 48 or 64 bytes of sha256, sha384 or sha512", got=algorithm
            )
        object.__setattr__(self, "algorithm", algorithm)
        object.__setattr__(self, "value", value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Digest.{name} cannot be changed")

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Compute the digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data, usedforsecurity=True).digest())

    @property
    def hex(self) -> str:
        """The value in lower-case hexadecimal."""
        return self.value.hex()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    def __repr__(self) -> str:
        return f"Digest({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.algorithm == other.algorithm and self.value == other.value

    def __hash__(self) -> int:
        return hash((self.algorithm, self.value))


def parse_digest(text: str, place: Place = NOWHERE) -> Digest:
    """Parse `algorithm:hex`.

    Raises:
        MalformedDigest: another algorithm, upper-case hex, a wrong length, or anything else (CVE-2024-3727: never used as a path before).
    """
    algorithm, colon, encoded = text.partition(":")
    size = SIZES.get(algorithm)
    if not colon or size is None or len(encoded) != 2 * size or not _HEX.issuperset(encoded):
        raise MalformedDigest(
            "malformed digest",
            place=place,
            expected="sha256:<64 hex>, sha384:<96 hex> or sha512:<128 hex>, in lower case",
            got=text[:160],
        )
    return Digest(algorithm, bytes.fromhex(encoded))


def check_digest(data: bytes, expected: Digest, place: Place) -> bytes:
    """Return `data` if `expected` names it.

    Raises:
        DigestMismatch: it does not.
    """
    got = Digest.of(data, expected.algorithm)
    if got != expected:
        raise DigestMismatch("the bytes are not those that the digest names", place=place, expected=str(expected), got=str(got))
    return data


class VerifyingReader:
    """A stream that gives its end only if size and digest fit.

    What was read before the end is unproved: keep it where nobody takes it for content until `read` has returned `b""`.
    """

    def __init__(self, stream: IO[bytes], *, digest: Digest, size_bytes: int, place: Place) -> None:
        """Wrap `stream`, which must hold exactly `size_bytes` bytes of that digest."""
        self._stream = stream
        self._hash = hashlib.new(digest.algorithm, usedforsecurity=True)
        self._digest = digest
        self._size_bytes = size_bytes
        self._left = size_bytes
        self._place = place
        self._proved = False

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """Return up to `size` bytes, or `b""` once all bytes are proved.

        Raises:
            SizeMismatch: the stream is shorter or longer than promised.
            DigestMismatch: its bytes have another digest.
        """
        if self._proved:
            return b""
        chunk = self._stream.read(min(size, self._left) if self._left else 1)
        if self._left and chunk:
            self._hash.update(chunk)
            self._left -= len(chunk)
            return chunk
        self._prove_end(more=chunk)
        return b""

    def _prove_end(self, more: bytes) -> None:
        if self._left or more:
            got = "more" if more else str(self._size_bytes - self._left)
            raise SizeMismatch("not the promised size", place=self._place, expected=f"{self._size_bytes} bytes", got=got)
        got_digest = Digest(self._digest.algorithm, self._hash.digest())
        if got_digest != self._digest:
            raise DigestMismatch(
                "the bytes are not those that the digest names",
                place=self._place,
                expected=str(self._digest),
                got=str(got_digest),
            )
        self._proved = True

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read():
            yield chunk
