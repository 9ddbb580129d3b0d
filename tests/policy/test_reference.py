"""docs/policy.md is true: every example loads, the refused one is refused as shown, and no field is missing from it."""

import re
from pathlib import Path

import pytest

from sigkit.errors import Place, SigkitError
from sigkit.policy.decide import decide
from sigkit.policy.decision import encode_decision
from sigkit.policy.load import parse_policy
from tests.simulators.verdicts import NOW, policy, read_key, request

PAGE = (Path(__file__).resolve().parents[2] / "docs/policy.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
YAML = [text for language, text in BLOCKS if language == "yaml"]
KEYS = ("release", "alice", "bob", "carol")


def indent(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}" for line in text.splitlines(keepends=True))


def load(text: str):
    if text.startswith("- images"):
        return policy(indent(text, 2), *KEYS)
    if text.startswith("run:"):
        return policy(f"  - images: registry.example/x\n    require: {{key: release}}\n{indent(text, 4)}", *KEYS)
    return parse_policy(text.encode(), Place.operator("policy.yaml"), read_key)


@pytest.mark.parametrize("text", [text for text in YAML if not text.startswith("# refused")], ids=range(len(YAML) - 1))
def test_an_example_loads(text):
    assert load(text).rules


def test_the_refused_example_is_refused_as_it_is_shown():
    refused = next(text for text in YAML if text.startswith("# refused"))
    shown = BLOCKS[BLOCKS.index(("yaml", refused)) + 1]
    with pytest.raises(SigkitError) as caught:
        load(refused)
    assert shown == ("text", f"{caught.value.__notes__[0]}\n")


@pytest.mark.parametrize("field", ["policy", "rule", "run", "authority", "identity", "extensions", "requirement"])
def test_every_field_that_is_accepted_is_on_the_page(field):
    odd = {
        "policy": "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\nodd: x\n",
        "rule": "- images: x.y/z\n  odd: x\n",
        "run": "run: {odd: x}\n",
        "authority": "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\nauthorities: {x: {odd: x}}\n",
        "identity": "- images: x.y/z\n  require: {identity: {odd: x}}\n",
        "extensions": "- images: x.y/z\n  require: {identity: {issuer: x, subject: y, extensions: {odd: x}}}\n",
        "requirement": "- images: x.y/z\n  require: {odd: x}\n",
    }[field]
    with pytest.raises(SigkitError) as caught:
        load(odd)
    known = caught.value.expected.removeprefix("one of ").split(", ")
    assert len(known) > 4
    assert [name for name in known if f"`{name}" not in PAGE] == []


def test_every_member_of_the_decision_document_is_on_the_page():
    decision = decide([], [], request(), policy("- images: '**'\n  require: {key: a}\n", "a"), NOW)
    assert [name for name in encode_decision(decision) if name != "schema" and f"`{name}`" not in PAGE] == []
