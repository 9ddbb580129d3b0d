"""Identities at the command line: who signed is told, who signed instead is listed, and what no trusted root vouches for is refused."""

from __future__ import annotations

import json
import shlex

import pytest

from sigkit.keys.private import generate
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

WHO = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")


def test_the_wanted_identity_is_verified_and_what_was_proved_is_told(release):
    release.sign_as(Simulator())
    done = release.sigkit("verify", *WHO, release.reference)
    assert done.status == 0, done.said
    assert done.out.startswith("verified  ")
    assert f"identity {SUBJECT} of {ISSUER}" in done.said
    assert "in log" in done.said
    answer = release.sigkit("--output", "json", "verify", *WHO, release.reference).answer
    assert answer["facts"][0]["signer"]["signer"]["subject"] == SUBJECT


def test_another_identity_is_refused_and_the_one_that_signed_is_listed(release):
    release.sign_as(Simulator())
    wanted = ("--certificate-identity", "other@acme.example", "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")
    done = release.sigkit("verify", *wanted, release.reference)
    assert done.status == 1
    assert "SK-IDENT-002" in done.said
    assert SUBJECT in done.said


@pytest.mark.parametrize(
    "typed",
    [
        "https://token.actions.githubusercontent.com/",
        "http://token.actions.githubusercontent.com",
        "https://Token.actions.githubusercontent.com",
    ],
)
def test_an_issuer_that_is_nearly_a_known_one_is_named(release, typed):
    release.sign_as(Simulator())
    wanted = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", typed, "--trusted-root", "root.json")
    done = release.sigkit("verify", *wanted, release.reference)
    assert done.status == 1
    assert "this issuer calls itself https://token.actions.githubusercontent.com" in done.said


def test_issuers_that_differ_by_a_slash_at_the_end_are_said_to(release):
    release.sign_as(Simulator())
    wanted = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", f"{ISSUER}/", "--trusted-root", "root.json")
    for verb in (("verify",), ("policy", "explain")):
        done = release.sigkit(*verb, *wanted, release.reference)
        assert done.status == 1
        assert "the issuers differ by a slash at the end" in done.said
        assert f"if that issuer is meant, write --certificate-oidc-issuer {ISSUER}\n" in done.out
        assert "sigkit sign" not in done.said  # as an issuer that nobody is
    second = ("--certificate-identity", "somebody@else.example", *wanted[2:])
    assert "by a slash" not in release.sigkit("verify", *second, release.reference).said


def test_whoever_signed_instead_is_told_as_the_flags_that_ask_for_them(release):
    release.sign_as(Simulator())
    wanted = ("--certificate-identity", "somebody@else.example", "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")
    told = release.sigkit("policy", "explain", *wanted, release.reference).out
    (line,) = [line for line in told.splitlines() if "may vouch for it" in line]
    given = shlex.split(line.partition(", give ")[2])
    assert release.sigkit("verify", *given, "--trusted-root", "root.json", release.reference).status == 0


def test_an_expression_must_fit_the_whole_identity(release):
    release.sign_as(Simulator())
    rest = ("--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json", release.reference)
    assert release.sigkit("verify", "--certificate-identity-regexp", SUBJECT[:8], *rest).status == 1
    assert release.sigkit("verify", "--certificate-identity-regexp", f"{SUBJECT[:8]}.*", *rest).status == 0


def test_another_instance_root_is_not_enough(release):
    release.sign_as(Simulator())
    (release.home / "root.json").write_bytes(Simulator().root())
    done = release.sigkit("verify", *WHO, release.reference)
    assert done.status in {1, 3}
    assert "verified" not in done.out
    assert "the trust root holds no such log" in done.said
    assert "it may be of another instance" in done.said


def test_roots_of_one_file_name_are_told_apart(release):
    release.sign_as(Simulator())
    for name, root in (("ours", (release.home / "root.json").read_bytes()), ("theirs", Simulator().root())):
        (release.home / name).mkdir()
        (release.home / name / "root.json").write_bytes(root)
    roots = ("--trusted-root", "theirs/root.json", "--trusted-root", "ours/root.json")
    done = release.sigkit("verify", "-v", *WHO[:4], *roots, release.reference)
    assert done.status == 0, done.said
    assert "of trust root ours/root.json" in done.said


def test_each_of_several_roots_counts_by_itself(release):
    release.sign_as(Simulator())
    (release.home / "other.json").write_bytes(Simulator().root())
    assert release.sigkit("verify", "--trusted-root", "other.json", *WHO, release.reference).status == 0


def test_an_identity_without_an_issuer_is_a_usage_error(release):
    done = release.sigkit("verify", "--certificate-identity", "a@b.example", release.reference)
    assert done.status == 2
    assert "--certificate-oidc-issuer" in done.said
    assert "trust root" not in done.said  # no root is opened first, whose age would be told


def test_a_key_and_an_identity_exclude_each_other(release):
    done = release.sigkit("verify", "--key", "K.pub", "--certificate-identity", "a@b.example", release.reference)
    assert done.status == 2


def test_the_age_of_the_copy_of_the_public_root_is_told(release):
    done = release.sigkit(
        "verify", "--certificate-identity", "a@b.example", "--certificate-oidc-issuer", "https://i.example", release.reference
    )
    assert done.status == 1
    assert "days old; `sigkit trust init public-good` fetches today's" in done.said


def test_an_attestation_is_verified_by_its_type_and_is_no_signature(release):
    release.sign_as(Simulator(), "https://spdx.dev/Document")
    assert release.sigkit("verify-attestation", "--type", "spdxjson", *WHO, release.reference).status == 0
    assert release.sigkit("verify-attestation", "--type", "slsaprovenance1", *WHO, release.reference).status == 1
    assert release.sigkit("verify", *WHO, release.reference).status == 1


def test_annotations_can_be_asked_for(release):
    release.sign("env=prod")
    assert release.sigkit("verify", "--key", "K.pub", "-a", "env=prod", release.reference).status == 0
    assert release.sigkit("verify", "--key", "K.pub", "-a", "env=test", release.reference).status == 1


@pytest.mark.parametrize("flag", ["--use-signed-timestamps", "--insecure-ignore-tlog", "--insecure-ignore-sct"])
def test_what_a_policy_would_not_hear_is_a_usage_error_beside_it(release, flag):
    done = release.sigkit("verify", "--policy", "policy.yaml", flag, release.reference)
    assert done.status == 2
    assert f"{flag} goes with --key or an identity" in done.said


def other_key(release) -> None:
    key = generate("ecdsa-p256")
    (release.home / "L.pub").write_bytes(key.public.encode_pem())


def test_a_threshold_counts_distinct_keys(release):
    release.sign("a=1")
    release.sign("a=2")
    other_key(release)
    keys = ("--key", "K.pub", "--key", "L.pub")
    assert release.sigkit("verify", *keys, "--threshold", "1", release.reference).status == 0
    assert release.sigkit("verify", *keys, "--threshold", "2", release.reference).status == 1
    assert release.sigkit("verify", *keys, "--threshold", "3", release.reference).status == 2


def test_many_images_get_a_line_each_in_their_order(release):
    release.sign()
    (release.home / "list.txt").write_text(f"# these\n{release.reference}\n\n{release.address}/t/app:absent\n")
    done = release.sigkit("verify", "--key", "K.pub", "-f", "list.txt")
    assert done.status == 3
    first, second = done.out.splitlines()
    assert first.startswith("verified  ")
    assert second.startswith("could not check  ")
    done = release.sigkit("--output", "json", "verify", "--key", "K.pub", release.reference, release.reference)
    assert done.status == 0
    assert json.loads(done.out)["schema"] == "sigkit.verify-many/1"
    assert [item["decision"]["outcome"] for item in done.answer["images"]] == ["allow", "allow"]


def test_one_refused_image_among_many_is_a_refusal(release):
    other_key(release)
    done = release.sigkit("verify", "--key", "L.pub", release.reference, f"{release.address}/t/app:absent")
    assert done.status == 1
    assert done.out.splitlines()[0].startswith("refused  ")


def test_no_image_at_all_is_a_usage_error(release):
    (release.home / "empty.txt").write_text("# nothing\n")
    assert release.sigkit("verify", "--key", "K.pub", "-f", "empty.txt").status == 2
    assert release.sigkit("verify", "--key", "K.pub").status == 2
