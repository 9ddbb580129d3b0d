"""Pulls exactly the image that was admitted, and unpacks its layers while they arrive.

Every byte is checked: the manifest against the admitted digest, the configuration against the admitted one and the manifest, each layer
against the manifest (as it streams) and, uncompressed, against the configuration. The digest of what arrived has the first word: a layer
that was changed on the way is refused for that, whatever its unpacking found. What is here already is not fetched again.

A layer's bytes go to the store and to the unpacking process at once, a few layers at a time; memory is bounded by the pieces in flight.

Not handled here: whether the admission was used up. `containers.create` redeems it, or whoever pulls alone.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from sigkit import durable, limits
from sigkit.data import Data
from sigkit.digest import Digest, check_digest
from sigkit.engine.inflate import Compression
from sigkit.engine.snapshots import chain_ids
from sigkit.errors import (
    AbsentReference,
    ContradictoryImage,
    DigestError,
    LockTimeout,
    NamespacesUnavailable,
    NotAnImage,
    Place,
    SigkitError,
    WrongCompression,
)
from sigkit.oci import manifest as media
from sigkit.oci.image import ImageConfig, check_platform, parse_image_config
from sigkit.oci.manifest import Manifest, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from sigkit.digest import VerifyingReader
    from sigkit.engine.admission import Admission
    from sigkit.engine.snapshots import Layers
    from sigkit.engine.store import Store
    from sigkit.engine.unpack import Unpacking
    from sigkit.oci.descriptor import Descriptor
    from sigkit.oci.reference import Repository
    from sigkit.oci.registry import Registry

_LAYERS_AT_ONCE = 3  # one more than the processors of a small host: one may wait for the network or the disk

# Docker's foreign and OCI's non-distributable layers are fetched like others: from this repository, never from their `urls`.
_COMPRESSIONS = {
    media.OCI_LAYER_TAR: Compression.NONE,
    media.OCI_LAYER_GZIP: Compression.GZIP,
    media.OCI_LAYER_ZSTD: Compression.ZSTD,
    media.DOCKER_LAYER_TAR: Compression.NONE,
    media.DOCKER_LAYER_GZIP: Compression.GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": Compression.ZSTD,
    "application/vnd.docker.image.rootfs.foreign.diff.tar": Compression.NONE,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": Compression.NONE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": Compression.ZSTD,
}


class Progress(Protocol):
    """Is told how far each layer has come; called from several threads, one at a time."""

    def advance(self, layer: Digest, done_bytes: int, total_bytes: int) -> None:
        """`done_bytes` of the layer have arrived; equal to `total_bytes` once it is verified and unpacked."""
        ...


class PulledImage(Data):
    """An image whose every byte is in the store, checked.

    Without namespaces for this user its layers stay packed: `not_unpacked` says why, and no container can be made of it.
    """

    manifest: Manifest
    config: ImageConfig
    chain: tuple[Digest, ...]
    notes: tuple[str, ...]
    not_unpacked: NamespacesUnavailable | None = None


class _Layer(Data):
    descriptor: Descriptor
    compression: Compression
    diff_id: Digest
    chain_id: Digest


def pull(admission: Admission, registry: Registry, store: Store, layers: Layers, progress: Progress) -> PulledImage:
    """Bring the admitted image into the store, and unpack its layers.

    Raises:
        DigestError: bytes differ from their digest; nothing of them was kept.
        UnpackError, LimitError: a layer is refused; nothing of it was kept.
        AbsentReference, NetError, UnavailError: it could not be fetched.
    """
    manifest, config = _fetch_documents(admission, registry, store)
    wanted = _pair(manifest, config, Place(f"{admission.repository}@{admission.manifest}"))
    work = _Pull(admission.repository, registry, store, layers, progress)
    notes, not_unpacked = work.all(wanted)
    store.add_blob(admission.manifest, manifest.raw)
    store.add_blob(admission.config, config.raw)
    return PulledImage(manifest, config, tuple(layer.chain_id for layer in wanted), notes, not_unpacked)


def _fetch_documents(admission: Admission, registry: Registry, store: Store) -> tuple[Manifest, ImageConfig]:
    place = Place(f"{admission.repository}@{admission.manifest}")
    raw = store.load_blob(admission.manifest, most_bytes=limits.MANIFEST_BYTES)
    if raw is None:
        raw = registry.fetch_manifest(admission.repository, admission.manifest)
        if raw is None:
            raise AbsentReference("the registry does not have the manifest that was admitted", place=place)
        check_digest(raw, admission.manifest, place)
    manifest = parse_manifest(raw, admission.manifest, place)
    if not isinstance(manifest, Manifest) or not manifest.is_image:
        raise NotAnImage("an index or an artifact where an image was admitted", place=place, got=manifest.media_type)
    if manifest.config.digest != admission.config:
        raise ContradictoryImage(
            "the manifest names another configuration than was admitted",
            place=place,
            expected=str(admission.config),
            got=str(manifest.config.digest),
        )
    at = Place(f"{admission.repository}@{admission.config}")
    raw_config = store.load_blob(admission.config, most_bytes=limits.CONFIG_BYTES)
    if raw_config is None:
        raw_config = registry.fetch_blob(admission.repository, manifest.config, most_bytes=limits.CONFIG_BYTES)
        check_digest(raw_config, admission.config, at)
    config = parse_image_config(raw_config, at)
    check_platform(config, admission.platform, at)
    return manifest, config


def _pair(manifest: Manifest, config: ImageConfig, place: Place) -> tuple[_Layer, ...]:
    if len(manifest.layers) != len(config.diff_ids):
        raise ContradictoryImage(
            "manifest and configuration differ in the number of layers",
            place=place,
            expected=f"{len(config.diff_ids)} layers",
            got=f"{len(manifest.layers)} layers",
        )
    paired = zip(manifest.layers, config.diff_ids, chain_ids(config.diff_ids), strict=True)
    return tuple(_Layer(descriptor, _compression(descriptor, place), diff, chain) for descriptor, diff, chain in paired)


def _compression(layer: Descriptor, place: Place) -> Compression:
    found = _COMPRESSIONS.get(layer.media_type)
    if found is None:
        at = Place("", f"layer {layer.digest}").within(place)
        raise WrongCompression("a layer of a type that sigkit does not read", place=at, expected="tar, gzip or zstd", got=layer.media_type)
    return found


class _Stopped(Exception):
    """Another layer failed, or the user gave up."""


class _Damaged(Exception):
    """The store's copy of a layer is not what its name says."""


class _Pull:
    """The layers of one image on their way."""

    def __init__(self, repository: Repository, registry: Registry, store: Store, layers: Layers, progress: Progress) -> None:
        self._repository = repository
        self._registry = registry
        self._store = store
        self._layers = layers
        self._progress = progress
        self._telling = threading.Lock()
        self._stop = threading.Event()
        self._no_namespaces: NamespacesUnavailable | None = None

    def all(self, wanted: tuple[_Layer, ...]) -> tuple[tuple[str, ...], NamespacesUnavailable | None]:
        """Bring all layers; return what was left out of them, and why they are not unpacked if they are not."""
        missing = [layer for layer in wanted if not self._is_here(layer)]
        if not missing:
            return (), None
        from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

        with ThreadPoolExecutor(_LAYERS_AT_ONCE, thread_name_prefix="layer") as threads:
            jobs = [threads.submit(self._one, layer) for layer in missing]
            try:
                wait(jobs, return_when=FIRST_EXCEPTION)
            finally:
                # After a refusal, and on Ctrl-C: each thread sees it at its next piece, ends its child and removes what it made.
                self._stop.set()
        failed = [err for job in jobs if (err := job.exception()) and not isinstance(err, _Stopped)]
        if failed:
            raise failed[0]
        return tuple(note for job in jobs for note in job.result()), self._no_namespaces

    def _is_here(self, layer: _Layer) -> bool:
        here = self._layers.has(layer.chain_id)
        if here:
            self._tell(layer, layer.descriptor.size)
        return here

    def _one(self, layer: _Layer) -> tuple[str, ...]:
        """Bring one layer, and return what was left out of it."""
        if self._stop.is_set():
            raise _Stopped
        with self._lock(layer.chain_id, "layer"):
            notes: tuple[str, ...] = ()
            if not self._layers.has(layer.chain_id):
                with self._lock(layer.descriptor.digest, "blob"):
                    notes = self._bring(layer)
        self._tell(layer, layer.descriptor.size)
        return notes

    def _bring(self, layer: _Layer) -> tuple[str, ...]:
        if self._no_namespaces is None:
            try:
                with self._store.open_blob(layer.descriptor) as stored:
                    if stored is not None:
                        return self._unpack(layer, stored)
            except _Damaged:
                self._store.drop_blob(layer.descriptor.digest)
            except NamespacesUnavailable as err:
                self._no_namespaces = err
        if self._no_namespaces is None:
            try:
                return self._fetch_and_unpack(layer)
            except NamespacesUnavailable as err:
                self._no_namespaces = err
        self._fetch(layer)
        return ()

    def _unpack(self, layer: _Layer, stored: VerifyingReader) -> tuple[str, ...]:
        with self._unpacking(layer) as unpacking:
            try:
                for piece in self._pieces(layer, stored):
                    unpacking.feed(piece)
            except DigestError as err:
                raise _Damaged from err
            return self._keep(layer, unpacking)

    def _fetch_and_unpack(self, layer: _Layer) -> tuple[str, ...]:
        with self._unpacking(layer) as unpacking:
            with self._arriving(layer) as (arriving, file):
                for piece in self._pieces(layer, arriving):
                    unpacking.feed(piece)
                    file.write(piece)
            try:
                return self._keep(layer, unpacking)
            except NamespacesUnavailable:
                raise
            except SigkitError:
                self._store.drop_blob(layer.descriptor.digest)  # of a layer that is refused nothing is kept
                raise

    def _fetch(self, layer: _Layer) -> None:
        with self._store.open_blob(layer.descriptor) as stored:
            try:
                if stored is not None:
                    for _ in self._pieces(layer, stored):
                        pass
                    return
            except DigestError:
                self._store.drop_blob(layer.descriptor.digest)
        with self._arriving(layer) as (arriving, file):
            for piece in self._pieces(layer, arriving):
                file.write(piece)

    @contextmanager
    def _arriving(self, layer: _Layer) -> Iterator[tuple[VerifyingReader, IO[bytes]]]:
        """Give the layer as it arrives, and the file that becomes its blob when all of it has."""
        with (
            self._registry.open_blob(self._repository, layer.descriptor) as arriving,
            self._store.create_blob(layer.descriptor.digest) as file,
        ):
            yield arriving, file

    @contextmanager
    def _lock(self, digest: Digest, purpose: str) -> Iterator[None]:
        """Hold a lock of the store; whoever waits for another process's pull still notices that this one is over."""
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(self._store.lock(digest, purpose, timeout_s=1))
                    break
                except LockTimeout:
                    if self._stop.is_set():
                        raise _Stopped from None
            yield

    @contextmanager
    def _unpacking(self, layer: _Layer) -> Iterator[Unpacking]:
        """Give a process that unpacks the layer; unless it was kept, nothing of it stays."""
        from sigkit.engine.unpack import Unpacking

        place = Place("", f"layer {layer.descriptor.digest}").within(Place(str(self._repository)))
        try:
            directory = self._layers.begin(layer.chain_id)
            with Unpacking(directory, layer.compression, self._layers.ids, layer.diff_id, place) as unpacking:
                yield unpacking
        finally:
            self._layers.abandon(layer.chain_id)

    def _keep(self, layer: _Layer, unpacking: Unpacking) -> tuple[str, ...]:
        unpacked = unpacking.finish()
        self._layers.commit(layer.chain_id, unpacked)
        return unpacked.notes

    def _pieces(self, layer: _Layer, reader: VerifyingReader) -> Iterator[bytes]:
        """Give the layer's bytes; ends without an exception only when they are proved."""
        done = 0
        for piece in reader:
            if self._stop.is_set():
                raise _Stopped
            durable.failpoint("pull.piece")
            yield piece
            done += len(piece)
            if done < layer.descriptor.size:
                self._tell(layer, done)

    def _tell(self, layer: _Layer, done_bytes: int) -> None:
        with self._telling:
            self._progress.advance(layer.descriptor.digest, done_bytes, layer.descriptor.size)
