"""C21, two signatures and one signer: a threshold counts keys, not signatures, and asking costs no more than what is attached."""

from __future__ import annotations

import pytest

from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release

POLICY = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
keys:
{keys}
rules:
  - images: "**"
    require:
      atLeast: {{n: 2, of: [{of}]}}
"""
MANY = 15


@pytest.fixture
def reg():
    with MisbehavingRegistry() as running:
        yield running


@pytest.fixture
def release(reg, tmp_path):
    return Release.prepare(tmp_path, reg.address)


def make_key(release: Release, name: str) -> None:
    key = generate("ecdsa-p256")
    (release.home / f"{name}.key").write_bytes(encode_pem("PRIVATE KEY", key.pkcs8()))
    (release.home / f"{name}.pub").write_bytes(key.public.encode_pem())


def write_policy(release: Release, names: dict[str, str], of: list[str]) -> None:
    keys = "\n".join(f"  {name}: {{file: {file}}}" for name, file in names.items())
    (release.home / "policy.yaml").write_text(POLICY.format(keys=keys, of=", ".join(f"{{key: {name}}}" for name in of)))


def verify(release: Release):
    return release.sigkit("verify", "--policy", "policy.yaml", release.reference)


def test_c21_two_signatures_by_one_key_are_one_of_two(release):
    make_key(release, "K2")
    write_policy(release, {"one": "K.pub", "two": "K2.pub"}, ["one", "two"])
    for number in ("1", "2"):
        assert release.sign(f"n={number}").status == 0
    done = verify(release)
    assert done.status == 1
    assert "1 of 2 distinct" in done.said
    assert release.sigkit("sign", "--key", "K2.key", release.reference).status == 0
    assert verify(release).status == 0


def test_c21_a_key_twice_in_the_list_is_no_policy(release):
    write_policy(release, {"one": "K.pub"}, ["one", "one"])
    assert verify(release).status == 2


def test_c21_a_key_under_two_names_is_no_policy_or_one_signer(release):
    (release.home / "again.pub").write_bytes((release.home / "K.pub").read_bytes())
    write_policy(release, {"one": "K.pub", "two": "again.pub"}, ["one", "two"])
    assert release.sign().status == 0
    assert verify(release).status in {1, 2}


def test_c21_fifteen_keys_cost_no_more_requests_than_three_signatures(reg, release):
    names = {f"key{number}": f"key{number}.pub" for number in range(MANY)}
    for name in names:
        make_key(release, name)
    write_policy(release, names, list(names))
    for name in list(names)[:3]:
        assert release.sigkit("sign", "--key", f"{name}.key", release.reference).status == 0
    reg.forget()
    done = verify(release)
    assert done.status == 0, done.said
    evidence = [seen for seen in reg.seen("GET", "*") if "/referrers/" in seen.path or "/blobs/" in seen.path or "sha256:" in seen.path]
    assert len(evidence) <= 1 + 3 + 3
