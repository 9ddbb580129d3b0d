"""Starts the process that works on images' files, feeds it, and hears its answer.

It is `<absolute python> -I` on the script `unpacker`, with no environment and no descriptor but its three pipes; it ends with this
process, because its input ends. Where the caller is not root it gets a user namespace, whose ids are written from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.engine import unpacker
from sigkit.errors import NamespacesUnavailable, Place, RuntimeRefused, SigkitError, UnpackingFailed, all_codes
from sigkit.runtime.users import write_maps
from sigkit.strict import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import NoReturn, Self

    from sigkit.runtime.users import Maps
    from sigkit.strict import Cursor

_ANSWER_BYTES = 256 * 1024
_PIPE_BYTES = 1 << 20  # the most that /proc/sys/fs/pipe-max-size lets a plain user ask for
_F_SETPIPE_SZ = 1031
_START_S = 60.0


class Child:
    """A process that does one thing in one directory. Leaving the block early ends it."""

    def __init__(self, directory: str, ids: Maps | None, operation: Sequence[str], place: Place, descriptors: Sequence[int] = ()) -> None:
        """Start it.

        Args:
            directory: all that it sees of the file system.
            ids: of the user namespace to work in, None for none.
            operation: its name and arguments, as `unpacker` has them.
            place: names what is worked on in refusals.
            descriptors: of directories that it may read beside.

        Raises:
            UnpackingFailed, NamespacesUnavailable: (UNAVAIL) there can be no such process.
        """
        self._place = place
        self._input_open = True
        self._broken = False
        self._spawn(directory, ids, operation, descriptors)
        try:
            if ids is not None:
                self._map_ids(ids)
            os.set_blocking(self._input, False)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it does, and wait for it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._close_input()
        os.close(self._output)
        os.close(self._errors)

    def feed(self, data: bytes) -> None:
        """Hand over input. A process that already refused takes no more; `answer` says why.

        Raises:
            UnpackingFailed: (UNAVAIL) it takes nothing for too long.
        """
        view = memoryview(data)
        while view and not self._broken:
            try:
                view = view[os.write(self._input, view) :]
            except BlockingIOError:
                _, ready, _ = select.select([], [self._input], [], limits.UNPACK_IDLE_S)
                if not ready:
                    self._fail(f"it took no input for {limits.UNPACK_IDLE_S} s")
            except BrokenPipeError:
                self._broken = True

    def answer(self) -> Cursor:
        """End the input, wait for the end of the work, and return the answer.

        Raises:
            SigkitError: (UNPACK, LIMIT, UNAVAIL) the refusal that is the answer.
        """
        self._close_input()
        data = self._read_answer()
        if self._process.wait():
            self._fail(f"it ended with status {self._process.returncode}")
        top = parse_json(data, most_bytes=_ANSWER_BYTES, place=Place("unpacking process"))
        if top.find("code"):
            raise _refusal(top, self._place)
        return top

    def _read_answer(self) -> bytes:
        data = b""
        deadline = time.monotonic() + limits.UNPACK_CPU_S
        while len(data) <= _ANSWER_BYTES:
            ready, _, _ = select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._fail("it does not end")
            more = os.read(self._output, 1 << 16)
            if not more:
                break
            data += more
        return data

    def _close_input(self) -> None:
        if self._input_open:
            self._input_open = False
            os.close(self._input)

    def _map_ids(self, ids: Maps) -> None:
        ready, _, _ = select.select([self._output], [], [], _START_S)
        if not ready or os.read(self._output, len(unpacker.READY)) != unpacker.READY:
            raise NamespacesUnavailable("cannot make a user namespace", place=self._place)
        try:
            write_maps(ids, self._process.pid)
        except RuntimeRefused as err:
            raise NamespacesUnavailable(err.problem, place=err.place, got=err.got, remedy=err.remedy) from err
        os.write(self._input, b"\n")

    def _fail(self, problem: str) -> NoReturn:
        if self._process.poll() is None:
            self._process.kill()
        said = os.read(self._errors, 2000).decode("utf-8", "replace").strip()
        raise UnpackingFailed(f"the unpacking process failed: {problem}", place=self._place, got=said[:200])

    def _spawn(self, directory: str, ids: Maps | None, operation: Sequence[str], descriptors: Sequence[int]) -> None:
        script = os.path.abspath(unpacker.__file__)
        namespace = unpacker.NO_NAMESPACE if ids is None else unpacker.NEW_NAMESPACE
        command = [sys.executable, "-I", script, namespace, *operation]
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            read_end, self._input = _pipe(theirs, ours)
            self._output, write_end = _pipe(ours, theirs)
            self._errors, complain_end = _pipe(ours, theirs)
            with contextlib.suppress(OSError):  # a small pipe only costs time
                fcntl.fcntl(self._input, _F_SETPIPE_SZ, _PIPE_BYTES)
            try:
                self._process = subprocess.Popen(
                    command, cwd=directory, env={}, stdin=read_end, stdout=write_end, stderr=complain_end, pass_fds=descriptors
                )
            except OSError as err:
                raise UnpackingFailed(f"cannot start the unpacking process: {err.strerror}", place=Place(script)) from err
            ours.pop_all()


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
