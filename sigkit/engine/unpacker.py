"""The process that touches images' files: started as a script by `child`, alone with the directory that it works in.

It answers one JSON document on standard output. Before anything is read it gives up the network, every other file and most capabilities;
everything is imported before that.

Arguments: whether to make a user namespace, whose ids the parent maps; then one of
    unpack COMPRESSION ALGORITHM OWNERS   the layer on standard input, into the empty directory
    empty                                 remove everything in the directory
    copy DESCRIPTOR...                    lower directories of an overlay, the lowest first, into the empty directory
    probe OPTIONS                         try to mount an overlay on the directory's `rootfs`
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # a script under -I sees neither its own directory nor the working directory
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import errno
import hashlib
import json

from sigkit.engine import files, sandbox
from sigkit.engine.inflate import Compression, inflated, load_decoder
from sigkit.engine.tar import TarReader
from sigkit.engine.tree import Owners, Tree
from sigkit.errors import NamespacesUnavailable, SigkitError, UnpackingFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sigkit.strict import Json

_INPUT, _OUTPUT = 0, 1
_INPUT_BYTES = 1 << 20

NO_NAMESPACE = "here"
NEW_NAMESPACE = "user"
UNPACK, EMPTY, COPY, PROBE = "unpack", "empty", "copy", "probe"

READY = b"{}\n"  # the user namespace waits for its ids
NOTES = 64


class _Hashed:
    """Pieces of the uncompressed layer, hashed as they pass."""

    def __init__(self, pieces: Iterable[bytes], algorithm: str) -> None:
        self._pieces = pieces
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self.size_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._hash.update(piece)
            self.size_bytes += len(piece)
            yield piece

    def digest(self) -> str:
        return f"{self._algorithm}:{self._hash.hexdigest()}"


def _read() -> bytes:
    return os.read(_INPUT, _INPUT_BYTES)


def _unpack(directory: int, compression: Compression, algorithm: str, owners: Owners) -> dict[str, Json]:
    pieces = _Hashed(inflated(_read, compression), algorithm)
    archive = TarReader(pieces)
    tree = Tree(directory, owners)
    entries = tree.apply(archive)
    archive.drain()
    return {
        "diff_id": pieces.digest(),
        "size_bytes": pieces.size_bytes,
        "entries": entries,
        "notes": list(tree.notes()[:NOTES]),
    }


def _copy(directory: int, layers: list[int]) -> dict[str, Json]:
    copy = files.LayerCopy(directory)
    for layer in layers:
        copy.add(layer)
    return {}


def _work(namespace: str, operation: str, arguments: list[str]) -> dict[str, Json]:
    if operation == UNPACK:
        compression, algorithm, owners = Compression(arguments[0]), arguments[1], Owners(arguments[2])
        load_decoder(compression)
        hashlib.new(algorithm)
        return _unpack(_enter(namespace), compression, algorithm, owners)
    if operation == PROBE:
        _make_user_namespace(namespace)
        return {"works": sandbox.can_mount_overlay(arguments[0])}
    directory = _enter(namespace)
    try:
        if operation == COPY:
            return _copy(directory, [int(text) for text in arguments])
        files.empty(directory)
    except OSError as err:
        raise UnpackingFailed(f"cannot {operation} a directory: {err.strerror}") from err
    return {}


def _enter(namespace: str) -> int:
    try:
        _make_user_namespace(namespace)
        return sandbox.enter()
    except OSError as err:
        raise NamespacesUnavailable(f"cannot enter a sandbox: {err.strerror} ({err.filename or err})") from err


def _make_user_namespace(namespace: str) -> None:
    if namespace == NEW_NAMESPACE:
        sandbox.make_user_namespace()
        os.write(_OUTPUT, READY)
        if os.read(_INPUT, 1) != b"\n":
            raise OSError(errno.EPERM, "the ids were not mapped")


def _refused(err: SigkitError) -> dict[str, Json]:
    return {
        "code": err.code,
        "problem": err.problem,
        "inside": err.place.inside,
        "expected": err.expected,
        "got": err.got,
        "remedy": err.remedy,
    }


def main(arguments: list[str]) -> None:
    """Do what the arguments say, and answer."""
    answer: dict[str, Json]
    try:
        answer = _work(arguments[0], arguments[1], arguments[2:])
    except SigkitError as err:
        answer = _refused(err)
    data = json.dumps(answer).encode("ascii")
    while data:
        data = data[os.write(_OUTPUT, data) :]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as err:  # noqa: BLE001 (the outermost frame: nothing may run after it)
        sandbox.report(err)
        os._exit(1)
    os._exit(0)
