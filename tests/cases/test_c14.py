"""C14, identity expressions: they fit the whole name or nothing, a doubtful one is warned of, and a refusal lists who was found."""

from __future__ import annotations

import json

import pytest
from cryptography import x509

from sigkit.cli.main import run
from sigkit.errors import WrongIdentity
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

WORKFLOWS = "https://git.example/acme/app/.github/workflows/"
RELEASE = r"^https://git\.example/acme/app/\.github/workflows/release\.yml@refs/(heads/main|tags/v.+)$"
SLASHES = "https://git.example/g/p//.gitlab-ci.yml@refs/heads/trunk"
POLICY = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
rules:
  - images: "**"
    require:
      identity:
        issuer: https://issuer.example
        subjectRegExp: {expression}
"""


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """Let whoever is named sign a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(FILE)

    def sign(subject: str = SUBJECT) -> None:
        sim = Simulator()
        sim.ca.names = [x509.UniformResourceIdentifier(subject)]
        case = sim.make("message", ("hashedrekord",))
        (tmp_path / "b.json").write_bytes(case.parts["bundle"])
        (tmp_path / "root.json").write_bytes(case.root)

    return sign


def verify(*identity: str, issuer: str = ISSUER, more: tuple[str, ...] = ()) -> int:
    evidence = ("--trusted-root", "root.json", "--bundle", "b.json", "file")
    return run(["verify-blob", *identity, "--certificate-oidc-issuer", issuer, *more, *evidence])


def fits(expression: str) -> bool:
    return verify("--certificate-identity-regexp", expression) == 0


@pytest.mark.parametrize(
    "subject",
    [
        f"{WORKFLOWS}release.yml@refs/heads/main",
        f"https://evil.example/?x={WORKFLOWS}",
        f"{WORKFLOWS.replace('git.example', 'gitXexample')}release.yml@refs/heads/main",
    ],
)
def test_c14_the_beginning_of_a_name_fits_no_name_that_goes_on_and_none_around_it(signed, subject):
    signed(subject)
    assert not fits(WORKFLOWS)


@pytest.mark.parametrize(
    ("subject", "fitting"),
    [
        (f"{WORKFLOWS}release.yml@refs/heads/main", True),
        (f"{WORKFLOWS}release.yml@refs/tags/v1", True),
        (f"{WORKFLOWS}release.yml@evil.yml@refs/heads/main", False),
        (f"{WORKFLOWS}release.yml@refs/heads/main\n", False),
        (f"{WORKFLOWS}release.yml@refs/heads/maine", False),
        (f"{WORKFLOWS.replace('git.example', 'gitXexample')}release.yml@refs/heads/main", False),
    ],
)
def test_c14_an_expression_with_its_dots_escaped_fits_what_it_says(signed, subject, fitting):
    signed(subject)
    assert fits(RELEASE) is fitting


@pytest.mark.parametrize("written", ["{}", "^{}$"])
def test_c14_anchors_change_nothing(signed, written):
    signed()
    assert fits(written.format(SUBJECT.replace(".", "[.]")))


def test_c14_a_double_slash_fits_only_as_written(signed):
    signed(SLASHES)
    assert verify("--certificate-identity", SLASHES) == 0
    assert verify("--certificate-identity", SLASHES.replace("p//", "p/")) == 1
    assert fits(SLASHES.replace(".", "[.]"))
    assert not fits(SLASHES.replace(".", "[.]").replace("p//", "p/"))


def test_c14_another_issuer_is_refused_whatever_the_name(signed):
    signed()
    assert verify("--certificate-identity-regexp", ".*", issuer="https://other.example") == 1


def test_c14_an_expression_that_is_none_is_a_usage_error(signed):
    signed()
    assert verify("--certificate-identity-regexp", "(") == 2


def test_c14_where_none_fits_those_that_were_found_are_listed_escaped(signed, capsys):
    signed("https://evil.example/\x1b[2Jx")
    assert verify("--certificate-identity", SUBJECT) == 1
    told = capsys.readouterr().out
    assert WrongIdentity.code in told
    assert r"https://evil.example/\x1b[2Jx of https://issuer.example" in told
    assert verify("--certificate-identity", SUBJECT, more=("--output", "json")) == 1
    answer = json.loads(capsys.readouterr().out)
    assert "https://evil.example/\x1b[2Jx of https://issuer.example" in answer["reasons"][0]["got"]


def check(tmp_path, capsys, expression: str) -> list[str]:
    (tmp_path / "policy.yaml").write_text(POLICY.format(expression=expression))
    capsys.readouterr()
    assert run(["policy", "check", "--output", "json", str(tmp_path / "policy.yaml")]) == 0
    return [warning["text"] for warning in json.loads(capsys.readouterr().out)["warnings"]]


def test_c14_a_policy_with_a_doubtful_expression_is_warned_of_with_what_may_be_meant(tmp_path, capsys):
    warnings = check(tmp_path, capsys, WORKFLOWS)
    assert any(f"unescaped dot at column {WORKFLOWS.index('.') + 1}" in text for text in warnings)
    one = next(text for text in warnings if "one string only" in text)
    assert f"write {WORKFLOWS} as exact text" in one
    assert check(tmp_path, capsys, f"'{RELEASE}'") == []
