"""C21, two signatures and one signer: a threshold counts keys, not signatures, and asking costs no more than what is attached."""

from __future__ import annotations

import pytest
from cryptography import x509

from sigkit.errors import DuplicateTrustedKey, Place, SameKeyTwice
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from sigkit.keys.public import parse_public_key
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT, new_key

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


def as_der(release: Release, name: str) -> str:
    """Write the public key K again as DER."""
    (release.home / name).write_bytes(parse_public_key((release.home / "K.pub").read_bytes(), Place("K.pub")).spki)
    return name


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_c21_a_key_under_two_names_is_no_policy_in_whatever_form(release, form):
    if form == "PEM":
        (release.home / "again").write_bytes((release.home / "K.pub").read_bytes())
    else:
        as_der(release, "again")
    write_policy(release, {"one": "K.pub", "two": "again"}, ["one", "two"])
    assert release.sign().status == 0
    done = verify(release)
    assert done.status == 2
    assert SameKeyTwice.code in done.said


def test_c21_a_key_as_pem_and_as_der_is_one_key_for_a_threshold_of_flags(release):
    assert release.sign().status == 0
    done = release.sigkit("verify", "--key", "K.pub", "--key", as_der(release, "K.der"), "--threshold", "2", release.reference)
    assert done.status == 2
    assert DuplicateTrustedKey.code in done.said


def test_c21_a_key_as_der_is_the_signer_that_it_is_as_pem(release):
    make_key(release, "K2")
    write_policy(release, {"one": as_der(release, "K.der"), "two": "K2.pub"}, ["one", "two"])
    for number in ("1", "2"):
        assert release.sign(f"n={number}").status == 0
    done = verify(release)
    assert done.status == 1
    assert "1 of 2 distinct" in done.said
    assert release.sigkit("sign", "--key", "K2.key", release.reference).status == 0
    assert verify(release).status == 0


IDENTITIES = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
trustedRoots:
  own: {{file: root.json}}
authorities:
  exact: {{trustedRoot: own, identity: {{issuer: "{issuer}", subject: "{subject}"}}}}
  pattern: {{trustedRoot: own, identity: {{issuer: "{issuer}", subjectRegExp: "https://git[.]example/.+"}}}}
rules:
  - images: "**"
    require:
      atLeast: {{n: 2, of: [{{authority: exact}}, {{authority: pattern}}]}}
"""


def test_c21_an_identity_that_signed_twice_with_two_certificates_is_one_signer(release):
    sim = Simulator()

    def sign() -> None:
        sim.key = new_key()
        release.sign_as(sim)

    (release.home / "policy.yaml").write_text(IDENTITIES.format(issuer=ISSUER, subject=SUBJECT))
    sign()
    sign()
    done = verify(release)
    assert done.status == 1
    assert "1 of 2 distinct" in done.said
    assert done.said.count("signed by identity") == 2
    sim.ca.names = [x509.UniformResourceIdentifier("https://git.example/another")]
    sign()
    assert verify(release).status == 0


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
