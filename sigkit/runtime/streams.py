"""Standard input, output and error on their way into a container: never a descriptor of a file of the host.

Whoever holds a descriptor of a file reaches the file itself through /proc/self/fd: root in a container opens it again for writing, changes
its owner, makes it set-user-id. So a pipe is handed on as it is. What is read from a file is opened again on a read-only clone of its
mount, at the same place, and so is a device (the mode of the host's /dev/null, or of the operator's terminal, is not a container's to
change). All else, what is written to a file and what comes over a socket, which could carry descriptors, is passed on through a pipe.

Where such a clone is not to be had (no CAP_SYS_ADMIN; a file of no mount of ours), a file that is read goes through a pipe as well, and a
device is handed on.
"""

from __future__ import annotations

import fcntl
import os
import stat

from sigkit.runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

_PIECE_BYTES = 1 << 16  # what a pipe holds
_HIGH = 64  # as `spawn` has it
_PTMX = os.makedev(5, 2)  # opened again it is another terminal
_LAST_WORDS_S = 10.0  # the container has ended: what is left lies in the pipe, unless somebody else holds its other end


class Streams:
    """What the launcher gets as 0, 1 and 2. `start` passes on what goes through pipes, `end` waits for the last of it."""

    __slots__ = ("_clones", "_from_container", "_theirs", "_threads", "_to_container", "descriptors")

    def __init__(self) -> None:
        """Look at this process's own three, and make what takes their place.

        Raises:
            OSError: one is a directory, or the kernel refused.
        """
        self.descriptors = [0, 1, 2]
        self._theirs: list[int] = []
        self._clones: list[tuple[int, int]] = []
        self._to_container: list[tuple[int, int]] = []
        self._from_container: list[tuple[int, int]] = []
        self._threads: list[threading.Thread] = []
        try:
            for number in (0, 1, 2):
                self._replace(number)
        except BaseException:
            self.end()
            raise

    def _replace(self, number: int) -> None:
        found = os.fstat(number)
        if stat.S_ISFIFO(found.st_mode) or found.st_rdev == _PTMX:
            return
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, "", str(number))  # EISDIR: a way out, as in CVE-2024-21626
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
        if device or (stat.S_ISREG(found.st_mode) and (number == 0 or mode == os.O_RDONLY)):
            clone = _open_read_only(number, mode if device else os.O_RDONLY)
            if clone >= 0:
                self.descriptors[number] = clone
                self._clones.append((number, clone))
                return
            if device:
                return
        if number == 2 and self.descriptors[1] != 1 and os.path.samestat(found, os.fstat(1)):
            self.descriptors[2] = self.descriptors[1]  # `> file 2>&1`: one pipe, so that lines keep their order
            return
        read_end, write_end = (_high(descriptor) for descriptor in os.pipe())
        if number == 0:
            self.descriptors[0] = read_end
            self._theirs.append(read_end)
            self._to_container.append((0, write_end))
        else:
            self.descriptors[number] = write_end
            self._theirs.append(write_end)
            self._from_container.append((read_end, number))

    def handed_over(self) -> None:
        """Close what is the launcher's now: a pipe ends when its last writer does."""
        while self._theirs:
            os.close(self._theirs.pop())

    def start(self) -> None:
        """Begin to pass on. Not before there will be a container: what is read from a file is gone for who reads it next.

        The threads are to take no signals: call it with those blocked that are waited for.
        """
        if not self._to_container and not self._from_container:
            return
        import threading

        for source, target in self._to_container:
            threading.Thread(target=_pass_on, args=(source, target, target), daemon=True).start()
        for source, target in self._from_container:
            thread = threading.Thread(target=_pass_on, args=(source, target, source), daemon=True)
            thread.start()
            self._threads.append(thread)
        self._to_container, self._from_container = [], []

    def end(self) -> None:
        """Wait until all that the container wrote is where it belongs; what it did not read of a file is left for the next."""
        self.handed_over()
        for thread in self._threads:
            thread.join(_LAST_WORDS_S)
        for number, clone in self._clones:
            if stat.S_ISREG(os.fstat(clone).st_mode):
                os.lseek(number, os.lseek(clone, 0, os.SEEK_CUR), os.SEEK_SET)
            os.close(clone)
        for descriptor in (*(ours for _, ours in self._to_container), *(ours for ours, _ in self._from_container)):
            os.close(descriptor)
        self._threads, self._clones, self._to_container, self._from_container = [], [], [], []


def _open_read_only(number: int, mode: int) -> int:
    """Open the file behind a descriptor again, at the same place, on a read-only clone of its mount; -1 where that cannot be."""
    try:
        tree = syscalls.open_tree(number, b"", syscalls.AT_EMPTY_PATH)
    except OSError:
        return -1
    try:
        syscalls.mount_setattr(tree, add=syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID, propagation=syscalls.MS_PRIVATE)
        clone = _high(os.open(f"/proc/self/fd/{tree}", mode | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return -1
    finally:
        os.close(tree)
    if stat.S_ISREG(os.fstat(clone).st_mode):
        os.lseek(clone, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
    return clone


def _high(descriptor: int) -> int:
    """Give a descriptor a number beyond those that the launcher's own take."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    finally:
        os.close(descriptor)


def _pass_on(source: int, target: int, last: int) -> None:
    """Pass on until either side ends, then close `last`, which is ours."""
    try:
        while data := os.read(source, _PIECE_BYTES):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        pass  # nobody reads any more, or a full disk: whoever writes sees a closed pipe
    finally:
        os.close(last)
