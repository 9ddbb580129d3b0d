"""The registry in a backup: what it names is there, byte for byte, whatever is pushed, moved and deleted while it is copied."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import socket
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from sigkit.clock import SystemClock
from sigkit.digest import Digest
from sigkit.errors import EXIT_REFUSED, DigestMismatch, FileUnreadable, NoStackFile, Place
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import OCI_EMPTY, OCI_MANIFEST, encode_index, encode_manifest, parse_manifest
from sigkit.services.stack.backup import make_backup
from sigkit.services.stack.copying import StackFile, copy_bytes
from sigkit.services.storage import Page, Storage
from tests.simulators import stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EMPTY = b"{}"
LAYER = "application/octet-stream"
TWO = ("one", "other")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return stacks.make(tmp_path_factory.mktemp("made") / "stack")


@pytest.fixture
def stack(made, tmp_path) -> Path:
    """A stack of the test's own: a copy, which is quicker than making one."""
    directory: Path = tmp_path / "stack"
    shutil.copytree(made.directory, directory)
    return directory


@pytest.fixture
def live(stack) -> Iterator[Live]:
    with Storage.open(stack / "registry") as storage:
        yield Live(storage)


class Live:
    """The registry of a stack, as requests change it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def blob(self, name: str, data: bytes) -> Digest:
        digest, path = Digest.of(data), os.path.join(self.storage.uploads, "new")
        with open(path, "wb") as file:
            file.write(data)
        self.storage.put_blob(name, digest, path, len(data))
        return digest

    def image(self, name: str, tag: str | None, layer: bytes, subject: Digest | None = None) -> Digest:
        config = Descriptor(OCI_EMPTY, self.blob(name, EMPTY), len(EMPTY))
        of = Descriptor(OCI_MANIFEST, subject, 1) if subject else None
        raw = encode_manifest(config, [Descriptor(LAYER, self.blob(name, layer), len(layer))], subject=of)
        return self.put(name, raw, tag)

    def index(self, name: str, tag: str, children: list[Digest]) -> Digest:
        return self.put(name, encode_index([Descriptor(OCI_MANIFEST, child, 1) for child in children]), tag)

    def put(self, name: str, raw: bytes, tag: str | None) -> Digest:
        document = parse_manifest(raw, Digest.of(raw), Place("test"))
        self.storage.put_manifest(name, document, tag)
        return document.digest


def backup(stack: Path) -> Path:
    into = stack.parent / "backup"
    make_backup(str(stack), str(into), SystemClock())
    return into


def content(directory: Path, digest: Digest) -> Path:
    return directory / "registry" / "blobs" / digest.algorithm / digest.hex


def pulled(directory: Path, name: str, reference: str | Digest) -> list[Digest]:
    """Return all that a client gets who pulls an image from a copy: each part is there, and is what its digest names."""
    with Storage.open(directory / "registry") as storage:
        digest = reference if isinstance(reference, Digest) else storage.find_tag(name, reference)
        assert digest is not None
        return list(followed(storage, name, digest))


def followed(storage: Storage, name: str, digest: Digest) -> Iterator[Digest]:
    found = storage.open_manifest(name, digest)
    assert found is not None
    with found.file as file:
        raw = file.read()
    document = parse_manifest(raw, digest, Place("test"))
    assert Digest.of(raw) == digest
    yield digest
    for part in getattr(document, "layers", ()):
        blob = storage.open_blob(name, part.digest)
        assert blob is not None
        with blob.file as file:
            assert Digest.of(file.read()) == part.digest
        yield part.digest
    for child in getattr(document, "manifests", ()):
        yield from followed(storage, name, child.digest)


@pytest.fixture
def when_copied(monkeypatch) -> Callable[[str | tuple[str, ...], Callable[[], object]], None]:
    """Return a function that has something done each time right after a file whose path ends so was copied."""
    copy_file = shutil.copyfileobj

    def arm(end: str | tuple[str, ...], act: Callable[[], object]) -> None:
        def copy_and_act(source: Any, target: Any, length: int) -> None:
            copy_file(source, target, length)
            if source.name.endswith(end):
                act()

        monkeypatch.setattr(shutil, "copyfileobj", copy_and_act)

    return arm


def in_turn(*acts: Callable[[], object]) -> Callable[[], object]:
    """Do one act after the other, each time that it is called."""
    waiting = list(acts)
    return lambda: waiting.pop(0)() if waiting else None


# --- bytes


def database(path: Path) -> bytes:
    """Return a database in WAL mode as an application ships it: SQLite's own copy of it has other bytes."""
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE x = 1")
    connection.close()
    return path.read_bytes()


@pytest.mark.attack("layer that begins like a database")
@pytest.mark.parametrize("genuine", [True, False], ids=["a database", "junk"])
def test_content_is_copied_as_it_is_whatever_it_begins_with(stack, live, tmp_path, genuine):
    layer = database(tmp_path / "app.db") if genuine else b"SQLite format 3\0" + b"junk" * 10
    live.image("acme/data", "v1", layer)
    assert Digest.of(layer) in pulled(backup(stack), "acme/data", "v1")
    assert sorted(path.name for path in content(stack, Digest.of(layer)).parent.iterdir() if "-" in path.name) == []


def test_damaged_content_is_refused_by_name_until_it_is_mended(stack, live, tmp_path):
    live.image("acme/app", "v1", b"layer")
    damaged = content(stack, Digest.of(b"layer"))
    damaged.write_bytes(b"lyaer")
    with pytest.raises(DigestMismatch) as caught:
        backup(stack)
    refused = caught.value
    assert (refused.status(), str(refused.place)) == (EXIT_REFUSED, str(damaged))
    assert (refused.expected, refused.got) == (str(Digest.of(b"layer")), str(Digest.of(b"lyaer")))
    assert "remove it" in refused.remedy
    assert not (tmp_path / "backup").exists()
    damaged.unlink()  # as it says
    live.image("acme/app", "v1", b"layer")
    assert Digest.of(b"layer") in pulled(backup(stack), "acme/app", "v1")


def test_logins_are_not_copied_and_a_copy_has_an_index_of_its_own(stack):
    (stack / "oidc" / "logins.db").write_bytes(b"whatever")
    (stack / "oidc" / "logins.db-wal").write_bytes(b"whatever")
    copied = backup(stack)
    assert [path.name for path in (copied / "oidc").iterdir()] == ["oidc.key"]


# --- names


@pytest.mark.attack("tags that are not in the copy")
def test_whatever_name_a_tag_or_a_repository_has_it_is_in_the_copy(stack, live):
    names = [
        *(("acme/app", tag) for tag in ("v1", "lock", "uploads", "v2-wal", "v2-shm", "logins.db", "x.tmp")),
        *((name, "v1") for name in ("uploads", "lock", "uploads/lock", "acme/uploads", "acme/app/lock", "version")),
    ]
    pushed = {(name, tag): live.image(name, tag, f"{name} {tag}".encode()) for name, tag in names}
    copied = backup(stack)
    assert all(pulled(copied, name, tag)[0] == digest for (name, tag), digest in pushed.items())


def test_what_is_being_written_is_not_in_the_copy(stack, live):
    live.image("acme/app", "v1", b"layer")
    (stack / "registry" / "uploads" / "unfinished").write_bytes(b"half")
    (stack / "registry" / "repositories" / "acme" / "app" / "_tags" / ".v1.1.abc.tmp").write_bytes(b"half")
    (content(stack, Digest.of(b"layer")).parent / ".half.1.abc.tmp").write_bytes(b"half")
    registry = backup(stack) / "registry"
    assert sorted(path.name for path in registry.iterdir()) == ["blobs", "repositories", "version"]
    assert [path for path in registry.rglob("*") if path.name.startswith(".")] == []


@pytest.mark.usefixtures("live")
def test_an_empty_registry_is_copied(stack):
    assert (backup(stack) / "registry" / "version").exists()


# --- what changes meanwhile


@pytest.mark.attack("tags that are not in the copy")
def test_a_tag_that_is_moved_while_its_image_is_deleted_names_the_new_one_in_the_copy(stack, live, when_copied):
    old = live.image("acme/app", "latest", b"old")
    new: list[Digest] = []

    def move() -> None:
        new.append(live.image("acme/app", "latest", b"new"))
        assert live.storage.delete_manifest("acme/app", old)
        assert live.storage.delete_blob("acme/app", Digest.of(b"old"))

    when_copied("_tags/latest", in_turn(move))
    assert pulled(backup(stack), "acme/app", "latest") == [new[0], Digest.of(b"new")]


@pytest.mark.parametrize("moment", ["_tags/v1", "_manifests/sha256/{}", "_blobs/sha256/{}"], ids=["tag", "manifest", "blob"])
def test_an_image_that_is_deleted_meanwhile_is_whole_in_the_copy_or_not_named(stack, live, when_copied, moment):
    digest, layer = live.image("acme/app", "v1", b"layer"), Digest.of(b"layer")
    signature = live.image("acme/app", None, b"signature", digest)

    def delete() -> None:
        for manifest in (signature, digest):
            assert live.storage.delete_manifest("acme/app", manifest)
        for part in (layer, Digest.of(b"signature"), Digest.of(EMPTY)):
            assert live.storage.delete_blob("acme/app", part)

    when_copied(moment.format(layer.hex if "_blobs" in moment else digest.hex), in_turn(delete))
    copied = backup(stack)
    assert list((copied / "registry" / "repositories" / "acme" / "app" / "_manifests" / "sha256").iterdir()) == []
    with Storage.open(copied / "registry") as storage:
        assert storage.list_tags("acme/app") == ()
        assert storage.list_referrers("acme/app", digest, Page(10, 1 << 20)).found == ()


def test_an_index_that_is_pushed_meanwhile_is_copied_with_all_its_parts(stack, live, when_copied):
    old = live.image("acme/app", "latest", b"old")
    pushed: list[Digest] = []

    def move() -> None:
        children = [live.image("acme/app", None, layer.encode()) for layer in TWO]
        pushed.extend((live.index("acme/app", "latest", children), *children))
        assert live.storage.delete_manifest("acme/app", old)

    when_copied(f"_manifests/sha256/{old.hex}", in_turn(move))
    got = pulled(backup(stack), "acme/app", "latest")
    assert set(got) == {*pushed, *(Digest.of(layer.encode()) for layer in TWO)}


def test_a_repository_that_never_holds_still_is_refused(stack, live, when_copied, tmp_path):
    newest = [live.image("acme/app", "latest", b"0")]

    def move() -> None:
        newest.append(live.image("acme/app", "latest", str(len(newest)).encode()))
        assert live.storage.delete_manifest("acme/app", newest[-2])

    when_copied(("_tags/latest", f"_blobs/sha256/{Digest.of(EMPTY).hex}"), move)
    with pytest.raises(FileUnreadable) as caught:
        backup(stack)
    assert "faster" in caught.value.problem
    assert not (tmp_path / "backup").exists()


def test_a_tag_that_is_deleted_and_pushed_again_before_names_are_followed_is_whole_in_the_copy(stack, live, when_copied):
    """What is there is copied at once: to look at the name first would give time to delete both."""
    digest = live.image("acme/app", "v1", b"layer")

    def delete() -> None:
        assert live.storage.delete_manifest("acme/app", digest)

    moments = ("_tags/v1", f"_blobs/sha256/{Digest.of(EMPTY).hex}")
    when_copied(moments, in_turn(delete, lambda: live.image("acme/app", "v1", b"layer"), delete))
    assert pulled(backup(stack), "acme/app", "v1") == [digest, Digest.of(b"layer")]


def test_a_layer_that_is_deleted_and_pushed_again_while_names_are_followed_is_in_the_copy(stack, live, when_copied):
    digest, layer = live.image("acme/app", "v1", b"layer"), Digest.of(b"layer")
    link = f"_manifests/sha256/{digest.hex}"
    when_copied(link, in_turn(lambda: live.storage.delete_blob("acme/app", layer), lambda: live.blob("acme/app", b"layer")))
    assert pulled(backup(stack), "acme/app", "v1") == [digest, layer]


def test_an_index_is_followed_again_when_a_part_of_it_has_gone(stack, live, monkeypatch):
    """The layer of an index's image comes last of all content, and everything is deleted right before it is copied."""
    numbers = iter(range(1_000))
    while True:
        name, layer = f"acme/{next(numbers)}", b"%d" % next(numbers)
        image = live.image(name, None, layer)
        index, parts = live.index(name, "v1", [image]), [Digest.of(layer), Digest.of(EMPTY)]
        if index.hex < image.hex and max((*parts, index, image), key=str) == parts[0]:
            break
        assert all(live.storage.delete_manifest(name, digest) for digest in (index, image))
        assert all(live.storage.delete_blob(name, digest) for digest in parts)
    new = hashlib.new

    def delete() -> None:
        assert all(live.storage.delete_manifest(name, digest) for digest in (index, image))
        assert live.storage.delete_blob(name, parts[0])

    acts = in_turn(lambda: None, lambda: None, delete)

    def act_and_hash(*args: Any, **named: Any) -> Any:
        acts()
        return new(*args, **named)

    monkeypatch.setattr(hashlib, "new", act_and_hash)
    copied = backup(stack) / "registry" / "repositories" / name
    assert [list((copied / part).rglob("?*")) for part in ("_tags", "_manifests/sha256")] == [[], []]


def test_a_manifest_whose_parts_are_nowhere_is_copied_as_it_is(stack, live):
    child = live.image("acme/app", None, b"layer")
    index = live.index("acme/app", "sparse", [child, Digest.of(b"elsewhere")])
    alone = live.image("acme/app", "alone", b"gone")
    assert live.storage.delete_blob("acme/app", Digest.of(b"gone"))
    (content(stack, Digest.of(EMPTY))).unlink()
    copied = backup(stack)
    with Storage.open(copied / "registry") as storage:
        for tag, digest in (("sparse", index), ("alone", alone)):
            assert storage.find_tag("acme/app", tag) == digest
            found = storage.open_manifest("acme/app", digest)
            assert found is not None
            found.file.close()


def test_damaged_names_are_copied_as_they_are(stack, live):
    live.image("acme/app", "v1", b"layer")
    (stack / "registry" / "repositories" / "acme" / "app" / "_tags" / "odd").write_bytes(b"\xff no digest")
    assert (backup(stack) / "registry/repositories/acme/app/_tags/odd").read_bytes() == b"\xff no digest"


# --- links


PLACES = [
    "clients/trusted_root.json",
    "clients/extra.json",
    "ca",
    "tuf/metadata",
    "issuers.json",
    "log/log.key",
    "log/state/journal",
    "registry",
    "registry/blobs",
    "registry/repositories/acme",
    "registry/repositories/acme/app/_tags/v1",
    "registry/repositories/acme/app/_tags",
]


@pytest.mark.attack("links that root copies")
@pytest.mark.parametrize("place", PLACES)
def test_a_link_in_a_stack_is_refused_by_name_and_nothing_is_copied_through_it(stack, live, tmp_path, place):
    live.image("acme/app", "v1", b"layer")
    path = stack / place
    kept = tmp_path / "kept"
    if path.exists():
        path.rename(kept)
    else:
        kept.write_text("secret")
    path.symlink_to(kept)
    with pytest.raises(NoStackFile) as caught:
        backup(stack)
    assert str(path) in str(caught.value.place)
    assert not (tmp_path / "backup").exists()


@pytest.mark.attack("links that root copies")
def test_content_is_not_copied_through_a_link(stack, live, tmp_path):
    live.image("acme/app", "v1", b"layer")
    path = content(stack, Digest.of(b"layer"))
    path.rename(tmp_path / "kept")
    path.symlink_to(tmp_path / "kept")
    with pytest.raises(NoStackFile):
        backup(stack)


@pytest.mark.parametrize("name", ["clients/extra.json", "issuers.json"])
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_what_is_no_file_is_refused_and_not_waited_for(stack, monkeypatch, kind, name):
    monkeypatch.chdir(stack)  # a socket's name is short
    if os.path.exists(name):
        os.unlink(name)
    if kind == "fifo":
        os.mkfifo(name)
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
    with pytest.raises(NoStackFile):
        backup(stack)


def test_a_stack_that_is_named_through_a_link_is_copied(stack, tmp_path):
    (tmp_path / "named").symlink_to(stack)
    make_backup(str(tmp_path / "named"), str(tmp_path / "backup"), SystemClock())
    assert (tmp_path / "backup" / "stack.json").exists()


@pytest.mark.attack("nested directories")
@pytest.mark.parametrize("place", ["registry/repositories/acme", "registry/repositories/acme/app/_tags", "clients", "tuf/metadata"])
def test_directories_that_are_nested_deeper_than_a_stacks_are_refused_by_name(stack, live, tmp_path, place):
    live.image("acme/app", "v1", b"layer")
    with stacks.nested(stack / place, 1_500), pytest.raises(NoStackFile) as caught:
        backup(stack)
    assert str(caught.value.place).startswith(f"{stack}/{place}/d/d/d")
    assert not (tmp_path / "backup").exists()


@pytest.mark.attack("holes in a stack")
@pytest.mark.parametrize(
    ("place", "most_bytes"),
    [
        ("clients/extra.json", 64 * 2**20),
        ("registry/repositories/acme/app/_tags/v1", 64 * 2**20),
        ("log/state/journal", 2**30),
        ("registry/blobs/sha256/" + "0" * 64, 64 * 2**30),
    ],
)
def test_a_hole_that_is_larger_than_any_file_there_is_refused_before_it_is_copied(stack, live, tmp_path, place, most_bytes):
    live.image("acme/app", "v1", b"layer")
    with (stack / place).open("ab") as file:
        file.truncate(most_bytes + 1)
    with pytest.raises(FileUnreadable) as caught:
        backup(stack)
    assert str(caught.value.place) == f"{stack}/{place}"
    assert not (tmp_path / "backup").exists()


def test_a_file_that_grows_while_it_is_copied_is_read_no_further_than_it_can_go():
    with pytest.raises(FileUnreadable), StackFile("original", io.BytesIO(b"12345"), 4) as file:
        copy_bytes(file, io.BytesIO())


def test_the_longest_name_of_a_repository_is_copied(stack, live, tmp_path):
    name = "/".join("a" * 128)
    digest = live.image(name, "v1", b"layer")
    backup(stack)
    assert (tmp_path / "backup" / "registry" / "repositories" / name / "_tags" / "v1").read_text() == str(digest)


@pytest.mark.parametrize(
    ("place", "kind"),
    [("_tags/v1", "directory"), ("_manifests/sha256", "file"), ("_tags", "file")],
)
def test_a_file_for_a_directory_and_a_directory_for_a_file_are_refused_by_name(stack, live, tmp_path, place, kind):
    live.image("acme/app", "v1", b"layer")
    path = stack / "registry" / "repositories" / "acme" / "app" / place
    path.rename(tmp_path / "kept")
    if kind == "file":
        path.write_text("x")
    else:
        path.mkdir()
    with pytest.raises(NoStackFile) as caught:
        backup(stack)
    assert str(caught.value.place) == str(path)


def test_a_disk_that_does_not_give_an_original_is_not_said_to_be_that_of_the_copy():
    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(FileUnreadable) as caught, StackFile("original", Broken()) as file:
        copy_bytes(file, io.BytesIO())
    assert (str(caught.value.place), "Input/output" in caught.value.problem) == ("original", True)
