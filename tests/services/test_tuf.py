"""The TUF repository, as python-tuf's own client follows it; and what is left of it when a process is killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from sigkit import durable
from sigkit.errors import FileUnreadable, FileUnwritable, MalformedKey
from sigkit.services import pki
from sigkit.services.exchange import Request
from sigkit.services.tuf import ONLINE_ROLES, Repository
from sigkit.trust.store import TRUSTED_ROOT
from tests.simulators.command import CHECKOUT

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
ROOT = b'{"a": "trusted root"}'


class Clock:
    def now(self) -> datetime:
        return NOW


def ask(repository: Repository, path: str, method: str = "GET"):
    async def nothing():
        for piece in (b"",):
            yield piece

    return asyncio.run(repository.answer(Request(method, path, {}, {}, nothing())))


class Fetcher(FetcherInterface):
    """Asks the repository itself, and remembers what for."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.asked: list[str] = []

    def _fetch(self, url: str):
        path = "/tuf/" + url.removeprefix("http://tuf/")
        self.asked.append(path)
        answer = ask(self.repository, path)
        if answer.status != 200:
            raise DownloadHTTPError("no", answer.status)
        assert isinstance(answer.body, bytes)
        return iter([answer.body])


@pytest.fixture
def repository(tmp_path) -> Repository:
    return Repository.create(str(tmp_path / "tuf"), str(tmp_path / "offline"), {TRUSTED_ROOT: ROOT}, Clock())


class Client:
    """A client that pinned the first root."""

    def __init__(self, repository: Repository, directory: Path) -> None:
        self.repository, self.directory, self.pin = repository, directory, repository.initial_root
        directory.mkdir()

    def get(self) -> bytes:
        fetcher = Fetcher(self.repository)
        updater = Updater(str(self.directory), "http://tuf", str(self.directory), "http://tuf/targets", fetcher=fetcher, bootstrap=self.pin)
        info = updater.get_targetinfo(TRUSTED_ROOT)
        assert info is not None
        return Path(updater.download_target(info)).read_bytes()


@pytest.fixture
def client(repository, tmp_path) -> Client:
    return Client(repository, tmp_path / "client")


def offline(tmp_path) -> str:
    return str(tmp_path / "offline")


def test_a_client_that_pins_the_first_root_gets_the_target(client):
    assert client.get() == ROOT


def test_what_is_published_replaces_what_was(repository, client, tmp_path):
    assert client.get() == ROOT
    repository.publish(offline(tmp_path), {TRUSTED_ROOT: b"another"}, NOW)
    assert client.get() == b"another"


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_a_client_follows_a_new_key_of_any_role(repository, client, tmp_path, role):
    client.get()
    for _ in range(2):
        repository.rotate(offline(tmp_path), role, NOW)
    assert client.get() == ROOT
    assert Client(repository, tmp_path / "late").get() == ROOT


def test_the_process_signs_again_without_the_offline_keys(repository, client, tmp_path):
    client.get()
    for path in Path(offline(tmp_path)).iterdir():
        path.unlink()
    opened = Repository.open(str(tmp_path / "tuf"))
    assert not opened.resign_if_due(NOW)
    before = opened.expiries()
    assert opened.resign_if_due(NOW + 4 * DAY)
    after = opened.expiries()
    assert after["timestamp"] - before["timestamp"] == 4 * DAY
    assert after["snapshot"] == before["snapshot"]
    assert opened.resign_if_due(NOW + 16 * DAY)
    assert opened.expiries()["snapshot"] > after["snapshot"]
    assert client.get() == ROOT


def test_renewed_metadata_is_valid_longer(repository, client, tmp_path):
    repository.renew(offline(tmp_path), NOW + 100 * DAY)
    assert all(expiry > NOW + 106 * DAY for expiry in repository.expiries().values())
    assert client.get() == ROOT


def versions(repository: Repository) -> dict[str, int]:
    """Return the versions that are served."""
    timestamp = json.loads(body(repository, "timestamp.json"))["signed"]
    named = timestamp["meta"]["snapshot.json"]["version"]
    return {"timestamp": timestamp["version"], "snapshot": json.loads(body(repository, f"{named}.snapshot.json"))["signed"]["version"]}


def body(repository: Repository, name: str) -> bytes:
    answer = ask(repository, f"/tuf/{name}")
    assert answer.status == 200
    assert isinstance(answer.body, bytes)
    return answer.body


@pytest.mark.attack("copy that is restored twice")
def test_whoever_goes_on_later_from_the_same_copy_is_beyond_who_did_so_before(repository, client, tmp_path):
    """Also beyond what that one signed since: a client that saw it follows."""
    shutil.copytree(tmp_path / "tuf", tmp_path / "copy")
    repository.resign_beyond(NOW)
    for _ in range(5):
        repository.resign_timestamp(NOW)
    assert client.get() == ROOT
    seen = versions(repository)
    shutil.rmtree(tmp_path / "tuf")
    shutil.copytree(tmp_path / "copy", tmp_path / "tuf")
    repository.resign_beyond(NOW + timedelta(seconds=2))
    again = versions(repository)
    assert all(again[role] > seen[role] for role in ONLINE_ROLES)
    assert client.get() == ROOT


def test_a_copy_goes_on_beyond_itself_whatever_its_clock_says(repository, client):
    client.get()
    repository.resign_beyond(NOW)
    first = versions(repository)
    repository.resign_beyond(NOW - 400 * DAY)
    assert all(found == first[role] + 1 for role, found in versions(repository).items())


def test_versions_stay_within_what_clients_can_hold(repository, client):
    """sigstore-java has 32 bits for them, with a sign; and the file has to be found under its name. No stack outlives its authority."""
    repository.resign_beyond(NOW + pki.ROOT_LIFETIME + 365 * DAY)
    assert 10**9 < min(versions(repository).values()) <= max(versions(repository).values()) < 2**31
    assert client.get() == ROOT


def test_private_keys_are_their_owners_alone_and_the_offline_ones_are_apart(repository, tmp_path):
    keys = list(tmp_path.rglob("*.pem"))
    assert sorted(path.name.split("-")[1] for path in keys if "offline" in path.parts) == ["root", "targets"]
    assert sorted(path.name.split("-")[1] for path in keys if "offline" not in path.parts) == sorted(ONLINE_ROLES)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)


def test_nothing_is_made_over_a_repository(repository, tmp_path):
    with pytest.raises(FileUnwritable):
        Repository.create(str(tmp_path / "tuf"), str(tmp_path / "offline"), {}, Clock())


def test_a_directory_without_a_repository_is_not_opened(tmp_path):
    with pytest.raises(FileUnreadable):
        Repository.open(str(tmp_path))


@pytest.mark.parametrize(
    "path",
    [
        "/tuf/2.root.json",
        "/tuf/",
        "/tuf",
        "/tuf/keys/x.pem",
        "/tuf/../offline",
        "/tuf/targets/../keys",
        "/tuf/metadata/1.root.json",
        "/tuf/lock",
    ],
)
def test_what_is_no_file_of_the_repository_is_absent(repository, path):
    assert ask(repository, path).status == 404


def test_only_the_timestamp_may_change_under_its_name(repository):
    cached = {path: dict(ask(repository, f"/tuf/{path}").headers)["Cache-Control"] for path in ("timestamp.json", "1.root.json")}
    assert cached["timestamp.json"] == "no-cache"
    assert "immutable" in cached["1.root.json"]


@pytest.mark.attack("a clock that was ahead")
def test_what_was_signed_while_the_clock_was_ahead_is_due_and_ends_as_it_should(repository, client):
    ahead = NOW + 3650 * DAY
    repository.resign_if_due(ahead)
    assert repository.is_ahead(NOW)
    assert repository.resign_if_due(NOW)
    assert not repository.is_ahead(NOW)
    expiries = repository.expiries()
    assert {role: expiries[role] for role in ONLINE_ROLES} == {
        "timestamp": (NOW + 7 * DAY).replace(microsecond=0),
        "snapshot": (NOW + 30 * DAY).replace(microsecond=0),
    }
    assert client.get() == ROOT
    assert not repository.resign_if_due(NOW)


def test_what_no_cache_may_keep_is_marked_so(repository):
    for name in ("timestamp.json", "2.root.json"):
        assert dict(ask(repository, f"/tuf/{name}").headers)["Cache-Control"] == "no-cache"


def test_a_target_that_was_changed_on_the_disk_is_not_taken_for_what_was_published(repository, tmp_path):
    assert repository.read_target(TRUSTED_ROOT)[0] == ROOT
    [path] = (tmp_path / "tuf" / "targets").iterdir()
    path.write_bytes(ROOT.replace(b"root", b"riot"))
    with pytest.raises(FileUnreadable):
        repository.read_target(TRUSTED_ROOT)


def test_a_key_in_the_file_of_another_is_named(repository, tmp_path):
    one, other = sorted((tmp_path / "tuf" / "keys").iterdir())
    assert not list(repository.find_bad_keys())
    one.write_bytes(other.read_bytes())
    [bad] = repository.find_bad_keys()
    assert (type(bad), bad.place.source) == (MalformedKey, str(one))
    with pytest.raises(MalformedKey):
        repository.resign_timestamp(NOW + 20 * DAY)


def test_nothing_is_written_by_a_request(repository):
    assert ask(repository, "/tuf/timestamp.json", "PUT").status == 405


KILLED = """
import sys
from datetime import datetime, UTC
sys.path.insert(0, sys.argv[1])
from sigkit.services.tuf import Repository
repository = Repository.open(sys.argv[2])
if sys.argv[4] == "publish":
    repository.publish(sys.argv[3], {"trusted_root.json": b"another"}, datetime.now(UTC))
else:
    repository.rotate(sys.argv[3], sys.argv[4], datetime.now(UTC))
"""
PUBLISHED = ("targets", "snapshot", "timestamp")
SIGNED = tuple(f"tuf.{name}.{step}" for name in PUBLISHED for step in ("rename", "directory"))


def rotation(role: str) -> list[str]:
    """Return every step of a rotation: for all but the root, what is below it is signed before it and after it."""
    before = [f"{point}=1" for point in SIGNED] if role != "root" else []
    after = [f"{point}={1 if role == 'root' else 2}" for point in SIGNED]
    return ["tuf.key.rename=1", "tuf.key.directory=1", *before, "tuf.root.rename=1", "tuf.root.directory=1", *after]


STEPS = [
    *(("publish", f"{point}=1") for point in ("tuf.target.rename", "tuf.target.directory", *SIGNED)),
    *(("renew", f"{point}=1") for point in ("tuf.root.rename", "tuf.root.directory", *SIGNED)),
    *((role, point) for role in ("root", "targets", "snapshot", "timestamp") for point in rotation(role)),
]
KILLED_AT = [
    ("publish", "tuf.snapshot.rename=1"),
    ("publish", "tuf.timestamp.directory=1"),
    ("root", "tuf.root.directory=1"),
    ("targets", "tuf.root.rename=1"),
    ("snapshot", "tuf.root.directory=1"),
    ("timestamp", "tuf.root.directory=1"),
    ("timestamp", "tuf.timestamp.rename=2"),
]


def do(repository: Repository, act: str, keys: str) -> bytes:
    """Do as the operator's command does, and return what clients see then."""
    if act == "publish":
        repository.publish(keys, {TRUSTED_ROOT: b"another"}, NOW)
        return b"another"
    if act == "renew":
        repository.renew(keys, NOW)
    else:
        repository.rotate(keys, act, NOW)
    return ROOT


def kept(tmp_path: Path) -> dict[str, bytes]:
    """Return what caches keep of what was served: all but the timestamp."""
    return {path.name: path.read_bytes() for path in (tmp_path / "tuf" / "metadata").iterdir() if path.name != "timestamp.json"}


@pytest.mark.attack("one version with two contents")
@pytest.mark.parametrize(("act", "point"), STEPS, ids=[f"{act}-{point}" for act, point in STEPS])
def test_a_command_that_fails_at_any_step_leaves_the_old_repository_or_the_new_one_and_can_be_run_again(
    repository, client, tmp_path, monkeypatch, act, point
):
    client.get()
    name, _, passage = point.partition("=")
    served = kept(tmp_path)
    with monkeypatch.context() as armed:
        armed.setattr(durable, "_passages", {})
        armed.setenv("SIGKIT_FAILPOINTS", f"{name}={passage}*enospc")
        with pytest.raises(FileUnwritable):
            do(repository, act, offline(tmp_path))
    either = {ROOT, b"another"} if act == "publish" else {ROOT}
    assert client.get() in either
    assert Client(repository, tmp_path / "late").get() in either
    served |= kept(tmp_path)
    then = do(repository, act, offline(tmp_path))
    assert client.get() == then
    assert served.items() <= kept(tmp_path).items()
    assert not repository.resign_if_due(NOW)  # nothing is signed by a key that is no longer the role's


@pytest.mark.slow
@pytest.mark.parametrize(("act", "point"), KILLED_AT, ids=[f"{act}-{point}" for act, point in KILLED_AT])
def test_a_killed_command_leaves_the_old_repository_or_the_new_one_and_can_be_run_again(repository, client, tmp_path, act, point):
    client.get()
    name, _, passage = point.partition("=")
    line = [sys.executable, "-I", "-c", KILLED, str(CHECKOUT), str(tmp_path / "tuf"), offline(tmp_path), act]
    armed = {**os.environ, "SIGKIT_FAILPOINTS": f"{name}={passage}*kill"}
    died = subprocess.run(line, env=armed, capture_output=True, timeout=60, check=False)
    assert died.returncode == -9, died.stderr
    assert client.get() in ({ROOT, b"another"} if act == "publish" else {ROOT})
    assert subprocess.run(line, capture_output=True, timeout=60, check=False).returncode == 0
    assert client.get() == (b"another" if act == "publish" else ROOT)
