"""Named trust roots on this machine: what was pinned, once, by a person; and beside it what was proved of it since.

    <directory>/NAME/pin.json            where from, and the digest of the file beside it
    <directory>/NAME/root.json           of a TUF repository: the root that everything is proved from, each time
    <directory>/NAME/ca.pem              the authorities that the mirror's TLS certificate may be of, beside the system's
    <directory>/NAME/trusted_root.json   or a trusted root itself, which nothing is fetched for
    <directory>/NAME/cache.json          all that was proved the last time, in one file: the last good state, or the one before

A pin is never replaced by another one: whoever could do that would decide who is trusted. For the same reason nothing is read that others
than this user, or root, could write.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit import durable, limits, strict
from sigkit.data import Data
from sigkit.digest import Digest, parse_digest
from sigkit.errors import FileUnreadable, FileUnwritable, MalformedOption, NoSuchRoot, OtherPin, Place, UnsafeRootStore
from sigkit.text import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "SIGKIT_TRUST"
PIN: Final = "sigkit.pin/1"
CACHE: Final = "sigkit.trust-cache/1"
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?", re.ASCII)
_MOST_LINKS: Final = 8
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class TufPin(Data):
    """A TUF repository: its mirror, and the root that its metadata is proved from."""

    name: str
    mirror: str
    root: bytes
    place: Place
    ca_file: str | None = None  # of authorities for the mirror's own certificate, which prove nothing of what it has


class FilePin(Data):
    """A trusted root itself."""

    name: str
    trusted_root: bytes
    place: Place


Pin: TypeAlias = TufPin | FilePin


class Proved(Data):
    """What was proved the last time, and when that was; each file is proved again before it is used."""

    files: Mapping[str, bytes]
    checked: datetime


def is_name(text: str) -> bool:
    """Tell whether a text is the name of a root and not of a file: it has neither a dot nor a slash."""
    return _NAME.fullmatch(text) is not None


def default_directory() -> str | None:
    """Return where named roots lie; None without a home."""
    return durable.state_directory("trust", VARIABLE)


class Pins:
    """The named roots in a directory. It is made by the first pin, never by reading."""

    def __init__(self, directory: str | None) -> None:
        """Look into a directory; without one there are no roots."""
        self.directory = directory

    def names(self) -> tuple[str, ...]:
        """Return the names of all roots, in their order.

        Raises:
            FileUnreadable: (UNAVAIL) the directory cannot be read.
        """
        if self.directory is None:
            return ()
        try:
            return tuple(sorted(name for name in os.listdir(self.directory) if is_name(name) and self.holds(name)))
        except FileNotFoundError:
            return ()
        except OSError as err:
            raise FileUnreadable(f"cannot list the roots: {err.strerror}", place=Place.operator(self.directory)) from err

    def holds(self, name: str) -> bool:
        """Tell whether a root has this name."""
        return self.directory is not None and os.path.lexists(self.path(name, "pin.json"))

    def path(self, name: str, file: str = "") -> str:
        """Return where a root, or a file of it, lies.

        Raises:
            MalformedOption: (PARSE) it cannot be a name.
            NoSuchRoot: (UNAVAIL) this user has no directory for roots.
        """
        if not is_name(name):
            raise MalformedOption(
                "a trust root cannot have this name", place=Place.operator(name), expected="a to z, 0 to 9, _ and -", got=name[:80]
            )
        if self.directory is None:
            raise NoSuchRoot("this user has no directory for trust roots", place=Place.operator(name), remedy=f"set HOME or {VARIABLE}")
        return os.path.join(self.directory, name, file) if file else os.path.join(self.directory, name)

    def load(self, name: str) -> Pin:
        """Read what is pinned under a name.

        Raises:
            NoSuchRoot: (UNAVAIL) nothing is.
            UnsafeRootStore: (UNAVAIL) others could have written it.
            FileUnreadable: (UNAVAIL) it is not whole.
            OtherPin: (ROOT) the file beside the pin has another digest.
            ParseError: (PARSE) malformed.
        """
        if not self.holds(name):
            known = ", ".join(self.names()) or "none"
            raise NoSuchRoot(
                "no trust root of this name is pinned here",
                place=Place.operator(name),
                expected=f"one of: {known}",
                got=name,
                remedy=f"sigkit trust init {name} --mirror URL --root FILE; a file of this name is ./{name}",
            )
        for path in (os.path.dirname(self.path(name)), self.path(name), self.path(name, "pin.json")):
            _check_owner(path)
        place = Place.operator(self.path(name, "pin.json"))
        top = strict.parse_json(
            durable.read(place.source, most_bytes=limits.PIN_BYTES, place=place), most_bytes=limits.PIN_BYTES, place=place
        )
        if top.member("schema").text() != PIN:
            top.member("schema").fail("a pin of another version", expected=PIN)
        found = top.only(("schema", "mirror", "root", "ca", "trustedRoot"))
        if found.find("trustedRoot"):
            return FilePin(name, *self._pinned(name, "trusted_root.json", found.member("trustedRoot").text()))
        raw, root_place = self._pinned(name, "root.json", found.member("root").text())
        ca = found.find("ca")
        ca_file = self._pinned(name, "ca.pem", ca.text())[1].source if ca else None
        return TufPin(name, found.member("mirror").text(), raw, root_place, ca_file)

    def _pinned(self, name: str, file: str, digest: str) -> tuple[bytes, Place]:
        place = Place.operator(self.path(name, file))
        _check_owner(place.source)
        raw = durable.read(place.source, most_bytes=limits.BUNDLE_BYTES, place=place)
        check_pinned(raw, parse_digest(digest, place), place)
        return raw, place

    def pin_repository(self, name: str, mirror: str, root: bytes, ca: bytes | None = None) -> None:
        """Pin a TUF repository, and the authorities of its mirror's own certificate if they are not the system's.

        The same again changes nothing.

        Raises:
            OtherPin: (ROOT) something else is pinned under this name.
            FileUnwritable, LockTimeout: (UNAVAIL) no space, no permission; another process is at it.
        """
        pin: dict[str, strict.Json] = {"schema": PIN, "mirror": mirror, "root": str(Digest.of(root))}
        if ca is None:
            self._pin(name, pin, {"root.json": root})
        else:
            self._pin(name, {**pin, "ca": str(Digest.of(ca))}, {"root.json": root, "ca.pem": ca})

    def pin_trusted_root(self, name: str, trusted_root: bytes) -> None:
        """Pin a trusted root itself. The same again changes nothing.

        Raises:
            OtherPin: (ROOT) something else is pinned under this name.
            FileUnwritable, LockTimeout: (UNAVAIL) no space, no permission; another process is at it.
        """
        self._pin(name, {"schema": PIN, "trustedRoot": str(Digest.of(trusted_root))}, {"trusted_root.json": trusted_root})

    def _pin(self, name: str, pin: dict[str, strict.Json], files: Mapping[str, bytes]) -> None:
        path, encoded = self.path(name, "pin.json"), strict.encode_json(pin)
        if os.path.lexists(path):
            self._check_same(name, encoded)
            return
        try:
            durable.make_directory(self.path(name), 0o700)
        except FileUnwritable as err:
            err.place = Place.operator(self.path(name))
            raise
        with durable.lock(self.path(name, "lock")):
            if os.path.lexists(path):  # another process was first; its files are not touched
                self._check_same(name, encoded)
                return
            for file, raw in files.items():
                durable.write(self.path(name, file), raw, mode=0o600, point="trust.root")
            try:
                durable.create_new(path, encoded, mode=0o600, point="trust.pin")  # last: without it there is no pin
            except FileUnwritable:
                if not os.path.lexists(path):
                    raise
                self._check_same(name, encoded)

    def _check_same(self, name: str, encoded: bytes) -> None:
        path = self.path(name, "pin.json")
        if durable.read(path, most_bytes=limits.PIN_BYTES, place=Place.operator(path)) != encoded:
            raise OtherPin(
                "another root is pinned under this name",
                place=Place.operator(name),
                remedy=f"choose another name, or remove {self.path(name)}",
            )

    # --- what was proved ---

    def load_proved(self, name: str) -> Proved | None:
        """Read what was proved the last time, or None if that was never.

        Raises:
            UnsafeRootStore: (UNAVAIL) others could have written it.
            SigkitError: it is damaged.
        """
        place = Place(self.path(name, "cache.json"))
        if not os.path.lexists(place.source):
            return None
        _check_owner(place.source)
        raw = durable.read(place.source, most_bytes=limits.TRUST_CACHE_BYTES, place=place)
        top = strict.parse_json(raw, most_bytes=limits.TRUST_CACHE_BYTES, place=place).only(("schema", "checkedAt", "files"))
        if top.member("schema").text() != CACHE:
            top.member("schema").fail("kept by another version", expected=CACHE)
        files = top.member("files")
        checked = top.member("checkedAt")
        return Proved({name: files.member(name).base64() for name in files.texts(limits.TRUST_CACHE_FILES)}, _parse_time(checked))

    def can_keep(self, name: str) -> bool:
        """Tell whether this process may write into a root's directory, whose file system may be read-only."""
        return os.access(self.path(name), os.W_OK)

    def save_proved(self, name: str, proved: Proved) -> None:
        """Keep what was proved, in place of what was before.

        Raises:
            FileUnwritable: (UNAVAIL) no space, no permission, or more than `load_proved` takes; what was there stays.
        """
        files: dict[str, strict.Json] = {file: strict.encode_base64(raw) for file, raw in sorted(proved.files.items())}
        document: strict.Json = {"schema": CACHE, "checkedAt": format_time(proved.checked), "files": files}
        encoded = strict.encode_json(document)
        if len(encoded) > limits.TRUST_CACHE_BYTES or len(files) > limits.TRUST_CACHE_FILES:
            raise FileUnwritable(f"more than is read again: {len(files)} files, {len(encoded)} bytes", place=Place(self.path(name)))
        durable.write(self.path(name, "cache.json"), encoded, mode=0o600, point="trust.cache")


def check_pinned(root: bytes, wanted: Digest, place: Place) -> None:
    """Prove that these bytes are the ones that are meant.

    Raises:
        OtherPin: (ROOT) they are not.
    """
    found = Digest.of(root, wanted.algorithm)
    if found != wanted:
        raise OtherPin("not the root that is meant", place=place, expected=str(wanted), got=str(found))


def _parse_time(cursor: strict.Cursor) -> datetime:
    try:
        return datetime.strptime(cursor.text(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        cursor.fail("not a time", expected="RFC 3339 in UTC, whole seconds")


def _check_owner(path: str) -> None:
    """Refuse what somebody else could have written: root could, whatever we do.

    A symbolic link, as Kubernetes mounts files by, is followed one step at a time: each link's owner counts, for nobody else may turn it
    elsewhere, and so do what it leads to and the directory that this lies in, where it could be replaced.
    """
    for _ in range(_MOST_LINKS):
        try:
            os.stat(path)  # links that lead in a circle, or nowhere
            found = os.stat(path, follow_symlinks=False)
            target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else None
        except OSError as err:
            raise FileUnreadable(f"cannot read the file: {err.strerror}", place=Place.operator(path)) from err
        if target is None:
            _check_written(path, found)
            return
        if found.st_uid not in {0, os.geteuid()}:
            raise UnsafeRootStore(
                "the symbolic link belongs to another user",
                place=Place(path),
                expected=f"user {os.geteuid()}",
                got=f"user {found.st_uid}",
            )
        # The directories of the target may be links themselves, as Kubernetes' `..data` is: each on the way is checked.
        path = os.path.join(os.path.dirname(path), target)
        parent = os.path.dirname(path)
        if parent:
            _check_owner(parent)
    raise UnsafeRootStore("too many symbolic links", place=Place(path), expected=f"at most {_MOST_LINKS - 1}")


def _check_written(path: str, found: os.stat_result) -> None:
    if found.st_uid not in {0, os.geteuid()}:
        raise UnsafeRootStore("it belongs to another user", place=Place(path), expected=f"user {os.geteuid()}", got=f"user {found.st_uid}")
    # With the sticky bit, as in /tmp, others may add names, and neither remove nor rename those of this user.
    if found.st_mode & _OTHERS_WRITE and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
        raise UnsafeRootStore("others may write it", place=Place(path), expected="mode 0700", got=f"mode {stat.S_IMODE(found.st_mode):04o}")
