"""The bundles about an image, as files."""

from __future__ import annotations

import json

import pytest

from sigkit.cli.main import run


@pytest.fixture
def signed(here, image, capsys):
    """Sign and attest an image with a key, and return its name."""
    assert run(["sign", "--key", "release.key", image]) == 0
    assert run(["attest", "--key", "release.key", "--type", "https://example.com/t", "--predicate", "p.json", image]) == 0
    capsys.readouterr()
    return image


def test_the_bundles_of_an_image_are_written_and_verify_without_the_registry(here, signed, capsys):
    assert run(["inspect", "-o", "json", "--save-bundles", "new/evidence", signed]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["written"]) == sorted(str(path.relative_to(here)) for path in (here / "new/evidence").iterdir())
    assert len(told["written"]) == len(told["evidence"]) == 2
    named = {f"new/evidence/{item['found']['manifest'].replace(':', '-')}.sigstore.json" for item in told["evidence"]}
    assert named == set(told["written"])
    options = [word for path in told["written"] for word in ("--bundle", path)]
    pinned = f"{signed.rpartition(':')[0]}@{told['digest']}"
    assert run(["verify", "--key", "release.pub", "--offline", *options, pinned]) == 0


def test_what_is_no_directory_is_a_usage_error(here, signed, capsys):
    assert run(["inspect", "--save-bundles", "p.json", signed]) == 2
    assert "p.json" in capsys.readouterr().err
    assert (here / "p.json").read_text() == '{"a": 1}'


def test_a_bundle_is_a_file_already(here, capsys):
    assert run(["inspect", "--save-bundles", "x", "p.json"]) == 2
    assert "a file already" in capsys.readouterr().err
    assert not (here / "x").exists()
