"""Unpacks one layer in a process of its own, fed while the layer is still on its way.

The process has no network and sees no file but the directory that it fills. What it answers is the word of a process that read hostile
bytes: the layer's own digest is checked outside of it, by the caller, and a directory counts only after both fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.digest import Digest, parse_digest
from sigkit.engine import unpacker
from sigkit.engine.child import Child
from sigkit.engine.tree import Owners
from sigkit.errors import DigestMismatch

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from sigkit.engine.inflate import Compression
    from sigkit.errors import Place
    from sigkit.runtime.users import Maps


class Unpacked(Data):
    """A layer that lies unpacked in its directory."""

    diff_id: Digest
    size_bytes: int
    entries: int
    notes: tuple[str, ...]


class Unpacking:
    """A layer being unpacked: `feed` its bytes, then `finish`. Leaving the block early ends the process."""

    def __init__(self, directory: str, compression: Compression, ids: Maps | None, diff_id: Digest, place: Place) -> None:
        """Start a process that unpacks into the empty `directory`.

        Args:
            directory: nobody else may reach it: its parent is 0700.
            compression: as the layer's media type says.
            ids: of the user namespace to work in, None for none; where it has one id only, all files become the caller's.
            diff_id: of the uncompressed layer, as the image's configuration names it.
            place: names the layer in refusals.

        Raises:
            UnpackingFailed, NamespacesUnavailable: (UNAVAIL) there can be no such process.
        """
        self._place = place
        self._diff_id = diff_id
        owners = Owners.AS_GIVEN if ids is None or ids.groups else Owners.CALLER
        self._child = Child(directory, ids, (unpacker.UNPACK, compression.value, diff_id.algorithm, owners.value), place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._child.close()

    def feed(self, data: bytes) -> None:
        """Hand over the next bytes of the layer.

        A process that already refused the layer takes no more; `finish` says why. Until then the caller reads on, for
        bytes that are not those of the digest are the better reason.

        Raises:
            UnpackingFailed: (UNAVAIL) it takes nothing for too long.
        """
        self._child.feed(data)

    def finish(self) -> Unpacked:
        """Wait for the end of the work and return what was unpacked.

        Raises:
            DigestMismatch: (DIGEST) the uncompressed layer is another one.
            SigkitError: (UNPACK, LIMIT, UNAVAIL) why the layer is refused.
        """
        answer = self._child.answer()
        found = parse_digest(answer.member("diff_id").text())
        if found != self._diff_id:
            raise DigestMismatch(
                "the uncompressed layer is not the one that the configuration names",
                place=self._place,
                expected=str(self._diff_id),
                got=str(found),
            )
        notes = answer.member("notes").items(unpacker.NOTES)
        return Unpacked(
            found, answer.member("size_bytes").integer(), answer.member("entries").integer(), tuple(note.text() for note in notes)
        )
