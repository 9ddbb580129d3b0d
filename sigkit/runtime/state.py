"""What is known of each container, in a directory of its own below the state root: 0700, and forgotten at the next boot.

The directory's name is the container's id, so making it is what claims the id. `state.json` is replaced whole; a process id
counts only together with the start time that the kernel gives for it.
"""

from __future__ import annotations

import errno
import os

from sigkit import limits, strict
from sigkit.errors import (
    BadContainerId,
    ContainerExists,
    FileUnreadable,
    FileUnwritable,
    HostUnfit,
    NoSuchContainer,
    ParseError,
    Place,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.strict import Json

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_FILE = "state.json"
_STATE_BYTES = limits.RUNTIME_CONFIG_BYTES


def check_id(container_id: str) -> None:
    """Refuse what is not a container id.

    Raises:
        BadContainerId: as its text says.
    """
    if not 0 < len(container_id) <= 255 or container_id[0] == "." or not _ID_CHARACTERS.issuperset(container_id):
        raise BadContainerId("not a container id", place=Place.operator(container_id), expected="letters, digits and _ + - .")


def open_root(path: str) -> None:
    """Make the state root where it is missing.

    Raises:
        HostUnfit: it belongs to another user, or others may write there: they would tell us which process to kill.
        FileUnwritable: it cannot be made.
    """
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as err:
        raise FileUnwritable(f"cannot make the state directory ({errno.errorcode.get(err.errno or 0)})", place=Place(path)) from err
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise HostUnfit("the state directory belongs to another user, or others may write there", place=Place(path))


class State:
    """One container's record."""

    __slots__ = ("annotations", "bundle", "cgroups", "container_id", "oci_version", "pid", "start_time", "status")

    def __init__(self, container_id: str, bundle: str) -> None:
        self.container_id = container_id
        self.bundle = bundle
        self.oci_version = ""
        self.status = "creating"
        self.pid = 0
        self.start_time = 0
        self.annotations: dict[str, str] = {}
        self.cgroups: tuple[str, ...] = ()  # directories that this container made, deepest first

    def encode(self) -> bytes:
        """Encode for the file."""
        annotations: dict[str, Json] = dict(self.annotations)
        return strict.encode_json(
            {
                "ociVersion": self.oci_version,
                "id": self.container_id,
                "status": self.status,
                "pid": self.pid,
                "startTime": self.start_time,
                "bundle": self.bundle,
                "annotations": annotations,
                "cgroups": list(self.cgroups),
            }
        )

    def report(self) -> dict[str, Json]:
        """Return what `state` prints (OCI runtime-spec, runtime.md "State")."""
        annotations: dict[str, Json] = dict(self.annotations)
        report: dict[str, Json] = {"ociVersion": self.oci_version, "id": self.container_id, "status": self.status}
        if self.status != "stopped":
            report["pid"] = self.pid
        return report | {"bundle": self.bundle, "annotations": annotations}

    def alive(self) -> bool:
        """Return whether the container's process is there, and is the same one."""
        return self.pid > 0 and start_time(self.pid) == self.start_time


def start_time(pid: int) -> int:
    """Return when a process started, in the kernel's ticks; 0 if there is none. A zombie has ended: 0."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])


def claim(root: str, container_id: str) -> None:
    """Take an id.

    Raises:
        ContainerExists: it is taken.
    """
    try:
        os.mkdir(os.path.join(root, container_id), 0o700)
    except FileExistsError as err:
        raise ContainerExists("the id is taken", place=Place(container_id), remedy=f"sigkit-runtime delete {container_id}") from err
    except OSError as err:
        problem = f"cannot make the container's state directory ({errno.errorcode.get(err.errno or 0)})"
        raise FileUnwritable(problem, place=Place(root)) from err


def save(root: str, state: State) -> None:
    """Write the record whole. Not synced: it means nothing after a reboot."""
    directory = os.path.join(root, state.container_id)
    temporary = os.path.join(directory, f".{_FILE}")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            data = state.encode()
            while data:
                data = data[os.write(file, data) :]
        finally:
            os.close(file)
        os.rename(temporary, os.path.join(directory, _FILE))
    except OSError as err:
        problem = f"cannot write the container's state ({errno.errorcode.get(err.errno or 0)})"
        raise FileUnwritable(problem, place=Place(directory)) from err


def load(root: str, container_id: str) -> State:
    """Read the record of a container.

    Raises:
        NoSuchContainer: there is none.
    """
    from sigkit import durable

    check_id(container_id)
    directory = os.path.join(root, container_id)
    if not os.path.isdir(directory):
        raise NoSuchContainer("no such container", place=Place(container_id))
    state = State(container_id, "")
    path = os.path.join(directory, _FILE)
    place = Place(path)
    try:
        cursor = strict.parse_json(durable.read(path, most_bytes=_STATE_BYTES, place=place), most_bytes=_STATE_BYTES, place=place)
    except (FileUnreadable, ParseError):
        return state  # the runtime was killed before it wrote: nothing runs, and `delete` removes the directory
    state.oci_version, state.bundle = cursor.member("ociVersion").text(), cursor.member("bundle").text()
    state.status = cursor.member("status").text()
    state.pid, state.start_time = cursor.member("pid").integer(), cursor.member("startTime").integer()
    state.annotations = cursor.member("annotations").texts(limits.ANNOTATIONS)
    state.cgroups = tuple(item.text() for item in cursor.member("cgroups").items(limits.RUNTIME_ITEMS))
    if not state.alive():
        state.status = "stopped"
    return state


def forget(root: str, container_id: str) -> None:
    """Give the id free.

    Raises:
        FileUnwritable: its directory cannot be removed.
    """
    directory = os.path.join(root, container_id)
    for remove, path in (
        (os.unlink, os.path.join(directory, f".{_FILE}")),
        (os.unlink, os.path.join(directory, _FILE)),
        (os.rmdir, directory),
    ):
        try:
            remove(path)
        except FileNotFoundError:
            pass
        except OSError as err:
            problem = f"cannot remove the container's state ({errno.errorcode.get(err.errno or 0)})"
            raise FileUnwritable(problem, place=Place(path)) from err
