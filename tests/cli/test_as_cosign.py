"""`--output cosign`: what scripts that parse cosign's answer find."""

from __future__ import annotations

import json

import pytest

from sigkit.evidence.statement import PREDICATE_SIGNATURE
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release


@pytest.fixture
def release(tmp_path):
    with MisbehavingRegistry() as registry:
        yield Release.prepare(tmp_path, registry.address)


def test_what_counted_is_one_list_on_stdout(release):
    assert release.sign("env=prod").status == 0
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference)
    assert done.status == 0, done.said
    digest = str(release.image.digest)
    critical = {
        "identity": {"docker-reference": f"{release.reference}@{digest}"},
        "image": {"docker-manifest-digest": digest},
        "type": PREDICATE_SIGNATURE,
    }
    repository = release.reference.removesuffix(":v1")
    assert json.loads(done.out) == [{"critical": critical, "optional": {"env": "prod", "sigkit.dev/repository": repository}}]
    assert "verified" in done.err


def test_of_a_refused_image_nothing_is_printed_but_on_stderr(release):
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference)
    assert (done.status, done.out) == (1, "")
    assert "refused" in done.err


def test_of_several_images_each_that_is_allowed_has_a_line(release):
    assert release.sign().status == 0
    digest = f"{release.address}/t/app@{release.image.digest}"
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference, digest, f"{release.address}/t/absent:v1")
    assert done.status == 3
    names = [json.loads(line)[0]["critical"]["identity"]["docker-reference"] for line in done.out.splitlines()]
    assert names == [f"{release.reference}@{release.image.digest}", digest]


def test_cosigns_form_is_for_verify_alone(release):
    assert release.sigkit("tree", "--output", "cosign", release.reference).status == 2
