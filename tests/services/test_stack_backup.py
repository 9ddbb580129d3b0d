"""A backup of a stack that runs is whole, and is not served again before its owner has said what becomes of the log."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigkit import durable
from sigkit.clock import SystemClock
from sigkit.digest import Digest
from sigkit.errors import (
    EXIT_USAGE,
    AddressUnusable,
    FileUnreadable,
    FileUnwritable,
    LogDamaged,
    MetadataRolledBack,
    NoBackup,
    NoStack,
    Place,
    StackExists,
    StackRestored,
)
from sigkit.services.log.hashedrekord import parse_request
from sigkit.services.serve import running_registry
from sigkit.services.stack.backup import make_backup
from sigkit.services.stack.clients import open_repository
from sigkit.services.stack.cores import opened_log
from sigkit.services.stack.restore import Said
from sigkit.services.stack.run import RunningStack, running_stack
from sigkit.services.stack.status import encode, read_status
from sigkit.trust.store import TRUSTED_ROOT, Memory
from sigkit.trust.tuf import Client
from tests.simulators import stacks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sigkit.services.log.store import TileLog

KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

ACCOUNT = 65_534  # a user and a group of which nothing here is


def entry(number: int) -> dict[str, object]:
    message = number.to_bytes(4, "big")
    signature = KEY.sign(message, ec.ECDSA(hashes.SHA256()))
    verifier = {"publicKey": {"rawBytes": base64.b64encode(SPKI).decode()}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    content = {"content": base64.b64encode(signature).decode(), "verifier": verifier}
    digest = base64.b64encode(hashlib.sha256(message).digest()).decode()
    return {"hashedRekordRequestV002": {"digest": digest, "signature": content}}


@pytest.fixture
def stack(tmp_path) -> stacks.Stack:
    return stacks.make(tmp_path / "stack")


@contextlib.contextmanager
def appending(stack: stacks.Stack) -> Iterator[list[dict[str, str]]]:
    """Add entries from two threads while the block runs, and give what was answered."""
    end, answered = threading.Event(), []

    def append(start: int) -> None:
        number = start
        while not end.is_set():
            answered.append(stack.json("POST", "/api/v2/log/entries", entry(number)))
            number += 1

    threads = [threading.Thread(target=append, args=(start,)) for start in (0, 1_000_000)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        end.set()
        for thread in threads:
            thread.join()


def restored(backup: Path) -> contextlib.AbstractContextManager[RunningStack]:
    """Serve a backup, as its owner says."""
    return running_stack(str(backup), said=Said.GO_ON)


def test_what_was_answered_before_is_in_the_copy_of_a_busy_stack(stack, tmp_path):
    data = b"layer"
    with running_stack(str(stack.directory)):
        assert stack.call("POST", f"/v2/a/b/blobs/uploads/?digest={Digest.of(data)}", data)[0] == 201
        with appending(stack) as answered:
            while len(answered) < 50:
                pass
            before = len(answered)
            steps: list[str] = []
            made = make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock(), steps.append)
            after = len(answered)
    assert [step.split()[0] for step in steps] == ["copying", "checking"]
    assert before < made.log_size <= after + 3  # its own first entry, and one under way in each thread
    copy = stacks.Stack(tmp_path / "backup", stack.url)
    with restored(copy.directory):
        assert copy.call("GET", f"/v2/a/b/blobs/{Digest.of(data)}") == (200, data)
        for item in answered[:50]:
            again = copy.json("POST", "/api/v2/log/entries", {"hashedRekordRequestV002": request_of(item)})
            assert again["logIndex"] == item["logIndex"]
        assert copy.call("GET", "/api/v2/checkpoint")[1].splitlines()[1] == str(made.log_size).encode()


def request_of(answer: dict[str, str]) -> object:
    spec = json.loads(base64.b64decode(answer["canonicalizedBody"]))["spec"]["hashedRekordV002"]
    return {"digest": spec["data"]["digest"], "signature": spec["signature"]}


def test_a_copy_holds_no_offline_key_and_says_what_it_is(stack, tmp_path):
    made = make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    assert not (tmp_path / "backup" / "offline").exists()
    said = json.loads((tmp_path / "backup" / "backup.json").read_text())
    assert (said["schema"], said["logSize"], said["logRoot"]) == ("sigkit.stack.backup/1", made.log_size, made.log_root)
    document = encode(read_status(str(tmp_path / "backup"), SystemClock()))
    assert isinstance(document, dict)
    assert (document["backup"], document["restored"], document["offlineKeysHere"]) == (True, False, False)


def test_a_copy_is_not_served_before_its_owner_says_so(stack, tmp_path):
    make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    with pytest.raises(StackRestored) as caught, running_stack(str(tmp_path / "backup")):
        pass
    assert (caught.value.status(), "docs/stack.md" in caught.value.remedy) == (EXIT_USAGE, True)
    with restored(tmp_path / "backup"):
        assert (tmp_path / "backup" / "restored.json").exists()
    document = encode(read_status(str(tmp_path / "backup"), SystemClock()))
    assert isinstance(document, dict)
    assert (document["backup"], document["restored"]) == (False, True)
    with restored(tmp_path / "backup"):  # again: it is done already
        pass
    with running_stack(str(tmp_path / "backup")):
        pass


@pytest.mark.parametrize("fault", ["port in use", "disk full"])
def test_what_hinders_serving_a_backup_uses_up_nothing_that_its_owner_said(stack, tmp_path, monkeypatch, fault):
    make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    if fault == "disk full":
        monkeypatch.setattr(durable, "_passages", {})
        monkeypatch.setenv("SIGKIT_FAILPOINTS", "stack.run.fsync=enospc")  # the last that is written before it is served
        with pytest.raises(FileUnwritable), restored(tmp_path / "backup"):
            pass
    else:
        with (
            running_registry(tmp_path / "registry", stack.url.removeprefix("http://")),
            pytest.raises(AddressUnusable),
            restored(tmp_path / "backup"),
        ):
            pass
    with pytest.raises(StackRestored), running_stack(str(tmp_path / "backup")):
        pass
    with restored(tmp_path / "backup"):
        assert not (tmp_path / "backup" / "backup.json").exists()


class Served:
    """A mirror that hands out the files of a stack's repository."""

    def __init__(self, stack: Path) -> None:
        self.tuf = stack / "tuf"

    def fetch_metadata(self, name: str, most_bytes: int) -> bytes | None:
        del most_bytes
        path = self.tuf / "metadata" / name
        return path.read_bytes() if path.exists() else None

    def fetch_target(self, path: str, most_bytes: int) -> bytes | None:
        del most_bytes
        return (self.tuf / "targets" / path).read_bytes()

    def place(self, name: str) -> Place:
        return Place(name)


@pytest.mark.attack("rolled-back copy of a repository")
def test_clients_that_saw_newer_metadata_than_the_backup_has_follow_the_restored_stack(stack, tmp_path):
    make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    now, kept = SystemClock().now(), Memory({}, "cache")
    original = open_repository(str(stack.directory))
    original.resign_timestamp(now)

    def update(directory: Path) -> bytes:
        client = Client(original.initial_root, Place("pin"), kept, Served(directory), now)
        client.refresh()
        return client.target(TRUSTED_ROOT)

    update(stack.directory)
    with pytest.raises(MetadataRolledBack):
        update(tmp_path / "backup")
    with restored(tmp_path / "backup"):
        pass
    assert update(tmp_path / "backup") == (stack.directory / "clients" / TRUSTED_ROOT).read_bytes()


def test_going_on_with_what_is_no_backup_is_refused(stack):
    with pytest.raises(NoBackup) as caught, restored(stack.directory):
        pass
    assert caught.value.status() == EXIT_USAGE
    assert not (stack.directory / "restored.json").exists()


@pytest.mark.parametrize("into", ["not empty", "inside", "inside by a link", "a file"])
def test_nothing_is_copied_over_or_into_what_is_there(stack, tmp_path, into):
    target = tmp_path / "there"
    if into == "inside":
        target = stack.directory / "backup"
    elif into == "inside by a link":
        target.symlink_to(stack.directory / "clients")
        target /= "backup"
    elif into == "a file":
        target.write_text("x")
    else:
        target.mkdir()
        (target / "precious").write_text("x")
    with pytest.raises(StackExists):
        make_backup(str(stack.directory), str(target), SystemClock())
    assert not (target / "stack.json").exists()


def test_an_empty_directory_that_is_named_through_a_link_is_taken(stack, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "disk")
    make_backup(str(stack.directory), str(tmp_path / "named"), SystemClock())
    assert (tmp_path / "disk" / "stack.json").exists()


def give_away(stack: stacks.Stack) -> None:
    """Let a service account own the stack."""
    for path in (stack.directory, *stack.directory.rglob("*")):
        os.chown(path, ACCOUNT, ACCOUNT)


@pytest.mark.root
@pytest.mark.attack("links in the place of the copy")
@pytest.mark.parametrize("place", ["its own directory", "below its own", "where everybody writes", "behind its link"])
def test_root_copies_to_no_place_where_the_stacks_account_could_lay_a_link(stack, tmp_path, place):
    give_away(stack)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    into = theirs / "backup"
    if place == "where everybody writes":
        theirs.chmod(0o777)
    else:
        os.chown(theirs, ACCOUNT, ACCOUNT)
    if place == "below its own":
        (theirs / "roots").mkdir()
        into = theirs / "roots" / "backup"
    elif place == "behind its link":
        (theirs / "link").symlink_to(theirs)
        into = theirs / "link" / "backup"
    before = sorted(theirs.rglob("*"))
    with pytest.raises(FileUnwritable) as caught:
        make_backup(str(stack.directory), str(into), SystemClock())
    assert (str(caught.value.place), caught.value.status()) == (str(theirs), EXIT_USAGE)
    assert sorted(theirs.rglob("*")) == before


@pytest.mark.root
def test_what_root_leaves_in_a_stack_is_of_its_account(stack, tmp_path):
    give_away(stack)
    assert not (stack.directory / "tuf" / "lock").exists()  # until it was served
    (tmp_path / "everybodys").mkdir()
    (tmp_path / "everybodys").chmod(0o1777)  # as /tmp
    make_backup(str(stack.directory), str(tmp_path / "everybodys" / "backup"), SystemClock())
    assert {path.stat().st_uid for path in stack.directory.rglob("*")} == {ACCOUNT}


def test_each_directory_of_a_copy_is_its_owners_alone(stack, tmp_path):
    with running_stack(str(stack.directory)):
        assert stack.call("POST", f"/v2/acme/app/blobs/uploads/?digest={Digest.of(b'layer')}", b"layer")[0] == 201
    make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    directories = [path for path in (tmp_path / "backup").rglob("*") if path.is_dir()]
    assert "acme" in {path.name for path in directories}
    assert {path.stat().st_mode & 0o777 for path in directories} == {0o700}


def test_no_stack_cannot_be_copied(tmp_path):
    with pytest.raises(NoStack):
        make_backup(str(tmp_path), str(tmp_path / "backup"), SystemClock())


@pytest.mark.parametrize(("point", "place"), [("durable.write.fsync", "backup/backup.json"), ("stack.rename", "backup")])
def test_without_space_nothing_is_left(stack, tmp_path, monkeypatch, point, place):
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", f"{point}=enospc")
    with pytest.raises(FileUnwritable) as caught:
        make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    assert str(caught.value.place) == str(tmp_path / place)  # and not where it was half-made
    assert [path.name for path in tmp_path.iterdir()] == ["stack"]


def test_a_damaged_log_is_not_copied_as_if_it_were_whole(stack, tmp_path):
    journal = stack.directory / "log" / "state" / "journal"
    raw = bytearray(journal.read_bytes())
    raw[60] ^= 1
    journal.write_bytes(raw)
    with pytest.raises(LogDamaged) as caught:
        make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    assert str(caught.value.place) == f"{journal}: byte 0"
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    "lost",
    [
        "tsa/tsa.key",
        "oidc/oidc.key",
        "log/log.key",
        "log/state/version",
        "log/state/journal",
        "tuf/metadata",
        "issuers.json",
        "registry/version",
    ],
)
def test_a_stack_that_cannot_be_served_is_not_copied_as_if_it_could(stack, tmp_path, lost):
    with running_stack(str(stack.directory)):
        assert stack.call("POST", f"/v2/a/b/blobs/uploads/?digest={Digest.of(b'layer')}", b"layer")[0] == 201
    (stack.directory / lost).rename(tmp_path / "kept")
    with pytest.raises(FileUnreadable) as caught:
        make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    assert caught.value.place.source.startswith(str(stack.directory / lost))
    assert "backup" in caught.value.remedy
    assert not (tmp_path / "backup").exists()


def leaves(start: int, count: int) -> list[bytes]:
    """Return entries that a log takes as they are."""
    leaf = parse_request(json.dumps(entry(0)).encode(), Place("entry"), 1 << 20).leaf
    digest = json.loads(leaf)["spec"]["hashedRekordV002"]["data"]["digest"].encode()
    numbers = range(start, start + count)
    return [leaf.replace(digest, base64.b64encode(hashlib.sha256(number.to_bytes(4, "big")).digest())) for number in numbers]


def fill(stack: stacks.Stack, count: int) -> None:
    """Add entries to the log of a stack that does not run."""
    with opened_log(str(stack.directory)) as log:
        log.append_many(leaves(0, count))


def test_an_entry_that_was_damaged_long_ago_is_not_copied_as_if_it_were_whole(stack, tmp_path):
    fill(stack, 1_100)
    path = stack.directory / "log" / "state" / "tile" / "entries" / "000"
    raw = bytearray(path.read_bytes())
    raw[5_000] ^= 1
    path.write_bytes(raw)
    with opened_log(str(stack.directory)):
        pass  # which reads no entry that is in a file
    with pytest.raises(LogDamaged):
        make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("anew", [True, False], ids=["journal begun anew", "tiles written only"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_log_that_files_its_tiles_while_its_journal_is_copied_is_copied_as_one_tree(stack, tmp_path, monkeypatch, moment, anew):
    fill(stack, 1_000)
    journal, copy_file = str(stack.directory / "log" / "state" / "journal"), shutil.copyfileobj
    with opened_log(str(stack.directory)) as log:
        grown = log.head().size + 300

        def copy_and_grow(source: Any, target: Any, length: int) -> None:
            due = source.name == journal and log.head().size < grown
            if due and moment == "before":
                grow(log, 300, anew=anew)
            copy_file(source, target, length)
            if due and moment == "after":
                grow(log, 300, anew=anew)

        monkeypatch.setattr(shutil, "copyfileobj", copy_and_grow)
        made = make_backup(str(stack.directory), str(tmp_path / "backup"), SystemClock())
        assert log.head().size == grown
        assert made.log_size == (grown if moment == "before" or anew else grown - 300)
        expected = log.find(700)
    shutil.rmtree(stack.directory / "log")  # nothing of it is needed
    with opened_log(str(tmp_path / "backup")) as log:
        assert log.find(700) == expected


def grow(log: TileLog, count: int, *, anew: bool) -> None:
    """Append to a log and file its tiles, as far as its journal's beginning anew or not."""
    with log.batch(leaves(log.head().size, count), [()] * count) as batch:
        log.sync(batch)
        log.finish(batch)
    filing = log.begin_filing()
    assert filing is not None
    assert log.write_filing(filing)
    if anew:
        log.end_filing(filing)
