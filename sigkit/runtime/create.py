"""A bundle directory becomes a confined process: the public face of the runtime.

`run_bundle` starts the launcher first, unless one stands by, and reads config.json while that one's interpreter starts; nothing is done
to the host before config.json has been judged whole. It is the parent: it passes signals on, waits, and leaves nothing behind. Mounts
need no cleaning up: they exist only in the container's mount namespace, which ends with its last process.

Heavy modules are imported inside the functions, after the launcher was started: see docs/runtime.md, "Where the time goes".
"""

from __future__ import annotations

import marshal
import os

from sigkit.runtime import spawn, sync, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeAlias

    from sigkit.errors import Place
    from sigkit.runtime.cgroups.hierarchy import Cgroups
    from sigkit.runtime.plan import Late
    from sigkit.runtime.spawn import Launcher
    from sigkit.runtime.spec import Config
    from sigkit.runtime.state import State
    from sigkit.runtime.trace import Trace
    from sigkit.runtime.users import Maps

    RootfsMount: TypeAlias = tuple[str, str, str]


def _silent(_: str) -> None:
    """Pass a warning over."""


def run_bundle(  # noqa: PLR0913 (each is a word of its own, and all but two have a default)
    bundle: str,
    container_id: str,
    *,
    state_root: str,
    trace_fd: int | None = None,
    preserve_fds: int = 0,
    rootfs_mount: RootfsMount | None = None,
    judged: frozenset[str] = frozenset(),
    warn: Callable[[str], None] = _silent,
    launcher: Launcher | None = None,
) -> int:
    """Run the program of a bundle directory in a container, wait for it, and return its exit status (128 + n for signal n).

    Call it from the main thread: the container ends with the thread that started it.

    Args:
        bundle: directory with config.json and the root file system.
        container_id: taken for as long as the container exists.
        state_root: where the runtime keeps what it knows of containers, and compiled filters.
        trace_fd: where to write each kernel step, why, and the shell line that does the same.
        preserve_fds: how many descriptors from 3 on the program gets.
        rootfs_mount: type, source and options (as mount(2) has them) of the root file system, mounted at `root.path`, in the
            container's mount namespace only.
        judged: sources of bind mounts that somebody judged by these very paths: what lies behind a link there is refused.
        warn: called with what could not be granted (a capability, a higher limit).
        launcher: one that stood by with the same `trace_fd` and `preserve_fds`; it is this function's from now on.

    Raises:
        MissingCommand, NotExecutable: (RUNTIME) the program cannot be executed; nothing was.
        RuntimeRefused: config.json, the image or this host does not allow it; nothing is left behind.
        ParseError, LimitError, UnavailError: config.json cannot be read.
    """
    trace = -1 if trace_fd is None else trace_fd
    run = _Run(os.path.abspath(bundle), container_id, state_root, warn, launcher)
    if launcher is None:
        _hold_standard_descriptors()
        run.spawn(spawn.spawn_launcher, trace, preserve_fds)
    try:
        import signal

        from sigkit.runtime import signals

        # Blocked to the end: a signal is passed to the container or, while there is none, waits until everything is put away.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.forwarded())
    except BaseException:
        run.put_away()
        raise
    try:
        try:
            return run.to_the_end(trace, preserve_fds, rootfs_mount, judged)
        finally:
            run.put_away()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stand_by(trace_fd: int | None, preserve_fds: int) -> Launcher | None:
    """Start a launcher for a later `run_bundle`, or return None: then that one starts its own, and says why if it cannot.

    It is an interpreter that has loaded what it needs and waits for a plan. Whoever does not use it ends it with `dismiss`.
    """
    _hold_standard_descriptors()
    try:
        return _spawn(spawn.spawn_launcher, -1 if trace_fd is None else trace_fd, preserve_fds)
    except OSError:
        return None


def dismiss(launcher: Launcher) -> None:
    """End a launcher that was given no plan."""
    os.close(launcher.sync)
    os.kill(launcher.pid, 9)
    launcher.streams.end()
    os.waitpid(launcher.pid, 0)


def _spawn(start: Callable[[int, int], Launcher], trace: int, preserved: int) -> Launcher:
    if not syscalls.SUPPORTED:
        raise OSError(38, "")  # ENOSYS: the numbers of this architecture's calls are not known
    for number in range(3, 3 + preserved):
        os.fstat(number)
    return start(trace, preserved)


def can_run() -> str:
    """Return "" if this user can start a container on this host, else the reason in plain words."""
    from sigkit.errors import Place, SigkitError

    run = _Run("", "probe", "", _silent)
    try:
        run.spawn(spawn.spawn_launcher, -1, 0)
        run.probe(Place("this host"))
    except SigkitError as err:
        return f"{err.problem} ({err.remedy})" if err.remedy else err.problem
    finally:
        run.put_away()
    return ""


def _hold_standard_descriptors() -> None:
    """Open /dev/null on 0, 1 and 2 where they are closed: else one of ours would take the number."""
    while True:
        descriptor = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if descriptor > 2:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)  # noqa: FBT003 (Python's own)


class _Run:
    """One container, from its launcher to its end; `put_away` undoes whatever has been done so far."""

    def __init__(
        self, bundle: str, container_id: str, state_root: str, warn: Callable[[str], None], launcher: Launcher | None = None
    ) -> None:
        self._bundle = bundle
        self._id = container_id
        self._state_root = state_root
        self._warn = warn
        self._launcher = launcher
        self._state: State | None = None
        self._cgroups: Cgroups | None = None
        self._joined: tuple[str, ...] = ()  # the cgroups that this process moves the container's into
        self._shares_processes = False
        self._executing = False

    def spawn(self, start: Callable[[int, int], Launcher], trace: int, preserved: int) -> None:
        """Start a launcher.

        Raises:
            HostUnfit: it cannot be.
        """
        try:
            self._launcher = _spawn(start, trace, preserved)
        except OSError as err:
            import errno

            from sigkit.errors import HostUnfit

            raise HostUnfit(f"the launcher cannot be started ({errno.errorcode.get(err.errno or 0, '?')})") from err

    def to_the_end(self, trace: int, preserved: int, rootfs_mount: RootfsMount | None, judged: frozenset[str]) -> int:
        """Do what `run_bundle` promises, but for putting away."""
        from sigkit.errors import Place
        from sigkit.runtime import compose

        place = Place(os.path.join(self._bundle, "config.json"))
        config, maps = _read_config(place)
        _check_root(os.path.join(self._bundle, config.root_path), place)
        if rootfs_mount is not None:
            _check_mount(rootfs_mount, place)
        if maps is None and "CAP_SYS_ADMIN" in config.process.capabilities.bounding:
            # It could mount the read-only clone writable again.
            self._end_launcher()
            self.spawn(spawn.spawn_sealed_launcher, trace, preserved)
        # The launcher mounts from here on, in namespaces of its own; what the host has to hold is made meanwhile.
        self._send(sync.PLAN, marshal.dumps(dict(compose.compose(config, self._bundle, maps, rootfs_mount, judged))))

        from sigkit.runtime import signals
        from sigkit.runtime.trace import Trace

        late = self._prepare(config, maps is not None, place, Trace("runtime", trace))
        self._launched().streams.start()
        pid = self._start(late, maps, Place(self._bundle))
        status = signals.wait(self._launched().pid, pid)
        self._reaped()
        if status < 0:
            from sigkit.runtime.failures import died

            raise died(Place(self._bundle))
        return status

    def _prepare(self, config: Config, in_user_namespace: bool, place: Place, record: Trace) -> Late:  # noqa: FBT001 (a fact, not a switch)
        """Take the id, make the cgroups, compile the filter."""
        from sigkit.runtime import compose, state
        from sigkit.runtime.cgroups import hierarchy

        state.check_id(self._id)
        state.open_root(self._state_root)
        program, flags = _filter(config, self._state_root, record)
        state.claim(self._state_root, self._id)
        self._state = state.State(self._id, self._bundle)
        self._state.oci_version, self._state.annotations = config.oci_version, config.annotations
        pids = config.namespace("pid")
        self._shares_processes = pids is None or bool(pids.path)
        self._cgroups = hierarchy.prepare(config, self._id, place, record)
        hierarchy.check_devices(config, self._cgroups, in_user_namespace, place)
        self._state.cgroups = self._cgroups.made
        state.save(self._state_root, self._state)
        enter = hierarchy.entered(config, self._cgroups, in_user_namespace)
        self._joined = tuple(directory for directory in self._cgroups.directories if directory not in enter)
        return compose.compose_late(self._cgroups, enter, program, flags)

    def probe(self, place: Place) -> None:
        """Make all namespaces and throw them away.

        Raises:
            SigkitError: this host does not allow it.
        """
        from sigkit.runtime import seccomp, users

        seccomp.Library()
        maps = users.choose_maps(None)
        self._send(sync.PROBE, b"" if maps is None else b"user")
        while True:
            kind, body = self._receive(place)
            if kind == sync.USERNS and maps is not None:
                users.write_maps(maps, self._launched().pid)
                self._send(sync.MAPPED)
            elif kind == sync.FINE:
                return
            else:
                self._fail(kind, body, place)

    def _launched(self) -> Launcher:
        if self._launcher is None:
            raise AssertionError
        return self._launcher

    def _start(self, late: Late, maps: Maps | None, place: Place) -> int:
        """Talk with the launcher (see `sync`) until the program is executed; return its process id."""
        from sigkit.runtime import state, users
        from sigkit.runtime.cgroups import hierarchy

        if self._cgroups is None or self._state is None:
            raise AssertionError
        pid = 0
        while True:
            try:
                kind, body = sync.receive(self._launched().sync)
            except sync.Gone:
                if self._executing and pid:
                    return pid
                kind, body = b"", b""
            if kind == sync.USERNS and maps is not None:
                users.write_maps(maps, self._launched().pid)
                self._send(sync.MAPPED)
            elif kind == sync.PID:
                pid = int(body)
                self._state.pid, self._state.start_time = pid, state.start_time(pid)
                hierarchy.join(self._joined, pid)
                self._send(sync.JOINED, marshal.dumps(dict(late)))
            elif kind == sync.WARN:
                self._warn(body.decode("ascii", "backslashreplace"))
            elif kind == sync.EXEC:
                self._executing = True
                self._state.status = "running"
                state.save(self._state_root, self._state)
            else:
                self._fail(kind, body, place)

    def _send(self, kind: bytes, body: bytes = b"") -> None:
        try:
            sync.send(self._launched().sync, kind, body)
        except sync.Gone:
            pass  # it failed before it read this; what it said is still to be read

    def _receive(self, place: Place) -> tuple[bytes, bytes]:
        try:
            return sync.receive(self._launched().sync)
        except sync.Gone:
            self._fail(b"", b"", place)

    def _fail(self, kind: bytes, body: bytes, place: Place) -> NoReturn:
        from sigkit.runtime import failures

        self._executing = False
        raise failures.failure(body, place) if kind == sync.FAIL else failures.died(place)

    def _reaped(self) -> None:
        os.close(self._launched().sync)
        self._launched().streams.end()
        self._launcher = None

    def _end_launcher(self) -> None:
        """End the launcher if it is still there: closing the socket is enough until it has executed the program."""
        if self._launcher is None:
            return
        launcher = self._launcher
        if self._executing:
            os.kill(launcher.pid, 9)  # and the container with it: PR_SET_PDEATHSIG
        self._reaped()
        os.waitpid(launcher.pid, 0)

    def put_away(self) -> None:
        """Remove everything that this container had on the host."""
        self._end_launcher()
        if self._cgroups is not None:
            from sigkit.runtime.cgroups import files, hierarchy

            if self._shares_processes or self._executing:
                hierarchy.end_all(self._cgroups)
            files.remove(self._cgroups.made)
            self._cgroups = None
        if self._state is not None:
            from sigkit.runtime import state

            state.forget(self._state_root, self._id)
            self._state = None


def _read_config(place: Place) -> tuple[Config, Maps | None]:
    from sigkit import durable, limits
    from sigkit.runtime import config as parser
    from sigkit.runtime import users, validate

    config = parser.parse_config(durable.read(place.source, most_bytes=limits.RUNTIME_CONFIG_BYTES, place=place), place)
    maps = users.choose_maps(config)
    validate.validate(config, place, None if maps is None else (maps.uids, maps.gids))
    return config, maps


def _check_root(path: str, place: Place) -> None:
    import stat

    from sigkit.errors import Place, UnsafeRootfs

    at = Place("", "$.root.path").within(place)
    try:
        found = os.lstat(path)
    except OSError as err:
        raise UnsafeRootfs("the root directory is not there", place=at, got=path) from err
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeRootfs("the root is not a directory, or is a symbolic link", place=at, got=path)


def _check_mount(mount: RootfsMount, place: Place) -> None:
    """Refuse what mount(2) would cut off without a word: fewer layers are another root file system."""
    from sigkit import limits
    from sigkit.errors import InvalidConfig

    if any("\0" in part for part in mount) or len(os.fsencode(mount[2])) > limits.RUNTIME_MOUNT_OPTION_BYTES:
        expected = f"at most {limits.RUNTIME_MOUNT_OPTION_BYTES} bytes, without NUL"
        raise InvalidConfig("the options of the root's mount do not fit into one page", place=place, expected=expected)


def _filter(config: Config, state_root: str, record: Trace) -> tuple[bytes, int]:
    if config.seccomp is None:
        return b"", 0
    from sigkit.runtime import seccomp

    record.step("seccomp filter", "compiled by libseccomp once, then taken from the cache", "# libseccomp's seccomp_export_bpf")
    profile = seccomp.parse_profile(config.seccomp)
    return seccomp.filter_program(profile, state_root), profile.flags
