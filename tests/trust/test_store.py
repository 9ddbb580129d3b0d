"""Named roots on this machine: what is pinned, what is fetched and kept, how old it may be, and who may have written it."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigkit import durable, limits
from sigkit.digest import Digest
from sigkit.errors import (
    FileUnreadable,
    FileUnwritable,
    MalformedOption,
    MetadataExpired,
    MetadataMismatch,
    MetadataMissing,
    MetadataNotSigned,
    MetadataRolledBack,
    NoSuchRoot,
    OtherPin,
    Place,
    RootTooOld,
    SigkitError,
    TlsFailed,
    UnsafeRootStore,
)
from sigkit.net.session import NetOptions, Session
from sigkit.text import format_time
from sigkit.trust.pins import Pins, TufPin, is_name
from sigkit.trust.store import Allowance, NamedRoot, RootStore
from tests.simulators.misbehaving_registry import MisbehavingServer
from tests.simulators.sigstore import Simulator
from tests.simulators.tls_identity import TlsIdentity
from tests.simulators.tuf import DAY, TufSimulator

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = Place("test")


def quick(ca_file: str | None) -> Session:
    """Connect without waiting between attempts."""
    return Session(NetOptions(ca_file=ca_file), sleep=lambda _: None)


class Clock:
    def __init__(self, sim: TufSimulator) -> None:
        self.at = sim.now

    def now(self):
        return self.at


class Machine:
    """A machine with a directory for roots, on which `acme` is pinned; and its mirror."""

    def __init__(self, sim: TufSimulator, server: MisbehavingServer, directory: Path) -> None:
        self.sim, self.server, self.directory = sim, server, directory
        self.clock = Clock(sim)
        self.notes: list[str] = []

    def store(self, sessions) -> RootStore:
        return RootStore(Pins(str(self.directory)), self.clock, sessions)

    def pin(self) -> NamedRoot:
        return self.store(quick).pin_repository("acme", self.server.url, self.sim.pinned)

    def update(self) -> NamedRoot:
        return self.store(quick).update("acme")

    def _load(self, sessions, allowance: Allowance) -> NamedRoot:
        store = self.store(sessions)
        try:
            return store.load("acme", allowance)
        finally:
            self.notes = store.notes

    def online(self, allowance: Allowance = Allowance()) -> NamedRoot:  # noqa: B008 # immutable
        return self._load(quick, allowance)

    def offline(self, allowance: Allowance = Allowance()) -> NamedRoot:  # noqa: B008 # immutable
        return self._load(None, allowance)

    @property
    def cache(self) -> Path:
        return self.directory / "acme" / "cache.json"


@pytest.fixture(scope="module")
def root() -> bytes:
    return Simulator().root()


@pytest.fixture
def sim(root) -> TufSimulator:
    made = TufSimulator()
    made.targets_files["trusted_root.json"] = root
    made.publish()
    return made


@pytest.fixture
def machine(sim, tmp_path):
    with MisbehavingServer(sim) as server:
        yield Machine(sim, server, tmp_path / "trust")


def test_what_is_pinned_is_loaded_without_a_network(machine):
    pinned = machine.pin()
    machine.server.forget()
    loaded = machine.offline()
    assert loaded == pinned
    assert loaded.root.name == "acme"
    assert loaded.freshness is not None
    assert loaded.freshness.expires == machine.sim.now + 7 * DAY
    assert machine.server.log == []


def test_within_a_day_nothing_is_asked_and_after_it_the_mirror_is(machine):
    machine.pin()
    machine.server.forget()
    machine.clock.at += DAY - timedelta(seconds=1)
    machine.online()
    assert machine.server.log == []
    machine.clock.at += timedelta(seconds=1)
    machine.online()
    assert [seen.path for seen in machine.server.log] == ["/2.root.json", "/timestamp.json"]


def test_metadata_that_expires_within_the_day_is_fetched_anew(machine, sim):
    sim.timestamp.expires = sim.now + timedelta(hours=1)
    sim.publish()
    machine.pin()
    machine.clock.at += timedelta(hours=2)
    sim.timestamp.expires = sim.now + DAY
    sim.publish()
    with pytest.raises(RootTooOld):
        machine.offline()
    assert machine.online().freshness.expires == sim.now + DAY


def test_what_was_edited_is_fetched_anew_where_it_can_be(machine):
    machine.pin()
    document = json.loads(machine.cache.read_bytes())
    document["files"]["target-trusted_root.json"] = "AAAA"
    machine.cache.write_text(json.dumps(document))
    machine.cache.chmod(0o600)
    with pytest.raises(MetadataMismatch):
        machine.offline()
    assert machine.online().root.name == "acme"


def test_a_clock_that_stands_before_the_last_check_asks_the_mirror(machine):
    machine.pin()
    machine.server.forget()
    machine.clock.at -= timedelta(hours=1)
    machine.online()
    assert machine.server.log


def test_a_signing_config_that_cannot_be_read_keeps_nobody_from_verifying(machine, sim):
    sim.targets_files["signing_config.v0.2.json"] = b'{"mediaType": "application/vnd.dev.sigstore.signingconfig.v9+json"}'
    sim.publish()
    machine.pin()
    assert machine.offline().signing is None
    assert any("signing config is not used" in note for note in machine.notes)


def test_a_policy_can_ask_for_fresher(machine):
    machine.pin()
    machine.server.forget()
    machine.clock.at += timedelta(hours=2)
    machine.online(Allowance(max_age=timedelta(hours=1)))
    assert machine.server.log


def test_a_mirror_that_does_not_answer_is_said_and_what_is_kept_is_used(machine):
    machine.pin()
    machine.clock.at += 2 * DAY
    machine.server.on("GET", "/*").close()
    assert machine.online().root.name == "acme"
    assert any("cannot be asked" in note for note in machine.notes)
    assert any("2 days ago" in note for note in machine.notes)


def test_a_mirror_whose_certificate_is_not_accepted_is_as_one_that_does_not_answer(sim, tmp_path):
    identity = TlsIdentity.make(tmp_path, "localhost")
    with MisbehavingServer(sim, tls=identity.server_context()) as server:
        machine = Machine(sim, server, tmp_path / "trust")
        Pins(str(tmp_path / "trust")).pin_repository("acme", server.url.replace("127.0.0.1", "localhost"), sim.pinned)
        with pytest.raises(TlsFailed):
            machine.online()
        with MisbehavingServer(sim) as plain:
            Machine(sim, plain, tmp_path / "other").pin()
        (tmp_path / "other" / "acme" / "cache.json").rename(machine.cache)
        machine.clock.at += 2 * DAY
        assert machine.online().root.name == "acme"


def test_a_mirror_that_answers_wrongly_is_refused_whatever_is_kept(machine, sim):
    machine.pin()
    machine.clock.at += 2 * DAY
    sim.files["timestamp.json"] = sim.sign("timestamp", sim.signers["root"][0])
    with pytest.raises(MetadataNotSigned):
        machine.online()


def test_a_failed_update_changes_nothing_that_is_kept(machine, sim):
    machine.pin()
    before = machine.cache.read_bytes()
    sim.timestamp.version = 1
    sim.sign("timestamp")
    with pytest.raises(MetadataRolledBack):
        machine.update()
    assert machine.cache.read_bytes() == before


def fail_later(sim: TufSimulator, fault: str) -> None:
    """Let everything before it be good, and something after the roots be wrong."""
    match fault:
        case "no timestamp":
            del sim.files["timestamp.json"]
        case "an expired timestamp":
            sim.timestamp.expires = sim.now - DAY
            sim.publish()
        case "no target":
            sim.targets_files["trusted_root.json"] += b" "
            sim.publish()
            for name in [name for name in sim.files if name.startswith("targets/")]:
                del sim.files[name]
        case _:
            sim.targets_files["trusted_root.json"] = b"{}"
            sim.publish()


FAULTS = ["no timestamp", "an expired timestamp", "no target", "a root that is none"]


@pytest.mark.attack("revoked keys after a failed update")
@pytest.mark.parametrize("fault", FAULTS)
def test_keys_that_a_root_revoked_count_no_more_though_the_update_that_showed_it_failed(machine, sim, root, fault):
    machine.pin()
    revoked = {role: list(sim.signers[role]) for role in ("timestamp", "snapshot", "targets")}
    sim.rotate(*revoked)
    fail_later(sim, fault)
    with pytest.raises(SigkitError):
        machine.update()
    machine.clock.at += 2 * DAY
    with pytest.raises(SigkitError):  # what is kept is of revoked keys
        machine.online()
    with pytest.raises(MetadataNotSigned):
        machine.offline()
    del sim.files["2.root.json"]
    sim.targets_files["trusted_root.json"] = root
    sim.timestamp.expires = machine.clock.at + 7 * DAY
    sim.signers |= revoked
    sim.publish()
    with pytest.raises(MetadataNotSigned):
        machine.update()


def test_a_root_that_cannot_be_kept_counts_in_the_process_that_saw_it(machine, sim, monkeypatch):
    machine.pin()
    sim.rotate("timestamp")
    fail_later(sim, "no timestamp")
    machine.clock.at += 2 * DAY
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "trust.cache.rename=1*enospc")
    with pytest.raises(MetadataNotSigned):
        machine.online()


@pytest.mark.parametrize("fault", ["no target", "a root that is none"])
def test_no_mirror_goes_back_behind_a_timestamp_of_an_update_that_failed_later(machine, sim, root, fault):
    machine.pin()
    sim.publish()
    older = dict(sim.files)
    fail_later(sim, fault)
    with pytest.raises(SigkitError):
        machine.update()
    assert machine.offline().root.name == "acme"  # the last good state is whole
    newer, sim.files = sim.files, older
    with pytest.raises(MetadataRolledBack):
        machine.update()
    assert newer
    sim.targets_files["trusted_root.json"] = root
    sim.publish()
    assert machine.update().freshness == machine.offline().freshness
    assert b"seen-timestamp" not in machine.cache.read_bytes()


class Meanwhile:
    """A clock that lets something happen when it is first looked at."""

    def __init__(self, clock: Clock, happen: Callable[[], object]) -> None:
        self._clock, self._left = clock, [happen]

    def now(self):
        while self._left:
            self._left.pop()()
        return self._clock.now()


def test_what_another_process_kept_meanwhile_is_what_is_gone_on_with(machine, sim, root):
    machine.pin()
    machine.clock.at += 2 * DAY
    sim.targets_files["trusted_root.json"] = root + b" "
    sim.publish()

    def update_and_go_away() -> None:
        machine.update()
        sim.files.clear()

    clock = Meanwhile(machine.clock, update_and_go_away)
    store = RootStore(Pins(str(machine.directory)), clock, quick)
    assert store.load("acme").root.digest == Digest.of(root + b" ")


def test_what_could_not_be_kept_once_does_not_take_back_what_another_process_kept_since(machine, sim, monkeypatch):
    machine.pin()
    store = machine.store(quick)
    sim.publish()
    older = dict(sim.files)
    with monkeypatch.context() as armed:
        armed.setenv("SIGKIT_FAILPOINTS", "trust.cache.rename=1*enospc")
        with pytest.raises(FileUnwritable):
            store.update("acme")
    sim.publish()
    machine.clock.at += DAY
    machine.update()
    sim.files = older
    with pytest.raises(MetadataRolledBack):
        store.update("acme")


def test_an_update_that_fails_before_it_proved_anything_writes_nothing(machine, sim):
    machine.pin()
    before = machine.cache.stat()
    sim.files.clear()
    with pytest.raises(MetadataMissing):
        machine.update()
    assert machine.cache.stat().st_mtime_ns == before.st_mtime_ns


def test_what_could_not_be_read_again_is_not_kept(machine, sim, monkeypatch):
    machine.pin()
    before = machine.cache.read_bytes()
    sim.publish()
    monkeypatch.setattr(limits, "TRUST_CACHE_BYTES", len(before) - 1)
    with pytest.raises(FileUnwritable):
        machine.update()
    monkeypatch.undo()
    assert machine.cache.read_bytes() == before


def test_metadata_that_expired_is_too_old_and_a_policy_may_grant_days(machine):
    machine.pin()
    machine.clock.at += 10 * DAY
    with pytest.raises(RootTooOld):
        machine.offline()
    with pytest.raises(RootTooOld):
        machine.offline(Allowance(max_expired=3 * DAY))
    assert machine.offline(Allowance(max_expired=3 * DAY + timedelta(seconds=1))).root.name == "acme"
    assert any("stale" in note for note in machine.notes)


def test_what_was_checked_too_long_ago_for_a_policy_is_too_old(machine):
    machine.pin()
    machine.clock.at += 2 * DAY
    assert machine.offline(Allowance(max_age=2 * DAY))
    with pytest.raises(RootTooOld):
        machine.offline(Allowance(max_age=DAY))


def test_a_mirror_whose_metadata_expired_is_refused_unless_that_is_granted(machine):
    machine.pin()
    machine.clock.at += 8 * DAY
    with pytest.raises(MetadataExpired):
        machine.online()
    assert machine.online(Allowance(max_expired=3 * DAY)).root.name == "acme"


def test_a_clock_that_was_set_back_makes_nothing_valid_again(machine, sim):
    """Judge by the latest time that is known: an old timestamp, replayed to a machine whose clock stands in its time, is expired."""
    machine.pin()
    machine.clock.at += 6 * DAY
    sim.timestamp.expires = machine.clock.at + 7 * DAY
    sim.publish()
    machine.update()
    sim.timestamp.expires = machine.clock.at - DAY
    sim.publish()
    machine.clock.at -= 3 * DAY
    with pytest.raises(MetadataExpired):
        machine.update()


def test_a_clock_behind_the_last_check_is_said_to_be(machine):
    machine.pin()
    machine.clock.at -= 3 * DAY
    assert machine.offline().root.name == "acme"
    assert any("clock is 3 days behind the last check" in note for note in machine.notes)
    assert not any("ago" in note for note in machine.notes)


@pytest.mark.attack("clock put back")
@pytest.mark.parametrize("back", [timedelta(seconds=1), 3650 * DAY])
def test_a_clock_behind_the_last_check_meets_no_policys_age(machine, back):
    machine.pin()
    checked = machine.clock.at
    machine.clock.at -= back
    with pytest.raises(RootTooOld) as caught:
        machine.offline(Allowance(max_age=DAY))
    assert format_time(checked) in caught.value.expected
    assert caught.value.got == format_time(machine.clock.at)
    assert machine.online(Allowance(max_age=DAY)).root.name == "acme"  # checked just now


@pytest.mark.attack("clock put back")
def test_a_clock_before_the_day_of_the_copy_meets_no_policys_age(machine):
    machine.clock.at = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(RootTooOld):
        machine.store(None).load("public-good", Allowance(max_age=DAY))


def test_nothing_is_pinned_unless_all_is_proved(machine, sim):
    sim.files["timestamp.json"] = b"{}"
    with pytest.raises(Exception, match="SK-PARSE"):
        machine.pin()
    assert not (machine.directory / "acme").exists()


def test_a_pin_is_never_replaced(machine, root):
    machine.pin()
    machine.pin()  # the same again
    with pytest.raises(OtherPin):
        machine.store(quick).pin_repository("acme", machine.server.url + "/other", machine.sim.pinned)
    with pytest.raises(OtherPin):
        machine.store(None).pin_trusted_root("acme", root, PLACE)


def test_a_pinned_file_that_was_edited_is_refused(machine):
    machine.pin()
    path = machine.directory / "acme" / "root.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(OtherPin):
        machine.offline()


def test_a_damaged_cache_is_said_and_fetched_again(machine):
    machine.pin()
    machine.cache.write_bytes(b"{")
    with pytest.raises(MetadataMissing):
        machine.offline()
    assert any("not used" in note for note in machine.notes)
    assert machine.online().root.name == "acme"
    assert machine.offline().root.name == "acme"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_cache_that_others_may_write_is_not_used(machine, mode):
    machine.pin()
    machine.cache.chmod(mode)
    with pytest.raises(MetadataMissing):
        machine.offline()
    assert any("others may write it" in note for note in machine.notes)


@pytest.mark.parametrize("name", ["", "pin.json", "root.json"])
def test_a_pin_that_others_may_write_is_no_pin(machine, name):
    machine.pin()
    path = machine.directory / "acme" / name
    path.chmod(path.stat().st_mode | 0o022)
    with pytest.raises(UnsafeRootStore):
        machine.offline()


@pytest.mark.attack("planted root")
def test_a_pin_in_a_directory_in_which_others_may_rename_it_is_no_pin(machine):
    machine.pin()
    machine.directory.chmod(0o770)
    with pytest.raises(UnsafeRootStore):
        machine.offline()
    machine.directory.chmod(0o1777)  # as /tmp: each may rename what is theirs
    machine.offline()


def test_no_directory_of_roots_is_made_that_others_may_write(machine):
    before = os.umask(0)
    try:
        Pins(str(machine.directory / "below" / "roots")).pin_repository("acme", "https://m.example", b"{}")
    finally:
        os.umask(before)
    for part in ("below/roots", "below/roots/acme"):
        assert (machine.directory / part).stat().st_mode & 0o777 == 0o700


@pytest.mark.root
def test_what_another_user_wrote_is_not_used(machine):
    machine.pin()
    os.chown(machine.cache, 12345, 12345)
    with pytest.raises(MetadataMissing):
        machine.offline()
    os.chown(machine.directory / "acme" / "pin.json", 12345, 12345)
    with pytest.raises(UnsafeRootStore):
        machine.offline()


def test_where_nothing_can_be_written_what_is_fetched_serves_once(machine, monkeypatch):
    machine.pin()
    machine.cache.unlink()
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "trust.cache.rename=1*enospc")
    assert machine.online().root.name == "acme"
    assert any("cannot be kept" in note for note in machine.notes)
    assert not machine.cache.exists()


def test_a_trusted_root_itself_is_pinned_and_never_fetched(machine, root):
    machine.store(None).pin_trusted_root("plain", root, PLACE)
    assert machine.store(None).load("plain").root.name == "plain"
    assert machine.server.log == []


@pytest.mark.attack("an age that nobody knows")
@pytest.mark.parametrize("allowance", [Allowance(max_age=timedelta()), Allowance(max_age=9999 * DAY), Allowance(max_expired=DAY)])
def test_a_file_that_was_pinned_has_no_age_that_could_be_limited(machine, root, allowance):
    machine.store(None).pin_trusted_root("plain", root, PLACE)
    with pytest.raises(MalformedOption):
        machine.store(None).load("plain", allowance)


def test_roots_lie_side_by_side(machine, root):
    machine.pin()
    machine.store(None).pin_trusted_root("plain", root, PLACE)
    assert machine.store(None).names() == ("acme", "plain")


def test_a_name_that_nobody_pinned_is_said_with_those_that_there_are(machine):
    machine.pin()
    with pytest.raises(NoSuchRoot) as caught:
        machine.store(None).load("other")
    assert "acme" in caught.value.expected


def test_without_a_directory_there_is_the_copy_alone(machine):
    store = RootStore(Pins(None), machine.clock, None)
    assert store.names() == ()
    assert store.load("public-good").root.name == "public-good"
    with pytest.raises(NoSuchRoot):
        store.load("acme")


def test_a_policy_can_find_the_copy_too_old(machine):
    with pytest.raises(RootTooOld):
        machine.store(None).load("public-good", Allowance(max_age=DAY))


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a.b", "-a", "a-", "a" * 65, "a\n"])
def test_no_name_is_a_path(machine, name):
    assert not is_name(name)
    with pytest.raises(MalformedOption):
        Pins(str(machine.directory)).path(name)


def test_a_signing_config_comes_along_where_one_is_published(machine, sim):
    from sigkit.trust.write import encode_signing_config

    sim.targets_files["signing_config.v0.2.json"] = encode_signing_config()
    sim.publish()
    assert machine.pin().signing is not None
    assert machine.offline().signing is not None


def test_the_directories_above_are_this_users_alone(machine, tmp_path):
    machine.directory = tmp_path / "share" / "sigkit" / "trust"
    machine.pin()
    for path in (tmp_path / "share", tmp_path / "share" / "sigkit", machine.directory, machine.directory / "acme"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_reading_makes_no_directory(machine):
    with pytest.raises(NoSuchRoot):
        machine.offline()
    assert not machine.directory.exists()


def test_a_pin_that_cannot_be_written_is_said(machine, tmp_path):
    (tmp_path / "trust").write_bytes(b"a file")
    with pytest.raises(FileUnwritable):
        machine.pin()


def test_the_authority_of_the_mirrors_certificate_is_kept_with_the_pin(sim, tmp_path):
    identity = TlsIdentity.make(tmp_path, "localhost")
    with MisbehavingServer(sim, tls=identity.server_context()) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        machine = Machine(sim, server, tmp_path / "trust")
        with pytest.raises(TlsFailed):
            machine.pin()
        machine.store(quick).pin_repository("acme", server.url, sim.pinned, identity.ca_file)
        Path(identity.ca_file).unlink()
        assert machine.update().root.name == "acme"


def test_of_two_that_pin_at_once_the_first_stays(tmp_path):
    directory = tmp_path / "trust"
    with ThreadPoolExecutor() as threads:
        Pins(str(directory)).pin_repository("other", "https://m.example", b"0")
        (directory / "acme").mkdir(mode=0o700)
        with durable.lock(directory / "acme" / "lock"):
            late = threads.submit(Pins(str(directory)).pin_repository, "acme", "https://late.example", b"LATE")
            assert not wait([late], timeout=0.2).done  # it waits for whoever pins
            first = Pins(str(tmp_path / "first"))
            first.pin_repository("acme", "https://first.example", b"FIRST")
            for name in ("root.json", "pin.json"):
                (tmp_path / "first" / "acme" / name).rename(directory / "acme" / name)
        with pytest.raises(OtherPin):
            late.result()
    pin = Pins(str(directory)).load("acme")
    assert isinstance(pin, TufPin)
    assert pin.mirror == "https://first.example"


def test_without_the_lock_what_is_fetched_serves_once_and_replaces_nothing(machine, monkeypatch):
    machine.pin()
    monkeypatch.setattr(limits, "TRUST_LOCK_S", 0.05)
    machine.cache.unlink()
    with durable.lock(machine.directory / "acme" / "lock"):
        assert machine.online().root.name == "acme"
    assert any("cannot be kept" in note for note in machine.notes)
    assert not machine.cache.exists()


def linked(machine, target_mode):
    """Make a pin a link to a directory's file, as Kubernetes mounts files."""
    machine.pin()
    acme = machine.directory / "acme"
    (acme / "..2026").mkdir(mode=0o700)
    (acme / "pin.json").rename(acme / "..2026" / "pin.json")
    (acme / "..data").symlink_to("..2026")
    (acme / "pin.json").symlink_to("..data/pin.json")
    (acme / "..2026").chmod(target_mode)
    return acme


def test_a_pin_behind_symbolic_links_is_read_if_nobody_else_can_write_what_they_lead_to(machine):
    linked(machine, 0o755)
    machine.offline()


def test_a_pin_behind_symbolic_links_into_a_directory_of_others_is_no_pin(machine):
    acme = linked(machine, 0o777)
    with pytest.raises(UnsafeRootStore) as caught:
        machine.offline()
    assert "..2026" in caught.value.place.source
    (acme / "pin.json").unlink()
    (acme / "pin.json").symlink_to("pin.json/x")
    with pytest.raises(FileUnreadable):
        machine.offline()
