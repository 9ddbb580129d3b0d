"""Attacks on the way by which a trust root comes to a machine, each on a repository that is good but for it."""

from __future__ import annotations

import json
import os
import subprocess
from urllib.parse import quote

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, TargetFile, Targets

from sigkit.errors import (
    Kind,
    MalformedMetadata,
    MetadataExpired,
    MetadataMismatch,
    MetadataNotSigned,
    MetadataRolledBack,
    NoSuchRoot,
    OtherPin,
    Place,
    SigkitError,
    TargetNotListed,
    TooLarge,
    UnsafeRootStore,
)
from sigkit.net.session import Session
from sigkit.trust.mirror import NetMirror
from sigkit.trust.pins import Pins
from sigkit.trust.store import Memory, RootStore, open_session
from sigkit.trust.tuf import Client
from tests.simulators.command import SIGKIT
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.sigstore import Simulator
from tests.simulators.trusting import WHO, FixedClock, write_signed_file
from tests.simulators.tuf import DAY, TufSimulator

NAME = "trusted_root.json"


class Victim:
    """A machine that followed the repository once."""

    def __init__(self, sim: TufSimulator) -> None:
        self.sim = sim
        self.kept = Memory({}, "cache.json")
        self.pinned = sim.pinned
        self.when = sim.now
        self.get()

    def client(self, mirror=None) -> Client:
        return Client(self.pinned, Place("root.json"), self.kept, mirror or self.sim, self.when)

    def get(self, target: str = NAME) -> bytes:
        return self.client().target(target)

    def offline(self) -> bytes:
        return Client(self.pinned, Place("root.json"), self.kept, None, self.when).target(NAME)

    def refuses(self, error: type[SigkitError], target: str = NAME) -> None:
        kept = self.kept.files.get(f"target-{NAME}")
        with pytest.raises(error):
            self.get(target)
        assert self.kept.files.get(f"target-{NAME}") == kept


@pytest.fixture
def sim() -> TufSimulator:
    made = TufSimulator()
    made.targets_files[NAME] = b"the root"
    made.publish()
    made.publish()
    return made


@pytest.fixture
def victim(sim) -> Victim:
    return Victim(sim)


@pytest.mark.attack("CVE-2022-29173")
def test_an_older_timestamp_is_refused_as_ROOT(sim, victim):
    sim.timestamp.version -= 1
    sim.sign("timestamp")
    victim.refuses(MetadataRolledBack)


@pytest.mark.attack("CVE-2022-29173")
def test_a_newer_timestamp_that_names_an_older_snapshot_is_refused_as_ROOT(sim, victim):
    sim.snapshot.version += 1  # with the same targets as before
    sim.sign("snapshot")
    sim.timestamp.version += 1
    sim.timestamp.snapshot_meta.version += 1
    sim.sign("timestamp")
    victim.get()
    sim.timestamp.version += 1
    sim.timestamp.snapshot_meta.version -= 1
    sim.sign("timestamp")
    victim.refuses(MetadataRolledBack)


@pytest.mark.attack("CVE-2022-29173")
@pytest.mark.parametrize("change", [lambda meta: meta.update({"targets.json": MetaFile(1)}), lambda meta: meta.pop("targets.json")])
def test_a_newer_snapshot_with_older_or_fewer_targets_is_refused_as_ROOT(sim, victim, change):
    sim.snapshot.version += 1
    if "targets.json" in sim.snapshot.meta:
        sim.snapshot.meta["other.json"] = MetaFile(1)
    change(sim.snapshot.meta)
    sim.sign("snapshot")
    sim.timestamp.version += 1
    sim.timestamp.snapshot_meta.version = sim.snapshot.version
    sim.sign("timestamp")
    victim.refuses(MetadataRolledBack)


@pytest.mark.attack("CVE-2020-15163")
@pytest.mark.parametrize("signed_by", ["nobody", "a stranger", "the new key alone", "the old key alone"])
def test_a_root_that_is_not_signed_as_both_ask_for_is_refused_each_time_and_never_kept(sim, victim, signed_by):
    old = list(sim.signers["root"])
    sim.rotate("root")
    signers = {
        "nobody": [],
        "a stranger": [CryptoSigner.generate_ed25519()],
        "the new key alone": sim.signers["root"],
        "the old key alone": old,
    }
    metadata = Metadata(sim.root)
    for signer in signers[signed_by]:
        metadata.sign(signer, append=True)
    sim.files["2.root.json"] = metadata.to_bytes()
    for _ in range(2):
        victim.refuses(MetadataNotSigned)
    assert "2.root.json" not in victim.kept.files
    victim.kept.files["2.root.json"] = sim.files["2.root.json"]  # nor believed, should it be there
    victim.refuses(MetadataNotSigned)


@pytest.mark.attack("CVE-2020-15163")
@pytest.mark.parametrize("version", [1, 3, 99])
def test_a_root_of_another_version_than_the_next_is_refused_as_ROOT(sim, victim, version):
    sim.root.version = version
    sim.files["2.root.json"] = sim.sign("root")
    victim.refuses(MetadataMismatch)


DUPLICATES = "CVE-2020-6174, CVE-2020-15093, GHSA-3633-5h82-39pq"


@pytest.mark.attack(DUPLICATES)
def test_one_key_under_two_ids_does_not_reach_a_threshold_of_two(sim):
    signer = sim.signers["timestamp"][0]
    twin = SSlibKey("aa" * 32, signer.public_key.keytype, signer.public_key.scheme, dict(signer.public_key.keyval))
    sim.root.add_key(twin, "timestamp")
    sim.root.roles["timestamp"].threshold = 2
    sim.root.version = 2
    sim.sign("root")
    raw = json.loads(sim.files["timestamp.json"])
    raw["signatures"].append({**raw["signatures"][0], "keyid": "aa" * 32})
    sim.files["timestamp.json"] = json.dumps(raw).encode()
    with pytest.raises(MetadataNotSigned):
        Victim(sim)


@pytest.mark.attack(DUPLICATES)
def test_the_same_for_a_key_that_is_written_in_two_ways(sim):
    first = CryptoSigner.generate_ecdsa()
    pem = first.public_key.keyval["public"]
    twin = SSlibKey("aa" * 32, "ecdsa", first.public_key.scheme, {"public": pem.replace("\n", "\r\n")})
    for key in (first.public_key, twin):
        sim.root.add_key(key, "timestamp")
    sim.root.revoke_key(sim.signers["timestamp"][0].public_key.keyid, "timestamp")
    sim.root.roles["timestamp"].threshold = 2
    sim.root.version = 2
    sim.sign("root")
    raw = json.loads(sim.sign("timestamp", first))
    raw["signatures"].append({**raw["signatures"][0], "keyid": "aa" * 32})
    sim.files["timestamp.json"] = json.dumps(raw).encode()
    with pytest.raises(MetadataNotSigned):
        Victim(sim)


@pytest.mark.attack(DUPLICATES)
def test_two_signatures_under_one_id_are_malformed(sim, victim):
    raw = json.loads(sim.files["timestamp.json"])
    raw["signatures"] *= 2
    sim.files["timestamp.json"] = json.dumps(raw).encode()
    victim.refuses(MalformedMetadata)


@pytest.mark.attack("CVE-2026-23992")
@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_of_nothing_is_refused_as_ROOT(sim, victim, threshold):
    sim.root.version = 2
    sim.root.roles["timestamp"].threshold = threshold
    sim.sign("root")
    victim.refuses(MetadataNotSigned)


def delegate(sim: TufSimulator, role: str, paths: list[str], files: dict[str, bytes], *, terminating: bool = False) -> CryptoSigner:
    """Let targets delegate paths to a role after those that there are, with a key of its own."""
    signer = CryptoSigner.generate_ed25519()
    delegations = sim.targets.delegations or Delegations({}, {})
    sim.targets.delegations = delegations
    assert delegations.roles is not None
    delegations.keys[signer.public_key.keyid] = signer.public_key
    delegations.roles[role] = DelegatedRole(role, [signer.public_key.keyid], 1, terminating, paths)
    listed = {name: TargetFile.from_data(name, content, ["sha256"]) for name, content in files.items()}
    sim.delegated[role], sim.signers[role] = Targets(expires=sim.now + DAY, targets=listed), [signer]
    for name, content in files.items():
        directory, slash, base = name.rpartition("/")
        sim.files[f"targets/{directory}{slash}{listed[name].hashes['sha256']}.{base}"] = content
    sim.snapshot.meta[f"{role}.json"] = MetaFile(1)
    sim.sign(role)
    sim.publish()
    return signer


@pytest.mark.attack("CVE-2024-47534")
def test_of_two_roles_that_match_the_first_decides(sim, victim):
    delegate(sim, "first", ["app*"], {"app": b"of the first"})
    delegate(sim, "second", ["*"], {"app": b"of the second"})
    assert victim.get("app") == b"of the first"


@pytest.mark.attack("CVE-2024-47534")
def test_what_a_terminating_role_does_not_list_nobody_lists(sim, victim):
    delegate(sim, "first", ["app*"], {}, terminating=True)
    delegate(sim, "second", ["*"], {"app": b"of the second"})
    victim.refuses(TargetNotListed, "app")


@pytest.mark.attack("sigstore-rust#174, of a delegation")
def test_a_wildcard_of_a_delegation_stays_between_slashes(sim, victim):
    delegate(sim, "role", ["a/*"], {"a/b": b"b", "a/b/c": b"c"})
    assert victim.get("a/b") == b"b"
    victim.refuses(TargetNotListed, "a/b/c")


PATHS = "CVE-2021-41131, CVE-2026-24137, CVE-2026-24686"


@pytest.mark.attack(PATHS)
@pytest.mark.parametrize("role", ["../../x", "/etc/x", "a?b", "a#b", "timestamp.json", "9.root"])
def test_a_role_s_name_is_no_path(sim, victim, role):
    delegate(sim, role, ["*"], {})
    kept = set(victim.kept.files)
    sim.files[f"1.{quote(role, safe='')}.json"] = sim.files[f"1.{role}.json"]
    victim.refuses(TargetNotListed, "other")
    assert {name for name in victim.kept.files if name not in kept} == {f"role-{quote(role, safe='')}.json"}
    assert victim.get() == b"the root"


@pytest.mark.attack(PATHS)
def test_a_target_s_name_is_no_path(sim, victim, tmp_path):
    name = "../../../escaped"
    target = TargetFile.from_data(name, b"x", ["sha256"])
    sim.files[f"targets/../../../{target.hashes['sha256']}.escaped"] = b"x"
    sim.targets_files[name] = b"x"
    sim.publish()
    sim.files[f"targets/../../../{target.hashes['sha256']}.escaped"] = b"x"
    assert victim.get(name) == b"x"
    assert all("/" not in kept for kept in victim.kept.files)


@pytest.mark.attack(PATHS)
@pytest.mark.parametrize("name", ["../x", "..", "a/b", "/etc"])
def test_a_root_s_name_is_no_path(tmp_path, name):
    with pytest.raises(SigkitError):
        Pins(str(tmp_path)).pin_trusted_root(name, b"{}")
    assert not list(tmp_path.iterdir())


MALFORMED = "CVE-2026-23991, CVE-2020-6173"


@pytest.mark.attack(MALFORMED)
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "snapshot", "targets"])
@pytest.mark.parametrize(
    "raw", [b"null", b"[" * 100_000, b'{"signed":null,"signatures":null}', b'{"signed":{},"signed":{}}', b"{" + b'"a":' * 70]
)
def test_malformed_metadata_is_refused_as_PARSE_or_LIMIT(sim, victim, name, raw):
    sim.publish()
    versions = {"snapshot": sim.snapshot.version, "targets": sim.targets.version}
    sim.files[f"{versions[name]}.{name}.json" if name in versions else name] = raw
    with pytest.raises(SigkitError) as caught:
        victim.get()
    assert caught.value.kind in {Kind.PARSE, Kind.LIMIT}


@pytest.mark.attack(MALFORMED)
def test_endless_metadata_is_read_no_further_than_its_limit(sim):
    def endless(seen):
        return Reply(body=b" " * 10_000_000) if seen.path == "/timestamp.json" else sim(seen)

    with MisbehavingServer(endless) as server, Session() as session:
        mirror = NetMirror(session, server.url, Place("url"))
        client = Client(sim.pinned, Place("root.json"), Memory({}, ""), mirror, sim.now)
        with pytest.raises(TooLarge):
            client.refresh()


@pytest.mark.attack("cached role, new delegator")
def test_a_role_is_proved_by_the_one_that_delegates_to_it_now(sim, victim):
    delegate(sim, "role", ["*"], {"app": b"app"})
    assert victim.get("app") == b"app"
    stranger = CryptoSigner.generate_ed25519()
    assert sim.targets.delegations is not None
    assert sim.targets.delegations.roles is not None
    sim.targets.delegations.keys[stranger.public_key.keyid] = stranger.public_key
    sim.targets.delegations.roles["role"].keyids = [stranger.public_key.keyid]
    sim.publish()
    victim.refuses(MetadataNotSigned, "app")


@pytest.mark.attack("cached role, new delegator")
def test_and_by_another_one_within_the_same_update_too(sim, victim):
    """Two roles delegate to a third, one of them with a key that did not sign it."""
    delegate(sim, "third", ["never"], {"one/x": b"x", "two/x": b"x"})
    delegate(sim, "one", ["one/*"], {})
    delegate(sim, "two", ["two/*"], {})
    third, stranger = sim.signers["third"][0].public_key, CryptoSigner.generate_ed25519().public_key
    for name, key in (("one", third), ("two", stranger)):
        role = DelegatedRole("third", [key.keyid], 1, terminating=False, paths=[f"{name}/*"])
        sim.delegated[name].delegations = Delegations({key.keyid: key}, {"third": role})
        sim.sign(name)
    client = victim.client()
    assert client.target("one/x") == b"x"
    with pytest.raises(MetadataNotSigned):
        client.target("two/x")


@pytest.mark.attack("sigstore-rust#179, sigstore-rust#180")
def test_an_edited_target_is_not_served_offline(victim):
    victim.kept.files[f"target-{NAME}"] = b"evil"
    with pytest.raises(MetadataMismatch):
        victim.offline()


@pytest.mark.attack("sigstore-rust#179, sigstore-rust#180")
@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
def test_metadata_of_other_keys_is_not_believed_offline(victim, name):
    other = TufSimulator()
    other.targets_files[NAME] = b"evil"
    other.publish()
    other.publish()
    stranger = Victim(other)
    victim.kept.files[name] = stranger.kept.files[name]
    with pytest.raises(SigkitError) as caught:
        victim.offline()
    assert caught.value.kind is Kind.ROOT


@pytest.mark.attack("CVE-2023-47122")
def test_an_entry_of_a_log_that_the_root_does_not_list_counts_for_nothing_whatever_the_log_says(tmp_path):
    sim = write_signed_file(tmp_path)
    root = json.loads(sim.root())
    root["tlogs"] = json.loads(Simulator().root())["tlogs"]  # another instance's; the one that wrote the entry is not listed
    (tmp_path / "root.json").write_text(json.dumps(root))
    line = [*SIGKIT, "verify-blob", *WHO, "--trusted-root", "root.json", "--bundle", "b.json", "file"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1


@pytest.mark.attack("freeze")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_that_is_repeated_beyond_its_time_is_refused_as_ROOT(sim, victim, role):
    getattr(sim, role).expires = sim.now + DAY
    sim.publish()
    victim.get()
    victim.when = sim.now + DAY
    with pytest.raises(MetadataExpired):
        victim.get()


@pytest.mark.attack("freeze")
def test_nor_by_a_clock_that_was_set_back(sim, tmp_path):
    sim.targets_files[NAME] = Simulator().root()
    sim.timestamp.expires = sim.now + 3 * DAY
    sim.publish()
    clock = FixedClock(sim.now + 2 * DAY)
    with MisbehavingServer(sim) as server:
        store = RootStore(Pins(str(tmp_path / "trust")), clock, open_session)
        store.pin_repository("acme", server.url, sim.pinned)
        sim.timestamp.expires = sim.now + DAY  # signed again, as if there had been nothing newer
        sim.publish()
        clock.at = sim.now
        with pytest.raises(MetadataExpired):
            store.update("acme")


@pytest.mark.attack("mix-and-match")
def test_a_snapshot_of_another_state_is_refused_as_ROOT(sim, victim):
    old = sim.files[f"{sim.snapshot.version}.snapshot.json"]
    sim.publish()
    sim.files[f"{sim.snapshot.version}.snapshot.json"] = old
    victim.refuses(MetadataMismatch)


@pytest.mark.attack("mix-and-match")
def test_targets_of_another_state_are_refused_as_ROOT(sim, victim):
    old = sim.files[f"{sim.targets.version}.targets.json"]
    sim.publish()
    sim.files[f"{sim.targets.version}.targets.json"] = old
    victim.refuses(MetadataMismatch)


@pytest.mark.attack("mix-and-match")
def test_the_same_version_with_other_bytes_is_refused_as_ROOT_where_hashes_are_given(sim, victim):
    sim.publish()
    name = f"{sim.snapshot.version}.snapshot.json"
    sim.timestamp.snapshot_meta = MetaFile(sim.snapshot.version, len(sim.files[name]), {"sha256": "0" * 64})
    sim.sign("timestamp")
    victim.refuses(MetadataMismatch)


@pytest.mark.attack("mix-and-match")
def test_and_so_for_targets(sim, victim):
    sim.publish()
    sim.snapshot.meta["targets.json"] = MetaFile(sim.targets.version, hashes={"sha256": "0" * 64})
    sim.sign("snapshot")
    victim.refuses(MetadataMismatch)


@pytest.mark.attack("fast-forward")
def test_versions_that_a_stolen_key_signed_bind_nobody_after_the_key_is_replaced(sim, victim):
    sim.timestamp.version, sim.snapshot.version = 2**31, 2**31
    sim.publish()
    victim.get()
    sim.rotate("timestamp", "snapshot")
    sim.timestamp.version, sim.snapshot.version = 10, 10
    sim.publish()
    assert victim.get() == b"the root"


@pytest.mark.attack("sigstore root change of 2025-02-03")
def test_a_key_that_took_over_an_id_does_not_sign_for_the_old_root(sim, victim):
    keyid = sim.signers["root"][0].public_key.keyid
    taken = CryptoSigner.generate_ed25519(keyid)
    sim.root.keys[keyid] = taken.public_key
    sim.root.version = 2
    sim.sign("root", taken)
    victim.refuses(MetadataNotSigned)


@pytest.mark.attack("sigstore root change of 2025-02-03")
def test_an_id_that_is_not_its_key_s_hash_is_a_name_like_any_other(sim, victim):
    named = CryptoSigner.generate_ed25519("ab" * 32)
    sim.root.add_key(named.public_key, "timestamp")
    sim.root.revoke_key(sim.signers["timestamp"][0].public_key.keyid, "timestamp")
    sim.signers["timestamp"] = [named]
    sim.root.version = 2
    sim.sign("root")
    sim.publish()
    assert victim.get() == b"the root"


@pytest.mark.attack("planted root")
def test_a_file_in_the_working_directory_is_not_what_a_name_means(tmp_path):
    sim = write_signed_file(tmp_path)
    (tmp_path / "acme").write_bytes(sim.root())
    line = [*SIGKIT, "verify-blob", *WHO, "--trusted-root", "acme", "--bundle", "b.json", "file"]
    env = {**os.environ, "SIGKIT_TRUST": str(tmp_path / "none")}
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert NoSuchRoot.code in done.stderr


@pytest.mark.attack("planted root")
def test_a_pin_that_others_may_write_or_that_is_there_already_is_not_taken(sim, tmp_path):
    pins = Pins(str(tmp_path))
    pins.pin_repository("acme", "https://m.example", sim.pinned)
    with pytest.raises(OtherPin):
        pins.pin_repository("acme", "https://evil.example", sim.pinned)
    (tmp_path / "acme" / "pin.json").chmod(0o666)
    with pytest.raises(UnsafeRootStore):
        pins.load("acme")
