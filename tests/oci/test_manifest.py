from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    AmbiguousDocument,
    MalformedDigest,
    MalformedJson,
    NoSuchPlatform,
    Place,
    SigkitError,
    TooLarge,
    TooMany,
    UnsupportedDocument,
    WrongShape,
)
from sigkit.oci.descriptor import Descriptor, parse_platform
from sigkit.oci.manifest import (
    ATTESTATION_ANNOTATION,
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    Index,
    Manifest,
    encode_index,
    encode_manifest,
    parse_manifest,
)
from sigkit.strict import encode_json
from tests.simulators.images import AMD64, ARM64, describe, small_image

CONFIG = describe(b"{}", OCI_CONFIG)
LAYER = describe(b"layer", OCI_LAYER_TAR)


def read(raw: bytes) -> Manifest | Index:
    return parse_manifest(raw, Digest.of(raw), Place("test"))


def manifest_members(**more):
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG.encode(), "layers": [LAYER.encode()]} | more


def index_members(**more):
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [describe(b"m", platform=AMD64).encode()]} | more


def test_manifest_is_read_whole_with_the_bytes_that_its_digest_names():
    raw = encode_manifest(CONFIG, [LAYER], subject=describe(b"s"), artifact_type="a/b", annotations={"k": "v"})
    found = read(raw)
    assert isinstance(found, Manifest)
    assert (found.raw, found.digest, found.config, found.layers) == (raw, Digest.of(raw), CONFIG, (LAYER,))
    assert (found.subject, found.artifact_type, found.annotations) == (describe(b"s"), "a/b", {"k": "v"})
    assert found.descriptor() == Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw))


def test_index_is_read_whole_with_the_bytes_that_its_digest_names():
    raw = encode_index([describe(b"m", platform=ARM64)], subject=describe(b"s"), artifact_type="a/b", annotations={"k": "v"})
    found = read(raw)
    assert isinstance(found, Index)
    assert (found.raw, found.digest, found.manifests) == (raw, Digest.of(raw), (describe(b"m", platform=ARM64),))
    assert (found.subject, found.artifact_type, found.annotations) == (describe(b"s"), "a/b", {"k": "v"})


@pytest.mark.parametrize(
    ("members", "media_type"),
    [
        pytest.param(manifest_members(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST, id="docker manifest"),
        pytest.param(index_members(mediaType=DOCKER_LIST), DOCKER_LIST, id="docker list"),
        pytest.param(manifest_members(mediaType=None), OCI_MANIFEST, id="manifest without media type"),
        pytest.param(index_members(mediaType=None), OCI_INDEX, id="index without media type"),
        pytest.param(manifest_members(other=[1, {"x": None}]), OCI_MANIFEST, id="unknown members"),
        pytest.param(manifest_members(layers=[]), OCI_MANIFEST, id="no layers"),
        pytest.param(index_members(manifests=[]), OCI_INDEX, id="empty index"),
    ],
)
def test_forms_of_both_standards_are_read(members, media_type):
    assert read(encode_json(members)).media_type == media_type


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(manifest_members(manifests=[]), id="both, called a manifest"),
        pytest.param(index_members(config=CONFIG.encode(), layers=[]), id="both, called an index"),
        pytest.param(manifest_members(manifests=[], mediaType=None), id="both, without a type"),
        pytest.param(manifest_members(manifests=None), id="null counts as there"),
        pytest.param(index_members(layers=None), id="null layers in an index"),
        pytest.param(manifest_members(mediaType=OCI_INDEX), id="manifest called an index"),
        pytest.param(manifest_members(mediaType=DOCKER_LIST), id="manifest called a list"),
        pytest.param(index_members(mediaType=OCI_MANIFEST), id="index called a manifest"),
        pytest.param(index_members(mediaType=DOCKER_MANIFEST), id="index called docker's manifest"),
    ],
)
def test_document_that_can_be_read_two_ways_is_refused(members):
    with pytest.raises(AmbiguousDocument):
        read(encode_json(members))


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"schemaVersion": 1, "fsLayers": [], "history": []}, id="schema 1"),
        pytest.param({"fsLayers": [], "mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, id="signed schema 1"),
        pytest.param(manifest_members(fsLayers=[]), id="schema 1 inside schema 2"),
        pytest.param({"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}, id="artifact manifest"),
        pytest.param({"schemaVersion": 2, "blobs": []}, id="artifact manifest without a type"),
        pytest.param(manifest_members(mediaType="application/x-other"), id="unknown type"),
    ],
)
def test_other_kinds_of_document_are_refused_by_name(members):
    with pytest.raises(UnsupportedDocument):
        read(encode_json(members))


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({}, id="empty"),
        pytest.param(manifest_members(schemaVersion=3), id="future version"),
        pytest.param(manifest_members(schemaVersion="2"), id="version as text"),
        pytest.param({"schemaVersion": 2, "config": CONFIG.encode()}, id="no layers member"),
        pytest.param({"schemaVersion": 2, "layers": []}, id="no config"),
        pytest.param(manifest_members(layers={}), id="layers are an object"),
        pytest.param(index_members(manifests=None), id="manifests null"),
        pytest.param(manifest_members(Layers=[]), id="Layers beside layers, which Go would take"),
        pytest.param(index_members() | {"manifest\u017f": []}, id="long s, which Go folds too"),
        pytest.param(manifest_members(annotations={"a": None}), id="annotation null"),
        pytest.param(manifest_members(subject=[]), id="subject is an array"),
    ],
)
def test_wrong_shape_is_refused(members):
    with pytest.raises(WrongShape):
        read(encode_json(members))


def test_duplicate_members_are_refused():
    raw = encode_json(manifest_members())
    with pytest.raises(MalformedJson):
        read(raw[:-1] + b',"layers":[]}')


def test_digest_inside_is_checked_with_its_place():
    bad = LAYER.encode() | {"digest": "sha256:../../../etc/passwd"}
    with pytest.raises(MalformedDigest) as caught:
        read(encode_json(manifest_members(layers=[LAYER.encode(), bad])))
    assert caught.value.place == Place("test", "$.layers[1].digest")


def test_limits_come_before_work():
    with pytest.raises(TooLarge):
        read(b" " * (limits.MANIFEST_BYTES + 1))
    with pytest.raises(TooMany):
        read(encode_json(manifest_members(layers=[LAYER.encode()] * (limits.MANIFEST_LAYERS + 1))))
    with pytest.raises(TooMany):
        read(encode_json(index_members(manifests=[LAYER.encode()] * (limits.INDEX_MANIFESTS + 1))))


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(raw):
    with pytest.raises(SigkitError):
        read(raw)


@pytest.mark.parametrize(
    ("config_type", "image"),
    [(OCI_CONFIG, True), (DOCKER_CONFIG, True), (OCI_EMPTY, False), ("application/vnd.cncf.helm.config.v1+json", False)],
)
def test_only_an_image_configuration_makes_an_image(config_type, image):
    found = read(encode_manifest(describe(b"{}", config_type), []))
    assert isinstance(found, Manifest)
    assert found.is_image is image


def index_of(*platforms: str, **more) -> Index:
    children = [describe(text.encode(), platform=parse_platform(text)) for text in platforms]
    found = read(encode_index([*children, *more.get("others", ())]))
    assert isinstance(found, Index)
    return found


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        pytest.param("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64", id="by architecture"),
        pytest.param("linux/amd64/v3", ["linux/amd64", "linux/amd64/v3", "linux/amd64/v2"], "linux/amd64/v3", id="best variant"),
        pytest.param("linux/amd64/v2", ["linux/amd64/v3", "linux/amd64"], "linux/amd64", id="best that runs"),
        pytest.param("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6", id="v7 falls back to v6"),
        pytest.param("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8", id="v8 is the default"),
    ],
)
def test_index_gives_what_runs_best(wanted, offered, chosen):
    assert index_of(*offered).select(parse_platform(wanted)).platform == parse_platform(chosen)


def test_first_of_equals_is_taken():
    children = [describe(b"first", platform=AMD64), describe(b"second", platform=AMD64)]
    found = read(encode_index(children))
    assert isinstance(found, Index)
    assert found.select(AMD64).digest == Digest.of(b"first")


def test_absent_platform_is_refused_with_those_that_are_there():
    with pytest.raises(NoSuchPlatform) as caught:
        index_of("linux/arm64", "windows/amd64").select(AMD64)
    assert caught.value.got == "linux/arm64, windows/amd64"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(describe(b"a", platform=AMD64, annotations={ATTESTATION_ANNOTATION: "attestation-manifest"}), id="by annotation"),
        pytest.param(describe(b"a", platform=parse_platform("unknown/unknown")), id="by platform"),
        pytest.param(describe(b"a", "application/vnd.x+json", platform=AMD64), id="by media type"),
    ],
)
def test_what_is_no_image_is_never_selected(other):
    index = index_of("linux/arm64", others=[other])
    for platform in (AMD64, parse_platform("unknown/unknown")):
        with pytest.raises(NoSuchPlatform) as caught:
            index.select(platform)
        assert caught.value.got == "linux/arm64"


def test_single_child_without_platform_is_taken():
    assert index_of(others=[describe(b"only")]).select(AMD64).digest == Digest.of(b"only")


def test_child_without_platform_is_not_guessed_among_several():
    with pytest.raises(NoSuchPlatform):
        index_of(others=[describe(b"one"), describe(b"two")]).select(AMD64)
    with pytest.raises(NoSuchPlatform):
        index_of("linux/arm64", others=[describe(b"one")]).select(AMD64)


def test_same_arguments_give_the_same_bytes():
    assert small_image().manifest == small_image().manifest
