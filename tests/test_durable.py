"""durable: a file is whole or as it was, whatever happens between the steps."""

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sigkit import durable
from sigkit.errors import DatabaseUnusable, FileUnreadable, FileUnwritable, LockTimeout, Place, TooLarge

HERE = Place("here")
CHECKOUT = Path(__file__).resolve().parents[1]
STEPS = ("CREATE TABLE t (a INTEGER)",)


def test_a_written_file_has_content_and_mode_and_leaves_nothing_beside(tmp_path):
    durable.write(tmp_path / "f", b"data", mode=0o600)
    assert (tmp_path / "f").read_bytes() == b"data"
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_an_exception_in_the_block_keeps_the_old_file(tmp_path):
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(TypeError), durable.create(tmp_path / "f") as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("fault", ["enospc", "eio"])
@pytest.mark.parametrize("step", ["fsync", "rename", "directory"])
def test_a_full_or_broken_disk_is_UNAVAIL_and_leaves_a_whole_file(tmp_path, monkeypatch, step, fault):
    (tmp_path / "f").write_bytes(b"old")
    monkeypatch.setenv("SIGKIT_FAILPOINTS", f"t.{step}=1*{fault}")
    monkeypatch.setattr(durable, "_passages", {})
    with pytest.raises(FileUnwritable):
        durable.write(tmp_path / "f", b"new", point="t")
    assert (tmp_path / "f").read_bytes() in {b"old", b"new"}
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("step", ["fsync", "rename", "directory"])
def test_kill_at_each_step_leaves_the_old_or_the_new_file(tmp_path, step):
    (tmp_path / "f").write_bytes(b"old")
    code = f"from sigkit import durable; durable.write({str(tmp_path / 'f')!r}, b'new', point='t')"
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "SIGKIT_FAILPOINTS": f"t.{step}=kill"}, check=False)
    assert ended.returncode == -9
    assert (tmp_path / "f").read_bytes() == (b"new" if step == "directory" else b"old")


def test_create_new_never_replaces(tmp_path):
    durable.create_new(tmp_path / "f", b"first")
    with pytest.raises(FileUnwritable):
        durable.create_new(tmp_path / "f", b"second")
    assert (tmp_path / "f").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["f"]


def test_a_directory_that_is_not_there_is_refused_with_the_path(tmp_path):
    with pytest.raises(FileUnwritable) as caught:
        durable.write(tmp_path / "no" / "f", b"")
    assert caught.value.place.source == str(tmp_path / "no" / "f")


def test_only_regular_files_of_a_limited_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_bytes(b"12345")
    with pytest.raises(FileUnreadable):
        durable.read(tmp_path / "pipe", most_bytes=10, place=HERE)
    with pytest.raises(FileUnreadable):
        durable.read(tmp_path / "absent", most_bytes=10, place=HERE)
    with pytest.raises(FileUnreadable):
        durable.read(tmp_path, most_bytes=10, place=HERE)
    with pytest.raises(TooLarge):
        durable.read(tmp_path / "big", most_bytes=4, place=HERE)
    assert durable.read(tmp_path / "big", most_bytes=5, place=HERE) == b"12345"


def test_a_name_that_no_file_can_have_is_unreadable():
    with pytest.raises(FileUnreadable):
        durable.read("a\0b", most_bytes=10, place=HERE)


def test_a_lock_is_held_by_one(tmp_path):
    with durable.lock(tmp_path / "l"), pytest.raises(LockTimeout), durable.lock(tmp_path / "l", timeout_s=0):
        pass
    with durable.lock(tmp_path / "l", timeout_s=0):
        pass


def test_a_database_is_made_and_opened_again(tmp_path):
    path = tmp_path / "d"
    first = durable.open_database(path, application=7, steps=STEPS)
    with durable.transaction(first):
        first.execute("INSERT INTO t VALUES (1)")
    first.close()
    second = durable.open_database(path, application=7, steps=(*STEPS, "ALTER TABLE t ADD COLUMN b TEXT"))
    assert second.execute("SELECT a, b FROM t").fetchall() == [(1, None)]
    second.close()


def test_a_newer_a_foreign_and_a_damaged_database_are_refused(tmp_path):
    durable.open_database(tmp_path / "d", application=7, steps=(*STEPS, "CREATE TABLE u (a)")).close()
    with pytest.raises(DatabaseUnusable, match="newer"):
        durable.open_database(tmp_path / "d", application=7, steps=STEPS)
    with pytest.raises(DatabaseUnusable, match="another program"):
        durable.open_database(tmp_path / "d", application=8, steps=STEPS)
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(DatabaseUnusable):
        durable.open_database(tmp_path / "junk", application=7, steps=STEPS)


def test_a_transaction_that_fails_changes_nothing(tmp_path):
    database = durable.open_database(tmp_path / "d", application=7, steps=STEPS)

    def insert_and_fail():
        with durable.transaction(database):
            database.execute("INSERT INTO t VALUES (1)")
            database.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(sqlite3.OperationalError):
        insert_and_fail()
    assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
    database.close()


def test_a_commit_that_finds_no_space_changes_nothing_and_the_next_one_can_follow(tmp_path, monkeypatch):
    database = durable.open_database(tmp_path / "d", application=7, steps=STEPS)
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "database.commit=enospc")

    def insert(number):
        with durable.transaction(database):
            database.execute("INSERT INTO t VALUES (?)", (number,))

    with pytest.raises(sqlite3.OperationalError):
        insert(1)
    insert(2)
    assert database.execute("SELECT a FROM t").fetchall() == [(2,)]
    database.close()


def test_a_transaction_that_sqlite_ended_itself_is_told_by_its_cause(tmp_path):
    database = durable.open_database(tmp_path / "d", application=7, steps=("CREATE TABLE t (a INTEGER UNIQUE ON CONFLICT ROLLBACK)",))

    def insert_twice():
        with durable.transaction(database):
            database.execute("INSERT INTO t VALUES (1)")
            database.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(sqlite3.IntegrityError):
        insert_twice()
    assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
    database.close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"KEPT": "/named"}, "/named"),
        ({}, "/var/lib/sigkit/things"),
        ({"XDG_DATA_HOME": "/data"}, "/data/sigkit/things"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/mia"}, "/home/mia/.local/share/sigkit/things"),
        ({"HOME": "relative"}, None),  # below the working directory they would be anybody's
    ],
)
def test_files_of_a_user_are_kept_where_it_is_said_or_at_home_or_nowhere(environment, expected):
    code = (
        "import os, sys; from sigkit import durable\n"
        "if sys.argv[1] and not os.geteuid(): os.setuid(12345)\n"
        "print(durable.state_directory('things', 'KEPT'))"
    )
    as_user = "" if expected == "/var/lib/sigkit/things" else "as a user"
    if not as_user and os.geteuid():
        pytest.skip("not root")
    command = [sys.executable, "-c", code, as_user]
    done = subprocess.run(command, env={"PATH": "/usr/bin", **environment}, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout == f"{expected}\n"


def test_a_directory_is_made_with_those_above_it_and_one_that_is_there_stays(tmp_path):
    made = tmp_path / "a" / "b" / "c"
    for _ in range(2):
        durable.make_directory(str(made), 0o700)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made, made.parent, made.parent.parent)] == [0o700] * 3
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileUnwritable):
        durable.make_directory(str(tmp_path / "file" / "x"), 0o700)


def test_a_directory_that_could_not_be_made_durable_is_made_again_the_next_time(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    made = tmp_path / "made"
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", fail)
        with pytest.raises(FileUnwritable):
            durable.make_directory(str(made), 0o700)
    assert not made.exists()
    durable.make_directory(str(made), 0o700)
    assert made.is_dir()


def test_settling_removes_what_was_being_written_at_any_depth_and_nothing_else(tmp_path):
    kept = [tmp_path / "a" / "b" / "kept", tmp_path / "a" / "name.tmp", tmp_path / ".hidden"]
    left = [tmp_path / ".x.1.ab.tmp", tmp_path / "a" / "b" / ".y.1.ab.tmp"]
    kept[0].parent.mkdir(parents=True)
    for path in (*kept, *left):
        path.write_bytes(b"x")
    durable.settle(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


def test_a_directory_that_cannot_be_settled_is_refused(tmp_path):
    with pytest.raises(FileUnwritable):
        durable.settle(tmp_path / "absent")
