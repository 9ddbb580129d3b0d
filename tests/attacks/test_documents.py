"""Attacks with documents and digests, fed over real sockets where the wire is part of them."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    EXIT_UNCHECKED,
    AbsentReference,
    AmbiguousDocument,
    DigestMismatch,
    Kind,
    MalformedDigest,
    MalformedReference,
    Place,
    SigkitError,
    WrongShape,
)
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.image import parse_image_config
from sigkit.oci.layout import create_layout
from sigkit.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, encode_index, encode_manifest, parse_manifest
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import open_registry
from sigkit.oci.resolve import resolve, resolve_and_pin
from sigkit.services.serve import running_registry
from sigkit.strict import encode_json
from tests.simulators.images import AMD64, describe, push_index, small_image
from tests.simulators.misbehaving_registry import MisbehavingRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.strict import Json

PATHS = ("sha256:../../../../etc/passwd", "sha256:" + "../" * 21 + "x", "sha256:" + "0" * 63 + "/", "sha256:" + "0" * 64 + "\0")
MD5 = "md5:d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture
def client():
    with open_registry(RegistryOptions()) as opened:
        yield opened


@pytest.fixture
def hostile():
    with MisbehavingRegistry() as registry:
        yield registry


@pytest.fixture
def served(tmp_path) -> Iterator[http.client.HTTPConnection]:
    with running_registry(tmp_path / "registry") as address:
        connection = http.client.HTTPConnection(address, timeout=20)
        yield connection
        connection.close()


def ask(connection: http.client.HTTPConnection, method: str, target: str, body: bytes = b"", **headers: str):
    connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read()


def both_in_one() -> bytes:
    image, other = small_image(b"one"), small_image(b"two")
    return encode_json(json.loads(image.manifest) | {"manifests": [describe(other.manifest, platform=AMD64).encode()]})


@pytest.mark.attack("CVE-2021-41190")
@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX, None])
def test_document_of_two_kinds_is_refused_whatever_it_calls_itself(hostile, client, media_type):
    raw = encode_json(json.loads(both_in_one()) | {"mediaType": media_type})
    # The header that the registry chooses decides nothing.
    for header in (OCI_MANIFEST, OCI_INDEX):
        hostile.state.put_manifest("t/app", raw, header, "v1")
        with pytest.raises(AmbiguousDocument):
            resolve(client, parse_reference(f"{hostile.address}/t/app:v1"))


@pytest.mark.attack("CVE-2021-41190")
def test_document_that_go_would_read_otherwise_is_refused():
    # Go's encoding/json takes `Layers` for `layers`, and the last one wins.
    raw = encode_json(json.loads(small_image(b"one").manifest) | {"Layers": json.loads(small_image(b"two").manifest)["layers"]})
    with pytest.raises(WrongShape):
        parse_manifest(raw, Digest.of(raw), Place("test"))


@pytest.mark.attack("CVE-2021-41190")
def test_document_of_two_kinds_is_not_kept(served):
    status, body = ask(served, "PUT", "/v2/a/b/manifests/v1", both_in_one(), Content_Type=OCI_MANIFEST)
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "MANIFEST_INVALID")
    assert ask(served, "GET", "/v2/a/b/manifests/v1")[0] == 404


@pytest.mark.attack("CVE-2024-3727")
@pytest.mark.parametrize("text", PATHS)
def test_digest_that_is_a_path_is_refused_wherever_it_stands(text):
    config = describe(b"{}", OCI_CONFIG).encode()
    bad: dict[str, Json] = describe(b"x").encode() | {"digest": text}
    documents: tuple[dict[str, Json], ...] = (
        {"schemaVersion": 2, "config": config, "layers": [bad]},
        {"schemaVersion": 2, "config": bad, "layers": []},
        {"schemaVersion": 2, "config": config, "layers": [], "subject": bad},
        {"schemaVersion": 2, "manifests": [bad]},
    )
    for document in documents:
        raw = encode_json(document)
        with pytest.raises(MalformedDigest):
            parse_manifest(raw, Digest.of(raw), Place("test"))
    raw = encode_json({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [text]}})
    with pytest.raises(MalformedDigest):
        parse_image_config(raw, Place("test"))
    with pytest.raises(MalformedReference):
        parse_reference(f"r.x/app@{text}")


@pytest.mark.attack("CVE-2024-3727")
@pytest.mark.parametrize("text", ["sha256:..%2f..%2f..%2fversion", "sha256:../../../version", "..%2f..%2fversion"])
def test_digest_that_is_a_path_opens_no_file_of_the_registry(served, text):
    for target in (f"/v2/a/b/blobs/{text}", f"/v2/a/b/manifests/{text}", f"/v2/a/b/referrers/{text}"):
        status, body = ask(served, "GET", target)
        assert status in {400, 404}
        assert b"sigkit.registry" not in body


@pytest.mark.attack("CVE-2024-3727")
def test_digest_that_is_a_path_opens_no_file_of_a_layout(tmp_path):
    layout = create_layout(tmp_path / "layout")
    (tmp_path / "secret").write_text("secret")
    entry = describe(b"x").encode() | {"digest": "sha256:../../../secret", "size": 6}
    Path(layout.path, "index.json").write_bytes(encode_json({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(MalformedDigest):
        layout.find_entry(None)


@pytest.mark.attack("containerd#13036")
def test_algorithm_that_is_not_accepted_names_nothing(hostile, client):
    raw = encode_index([describe(b"x", platform=AMD64)]).replace(str(Digest.of(b"x")).encode(), MD5.encode())
    hostile.state.put_manifest("t/app", raw, OCI_INDEX, "v1")
    with pytest.raises(MalformedDigest):
        resolve_and_pin(client, parse_reference(f"{hostile.address}/t/app:v1"), AMD64)
    with pytest.raises(MalformedReference):
        parse_reference(f"{hostile.address}/t/app@{MD5}")


@pytest.mark.attack("containerd#13036")
@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_bytes_are_hashed_with_the_algorithm_that_is_named(hostile, client, algorithm):
    image, other = small_image(b"one"), small_image(b"two")
    digest = Digest.of(image.manifest, algorithm)
    reference = parse_reference(f"{hostile.address}/t/app@{digest}")
    hostile.on("GET", f"/v2/t/app/manifests/{digest}", nth=1).answer(image.manifest)
    assert resolve_and_pin(client, reference, AMD64).top == digest
    # The header tells the truth about SHA-256; it is not what was asked for.
    lie = {"Docker-Content-Digest": str(Digest.of(other.manifest))}
    hostile.on("GET", f"/v2/t/app/manifests/{digest}", nth=1).answer(other.manifest, headers=lie)
    with pytest.raises(DigestMismatch):
        resolve_and_pin(client, reference, AMD64)


@pytest.mark.attack("containerd#13036")
@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_blob_is_hashed_with_the_algorithm_that_is_named(hostile, client, algorithm):
    digest = Digest.of(b"good", algorithm)
    hostile.on("GET", f"/v2/t/app/blobs/{digest}").answer(b"evil")
    with pytest.raises(DigestMismatch):
        client.fetch_blob(Repository(hostile.address, "t/app"), Descriptor("application/x", digest, 4), most_bytes=10)


@pytest.mark.attack("CVE-2023-33959, GHSA-wfqx-gjrf-g28r, CVE-2022-47633")
def test_tag_that_moves_between_reads_is_read_once(hostile, client):
    good, evil = small_image(b"good"), small_image(b"evil")
    hostile.on("GET", "/v2/t/app/manifests/v1", nth=1).answer(good.manifest)
    hostile.state.put_manifest("t/app", good.manifest)
    hostile.state.put_manifest("t/app", evil.manifest, tag="v1")
    pinned = resolve_and_pin(client, parse_reference(f"{hostile.address}/t/app:v1"), AMD64)
    assert pinned.manifest_digest == good.digest
    assert client.fetch_manifest(pinned.repository, pinned.manifest_digest) == good.manifest
    assert len(hostile.seen("GET", "/v2/t/app/manifests/v1")) == 1


@pytest.mark.attack("CVE-2023-33959, GHSA-wfqx-gjrf-g28r, CVE-2022-47633")
@pytest.mark.parametrize("nth", [1, 2])
def test_second_answer_for_a_digest_must_be_the_first(hostile, client, nth):
    good, evil = small_image(b"good"), small_image(b"evil")
    hostile.state.put_manifest("t/app", good.manifest)
    hostile.on("GET", f"/v2/t/app/manifests/{good.digest}", nth=nth).answer(evil.manifest)
    reference = parse_reference(f"{hostile.address}/t/app@{good.digest}")
    for _ in range(nth - 1):
        resolve_and_pin(client, reference, AMD64)
    with pytest.raises(DigestMismatch):
        resolve_and_pin(client, reference, AMD64)


@pytest.mark.attack("CVE-2023-33959, GHSA-wfqx-gjrf-g28r, CVE-2022-47633")
def test_child_that_the_registry_exchanges_is_refused(hostile, client):
    good, evil = small_image(b"good"), small_image(b"evil")
    repository = Repository(hostile.address, "t/app")
    push_index(client, repository, {AMD64: good}, "v1")
    hostile.on("GET", f"/v2/t/app/manifests/{good.digest}").answer(evil.manifest)
    with pytest.raises(DigestMismatch) as caught:
        resolve_and_pin(client, parse_reference(f"{repository}:v1"), AMD64)
    assert (caught.value.expected, caught.value.got) == (str(good.digest), str(evil.digest))


@pytest.mark.attack("cosign#542")
@pytest.mark.parametrize("what", [":v1", f"@{Digest.of(b'absent')}"])
def test_absent_image_could_not_be_checked(hostile, client, what):
    with pytest.raises(AbsentReference) as caught:
        resolve(client, parse_reference(f"{hostile.address}/t/app{what}"))
    assert (caught.value.kind, caught.value.status()) == (Kind.REF, EXIT_UNCHECKED)


@pytest.mark.attack("cosign#542")
def test_image_whose_child_is_not_served_could_not_be_checked(hostile, client):
    image = small_image()
    hostile.state.put_manifest("t/app", encode_index([describe(image.manifest, platform=AMD64)]), OCI_INDEX, "v1")
    with pytest.raises(AbsentReference) as caught:
        resolve_and_pin(client, parse_reference(f"{hostile.address}/t/app:v1"), AMD64)
    assert (caught.value.kind, caught.value.status()) == (Kind.REF, EXIT_UNCHECKED)


@pytest.mark.attack("cosign#542")
def test_registry_that_does_not_say_could_not_be_checked(hostile, client):
    hostile.on("GET", "/v2/t/app/manifests/v1").status(403)
    with pytest.raises(SigkitError) as caught:
        resolve(client, parse_reference(f"{hostile.address}/t/app:v1"))
    assert (caught.value.kind, caught.value.status()) == (Kind.UNAVAIL, EXIT_UNCHECKED)


@pytest.mark.attack("CVE-2023-2253, CVE-2017-11468")
@pytest.mark.parametrize("number", ["2147483648", "9223372036854775808", "-1"])
def test_huge_page_is_refused(served, number):
    ask(served, "POST", f"/v2/a/b/blobs/uploads/?digest={Digest.of(b'x')}", b"x")
    status, body = ask(served, "GET", f"/v2/a/b/tags/list?n={number}")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "PAGINATION_NUMBER_INVALID")


@pytest.mark.attack("CVE-2023-2253, CVE-2017-11468")
def test_huge_manifest_is_refused(served):
    status, body = ask(served, "PUT", "/v2/a/b/manifests/v1", b" " * (limits.MANIFEST_BYTES + 1), Content_Type=OCI_MANIFEST)
    assert (status, json.loads(body)["errors"][0]["code"]) == (413, "SIZE_INVALID")


@pytest.mark.attack("CVE-2023-2253, CVE-2017-11468")
def test_manifest_of_many_layers_is_refused(served):
    layer = describe(b"x")
    raw = encode_manifest(describe(b"{}", OCI_CONFIG), [layer] * (limits.MANIFEST_LAYERS + 1))
    status, _ = ask(served, "PUT", "/v2/a/b/manifests/v1", raw, Content_Type=OCI_MANIFEST)
    assert status == 413


@pytest.mark.attack("nexspence#194")
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_upload_under_a_false_digest_is_refused_and_not_kept(served, tmp_path, algorithm):
    claimed = Digest.of(b"good", algorithm)
    status, body = ask(served, "POST", f"/v2/a/b/blobs/uploads/?digest={claimed}", b"evil")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert ask(served, "HEAD", f"/v2/a/b/blobs/{claimed}")[0] == 404
    kept = [path for path in (tmp_path / "registry").rglob("*") if path.is_file() and b"evil" in path.read_bytes()]
    assert kept == []


@pytest.mark.attack("nexspence#194")
def test_manifest_under_a_false_digest_is_refused_and_not_kept(served):
    raw, claimed = encode_index([]), Digest.of(b"good")
    status, body = ask(served, "PUT", f"/v2/a/b/manifests/{claimed}", raw, Content_Type=OCI_INDEX)
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert ask(served, "HEAD", f"/v2/a/b/manifests/{claimed}")[0] == 404
    assert ask(served, "HEAD", f"/v2/a/b/manifests/{Digest.of(raw)}")[0] == 404


@pytest.mark.attack("CVE-2026-35172")
def test_deleted_blob_does_not_return(served, tmp_path):
    digest = Digest.of(b"secret")
    for name in ("a/b", "other"):
        assert ask(served, "POST", f"/v2/{name}/blobs/uploads/?digest={digest}", b"secret")[0] == 201
    assert ask(served, "GET", f"/v2/a/b/blobs/{digest}")[0] == 200
    assert ask(served, "DELETE", f"/v2/a/b/blobs/{digest}")[0] == 202
    for method in ("HEAD", "GET"):
        assert ask(served, method, f"/v2/a/b/blobs/{digest}")[0] == 404
    assert ask(served, "DELETE", f"/v2/other/blobs/{digest}")[0] == 202
    assert not (tmp_path / "registry" / "blobs" / "sha256" / digest.hex).exists()


@pytest.mark.attack("CVE-2026-35172")
def test_deleted_manifest_does_not_return(served):
    raw = encode_index([])
    ask(served, "PUT", "/v2/a/b/manifests/v1", raw, Content_Type=OCI_INDEX)
    digest = Digest.of(raw)
    assert ask(served, "DELETE", f"/v2/a/b/manifests/{digest}")[0] == 202
    for what in (digest, "v1"):
        assert ask(served, "GET", f"/v2/a/b/manifests/{what}")[0] == 404
