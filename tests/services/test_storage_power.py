"""Whatever the registry answered outlasts a power cut, also where a process before was killed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from sigkit.digest import Digest
from sigkit.errors import Place
from sigkit.oci.manifest import encode_manifest, parse_manifest
from sigkit.services.storage import Page, Storage
from tests.simulators.images import describe, small_image
from tests.simulators.power import Disk, Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE: Final = small_image()
REFERRER: Final = encode_manifest(describe(b"{}"), [describe(b"{}")], subject=describe(IMAGE.manifest))
STEPS: Final = 90  # more than they take
DELETING: Final = 60


class Answer(NamedTuple):
    """What the registry said that it has: a blob, a manifest, or what a tag names."""

    kind: str
    name: str
    digest: Digest
    tag: str | None = None


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Iterator[Disk]:
    # The registry's own directory is made on it.
    with contextlib.closing(Disk(tmp_path, monkeypatch)) as watched:
        yield watched


def send_again(_: Storage, answer: Answer) -> bool:
    """Take nothing for sent."""
    return False


def ask_first(storage: Storage, answer: Answer) -> bool:
    """Ask what is there, and leave it at that."""
    if answer.kind == "blob":
        return storage.has_blob(answer.name, answer.digest)
    if answer.tag is not None and storage.find_tag(answer.name, answer.tag) != answer.digest:
        return False
    return has_manifest(storage, answer)


def push(root: Path, answers: list[Answer], is_there: Callable[[Storage, Answer], bool]) -> None:
    """Push an image with what refers to it, and keep each answer."""
    with Storage.open(root) as storage:
        for blob in (IMAGE.config, IMAGE.layer, b"{}"):
            answer = Answer("blob", "a/b", Digest.of(blob))
            if not is_there(storage, answer):
                path = Path(storage.uploads, answer.digest.hex)
                path.write_bytes(blob)
                storage.put_blob("a/b", answer.digest, str(path), len(blob))
            answers.append(answer)
        mounted = Answer("blob", "c", Digest.of(IMAGE.layer))
        if not is_there(storage, mounted):
            assert storage.mount_blob("c", mounted.digest, "a/b")
        answers.append(mounted)
        for raw, tag in ((IMAGE.manifest, "v1"), (REFERRER, None)):
            answer = Answer("manifest", "a/b", Digest.of(raw), tag)
            if not is_there(storage, answer):
                assert storage.put_manifest("a/b", parse_manifest(raw, answer.digest, Place("test")), tag)
            answers.append(answer)


def check(root: Path, answers: list[Answer]) -> None:
    """Open what the power cut left, and hold the registry to all that it answered."""
    with Storage.open(root) as storage:
        for answer in answers:
            if answer.kind == "blob":
                content = storage.open_blob(answer.name, answer.digest)
                assert content is not None
                with content.file:
                    assert Digest.of(content.file.read()) == answer.digest
                continue
            assert has_manifest(storage, answer)
            if answer.tag is not None:
                assert storage.find_tag(answer.name, answer.tag) == answer.digest
            if answer.digest == Digest.of(REFERRER):
                listed = storage.list_referrers(answer.name, Digest.of(IMAGE.manifest), Page(10, 1 << 20)).found
                assert [referrer.digest for referrer in listed] == [answer.digest]


def has_manifest(storage: Storage, answer: Answer) -> bool:
    content = storage.open_manifest(answer.name, answer.digest)
    if content is None:
        return False
    with content.file:
        return Digest.of(content.file.read()) == answer.digest


def test_the_kills_below_reach_every_step(tmp_path, disk):
    push(tmp_path / "registry", [], send_again)
    pushed = disk.steps
    assert 60 < pushed < STEPS
    delete(tmp_path / "registry")
    assert 15 < disk.steps - pushed < DELETING


@pytest.mark.attack("power cut")
@pytest.mark.parametrize("is_there", [send_again, ask_first])
@pytest.mark.parametrize("killed_at", range(1, STEPS))
def test_what_was_answered_outlasts_a_kill_at_any_step_and_then_a_power_cut(tmp_path, disk, killed_at, is_there):
    answers: list[Answer] = []
    disk.kill_at = killed_at
    with contextlib.suppress(Killed):
        push(tmp_path / "registry", answers, is_there)
    disk.kill_at = 0
    push(tmp_path / "registry", answers, is_there)
    disk.cut()
    check(tmp_path / "registry", answers)


@pytest.mark.attack("power cut")
@pytest.mark.parametrize("killed_at", range(1, DELETING))
def test_what_was_deleted_or_found_absent_stays_so_after_a_kill_at_any_step_and_then_a_power_cut(tmp_path, disk, killed_at):
    push(tmp_path / "registry", [], send_again)
    disk.kill_at = disk.steps + killed_at
    with contextlib.suppress(Killed):
        delete(tmp_path / "registry")
    disk.kill_at = 0
    delete(tmp_path / "registry")
    disk.cut()
    with Storage.open(tmp_path / "registry") as storage:
        for blob in (IMAGE.config, IMAGE.layer, b"{}"):
            assert not storage.has_blob("a/b", Digest.of(blob))
        for raw in (IMAGE.manifest, REFERRER):
            assert storage.open_manifest("a/b", Digest.of(raw)) is None
        assert storage.find_tag("a/b", "v1") is None
        assert storage.has_blob("c", Digest.of(IMAGE.layer))


def delete(root: Path) -> None:
    """Delete what `push` pushed into its first repository."""
    with Storage.open(root) as storage:
        for raw in (REFERRER, IMAGE.manifest):
            storage.delete_manifest("a/b", Digest.of(raw))
        for blob in (IMAGE.config, IMAGE.layer, b"{}"):
            storage.delete_blob("a/b", Digest.of(blob))
