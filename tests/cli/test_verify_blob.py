"""Files at the command line: by bundle, by bare signature, by digest; what was signed about them, and by whom."""

from __future__ import annotations

import hashlib
import json
import re
import shutil

import pytest

from sigkit.evidence.predicate_types import PREDICATE_TYPES
from tests.simulators.hand import Hand
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """Everything that costs a key's derivation, made once; each test works in its own copy."""
    directory = tmp_path_factory.mktemp("signed")
    made = Hand(directory)
    made("key", "generate", "--output-key-prefix", "k")
    made("key", "generate", "--output-key-prefix", "other")
    (directory / "file").write_bytes(FILE)
    (directory / "more").write_bytes(FILE + b"!")
    made("sign-blob", "--key", "k.key", "--bundle", "b.json", "--output-signature", "s.sig", "file")
    (directory / "p.json").write_text('{"a": 1}')
    made("attest-blob", "--key", "k.key", "--predicate", "p.json", "--type", "custom", "--bundle", "a.json", "file")
    return directory


@pytest.fixture
def hand(signed, tmp_path):
    shutil.copytree(signed, tmp_path, dirs_exist_ok=True)
    return Hand(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(("verify-blob", "--key", "k.pub", "--bundle", "b.json", "file"), 0, id="bundle"),
        pytest.param(("verify-blob", "--key", "k.pub", "--signature", "s.sig", "file"), 0, id="bare signature"),
        pytest.param(("verify-blob", "--key", "k.pub", "--bundle", "b.json", f"sha256:{hashlib.sha256(FILE).hexdigest()}"), 0, id="digest"),
        pytest.param(("verify-blob", "--key", "k.pub", "--bundle", "b.json", "more"), 1, id="another file"),
        pytest.param(("verify-blob", "--key", "other.pub", "--bundle", "b.json", "file"), 1, id="another key"),
        pytest.param(("verify-blob", "--key", "k.pub", "--bundle", "a.json", "file"), 1, id="an attestation is no signature"),
        pytest.param(("verify-blob-attestation", "--key", "k.pub", "--type", "custom", "--bundle", "a.json", "file"), 0, id="attestation"),
        pytest.param(("verify-blob-attestation", "--key", "k.pub", "--type", "vuln", "--bundle", "a.json", "file"), 1, id="another type"),
        pytest.param(("verify-blob", "--key", "k.pub", "file"), 2, id="no evidence"),
        pytest.param(("verify-blob", "--bundle", "b.json", "file"), 2, id="no signer"),
        pytest.param(("verify-blob", "--key", "k.pub", "--policy", "p.json", "--bundle", "b.json", "file"), 2, id="a policy, of images"),
        pytest.param(("verify-blob", "--key", "k.pub", "--name", "repository", "--bundle", "b.json", "file"), 2, id="a name, of images"),
        pytest.param(("verify-blob", "--key", "k.pub", "--bundle", "absent", "file"), 2, id="an absent bundle"),
        pytest.param(("verify-blob", "--key", "k.pub", "--bundle", "b.json", "absent"), 2, id="an absent file"),
        pytest.param(("verify-blob", "--key", "k.pub", "--bundle", "b.json", "--signature", "s.sig", "file"), 2, id="two evidences"),
    ],
)
def test_a_file_gets_its_verdict(hand, arguments, expected):
    hand(*arguments, status=expected)


def test_a_changed_file_is_named_as_the_cause(hand):
    said = hand("verify-blob", "--key", "k.pub", "--bundle", "b.json", "more", status=1).out
    assert "the signature of a file with another digest" in said
    for content in (FILE, FILE + b"!"):
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" in said
    assert "next        do not use it" in said


def test_a_bare_signature_that_does_not_fit_is_blamed_on_nobody(hand):
    said = hand("verify-blob", "--key", "k.pub", "--signature", "s.sig", "more", status=1).out
    assert "the file was changed, or another key signed" in said
    assert "signed, but not by" not in said


def test_the_signature_of_a_file_is_called_so_when_an_image_is_asked_for(hand):
    image = f"registry.example/acme/app@sha256:{hashlib.sha256(FILE).hexdigest()}"
    said = hand("verify", "--key", "k.pub", "--bundle", "b.json", image, status=1).out
    assert "signed it as a file, not as an image" in said
    said = hand("verify", "--key", "k.pub", "--bundle", "b.json", f"{image[:-1]}{'0' if image[-1] != '0' else '1'}", status=1).out
    assert "the signature of a file with another digest" in said


def test_another_key_is_named_by_its_fingerprint_once(hand):
    said = hand("verify-blob", "--key", "other.pub", "--bundle", "b.json", "file", status=1).out
    found = json.loads(hand("key", "public", "--key", "k.pub", "--output", "json").out)["fingerprint"]
    assert said.count(found) == 1


def test_an_identity_is_told_of_a_file(hand, tmp_path):
    sim = Simulator()
    case = sim.make("message", ("hashedrekord",))
    (tmp_path / "id.json").write_bytes(case.parts["bundle"])
    (tmp_path / "root.json").write_bytes(case.root)
    who = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER, "--trusted-root", "root.json")
    assert f"identity {SUBJECT} of {ISSUER}" in hand("verify-blob", *who, "--bundle", "id.json", "file").out


@pytest.mark.parametrize(
    ("asked", "bundle", "step"),
    [
        (("verify-blob",), "a.json", "verify-blob-attestation --type https://cosign.sigstore.dev/attestation/v1"),
        (
            ("verify-blob-attestation", "--type", "vuln"),
            "a.json",
            "verify-blob-attestation --type https://cosign.sigstore.dev/attestation/v1",
        ),
        (("verify-blob-attestation",), "b.json", "verify-blob"),
    ],
)
def test_evidence_of_another_kind_leads_to_the_command_for_it(hand, asked, bundle, step):
    rest = f"--bundle {bundle} --key k.pub file"
    said = hand(*asked, *rest.split(), status=1).out
    first = next(line for line in said.splitlines() if line.startswith("  next "))
    assert first == f"  next        sigkit {step} {rest}"
    hand(*first.split()[2:])


def test_an_attestation_is_custom_unless_another_type_is_named(hand):
    hand("verify-blob-attestation", "--key", "k.pub", "--bundle", "a.json", "file")  # as cosign's commands have it
    for command in ("attest", "attest-blob", "verify-attestation", "verify-blob-attestation"):
        told = " ".join(hand(command, "--help").out.split())
        assert not [name for name in PREDICATE_TYPES if not re.search(rf"\b{name}\b", told)]


@pytest.fixture
def by_identity(tmp_path):
    """Put files that an identity signed beside the others, with another instance's root."""
    subject = {"name": "file", "digest": {"sha256": hashlib.sha256(FILE).hexdigest()}}
    sim = Simulator(change={"statement": lambda document: {**document, "subject": [subject]}})
    for name, case in (("id.json", sim.make("message", ("hashedrekord",))), ("said.json", sim.make())):
        (tmp_path / name).write_bytes(case.parts["bundle"])
    (tmp_path / "other.json").write_bytes(Simulator().root())


BY_IDENTITY = [(("verify-blob",), "id.json"), (("verify-blob-attestation", "--type", "https://spdx.dev/Document"), "said.json")]
WHO = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)


@pytest.mark.parametrize("root", [(), ("--trusted-root", "other.json")], ids=["forgotten", "another's"])
@pytest.mark.parametrize(("command", "bundle"), BY_IDENTITY)
def test_where_the_root_is_of_another_instance_the_next_step_is_its_own(hand, by_identity, command, bundle, root):
    said = hand(*command, *WHO, *root, "--bundle", bundle, "file", status=1).out
    first = next(line for line in said.splitlines() if line.startswith("  next "))
    assert "verify with the trust root of the instance that made it: --trusted-root" in first


@pytest.mark.parametrize(("command", "bundle"), BY_IDENTITY)
def test_a_key_that_is_asked_of_what_an_identity_signed_is_told_so(hand, by_identity, command, bundle):
    said = hand(*command, "--key", "k.pub", "--bundle", bundle, "file", status=1).out
    assert "signed by an identity, whose certificate" in said
    first = next(line for line in said.splitlines() if line.startswith("  next "))
    assert "--certificate-identity with --certificate-oidc-issuer" in first


def test_a_file_named_like_a_digest_is_not_taken_for_what_the_digest_names(hand, tmp_path):
    digest = f"sha256:{hashlib.sha256(FILE).hexdigest()}"
    (tmp_path / digest).write_bytes(FILE)
    done = hand("verify-blob", "--key", "k.pub", "--bundle", "b.json", digest, status=2)
    assert f"./{digest}" in " ".join(done.err.split())
    hand("verify-blob", "--key", "k.pub", "--bundle", "b.json", f"./{digest}")
