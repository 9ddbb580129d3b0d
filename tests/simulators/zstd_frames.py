"""Zstandard frames for layers (RFC 8878), with whatever module this Python has."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def frame(data: bytes, window_log: int | None = None) -> bytes:
    """Return one compressed frame; with `window_log`, one that demands a window of that size."""
    if window_log is None:
        return zstd.compress(data)
    options: dict[int, int] = {zstd.CompressionParameter.window_log: window_log, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(data) + compressor.flush()


def skippable(data: bytes) -> bytes:
    """Return a frame that decoders pass over."""
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data
