"""cosign's older form."""

from __future__ import annotations

import json

import pytest

from sigkit import limits
from sigkit.errors import MalformedDigest, Place, TooMany, WrongShape
from sigkit.evidence.simple_signing import parse_simple_signing
from tests.simulators.evidence_maker import ARTIFACT, REPOSITORY, simple_payload

HERE = Place("layer")


def parse(document):
    return parse_simple_signing(json.dumps(document).encode(), limits.DEFAULT, HERE)


def critical(**changes):
    return simple_payload(critical={**simple_payload()["critical"], **changes})


def test_what_cosign_2_writes_is_read():
    raw = (
        b'{"critical":{"identity":{"docker-reference":"127.0.0.1:15002/leg"},"image":{"docker-manifest-digest":"%s"},'
        b'"type":"cosign container image signature"},"optional":null}' % str(ARTIFACT).encode()
    )
    found = parse_simple_signing(raw, limits.DEFAULT, HERE)
    assert (found.digest, found.repository, found.annotations, found.untold) == (ARTIFACT, "127.0.0.1:15002/leg", {}, ())


def test_what_podman_writes_is_read():
    document = critical(type="atomic container signature", identity={"docker-reference": "docker.io/library/busybox:1.36"})
    document["optional"] = {"creator": "containers/image 5", "timestamp": 1700000000}
    found = parse(document)
    assert found.repository == "docker.io/library/busybox"
    assert (found.annotations, found.untold) == ({"creator": "containers/image 5"}, ("timestamp",))


@pytest.mark.parametrize(
    ("signed", "repository"),
    [
        pytest.param("index.docker.io/library/alpine", "docker.io/library/alpine", id="Go's name of Docker Hub"),
        pytest.param(f"{REPOSITORY}@{ARTIFACT}", REPOSITORY, id="with a digest"),
        pytest.param("", None, id="empty"),
        pytest.param("Not A Name", "Not A Name", id="no name: it equals none"),
    ],
)
def test_the_signed_name_is_canonical(signed, repository):
    assert parse(critical(identity={"docker-reference": signed})).repository == repository


def test_no_signed_name_is_none():
    assert parse(critical(identity={})).repository is None


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(critical(type="attestation"), id="another type"),
        pytest.param(critical(extra=1), id="unknown member in critical"),
        pytest.param(critical(image={}), id="no digest"),
        pytest.param(critical(identity={"docker-reference": 7}), id="name no string"),
        pytest.param(critical(identity=None), id="no identity"),
        pytest.param(simple_payload(extra=1), id="unknown member"),
        pytest.param(simple_payload(critical=None), id="no critical"),
        pytest.param(simple_payload(optional=[]), id="optional no object"),
    ],
)
def test_another_shape_is_refused_as_PARSE(document):
    with pytest.raises(WrongShape):
        parse(document)


def test_a_malformed_digest_is_refused():
    with pytest.raises(MalformedDigest):
        parse(critical(image={"docker-manifest-digest": "sha256:../../x"}))


def test_too_many_annotations_are_refused_as_LIMIT():
    with pytest.raises(TooMany):
        parse(simple_payload(optional={str(n): "" for n in range(1001)}))
