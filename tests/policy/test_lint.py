"""`policy check` says what a policy means and what in it deserves a second look."""

import json

import pytest

from sigkit.errors import SigkitError
from sigkit.policy.lint import check_policy, encode_summary, summary_lines
from tests.simulators.verdicts import private

HEAD = "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\nkeys:\n  a: {file: a.pub}\n  b: {file: b.pub}\n"
BOTH = "require: {anyOf: [{key: a}, {key: b}]}"


@pytest.fixture
def check(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.pub").write_bytes(private(name).public.encode_pem())

    def checked(rules: str):
        path = tmp_path / "policy.yaml"
        path.write_text(f"{HEAD}rules:\n{rules}")
        return check_policy(path)

    return checked


def test_a_plain_policy_has_no_warnings(check):
    assert check(f"  - images: reg.example/**\n    {BOTH}\n").warnings == ()


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        pytest.param("images: reg.example/**\n    require: {key: a}", "key `b` is named by no rule", id="unused-key"),
        pytest.param(f"images: reg.example/**\n    {BOTH}\n    name: any", "`name: any`", id="any-name"),
        pytest.param(f"images: reg.example/**\n    {BOTH}\n    mode: warn", "`mode: warn`", id="warn"),
        pytest.param("images: '**'\n    unverified: {reason: x}", "every image that no other rule matches", id="everything-unverified"),
        pytest.param("images: reg.example/x\n    unverified: {reason: x}", "these images start without any evidence", id="unverified"),
        pytest.param("images: reg.example/x\n    require: {allOf: [{key: a}]}", "a list of one", id="list-of-one"),
        pytest.param("images: x.y/z\n    require: {atLeast: {n: 2, of: [{key: a}, {key: b}]}}", "`allOf` says so", id="all-of-them"),
        pytest.param("images: x.y/z\n    require: {atLeast: {n: 1, of: [{key: a}, {key: b}]}}", "`anyOf` says so", id="one-of-them"),
        pytest.param(f"images: [x.y/*, x.y/z]\n    {BOTH}", "adds nothing", id="pattern-that-adds-nothing"),
        pytest.param(f"images: x.y/z\n    {BOTH}\n    run: {{command: any}}", "`command: any`", id="any-command"),
        pytest.param(f"images: x.y/z\n    {BOTH}\n    run: {{environment: ['*']}}", "LD_PRELOAD", id="any-variable"),
        pytest.param(f"images: x.y/z\n    {BOTH}\n    run: {{network: host}}", "`network: host`", id="host-network"),
        pytest.param(f"images: x.y/z\n    {BOTH}\n    run: {{capabilities: [SYS_ADMIN]}}", "SYS_ADMIN", id="sys-admin"),
        pytest.param(f"images: x.y/z\n    {BOTH}\n    run: {{mounts: [{{from: /}}]}}", "the whole host", id="whole-host"),
        pytest.param(
            f"images: x.y/z\n    {BOTH}\n    run: {{mounts: [{{from: /srv, to: /}}]}}", "also over the image's programs", id="anywhere"
        ),
    ],
)
def test_what_may_not_be_meant_is_said_with_its_place(check, rule, part):
    summary = check(f"  - {rule}\n")
    assert [warning for warning in summary.warnings if part in warning.text]
    assert any(part in line for line in summary_lines(summary))


def test_a_summary_says_what_each_rule_asks_for(check):
    summary = check(
        "  - images: reg.example/**\n    require: {allOf: [{key: a}, {atLeast: {n: 1, of: [{key: b}]}}]}\n"
        "    name: {remap: [{from: reg.example, to: up.example}]}\n"
        '  - images: old.example/*\n    unverified: {reason: "OPS-1 \\e[2J"}\n    run: {command: [[/bin/app, --x]], user: any}\n'
    )
    text = "\n".join(summary_lines(summary))
    assert "all of (key a; at least 1 of (key b))" in text
    assert "reg.example was signed as up.example" in text
    assert "starts unverified: OPS-1" in text
    assert "/bin/app --x" in text
    assert "\x1b" not in text


def test_the_document_names_rules_keys_and_warnings(check):
    document = json.loads(json.dumps(encode_summary(check("  - {images: reg.example/*, tags: 'v*', require: {key: a}}\n"))))
    assert document["schema"] == "sigkit.policy/1"
    assert document["rules"][0]["images"] == ["reg.example/*"]
    assert document["rules"][0]["tags"] == ["v*"]
    assert document["keys"][0]["fingerprint"] == str(private("a").public.fingerprint)
    assert document["warnings"][0]["text"] == "key `b` is named by no rule"


def test_a_policy_that_cannot_be_used_is_refused(check):
    with pytest.raises(SigkitError):
        check("  - images: reg.example/**\n")


UNANCHORED = "https://git.example/acme/app/.github/workflows/"


def identity(subject: str, authority: str = "") -> str:
    return f"authorities: {{ci: {{identity: {{issuer: https://issuer.example, {subject}}}{authority}}}}}\n"


@pytest.fixture
def check_identity(tmp_path):
    def checked(before: str):
        path = tmp_path / "policy.yaml"
        rule = "rules:\n  - images: reg.example/**\n    require: {authority: ci}\n"
        path.write_text(f"apiVersion: sigkit.dev/v1alpha1\nkind: Policy\n{before}{rule}")
        return check_policy(path)

    return checked


def test_c14_an_expression_that_may_not_be_meant_is_warned_of_with_column_and_suggestion(check_identity):
    summary = check_identity(identity(f"subjectRegExp: '{UNANCHORED}'"))
    told = "\n".join(summary_lines(summary))
    assert "unescaped dot at column 12" in told
    assert "unescaped dot at column 30" in told
    assert f"it can match one string only, the whole of it; write {UNANCHORED} as exact text" in told
    assert "the expression https://git[.]example/acme/app/[.]github/workflows/.+" in told
    assert all(warning.place.inside.startswith("3:") for warning in summary.warnings)


def test_c14_an_expression_that_is_meant_is_not_warned_of(check_identity):
    expression = r"^https://git\.example/acme/app/\.github/workflows/release\.yml@refs/(heads/main|tags/v.+)$"
    assert check_identity(identity(f"subjectRegExp: '{expression}'")).warnings == ()


def test_expressions_of_extensions_and_issuers_are_looked_over_too(check_identity):
    extensions = "extensions: {sourceRepositoryURI: {regExp: 'https://git.example/.+'}}"
    assert "sourceRepositoryURI" in check_identity(identity(f"subject: x, {extensions}")).warnings[0].text


def test_an_identity_without_a_log_is_warned_of(check_identity):
    summary = check_identity(identity("subject: x@y.example", ", logEntries: 0"))
    assert "stolen identity" in summary.warnings[0].text
    assert check_identity(identity("subject: x@y.example", ", logEntries: 0, logInclusions: 1")).warnings == ()


@pytest.mark.parametrize(("field", "most"), [("logEntries", 2), ("logInclusions", 2), ("timestamps", 1), ("certificateLogs", 2)])
def test_a_demand_that_no_evidence_can_meet_is_warned_of(check_identity, field, most):
    (warning,) = check_identity(identity("subject: x@y.example", f", {field}: {most + 1}")).warnings
    assert f"`{field}: {most + 1}` can never be met" in warning.text
    assert check_identity(identity("subject: x@y.example", f", {field}: {most}")).warnings == ()


def test_what_no_rule_names_is_warned_of(check_identity):
    unused = "  other: {identity: {issuer: x, subject: y}}\n"
    text = f"authorities:\n  ci: {{identity: {{issuer: x, subject: y}}}}\n{unused}"
    assert [warning.text for warning in check_identity(text).warnings] == ["authority `other` is named by no rule"]


def test_a_summary_says_who_is_meant_and_what_must_vouch(check_identity):
    told = "\n".join(summary_lines(check_identity(identity("subject: x@y.example", ", timestamps: 2"))))
    assert "authority ci: identity x@y.example of https://issuer.example, certified by public-good" in told
    assert "logEntries 1, timestamps 2, certificateLogs 1" in told


INSTANCE = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
authorities:
  ci: {identity: {issuer: https://issuer.example, subjectRegExp: https://git.example/.+}}
rules:
  - images: "**"
    require: {allOf: [{authority: ci}, {attestation: {type: vuln, by: {authority: ci}}}]}
"""


def test_whose_word_counts_and_when_is_told_with_an_end_that_is_missing(tmp_path):
    (tmp_path / "policy.yaml").write_text(INSTANCE)
    summary = check_policy(tmp_path / "policy.yaml")
    told = [line for line in summary_lines(summary) if " of public-good: from " in line]
    assert any(line.startswith("  log ") and line.endswith(", no end") for line in told)
    assert any(", until 20" in line for line in told)
    trusted = json.loads(json.dumps(encode_summary(summary)))["trusted"]
    assert len(trusted) == len(told) == len({json.dumps(item) for item in trusted})
    assert {item["kind"] for item in trusted} == {"certificate authority", "certificate log", "log", "timestamp authority"}


def test_an_authority_that_is_named_twice_is_warned_of_once(tmp_path):
    (tmp_path / "policy.yaml").write_text(INSTANCE)
    assert len(check_policy(tmp_path / "policy.yaml").warnings) == 1
