"""Decompresses a layer: plain, gzip or zstd, as its media type says and its first bytes confirm.

Every member of a gzip stream and every frame of a zstd stream counts, for a reader that stops after the first sees another layer.
A zstd table of contents (zstd:chunked, eStargz) is data like any other: what it says about the layer is never used
(containers/storage#1778). Output comes in pieces of bounded size, so a bomb costs time and disk, never memory.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from sigkit import limits
from sigkit.errors import MalformedLayer, WrongCompression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class Decoder(Protocol):
        """A decoder of one gzip member or one zstd frame."""

        @property
        def eof(self) -> bool:
            """Whether the member is complete."""
            ...

        @property
        def needs_input(self) -> bool:
            """Whether nothing more comes without more input."""
            ...

        @property
        def unused_data(self) -> bytes:
            """What follows the member in the input."""
            ...

        def decompress(self, data: bytes, max_length: int, /) -> bytes:
            """Give at most `max_length` bytes; the rest waits inside."""
            ...


class Compression(Enum):
    """How a layer's tar archive is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


PIECE_BYTES = 256 * 1024  # fits the second-level cache: inflated, hashed and written while it is there

_GZIP_MAGIC = (b"\x1f\x8b",)
# RFC 8878 §3.1: a frame, or a skippable frame (0x184D2A50 to 5F, little-endian).
_ZSTD_MAGIC = (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16)))


def load_decoder(compression: Compression) -> None:
    """Import what `inflated` needs, for a process that will not be able to import later."""
    match compression:
        case Compression.NONE:
            pass
        case Compression.GZIP:
            _gzip()
        case Compression.ZSTD:
            _zstd()


def inflated(read: Callable[[], bytes], compression: Compression) -> Iterator[bytes]:
    """Give the uncompressed bytes of the stream that `read` gives piece by piece, until `b""`.

    Raises:
        WrongCompression: (UNPACK) the first bytes are of another kind, or the window is too large.
        MalformedLayer: (UNPACK) damaged, cut off, or followed by something else.
    """
    first = _start(b"", read)
    _check_magic(first, compression)
    match compression:
        case Compression.NONE:
            return _plain(first, read)
        case Compression.GZIP:
            return _members(first, read, _gzip())
        case Compression.ZSTD:
            return _members(first, read, _zstd())


class _Codec(NamedTuple):
    new: Callable[[], Decoder]
    error: type[Exception]
    magic: tuple[bytes, ...]


def _gzip() -> _Codec:
    from isal import igzip_lib

    failed: type[Exception] = igzip_lib.error  # type: ignore[assignment]  # its stub names an instance
    return _Codec(lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), failed, _GZIP_MAGIC)


def _zstd() -> _Codec:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: limits.ZSTD_WINDOW_LOG}
    return _Codec(lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError, _ZSTD_MAGIC)


def _check_magic(first: bytes, compression: Compression) -> None:
    found = Compression.NONE
    if first.startswith(_GZIP_MAGIC):
        found = Compression.GZIP
    elif first.startswith(_ZSTD_MAGIC):
        found = Compression.ZSTD
    if found is not compression:
        raise WrongCompression("the layer is not compressed as its media type says", expected=compression.value, got=found.value)


def _start(data: bytes, read: Callable[[], bytes]) -> bytes:
    """Return `data` with enough read after it to hold a magic number, if there is enough."""
    while len(data) < 4:
        more = read()
        if not more:
            break
        data += more
    return data


def _plain(first: bytes, read: Callable[[], bytes]) -> Iterator[bytes]:
    data = first
    while data:
        for at in range(0, len(data), PIECE_BYTES):
            yield data[at : at + PIECE_BYTES]
        data = read()


def _members(data: bytes, read: Callable[[], bytes], codec: _Codec) -> Iterator[bytes]:
    while data:
        if not data.startswith(codec.magic):
            raise MalformedLayer("something else follows the compressed data")
        decoder = codec.new()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = read()
                if not data:
                    raise MalformedLayer("the compressed data is cut off")
            try:
                piece = decoder.decompress(data, PIECE_BYTES)
            except codec.error as err:
                if "memory" in str(err):  # zstd's only word for a window beyond the limit
                    raise WrongCompression("a zstd window beyond the limit", expected=f"at most {2**limits.ZSTD_WINDOW_LOG} bytes") from err
                raise MalformedLayer(f"damaged compressed data: {err}") from err
            data = b""
            if piece:
                yield piece
        data = _start(decoder.unused_data, read)
