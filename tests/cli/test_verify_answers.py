"""What can go wrong with an image reads differently each time: nobody has to guess which of them it was."""

from __future__ import annotations

import pytest

from sigkit.errors import AbsentReference, NoSuchPlatform, Unsigned, WrongKey, WrongName
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators.images import AMD64, push_index, small_image
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Done, Release


@pytest.fixture
def reg():
    with MisbehavingRegistry() as running:
        yield running


@pytest.fixture
def release(reg, tmp_path):
    return Release.prepare(tmp_path, reg.address)


def verify(release: Release, reference: str, *arguments: str) -> Done:
    return release.sigkit("verify", "--key", "K.pub", *arguments, reference)


def test_the_wrong_platform(release):
    with open_registry(RegistryOptions()) as client:
        push_index(client, Repository(release.address, "t/app"), {AMD64: small_image(b"amd")}, "multi")
    done = verify(release, f"{release.address}/t/app:multi", "--platform", "linux/s390x")
    assert done.status == 1
    assert NoSuchPlatform.code in done.said
    assert "linux/amd64" in done.said


def test_the_wrong_key(release):
    key = generate("ecdsa-p256")
    (release.home / "L.key").write_bytes(encode_pem("PRIVATE KEY", key.pkcs8()))
    assert release.sigkit("sign", "--key", "L.key", release.reference).status == 0
    done = verify(release, release.reference)
    assert done.status == 1
    assert WrongKey.code in done.said


def test_the_wrong_name(release):
    assert release.sign().status == 0
    copied = f"{release.address}/t/copy:v1"
    assert release.sigkit("copy", release.reference, copied).status == 0
    done = verify(release, copied)
    assert done.status == 1
    assert WrongName.code in done.said


def test_no_signature(release):
    done = verify(release, release.reference)
    assert done.status == 1
    assert Unsigned.code in done.said


def test_no_image(release):
    done = verify(release, f"{release.address}/t/app:absent")
    assert done.status == 3
    assert AbsentReference.code in done.said


def test_what_could_not_be_checked(reg, release):
    assert release.sign().status == 0
    reg.on("GET", "*/referrers/*").status(500)
    done = verify(release, release.reference)
    assert done.status == 3
    assert "could not check" in done.said


def test_a_file_of_the_operator_that_is_wrong_is_about_no_image(release):
    (release.home / "auth.json").write_text("{")
    done = verify(release, release.reference, release.reference, "--authfile", "auth.json")
    assert done.status == 2
    assert done.out == ""
