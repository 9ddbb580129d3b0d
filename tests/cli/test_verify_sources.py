"""Where evidence is read: layouts, files, and the index that names an image; and that no connection is made where none is meant."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sigkit.errors import AbsentReference, MalformedReference, NotInIndex, OtherArtifact, Unsigned, WrongName
from sigkit.evidence.collect import collect
from sigkit.evidence.form import BUNDLE_PART
from sigkit.limits import DEFAULT
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.layout import TAG_ANNOTATION
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators.command import CHECKOUT
from tests.simulators.images import AMD64, ARM64, push_index, small_image
from tests.simulators.release import Done, Release

# Every attempt to use the network raises an audit event before it happens, whichever library makes it (PEP 578).
WITHOUT_SOCKETS = f"""
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        sys.stderr.write("SOCKET " + event)
        raise SystemExit(99)
sys.path.insert(0, {str(CHECKOUT)!r})
sys.addaudithook(refuse)
from sigkit.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def without_sockets(release: Release, *arguments: str) -> Done:
    line = [sys.executable, "-I", "-c", WITHOUT_SOCKETS, *arguments]
    done = subprocess.run(line, cwd=release.home, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def save_bundle(release: Release) -> str:
    """Sign the image, write the bundle to a file, and return the image by its digest."""
    assert release.sign().status == 0
    pinned = f"{release.address}/t/app@{release.image.digest}"
    with open_registry(RegistryOptions()) as client:
        collected = collect(client, Repository(release.address, "t/app"), release.image.digest, DEFAULT)
    (release.home / "b.json").write_bytes(collected.evidence[0].parts[BUNDLE_PART])
    return pinned


def test_the_hook_sees_a_connection(release):
    done = without_sockets(release, "verify", "--key", "K.pub", release.reference)
    assert "SOCKET" in done.err


@pytest.mark.parametrize("offline", [(), ("--offline",)])
def test_a_layout_is_verified_without_a_socket(release, offline):
    assert release.sign().status == 0
    assert release.sigkit("copy", release.reference, "oci:image").status == 0
    done = without_sockets(release, "verify", *offline, "--key", "K.pub", "--layout", "image", release.reference)
    assert done.status == 0, done.said
    assert done.out.startswith("verified")


def test_the_name_that_is_judged_is_the_one_given_wherever_the_layout_lies(release):
    assert release.sign().status == 0
    assert release.sigkit("copy", release.reference, "oci:image").status == 0
    done = without_sockets(release, "verify", "--key", "K.pub", "--layout", "image", "registry.example/other/app:v1")
    assert done.status == 1
    assert WrongName.code in done.out


def test_the_only_image_of_a_layout_is_not_taken_for_another_tag_than_it_has_there(release):
    assert release.sign().status == 0
    assert release.sigkit("copy", release.reference, "oci:image").status == 0
    index = release.home / "image" / "index.json"
    copied = index.read_text()

    def verified(name: str | None) -> Done:
        """Verify `app:other` in the layout whose image has this name."""
        unnamed, whole = "example.unnamed", f'"{TAG_ANNOTATION}":"v1"'
        assert whole in copied
        index.write_text(copied.replace(whole, f'"{TAG_ANNOTATION if name else unnamed}":"{name}"'))
        done: Done = release.sigkit("verify", "--key", "K.pub", "--layout", "image", f"{release.address}/t/app:other")
        return done

    refused = verified("1.0")
    assert (refused.status, AbsentReference.code in refused.err) == (3, True)
    assert "no tag 'other' in the layout" in refused.said
    assert "tags: 1.0" in refused.said
    assert verified("registry.example/t/app:1.0").status == 3
    assert [verified(name).status for name in (None, "latest", "other", "registry.example/t/app:other")] == [0, 0, 0, 0]


def test_a_copy_in_a_layout_has_the_tag_of_its_source_and_a_tag_that_moves_is_told(release):
    assert "moved" not in release.sigkit("copy", release.reference, "oci:image").out
    tagged = json.loads((release.home / "image" / "index.json").read_text())["manifests"]
    assert [entry["annotations"] for entry in tagged] == [{TAG_ANNOTATION: "v1"}]
    with open_registry(RegistryOptions()) as client:
        small_image(b"other").push(client, Repository(release.address, "t/other"), "v1")
    done = release.sigkit("copy", f"{release.address}/t/other:v1", "oci:image")
    assert f"moved tag v1, which named {release.image.digest}" in done.said
    assert "moved" not in release.sigkit("copy", f"{release.address}/t/other:v1", "oci:image").out


def test_images_that_were_copied_by_digest_stand_beside_each_other_and_are_the_only_one_alone(release):
    assert release.sign().status == 0
    pinned = f"{release.address}/t/app@{release.image.digest}"
    assert release.sigkit("copy", pinned, "oci:image").status == 0
    done = release.sigkit("verify", "--key", "K.pub", "--layout", "oci:image", release.reference)
    assert done.status == 0, done.said
    assert "tag v1: not known there" in done.said
    with open_registry(RegistryOptions()) as client:
        other = small_image(b"other")
        other.push(client, Repository(release.address, "t/other"), "v1")
    assert release.sigkit("copy", f"{release.address}/t/other@{other.digest}", "oci:image").status == 0
    assert release.sigkit("verify", "--key", "K.pub", "--layout", "image", pinned).status == 0
    assert "the layout holds 2 images" in release.sigkit("verify", "--key", "K.pub", "--layout", "image", release.reference).said


def test_a_directory_that_is_no_layout_and_a_layout_that_is_named_like_an_image_are_told(release):
    (release.home / "empty").mkdir()
    for line in (("copy", "oci:empty", release.reference), ("verify", "--key", "K.pub", "--layout", "empty", release.reference)):
        done = release.sigkit(*line)
        assert done.status == 2
        assert "not an OCI layout" in done.said
    assert release.sigkit("copy", release.reference, "oci:image").status == 0
    assert "did you mean oci:image ?" in release.sigkit("copy", "image", release.reference).said
    assert "--layout image" in release.sigkit("verify", "--key", "K.pub", "image").said


@pytest.mark.parametrize("offline", [(), ("--offline",)])
def test_a_bundle_in_a_file_is_verified_without_a_socket(release, offline):
    pinned = save_bundle(release)
    done = without_sockets(release, "verify", *offline, "--key", "K.pub", "--bundle", "b.json", pinned)
    assert done.status == 0, done.said
    assert done.out.startswith("verified")
    answer = without_sockets(release, "verify", "--key", "K.pub", "--bundle", "b.json", "--output", "json", pinned).answer
    assert answer["request"]["config"] is None


def test_a_bundle_about_another_image_is_refused(release):
    pinned = save_bundle(release)
    other = pinned.replace(release.image.digest.hex, "0" * 64)
    done = release.sigkit("verify", "--key", "K.pub", "--bundle", "b.json", other)
    assert done.status == 1
    assert OtherArtifact.code in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--offline", "IMAGE"), id="offline without a source"),
        pytest.param(("--bundle", "b.json", "IMAGE"), id="a bundle about a tag"),
        pytest.param(("--bundle", "b.json", "--layout", "image", "IMAGE"), id="a bundle and a layout"),
        pytest.param(("--bundle", "b.json", "IMAGE", "IMAGE"), id="a bundle and two images"),
        pytest.param(("--index", "IMAGE", "IMAGE"), id="an index and a tag"),
        pytest.param(("--layout", "absent", "IMAGE"), id="no layout there"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(release, arguments):
    save_bundle(release)
    done = release.sigkit("verify", "--key", "K.pub", *(release.reference if part == "IMAGE" else part for part in arguments))
    assert done.status == 2, done.said


def test_an_unsigned_child_is_accepted_by_its_signed_index_and_says_so(release):
    child, reference = push_and_sign_index(release)
    alone = release.sigkit("verify", "--key", "K.pub", child)
    assert alone.status == 1
    assert Unsigned.code in alone.out
    assert "--index" in alone.out
    done = release.sigkit("verify", "--key", "K.pub", "--index", reference, child)
    assert done.status == 0, done.said
    assert "by index" in done.out


def test_an_index_vouches_for_nothing_that_it_does_not_name(release):
    _, reference = push_and_sign_index(release)
    done = release.sigkit("verify", "--key", "K.pub", "--index", reference, f"{release.address}/t/app@{release.image.digest}")
    assert done.status == 1
    assert NotInIndex.code in done.err


def test_an_index_of_another_repository_is_no_index_of_the_image(release):
    child, _ = push_and_sign_index(release)
    done = release.sigkit("verify", "--key", "K.pub", "--index", f"{release.address}/t/other:v1", child)
    assert done.status == 2
    assert MalformedReference.code in done.err


def push_and_sign_index(release: Release) -> tuple[str, str]:
    images = {AMD64: small_image(b"amd"), ARM64: small_image(b"arm", ARM64)}
    with open_registry(RegistryOptions()) as client:
        push_index(client, Repository(release.address, "t/app"), images, "multi")
    reference = f"{release.address}/t/app:multi"
    assert release.sigkit("sign", "--key", "K.key", reference).status == 0
    return f"{release.address}/t/app@{images[ARM64].digest}", reference
