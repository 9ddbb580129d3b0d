"""State is durable, changes by compare-and-set, and one of two rivals wins."""

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from sigkit.errors import DatabaseUnusable, FileUnwritable
from sigkit.gate.state import SqliteState

RIVAL = """
import sys
from sigkit.gate.state import SqliteState
with SqliteState(sys.argv[1]) as state:
    print(state.compare_and_set("k", None, sys.argv[2].encode()))
"""


@pytest.fixture
def state(tmp_path):
    with SqliteState(tmp_path / "state.db") as opened:
        yield opened


def test_a_value_is_set_only_where_the_old_one_is_as_expected(state):
    assert state.get("k") is None
    assert not state.compare_and_set("k", b"x", b"y")
    assert state.compare_and_set("k", None, b"1")
    assert not state.compare_and_set("k", None, b"2")
    assert not state.compare_and_set("k", b"0", b"2")
    assert state.get("k") == b"1"
    assert state.compare_and_set("k", b"1", b"2")
    assert state.get("k") == b"2"


def test_a_value_is_removed_by_setting_none(state):
    assert state.compare_and_set("k", None, b"1")
    assert state.compare_and_set("k", b"1", None)
    assert state.get("k") is None
    assert not state.compare_and_set("k", b"1", None)


def test_keys_are_forgotten_from_the_first_to_before_the_last(state):
    for key in ("a", "b/1", "b/2", "b/3", "c"):
        state.compare_and_set(key, None, b"x")
    state.forget("b/", "b/3")
    assert [key for key in ("a", "b/1", "b/2", "b/3", "c") if state.get(key)] == ["a", "b/3", "c"]


def test_an_empty_value_is_not_no_value(state):
    assert state.compare_and_set("k", None, b"")
    assert state.get("k") == b""
    assert not state.compare_and_set("k", None, b"1")


def test_values_outlive_the_process(tmp_path):
    with SqliteState(tmp_path / "state.db") as first:
        first.compare_and_set("k", None, b"1")
    with SqliteState(tmp_path / "state.db") as second:
        assert second.get("k") == b"1"


def test_nobody_else_may_read_it(tmp_path, state):
    state.compare_and_set("k", None, b"1")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o600}


def test_of_many_processes_that_want_the_same_one_gets_it(tmp_path):
    path = str(tmp_path / "state.db")
    rivals = [subprocess.Popen([sys.executable, "-c", RIVAL, path, str(i)], stdout=subprocess.PIPE, text=True) for i in range(6)]
    answers = [rival.communicate()[0].strip() for rival in rivals]
    assert sorted(answers) == ["False"] * 5 + ["True"]


def test_a_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "state.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA application_id=1")
    other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(DatabaseUnusable):
        SqliteState(path)


def test_a_link_in_its_place_is_refused(tmp_path):
    os.symlink(tmp_path / "elsewhere", tmp_path / "state.db")
    with pytest.raises(FileUnwritable):
        SqliteState(tmp_path / "state.db")
    assert not (tmp_path / "elsewhere").exists()
