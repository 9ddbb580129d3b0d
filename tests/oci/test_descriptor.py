from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.digest import Digest
from sigkit.errors import EXIT_USAGE, MalformedDigest, MalformedReference, Place, WrongShape
from sigkit.oci.descriptor import Descriptor, Platform, host_platform, parse_descriptor, parse_platform
from sigkit.strict import Cursor, encode_json, parse_json

HERE = Place("test")


def read(value) -> Descriptor:
    return parse_descriptor(parse_json(encode_json(value), most_bytes=1 << 20, place=HERE))


def minimal(**more):
    return {"mediaType": "application/x", "digest": str(Digest.of(b"x")), "size": 1} | more


def test_unknown_members_urls_and_data_are_ignored():
    found = read(minimal(urls=["http://169.254.169.254/"], data="eA==", **{"x.y": 1}))
    assert found == Descriptor("application/x", Digest.of(b"x"), 1)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(minimal(size=-1), id="negative size"),
        pytest.param(minimal(size=1.0), id="size is a float"),
        pytest.param(minimal(size="1"), id="size is a text"),
        pytest.param(minimal(size=True), id="size is a boolean"),
        pytest.param(minimal(mediaType="x"), id="media type without a slash"),
        pytest.param(minimal(mediaType="a/b; c=d"), id="media type with a parameter"),
        pytest.param(minimal(mediaType="a/b\n"), id="media type with a newline"),
        pytest.param(minimal(annotations={"a": 1}), id="annotation is a number"),
        pytest.param(minimal(annotations=[]), id="annotations are an array"),
        pytest.param(minimal(platform={"os": "linux"}), id="platform without architecture"),
        pytest.param(minimal(platform={"os": "linux", "architecture": "a/b"}), id="slash in a platform"),
        pytest.param(minimal(artifactType="x"), id="malformed artifact type"),
        pytest.param(minimal(Digest="sha256:00"), id="a member again in another case"),
        pytest.param([], id="an array"),
        pytest.param({"digest": str(Digest.of(b"x")), "size": 1}, id="no media type"),
        pytest.param({"mediaType": "a/b", "digest": str(Digest.of(b"x"))}, id="no size"),
    ],
)
def test_malformed_descriptor_is_refused(value):
    with pytest.raises(WrongShape) as caught:
        read(value)
    assert caught.value.place.source == "test"
    assert caught.value.place.inside.startswith("$")


@pytest.mark.parametrize("text", ["md5:" + "0" * 32, "sha256:../../x", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha256", ""])
def test_digest_of_another_form_is_refused_with_its_place(text):
    with pytest.raises(MalformedDigest) as caught:
        read(minimal(digest=text))
    assert caught.value.place == Place("test", "$.digest")


media_types = st.from_regex(r"[a-z][a-z0-9.+-]{0,10}/[a-z][a-z0-9.+-]{0,10}", fullmatch=True)
part = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
platforms = st.builds(Platform, part, st.sampled_from(["amd64", "arm64", "arm", "riscv64"]), st.none() | part)


@given(
    st.builds(
        Descriptor,
        media_type=media_types,
        digest=st.builds(Digest.of, st.binary(max_size=4), st.sampled_from(["sha256", "sha384", "sha512"])),
        size=st.integers(0, 2**63 - 1),
        annotations=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        artifact_type=st.none() | media_types,
        platform=st.none() | platforms,
    )
)
def test_what_is_encoded_is_read_back(descriptor):
    assert parse_descriptor(Cursor(descriptor.encode(), "$", HERE)) == descriptor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("Linux/x86_64", Platform("linux", "amd64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("linux/armv6l", Platform("linux", "arm", "v6")),
    ],
)
def test_platforms_have_one_spelling(text, expected):
    assert parse_platform(text) == expected


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/a b", "linux/amd64\n"])
def test_malformed_platform_is_a_usage_error(text):
    with pytest.raises(MalformedReference) as caught:
        parse_platform(text)
    assert caught.value.status() == EXIT_USAGE


def test_host_is_a_linux_machine():
    assert host_platform().os == "linux"
    assert host_platform().fit(host_platform()) >= 0


@pytest.mark.parametrize(
    ("host", "offered"),
    [
        pytest.param("linux/amd64", "linux/amd64", id="same"),
        pytest.param("linux/amd64", "linux/amd64/v1", id="v1 is what amd64 means"),
        pytest.param("linux/amd64/v3", "linux/amd64/v2", id="a newer processor runs older code"),
        pytest.param("linux/amd64/v3", "linux/amd64", id="and the oldest"),
        pytest.param("linux/arm64", "linux/arm64/v8", id="v8 is what arm64 means"),
        pytest.param("linux/arm64/v8", "linux/arm64", id="both ways"),
        pytest.param("linux/arm64/v9", "linux/arm64/v8.5", id="Armv9.0 holds Armv8.5"),
        pytest.param("linux/arm/v7", "linux/arm/v6", id="v7 runs v6"),
        pytest.param("linux/arm", "linux/arm/v7", id="v7 is what arm means"),
        pytest.param("linux/riscv64", "linux/riscv64", id="another architecture"),
    ],
)
def test_platform_runs_what_it_can(host, offered):
    assert parse_platform(host).fit(parse_platform(offered)) >= 0


@pytest.mark.parametrize(
    ("host", "offered"),
    [
        pytest.param("linux/amd64", "linux/arm64", id="other architecture"),
        pytest.param("linux/amd64", "windows/amd64", id="other system"),
        pytest.param("linux/amd64", "linux/amd64/v2", id="newer processor wanted"),
        pytest.param("linux/arm64", "linux/arm64/v9", id="Armv9 on Armv8"),
        pytest.param("linux/arm64/v8.5", "linux/arm64/v9", id="Armv9.0 holds more than Armv8.5"),
        pytest.param("linux/arm64/v9", "linux/arm64/v8.6", id="Armv9.0 lacks Armv8.6"),
        pytest.param("linux/arm/v6", "linux/arm/v7", id="v7 on v6"),
        pytest.param("linux/arm/v6", "linux/arm", id="arm means v7"),
        pytest.param("linux/riscv64", "linux/riscv64/rva22", id="variant of an architecture without rule"),
        pytest.param("linux/amd64", "linux/amd64/vx", id="unknown variant"),
    ],
)
def test_platform_does_not_run_what_it_cannot(host, offered):
    assert parse_platform(host).fit(parse_platform(offered)) < 0


def test_better_variant_fits_better():
    host = parse_platform("linux/amd64/v3")
    fits = [host.fit(parse_platform(f"linux/amd64{variant}")) for variant in ("", "/v2", "/v3")]
    assert fits == sorted(set(fits))
