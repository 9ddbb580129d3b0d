"""`sigkit attest` as a user or a script meets it."""

from __future__ import annotations

import json

from sigkit.cli.main import run


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
