"""Unpacks one layer in a process of its own, fed while the layer is still on its way.

The process (`unpacker`) has no network, sees no file but the directory that it fills, and ends with this one: its input ends.
What it answers is believed for what it is, the word of a process that read hostile bytes; the digest of the layer is checked here, by the
caller, and a directory counts only after both fit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sigkit import limits
from sigkit.digest import Digest, parse_digest
from sigkit.engine import unpacker
from sigkit.engine.idmap import HostIds, OwnId, SubordinateIds
from sigkit.engine.tree import Owners
from sigkit.errors import DigestMismatch, NamespacesUnavailable, Place, SigkitError, UnpackingFailed, all_codes
from sigkit.strict import parse_json

if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn, Self

    from sigkit.engine.idmap import IdMap, IdRange
    from sigkit.engine.inflate import Compression
    from sigkit.strict import Cursor

_ANSWER_BYTES = 256 * 1024
_PIPE_BYTES = 1 << 20  # the most that /proc/sys/fs/pipe-max-size lets a plain user ask for
_F_SETPIPE_SZ = 1031
_END_S = 60.0


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer that lies unpacked in its directory."""

    diff_id: Digest
    size_bytes: int
    entries: int
    notes: tuple[str, ...]


class Unpacking:
    """A layer being unpacked: `feed` its bytes, then `finish`. Leaving the block early ends the process."""

    def __init__(self, directory: str, compression: Compression, ids: IdMap, diff_id: Digest, place: Place) -> None:
        """Start a process that unpacks into the empty `directory`.

        Args:
            directory: nobody else may reach it: its parent is 0700.
            compression: as the layer's media type says.
            ids: whose the files become; without a range of ids all become the caller's.
            diff_id: of the uncompressed layer, as the image's configuration names it.
            place: names the layer in refusals.

        Raises:
            UnpackingFailed, NamespacesUnavailable: (UNAVAIL) there can be no such process.
        """
        self._place = place
        self._diff_id = diff_id
        self._child = _spawn(directory, ids, (compression.value, diff_id.algorithm))
        self._input_open = True
        self._broken = False
        try:
            if isinstance(ids, SubordinateIds):
                self._map_ids(ids)
            os.set_blocking(self._child.input, False)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it does, and wait for it."""
        if self._child.process.poll() is None:
            self._child.process.kill()
        self._child.process.wait()
        self._close_input()
        os.close(self._child.output)
        os.close(self._child.errors)

    def _close_input(self) -> None:
        if self._input_open:
            self._input_open = False
            os.close(self._child.input)

    def feed(self, data: bytes) -> None:
        """Hand over the next bytes of the layer.

        A process that already refused the layer takes no more; `finish` says why. Until then the caller can read on, for
        bytes that are not those of the digest are the better reason.

        Raises:
            UnpackingFailed: (UNAVAIL) it takes nothing for too long.
        """
        view = memoryview(data)
        while view and not self._broken:
            try:
                view = view[os.write(self._child.input, view) :]
            except BlockingIOError:
                _, ready, _ = select.select([], [self._child.input], [], limits.UNPACK_IDLE_S)
                if not ready:
                    self._fail(f"it took no input for {limits.UNPACK_IDLE_S} s")
            except BrokenPipeError:
                self._broken = True

    def finish(self) -> Unpacked:
        """Wait for the end of the work and return what was unpacked.

        Raises:
            DigestMismatch: (DIGEST) the uncompressed layer is another one.
            SigkitError: (UNPACK, LIMIT, UNAVAIL) why the layer is refused.
        """
        self._close_input()
        answer = self._answer()
        if self._child.process.wait():
            self._fail(f"it ended with status {self._child.process.returncode}")
        top = parse_json(answer, most_bytes=_ANSWER_BYTES, place=Place("unpacking process"))
        if top.find("code"):
            raise _refusal(top, self._place)
        unpacked = Unpacked(
            parse_digest(top.member("diff_id").text()),
            top.member("size_bytes").integer(),
            top.member("entries").integer(),
            tuple(note.text() for note in top.member("notes").items(unpacker.NOTES)),
        )
        if unpacked.diff_id != self._diff_id:
            raise DigestMismatch(
                "the uncompressed layer is not the one that the configuration names",
                place=self._place,
                expected=str(self._diff_id),
                got=str(unpacked.diff_id),
            )
        return unpacked

    def _answer(self) -> bytes:
        data = b""
        deadline = time.monotonic() + limits.UNPACK_CPU_S
        while len(data) <= _ANSWER_BYTES:
            ready, _, _ = select.select([self._child.output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._fail("it does not end")
            more = os.read(self._child.output, 1 << 16)
            if not more:
                break
            data += more
        return data

    def _map_ids(self, ids: SubordinateIds) -> None:
        ready, _, _ = select.select([self._child.output], [], [], _END_S)
        if not ready or os.read(self._child.output, len(unpacker.READY)) != unpacker.READY:
            raise NamespacesUnavailable("cannot make a user namespace", place=self._place)
        for program, ranges in ((ids.newuidmap, ids.users), (ids.newgidmap, ids.groups)):
            done = subprocess.run(
                [program, str(self._child.process.pid), *_triples(ranges)], check=False, capture_output=True, timeout=_END_S, env={}
            )
            if done.returncode:
                said = done.stderr.decode("utf-8", "replace").strip()[:200]
                raise NamespacesUnavailable("cannot map the subordinate ids", place=Place(program), got=said)
        os.write(self._child.input, b"\n")

    def _fail(self, problem: str) -> NoReturn:
        if self._child.process.poll() is None:
            self._child.process.kill()
        said = os.read(self._child.errors, 2000).decode("utf-8", "replace").strip()
        raise UnpackingFailed(f"the unpacking process failed: {problem}", place=self._place, got=said[:200])


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    input: int
    output: int
    errors: int


def _triples(ranges: tuple[IdRange, ...]) -> list[str]:
    return [str(number) for r in ranges for number in (r.inside, r.outside, r.count)]


def _spawn(directory: str, ids: IdMap, layer: tuple[str, str]) -> _Child:
    match ids:
        case HostIds():
            owners, namespace = Owners.AS_GIVEN, unpacker.NO_NAMESPACE
        case OwnId():
            owners, namespace = Owners.CALLER, unpacker.ONE_ID
        case SubordinateIds():
            owners, namespace = Owners.AS_GIVEN, unpacker.ID_RANGE
    script = os.path.abspath(unpacker.__file__)
    command = [sys.executable, "-I", script, *layer, owners.value, namespace]
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        read_end, input_end = _pipe(theirs, ours)
        output_end, write_end = _pipe(ours, theirs)
        errors_end, complain_end = _pipe(ours, theirs)
        with contextlib.suppress(OSError):  # a small pipe only costs time
            fcntl.fcntl(input_end, _F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            process = subprocess.Popen(command, cwd=directory, env={}, stdin=read_end, stdout=write_end, stderr=complain_end)
        except OSError as err:
            raise UnpackingFailed(f"cannot start the unpacking process: {err.strerror}", place=Place(script)) from err
        ours.pop_all()
    return _Child(process, input_end, output_end, errors_end)


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    reader.callback(os.close, read_end)
    writer.callback(os.close, write_end)
    return read_end, write_end


def _refusal(answer: Cursor, place: Place) -> SigkitError:
    code = answer.member("code").text()
    kind = all_codes().get(code)
    if kind is None:
        return UnpackingFailed("the unpacking process gave an unknown answer", place=place, got=code[:40])
    return kind(
        answer.member("problem").text(),
        place=Place("", answer.member("inside").text()).within(place),
        expected=answer.member("expected").text(),
        got=answer.member("got").text(),
        remedy=answer.member("remedy").text(),
    )
