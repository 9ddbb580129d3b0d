"""A host with an engine: images made of real layers in a registry in memory, admissions for them, and a search for what is left behind."""

from __future__ import annotations

import gzip
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sigkit.digest import Digest
from sigkit.engine import pull as pulling
from sigkit.engine.admission import Admission, Confinement
from sigkit.engine.containers import LocalEngine, Options
from sigkit.engine.inflate import Compression
from sigkit.engine.snapshots import Layers
from sigkit.engine.store import Store
from sigkit.engine.unpack import Unpacking
from sigkit.errors import NamespacesUnavailable
from sigkit.oci.descriptor import Descriptor, host_platform
from sigkit.oci.image import encode_image_config
from sigkit.oci.manifest import OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_TAR, OCI_MANIFEST, Manifest, encode_manifest, parse_manifest
from sigkit.oci.reference import Repository
from sigkit.runtime.capabilities import DEFAULT
from sigkit.runtime.spawn import default_state_root
from sigkit.runtime.users import choose_maps
from tests.simulators.altered import altered
from tests.simulators.layers import PLACE, directory, file, layer, symlink
from tests.simulators.memory_registry import MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigkit.engine.pull import PulledImage

REPOSITORY = Repository("registry.example", "team/app")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class StoppedClock:
    def now(self) -> datetime:
        return NOW


class Image(NamedTuple):
    """A pushed image."""

    manifest: Manifest
    layers: tuple[bytes, ...]

    @property
    def digest(self) -> Digest:
        return self.manifest.digest


class Recorder:
    """Remembers what a pull told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Digest, int, int]] = []

    def advance(self, layer_: Digest, done_bytes: int, total_bytes: int) -> None:
        self.seen.append((layer_, done_bytes, total_bytes))


class Once:
    """Stands for the gate: an admission may be redeemed once."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def __call__(self, admission: Admission) -> None:
        assert admission.nonce not in self.used
        self.used.append(admission.nonce)


def push(
    registry: MemoryRegistry,
    archives: Sequence[bytes],
    *,
    media_type: str = OCI_LAYER_TAR,
    diff_ids: Sequence[Digest] | None = None,
    packed: Sequence[bytes] | None = None,
    **config,
) -> Image:
    """Push an image of these uncompressed layers; `packed` are the blobs, if they are something else."""
    if packed is None:
        packed = [gzip.compress(archive, 1, mtime=0) if media_type == OCI_LAYER_GZIP else archive for archive in archives]
    diffs = [Digest.of(archive) for archive in archives] if diff_ids is None else diff_ids
    document = encode_image_config(host_platform(), diffs, **{"cmd": ("/bin/true",), **config})
    raw = encode_manifest(
        Descriptor(OCI_CONFIG, Digest.of(document), len(document)), [Descriptor(media_type, Digest.of(blob), len(blob)) for blob in packed]
    )
    for blob in (document, *packed):
        registry.push_blob(REPOSITORY, Digest.of(blob), blob)
    registry.push_manifest(REPOSITORY, "latest", raw, OCI_MANIFEST)
    manifest = parse_manifest(raw, Digest.of(raw), PLACE)
    assert isinstance(manifest, Manifest)
    return Image(manifest, tuple(packed))


def admission(image: Image, **changes) -> Admission:
    """Return leave for `image`, as a gate would give it."""
    given = Admission(
        nonce=os.urandom(8).hex(),
        repository=REPOSITORY,
        top=image.digest,
        manifest=image.digest,
        config=image.manifest.config.digest,
        platform=host_platform(),
        command=None,
        environment=(),
        confinement=Confinement(capabilities=DEFAULT),
        policy_name="test",
        policy_digest=Digest.of(b"policy"),
        expires_at=NOW + timedelta(minutes=5),
        audit_id="audit-1",
        reference="registry.example/team/app:latest",
        tag="latest",
    )
    return altered(given, **changes)


class Host:
    """A store in a directory, and what works on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = MemoryRegistry()
        self.progress = Recorder()
        self.warnings: list[str] = []
        self.redeem = Once()

    def store(self) -> Store:
        return Store(str(self.root))

    def layers(self) -> Layers:
        return Layers(self.store(), choose_maps(None))

    def push(self, *archives: bytes, **more) -> Image:
        return push(self.registry, archives, **more)

    def pull(self, image: Image, **changes) -> PulledImage:
        store = self.store()
        return pulling.pull(admission(image, **changes), self.registry, store, Layers(store, choose_maps(None)), self.progress)

    def engine(self, **options) -> LocalEngine:
        return LocalEngine(Options(str(self.root), **options), StoppedClock(), self.progress, self.warnings.append)

    def run(self, image: Image, **changes) -> int:
        """Pull an image and run a container of it."""
        engine = self.engine()
        given = admission(image, **changes)
        return engine.start(given, engine.pull(given, self.registry), self.redeem)

    def tree(self, image: Image, number: int = 0) -> Path:
        """Return where the files of a layer lie."""
        pulled = self.pull(image)
        return Path(self.layers().path(pulled.chain[number]))

    def files(self) -> set[str]:
        """Return every file of the store but its locks and its index: what a refusal may not add to."""
        found = set()
        for above, names, leaves in os.walk(self.root):
            names[:] = [name for name in names if name != "locks"]
            found |= {os.path.relpath(os.path.join(above, name), self.root) for name in leaves if not name.startswith("index.db")}
        return found

    def leftovers(self) -> list[str]:
        """Return what containers and half-done pulls left on this host: mounts, cgroups, processes, directories."""
        found = [f"mount: {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in line]
        found += [f"process: {pid} {words}" for pid, words in _processes() if str(self.root) in words]
        for name in ("containers", "staging"):
            if (self.root / name).is_dir():
                found += [f"{name}: {entry}" for entry in os.listdir(self.root / name)]
        found += [f"temporary: {name}" for name in self.files() if name.endswith(".tmp")]
        return found

    def runtime_leftovers(self, container_ids: Sequence[str]) -> list[str]:
        """Return the cgroups and runtime states of these containers that are still there."""
        found = [f"cgroup: {top}/{n}" for top, names, _ in os.walk("/sys/fs/cgroup") for n in names if any(i in n for i in container_ids)]
        state = Path(default_state_root())
        return found + [f"state: {i}" for i in container_ids if (state / i).exists()]


def opened(root: Path) -> Host:
    """Return a host that can unpack layers, or skip the test where this user may make no namespaces."""
    import pytest

    host = Host(root)
    try:
        with Unpacking(_new_directory(root), Compression.NONE, choose_maps(None), Digest.of(bytes(1024)), PLACE) as unpacking:
            unpacking.feed(bytes(1024))
            unpacking.finish()
    except NamespacesUnavailable as err:
        pytest.skip(str(err))
    return host


def _new_directory(root: Path) -> str:
    root.parent.mkdir(parents=True, exist_ok=True)
    probe = root.parent / "probe"
    probe.mkdir()
    return str(probe)


def _processes() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().decode("utf-8", "replace")
                places = [os.readlink(f"/proc/{name}/{link}") for link in ("root", "cwd")]
            except OSError:
                continue
            found.append((int(name), " ".join([words, *places])))
    return found


def archive_of(root: Path) -> bytes:
    """Return a layer with the files of a directory, all root's."""
    entries = []
    for above, names, leaves in os.walk(root):
        for name in sorted(names + leaves):
            path = os.path.join(above, name)
            inside = os.path.relpath(path, root)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                entries.append(symlink(inside, os.readlink(path)))
            elif stat.S_ISDIR(status.st_mode):
                entries.append(directory(inside + "/", mode=stat.S_IMODE(status.st_mode)))
            else:
                entries.append(file(inside, Path(path).read_bytes(), mode=stat.S_IMODE(status.st_mode)))
    return layer(*entries)
