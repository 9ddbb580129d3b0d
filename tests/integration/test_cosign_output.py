"""`--output cosign` is what cosign 3 prints, member by member: of signatures and attestations, by keys and identities, in both forms.

cosign prints nothing of an image that it refuses; that, thresholds and annotations stand in tests/cli/test_as_cosign.py.
"""

from __future__ import annotations

import json

import pytest

from sigkit.cli.main import run
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from sigkit.services.serve import running_registry
from tests.simulators import der
from tests.simulators.attached import FORMS, PREDICATE, attach_signed
from tests.simulators.cosign import PLAIN_HTTP, READ_OLDER
from tests.simulators.sigstore import Simulator

pytestmark = pytest.mark.peers

WORKFLOW = {2: "push", 3: "c0ffee", 4: "release", 5: "acme/app", 6: "refs/heads/main"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("storage")) as address, open_registry(RegistryOptions()) as client:
        yield address, client


def instance() -> Simulator:
    """Return an instance whose certificates name a workflow as GitHub's do."""
    sim = Simulator()
    sim.ca.extensions |= {number: text.encode() for number, text in WORKFLOW.items()}
    sim.ca.extensions |= {11: der.utf8("github-hosted")}
    return sim


@pytest.mark.parametrize("by", ["key", "identity"])
@pytest.mark.parametrize("form", FORMS)
def test_sigkit_prints_what_cosign_prints(peer, registry, tmp_path, monkeypatch, capsys, form, by):
    address, client = registry
    annotations = {"build": "7", "n": 1, "many": ["a", {"b": None}]}
    attached = attach_signed(client, Repository(address, f"t/{form}-{by}"), tmp_path, form, by, instance(), **annotations)
    monkeypatch.chdir(tmp_path)
    command = ("verify-attestation", "--type", PREDICATE) if form.endswith("attestation") else ("verify",)
    reading = (READ_OLDER,) if form.startswith("older") else ()
    for how, name in attached.typed().items():
        done = peer("cosign", *command, *attached.who, "--use-signed-timestamps", *reading, PLAIN_HTTP, name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert run([*command, "--output", "cosign", *attached.who, "--use-signed-timestamps", name]) == 0
        ours = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert ours == [json.loads(line) for line in done.stdout.splitlines() if line], how
        assert len(ours) == 1


def test_of_several_signatures_both_print_all(peer, registry, tmp_path, monkeypatch, capsys):
    address, client = registry
    sim, repository = Simulator(), Repository(address, "t/several")
    for form in ("bundle", "attestation"):
        for number in range(2):
            attached = attach_signed(client, repository, tmp_path, form, "key", sim, n=str(number))
    monkeypatch.chdir(tmp_path)
    pinned = attached.typed()["digest"]
    for command in (("verify",), ("verify-attestation", "--type", PREDICATE)):
        done = peer("cosign", *command, *attached.who, PLAIN_HTTP, pinned, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert run([*command, "--output", "cosign", *attached.who, pinned]) == 0
        ours, theirs = capsys.readouterr().out, done.stdout
        if command[0] == "verify":  # an attestation is no signature for sigkit, and one for cosign
            found = [item for item in json.loads(theirs) if item["critical"]["type"] != PREDICATE]
            assert by_text(json.loads(ours)) == by_text(found)
        else:
            assert by_text(map(json.loads, ours.splitlines())) == by_text(map(json.loads, theirs.splitlines()))


def by_text(items) -> list[str]:
    return sorted(json.dumps(item, sort_keys=True) for item in items)
