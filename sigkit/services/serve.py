"""Listening: cores behind a maintained HTTP server, in a thread of this process.

Without TLS it listens on loopback only: whoever reaches the registry may push and delete, and tokens pass in the clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from sigkit import limits
from sigkit.errors import AddressUnusable, Place
from sigkit.services.app import App, Mount
from sigkit.services.extra import SERVER, need_extra
from sigkit.services.registry import RegistryService, RegistryVariant
from sigkit.services.storage import Storage
from sigkit.services.tls import Tls, check_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import uvicorn

_LOOPBACK: Final = "localhost"
_STOP_S: Final = 5  # what a request that is under way gets when the server stops
_BACKLOG: Final = 512
_TURN_S: Final = 0.0005
_DESCRIPTORS: Final = 3  # for one connection: its own, and two for the files of its request
_OWN_DESCRIPTORS: Final = 64  # of the process itself: locks, databases, journals, pipes


class _ServerThread(threading.Thread):
    """The thread of a server."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        super().__init__(name="sigkit-server")
        self._server = server
        self._listener = listener
        self._has_ended = False
        self._told: SimpleQueue[None] = SimpleQueue()

    def run(self) -> None:
        """Serve until it is told to end."""
        try:
            self._server.run(sockets=[self._listener])
        finally:
            self._has_ended = True
            self._told.put(None)

    def stop(self) -> None:
        """Wait until nothing is answered any more; who is interrupted waits no longer for requests under way, but for their end still.

        Else whoever serves would close its files, and give its lock away, while this thread still answers from them. It is not joined:
        CPython 3.11 takes a thread for one that has ended when joining it is interrupted (its mend of bpo-45274).

        Raises:
            KeyboardInterrupt: once the thread has ended.
        """
        interrupted: KeyboardInterrupt | None = None
        self._server.should_exit = True
        while not self._has_ended:
            try:
                self._told.get()
            except KeyboardInterrupt as err:
                interrupted = err
                self._server.force_exit = True
        self.join()
        if interrupted is not None:
            raise interrupted


@contextlib.contextmanager
def running(mounts: Sequence[Mount], listen: str, *, tls: Tls | None = None, names: Sequence[str] = ()) -> Iterator[str]:
    """Serve cores until the block ends, and give the address, `host:port`.

    Args:
        mounts: each core with the beginning of its paths.
        listen: an IP address or `localhost`, and a port; 0 lets the kernel choose.
        tls: without it only loopback addresses are listened on, and only requests are answered that name loopback or one of `names`.
        names: of this server, beside its addresses: a proxy in front says the one that its clients know.

    Raises:
        MissingExtra: the HTTP server is not installed.
        AddressUnusable: (NET) the address is malformed, in use, or not loopback and without TLS.
        SigkitError: as `tls.check_files`.
    """
    with _listener(listen, tls) as listener, _short_turns():
        server = _server(App(mounts, None if tls else frozenset(name.lower() for name in names)), tls, listen)
        thread = _ServerThread(server, listener)
        thread.start()
        try:
            host, port = listener.getsockname()[:2]
            yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        finally:
            thread.stop()


@contextlib.contextmanager
def running_registry(
    root: str | os.PathLike[str],
    listen: str = "127.0.0.1:0",
    *,
    tls: Tls | None = None,
    names: Sequence[str] = (),
    variant: RegistryVariant | None = None,
) -> Iterator[str]:
    """Serve the registry in `root` until the block ends, and give its address, `host:port`.

    Args:
        root: its directory, made if it is absent.
        listen: as `running`.
        tls: as `running`.
        names: as `running`.
        variant: how it differs from others.

    Raises:
        LockTimeout, DatabaseUnusable, FileUnwritable: (UNAVAIL) the directory.
        SigkitError: as `running`.
    """
    need_extra(Place(f"registry on {listen}"), *SERVER)  # before a directory is made
    variant = variant or RegistryVariant()
    with (
        Storage.open(root) as storage,
        running([Mount("", RegistryService(storage, variant), variant.limits.body)], listen, tls=tls, names=names) as address,
    ):
        yield address


def serve_registry(
    root: str | os.PathLike[str],
    listen: str,
    *,
    ready: Callable[[str], None],
    tls: Tls | None = None,
    names: Sequence[str] = (),
    variant: RegistryVariant | None = None,
) -> None:
    """Serve the registry in `root` until SIGTERM comes; SIGINT ends it with KeyboardInterrupt.

    Args:
        root: as `running_registry`.
        listen: as `running_registry`.
        ready: called with the address once requests are taken.
        tls: as `running_registry`.
        names: as `running`.
        variant: as `running_registry`.

    Raises:
        KeyboardInterrupt: the registry has been stopped cleanly.
        SigkitError: as `running_registry`.
    """
    with until_told() as wait, running_registry(root, listen, tls=tls, names=names, variant=variant) as address:
        ready(address)
        wait()


@contextlib.contextmanager
def until_told() -> Iterator[Callable[[], None]]:
    """Give a function that waits for SIGTERM, or returns at once if it came since this block began; in the main thread.

    Python's handlers run in the main thread, the kernel's in any: of a process that was stopped and goes on it may be another, and nothing
    would wake a main thread that waits for a lock. The interpreter writes a byte from wherever a signal comes, and that is waited for.
    """
    told: list[int] = []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        while not told:
            os.read(reader, 1)  # of another signal too: its handler runs when this returns

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(before_fd)
        signal.signal(signal.SIGTERM, before)
        os.close(reader)
        os.close(writer)


def _is_told(record: logging.LogRecord) -> bool:
    """Leave out the traceback of each request that was cut off at the end: how many there were is said in a line of its own."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads take turns more often than each 5 ms.

    So long a thread that comes back from the disk waits for the interpreter while the event loop computes; each batch of the log does so
    several times. Measured in runs that changed between the two, on two busy cores: 7 % more appends a second, and a sixth off the slowest.
    """
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(min(before_s, _TURN_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


def _server(app: App, tls: Tls | None, listen: str) -> uvicorn.Server:
    need_extra(Place(f"server on {listen}"), *SERVER)
    import uvicorn

    from sigkit.services.accepting import TlsServer
    from sigkit.services.protocol import BoundedProtocol

    if tls is not None:
        check_files(tls)
    logging.getLogger("uvicorn.error").addFilter(_is_told)
    most = _most_connections()
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_S,
        limit_concurrency=most,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    config.load()
    return TlsServer(config, most) if tls else uvicorn.Server(config)


def _most_connections() -> int:
    """Return how many connections this process has descriptors for, after asking the kernel for as many as it may have and can use.

    The usual limit is 1,024, for the sake of programs that use select(2); without descriptors nothing could be opened, accepted or signed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = limits.HTTP_CONNECTIONS * _DESCRIPTORS + _OWN_DESCRIPTORS
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        return min(limits.HTTP_CONNECTIONS, max((soft - _OWN_DESCRIPTORS) // _DESCRIPTORS, 1))
    return limits.HTTP_CONNECTIONS


@contextlib.contextmanager
def _listener(listen: str, tls: Tls | None) -> Iterator[socket.socket]:
    place = Place.operator(listen)
    host, port = _parse_listen(listen, place)
    if not host.is_loopback and tls is None:
        raise AddressUnusable(
            "without TLS this listens on loopback only, for whoever reaches it may push and delete",
            place=place,
            expected="127.0.0.1 or [::1]",
            got=str(host),
            remedy="give --tls-cert and --tls-key, or listen on 127.0.0.1",
        )
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((str(host), port))
            # Now, not when the server's thread comes to it: whoever is told the address can connect.
            listener.listen(_BACKLOG)
        except OSError as err:
            # Another process may leave the port, and a machine that starts get the address: whoever tries again may come through.
            where = Place(listen) if err.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL} else place
            raise AddressUnusable(f"cannot listen: {err.strerror}", place=where, remedy=_advise(err, host.compressed, port)) from err
        yield listener


def _advise(err: OSError, host: str, port: int) -> str:
    if err.errno == errno.EADDRINUSE:
        elsewhere = f"[{host}]:0" if ":" in host else f"{host}:0"
        return f"which process has the port: ss -ltnp 'sport = :{port}'; stop that one, or take a free port: --listen {elsewhere}"
    if err.errno == errno.EADDRNOTAVAIL:
        return "choose an address that this machine has: ip -brief address"
    return "choose another address or port with --listen; ports below 1024 are for root"


def _parse_listen(listen: str, place: Place) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == _LOOPBACK else host.removeprefix("[").removesuffix("]"))
    except ValueError as err:
        raise AddressUnusable("malformed address", place=place, expected="IP:PORT or localhost:PORT", got=listen) from err
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise AddressUnusable("malformed port", place=place, expected="0 to 65535", got=port)
    return address, int(port)
