"""Somebody at a command line: a directory with a key pair and a predicate, and an image in a registry of their own."""

from __future__ import annotations

import shutil

import pytest

from sigkit.cli.demo_image import assemble, write_layout
from sigkit.cli.main import run
from sigkit.keys.files import write_key_pair
from sigkit.services.serve import running_registry
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release

CONTENT = b"some content"


@pytest.fixture(scope="session")
def key_pairs(tmp_path_factory):
    """Make release, second and other with the password pw once, for each costs the derivation of a key; tests copy what they need."""
    directory = tmp_path_factory.mktemp("pairs")
    for name in ("release", "second", "other"):
        write_key_pair(str(directory / name), "ecdsa-p256", "pw")
    return directory


@pytest.fixture
def here(tmp_path, monkeypatch, key_pairs):
    """Work in a directory with release.key, release.pub, p.json, file.txt and sub/file.txt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGKIT_PASSWORD", "pw")
    for path in key_pairs.glob("release.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "p.json").write_text('{"a": 1}')
    (tmp_path / "file.txt").write_bytes(CONTENT)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file.txt").write_bytes(CONTENT)
    return tmp_path


@pytest.fixture
def image(here, capsys):
    """Push an unsigned image, and return its name."""
    write_layout(assemble("hello"), here / "image")
    with running_registry(here / "storage") as address:
        reference = f"{address}/demo/hello:1.0"
        assert run(["copy", "oci:image", reference]) == 0
        capsys.readouterr()
        yield reference


@pytest.fixture
def reg():
    """Run a registry that can be made to misbehave."""
    with MisbehavingRegistry() as running:
        yield running


@pytest.fixture
def release(reg, tmp_path):
    """Push an image there, for somebody who has K.key and K.pub and types commands in processes of their own."""
    return Release.prepare(tmp_path, reg.address)
