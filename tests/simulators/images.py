"""Small images for tests: honest ones, and the parts to build dishonest ones from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sigkit.digest import Digest
from sigkit.oci.descriptor import Descriptor, Platform
from sigkit.oci.image import encode_image_config
from sigkit.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST, encode_index, encode_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.oci.reference import Repository
    from sigkit.oci.registry import Registry

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64", "v8")


class SmallImage(NamedTuple):
    """An image of one layer, which is no real tar file."""

    manifest: bytes
    config: bytes
    layer: bytes

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)

    def push(self, registry: Registry, repository: Repository, tag: str | None = None) -> Digest:
        """Store the image, under a tag or under its digest alone."""
        for blob in (self.config, self.layer):
            registry.push_blob(repository, Digest.of(blob), blob)
        registry.push_manifest(repository, tag if tag is not None else self.digest, self.manifest, OCI_MANIFEST)
        return self.digest


def describe(raw: bytes, media_type: str = OCI_MANIFEST, platform: Platform | None = None, **more) -> Descriptor:
    """Return the descriptor of some bytes."""
    return Descriptor(media_type, Digest.of(raw), len(raw), platform=platform, **more)


def small_image(layer: bytes = b"layer", platform: Platform = AMD64, annotations: Mapping[str, str] | None = None) -> SmallImage:
    """Build an image whose bytes depend on the arguments only."""
    config = encode_image_config(platform, (Digest.of(layer),), cmd=("/bin/true",))
    manifest = encode_manifest(describe(config, OCI_CONFIG), (describe(layer, OCI_LAYER_TAR),), annotations=annotations)
    return SmallImage(manifest, config, layer)


def push_index(registry: Registry, repository: Repository, images: Mapping[Platform, SmallImage], tag: str) -> bytes:
    """Store images and an index over them, and return the index."""
    for image in images.values():
        image.push(registry, repository)
    raw = encode_index([describe(image.manifest, platform=platform) for platform, image in images.items()])
    registry.push_manifest(repository, tag, raw, OCI_INDEX)
    return raw
