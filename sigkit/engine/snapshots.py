"""Unpacked layers, and the root file systems of containers that are stacked from them.

A layer lies at `layers/<chain id>`: `fs/` and a file `complete`, written after everything in `fs/` is on the disk. It is filled in
`staging/` and renamed when it is whole, so what a killed process leaves is never taken for a layer. Layers are shared, never written to.

A container's root is an overlay of its layers with a writable directory of its own on top. The mount itself is made by the runtime, in
the container's mount namespace: the host never sees it, and it ends with the container. Where the kernel has no overlay for this user,
or the layers are more than one mount option can name, the layers are copied into one tree.

Source: OCI image-spec 1.1 config.md "Layer ChainID"; Linux Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeAlias

from sigkit import durable, limits
from sigkit.data import Data
from sigkit.digest import Digest, parse_digest
from sigkit.engine import files
from sigkit.engine.store import writing
from sigkit.errors import FileUnreadable, FileUnwritable, LockTimeout, MalformedDigest, ParseError, Place
from sigkit.strict import encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sigkit.engine.store import Store
    from sigkit.engine.unpack import Unpacked
    from sigkit.runtime.users import Maps
    from sigkit.strict import Json

_SCHEMA = "sigkit.layer/1"
_MARKER_BYTES = 4096
_FS = "fs"
_MARKER = "complete"
# Written out, so that no attribute of a layer points elsewhere whatever the kernel's defaults are. `userxattr` as root too: unpacking
# needs no CAP_SYS_ADMIN then, and only one kind of attribute has to be kept out of layers.
_OPTIONS = "redirect_dir=nofollow,metacopy=off,index=off,userxattr"
_OPTIONS_BYTES = 4000  # mount(2) takes one page
_NAME_MAX = 255  # of Linux


class Overlay(Data):
    """A root file system that the runtime mounts: type, source, options."""

    mount: tuple[str, str, str]


class Copied(Data):
    """A root file system that lies in the container's directory as it is."""


RootFileSystem: TypeAlias = Overlay | Copied


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return the name of each layer together with all below it."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


def remove_tree(path: str, ids: Maps | None) -> None:
    """Remove a directory with all that is in it, whoever owns it inside of `ids`.

    Raises:
        FileUnwritable, UnpackingFailed: (UNAVAIL).
    """
    try:
        if ids is None or not _empty_as_caller(path):
            _empty(path, ids)
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as err:
        raise FileUnwritable(f"cannot remove the directory: {err.strerror}", place=Place(path)) from err


def _empty(path: str, ids: Maps | None) -> None:
    if ids is not None:
        from sigkit.engine import unpacker
        from sigkit.engine.child import Child

        with Child(path, ids, (unpacker.EMPTY,), Place(path)) as child:
            child.answer()
        return
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        files.empty(directory)
    finally:
        os.close(directory)


def _empty_as_caller(path: str) -> bool:
    """Try without a user namespace, which saves a process; files of subordinate ids, and directories of mode 000, need it."""
    with contextlib.suppress(OSError):
        os.chmod(os.path.join(path, "work", "work"), 0o700)  # overlayfs makes it with mode 000
    try:
        _empty(path, None)
    except PermissionError:
        return False
    return True


class Layers:
    """The unpacked layers of a store. Callers hold the store's lock of a chain id between `begin` and `commit`."""

    def __init__(self, store: Store, ids: Maps | None) -> None:
        """Use the layers of `store`, whose files belong to the ids of `ids` (None: the host's own)."""
        self._store = store
        self.ids = ids
        self._owners = _describe(ids)
        with writing(store.root):
            for name in ("layers", "staging"):
                os.makedirs(os.path.join(store.root, name), mode=0o700, exist_ok=True)
            self._sweep()

    def path(self, chain_id: Digest) -> str:
        """Return the directory that holds the layer's files, or would."""
        return os.path.join(self._store.root, "layers", _name(chain_id), _FS)

    def has(self, chain_id: Digest) -> bool:
        """Tell whether the layer is here, whole, with owners that fit this user's ids."""
        path = os.path.join(self._store.root, "layers", _name(chain_id), _MARKER)
        place = Place(path)
        try:
            top = parse_json(durable.read(path, most_bytes=_MARKER_BYTES, place=place), most_bytes=_MARKER_BYTES, place=place)
            found = (top.member("schema").text(), top.member("chain_id").text(), top.member("owners").text())
        except (FileUnreadable, ParseError):
            return False
        return found == (_SCHEMA, str(chain_id), self._owners)

    def begin(self, chain_id: Digest) -> str:
        """Return an empty directory to unpack the layer into; what an earlier attempt left is removed."""
        self.abandon(chain_id)
        staging = self._staging(chain_id)
        with writing(staging):
            os.mkdir(staging, 0o700)
            os.mkdir(os.path.join(staging, _FS), 0o755)
            os.chmod(os.path.join(staging, _FS), 0o755)  # noqa: S103 (the image's `/`, below a 0700 directory)
        return os.path.join(staging, _FS)

    def commit(self, chain_id: Digest, unpacked: Unpacked) -> None:
        """Make what was unpacked a layer, durably."""
        staging = self._staging(chain_id)
        final = os.path.join(self._store.root, "layers", _name(chain_id))
        marker: dict[str, Json] = {
            "schema": _SCHEMA,
            "chain_id": str(chain_id),
            "diff_id": str(unpacked.diff_id),
            "size_bytes": unpacked.size_bytes,
            "owners": self._owners,
        }
        with writing(final):
            durable.failpoint("layer.sync")
            _sync_file_system(staging)
            durable.write(os.path.join(staging, _MARKER), encode_json(marker), mode=0o600, point="layer.marker")
            if os.path.exists(final):  # of other owners, or without its marker
                remove_tree(final, self.ids)
            durable.failpoint("layer.rename")
            os.rename(staging, final)
            durable.failpoint("layer.directory")
            durable.sync_directory(os.path.dirname(final))

    def abandon(self, chain_id: Digest) -> None:
        """Remove what was unpacked so far."""
        if os.path.lexists(self._staging(chain_id)):
            remove_tree(self._staging(chain_id), self.ids)

    def _staging(self, chain_id: Digest) -> str:
        return os.path.join(self._store.root, "staging", _name(chain_id))

    def _sweep(self) -> None:
        """Remove what killed processes left half-unpacked; one that still runs holds the layer's lock."""
        for name in os.listdir(os.path.join(self._store.root, "staging")):
            with contextlib.suppress(MalformedDigest, LockTimeout):
                chain_id = parse_digest(name.replace("-", ":", 1))
                with self._store.lock(chain_id, "layer", timeout_s=0):
                    self.abandon(chain_id)


def _name(chain_id: Digest) -> str:
    return f"{chain_id.algorithm}-{chain_id.hex}"


def _describe(ids: Maps | None) -> str:
    """Name the ids that files on the disk belong to: a layer unpacked for other ids is not usable."""
    if ids is None:
        return "host"
    return " ".join(f"{m.inside}:{m.outside}:{m.size}" for m in (*ids.uids, *ids.gids))


def _sync_file_system(path: str) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(directory):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(directory)


def make_root(directory: str, layers: Layers, chain: Sequence[Digest], working_dir: str) -> RootFileSystem:
    """Prepare a container's root file system below its own `directory`, to appear at `rootfs`.

    Raises:
        FileUnwritable, UnpackingFailed: (UNAVAIL).
    """
    made = os.path.join(directory, "made")
    with writing(directory):
        for name, mode in (("rootfs", 0o755), ("upper", 0o755), ("work", 0o700), ("l", 0o700)):
            os.mkdir(os.path.join(directory, name), mode)
        os.chmod(os.path.join(directory, "upper"), 0o755)  # noqa: S103 (the container's `/`, below a 0700 directory)
        lower = [made, *(_link(directory, number, layers.path(chain_id)) for number, chain_id in enumerate(chain))]
    _make_working_directory(made, working_dir)
    upper, work = (os.path.join(directory, name) for name in ("upper", "work"))
    stack = ":".join(_escaped(path) for path in reversed(lower))
    options = f"lowerdir={stack},upperdir={_escaped(upper)},workdir={_escaped(work)},{_OPTIONS}"
    if len(os.fsencode(options)) <= _OPTIONS_BYTES and overlay_works(directory, layers.ids):
        return Overlay(("overlay", "overlay", options))
    _copy(os.path.join(directory, "rootfs"), layers.ids, [made, *(layers.path(chain_id) for chain_id in chain)])
    return Copied()


def _make_working_directory(lowest: str, working_dir: str) -> None:
    """Make the lowest layer of all, which holds nothing but the working directory.

    Where the image has that directory, or a part of the way to it, the image's own lies above and is seen; what is missing is seen
    from here. A path that climbs (CVE-2022-23648), or that no file system takes, is left to the runtime, which refuses it.
    """
    parts = [part for part in working_dir.split("/") if part and part != "."]
    if ".." in parts or len(parts) > limits.TAR_DEPTH or any(len(os.fsencode(part)) > _NAME_MAX for part in parts):
        parts = []
    with writing(lowest):
        for depth in range(len(parts) + 1):
            path = os.path.join(lowest, *parts[:depth])
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)  # noqa: S103 (mkdir obeys the umask)


def _link(directory: str, number: int, layer: str) -> str:
    """Return a short name for a layer's directory: the names of all must fit into one page."""
    link = os.path.join(directory, "l", str(number))
    os.symlink(layer, link)
    return link


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def overlay_works(directory: str, ids: Maps | None) -> bool:
    """Tell whether this user can mount an overlay with layers on this file system; tried once for each kernel and user."""
    record = os.path.join(os.path.dirname(os.path.dirname(directory)), "overlay")
    known = f"{os.uname().release} {_describe(ids)} ".encode("ascii")
    with contextlib.suppress(OSError):
        with open(record, "rb") as file:
            found = file.read(_MARKER_BYTES)
        if found.startswith(known):
            return found == known + b"yes"
    from sigkit.engine import unpacker
    from sigkit.engine.child import Child

    probe = os.path.join(directory, "probe")
    with writing(probe):
        for name in ("", "rootfs", "lower", "upper", "work"):
            os.mkdir(os.path.join(probe, name), 0o755)
    with Child(probe, ids, (unpacker.PROBE, f"lowerdir=lower,upperdir=upper,workdir=work,{_OPTIONS}"), Place(probe)) as child:
        works = child.answer().member("works").boolean()
    remove_tree(probe, ids)
    durable.write(record, known + (b"yes" if works else b"no"), mode=0o600)
    return works


def _copy(target: str, ids: Maps | None, lower: Sequence[str]) -> None:
    from sigkit.engine import unpacker
    from sigkit.engine.child import Child

    with contextlib.ExitStack() as opened:
        descriptors = [opened.enter_context(_open_directory(path)) for path in lower]
        arguments = (unpacker.COPY, *(str(number) for number in descriptors))
        with Child(target, ids, arguments, Place(target), descriptors) as child:
            child.answer()


@contextlib.contextmanager
def _open_directory(path: str) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as err:
        raise FileUnreadable(f"cannot open the layer: {err.strerror}", place=Place(path)) from err
    try:
        yield descriptor
    finally:
        os.close(descriptor)
