"""`sigkit sign-blob` as a user or a script meets it."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest

from sigkit import limits, strict
from sigkit.cli.main import run
from sigkit.cli.outputs import check_outputs, write_output
from sigkit.digest import Digest
from sigkit.errors import FileUnwritable, Place
from sigkit.evidence.bundle import MessageSignature, parse_bundle
from tests.cli.conftest import CONTENT


def sign(*arguments: str) -> int:
    return run(["sign-blob", "--key", "release.key", *arguments])


def names(directory) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_bundle_and_signature_are_written_and_told(here, capsys):
    assert sign("--bundle", "b.json", "--output-signature", "s.txt", "-o", "json", "file.txt") == 0
    document = json.loads(capsys.readouterr().out)
    content = parse_bundle((here / "b.json").read_bytes(), limits.DEFAULT, Place("b")).content
    assert isinstance(content, MessageSignature)
    assert content.digest == Digest.of(CONTENT)
    assert (here / "s.txt").read_text() == document["signature"] == strict.encode_base64(content.signature)
    assert (document["schema"], document["digest"], document["bundle"]) == ("sigkit.sign-blob/1", str(Digest.of(CONTENT)), "b.json")


def test_standard_input_is_signed_like_a_file(here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CONTENT)))
    assert sign("--bundle", "b.json", "-") == 0
    assert f"digest    {Digest.of(CONTENT)}" in capsys.readouterr().out


def test_nowhere_to_write_is_a_usage_error(here, capsys):
    assert sign("file.txt") == 2
    assert "--bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--bundle", "file.txt"], id="over the file"),
        pytest.param(["--bundle", "./release.key"], id="over the key"),
        pytest.param(["--bundle", "link"], id="over the file by a link"),
        pytest.param(["--bundle", "b.json", "--output-signature", "b.json"], id="one over the other"),
        pytest.param(["--bundle", "directory"], id="over a directory"),
        pytest.param(["--bundle", "pipe"], id="over a device or pipe"),
        pytest.param(["--bundle", "-"], id="to standard output"),
    ],
)
def test_nothing_is_written_over_what_is_read_or_is_no_file(here, arguments):
    (here / "link").symlink_to("file.txt")
    (here / "directory").mkdir()
    os.mkfifo(here / "pipe")
    before = names(here)
    assert sign(*arguments, "file.txt") == 2
    assert names(here) == before
    assert (here / "file.txt").read_bytes() == CONTENT


def test_a_link_to_an_older_bundle_stays_a_link(here):
    (here / "b.json").write_text("older")
    (here / "link").symlink_to("b.json")
    assert sign("--bundle", "link", "file.txt") == 0
    assert (here / "link").is_symlink()
    assert (here / "b.json").read_bytes() != b"older"


@pytest.mark.root
@pytest.mark.parametrize(("mode", "status"), [(0o1777, 2), (0o777, 0)], ids=["for everybody's files", "where nobody's files are safe"])
def test_a_link_that_another_user_laid_where_everybody_writes_is_not_followed(here, mode, status):
    everybodys = here / "tmp"
    everybodys.mkdir()
    everybodys.chmod(mode)
    (here / "precious").write_text("precious")
    link = everybodys / "b.json"
    link.symlink_to(here / "precious")
    os.lchown(link, 65534, 65534)
    assert sign("--bundle", str(link), "file.txt") == status
    assert ((here / "precious").read_text() == "precious") == (status == 2)


@pytest.mark.root
@pytest.mark.attack("link in the way of an output")
def test_a_directory_that_another_user_laid_as_a_link_where_everybody_writes_is_not_entered(here):
    (here / "tmp").mkdir()
    (here / "tmp").chmod(0o1777)
    (here / "mine").mkdir()
    (here / "tmp/ours").symlink_to(here / "mine")
    assert sign("--bundle", "tmp/ours/../mine/b.json", "file.txt") == 0  # a link of one's own
    os.lchown(here / "tmp/ours", 65534, 65534)
    assert sign("--bundle", "tmp/ours/c.json", "file.txt") == 2
    assert [path.name for path in (here / "mine").iterdir()] == ["b.json"]


@pytest.mark.root
@pytest.mark.attack("link in the way of an output")
@pytest.mark.parametrize("laid", ["tmp/b.json", "tmp/ours"])
def test_a_link_that_was_laid_while_somebody_logged_in_is_not_followed(here, laid):
    for name in ("tmp", "mine"):
        (here / name).mkdir()
    (here / "tmp").chmod(0o1777)
    output = f"{laid.removesuffix('/b.json')}/b.json"
    (here / output).parent.mkdir(exist_ok=True)
    check_outputs({"--bundle": output}, ())
    if laid != output:
        (here / laid).rmdir()
    (here / laid).symlink_to(here / ("mine/b.json" if laid == output else "mine"))
    os.lchown(here / laid, 65534, 65534)
    with pytest.raises(FileUnwritable, match="link of another user"):
        write_output(output, b"{}")
    assert list((here / "mine").iterdir()) == []


def test_what_became_no_file_while_somebody_logged_in_is_not_replaced(here):
    check_outputs({"--bundle": "b.json"}, ())
    os.mkfifo(here / "b.json")
    with pytest.raises(FileUnwritable, match="no regular file"):
        write_output("b.json", b"{}")
    assert (here / "b.json").is_fifo()


@pytest.mark.parametrize(("links", "end", "status"), [(40, "directory", 0), (41, "directory", 2), (2, "link0", 2)])
def test_an_output_is_behind_as_many_links_as_the_kernel_follows_and_no_circle(here, capsys, links, end, status):
    (here / "directory").mkdir()
    for number, target in enumerate([*(f"link{number}" for number in range(1, links)), end]):
        (here / f"link{number}").symlink_to(target)
    assert sign("--bundle", "link0/b.json", "file.txt") == status
    assert ("its links cannot be followed" in capsys.readouterr().err) == (status == 2)


@pytest.mark.parametrize(("there", "advised"), [("absent/deeper", True), ("file.txt/deeper", False)])
def test_a_directory_is_to_be_made_only_where_there_is_none(here, capsys, there, advised):
    assert sign("--bundle", f"{there}/b.json", "file.txt") == 2
    assert ("mkdir -p" in capsys.readouterr().err) is advised


@pytest.mark.root
def test_a_directory_that_may_not_be_searched_is_not_said_to_be_absent(here):
    closed = here / "closed"
    (closed / "deeper").mkdir(parents=True)
    closed.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(FileUnwritable, match="takes no file: Permission denied") as caught:
            check_outputs({"--bundle": str(closed / "deeper/b.json")}, ())
    finally:
        os.seteuid(0)
    assert caught.value.remedy == ""


@pytest.mark.parametrize("file", ["absent.txt", "directory"])
def test_a_file_that_cannot_be_read_is_a_usage_error_and_nothing_is_written(here, file):
    (here / "directory").mkdir()
    before = names(here)
    assert sign("--bundle", "b.json", file) == 2
    assert names(here) == before


def test_a_disk_that_is_full_leaves_the_older_bundle(here, monkeypatch):
    (here / "b.json").write_text("older")
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "cli.output.fsync=enospc")
    before = names(here)
    assert sign("--bundle", "b.json", "file.txt") == 3
    assert names(here) == before
    assert (here / "b.json").read_text() == "older"


def test_a_wrong_password_is_a_usage_error(here, monkeypatch):
    monkeypatch.setenv("SIGKIT_PASSWORD", "other")
    assert sign("--bundle", "b.json", "file.txt") == 2
    assert "b.json" not in names(here)
