"""The bundles about an image, as files."""

from __future__ import annotations

import json
import os

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


@pytest.mark.attack("link in the way of an output")
def test_a_link_where_a_bundle_goes_is_replaced_and_leads_nowhere(here, signed, capsys):
    assert run(["inspect", "-o", "json", "--save-bundles", "evidence", signed]) == 0
    first, *_ = json.loads(capsys.readouterr().out)["written"]
    bundle = (here / first).read_bytes()
    (here / first).unlink()
    (here / "precious").write_text("mine")
    (here / first).symlink_to(here / "precious")
    assert run(["inspect", "--save-bundles", "evidence", signed]) == 0
    assert (here / "precious").read_text() == "mine"
    assert ((here / first).is_symlink(), (here / first).read_bytes()) == (False, bundle)


@pytest.mark.root
@pytest.mark.attack("link in the way of an output")
def test_a_directory_that_another_user_laid_as_a_link_takes_no_bundles(here, signed, capsys):
    (here / "tmp").mkdir()
    (here / "tmp").chmod(0o1777)
    (here / "mine").mkdir()
    (here / "tmp/evidence").symlink_to(here / "mine")
    os.lchown(here / "tmp/evidence", 65534, 65534)
    for directory in ("tmp/evidence", "tmp/evidence/of/today"):
        assert run(["inspect", "--save-bundles", directory, signed]) == 2
        assert "link of another user" in capsys.readouterr().err
    assert list((here / "mine").iterdir()) == []


def test_what_is_no_directory_is_a_usage_error(here, signed, capsys):
    assert run(["inspect", "--save-bundles", "p.json", signed]) == 2
    assert "p.json" in capsys.readouterr().err
    assert (here / "p.json").read_text() == '{"a": 1}'


def test_a_bundle_is_a_file_already(here, capsys):
    assert run(["inspect", "--save-bundles", "x", "p.json"]) == 2
    assert "a file already" in capsys.readouterr().err
    assert not (here / "x").exists()
