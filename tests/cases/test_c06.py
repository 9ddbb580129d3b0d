"""C6, the signature on page two: a list is read whole, or it was not read."""

from __future__ import annotations

import json

import pytest

from tests.simulators.misbehaving_registry import OCI_INDEX, MisbehavingRegistry, Reply
from tests.simulators.release import Release

PAGE_ONE_IS_FULL_AT = 3


@pytest.fixture(scope="module")
def shared():
    with MisbehavingRegistry(page=PAGE_ONE_IS_FULL_AT) as running:
        yield running


@pytest.fixture
def reg(shared):
    shared.forget()
    return shared


@pytest.fixture(scope="module")
def release(shared, tmp_path_factory):
    """Three SBOMs, then the signature."""
    reg = shared
    made = Release.prepare(tmp_path_factory.mktemp("release"), reg.address)
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": reg.state.put_blob("t/app", b"{}"), "size": 2}
    for number in range(PAGE_ONE_IS_FULL_AT):
        sbom = {"digest": reg.state.put_blob("t/app", b"sbom %d" % number), "size": 6, "mediaType": "application/spdx+json"}
        subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(made.image.digest), "size": 1}
        manifest = {"schemaVersion": 2, "artifactType": "application/spdx+json", "config": empty, "layers": [sbom], "subject": subject}
        reg.state.put_manifest("t/app", json.dumps(manifest).encode())
    assert made.sign().status == 0
    return made


def on_page_two(reg, change):
    reg.on("GET", "*/referrers/*").change = lambda seen, reply: change if seen.query.get("from") else reply


def test_c06_the_signature_on_page_two_is_found(reg, release):
    done = release.verify()
    assert done.status == 0, done.said
    assert {seen.query.get("from") for seen in reg.seen("GET", "*/referrers/*")} >= {None, "3"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(Reply(500), id="500"),
        pytest.param(Reply(404), id="404"),
        pytest.param(Reply(200, (("Content-Type", "text/html"),), b"<html>"), id="content-type"),
        pytest.param(Reply(200, (("Content-Type", OCI_INDEX),), b'{"manifests":'), id="cut"),
    ],
)
def test_c06_a_broken_page_two_is_could_not_check_and_not_unsigned(reg, release, page):
    on_page_two(reg, page)
    done = release.verify()
    assert done.status == 3, done.said
    assert "could not list all evidence" in done.said


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/v2/t/app/referrers/x", "?"], ids=["another-host", "page-one-again"])
def test_c06_a_link_that_leads_elsewhere_or_back_is_could_not_check(reg, release, link):
    reg.on("GET", "*/referrers/*").change = lambda seen, reply: Reply(
        200, (("Content-Type", OCI_INDEX), ("Link", f'<{link if link != "?" else seen.path}>; rel="next"')), reply.body
    )
    done = release.verify()
    assert done.status == 3, done.said
    assert "could not list all evidence" in done.said
