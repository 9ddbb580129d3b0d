"""Reads a file of an image from its unpacked layers, as a container would see it, while no overlay is mounted on the host.

Names are looked up layer by layer, by descriptor, with whiteouts and opaque directories; links are followed inside the image only.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from sigkit.engine.files import OPAQUE_ATTRIBUTE, is_whiteout
from sigkit.errors import FileUnreadable, Place, TooLarge, UnsafeRootfs

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINKS = 40  # as many as Linux follows
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class MergedTree:
    """The root directory of an image: the `fs` directories of its layers, the topmost first."""

    def __init__(self, layers: Sequence[str]) -> None:
        """Look into `layers`, paths of directories that nobody else writes to."""
        self._layers = tuple(layers)

    def read(self, path: str, *, most_bytes: int) -> bytes:
        """Return the content of a regular file, or nothing when there is none at `path`.

        Raises:
            TooLarge: (LIMIT) it has more than `most_bytes` bytes.
            UnsafeRootfs: (RUNTIME) it is no regular file, or links lead in circles.
            FileUnreadable: (UNAVAIL) this user may not read it.
        """
        place = Place("image", path)
        try:
            with contextlib.ExitStack() as opened:
                descriptor = self._find(path, opened, place)
                if descriptor is None:
                    return b""
                data = bytearray()
                while more := os.read(descriptor, most_bytes + 1 - len(data)):
                    data += more
        except OSError as err:
            raise FileUnreadable(f"cannot read a file of the image: {err.strerror}", place=place) from err
        if len(data) > most_bytes:
            raise TooLarge(f"the file has more than {most_bytes} bytes", place=place)
        return bytes(data)

    def _find(self, path: str, opened: contextlib.ExitStack, place: Place) -> int | None:
        """Walk to `path` and return a descriptor of the file there."""
        root = [_open(layer, None, opened) for layer in self._layers]
        above = [root]
        rest = _split(path)
        links = 0
        while rest:
            name = rest.pop(0)
            if name == "..":
                above = above[:-1] or [root]
                continue
            found = _look_up(above[-1], name, opened)
            if isinstance(found, list):
                above.append(found)
            elif isinstance(found, str):
                links += 1
                if links > _LINKS:
                    raise UnsafeRootfs("links that lead in circles", place=place)
                above = [root] if found.startswith("/") else above
                rest = _split(found) + rest
            elif found is None or rest:
                return None
            else:
                return found
        raise UnsafeRootfs("a directory where a file belongs", place=place)


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part and part != "."]


def _open(path: str, above: int | None, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(path, _OPEN_DIRECTORY, dir_fd=above)
    opened.callback(os.close, descriptor)
    return descriptor


def _look_up(directories: Sequence[int], name: str, opened: contextlib.ExitStack) -> list[int] | str | int | None:
    """Return what `name` is: directories of the layers, a link's target, a file's descriptor, or None."""
    merged: list[int] = []
    for directory in directories:
        try:
            found = os.lstat(name, dir_fd=directory)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(found.st_mode):
            merged.append(_open(name, directory, opened))
            if OPAQUE_ATTRIBUTE in os.listxattr(merged[-1]):
                break
            continue
        if merged or is_whiteout(found):
            break
        if stat.S_ISLNK(found.st_mode):
            return os.readlink(name, dir_fd=directory)
        if not stat.S_ISREG(found.st_mode):  # not opened at all: a device of the layer is one of the host, and opening it can act
            raise UnsafeRootfs("no regular file where one belongs", place=Place("image", name))
        return _open_file(name, directory, opened)
    return merged or None


def _open_file(name: str, directory: int, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    opened.callback(os.close, descriptor)
    return descriptor
