"""digest: only whole, lower-case digests of accepted algorithms name anything; a reader ends only on proved bytes."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.digest import Digest, VerifyingReader, check_digest, parse_digest
from sigkit.errors import DigestMismatch, Kind, Place, SigkitError, SizeMismatch

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY.upper(),
        EMPTY.replace("e3", "E3"),
        EMPTY + "\n",
        " " + EMPTY,
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha1:" + "0" * 40,
        "sha512:" + "0" * 64,
        "sha256:../../../../etc/passwd".ljust(71, "/"),
        "sha256:" + "\u0660" * 64,
    ],
)
def test_anything_but_a_whole_digest_is_refused_as_DIGEST(text):
    with pytest.raises(SigkitError) as caught:
        parse_digest(text, Place("x"))
    assert caught.value.kind is Kind.DIGEST


@given(st.binary(max_size=100), st.sampled_from(["sha256", "sha384", "sha512"]))
def test_digests_round_trip(data, algorithm):
    digest = Digest.of(data, algorithm)
    assert parse_digest(str(digest)) == digest
    assert check_digest(data, digest, Place("x")) == data


def test_a_digest_cannot_be_changed():
    with pytest.raises(AttributeError):
        Digest.of(b"").algorithm = "sha512"


def reader(data: bytes, digest: Digest, size: int) -> VerifyingReader:
    return VerifyingReader(io.BytesIO(data), digest=digest, size_bytes=size, place=Place("blob"))


@pytest.mark.parametrize(
    ("data", "promised", "error"),
    [
        pytest.param(b"abd", b"abc", DigestMismatch, id="changed"),
        pytest.param(b"ab", b"abc", SizeMismatch, id="cut"),
        pytest.param(b"abcd", b"abc", SizeMismatch, id="longer"),
        pytest.param(b"x", b"", SizeMismatch, id="longer than nothing"),
    ],
)
def test_a_reader_refuses_bytes_that_were_not_promised(data, promised, error):
    with pytest.raises(error):
        b"".join(reader(data, Digest.of(promised), len(promised)))


@given(st.binary(max_size=300), st.integers(1, 40))
def test_a_reader_gives_all_bytes_and_then_the_end(data, step):
    source = reader(data, Digest.of(data), len(data))
    got = b"".join(iter(lambda: source.read(step), b""))
    assert got == data
    assert source.read() == b""
