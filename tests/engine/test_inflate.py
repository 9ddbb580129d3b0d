"""Decompression of layers: whole streams or refusals."""

from __future__ import annotations

import gzip
import os

import pytest

from sigkit.engine.inflate import Compression, inflated
from sigkit.errors import Kind, MalformedLayer, SigkitError, WrongCompression
from tests.simulators.zstd_frames import frame, skippable

DATA = os.urandom(1000) * 1000


def inflate(packed: bytes, compression: Compression, step: int = 4000) -> bytes:
    pieces = iter([packed[at : at + step] for at in range(0, len(packed), step)])
    return b"".join(inflated(lambda: next(pieces, b""), compression))


@pytest.mark.parametrize("step", [1, 7, 4000, 1 << 20])
def test_each_compression_gives_the_data_back_in_pieces_of_any_size(step):
    some = DATA[:20_000]
    assert inflate(gzip.compress(some), Compression.GZIP, step) == some
    assert inflate(frame(some), Compression.ZSTD, step) == some
    assert inflate(some, Compression.NONE, step) == some


def test_members_and_frames_are_one_stream():
    parts = [DATA[:1000], b"", DATA[1000:5000]]
    assert inflate(b"".join(gzip.compress(part) for part in parts), Compression.GZIP) == DATA[:5000]
    assert inflate(skippable(b"toc") + b"".join(frame(part) for part in parts) + skippable(b""), Compression.ZSTD) == DATA[:5000]


def test_output_comes_in_small_pieces():
    packed = gzip.compress(bytes(50 << 20))
    pieces = iter([packed])
    assert max(len(piece) for piece in inflated(lambda: next(pieces, b""), Compression.GZIP)) <= 1 << 20


@pytest.mark.parametrize(
    ("packed", "compression"),
    [
        pytest.param(gzip.compress(b"x"), Compression.NONE, id="gzip-as-tar"),
        pytest.param(gzip.compress(b"x"), Compression.ZSTD, id="gzip-as-zstd"),
        pytest.param(frame(b"x"), Compression.GZIP, id="zstd-as-gzip"),
        pytest.param(skippable(b"x"), Compression.NONE, id="skippable-as-tar"),
        pytest.param(b"plain", Compression.GZIP, id="tar-as-gzip"),
        pytest.param(b"", Compression.GZIP, id="nothing-as-gzip"),
        pytest.param(b"", Compression.ZSTD, id="nothing-as-zstd"),
        pytest.param(b"\xfd7zXZ\0", Compression.GZIP, id="xz-as-gzip"),
    ],
)
def test_first_bytes_must_fit_the_media_type(packed, compression):
    with pytest.raises(WrongCompression):
        inflate(packed, compression)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("packed", "compression"),
    [
        pytest.param(gzip.compress(DATA)[:-1], Compression.GZIP, id="gzip-cut"),
        pytest.param(gzip.compress(DATA)[:100], Compression.GZIP, id="gzip-cut-early"),
        pytest.param(_flipped(gzip.compress(DATA), -6), Compression.GZIP, id="gzip-checksum"),
        pytest.param(_flipped(gzip.compress(DATA), 700), Compression.GZIP, id="gzip-bit"),
        pytest.param(gzip.compress(DATA) + b"junk", Compression.GZIP, id="gzip-junk"),
        pytest.param(gzip.compress(DATA) + bytes(512), Compression.GZIP, id="gzip-zeros"),
        pytest.param(frame(DATA)[:-1], Compression.ZSTD, id="zstd-cut"),
        pytest.param(frame(DATA) + b"junk", Compression.ZSTD, id="zstd-junk"),
    ],
)
def test_damaged_stream_is_refused(packed, compression):
    with pytest.raises(MalformedLayer):
        inflate(packed, compression)


def test_window_of_zstd_is_bounded():
    data = os.urandom(100_000)
    assert inflate(frame(data, window_log=27), Compression.ZSTD) == data
    with pytest.raises(SigkitError) as caught:
        inflate(frame(data, window_log=28), Compression.ZSTD)
    assert isinstance(caught.value, WrongCompression)
    assert caught.value.kind is Kind.UNPACK
