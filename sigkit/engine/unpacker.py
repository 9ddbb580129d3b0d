"""The process that reads one layer: started as a script by `unpack`, alone with the directory that it fills.

It takes the layer from standard input and answers one JSON document on standard output. Before anything is read it gives up the network,
every other file and most capabilities. Everything is imported before that.

Arguments: compression, algorithm of the digest, owners, and whether to make a user namespace (`no`, `one` id, or a `range` that the parent maps).
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # a script under -I sees neither its own directory nor the working directory
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import hashlib
import json

from sigkit.engine import sandbox
from sigkit.engine.inflate import Compression, inflated, load_decoder
from sigkit.engine.tar import TarReader
from sigkit.engine.tree import Owners, Tree
from sigkit.errors import NamespacesUnavailable, SigkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sigkit.strict import Json

_INPUT, _OUTPUT = 0, 1
_INPUT_BYTES = 1 << 20

NO_NAMESPACE = "no"
ONE_ID = "one"
ID_RANGE = "range"

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


def _enter(namespace: str) -> int:
    if namespace != NO_NAMESPACE:
        sandbox.make_user_namespace()
        if namespace == ONE_ID:
            sandbox.map_own_id()
        else:
            os.write(_OUTPUT, READY)
            if os.read(_INPUT, 1) != b"\n":
                raise OSError(0, "the ids were not mapped")
    return sandbox.enter()


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
    """Unpack one layer as the arguments say, and answer."""
    compression, algorithm, owners, namespace = Compression(arguments[0]), arguments[1], Owners(arguments[2]), arguments[3]
    load_decoder(compression)
    hashlib.new(algorithm)
    answer: dict[str, Json]
    try:
        directory = _enter(namespace)
    except OSError as err:
        answer = _refused(NamespacesUnavailable(f"cannot enter a sandbox: {err.strerror or err} ({err.filename or err})"))
    else:
        try:
            answer = _unpack(directory, compression, algorithm, owners)
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
