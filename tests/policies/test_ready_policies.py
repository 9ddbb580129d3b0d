"""The policies that a user may copy do what their comments say."""

import shutil
from pathlib import Path

import pytest

from sigkit.errors import NameNotSigned, NoRule, ThresholdNotMet, WrongKey, WrongName
from sigkit.policy.decide import decide
from sigkit.policy.decision import Allow, Deny
from sigkit.policy.lint import check_policy
from sigkit.policy.load import load_policy
from sigkit.policy.model import Access, ImageOwn, Network
from tests.simulators.verdicts import NOW, facts, private, request

POLICIES = Path(__file__).resolve().parents[2] / "policies"
KEYS = {"one-key": ["release"], "two-of-three": ["alice", "bob", "carol", "upstream"]}


def test_every_ready_policy_is_tested_here():
    assert {path.stem for path in POLICIES.iterdir()} == set(KEYS)


@pytest.fixture
def ready(tmp_path):
    def install(name):
        shutil.copy(POLICIES / f"{name}.yaml", tmp_path)
        for key in KEYS[name]:
            (tmp_path / f"{key}.pub").write_bytes(private(key).public.encode_pem())
        return tmp_path / f"{name}.yaml"

    return install


def verdict(path: Path, reference: str, *found):
    decision = decide(found, [], request(reference), load_policy(path), NOW)
    return decision.reasons[0].code if isinstance(decision, Deny) else type(decision)


@pytest.mark.parametrize("name", KEYS)
def test_it_loads_and_names_itself(ready, name):
    summary = check_policy(ready(name))
    assert summary.policy.name == name
    assert not [warning for warning in summary.warnings if "no rule" in warning.text]


def test_one_key_asks_for_the_release_key_under_the_repositorys_own_name(ready):
    path = ready("one-key")
    app = "registry.example/acme/app"
    assert verdict(path, f"{app}:v1", facts("release", repository=app)) is Allow
    assert verdict(path, "registry.example/acme/web/front", facts("release", repository="registry.example/acme/web/front")) is Allow
    assert verdict(path, f"{app}:v1", facts("other", repository=app)) == WrongKey.code
    assert verdict(path, f"{app}:v1", facts("release", repository="registry.example/acme/copy")) == WrongName.code
    assert verdict(path, f"{app}:v1", facts("release", repository=None)) == NameNotSigned.code
    assert verdict(path, "registry.example/other/app", facts("release", repository="registry.example/other/app")) == NoRule.code


def test_two_of_three_counts_distinct_maintainers(ready):
    path = ready("two-of-three")
    app = "registry.example/prod/app"
    alice, again, bob, upstream = (
        facts("alice", repository=app),
        facts("alice", repository=app, number=2),
        facts("bob", repository=app),
        facts("upstream", repository=app),
    )
    assert verdict(path, app, alice, bob) is Allow
    assert verdict(path, app, alice, again) == ThresholdNotMet.code
    assert verdict(path, app, alice, upstream) == ThresholdNotMet.code


def test_two_of_three_maps_the_mirrors_names(ready):
    path = ready("two-of-three")
    asked = "mirror.example/base/debian"
    assert verdict(path, asked, facts("upstream", repository="upstream.example/library/debian")) is Allow
    assert verdict(path, asked, facts("upstream", repository=asked)) == WrongName.code


def test_two_of_three_excepts_one_tool_and_nothing_else(ready):
    path = ready("two-of-three")
    assert verdict(path, "registry.example/prod/legacy-importer:2") is Allow
    assert verdict(path, "registry.example/prod/legacy-importer2:2") == ThresholdNotMet.code


def test_two_of_three_grants_what_it_lists(ready):
    rule = load_policy(ready("two-of-three")).rules[0]
    assert isinstance(rule.run.command, ImageOwn)
    assert rule.run.network is Network.HOST
    assert rule.run.root is Access.READ_ONLY
    assert rule.run.capabilities == ("CAP_NET_BIND_SERVICE",)
    assert (rule.run.memory_bytes, rule.run.pids, rule.run.cpus) == (2**30, 256, 2.0)
