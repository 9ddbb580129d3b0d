"""Key files on disk: private, whole, and never over another."""

from __future__ import annotations

import stat

import pytest

from sigkit.errors import FileUnwritable
from sigkit.keys.files import store_key_pair, write_key_pair
from sigkit.keys.load import load_private, load_public
from sigkit.keys.private import generate


def test_a_pair_is_written_for_its_owner_only_and_reads_back(tmp_path):
    public = write_key_pair(str(tmp_path / "release"), "ecdsa-p256", "pw")
    private_path, public_path = tmp_path / "release.key", tmp_path / "release.pub"
    assert stat.S_IMODE(private_path.stat().st_mode) == 0o600
    assert load_public(str(public_path)) == public
    assert load_private(str(private_path), lambda: "pw").public == public
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release.key", "release.pub"]


@pytest.mark.parametrize("there", ["k.key", "k.pub"])
def test_nothing_is_written_when_either_file_is_there(there, tmp_path):
    (tmp_path / there).write_text("mine")
    with pytest.raises(FileUnwritable) as caught:
        write_key_pair(str(tmp_path / "k"), "ed25519", "")
    assert caught.value.status() == 2
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_dangling_link_is_something_that_is_there(tmp_path):
    (tmp_path / "k.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileUnwritable):
        write_key_pair(str(tmp_path / "k"), "ed25519", "")
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_not_there_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(FileUnwritable):
        write_key_pair(str(tmp_path / "no" / "k"), "ed25519", "")
    assert list(tmp_path.iterdir()) == []


def test_when_the_public_half_fails_the_private_one_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "keys.public.fsync=enospc")
    with pytest.raises(FileUnwritable):
        store_key_pair(str(tmp_path / "k"), generate("ed25519"), "")
    assert list(tmp_path.iterdir()) == []
