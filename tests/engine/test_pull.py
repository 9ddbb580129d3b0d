"""Pulling: exactly what was admitted, every byte checked, nothing of a failure kept."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from sigkit.digest import Digest
from sigkit.engine import pull as pulling
from sigkit.engine.images import list_images
from sigkit.engine.snapshots import Layers, chain_ids
from sigkit.errors import AbsentReference, ContradictoryImage, DigestError, Kind, NoSuchPlatform, NotAnImage, SigkitError
from sigkit.oci.descriptor import Descriptor, Platform
from sigkit.oci.manifest import OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, Manifest, encode_manifest, parse_manifest
from sigkit.runtime.users import choose_maps
from tests.simulators.engine_host import REPOSITORY, Host, Image, admission, opened, push
from tests.simulators.layers import PLACE, directory, file, layer, listing, symlink, whiteout
from tests.simulators.zstd_frames import frame


@pytest.fixture
def host(tmp_path):
    return opened(tmp_path / "store")


LAYERS = (layer(file("a", b"1"), directory("d/")), layer(whiteout("a"), file("b", b"2")), layer(symlink("c", "b")))


def damage(host: Host, digest: Digest, data: bytes) -> None:
    host.registry.blobs[REPOSITORY, digest] = data


def test_layers_lie_unpacked_by_their_chain(host):
    pulled = host.pull(host.push(*LAYERS))
    assert pulled.chain == chain_ids([Digest.of(archive) for archive in LAYERS])
    paths = [Path(host.layers().path(chain_id)) for chain_id in pulled.chain]
    assert [listing(path) for path in paths] == [{"a": "file 1", "d": "dir"}, {"a": "whiteout", "b": "file 2"}, {"c": "link b"}]
    assert host.leftovers() == []


def test_chain_id_is_the_specifications():
    first, second = Digest.of(b"1"), Digest.of(b"2")
    assert chain_ids([first, second]) == (first, Digest.of(f"{first} {second}".encode()))
    assert chain_ids([]) == ()


@pytest.mark.parametrize("media_type", [OCI_LAYER_GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip"])
def test_gzip_layers(host, media_type):
    import gzip

    image = host.push(LAYERS[0], media_type=media_type, packed=[gzip.compress(LAYERS[0])])
    assert listing(host.tree(image)) == {"a": "file 1", "d": "dir"}


def test_zstd_layers(host):
    image = host.push(LAYERS[0], media_type=OCI_LAYER_ZSTD, packed=[frame(LAYERS[0])])
    assert listing(host.tree(image)) == {"a": "file 1", "d": "dir"}


def test_diff_id_of_another_algorithm_is_checked_with_it(host):
    image = host.push(LAYERS[0], diff_ids=[Digest.of(LAYERS[0], "sha512")])
    assert host.pull(image).chain[0].algorithm == "sha512"
    other = host.push(LAYERS[1], diff_ids=[Digest.of(b"else", "sha512")])
    with pytest.raises(DigestError):
        host.pull(other)


def test_image_without_layers(host):
    assert host.pull(host.push()).chain == ()


def test_same_layer_twice_is_downloaded_once(host):
    asked: list[Digest] = []
    original = host.registry.open_blob

    def counted(repository, descriptor):
        asked.append(descriptor.digest)
        return original(repository, descriptor)

    host.registry.open_blob = counted
    pulled = host.pull(host.push(LAYERS[0], LAYERS[0], LAYERS[1]))
    assert len(set(pulled.chain)) == 3
    assert sorted(asked, key=str) == sorted({Digest.of(LAYERS[0]), Digest.of(LAYERS[1])}, key=str)


def test_second_pull_asks_for_nothing(host):
    image = host.push(*LAYERS)
    first = host.pull(image)
    host.registry.blobs.clear()
    host.registry.manifests.clear()
    host.registry.asked.clear()
    assert host.pull(image).chain == first.chain
    assert host.registry.asked == []


def test_only_digests_are_asked_for(host):
    image = host.push(*LAYERS)
    host.pull(image)
    assert host.registry.asked == [str(image.digest)]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("change", ["byte", "short", "long", "other"])
def test_changed_layer_is_refused_and_nothing_of_it_is_kept(host, number, change):
    image = host.push(*LAYERS)
    original = image.layers[number]
    changed = {
        "byte": original[:600] + b"X" + original[601:],
        "short": original[:-1],
        "long": original + b"\0",
        "other": layer(file("evil", b"evil")),
    }[change]
    damage(host, Digest.of(original), changed)
    with pytest.raises(SigkitError) as caught:
        host.pull(image)
    # Also when unpacking found something wrong before the digest did.
    assert caught.value.kind is Kind.DIGEST
    assert host.leftovers() == []
    assert not [name for name in host.files() if Digest.of(original).hex in name or image.digest.hex in name]
    damage(host, Digest.of(original), original)
    assert len(host.pull(image).chain) == 3


def test_damaged_blob_in_the_store_is_fetched_again(host):
    image = host.push(LAYERS[0])
    store = host.store()
    store.add_blob(Digest.of(LAYERS[0]), LAYERS[0][:-1] + b"X")
    assert listing(host.tree(image)) == {"a": "file 1", "d": "dir"}
    assert store.load_blob(Digest.of(LAYERS[0]), most_bytes=1 << 20) == LAYERS[0]


def test_layer_that_lost_its_marker_is_unpacked_again(host):
    image = host.push(LAYERS[0])
    tree = host.tree(image)
    (tree.parent / "complete").unlink()
    (tree / "a").unlink()
    host.registry.blobs.clear()
    assert listing(host.tree(image)) == {"a": "file 1", "d": "dir"}


@pytest.mark.parametrize("key", ["schema", "chain_id", "owners"])
def test_marker_that_says_something_else_does_not_count(host, key):
    image = host.push(LAYERS[0])
    marker = host.tree(image).parent / "complete"
    document = json.loads(marker.read_text())
    marker.write_text(json.dumps({**document, key: "other"}))
    layers = host.layers()
    assert not layers.has(Digest.of(LAYERS[0]))
    host.pull(image)
    assert layers.has(Digest.of(LAYERS[0]))


def test_manifest_that_is_gone_could_not_be_checked(host):
    image = host.push(*LAYERS)
    host.registry.manifests.clear()
    with pytest.raises(AbsentReference):
        host.pull(image)


def test_registry_that_lies_about_a_digest_is_found_out(host):
    image = host.push(*LAYERS)
    other = push(host.registry, [LAYERS[1]])
    host.registry.lies[str(image.digest)] = other.manifest.raw
    with pytest.raises(DigestError):
        host.pull(image)
    assert host.files() == set()


def test_configuration_other_than_the_admitted_one_is_refused(host):
    image = host.push(*LAYERS)
    with pytest.raises(ContradictoryImage):
        host.pull(image, config=Digest.of(b"other"))


def test_as_many_diff_ids_as_layers(host):
    image = host.push(*LAYERS, diff_ids=[Digest.of(LAYERS[0])])
    with pytest.raises(ContradictoryImage):
        host.pull(image)


def test_image_for_another_platform_is_refused_before_a_layer_is_fetched(host):
    image = host.push(*LAYERS)
    with pytest.raises(NoSuchPlatform):
        host.pull(image, platform=Platform("linux", "riscv64"))
    assert host.files() == set()


def test_artifact_is_no_image(host):
    raw = encode_manifest(Descriptor("application/vnd.example", Digest.of(b"{}"), 2), [])
    host.registry.push_manifest(REPOSITORY, Digest.of(raw), raw, OCI_MANIFEST)
    manifest = parse_manifest(raw, Digest.of(raw), PLACE)
    assert isinstance(manifest, Manifest)
    with pytest.raises(NotAnImage):
        host.pull(Image(manifest, ()))


def test_layer_with_urls_is_fetched_from_the_repository_alone(host):
    """Foreign layers too: where their `urls` point is never asked."""
    image = host.push(LAYERS[0], media_type="application/vnd.docker.image.rootfs.foreign.diff.tar", packed=[LAYERS[0]])
    document = json.loads(image.manifest.raw)
    document["layers"][0]["urls"] = ["http://169.254.169.254/latest"]
    raw = json.dumps(document).encode()
    host.registry.push_manifest(REPOSITORY, Digest.of(raw), raw, OCI_MANIFEST)
    manifest = parse_manifest(raw, Digest.of(raw), PLACE)
    assert isinstance(manifest, Manifest)
    assert listing(host.tree(Image(manifest, image.layers))) == {"a": "file 1", "d": "dir"}


def test_progress_counts_every_layer_to_its_size(host):
    big = layer(file("big", os.urandom(3 << 20)))
    image = host.push(LAYERS[0], big)
    host.pull(image)
    for descriptor in image.manifest.layers:
        told = [done for digest, done, total in host.progress.seen if digest == descriptor.digest]
        assert told == sorted(told)
        assert told[-1] == descriptor.size
    assert len([1 for digest, _, _ in host.progress.seen if digest == Digest.of(big)]) > 2


def test_two_pulls_at_once_bring_one_copy(host):
    big = layer(file("big", os.urandom(2 << 20)))
    image = host.push(big, *LAYERS)
    counts: list[Digest] = []
    original = host.registry.open_blob

    def counted(repository, descriptor):
        counts.append(descriptor.digest)
        return original(repository, descriptor)

    host.registry.open_blob = counted
    results: list[object] = []

    def work() -> None:
        try:
            results.append(host.pull(image).chain)
        except BaseException as err:  # noqa: BLE001 (carried to the test's own thread)
            results.append(err)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [results[0]] * 3
    assert len(counts) == len(image.layers)
    assert host.leftovers() == []


def test_failure_of_one_layer_ends_the_others(host):
    big = layer(file("big", os.urandom(8 << 20)))
    bad = layer(file("../out"))
    image = host.push(bad, big, *LAYERS)
    with pytest.raises(SigkitError) as caught:
        host.pull(image)
    assert caught.value.kind is Kind.UNPACK
    assert host.leftovers() == []


def test_refusal_names_layer_and_entry(host):
    bad = layer(file("d/../out"))
    with pytest.raises(SigkitError) as caught:
        host.pull(host.push(bad))
    assert caught.value.place.source == str(REPOSITORY)
    assert caught.value.place.inside == f"layer {Digest.of(bad)} d/../out"


def test_interrupt_leaves_nothing(host):
    big = layer(file("big", os.urandom(4 << 20)))
    image = host.push(big)

    class Interrupting:
        def advance(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pulling.pull(admission(image), host.registry, host.store(), host.layers(), Interrupting())
    assert host.leftovers() == []
    assert host.files() == set()


def test_images_are_listed_as_they_were_asked_for(host):
    engine = host.engine()
    first, second = host.push(*LAYERS), host.push(LAYERS[0])
    for image, tag in ((first, "v1"), (second, "v2"), (second, None)):
        engine.pull(admission(image, tag=tag, reference=f"app:{tag}"), host.registry)
    engine.pull(admission(second, tag="v1", reference="app:v1"), host.registry)
    found = {record.tag: record for record in list_images(engine.store)}
    assert {tag: record.manifest for tag, record in found.items()} == dict.fromkeys(("v1", "v2", None), second.digest)
    record = found["v2"]
    assert (record.repository, record.reference, record.policy_name) == (str(REPOSITORY), "app:v2", "test")
    assert record.size_bytes == len(second.manifest.raw) + second.manifest.config.size + len(LAYERS[0])
    assert record.pulled_at == "2026-11-25T12:00:00Z"


def test_image_whose_manifest_is_gone_is_not_listed(host):
    engine = host.engine()
    image = host.push(LAYERS[0])
    engine.pull(admission(image), host.registry)
    engine.store.drop_blob(image.digest)
    assert list_images(engine.store) == ()


def test_layers_of_other_ids_are_not_taken(host):
    from sigkit.runtime.spec import IdMap
    from sigkit.runtime.users import Maps

    image = host.push(LAYERS[0])
    host.pull(image)
    store = host.store()
    assert Layers(store, choose_maps(None)).has(Digest.of(LAYERS[0]))
    other = Maps((IdMap(0, 4242, 1),), (IdMap(0, 4242, 1),), False)
    assert not Layers(store, other).has(Digest.of(LAYERS[0]))
