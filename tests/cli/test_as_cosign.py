"""`--output cosign`: what scripts that parse cosign's answer find."""

from __future__ import annotations

import base64
import json

import pytest

from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators.attached import FORMS, PREDICATE, attach_signed
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release


@pytest.fixture
def release(tmp_path):
    with MisbehavingRegistry() as registry:
        yield Release.prepare(tmp_path, registry.address)


def test_what_counted_is_one_list_on_stdout(release):
    assert release.sign("env=prod").status == 0
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference)
    assert done.status == 0, done.said
    digest = str(release.image.digest)
    critical = {
        "identity": {"docker-reference": release.reference},
        "image": {"docker-manifest-digest": digest},
        "type": PREDICATE_SIGNATURE,
    }
    repository = release.reference.removesuffix(":v1")
    assert json.loads(done.out) == [{"critical": critical, "optional": {"env": "prod", "sigkit.dev/repository": repository}}]
    assert "verified" in done.err


def test_of_a_refused_image_nothing_is_printed_but_on_stderr(release):
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference)
    assert (done.status, done.out) == (1, "")
    assert "refused" in done.err


def test_of_several_images_each_that_is_allowed_has_a_line(release):
    assert release.sign().status == 0
    digest = f"{release.address}/t/app@{release.image.digest}"
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference, digest, f"{release.address}/t/absent:v1")
    assert done.status == 3
    names = [json.loads(line)[0]["critical"]["identity"]["docker-reference"] for line in done.out.splitlines()]
    assert names == [release.reference, digest]


def test_a_signature_that_does_not_count_is_not_printed_whoever_made_it(release):
    for annotation in ("env=prod", "env=test"):
        assert release.sign(annotation).status == 0
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", "-a", "env=prod", release.reference)
    assert [item["optional"]["env"] for item in json.loads(done.out)] == ["prod"]
    other = f"{release.address}/t/other:v1"
    assert release.sigkit("copy", release.reference, other).status == 0
    assert release.sigkit("sign", "--key", "K.key", "-a", "env=here", other).status == 0
    done = release.sigkit("verify", "--output", "cosign", "--key", "K.pub", other)  # the copied ones name another repository
    assert [item["optional"]["env"] for item in json.loads(done.out)] == ["here"]


def test_of_a_threshold_each_signature_that_counted_is_printed(release):
    (release.home / "other.pub").write_bytes(generate("ed25519").public.encode_pem())
    assert release.sign().status == 0
    keys = ("--key", "K.pub", "--key", "other.pub")
    done = release.sigkit("verify", "--output", "cosign", *keys, "--threshold", "1", release.reference)
    assert (done.status, len(json.loads(done.out))) == (0, 1)
    done = release.sigkit("verify", "--output", "cosign", *keys, "--threshold", "2", release.reference)
    assert (done.status, done.out) == (1, "")


def test_an_empty_list_is_said_to_be_one(release):
    rules = "rules:\n  - images: ['**']\n    unverified: {reason: a test}\n"
    (release.home / "p.yaml").write_text(f"apiVersion: sigkit.dev/v1alpha1\nkind: Policy\n{rules}")
    done = release.sigkit("verify", "--output", "cosign", "--policy", "p.yaml", release.reference)
    assert (done.status, done.out) == (0, "[]\n"), done.said
    assert "the list on stdout is empty" in done.err


def attest(release, kind: str, predicate: str) -> None:
    (release.home / "p.json").write_text(predicate)
    assert release.sigkit("attest", "--key", "K.key", "--type", kind, "--predicate", "p.json", release.reference).status == 0


def test_of_attestations_each_that_counted_is_an_envelope_on_a_line(release):
    for kind, predicate in (("https://a.example/1", '{"n":1}'), ("https://a.example/1", '{"n":2}'), ("https://a.example/2", '{"n":3}')):
        attest(release, kind, predicate)
    assert release.sign().status == 0
    asked = ("verify-attestation", "--key", "K.pub", "--type", "https://a.example/1", "--output", "cosign")
    done = release.sigkit(*asked, release.reference)
    assert done.status == 0, done.said
    envelopes = [json.loads(line) for line in done.out.splitlines()]
    assert {tuple(envelope) for envelope in envelopes} == {("payload", "payloadType", "signatures")}
    predicates = [json.loads(base64.b64decode(envelope["payload"]))["predicate"] for envelope in envelopes]
    assert sorted(item["n"] for item in predicates) == [1, 2]
    digest = f"{release.address}/t/app@{release.image.digest}"
    assert release.sigkit(*asked, release.reference, digest).out.splitlines() == done.out.splitlines() * 2


def test_of_an_image_without_that_attestation_nothing_is_printed(release):
    attest(release, "https://a.example/2", "{}")
    done = release.sigkit("verify-attestation", "--key", "K.pub", "--type", "spdxjson", "--output", "cosign", release.reference)
    assert (done.status, done.out) == (1, "")


def test_attestations_are_no_signatures_in_this_form_either(release):
    attest(release, "https://a.example/2", "{}")
    assert release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference).out == ""
    assert release.sign().status == 0
    assert len(json.loads(release.sigkit("verify", "--output", "cosign", "--key", "K.pub", release.reference).out)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_evidence_in_files_and_layouts_is_printed_as_that_of_a_registry(release, form):
    with open_registry(RegistryOptions()) as client:
        attached = attach_signed(client, Repository(release.address, "t/attached"), release.home, form, "identity", build="7")
    attestation = form.endswith("attestation")
    asked = ("verify-attestation", "--type", PREDICATE) if attestation else ("verify",)
    pinned = attached.typed()["digest"]
    done = release.sigkit(*asked, "--output", "cosign", *attached.who, pinned)
    assert done.status == 0, done.said
    assert release.sigkit("copy", pinned, "oci:copied").status == 0
    assert release.sigkit(*asked, "--output", "cosign", *attached.who, "--layout", "copied", pinned).out == done.out
    if form == "older":
        (printed,) = json.loads(done.out)
        assert set(printed["optional"]) == {"build", "Bundle", "RFC3161Timestamp", "Subject", "Issuer", "1.3.6.1.4.1.57264.1.1"}


def test_cosigns_form_is_for_its_own_two_commands_alone(release):
    assert release.sigkit("tree", "--output", "cosign", release.reference).status == 2
