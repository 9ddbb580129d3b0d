"""`sigkit attest-blob` as a user or a script meets it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sigkit import limits
from sigkit.cli.main import run
from sigkit.digest import Digest
from sigkit.errors import Place
from sigkit.evidence.bundle import parse_bundle
from sigkit.evidence.envelope import Envelope
from tests.cli.conftest import CONTENT


def attest(*arguments: str) -> int:
    typed = () if "--type" in arguments else ("--type", "https://example.com/t")
    return run(["attest-blob", "--key", "release.key", *typed, "--bundle", "b.json", *arguments])


def statement(here):
    content = parse_bundle((here / "b.json").read_bytes(), limits.DEFAULT, Place("b")).content
    assert isinstance(content, Envelope)
    return json.loads(content.payload)


def feed(monkeypatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_the_attestation_names_the_file_without_its_directories(here, capsys):
    assert attest("--predicate", "p.json", "-o", "json", "sub/file.txt") == 0
    assert statement(here)["subject"][0]["name"] == "file.txt"
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["predicate_type"]) == ("sigkit.attest-blob/1", "https://example.com/t")
    assert document["digest"] == str(Digest.of(CONTENT))


def test_either_of_file_and_predicate_may_be_standard_input(here, monkeypatch):
    feed(monkeypatch, b'{"b": 2}')
    assert attest("--predicate", "-", "sub/file.txt") == 0
    assert statement(here)["predicate"] == {"b": 2}
    feed(monkeypatch, CONTENT)
    assert attest("--predicate", "p.json", "-") == 0
    assert statement(here)["subject"][0]["digest"] == {"sha256": Digest.of(CONTENT).hex}
    assert "name" not in statement(here)["subject"][0]


def test_both_as_standard_input_is_a_usage_error(here, monkeypatch):
    feed(monkeypatch, b"{}")
    assert attest("--predicate", "-", "-") == 2
    assert not (here / "b.json").exists()


@pytest.mark.parametrize("raw", ["[]", "text", '{"a":1,"a":2}', ""])
def test_a_predicate_that_is_no_object_is_a_usage_error_and_nothing_is_written(here, raw):
    (here / "p.json").write_text(raw)
    assert attest("--predicate", "p.json", "sub/file.txt") == 2
    assert not (here / "b.json").exists()


def test_a_type_that_nobody_knows_is_a_usage_error_that_names_the_types(here, capsys):
    assert attest("--predicate", "p.json", "--type", "sbom", "sub/file.txt") == 2
    assert "cyclonedx" in capsys.readouterr().err


def test_the_bundle_is_not_written_over_the_predicate(here):
    assert attest("--predicate", "p.json", "--bundle", "p.json", "sub/file.txt") == 2
    assert (here / "p.json").read_text() == '{"a": 1}'
