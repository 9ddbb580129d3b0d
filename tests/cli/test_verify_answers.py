"""What can go wrong with an image reads differently each time: nobody has to guess which of them it was."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from sigkit.errors import AbsentReference, NoSuchPlatform, Unsigned, WrongIdentity, WrongKey, WrongName
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators.command import SIGKIT
from tests.simulators.images import AMD64, push_index, small_image
from tests.simulators.release import Done, Release
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT


def verify(release: Release, reference: str, *arguments: str, who: tuple[str, ...] = ("--key", "K.pub")) -> Done:
    return release.sigkit("verify", *who, *arguments, reference)


def both(release: Release, reference: str, status: int, *arguments: str, who: tuple[str, ...] = ("--key", "K.pub")) -> tuple[str, Any]:
    """Return the verdict for a person and for a program, which end alike."""
    told = verify(release, reference, *arguments, who=who)
    answered = verify(release, reference, "--output", "json", *arguments, who=who)
    assert (told.status, answered.status) == (status, status), told.said
    return told.said, answered.answer


def reason(answer: Any) -> Any:
    assert (answer["schema"], answer["outcome"]) == ("sigkit.decision/1", "deny")
    return answer["reasons"][0]


def test_flags_grant_nothing_that_a_verdict_could_tell(release):
    release.sign()
    done = verify(release, release.reference, "--output", "json")
    assert (done.answer["outcome"], done.answer["grant"]) == ("allow", None)
    assert len(done.answer["tree"]["evidence"]) == 1


def test_an_expression_that_one_string_fits_is_told(release):
    release.sign_as(Simulator())
    rest = ("--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")
    literal = verify(release, release.reference, who=("--certificate-identity-regexp", "ci@acme", *rest))
    assert "it can match one string only" in literal.err
    assert "one string" not in verify(release, release.reference, who=("--certificate-identity-regexp", "ci@acme.*", *rest)).err


def test_the_wrong_platform(release):
    with open_registry(RegistryOptions()) as client:
        push_index(client, Repository(release.address, "t/app"), {AMD64: small_image(b"amd")}, "multi")
    image = f"{release.address}/t/app:multi"
    said, answer = both(release, image, 3, "--platform", "linux/s390x")
    assert said.startswith(f"could not check {NoSuchPlatform.code} ")
    assert "linux/amd64" in said
    assert f"where {image}" in said
    error = answer["error"]
    assert (answer["schema"], error["code"], error["got"]) == ("sigkit.error/1", NoSuchPlatform.code, "linux/amd64")


def test_the_wrong_platform_of_an_image_without_an_index(release):
    release.sign()
    said, answer = both(release, release.reference, 3, "--platform", "linux/s390x")
    assert said.startswith(f"could not check {NoSuchPlatform.code} the image is built for linux/amd64")
    assert answer["error"]["place"]["source"] == release.reference
    ours = verify(release, release.reference, "--output", "json", "--platform", "linux/amd64")
    assert (ours.status, ours.answer["request"]["platform"]) == (0, "linux/amd64")


def test_the_platform_of_an_image_is_not_said_by_who_did_not_read_it(release):
    release.sign()
    answer = verify(release, release.reference, "--output", "json").answer
    assert answer["request"]["platform"] is None


def test_a_platform_is_not_asked_of_evidence_in_files(release):
    bundle = ("--bundle", "b.json", "--platform", "linux/amd64")
    assert verify(release, f"{release.address}/t/app@sha256:{'0' * 64}", *bundle).status == 2


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_refusal_is_told_on_stderr_where_stdout_leads_elsewhere(release, form):
    done = verify(release, release.reference, "--output", form)
    assert done.status == 1
    assert done.err.startswith(f"refused  {release.reference}  ")
    assert f"[{Unsigned.code}]" in done.err
    command = ["sh", "-c", '"$@" 2>&1', "sh", *SIGKIT, "verify", "--key", "K.pub", release.reference]
    both = subprocess.run(command, cwd=release.home, capture_output=True, text=True, timeout=60, check=False)
    assert both.stdout.count(Unsigned.code) == 2  # the answer's reason, and its `sigkit why`: not again


def test_the_wrong_key(release):
    key = generate("ecdsa-p256")
    (release.home / "L.key").write_bytes(encode_pem("PRIVATE KEY", key.pkcs8()))
    assert release.sigkit("sign", "--key", "L.key", release.reference).status == 0
    said, answer = both(release, release.reference, 1)
    assert WrongKey.code in said
    assert reason(answer)["code"] == WrongKey.code
    assert "a key that is not trusted here" in reason(answer)["got"]


def test_the_wrong_name(release):
    assert release.sign().status == 0
    copied = f"{release.address}/t/copy:v1"
    assert release.sigkit("copy", release.reference, copied).status == 0
    said, answer = both(release, copied, 1)
    assert WrongName.code in said
    found = reason(answer)
    assert (found["code"], found["got"]) == (WrongName.code, f"{release.address}/t/app")
    assert found["expected"] == f"the name {release.address}/t/copy"


def test_the_wrong_identity(release):
    release.sign_as(Simulator())
    who = ("--certificate-identity", "other@acme.example", "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")
    said, answer = both(release, release.reference, 1, who=who)
    assert f"found identity {SUBJECT} of {ISSUER}" in said
    assert (reason(answer)["code"], reason(answer)["got"]) == (WrongIdentity.code, f"identity {SUBJECT} of {ISSUER}")
    assert answer["facts"][0]["signer"]["signer"]["subject"] == SUBJECT


def test_no_signature(release):
    said, answer = both(release, release.reference, 1)
    assert Unsigned.code in said
    assert (reason(answer)["code"], answer["facts"], answer["refused"]) == (Unsigned.code, [], [])


def test_no_image(release):
    said, answer = both(release, f"{release.address}/t/app:absent", 3)
    assert said.startswith(f"could not check {AbsentReference.code} ")
    assert (answer["exit"], answer["error"]["code"]) == (3, AbsentReference.code)


def test_what_could_not_be_checked(reg, release):
    assert release.sign().status == 0
    reg.on("GET", "*/referrers/*").status(500)
    said, answer = both(release, release.reference, 3)
    assert said.startswith("could not check ")
    assert answer["error"]["kind"] == "UNAVAIL"


def test_evidence_that_could_not_be_read_is_no_refusal(reg, release):
    assert release.sign().status == 0
    reg.on("GET", "*/blobs/*").status(500)
    said, answer = both(release, release.reference, 3)
    assert said.startswith("could not check ")
    assert (answer["schema"], answer["error"]["kind"]) == ("sigkit.error/1", "UNAVAIL")


@pytest.mark.parametrize(
    "arguments", [("verify", "--key", "K.pub", "--platform", "linux/s390x"), ("verify", "--key", "K.pub", "--layout", "none")]
)
def test_an_error_has_four_lines_at_most(release, arguments):
    with open_registry(RegistryOptions()) as client:
        push_index(client, Repository(release.address, "t/app"), {AMD64: small_image(b"amd")}, "multi")
    done = release.sigkit(*arguments, f"{release.address}/t/app:multi")
    assert done.out == ""
    assert 2 <= len(done.err.splitlines()) <= 4  # what, where, expected and got, what to do: or `sigkit why` where nothing else is known


def test_a_refusal_leads_to_what_the_evidence_says_and_the_command_that_it_names_works(release):
    assert release.sign().status == 0
    copied = f"{release.address}/t/copy:v1"
    assert release.sigkit("copy", release.reference, copied).status == 0
    steps = [line.split("next", 1)[1].strip() for line in verify(release, copied).out.splitlines() if line.startswith("  next ")]
    inspect = next(step for step in steps if step.startswith("sigkit inspect ")).partition(" · ")[0]
    assert release.sigkit(*inspect.split()[1:]).status == 0
    why = next(step for step in steps if step.startswith("sigkit why "))
    assert release.sigkit(*why.split()[1:]).status == 0


def test_a_file_of_the_operator_that_is_wrong_is_about_no_image(release):
    (release.home / "auth.json").write_text("{")
    done = verify(release, release.reference, release.reference, "--authfile", "auth.json")
    assert done.status == 2
    assert done.out == ""
