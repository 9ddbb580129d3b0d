"""The TUF client: what it believes, in which order, and what it keeps; with a mirror and without."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, TargetFile, Targets

from sigkit.errors import (
    MalformedMetadata,
    MetadataExpired,
    MetadataMismatch,
    MetadataMissing,
    MetadataNotSigned,
    MetadataRolledBack,
    Place,
    SigkitError,
    TargetNotListed,
)
from sigkit.trust.store import Memory
from sigkit.trust.tuf import Client
from tests.simulators.tuf import DAY, ROLES, TufSimulator

NAME = "trusted_root.json"


@pytest.fixture
def sim() -> TufSimulator:
    made = TufSimulator()
    made.targets_files[NAME] = b"the root"
    made.publish()
    return made


class Machine:
    """Somebody's machine: a pin, what was kept, and a clock."""

    def __init__(self, sim: TufSimulator) -> None:
        self.sim = sim
        self.kept = Memory({}, "cache.json")
        self.pinned = sim.pinned
        self.when = sim.now

    def client(self, mirror=None) -> Client:
        return Client(self.pinned, Place("root.json"), self.kept, mirror, self.when)

    def online(self) -> bytes:
        return self.client(self.sim).target(NAME)

    def offline(self) -> bytes:
        return self.client().target(NAME)


@pytest.fixture
def machine(sim) -> Machine:
    return Machine(sim)


def refused(error: type[SigkitError], act) -> SigkitError:
    with pytest.raises(error) as caught:
        act()
    return caught.value


def test_what_is_published_is_got_and_kept(machine):
    assert machine.online() == b"the root"
    assert machine.offline() == b"the root"
    assert {"timestamp.json", "snapshot.json", "targets.json", f"target-{NAME}"} <= set(machine.kept.files)


def test_what_did_not_change_is_not_fetched_again(machine, sim):
    machine.online()
    sim.asked.clear()
    machine.online()
    assert sim.asked == ["2.root.json", "timestamp.json"]


def test_of_two_timestamps_of_one_version_the_first_stays(machine, sim):
    machine.online()
    seen = machine.kept.files["timestamp.json"]
    sim.timestamp.expires = sim.now + 300 * DAY
    sim.sign("timestamp")
    client = machine.client(sim)
    client.refresh()
    assert client.expires == sim.now + 7 * DAY
    assert machine.kept.files["timestamp.json"] == seen


def test_what_changed_is_got(machine, sim):
    machine.online()
    sim.targets_files[NAME] = b"another"
    sim.publish()
    assert machine.online() == b"another"
    assert machine.offline() == b"another"


@pytest.mark.parametrize("role", ROLES)
def test_a_new_key_of_a_role_is_followed(machine, sim, role):
    machine.online()
    sim.rotate(role)
    sim.publish()
    assert machine.online() == b"the root"
    assert machine.offline() == b"the root"


def test_keys_that_were_lost_hold_nobody_back(machine, sim):
    """Recover from a fast-forward attack (5.3.11): versions signed by keys that the root no longer names do not count."""
    sim.timestamp.version = sim.snapshot.version = 1_000_000
    sim.publish()
    machine.online()
    sim.rotate("timestamp", "snapshot")
    sim.timestamp.version = sim.snapshot.version = 5
    sim.publish()
    assert machine.online() == b"the root"


@pytest.mark.attack("fast-forward")
@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_of_both_roles_that_could_go_ahead_one_new_key_is_enough_to_come_back(machine, sim, role):
    sim.snapshot.version = 1_000_000
    if role == "timestamp":
        sim.timestamp.version, sim.snapshot.version = 1_000_000, 5
    sim.publish()
    machine.online()
    sim.rotate(role)
    sim.timestamp.version, sim.snapshot.version = (5, sim.snapshot.version) if role == "timestamp" else (sim.timestamp.version, 5)
    sim.publish()
    assert machine.online() == b"the root"


def test_expiry_of_a_root_is_judged_on_the_last_one_alone(machine, sim):
    machine.when = sim.now + 400 * DAY
    for kind in (sim.targets, sim.snapshot, sim.timestamp):
        kind.expires = sim.now + 500 * DAY
    sim.publish()
    refused(MetadataExpired, machine.online)
    sim.root.expires = sim.now + 500 * DAY
    sim.rotate("root")
    assert machine.online() == b"the root"


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_expired_metadata_is_refused_and_not_kept(machine, sim, role):
    getattr(sim, role).expires = sim.now
    sim.publish()
    refused(MetadataExpired, machine.online)
    assert f"{role}.json" not in machine.kept.files


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_what_has_expired_meanwhile_is_refused_without_a_mirror_too(machine, sim, role):
    if role == "root":
        sim.root.expires = sim.now + DAY
        sim.rotate("root")
    else:
        getattr(sim, role).expires = sim.now + DAY
        sim.publish()
    machine.online()
    machine.when = sim.now + DAY - timedelta(seconds=1)
    assert machine.offline() == b"the root"
    machine.when = sim.now + DAY
    refused(MetadataExpired, machine.offline)


def test_the_first_expiry_is_told(machine, sim):
    client = machine.client(sim)
    client.refresh()
    assert client.expires == sim.now + 7 * DAY


def test_a_pinned_root_must_fit_itself(machine, sim):
    machine.pinned = sim.sign("root", sim.signers["timestamp"][0])
    refused(MetadataNotSigned, machine.online)


def test_nothing_kept_and_nothing_asked_is_not_a_refusal(machine):
    refused(MetadataMissing, machine.offline)


def test_a_mirror_without_a_timestamp_is_none(machine, sim):
    del sim.files["timestamp.json"]
    refused(MetadataMissing, machine.online)


def test_a_target_that_nobody_lists_is_said_to_be_so(machine, sim):
    refused(TargetNotListed, lambda: machine.client(sim).target("other.json"))


def test_the_mirror_has_other_bytes(machine, sim):
    path = next(path for path in sim.files if path.startswith("targets/"))
    sim.files[path] = b"the rooT"
    refused(MetadataMismatch, machine.online)
    assert f"target-{NAME}" not in machine.kept.files


def test_a_kept_target_that_was_edited_is_fetched_again_or_refused(machine):
    machine.online()
    machine.kept.files[f"target-{NAME}"] = b"the rooT"
    refused(MetadataMismatch, machine.offline)
    assert machine.online() == b"the root"


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
def test_kept_metadata_that_was_edited_is_fetched_again_or_refused(machine, name):
    machine.online()
    machine.kept.files[name] = machine.kept.files[name].replace(b'"spec_version":"1.0', b'"spec_version":"1.1')
    refused(MetadataNotSigned, machine.offline)
    assert machine.online() == b"the root"
    assert machine.offline() == b"the root"


def delegate(sim: TufSimulator, role: str, *, paths: list[str], files: dict[str, bytes], terminating: bool = False) -> None:
    """Let targets delegate these paths to a role, which lists these files."""
    signer = sim.signers["timestamp"][0]
    if sim.targets.delegations is None:
        sim.targets.delegations = Delegations({}, {})
    assert sim.targets.delegations.roles is not None
    sim.targets.delegations.roles[role] = DelegatedRole(role, [signer.public_key.keyid], 1, terminating, paths)
    sim.targets.delegations.keys[signer.public_key.keyid] = signer.public_key
    listed = {name: TargetFile.from_data(name, content, ["sha256"]) for name, content in files.items()}
    sim.delegated[role] = Targets(expires=sim.now + DAY, targets=listed)
    sim.signers[role] = [signer]
    sim.sign(role)
    for name, content in files.items():
        sim.files[f"targets/{listed[name].hashes['sha256']}.{name}"] = content
    sim.snapshot.meta[f"{role}.json"] = MetaFile(1)
    sim.publish()


def test_a_role_that_is_delegated_to_lists_its_own_paths_and_no_others(machine, sim):
    delegate(sim, "npm", paths=["keys-*"], files={"keys-1": b"keys", "other": b"other"})
    client = machine.client(sim)
    assert client.target("keys-1") == b"keys"
    refused(TargetNotListed, lambda: client.target("other"))
    assert machine.client().target("keys-1") == b"keys"


def test_a_circle_of_delegations_ends(machine, sim):
    delegate(sim, "there", paths=["*"], files={})
    delegate(sim, "back", paths=["*"], files={})
    key = sim.signers["timestamp"][0].public_key
    for here, other in (("there", "back"), ("back", "there")):
        role = DelegatedRole(other, [key.keyid], 1, terminating=False, paths=["*"])
        sim.delegated[here].delegations = Delegations({key.keyid: key}, {other: role})
        sim.sign(here)
    refused(TargetNotListed, lambda: machine.client(sim).target("app"))


def test_metadata_of_another_role_is_not_a_role_s(machine, sim):
    sim.files["timestamp.json"] = sim.files[f"{sim.snapshot.version}.snapshot.json"]
    refused(MalformedMetadata, machine.online)


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"{", b'{"signed": {}, "signatures": []}', b'{"signed": {"_type": "timestamp"}}', b"\xff"]
)
def test_what_is_no_metadata_is_malformed(machine, sim, raw):
    sim.files["timestamp.json"] = raw
    with pytest.raises(SigkitError) as caught:
        machine.online()
    assert caught.value.kind.value == "PARSE"


def test_a_failed_update_leaves_what_was_kept_usable(machine, sim):
    machine.online()
    before = dict(machine.kept.files)
    sim.timestamp.version = 1
    sim.sign("timestamp")
    refused(MetadataRolledBack, machine.online)
    assert machine.kept.files == before
    assert machine.offline() == b"the root"
