"""`sigkit attest` as a user or a script meets it."""

from __future__ import annotations

import json

import pytest

from sigkit.cli.demo_image import assemble, write_layout
from sigkit.cli.main import run
from sigkit.keys.files import write_key_pair
from sigkit.services.serve import running_registry


@pytest.fixture
def image(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGKIT_PASSWORD", "pw")
    write_key_pair("release", "ecdsa-p256", "pw")
    (tmp_path / "p.json").write_text('{"a": 1}')
    write_layout(assemble("hello"), tmp_path / "image")
    with running_registry(tmp_path / "storage") as address:
        reference = f"{address}/demo/hello:1.0"
        assert run(["copy", "oci:image", reference]) == 0
        capsys.readouterr()
        yield reference


def attest(image: str, *arguments: str) -> int:
    return run(["attest", "--key", "release.key", "--predicate", "p.json", "--type", "https://example.com/t", *arguments, image])


def attached(image: str, capsys) -> list[str]:
    capsys.readouterr()
    assert run(["tree", "-o", "json", image]) == 0
    return [item["kind"] for item in json.loads(capsys.readouterr().out)["attached"]]


def test_an_attestation_is_attached_once_and_is_no_signature(image, capsys):
    assert attest(image, "-o", "json") == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["schema"], first["added"], first["predicate_type"]) == ("sigkit.attest/1", True, "https://example.com/t")
    assert attest(image) == 0
    assert capsys.readouterr().out.startswith("already attested")
    assert attached(image, capsys) == ["attestation"]
    assert run(["verify", "--key", "release.pub", image]) == 1


def test_the_predicate_is_read_before_the_registry_is_asked(image, capsys):
    assert attest("127.0.0.1:1/demo/hello:1.0", "--type", "sbom") == 2
    assert attest("127.0.0.1:1/demo/hello:1.0", "--predicate", "absent.json") == 2
    assert attest("127.0.0.1:1/demo/hello:1.0") == 3
    assert attached(image, capsys) == []
