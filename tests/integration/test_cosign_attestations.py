"""cosign 3 takes every type of predicate that sigkit attests for what it is. The kinds of keys stand in test_cosign_matrix.py."""

from __future__ import annotations

import json

import pytest

from sigkit.cli.main import run
from sigkit.keys.private import generate
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from sigkit.services.serve import running_registry
from tests.simulators.cosign import PLAIN_HTTP, Cosign
from tests.simulators.images import small_image

pytestmark = pytest.mark.peers

PREDICATES = {
    "custom": "any text\n",
    "slsaprovenance": '{"builder":{"id":"https://b.example"},"buildType":"t","invocation":{},"materials":[]}',
    "slsaprovenance1": '{"buildDefinition":{"buildType":"t","externalParameters":{}},"runDetails":{"builder":{"id":"https://b.example"}}}',
    "spdxjson": '{"spdxVersion":"SPDX-2.3","name":"<&>\\u00e9"}',
    "cyclonedx": '{"bomFormat":"CycloneDX","specVersion":"1.5"}',
    "vuln": '{"invocation":{},"scanner":{"uri":"u","version":"1","db":{},"result":{}},"metadata":{}}',
    "openvex": '{"@context":"https://openvex.dev/ns/v0.2.0","@id":"i","author":"a","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[]}',
    "link": '{"_type":"link","name":"n","command":[],"materials":{},"products":{},"byproducts":{},"environment":{}}',
    "https://example.com/own/v1": '{"n":[1,2.5,true,null],"text":"\\u2028"}',
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with running_registry(tmp_path_factory.mktemp("storage")) as address:
        yield address


@pytest.mark.parametrize("name", PREDICATES)
def test_every_type_of_predicate_is_verified_by_cosign_as_what_it_is(peer, registry, tmp_path, monkeypatch, capsys, name):
    cosign = Cosign(peer, tmp_path, generate("ecdsa-p256"))
    monkeypatch.chdir(tmp_path)
    repository = Repository(registry, f"demo/{list(PREDICATES).index(name)}")
    with open_registry(RegistryOptions()) as client:
        attested = f"{repository}@{small_image(name.encode()).push(client, repository)}"
    (tmp_path / "p.json").write_text(PREDICATES[name])
    added = []
    for _ in range(2):
        assert run(["attest", "--output", "json", "--key", "release.plain", "--predicate", "p.json", "--type", name, attested]) == 0
        added.append(json.loads(capsys.readouterr().out)["added"])
    assert added == [True, False] or name == "custom"  # which holds the time, in seconds
    done = cosign.asked("verify-attestation", "--type", name, PLAIN_HTTP, attested)
    assert done.returncode == 0, done.stderr
    envelope = json.loads(done.stdout.splitlines()[0])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    other = "vuln" if name != "vuln" else "openvex"
    assert cosign.asked("verify-attestation", "--type", other, PLAIN_HTTP, attested).returncode == 1
