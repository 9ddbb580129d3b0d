"""`sigkit policy explain` as a user or a script meets it."""

from __future__ import annotations

import json
import shutil

import pytest

from sigkit.cli.main import run
from sigkit.errors import Unsigned, WrongKey

POLICY = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
keys:
  release: {file: release.pub}
  second: {file: second.pub}
rules:
  - images: "**"
    require:
      atLeast: {n: 2, of: [{key: release}, {key: second}]}
"""


@pytest.fixture(autouse=True)
def rules(here, key_pairs):
    shutil.copytree(key_pairs, here, dirs_exist_ok=True)
    (here / "policy.yaml").write_text(POLICY)


def explain(image: str, *arguments: str) -> int:
    return run(["policy", "explain", *arguments, image])


def test_a_refusal_is_explained_whole_and_ends_as_verify_does(image, capsys):
    for key in ("release", "other"):
        assert run(["sign", "--key", f"{key}.key", image]) == 0
    capsys.readouterr()
    assert explain(image, "--policy", "policy.yaml") == 1
    told = capsys.readouterr().out
    assert told.startswith("refused  ")
    assert "1 of 2 distinct" in told
    assert "a signature by key second" in told
    assert WrongKey.code in told
    assert "change      sigkit sign --key KEY" in told
    assert told.count("tried  ") == 2
    assert run(["sign", "--key", "second.key", image]) == 0
    capsys.readouterr()
    assert explain(image, "--policy", "policy.yaml") == 0
    assert capsys.readouterr().out.startswith("allowed  ")


def test_each_piece_is_named_once_and_of_an_unsigned_image_with_a_tag_the_index_is_thought_of(image, capsys):
    assert explain(image, "--key", "release.pub") == 1
    assert "`sigkit verify --index INDEX IMAGE@DIGEST`" in capsys.readouterr().out
    assert run(["sign", "--key", "release.key", image]) == 0
    capsys.readouterr()
    assert explain(image, "--key", "release.pub") == 0
    told = capsys.readouterr().out
    (tried,) = [line for line in told.splitlines() if line.lstrip().startswith("tried")]
    assert told.count(tried.split()[2].rstrip(",")) == 1


def test_the_document_is_one_also_for_a_refusal(image, capsys):
    assert explain(image, "--policy", "policy.yaml", "--output", "json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["tried"], document["signedInstead"]) == ("sigkit.explanation/1", [], [])
    assert document["decision"]["tree"]["children"][0]["reason"]["code"] == Unsigned.code
    assert len(document["smallestChange"]) == 2


def test_flags_are_explained_like_a_policy(image, capsys):
    assert run(["sign", "--key", "other.key", image]) == 0
    capsys.readouterr()
    assert explain(image, "--key", "release.pub") == 1
    told = capsys.readouterr().out
    assert "because     signed, but not by key release.pub" in told
    assert "rule        none: the flags say who must have signed" in told
    assert "let the rule" not in told
    assert not [line for line in told.splitlines() if line.startswith("  change ") and line.endswith("(flags)")]
    assert explain(image, "--key", "other.pub") == 0


def test_what_could_not_be_asked_is_no_refusal(image, capsys):
    assert explain("127.0.0.1:1/demo/hello:1.0", "--policy", "policy.yaml") == 3
    assert explain(image, "--policy", "nosuch.yaml") == 2
    assert explain(image) == 2
    capsys.readouterr()


def test_what_verify_was_asked_with_can_be_explained(image, capsys):
    assert run(["sign", "--key", "release.key", image]) == 0
    assert run(["copy", image, "oci:saved"]) == 0
    assert run(["attest", "--key", "release.key", "--predicate", "p.json", "--type", "custom", image]) == 0
    both = ("--key", "release.pub", "--key", "second.pub")
    for expected, arguments in (
        (0, ("--layout", "saved", "--offline", "--key", "release.pub")),
        (0, ("--type", "custom", "--key", "release.pub")),
        (1, ("--type", "spdxjson", "--key", "release.pub")),
        (1, ("--threshold", "2", *both)),
        (1, ("-a", "env=prod", "--key", "release.pub")),
        (2, ("--type", "custom", "--policy", "policy.yaml")),
        (2, ("--offline", "--key", "release.pub")),
    ):
        command = ["verify-attestation" if "--type" in arguments else "verify", *arguments, image]
        assert (explain(image, *arguments), run(command)) == (expected, expected), arguments
    capsys.readouterr()
