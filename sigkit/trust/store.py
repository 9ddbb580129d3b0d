"""A named trust root, ready to verify with: fetched if it is time to, else as it was proved last, and how old that is.

What is kept is proved again from the pin, whether there is a network or not. Where a mirror does not answer, the last good state is used as
long as it is valid, and longer where a policy grants it. A mirror that answers with something wrong is another matter: that is refused,
whatever is kept. Nothing is written where nothing can be: then what was fetched serves this once.

An update that fails leaves the last good state, and takes two things from it: the roots that it proved, for they revoke keys, and the
timestamp, behind which no mirror takes this machine back.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from sigkit import durable, limits
from sigkit.data import Data
from sigkit.errors import (
    FileUnwritable,
    LockTimeout,
    MalformedOption,
    MetadataExpired,
    MetadataMissing,
    NetError,
    NoSuchRoot,
    Place,
    RootTooOld,
    SigkitError,
    TargetNotListed,
    UnavailError,
)
from sigkit.text import format_time, human_age
from sigkit.trust import bundled
from sigkit.trust.files import load_trusted_root
from sigkit.trust.pins import FilePin, Pins, Proved, TufPin, default_directory, is_name
from sigkit.trust.trusted_root import parse_trusted_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.net.session import Session
    from sigkit.trust.root import TrustedRoot
    from sigkit.trust.signing_config import SigningConfig
    from sigkit.trust.tuf import Client, Mirror

    Sessions: TypeAlias = Callable[[str | None], AbstractContextManager[Session]]

TRUSTED_ROOT: Final = "trusted_root.json"
SIGNING_CONFIG: Final = "signing_config.v0.2.json"
_REFRESH_AFTER: Final = timedelta(seconds=limits.TRUST_REFRESH_S)
_NOTHING: Final = timedelta()
_TIMESTAMP: Final = "timestamp.json"
_SEEN_TIMESTAMP: Final = "seen-timestamp.json"  # of an update that failed later: what it names is not here
_ROOT_FILE: Final = re.compile(r"[1-9][0-9]*\.root\.json")
_FOLLOW: Final = f"sigkit trust init {bundled.NAME}"


class Allowance(Data):
    """How old a root may be: how long ago it was checked with its mirror, and for how long its metadata may have expired."""

    max_age: timedelta | None = None
    max_expired: timedelta = _NOTHING


NO_ALLOWANCE: Final = Allowance()


class Wait(Enum):
    """How long a mirror is waited for: as long as it takes, or not, since there is something to go on with."""

    WHOLE = "whole"
    ON_THE_WAY = "on the way"


class Freshness(Data):
    """When a root was checked with its mirror last, and until when its metadata is valid."""

    checked: datetime
    expires: datetime


class NamedRoot(Data):
    """A trust root under its name: what it says, where it comes from, and, if it is fetched, how fresh it is."""

    root: TrustedRoot
    signing: SigningConfig | None
    source: str
    freshness: Freshness | None


class _Unkept(Data):
    """What was proved and serves this process alone, and why it cannot be kept."""

    proved: Proved
    reason: SigkitError


class RootStore:
    """Loads trust roots by name. What a person should know about them stands in `notes` afterwards, what is in order in `details`."""

    def __init__(self, pins: Pins, clock: Clock, sessions: Sessions | None) -> None:
        """Load from these pins; `sessions` opens connections, given a file of certificate authorities; without it nothing is fetched."""
        self._pins = pins
        self._clock = clock
        self._sessions = sessions
        self._loaded: dict[tuple[str, Allowance], NamedRoot] = {}
        self._unkept: dict[str, _Unkept] = {}  # by name
        self.notes: list[str] = []
        self.details: list[str] = []

    @property
    def directory(self) -> str | None:
        """Where the roots lie; None if this user has no place for them."""
        return self._pins.directory

    def names(self) -> tuple[str, ...]:
        """Return the names of the roots that are pinned."""
        return self._pins.names()

    def load(self, name: str, allowance: Allowance = NO_ALLOWANCE) -> NamedRoot:
        """Load a root.

        Args:
            name: of the pin; `public-good`, where that is not pinned, is the copy that comes with sigkit.
            allowance: how old it may be.

        Raises:
            NoSuchRoot, MetadataMissing, RootTooOld, UnsafeRootStore: (UNAVAIL) there is none, or none that may be used now.
            MalformedOption: (PARSE) an allowance for what was pinned as a file, which has no age.
            RootError: the mirror offers something that is not proved.
            SigkitError: what is pinned or kept is malformed.
        """
        known = self._loaded.get((name, allowance))
        if known is None:
            known = self._loaded[name, allowance] = self._load(name, allowance)
        return known

    def update(self, name: str) -> NamedRoot:
        """Fetch a root's newest state, and keep it.

        Raises:
            FileUnwritable, LockTimeout: (UNAVAIL) it was fetched and proved, and cannot be kept.
            SigkitError: as `load`, and as the mirror.
        """
        try:
            pin = self._pins.load(name)
        except NoSuchRoot as err:
            if name == bundled.NAME:
                err.remedy = _FOLLOW
            raise
        if isinstance(pin, FilePin):
            return self._of_file(pin)
        updated = self._update(pin, Wait.WHOLE)
        if pin.name in self._unkept:
            raise self._unkept[pin.name].reason
        return updated

    def pin_repository(self, name: str, mirror: str, root: bytes, ca_file: str | None = None, root_place: Place | None = None) -> NamedRoot:
        """Pin a TUF repository under a name, if everything that its mirror has now is proved from this root.

        Args:
            name: of the pin.
            mirror: where the repository is.
            root: the metadata that everything is proved from.
            ca_file: the authorities of the mirror's own certificate, beside the system's.
            root_place: where the root was read, if it was not the mirror.

        Raises:
            OtherPin: (ROOT) something else is pinned under this name.
            FileUnwritable: (UNAVAIL) no space, no permission.
            SigkitError: as the mirror, and what is wrong with the metadata; nothing was pinned then.
        """
        pin = TufPin(name, mirror, root, root_place or Place.operator(self._pins.path(name, "root.json")), ca_file)
        ca = durable.read(ca_file, most_bytes=limits.CA_FILE_BYTES, place=Place.operator(ca_file)) if ca_file else None
        if not self._pins.holds(name):
            self._fetch(pin, self._memory(pin, {}), self._clock.now(), Wait.WHOLE)
        self._pins.pin_repository(name, mirror, root, ca)
        return self._update(pin, Wait.WHOLE)

    def pin_trusted_root(self, name: str, trusted_root: bytes, place: Place) -> NamedRoot:
        """Pin a trusted root itself under a name.

        Raises:
            OtherPin: (ROOT) something else is pinned under this name.
            FileUnwritable: (UNAVAIL) no space, no permission.
            SigkitError: as `parse_trusted_root`; nothing was pinned then.
        """
        found = self._of_file(FilePin(name, trusted_root, place))
        self._pins.pin_trusted_root(name, trusted_root)
        return found

    def load_named_or_file(self, text: str) -> NamedRoot:
        """Load what a user calls a trust root: a name, or a file, whose path has a dot or a slash.

        A file of this name in the working directory, which may be anybody's, is not meant.

        Raises:
            SigkitError: as `load` and `load_trusted_root`.
        """
        return self.load(text) if is_name(text) else NamedRoot(load_trusted_root(text), None, "a file", None)

    def _load(self, name: str, allowance: Allowance) -> NamedRoot:
        if name == bundled.NAME and not self._pins.holds(name):
            return self._of_copy(allowance)
        try:
            pin = self._pins.load(name)
        except NoSuchRoot as err:
            err.expected = f"one of: {', '.join(dict.fromkeys((bundled.NAME, *self.names())))}"
            raise
        match pin:
            case FilePin():
                if allowance != NO_ALLOWANCE:
                    raise MalformedOption(
                        "this trust root was pinned as a file, and nobody knows how old a file is",
                        place=Place(pin.name),
                        expected="a root that is fetched from a mirror, which `maxAge` and `maxExpired` are about",
                        remedy="remove them, or pin its mirror under another name: sigkit trust init NAME --mirror URL",
                    )
                return self._of_file(pin)
            case TufPin():
                return self._of_repository(pin, allowance)
            case _:
                assert_never(pin)

    def _of_copy(self, allowance: Allowance) -> NamedRoot:
        age = bundled.age_days(self._clock.now().date())
        if allowance.max_age is not None and age < 0:
            raise _clock_behind(
                bundled.NAME, f"the copy of the public-good instance's trusted root, of {bundled.COPIED}", self._clock.now()
            )
        if allowance.max_age is not None and timedelta(days=age) > allowance.max_age:
            raise RootTooOld(
                "the copy of the public-good instance's trusted root is older than the policy allows",
                place=Place(bundled.NAME),
                expected=f"at most {human_age(allowance.max_age)}",
                got=f"{age} days",
                remedy=_FOLLOW,
            )
        self.notes.append(
            f"trusted root: the copy of the public-good instance's of {bundled.COPIED}, {age} days old; "
            "`sigkit trust init public-good` fetches today's"
        )
        return NamedRoot(bundled.load_public_good(), bundled.load_public_good_signing_config(), "the copy that comes with sigkit", None)

    def _of_file(self, pin: FilePin) -> NamedRoot:
        root = parse_trusted_root(pin.trusted_root, pin.name, pin.place, limits.DEFAULT)
        return NamedRoot(root, None, "a file that was pinned", None)

    def _of_repository(self, pin: TufPin, allowance: Allowance) -> NamedRoot:
        kept = self._kept(pin)
        if self._sessions is None:
            return self._of_kept(pin, kept, allowance)
        if not self._is_due(kept, allowance):
            try:
                return self._of_kept(pin, kept, allowance)
            except SigkitError:
                pass  # expired, or damaged: the mirror has better
        try:
            return self._update(pin, Wait.ON_THE_WAY if kept else Wait.WHOLE)
        except MetadataExpired:
            if not allowance.max_expired or kept is None:
                raise
            self.notes.append(f"trusted root {pin.name}: what its mirror offers has expired; what is kept is used")
        except (UnavailError, NetError) as err:  # what is kept needs no protection on the way
            if kept is None:
                raise
            self.notes.append(f"trusted root {pin.name}: its mirror cannot be asked ({err.problem}); what is kept is used")
        return self._of_kept(pin, self._kept(pin), allowance)  # which has roots since that the mirror did tell, or is another process's

    def _is_due(self, kept: Proved | None, allowance: Allowance) -> bool:
        if kept is None:
            return True
        age = self._clock.now() - kept.checked
        after = _REFRESH_AFTER if allowance.max_age is None else min(_REFRESH_AFTER, allowance.max_age)
        return age < _NOTHING or age >= after  # of two times in the wrong order, nobody knows which one is wrong

    def _of_kept(self, pin: TufPin, kept: Proved | None, allowance: Allowance) -> NamedRoot:
        if kept is None:
            raise MetadataMissing(
                "nothing of this trust root was fetched yet", place=Place(pin.name), remedy=f"sigkit trust update {pin.name}"
            )
        age = self._clock.now() - kept.checked
        update = f"sigkit trust update {pin.name}"
        if allowance.max_age is not None and age < _NOTHING:
            raise _clock_behind(pin.name, f"the last check of the trust root, at {format_time(kept.checked)}", self._clock.now())
        if allowance.max_age is not None and age > allowance.max_age:
            raise RootTooOld(
                "the trust root was checked longer ago than the policy allows",
                place=Place(pin.name),
                expected=f"at most {human_age(allowance.max_age)} ago",
                got=f"{human_age(age)} ago",
                remedy=update,
            )
        now = self._now(kept)
        try:
            found = self._read(pin, self._memory(pin, kept.files), None, now - allowance.max_expired, kept.checked)
        except MetadataExpired as err:
            raise RootTooOld(
                "the metadata of the trust root has expired, and nothing newer is here",
                place=err.place,
                expected=err.expected,
                got=err.got,
                remedy=update,
            ) from err
        except SigkitError as err:  # nobody but this machine keeps it
            err.remedy = err.remedy or f"what is kept here is damaged, or of keys that a later root revoked; {update} fetches it anew"
            raise
        if found.freshness and found.freshness.expires <= now:
            self.notes.append(
                f"trusted root {pin.name}: stale: its metadata expired {human_age(now - found.freshness.expires)} ago, as the policy grants"
            )
        if age < _NOTHING:
            told = f"this machine's clock is {human_age(-age)} behind the last check with {pin.mirror}, at {format_time(kept.checked)}"
        else:
            told = f"checked with {pin.mirror} {human_age(age)} ago"
        in_order = _NOTHING <= age < _REFRESH_AFTER
        if not self._pins.can_keep(pin.name):  # it will not get fresher here
            in_order, told = False, f"{told}; nothing newer can be kept: its directory cannot be written"
        (self.details if in_order else self.notes).append(f"trusted root {pin.name}: {told}")
        return found

    def _kept(self, pin: TufPin) -> Proved | None:
        """Return what is kept; what cannot be used is as if it were not there, and that is said."""
        try:
            kept, unkept = self._pins.load_proved(pin.name), self._unkept.get(pin.name)
            return _newer(kept, unkept.proved) if unkept else kept
        except SigkitError as err:
            self.notes.append(f"trusted root {pin.name}: what is kept of it is not used: {err.problem} ({err.place.source})")
            return None

    def _now(self, kept: Proved | None) -> datetime:
        """Return the latest time that is known: a clock that was set back makes nothing valid again."""
        now = self._clock.now()
        return max(now, kept.checked) if kept else now

    def _update(self, pin: TufPin, within: Wait) -> NamedRoot:
        with ExitStack() as stack:
            not_locked: SigkitError | None = None
            try:
                stack.enter_context(durable.lock(self._pins.path(pin.name, "lock"), timeout_s=limits.TRUST_LOCK_S))
            except (FileUnwritable, LockTimeout) as err:
                not_locked = err
            kept = self._kept(pin)
            now, memory = self._now(kept), self._memory(pin, _newest(kept.files) if kept else {})
            try:
                found = self._fetch(pin, memory, now, within)
            except SigkitError:
                if kept is not None and (files := _taken_from(memory.files, kept.files)) != kept.files:
                    self._keep(pin, Proved(files, kept.checked), not_locked)
                raise
            self._keep(pin, Proved(memory.files, now), not_locked)
        return found

    def _keep(self, pin: TufPin, proved: Proved, not_locked: SigkitError | None) -> None:
        """Keep what was proved: in this process where the disk does not take it, or another process may have kept what is newer."""
        reason = not_locked
        if reason is None:
            try:
                self._pins.save_proved(pin.name, proved)
            except FileUnwritable as err:
                reason = err
        if reason is None:
            self._unkept.pop(pin.name, None)
            return
        self._unkept[pin.name] = _Unkept(proved, reason)
        self.notes.append(f"trusted root {pin.name}: fetched for this once; it cannot be kept: {reason.problem}")

    def _memory(self, pin: TufPin, files: Mapping[str, bytes]) -> Memory:
        return Memory(dict(files), self._pins.path(pin.name, "cache.json"))

    def _fetch(self, pin: TufPin, memory: Memory, now: datetime, within: Wait) -> NamedRoot:
        from sigkit.trust.mirror import ON_THE_WAY_S, UPDATE_S, NetMirror

        if self._sessions is None:
            raise MetadataMissing("no connection is made", place=Place(pin.name))
        with self._sessions(pin.ca_file) as session:
            within_s = UPDATE_S if within is Wait.WHOLE else ON_THE_WAY_S
            try:
                return self._read(pin, memory, NetMirror(session, pin.mirror, pin.place, within_s=within_s), now, now)
            except MetadataExpired as err:  # fetching it again would change nothing
                err.remedy = err.remedy or "who runs the mirror has to sign anew; of a stack: sigkit stack up DIR or renew DIR"
                raise

    def _read(self, pin: TufPin, memory: Memory, mirror: Mirror | None, when: datetime, checked: datetime) -> NamedRoot:
        """Prove everything from the pin."""
        from sigkit.trust.tuf import Client

        client = Client(pin.root, pin.place, memory, mirror, when)
        client.refresh()
        root = parse_trusted_root(client.target(TRUSTED_ROOT), pin.name, memory.place(TRUSTED_ROOT), limits.DEFAULT)
        signing = self._read_signing_config(pin, client, memory)
        return NamedRoot(root, signing, pin.mirror, Freshness(checked, client.expires))

    def _read_signing_config(self, pin: TufPin, client: Client, memory: Memory) -> SigningConfig | None:
        """Read the signing config, if one is published. Whatever is wrong with it, who only verifies needs none."""
        from sigkit.trust.signing_config import parse_signing_config

        try:
            return parse_signing_config(client.target(SIGNING_CONFIG), memory.place(SIGNING_CONFIG), limits.DEFAULT)
        except TargetNotListed:
            return None
        except SigkitError as err:
            self.notes.append(f"trusted root {pin.name}: its signing config is not used: {err.problem}")
            return None


class Memory:
    """Keeps what is proved in memory, to be kept whole or not at all."""

    def __init__(self, files: dict[str, bytes], source: str) -> None:
        """Start with files that were kept in `source`."""
        self.files = files
        self._source = source

    def load(self, name: str) -> bytes | None:
        """Return a file, or None."""
        return self.files.get(name)

    def save(self, name: str, raw: bytes) -> None:
        """Keep a file."""
        self.files[name] = raw

    def place(self, name: str) -> Place:
        """Return where the file is kept."""
        return Place(self._source, name)


def _newer(kept: Proved | None, unkept: Proved) -> Proved:
    """Return what counts where another process may have kept something since this one could not: its state, with the roots proved here."""
    if kept is None or kept.checked <= unkept.checked:
        return unkept
    return Proved({**kept.files, **_roots_of(unkept.files)}, kept.checked)


def _roots_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: raw for name, raw in files.items() if _ROOT_FILE.fullmatch(name)}


def _newest(kept: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what is kept as an update goes on from it: from the newest timestamp that was seen."""
    files = dict(kept)
    seen = files.pop(_SEEN_TIMESTAMP, None)
    return files if seen is None else {**files, _TIMESTAMP: seen}


def _taken_from(proved: Mapping[str, bytes], kept: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what is kept after an update that failed, which proved these files before.

    Source: TUF specification sections 5.3.8 and 5.4.5, which have roots and the timestamp kept at once. The timestamp is kept beside the
    one of the last good state, which is whole.
    """
    files = {**kept, **_roots_of(proved)}
    if _TIMESTAMP in proved and proved[_TIMESTAMP] != kept.get(_TIMESTAMP):
        files[_SEEN_TIMESTAMP] = proved[_TIMESTAMP]
    return files


def find_store(clock: Clock, sessions: Sessions | None) -> RootStore:
    """Return the store of this user's roots."""
    return RootStore(Pins(default_directory()), clock, sessions)


def open_session(ca_file: str | None) -> Session:
    """Open connections to mirrors; a server's certificate may be of the authorities in a file, beside the system's."""
    from sigkit.net.session import NetOptions, Session

    return Session(NetOptions(ca_file=ca_file, ca_option="--mirror-cacert FILE, at sigkit trust init"))


def _clock_behind(name: str, what: str, now: datetime) -> RootTooOld:
    """Refuse to measure an age: of two times in the wrong order, nobody knows which one is wrong, nor how long ago the first was."""
    return RootTooOld(
        "this machine's clock is behind the time that the policy's `maxAge` counts from, so the age is not known",
        place=Place(name),
        expected=f"a time after {what}",
        got=format_time(now),
        remedy="set the clock of this machine, then try again",
    )
