"""The stack's TUF repository: how clients get its trust root, and the next one after it.

The keys of the roles root and targets are made in a directory of their own, which the running process never opens: what they sign changes
by the operator's command alone. The process holds the keys of snapshot and timestamp, with which it says again and again that what was
signed is still the newest.

Files are written in the order in which clients follow them backwards: targets, snapshot, and the timestamp last. One that is killed in
between leaves the old timestamp, and so the old repository, whole. What it had written is served by its name, and caches keep it: so that
version is left out from then on, and no name but the timestamp's ever stands for other bytes.

A key's file is named by its id, and is there before the root names it, so that at no moment a role has none. What a role says is signed by
its new key too before the root names that: so clients take the repository with the old root and with the new one.

Source: TUF specification 1.0 sections 3 to 6; sigstore/root-signing for the names of targets.
"""

from __future__ import annotations

import contextlib
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sigkit import durable, limits
from sigkit.data import NOTHING, Data
from sigkit.errors import FileUnreadable, FileUnwritable, MalformedKey, Place, SigkitError
from sigkit.services import pki
from sigkit.services.exchange import FOREVER, FRESH, Answer, whole_answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

    from sigkit.clock import Clock
    from sigkit.services.exchange import Request

PREFIX: Final = "/tuf"
OFFLINE_ROLES: Final = ("root", "targets")
ONLINE_ROLES: Final = ("timestamp", "snapshot")

_METADATA: Final = re.compile(r"timestamp\.json|[1-9][0-9]{0,9}\.(?:root|snapshot|targets)\.json", re.ASCII)
_TARGET: Final = re.compile(r"targets/[0-9a-f]{64}\.[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_TARGET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
# Versions of what was restored count these from the repository's beginning. sigstore-java keeps versions in 32 bits with a sign: they last
# for 13 years, and a stack for 10, as the root of its authority does.
_STEP: Final = timedelta(minutes=1)  # by which a clock is put right in its course
_TICK: Final = timedelta(milliseconds=200)
_FIRST_ROOT: Final = timedelta(days=730)  # how long the first root of a stack is valid; another would shift the beginning, once for all
_JSON: Final = ("Content-Type", "application/json")
# Not to be kept: 404 is how a client learns that its root is the newest; from a cache it hides the next (RFC 9110 section 15.1).
_ABSENT: Final = whole_answer(404, b"no such file\n", (("Content-Type", "text/plain"), FRESH))


class Lifetimes(Data):
    """How long what a role signs is valid. What the process signs, it signs again when half of that is over."""

    root: timedelta = timedelta(days=730)
    targets: timedelta = timedelta(days=730)
    snapshot: timedelta = timedelta(days=30)
    timestamp: timedelta = timedelta(days=7)  # a client that is held back sees nothing newer for as long

    def of(self, role: str) -> timedelta:
        """Return a role's."""
        return {"root": self.root, "targets": self.targets, "snapshot": self.snapshot}.get(role, self.timestamp)


class Rotated(Data):
    """A role's keys after a rotation: the files of the new one, and of those that no longer count."""

    new: str
    old: tuple[str, ...]


class Repository:
    """The repository in a directory, as the running process has it: it reads nothing of the offline directory."""

    def __init__(self, directory: str, lifetimes: Lifetimes) -> None:
        """Take a directory that `create` made."""
        self._directory = directory
        self._lifetimes = lifetimes

    @classmethod
    def create(
        cls,
        directory: str,
        offline: str,
        targets: Mapping[str, bytes],
        clock: Clock,
        lifetimes: Lifetimes = Lifetimes(),  # noqa: B008
    ) -> Repository:
        """Make a repository that has these targets, with keys of its own.

        Args:
            directory: for everything that the process needs and serves.
            offline: for the keys of root and targets: `tuf-ROLE-KEYID.pem`.
            targets: by name.
            clock: for the dates.
            lifetimes: of what each role signs.

        Raises:
            FileUnwritable: (UNAVAIL) there is a repository already, or a key; no space; no permission.
        """
        from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

        repository = cls(directory, lifetimes)
        for path in (directory, offline, *(repository._path(name) for name in ("metadata", "targets", "keys"))):
            _make_directory(path)
        if os.path.exists(repository._path("metadata", "timestamp.json")):
            raise FileUnwritable("there is a TUF repository already", place=Place.operator(directory))
        now = clock.now()
        root = Metadata(Root(consistent_snapshot=True))
        for role in (*OFFLINE_ROLES, *ONLINE_ROLES):
            root.signed.add_key(repository._make_key(offline, role).public_key, role)
        repository._sign(root, "root", repository._offline_keys(offline, "root", root.signed), now)
        repository._publish(Metadata(Targets()), Metadata(Snapshot()), Metadata(Timestamp()), targets, offline, now)
        return repository

    @classmethod
    def open(cls, directory: str, lifetimes: Lifetimes = Lifetimes()) -> Repository:  # noqa: B008
        """Open the repository that `create` made.

        Raises:
            FileUnreadable: (UNAVAIL) there is none, or it is not whole.
        """
        repository = cls(directory, lifetimes)
        repository._load("timestamp")
        return repository

    @property
    def initial_root(self) -> bytes:
        """The first root's metadata: what a client pins, and cosign's `initialize --root` takes."""
        return self._read("metadata", "1.root.json")

    def expiries(self) -> dict[str, datetime]:
        """Return when what each role signed ends.

        Raises:
            FileUnreadable: (UNAVAIL) the repository is not whole.
        """
        return {role: self._load(role).signed.expires for role in (*OFFLINE_ROLES, *ONLINE_ROLES)}

    def read_target(self, name: str) -> tuple[bytes, Place]:
        """Return the target that clients get by this name, and the place of its file.

        Raises:
            FileUnreadable: (UNAVAIL) the repository is not whole.
        """
        from tuf.api.exceptions import LengthOrHashMismatchError

        target = self._load("targets").signed.targets.get(name)
        if target is None:
            raise FileUnreadable(f"no target is named {name}", place=Place.operator(self._directory))
        path = self._path("targets", f"{target.hashes['sha256']}.{name}")
        place = Place.operator(path)
        raw = durable.read(path, most_bytes=limits.BUNDLE_BYTES, place=place)
        try:
            target.verify_length_and_hashes(raw)
        except LengthOrHashMismatchError as err:
            raise FileUnreadable("not the bytes that were published", place=place, remedy="restore it from a backup") from err
        return raw, place

    def find_bad_keys(self) -> Iterator[SigkitError]:
        """Give for each key that the newest root names for what the running process signs, and that cannot, why that is.

        Raises:
            FileUnreadable: (UNAVAIL) the repository is not whole.
        """
        root = self._load("root").signed
        for role in ONLINE_ROLES:
            for keyid in root.roles[role].keyids:
                try:
                    _load_key(self._path("keys"), role, keyid)
                except SigkitError as err:
                    yield err

    def is_ahead(self, now: datetime) -> bool:
        """Tell whether what is signed again by itself was signed at a later time than now: the clock was ahead then, or is behind now.

        Raises:
            FileUnreadable: (UNAVAIL) the repository is not whole.
        """
        return any(self._load(role).signed.expires - now > self._lifetimes.of(role) + _STEP for role in ONLINE_ROLES)

    def resign_if_due(self, now: datetime) -> bool:
        """Sign timestamp and snapshot again if either needs it.

        That is: half of its life is over; it has more before it than its life, or whoever holds clients back could do so for as long as the
        clock was ahead when it was signed; or it is of a key that the root no longer names.

        Raises:
            FileUnreadable, FileUnwritable: (UNAVAIL) the repository is not whole, no space, no permission.
        """
        if not any(self._is_due(role, now) for role in ONLINE_ROLES):
            return False
        self.resign_timestamp(now)
        return True

    def resign_timestamp(self, now: datetime) -> None:
        """Sign a new timestamp, and a new snapshot where that is due.

        Raises:
            FileUnreadable, FileUnwritable: (UNAVAIL) the repository is not whole, no space, no permission.
        """
        with self._locked():
            root, snapshot, timestamp = self._load("root").signed, self._load("snapshot"), self._load("timestamp")
            if self._is_due("snapshot", now):
                self._sign(snapshot, "snapshot", self._online_keys("snapshot", root), now)
                timestamp.signed.snapshot_meta.version = snapshot.signed.version
            self._sign(timestamp, "timestamp", self._online_keys("timestamp", root), now)

    def resign_beyond(self, now: datetime) -> None:
        """Sign timestamp and snapshot under versions that nobody has seen: clients refuse what is older than what they have had.

        For a copy that is older than what clients may have seen. What the offline keys signed meanwhile it cannot know of, nor how often
        the same copy went on before: so versions follow the clock, and whoever goes on later is beyond all who did so before, and beyond
        what they signed since, as long as the clock is not behind theirs and nobody signs five times a second.

        Raises:
            FileUnreadable, FileUnwritable: (UNAVAIL) the repository is not whole, no space, no permission.
        """
        from tuf.api.metadata import Metadata

        with self._locked():
            snapshot, timestamp = self._load("snapshot"), self._load("timestamp")
            begun = Metadata.from_bytes(self.initial_root).signed.expires - _FIRST_ROOT
            for metadata in (snapshot, timestamp):
                metadata.signed.version = max(metadata.signed.version, (now - begun) // _TICK)  # signing adds one
            self._sign_online(self._load("targets"), snapshot, timestamp, now)

    def publish(self, offline: str, targets: Mapping[str, bytes], now: datetime) -> None:
        """Make these the targets, instead of those that there are; the operator's command.

        Args:
            offline: the directory with the keys of root and targets.
            targets: by name.
            now: for the dates.

        Raises:
            FileUnreadable, FileUnwritable: (UNAVAIL) the repository is not whole, no space, no permission.
            MalformedKey: (SIG) the offline directory holds something else.
        """
        with self._locked():
            self._publish(self._load("targets"), self._load("snapshot"), self._load("timestamp"), targets, offline, now)

    def renew(self, offline: str, now: datetime) -> None:
        """Sign root and targets again, so that they are valid longer; the operator's command.

        Raises:
            FileUnreadable, FileUnwritable: (UNAVAIL) the repository is not whole, no space, no permission.
            MalformedKey: (SIG) the offline directory holds something else.
        """
        with self._locked():
            root = self._load("root")
            self._sign(root, "root", self._offline_keys(offline, "root", root.signed), now)
            self._resign(offline, now)

    def rotate(self, offline: str, role: str, now: datetime) -> Rotated:
        """Give a role a new key; clients that have the old root follow. The operator's command.

        The new root is signed by the old root key and the new one. Files of old keys stay, and are named. What a killed one leaves is the
        old repository or the new one; run again, it gives the role one more.

        Raises:
            FileUnreadable, FileUnwritable: (UNAVAIL) the repository is not whole, no space, no permission.
            MalformedKey: (SIG) the offline directory holds something else.
        """
        with self._locked():
            root = self._load("root")
            old_keys = self._offline_keys(offline, "root", root.signed)
            new = self._make_key(offline, role)
            if role != "root":
                self._resign(offline, now, {role: {new.public_key.keyid: new}})
            old = tuple(root.signed.roles[role].keyids)
            for keyid in old:
                root.signed.revoke_key(keyid, role)
            root.signed.add_key(new.public_key, role)
            self._sign(root, "root", {**old_keys, **self._offline_keys(offline, "root", root.signed)}, now)
            self._resign(offline, now)
        directory = self._keys_of(offline, role)
        return Rotated(_key_path(directory, role, new.public_key.keyid), tuple(_key_path(directory, role, keyid) for keyid in old))

    def _resign(self, offline: str, now: datetime, also: Mapping[str, Mapping[str, CryptoSigner]] = NOTHING) -> None:
        """Sign all but the root again, by the keys that the root names and those in `also`, by role."""
        targets = self._load("targets")
        signers = self._offline_keys(offline, "targets", self._load("root").signed)
        self._sign(targets, "targets", {**signers, **also.get("targets", {})}, now)
        self._sign_online(targets, self._load("snapshot"), self._load("timestamp"), now, also)

    async def answer(self, request: Request) -> Answer:
        """Answer a request for a file of the repository."""
        name = request.path.removeprefix(f"{PREFIX}/")
        if request.method not in {"GET", "HEAD"}:
            return whole_answer(405, b"only GET and HEAD\n", (("Allow", "GET, HEAD"), ("Content-Type", "text/plain")))
        if _METADATA.fullmatch(name):
            path = self._path("metadata", name)
        elif _TARGET.fullmatch(name):
            path = self._path(*name.split("/"))
        else:
            return _ABSENT
        raw = _find(path)
        if raw is None:
            return _ABSENT
        return whole_answer(200, raw, (_JSON, FRESH if name == "timestamp.json" else FOREVER))

    # --- files ---

    def _path(self, *parts: str) -> str:
        return os.path.join(self._directory, *parts)

    def _read(self, *parts: str) -> bytes:
        path = self._path(*parts)
        return durable.read(path, most_bytes=limits.BUNDLE_BYTES, place=Place.operator(path))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with durable.lock(self._path("lock")):
            yield

    def _load(self, role: str) -> Metadata[Any]:
        """Read what a role signed last: the newest root, else what the chain from the timestamp names."""
        from tuf.api.metadata import Metadata
        from tuf.api.serialization import DeserializationError

        name = self._newest(role)
        try:
            return Metadata.from_bytes(self._read("metadata", name))
        except DeserializationError as err:
            raise FileUnreadable("not TUF metadata", place=Place.operator(self._path("metadata", name))) from err

    def _newest(self, role: str) -> str:
        if role == "timestamp":
            return "timestamp.json"
        if role == "root":
            version = 1
            while os.path.exists(self._path("metadata", f"{version + 1}.root.json")):
                version += 1
        elif role == "snapshot":
            version = self._load("timestamp").signed.snapshot_meta.version
        else:
            version = self._load("snapshot").signed.meta["targets.json"].version
        return f"{version}.{role}.json"

    def _is_due(self, role: str, now: datetime) -> bool:
        root, metadata = self._load("root").signed, self._load(role)
        life, left = self._lifetimes.of(role), metadata.signed.expires - now
        return not life / 2 <= left <= life or set(root.roles[role].keyids) != set(metadata.signatures)

    # --- keys ---

    def _keys_of(self, offline: str, role: str) -> str:
        return offline if role in OFFLINE_ROLES else self._path("keys")

    def _make_key(self, offline: str, role: str) -> CryptoSigner:
        from securesystemslib.signer import CryptoSigner

        signer = CryptoSigner.generate_ecdsa()
        path = _key_path(self._keys_of(offline, role), role, signer.public_key.keyid)
        durable.create_new(path, signer.private_bytes, mode=0o600, point="tuf.key")
        return signer

    def _offline_keys(self, offline: str, role: str, root: Root) -> dict[str, CryptoSigner]:
        try:
            return _load_keys(offline, role, root)
        except FileUnreadable as err:
            raise FileUnreadable(
                f"the offline key of TUF's {role} is not here: {err.problem}",
                place=err.place,
                remedy="--offline DIR, where the offline keys were taken to",
            ) from err

    def _online_keys(self, role: str, root: Root) -> dict[str, CryptoSigner]:
        return _load_keys(self._path("keys"), role, root)

    # --- signing ---

    def _publish(
        self,
        metadata: Metadata[Targets],
        snapshot: Metadata[Snapshot],
        timestamp: Metadata[Timestamp],
        targets: Mapping[str, bytes],
        offline: str,
        now: datetime,
    ) -> None:
        from tuf.api.metadata import TargetFile

        metadata.signed.targets = {}
        for name, content in targets.items():
            if not _TARGET_NAME.fullmatch(name):
                raise FileUnwritable("no name for a target", place=Place.operator(name), expected="letters, digits, . _ and -")
            target = TargetFile.from_data(name, content, ["sha256"])
            metadata.signed.targets[name] = target
            durable.write(self._path("targets", f"{target.hashes['sha256']}.{name}"), content, point="tuf.target")
        self._sign(metadata, "targets", self._offline_keys(offline, "targets", self._load("root").signed), now)
        self._sign_online(metadata, snapshot, timestamp, now)

    def _sign_online(
        self,
        targets: Metadata[Targets],
        snapshot: Metadata[Snapshot],
        timestamp: Metadata[Timestamp],
        now: datetime,
        also: Mapping[str, Mapping[str, CryptoSigner]] = NOTHING,
    ) -> None:
        root = self._load("root").signed
        snapshot.signed.meta["targets.json"].version = targets.signed.version
        self._sign(snapshot, "snapshot", {**self._online_keys("snapshot", root), **also.get("snapshot", {})}, now)
        timestamp.signed.snapshot_meta.version = snapshot.signed.version
        self._sign(timestamp, "timestamp", {**self._online_keys("timestamp", root), **also.get("timestamp", {})}, now)

    def _sign(self, metadata: Metadata[Any], role: str, signers: Mapping[str, CryptoSigner], now: datetime) -> None:
        """Sign the next version of a role's metadata, and write it under a name that was never served."""
        if metadata.signatures:  # what was never signed is version 1 already
            metadata.signed.version += 1
        while role != "timestamp" and os.path.lexists(self._path("metadata", f"{metadata.signed.version}.{role}.json")):
            metadata.signed.version += 1
        metadata.signed.expires = (now + self._lifetimes.of(role)).replace(microsecond=0)
        metadata.signatures.clear()
        for signer in signers.values():
            metadata.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        durable.write(self._path("metadata", name), metadata.to_bytes(), point=f"tuf.{role}")


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as err:
        raise FileUnwritable(f"cannot make the directory: {err.strerror}", place=Place.operator(path)) from err


def _find(path: str) -> bytes | None:
    if not os.path.lexists(path):
        return None
    return durable.read(path, most_bytes=limits.BUNDLE_BYTES, place=Place(path))


def _key_path(directory: str, role: str, keyid: str) -> str:
    return os.path.join(directory, f"tuf-{role}-{keyid}.pem")


def _load_keys(directory: str, role: str, root: Root) -> dict[str, CryptoSigner]:
    return {keyid: _load_key(directory, role, keyid) for keyid in root.roles[role].keyids}


def _load_key(directory: str, role: str, keyid: str) -> CryptoSigner:
    from securesystemslib.signer import CryptoSigner

    path = _key_path(directory, role, keyid)
    signer = CryptoSigner(pki.load_key(path))
    if signer.public_key.keyid != keyid:
        raise MalformedKey("another key than the file's name says", place=Place.operator(path), expected=keyid, got=signer.public_key.keyid)
    return signer
