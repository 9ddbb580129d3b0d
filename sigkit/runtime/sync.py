"""How the runtime and the launcher talk, over one Unix stream socket.

    runtime (create.py)                      launcher (init.py)             container's process (init.py)
       |-- posix_spawn ----------------------->|
       |   (reads config.json meanwhile)       |  starts its interpreter
       |-- PLAN ------------------------------->|
       |<----------------------------- USERNS --|   only with a new user namespace
       |   writes uid_map and gid_map           |
       |-- MAPPED ----------------------------->|
       |                                        |-- fork ------------------------->|
       |<------------------------------- PID ---|                                  | mounts …
       |   moves it into its cgroups (v1: it    |   waits for it                   |
       |   enters them by itself, after JOINED),|                                  |
       |   compiles the filter                  |                                  |
       |-- JOINED -----------------------------------------------------------------> cgroup namespace, pivot_root …
       |<------------------------------------------------------------- WARN … -----|
       |<------------------------------------------------------------- EXEC -------|
       |<------------------------------------------------------ end of file --------| execve closed the socket
    From the launcher or the container's process at any time: FAIL, then end of file.

An end of file without EXEC before it means that the launcher died. A FAIL after EXEC means that execve itself was refused.

A message is a length of four bytes, a kind of one byte, and a body. The bodies of PLAN and JOINED are marshalled: they go only *to* the
launcher, which runs the same interpreter. What comes *from* there is bytes separated by NUL, because a container's process is no
place to unmarshal from. What JOINED brings (cgroups, filter) is made while the launcher already mounts.
"""

from __future__ import annotations

import os

PLAN = b"P"
USERNS = b"U"
MAPPED = b"M"
PID = b"p"
JOINED = b"J"
WARN = b"W"
EXEC = b"X"
FAIL = b"F"
PROBE = b"?"  # instead of PLAN: make the namespaces, throw them away, answer FINE or FAIL
FINE = b"!"

# The first field of FAIL.
FAIL_KERNEL = b"kernel"  # step, errno, call or path
FAIL_UNSAFE = b"unsafe"  # step, problem, path
FAIL_SOURCE = b"source"  # step, path
FAIL_MISSING = b"missing"  # command
FAIL_EXECUTABLE = b"executable"  # command, errno
FAIL_BUG = b"bug"  # step, exception

_MOST_BYTES = 64 * 2**20  # a plan holds config.json's strings and a filter: far less


class Gone(Exception):
    """The other side closed the socket."""


def send(descriptor: int, kind: bytes, body: bytes = b"") -> None:
    """Send one message whole.

    Raises:
        Gone: nobody reads any more.
    """
    data = len(body).to_bytes(4, "little") + kind + body
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except (BrokenPipeError, ConnectionResetError) as err:
        raise Gone from err


def receive(descriptor: int) -> tuple[bytes, bytes]:
    """Receive one message: its kind and its body.

    Raises:
        Gone: end of file, also in the middle of a message.
    """
    header = _read(descriptor, 5)
    size = int.from_bytes(header[:4], "little")
    if size > _MOST_BYTES:
        raise Gone
    return header[4:], _read(descriptor, size)


def _read(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        try:
            part = os.read(descriptor, size)
        except ConnectionResetError as err:
            raise Gone from err
        if not part:
            raise Gone
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
