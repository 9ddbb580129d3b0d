"""Makes a container from an admitted image, runs it to its end, and removes it.

Nothing starts before the admission is redeemed. A container lives in `containers/<id>` of the store; whoever runs it holds the lock of its
id, so what a killed process left is found and removed by the next one that starts a container. Containers are not kept after their end.

Only `gate.run` may import this module.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from sigkit import durable, limits
from sigkit.data import Data
from sigkit.engine import images
from sigkit.engine import pull as pulling
from sigkit.engine.account import find_account
from sigkit.engine.admission import Network
from sigkit.engine.merged import MergedTree
from sigkit.engine.snapshots import Layers, Overlay, make_root, remove_tree
from sigkit.engine.spec import Surroundings, make_spec, working_directory
from sigkit.engine.store import Store, writing
from sigkit.errors import Bug, LockTimeout, NoSuchContainer, Place
from sigkit.runtime import removal
from sigkit.runtime import state as runtime_state
from sigkit.runtime.cgroups import find
from sigkit.runtime.create import dismiss, run_bundle, stand_by
from sigkit.runtime.spawn import default_state_root
from sigkit.runtime.users import choose_maps
from sigkit.strict import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sigkit.clock import Clock
    from sigkit.engine.admission import Admission, Redeem
    from sigkit.engine.pull import Progress, PulledImage
    from sigkit.oci.registry import Registry
    from sigkit.runtime.spawn import Launcher
    from sigkit.strict import Json

_ID_BYTES = 6  # 12 hexadecimal digits, as other engines show
_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"


class BundleDirectory(Data):
    """A directory that the OCI runtime takes: config.json, and the root file system or how to mount it."""

    path: str
    container_id: str
    rootfs_mount: tuple[str, str, str] | None


class Options(Data):
    """How the engine of this host works."""

    root: str
    # Where the runtime writes each kernel step, why, and the shell line that does the same.
    trace_fd: int | None = None
    preserve_fds: int = 0


class LocalEngine:
    """Images and containers of this user on this host."""

    def __init__(self, options: Options, clock: Clock, progress: Progress, warn: Callable[[str], None]) -> None:
        """Open the store at `options.root`, made if missing.

        Args:
            options: where and how.
            clock: when an image was pulled.
            progress: is told how far layers have come.
            warn: is told what was left out of a layer, and what could not be granted.

        Raises:
            FileUnwritable: (UNAVAIL) there can be no store.
        """
        self._options = options
        self._clock = clock
        self._progress = progress
        self._warn = warn
        self.store = Store(options.root)
        self._layers = Layers(self.store, choose_maps(None))
        self._state_root = _state_root(self.store.root)
        self._launcher: Launcher | None = None

    @contextlib.contextmanager
    def standing_by(self) -> Iterator[None]:
        """Have a launcher get ready, while the caller judges, for the `start` within the block; one that no start took is ended.

        It is an interpreter that waits: what to do it is told by `start` alone, after the admission was redeemed.
        """
        self._launcher = stand_by(self._options.trace_fd, self._options.preserve_fds)
        try:
            yield
        finally:
            launcher = self._take_launcher()
            if launcher is not None:
                dismiss(launcher)

    def _take_launcher(self) -> Launcher | None:
        launcher, self._launcher = self._launcher, None
        return launcher

    def pull(self, admission: Admission, registry: Registry) -> PulledImage:
        """Bring exactly the admitted image, every byte checked, and put it on the list of images.

        Raises:
            SigkitError: as `engine.pull.pull`.
        """
        image = pulling.pull(admission, registry, self.store, self._layers, self._progress)
        images.remember(self.store, admission, image, self._clock.now())
        for note in image.notes:
            self._warn(note)
        return image

    def start(self, admission: Admission, image: PulledImage, redeem: Redeem) -> int:
        """Use the admission up, start its container, wait for it, remove it, and return its status.

        Raises:
            SigkitError: it could not be started; nothing of it is left.
        """
        if (image.manifest.digest, image.manifest.config.digest) != (admission.manifest, admission.config):
            raise Bug("an image other than the admitted one was to be started")
        if image.not_unpacked is not None:
            raise image.not_unpacked
        self._sweep()
        redeem(admission)
        with self._directory() as (container_id, directory):
            bundle = self._create(admission, image, container_id, directory)
            return run_bundle(
                bundle.path,
                bundle.container_id,
                state_root=self._state_root,
                trace_fd=self._options.trace_fd,
                preserve_fds=self._options.preserve_fds,
                rootfs_mount=bundle.rootfs_mount,
                judged=frozenset(mount.source for mount in admission.confinement.mounts),
                warn=self._warn,
                launcher=self._take_launcher(),
            )

    def _create(self, admission: Admission, image: PulledImage, container_id: str, directory: str) -> BundleDirectory:
        user = admission.confinement.user
        tree = MergedTree([self._layers.path(chain_id) for chain_id in reversed(image.chain)])
        account = find_account(
            image.config.user if user is None else user,
            tree.read("/etc/passwd", most_bytes=limits.PASSWD_BYTES),
            tree.read("/etc/group", most_bytes=limits.PASSWD_BYTES),
            Place(f"{admission.repository}@{admission.config}", "$.config.User") if user is None else Place.operator("--user"),
        )
        hostname = admission.confinement.hostname or container_id
        files = _write_files(directory, hostname, admission.confinement.network)
        surroundings = Surroundings(hostname, files, _seccomp(admission), limits.RUNTIME_PIDS if find.can_limit("pids") else None)
        spec = make_spec(image.config, admission, account, surroundings)
        root = make_root(directory, self._layers, image.chain, working_directory(image.config, admission))
        _write(os.path.join(directory, "config.json"), encode_json(spec))
        return BundleDirectory(directory, container_id, root.mount if isinstance(root, Overlay) else None)

    @contextlib.contextmanager
    def _directory(self) -> Iterator[tuple[str, str]]:
        """Give a new container's id and directory, which is removed at the end."""
        container_id = os.urandom(_ID_BYTES).hex()
        directory = os.path.join(self.store.root, "containers", container_id)
        with durable.lock(self._lock_path(container_id), timeout_s=0):
            with writing(directory):
                os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
                os.mkdir(directory, 0o700)
            try:
                yield container_id, directory
            finally:
                remove_tree(directory, self._layers.ids)
                os.unlink(self._lock_path(container_id))

    def _lock_path(self, container_id: str) -> str:
        return os.path.join(self.store.root, "locks", f"container-{container_id}")

    def _sweep(self) -> None:
        """Remove containers whose engine was killed: process, cgroups, state, files."""
        containers = os.path.join(self.store.root, "containers")
        try:
            names = os.listdir(containers)
        except FileNotFoundError:
            return
        for container_id in names:
            with contextlib.suppress(LockTimeout), durable.lock(self._lock_path(container_id), timeout_s=0):
                with contextlib.suppress(NoSuchContainer):
                    found = runtime_state.load(self._state_root, container_id)
                    removal.end(found)
                    removal.remove(self._state_root, found)
                remove_tree(os.path.join(containers, container_id), self._layers.ids)
                with contextlib.suppress(FileNotFoundError):  # the container ended, and took it away, while it was opened here
                    os.unlink(self._lock_path(container_id))


def _state_root(root: str) -> str:
    """Return where the runtime keeps its state: forgotten at the next boot where there is such a place, else in the store."""
    if os.geteuid() == 0 or os.environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        return default_state_root()
    return os.path.join(root, "runtime")


def _seccomp(admission: Admission) -> Json:
    from sigkit.runtime.seccomp import default_profile

    return default_profile(admission.confinement.capabilities)


def _write_files(directory: str, hostname: str, network: Network) -> dict[str, str]:
    """Write the files that the container gets beside the image's own, and return where each appears inside."""
    content = {
        "/etc/hostname": f"{hostname}\n".encode(),
        "/etc/hosts": f"{_HOSTS}127.0.1.1\t{hostname}\n".encode(),
        "/etc/resolv.conf": b"",
    }
    if network is Network.HOST:
        for path in ("/etc/hosts", "/etc/resolv.conf"):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                content[path] = file.read(limits.PASSWD_BYTES)
    found = {}
    for inside, data in content.items():
        found[inside] = os.path.join(directory, os.path.basename(inside))
        _write(found[inside], data)
    return found


def _write(path: str, data: bytes) -> None:
    """Write a file of the container's directory; it need not survive a power cut, because the container does not."""
    with writing(path), open(path, "xb", opener=lambda p, flags: os.open(p, flags | os.O_CLOEXEC, 0o644)) as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)
