"""The store: a blob's bytes match its name, whatever happened before."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from sigkit import durable
from sigkit.digest import Digest
from sigkit.engine.store import Store, default_root
from sigkit.errors import EXIT_USAGE, DatabaseUnusable, DigestMismatch, FileUnreadable, FileUnwritable, LockTimeout
from sigkit.oci.descriptor import Descriptor

DATA = b"content" * 1000
DIGEST = Digest.of(DATA)
DESCRIPTOR = Descriptor("application/octet-stream", DIGEST, len(DATA))


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "a" / "store"))


def stored_sizes(store: Store) -> list[tuple[str, int]]:
    with store.index() as index:
        return index.execute("SELECT digest, size_bytes FROM blobs ORDER BY digest").fetchall()


def test_blob_comes_back(store):
    store.add_blob(DIGEST, DATA)
    store.add_blob(DIGEST, DATA)
    assert store.load_blob(DIGEST, most_bytes=len(DATA)) == DATA
    with store.open_blob(DESCRIPTOR) as reader:
        assert reader is not None
        assert b"".join(reader) == DATA
    assert stored_sizes(store) == [(str(DIGEST), len(DATA))]


def test_absent_blob_is_none(store):
    assert store.load_blob(DIGEST, most_bytes=100) is None
    with store.open_blob(DESCRIPTOR) as reader:
        assert reader is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_blob_lies_under_its_algorithm_and_hex(store, algorithm):
    digest = Digest.of(DATA, algorithm)
    store.add_blob(digest, DATA)
    assert store.blob_path(digest) == os.path.join(store.root, "blobs", algorithm, digest.hex)
    assert os.path.exists(store.blob_path(digest))


def test_damaged_blob_is_dropped_when_it_is_used(store):
    store.add_blob(DIGEST, DATA)
    with open(store.blob_path(DIGEST), "r+b") as file:
        file.write(b"X")
    assert store.load_blob(DIGEST, most_bytes=len(DATA)) is None
    assert not os.path.exists(store.blob_path(DIGEST))
    assert stored_sizes(store) == []


def test_damaged_stream_never_ends_well(store):
    store.add_blob(DIGEST, DATA)
    with open(store.blob_path(DIGEST), "r+b") as file:
        file.write(b"X")
    with store.open_blob(DESCRIPTOR) as reader:
        assert reader is not None
        with pytest.raises(DigestMismatch):
            list(reader)


def test_link_in_the_place_of_a_blob_is_not_followed(store, tmp_path):
    store.add_blob(DIGEST, DATA)
    os.rename(store.blob_path(DIGEST), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", store.blob_path(DIGEST))
    with pytest.raises(FileUnreadable), store.open_blob(DESCRIPTOR):
        pass


def test_blob_whose_block_fails_never_gets_its_name(store):
    def fill() -> None:
        with store.lock(DIGEST), store.create_blob(DIGEST) as file:
            file.write(b"half")
            raise DigestMismatch("as a reader does")

    with pytest.raises(DigestMismatch):
        fill()
    assert os.listdir(os.path.dirname(store.blob_path(DIGEST))) == []
    assert stored_sizes(store) == []


def test_directory_is_closed_to_others_even_when_they_could_look_in(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o755)
    store = Store(str(tmp_path / "store"))
    assert stat.S_IMODE(os.stat(store.root).st_mode) == 0o700


@pytest.mark.attack("planted store")
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_directory_that_others_could_write_to_is_no_store(tmp_path, mode):
    """What they put there would be taken for unpacked, verified layers."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(mode)
    with pytest.raises(FileUnwritable):
        Store(str(tmp_path / "store"))
    assert os.listdir(tmp_path / "store") == []
    assert stat.S_IMODE(os.stat(tmp_path / "store").st_mode) == mode


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_file_where_the_store_should_be_is_the_operators_mistake(tmp_path, below):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileUnwritable) as caught:
        Store(str(tmp_path / "file" / below))
    assert caught.value.status() == EXIT_USAGE
    assert caught.value.place.source.startswith(str(tmp_path / "file"))


def test_directory_of_something_else_is_no_store(tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home/file").write_text("mine")
    with pytest.raises(FileUnwritable):
        Store(str(tmp_path / "home"))
    assert os.listdir(tmp_path / "home") == ["file"]
    assert stat.S_IMODE(os.stat(tmp_path / "home").st_mode) == 0o755


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_what_sigkit_keeps_beside_the_images_keeps_no_store_out(tmp_path, mode):
    for name in ("trust", "checkpoints"):
        (tmp_path / "sigkit" / name).mkdir(parents=True)
    (tmp_path / "sigkit").chmod(mode)
    Store(str(tmp_path / "sigkit"))
    assert stat.S_IMODE(os.stat(tmp_path / "sigkit").st_mode) == 0o700


@pytest.mark.attack("planted store")
def test_store_is_never_below_the_working_directory_for_want_of_a_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for home in (".", "relative"):
        monkeypatch.setenv("HOME", home)
        with pytest.raises(FileUnwritable):
            default_root()


def test_store_that_cannot_be_made_is_a_refusal(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileUnwritable):
        Store(str(tmp_path / "file" / "store"))


def test_one_lock_for_each_digest_and_purpose(store):
    held = store.lock(DIGEST), store.lock(Digest.of(b"other")), store.lock(DIGEST, "layer")
    with held[0], held[1], held[2], pytest.raises(LockTimeout), store.lock(DIGEST, timeout_s=0):
        pass
    with store.lock(DIGEST, timeout_s=0):
        pass


def test_lost_index_is_rebuilt_from_the_files(store):
    store.add_blob(DIGEST, DATA)
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        if os.path.exists(os.path.join(store.root, name)):
            os.unlink(os.path.join(store.root, name))
    assert stored_sizes(store) == [(str(DIGEST), len(DATA))]


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_damaged_index_is_set_aside_and_rebuilt(store, damage):
    store.add_blob(DIGEST, DATA)
    for name in ("index.db-wal", "index.db-shm"):
        if os.path.exists(os.path.join(store.root, name)):
            os.unlink(os.path.join(store.root, name))
    with open(os.path.join(store.root, "index.db"), "wb") as file:
        file.write(damage)
    if damage:
        assert stored_sizes(store) == [(str(DIGEST), len(DATA))]
        assert os.path.exists(os.path.join(store.root, "index.db.damaged"))
    else:
        store.add_blob(Digest.of(b"new"), b"new")
        assert (str(Digest.of(b"new")), 3) in stored_sizes(store)


def test_index_of_a_newer_version_is_left_alone(store):
    with store.index() as index:
        index.execute("PRAGMA user_version=99")
    with pytest.raises(DatabaseUnusable), store.index():
        pass
    assert not os.path.exists(os.path.join(store.root, "index.db.damaged"))


def test_first_openings_at_once_all_see_a_whole_index(tmp_path):
    stores = [Store(str(tmp_path / "store")) for _ in range(8)]
    failed: list[BaseException] = []

    def add(number: int) -> None:
        try:
            stores[number].add_blob(Digest.of(bytes([number])), bytes([number]))
        except BaseException as err:  # noqa: BLE001 (carried to the test's own thread)
            failed.append(err)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(stored_sizes(stores[0])) == 8


def test_what_a_killed_download_left_is_swept_away(store):
    store.add_blob(DIGEST, DATA)
    directory = os.path.dirname(store.blob_path(DIGEST))
    left = os.path.join(directory, f".{Digest.of(b'x').hex}.4242.abcdef.tmp")
    with open(left, "wb") as file:
        file.write(b"half")
    Store(store.root)
    assert os.listdir(directory) == [DIGEST.hex]


def test_download_that_still_runs_is_not_swept_away(store):
    with store.lock(DIGEST), store.create_blob(DIGEST) as file:
        file.write(DATA)
        Store(store.root)
    assert store.load_blob(DIGEST, most_bytes=len(DATA)) == DATA


def test_failed_sync_keeps_nothing(store, monkeypatch):
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "store.blob.fsync=enospc")
    with pytest.raises(FileUnwritable):
        store.add_blob(DIGEST, DATA)
    assert os.listdir(os.path.dirname(store.blob_path(DIGEST))) == []


def test_default_root_is_the_users_own(monkeypatch, tmp_path):
    if os.geteuid() == 0:
        assert default_root() == "/var/lib/sigkit"
        return
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_root() == "/data/sigkit"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == str(tmp_path / ".local/share/sigkit")


def test_schema_is_versioned(store):
    with store.index() as index:
        assert index.execute("PRAGMA user_version").fetchone()[0] == 1
        with durable.transaction(index):
            index.execute("SELECT 1")
