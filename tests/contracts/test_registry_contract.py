"""What every `Registry` promises: the one in memory, a layout, and the client over ours and over Debian's docker-registry."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from sigkit.digest import Digest
from sigkit.errors import EXIT_UNCHECKED, DigestMismatch, Kind, NoSuchPlatform, SigkitError, SizeMismatch, TooLarge
from sigkit.oci.descriptor import Descriptor, Platform
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.layout import create_layout
from sigkit.oci.manifest import OCI_INDEX, OCI_MANIFEST, encode_index, encode_manifest
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import Registry, open_registry
from sigkit.oci.resolve import resolve_and_pin
from sigkit.services.registry import ReferrersApi, RegistryVariant
from sigkit.services.serve import running_registry
from tests.simulators import peer_root
from tests.simulators.images import AMD64, ARM64, describe, push_index, small_image
from tests.simulators.memory_registry import MemoryRegistry, Referrers

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1 << 20
# Small chunks, so that a test's blob is uploaded in several.
OPTIONS = RegistryOptions(chunk_bytes=CHUNK_BYTES)
_numbers = itertools.count()


class Place(NamedTuple):
    """A registry, and a repository in it that nobody else uses."""

    registry: Registry
    repository: Repository

    def reference(self, what: str):
        return parse_reference(f"{self.repository}{what}")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("embedded") / "registry") as address:
        yield address


@pytest.fixture(scope="module")
def embedded_without_referrers(tmp_path_factory) -> Iterator[str]:
    variant = RegistryVariant(referrers=ReferrersApi.OFF)
    with running_registry(tmp_path_factory.mktemp("embedded") / "registry", variant=variant) as address:
        yield address


@pytest.fixture(scope="module")
def debians(peer, tmp_path_factory) -> Iterator[str]:
    with peer_root.docker_registry(peer, tmp_path_factory.mktemp("debian")) as running:
        yield running.address


WITH_REFERRERS = ("memory", "layout", "embedded")
WITHOUT_REFERRERS = ("memory without referrers", "embedded without referrers", pytest.param("docker-registry", marks=pytest.mark.peers))


@contextlib.contextmanager
def open_place(request, kind: str, directory: Path) -> Iterator[Place]:
    path = f"contract/r{next(_numbers)}"
    match kind:
        case "memory":
            yield Place(MemoryRegistry(), Repository("memory.example", path))
        case "memory without referrers":
            yield Place(MemoryRegistry(Referrers.NONE), Repository("memory.example", path))
        case "layout":
            yield Place(create_layout(directory / "layout"), Repository("layout.example", path))
        case _:
            fixture = {"docker-registry": "debians"}.get(kind, kind.replace(" ", "_"))
            with open_registry(OPTIONS) as client:
                yield Place(client, Repository(request.getfixturevalue(fixture), path))


@pytest.fixture(params=[*WITH_REFERRERS, *WITHOUT_REFERRERS])
def place(request, tmp_path) -> Iterator[Place]:
    with open_place(request, request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=WITH_REFERRERS)
def place_with_referrers(request, tmp_path) -> Iterator[Place]:
    with open_place(request, request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=WITHOUT_REFERRERS)
def place_without_referrers(request, tmp_path) -> Iterator[Place]:
    with open_place(request, request.param, tmp_path) as opened:
        yield opened


def test_manifest_comes_back_byte_for_byte_under_tag_and_digest(place):
    registry, repository = place
    image = small_image()
    image.push(registry, repository, "v1")
    assert registry.fetch_manifest(repository, "v1") == image.manifest
    assert registry.fetch_manifest(repository, image.digest) == image.manifest


def test_manifest_pushed_by_digest_has_no_tag(place):
    registry, repository = place
    image = small_image()
    image.push(registry, repository)
    assert registry.fetch_manifest(repository, image.digest) == image.manifest
    assert registry.fetch_manifest(repository, "latest") is None


def test_what_is_not_there_is_none(place):
    registry, repository = place
    small_image().push(registry, repository, "v1")
    assert registry.fetch_manifest(repository, "v2") is None
    assert registry.fetch_manifest(repository, Digest.of(b"absent")) is None
    assert registry.has_blob(repository, Digest.of(b"absent")) is False


def test_repository_that_is_not_there_has_nothing(place):
    registry, repository = place
    never = Repository(repository.registry, "contract/never")
    assert registry.fetch_manifest(never, "v1") is None
    assert registry.has_blob(never, Digest.of(b"absent")) is False


def test_tag_names_what_was_pushed_last(place):
    registry, repository = place
    small_image(b"old").push(registry, repository, "v1")
    new = small_image(b"new")
    new.push(registry, repository, "v1")
    assert registry.fetch_manifest(repository, "v1") == new.manifest


def test_index_comes_back_and_leads_to_each_platforms_image(place):
    registry, repository = place
    images = {AMD64: small_image(b"a", AMD64), ARM64: small_image(b"b", ARM64)}
    raw = push_index(registry, repository, images, "v1")
    for platform, image in images.items():
        pinned = resolve_and_pin(registry, place.reference(":v1"), platform)
        assert pinned.chain == (Digest.of(raw), image.digest)
    with pytest.raises(NoSuchPlatform):
        resolve_and_pin(registry, place.reference(":v1"), Platform("linux", "s390x"))


def test_reference_with_a_digest_pins_without_its_tag(place):
    registry, repository = place
    digest = small_image().push(registry, repository, "v1")
    small_image(b"other").push(registry, repository, "v2")
    for what in (f":v2@{digest}", f":none@{digest}"):
        assert resolve_and_pin(registry, place.reference(what), AMD64).top == digest


@pytest.mark.parametrize("size", [0, 1, 3 * CHUNK_BYTES + 1], ids=["empty", "one byte", "several chunks"])
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_blob_comes_back_byte_for_byte(place, tmp_path, size, kind):
    registry, repository = place
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    descriptor = Descriptor("application/x", Digest.of(data), len(data))
    source = data
    if kind == "file":
        source = tmp_path / "source"
        source.write_bytes(data)
    for _ in range(2):
        registry.push_blob(repository, descriptor.digest, source)
    assert registry.has_blob(repository, descriptor.digest)
    assert registry.fetch_blob(repository, descriptor, most_bytes=size) == data
    with registry.open_blob(repository, descriptor) as reader:
        assert b"".join(reader) == data


def test_asking_whether_a_push_is_taken_stores_nothing(place):
    registry, repository = place
    registry.check_push(repository)
    assert not registry.has_blob(repository, Digest.of(b""))


def test_blob_beyond_the_limit_is_refused(place):
    registry, repository = place
    descriptor = Descriptor("application/x", Digest.of(b"0123"), 4)
    registry.push_blob(repository, descriptor.digest, b"0123")
    with pytest.raises(TooLarge):
        registry.fetch_blob(repository, descriptor, most_bytes=3)


@pytest.mark.parametrize("size", [3, 5])
def test_blob_of_another_size_than_its_descriptor_says_is_refused(place, size):
    registry, repository = place
    digest = Digest.of(b"0123")
    registry.push_blob(repository, digest, b"0123")
    with pytest.raises(SizeMismatch):
        registry.fetch_blob(repository, Descriptor("application/x", digest, size), most_bytes=10)


def test_absent_blob_is_could_not_check(place):
    registry, repository = place
    small_image().push(registry, repository)
    descriptor = Descriptor("application/x", Digest.of(b"absent"), 6)
    with pytest.raises(SigkitError) as caught:
        registry.fetch_blob(repository, descriptor, most_bytes=10)
    assert (caught.value.kind, caught.value.status()) == (Kind.UNAVAIL, EXIT_UNCHECKED)


def test_blob_is_not_stored_under_a_digest_that_is_not_its_own(place):
    registry, repository = place
    wrong = Digest.of(b"other")
    with pytest.raises(SigkitError):
        registry.push_blob(repository, wrong, b"data")
    assert not registry.has_blob(repository, wrong)


def test_manifest_is_not_stored_under_a_digest_that_is_not_its_own(place):
    registry, repository = place
    image = small_image()
    image.push(registry, repository)
    wrong = small_image(b"other").digest
    with pytest.raises(DigestMismatch):
        registry.push_manifest(repository, wrong, image.manifest, OCI_MANIFEST)
    assert registry.fetch_manifest(repository, wrong) is None


def attach(place: Place, subject: Descriptor, note: str) -> tuple[Digest, Digest | None]:
    config = describe(b"{}", "application/vnd.oci.empty.v1+json")
    place.registry.push_blob(place.repository, config.digest, b"{}")
    raw = encode_manifest(config, [config], subject=subject, artifact_type="application/x", annotations={"note": note})
    return Digest.of(raw), place.registry.push_manifest(place.repository, Digest.of(raw), raw, OCI_MANIFEST)


def test_referrers_are_listed_with_what_tells_them_apart(place_with_referrers):
    registry, repository = place_with_referrers
    image = small_image()
    image.push(registry, repository, "v1")
    attached = {}
    for note in ("one", "two", "three"):
        digest, subject = attach(place_with_referrers, describe(image.manifest), note)
        attached[digest] = note
        assert subject == image.digest
    found = registry.list_referrers(repository, image.digest)
    assert found is not None
    assert {referrer.digest: referrer.annotations["note"] for referrer in found} == attached
    assert {referrer.artifact_type for referrer in found} == {"application/x"}


def test_referrers_of_an_index_and_of_what_is_not_there(place_with_referrers):
    registry, repository = place_with_referrers
    raw = encode_index([])
    registry.push_manifest(repository, "v1", raw, OCI_INDEX)
    digest, _ = attach(place_with_referrers, describe(raw, OCI_INDEX), "index")
    found = registry.list_referrers(repository, Digest.of(raw))
    assert found is not None
    assert [referrer.digest for referrer in found] == [digest]
    assert registry.list_referrers(repository, Digest.of(b"absent")) == ()
    digest, subject = attach(place_with_referrers, describe(b"not there yet"), "early")
    assert subject == Digest.of(b"not there yet")
    found = registry.list_referrers(repository, Digest.of(b"not there yet"))
    assert found is not None
    assert [referrer.digest for referrer in found] == [digest]


def test_absent_referrers_api_is_not_an_empty_list(place_without_referrers):
    registry, repository = place_without_referrers
    image = small_image()
    image.push(registry, repository, "v1")
    _, subject = attach(place_without_referrers, describe(image.manifest), "one")
    assert subject is None
    assert registry.list_referrers(repository, image.digest) is None
