"""What a refusal tells a person to run can be run: pasted into the same directory, no command is a usage error."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sigkit.errors import NoIdentityToken, TimeInFuture, WrongAnnotation, WrongIdentity, WrongName
from sigkit.keys.private import generate
from sigkit.trust import bundled
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT
from tests.simulators.sigstore_logs import Clock

WHO = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)
OTHER = ("--certificate-identity-regexp", r"release@acme\.example", "--certificate-oidc-issuer", ISSUER)
ROOT = ("--trusted-root", "root.json")
POLICY = """\
apiVersion: sigkit.dev/v1alpha1
kind: Policy
trustedRoots: {{acme: {{file: {file}}}}}
authorities:
  ci: {{trustedRoot: acme, identity: {{issuer: "https://issuer.example", subjectRegExp: 'ci@other\\.example'}}}}
rules:
  - {{images: "**", require: {{authority: ci}}}}
"""
FILLED_IN = {"KEY": "K.key", "CONFIG": "config.json", "PREDICATE": "p.json", "OUT": "out.json"}


@pytest.fixture(autouse=True)
def home(release, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGKIT_TRUST", str(tmp_path / "trust"))
    (tmp_path / "p.json").write_text('{"a": 1}')
    (tmp_path / "file").write_text("x")
    (tmp_path / "config.json").write_bytes(Path(bundled.__file__).with_name("public_good_signing_config.json").read_bytes())
    return tmp_path


def commands_of(done) -> list[list[str]]:
    """Return each command that stands on a line of its own, with the words that only the user knows filled in."""
    told = re.findall(r"^ +(?:next|change|or) +(sigkit .*)$", done.out + done.err, re.MULTILINE)
    return [[FILLED_IN.get(word, word) for word in shlex.split(line, comments=True)[1:]] for line in told]


def assert_can_be_run(release, *arguments: str) -> list[list[str]]:
    """Run a command that is refused, and everything that it tells to run."""
    done = release.sigkit(*arguments)
    assert done.status == 1, done.said
    commands = commands_of(done)
    assert commands, done.said
    for command in commands:
        ran = release.sigkit(*command)
        assert ran.status != 2 or NoIdentityToken.code in ran.said, (command, ran.said)
    return commands


def test_a_root_that_only_the_policy_names_is_named_by_its_file(release, home):
    release.sign_as(Simulator())
    (home / "rules").mkdir()
    (home / "rules/root").write_bytes((home / "root.json").read_bytes())
    (home / "rules/policy.yaml").write_text(POLICY.format(file="root"))
    for verb in (("verify",), ("policy", "explain")):
        commands = assert_can_be_run(release, *verb, "--policy", "rules/policy.yaml", release.reference)
        (sign,) = [command for command in commands if command[0] == "sign"]
        assert sign[1:5] == ["--trusted-root", "rules/root", "--signing-config", "config.json"]


def test_a_root_beside_the_policy_is_a_file_and_no_name(release, home):
    release.sign_as(Simulator())
    (home / "root").write_bytes((home / "root.json").read_bytes())
    (home / "policy.yaml").write_text(POLICY.format(file="root"))
    commands = assert_can_be_run(release, "verify", "--policy", "policy.yaml", release.reference)
    assert "./root" in next(command for command in commands if command[0] == "sign")


def test_a_pinned_root_is_named_by_its_pin(release, home):
    release.sign_as(Simulator())
    assert release.sigkit("trust", "pin", "acme", "root.json").status == 0
    (home / "policy.yaml").write_text(POLICY.format(file="root.json").replace("{file: root.json}", "{pinned: acme}"))
    commands = assert_can_be_run(release, "verify", "--policy", "policy.yaml", release.reference)
    assert ["sign", "--trusted-root", "acme", "--signing-config", "config.json"] in [command[:5] for command in commands]


def test_the_public_instance_needs_not_be_named(release, home):
    (home / "policy.yaml").write_text(POLICY.format(file="root.json").replace("trustedRoot: acme, ", ""))
    (home / "root.json").write_bytes(Simulator().root())
    for flags in (("--policy", "policy.yaml"), WHO):
        commands = assert_can_be_run(release, "verify", *flags, release.reference)
        assert ["sign", release.reference.replace(":v1", f"@{release.image.digest}")] in commands


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((*OTHER, *ROOT), id="identity"),
        pytest.param((*WHO, *ROOT, "--annotations", "env=it's prod"), id="annotation"),
        pytest.param(("--key", "K.pub"), id="key"),
        pytest.param((*OTHER, *ROOT, "--allow-http-registry", "--timeout", "77"), id="connection"),
    ],
)
def test_the_flags_that_were_given_are_given_again(release, flags):
    release.sign_as(Simulator())
    done = release.sigkit("verify", *flags, release.reference)
    assert WrongIdentity.code in done.said or WrongAnnotation.code in done.said or "--key" in flags
    commands = assert_can_be_run(release, "verify", *flags, release.reference)
    explain = next(command for command in commands if command[:2] == ["policy", "explain"])
    assert sorted(explain) == sorted(["policy", "explain", *flags, release.reference])
    if "--timeout" in flags:
        inspect = next(command for command in commands if command[0] == "inspect")
        assert {"--allow-http-registry", "--timeout", "77"} <= set(inspect)


def test_the_remedy_of_another_name_keeps_the_instance(release):
    release.sign_as(Simulator())
    other = f"{release.address}/t/other:v1"
    assert release.sigkit("copy", release.reference, other).status == 0
    done = release.sigkit("verify", *WHO, *ROOT, "--name", "repository", other)
    assert WrongName.code in done.said or "names no repository" in done.said
    commands = assert_can_be_run(release, "verify", *WHO, *ROOT, "--name", "repository", other)
    assert "--trusted-root root.json --signing-config config.json" in " ".join(commands[0])


def test_a_signing_config_that_lies_beside_the_root_is_named(release, home):
    release.sign_as(Simulator())
    (home / "clients").mkdir()
    (home / "root.json").rename(home / "clients/trusted_root.json")
    (home / "config.json").rename(home / "clients/signing_config.json")
    root = ("--trusted-root", "clients/trusted_root.json")
    commands = assert_can_be_run(release, "verify", *OTHER, *root, release.reference)
    assert ["sign", *root, "--signing-config", "clients/signing_config.json"] in [command[:5] for command in commands]


def test_attestations_files_and_many_images_tell_commands_too(release):
    release.sign_as(Simulator(), "https://spdx.dev/Document")
    attested = ("--type", "https://acme.example/t", release.reference)
    assert_can_be_run(release, "verify-attestation", *WHO, *ROOT, *attested)
    assert release.sigkit("sign-blob", "--key", "K.key", "--bundle", "a b.json", "file").status == 0
    (release.home / "L.pub").write_bytes(generate("ecdsa-p256").public.encode_pem())
    commands = assert_can_be_run(release, "verify-blob", "--key", "L.pub", "--bundle", "a b.json", "file")
    assert ["inspect", "a b.json"] in commands
    (release.home / "list").write_text(f"{release.reference}\n{release.reference}\n")
    commands = assert_can_be_run(release, "verify", "--key", "K.pub", "-f", "list")
    assert commands == [["verify", "--key", "K.pub", release.reference]]


def test_an_expression_is_printed_as_it_was_given(release):
    release.sign_as(Simulator())
    done = release.sigkit("verify", *OTHER, *ROOT, release.reference)
    assert done.out.count(r"release@acme\.example") >= 2
    many = release.sigkit("verify", *OTHER, *ROOT, release.reference, release.reference)
    assert r"\\." not in done.out + done.err + many.out + many.err
    document = json.loads(release.sigkit("verify", "--output", "json", *OTHER, *ROOT, release.reference).out)
    assert r"/release@acme\.example/" in document["reasons"][0]["problem"]


def test_a_clock_that_is_behind_is_named_with_both_times_and_a_way_to_set_it(release):
    ahead = Clock()
    ahead.now = datetime.now(UTC) + timedelta(hours=3)
    release.sign_as(Simulator(ahead))
    done = release.sigkit("verify", *WHO, *ROOT, release.reference)
    assert done.status == 1
    assert TimeInFuture.code in done.said
    assert "this machine's clock is behind, or that one is ahead" in done.said
    assert re.search(r"wanted +until 20\S+Z, this machine's clock", done.out)
    assert re.search(r"found +20\S+Z by ", done.out)
    assert done.out.index("timedatectl") < done.out.index("do not use it")


def test_no_flag_is_advised_that_goes_with_no_policy(release, home):
    release.sign_as(Simulator())
    (home / "root.json").write_bytes(Simulator().root())
    (home / "policy.yaml").write_text(POLICY.format(file="root.json"))
    done = release.sigkit("verify", "--policy", "policy.yaml", release.reference)
    assert done.status == 1
    assert "--trusted-root, or in a policy `trustedRoots`" in done.said
    assert "(--trusted-root)" not in done.said
