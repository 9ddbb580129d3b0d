"""The registry client against a registry that misbehaves on demand."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    AccessDenied,
    DigestMismatch,
    Kind,
    ManifestRefused,
    OtherHostRefused,
    ServerFailed,
    SigkitError,
    TooLarge,
    TooMany,
    Unreachable,
)
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.referrers import fallback_tag
from sigkit.oci.registry import RegistryClient, open_registry
from tests.simulators.logins import basic, log_in
from tests.simulators.misbehaving_registry import OCI_INDEX, OCI_MANIFEST, MisbehavingRegistry, MisbehavingServer, Reply

RAW = b'{"schemaVersion":2}'
DIGEST = Digest.of(RAW)
SUBJECT = Digest.of(b"subject")


@pytest.fixture
def reg():
    with MisbehavingRegistry() as running:
        yield running


@pytest.fixture
def app(reg):
    return Repository(reg.address, "t/app")


@pytest.fixture
def client():
    with RegistryClient(RegistryOptions(timeout_s=5, read_timeout_s=2), sleep=lambda _: None) as opened:
        yield opened


def referrer(reg, number, subject=SUBJECT):
    raw = json.dumps({"schemaVersion": 2, "subject": {"digest": str(subject)}, "artifactType": "a/b", "n": number}).encode()
    return reg.state.put_manifest("t/app", raw)


# --- manifests


def test_a_manifest_comes_by_tag_and_by_digest(reg, app, client):
    reg.state.put_manifest("t/app", RAW, tag="v1")
    assert (client.fetch_manifest(app, "v1"), client.fetch_manifest(app, DIGEST)) == (RAW, RAW)


def test_every_request_for_a_manifest_names_all_four_types(reg, app, client):
    client.fetch_manifest(app, "v1")
    assert set(reg.log[0].headers["accept"].split(", ")) == {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }


def test_an_absent_manifest_is_none(app, client):
    assert client.fetch_manifest(app, "none") is None
    assert client.fetch_manifest(app, DIGEST) is None


def test_other_bytes_under_a_digest_are_refused(reg, app, client):
    reg.on("GET", "*/manifests/*").answer(b"{}", headers={"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": str(DIGEST)})
    with pytest.raises(DigestMismatch):
        client.fetch_manifest(app, DIGEST)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 418, 500, 503])
def test_an_error_is_not_absence(reg, app, client, status):
    reg.on("GET", "*/manifests/*").status(status, body=b'{"errors":[{"code":"X","message":"y"}]}', WWW_Authenticate="Basic")
    with pytest.raises(SigkitError) as refused:
        client.fetch_manifest(app, "v1")
    assert refused.value.status() == 3


def test_an_error_has_the_url_the_status_and_the_servers_own_words(reg, app, client):
    reg.on("GET", "*/manifests/*").status(418, body=b'{"errors":[{"code":"TEAPOT","message":"short and stout"}]}')
    with pytest.raises(ServerFailed) as refused:
        client.fetch_manifest(app, "v1")
    assert str(refused.value.place) == f"{reg.url}/v2/t/app/manifests/v1"
    assert refused.value.got == "418"
    assert "TEAPOT: short and stout" in refused.value.problem


def test_a_manifest_beyond_the_limit_is_refused_unread(reg, app, client):
    reg.on("GET", "*/manifests/*").add(Content_Length=str(limits.MANIFEST_BYTES + 1))
    reg.state.put_manifest("t/app", RAW, tag="v1")
    with pytest.raises(TooLarge):
        client.fetch_manifest(app, "v1")


def test_a_manifest_that_is_cut_is_asked_for_again(reg, app, client):
    reg.state.put_manifest("t/app", RAW, tag="v1")
    reg.on("GET", "*/manifests/*", nth=1).cut_after(5)
    assert client.fetch_manifest(app, "v1") == RAW
    assert len(reg.log) == 2


def test_a_registry_that_is_down_is_could_not_check(client, free_port):
    with pytest.raises(Unreachable) as refused:
        client.fetch_manifest(Repository(f"127.0.0.1:{free_port}", "t/app"), "v1")
    assert refused.value.status() == 3


def test_a_pushed_manifest_is_there_and_its_subject_is_reported(reg, app, client):
    raw = json.dumps({"subject": {"digest": str(SUBJECT)}}).encode()
    assert client.push_manifest(app, Digest.of(raw), raw, OCI_MANIFEST) == SUBJECT
    assert client.fetch_manifest(app, Digest.of(raw)) == raw


def test_without_the_referrers_api_no_subject_is_reported(app, client, reg):
    reg.state.referrers_api = False
    raw = json.dumps({"subject": {"digest": str(SUBJECT)}}).encode()
    assert client.push_manifest(app, "v1", raw, OCI_MANIFEST) is None


def test_a_manifest_that_the_registry_does_not_take_is_told_from_a_failure(reg, app, client):
    reg.on("PUT", "*", nth=1).status(400, body=b'{"errors":[{"code":"TAG_INVALID"}]}')
    with pytest.raises(ManifestRefused) as refused:
        client.push_manifest(app, "v1", RAW, OCI_MANIFEST)
    assert ("TAG_INVALID" in refused.value.problem, refused.value.status()) == (True, 3)


def test_a_busy_registry_is_asked_again_to_store_a_manifest(reg, app, client):
    reg.on("PUT", "*", times=2).status(503)
    client.push_manifest(app, "v1", RAW, OCI_MANIFEST)
    assert client.fetch_manifest(app, "v1") == RAW


def test_a_list_of_referrers_is_sent_once_because_it_may_be_old_later(reg, app, client):
    reg.on("PUT", "*").status(503)
    with pytest.raises(ServerFailed):
        client.push_manifest(app, fallback_tag(SUBJECT), RAW, OCI_INDEX)
    assert len(reg.log) == 1


# --- tokens


def test_a_token_serves_several_requests(reg, app, client):
    def token_server(seen):
        return Reply(200, (), b'{"token":"t1","expires_in":300}')

    with MisbehavingServer(token_server) as tokens:
        reg.wants_token(f"{tokens.url}/token", lambda token: token == "t1")
        reg.state.put_manifest("t/app", RAW, tag="v1")
        for _ in range(3):
            assert client.fetch_manifest(app, "v1") == RAW
        assert len(tokens.log) == 1


def test_a_push_asks_for_its_own_token(reg, app, client):
    with MisbehavingServer(lambda _: Reply(200, (), b'{"token":"t1","expires_in":300}')) as tokens:
        reg.wants_token(f"{tokens.url}/token", lambda token: token == "t1")
        client.fetch_manifest(app, "v1")
        client.push_blob(app, Digest.of(b"x"), b"x")
        assert len(tokens.log) == 2


def test_403_after_login_names_the_file_with_the_credentials(reg, app, client):
    config = log_in(reg.address)
    reg.wants_basic(basic("user"))
    client.fetch_manifest(app, "v1")
    reg.on("GET", "*").status(403, body=b'{"errors":[{"code":"DENIED"}]}')
    with pytest.raises(AccessDenied) as refused:
        client.fetch_manifest(app, "v1")
    assert str(config) in refused.value.remedy


def test_several_threads_share_a_client_and_its_token(reg, app, client):
    with MisbehavingServer(lambda _: Reply(200, (), b'{"token":"t1","expires_in":300}')) as tokens:
        reg.wants_token(f"{tokens.url}/token", lambda token: token == "t1")
        reg.state.put_manifest("t/app", RAW, tag="v1")
        client.fetch_manifest(app, "v1")
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: client.fetch_manifest(app, "v1"), range(40))) == {RAW}
        assert len(tokens.log) == 1
    assert reg.connections <= 5


# --- lists


def test_referrers_come_from_all_pages(reg, app, client):
    reg.state.page = 2
    wanted = {referrer(reg, number) for number in range(5)}
    listed = client.list_referrers(app, SUBJECT)
    assert {str(found.digest) for found in listed} == wanted
    assert len(reg.seen("GET", "*/referrers/*")) == 3


def test_no_referrers_is_an_empty_list(app, client):
    assert client.list_referrers(app, SUBJECT) == ()


def test_an_empty_list_as_go_writes_it_is_empty(reg, app, client):
    reg.on("GET", "*").answer(b'{"schemaVersion":2,"manifests":null}', headers={"Content-Type": OCI_INDEX})
    assert client.list_referrers(app, SUBJECT) == ()


def test_404_means_that_there_is_no_referrers_api(reg, app, client):
    reg.state.referrers_api = False
    assert client.list_referrers(app, SUBJECT) is None


def test_303_to_a_page_for_people_means_that_there_is_no_referrers_api(reg, app, client):
    reg.on("GET", "*/referrers/*").redirect("https://people.example/packages", status=303)
    assert client.list_referrers(app, SUBJECT) is None


def test_a_list_may_be_redirected(reg, app, client):
    wanted = referrer(reg, 1)
    reg.on("GET", "*/referrers/*", times=2).redirect(f"/v2/t/app/referrers/{SUBJECT}?again=1")
    assert [str(found.digest) for found in client.list_referrers(app, SUBJECT)] == [wanted]


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
        (200, {"Content-Type": "application/json"}, b'{"manifests":[]}'),
        (200, {}, b'{"manifests":[]}'),
        (200, {"Content-Type": OCI_INDEX}, b"{}"),
        (200, {"Content-Type": OCI_INDEX}, b"[]"),
        (200, {"Content-Type": OCI_INDEX}, b'{"manifests":[{"digest":"md5:00"}]}'),
        (200, {"Content-Type": OCI_INDEX}, b""),
        (204, {}, b""),
        (400, {}, b""),
        (403, {}, b""),
        (500, {}, b""),
        (502, {"Content-Type": "text/html"}, b"<html>"),
    ],
)
@pytest.mark.parametrize("nth", [1, 2], ids=["first-page", "second-page"])
def test_a_list_that_cannot_be_read_whole_is_never_a_shorter_list(reg, app, client, status, headers, body, nth):
    reg.state.page = 1
    for number in range(3):
        referrer(reg, number)
    reg.on("GET", "*/referrers/*", nth=nth).answer(body, status=status, headers=headers)
    if status >= 500:
        reg.on("GET", f"*/referrers/{SUBJECT}").status(status)
    with pytest.raises(SigkitError) as refused:
        client.list_referrers(app, SUBJECT)
    assert (refused.value.kind, refused.value.status()) == (Kind.UNAVAIL, 3)


def test_a_second_page_that_is_not_there_is_not_the_end(reg, app, client):
    reg.state.page = 1
    for number in range(3):
        referrer(reg, number)
    reg.on("GET", "*/referrers/*", nth=2).status(404)
    with pytest.raises(ServerFailed):
        client.list_referrers(app, SUBJECT)


@pytest.mark.parametrize("link", ["https://evil.example/v2/x", "//evil.example/v2/x", "http://127.0.0.1:1/v2/t/app/referrers/x"])
def test_a_page_on_another_host_is_refused(reg, app, client, link):
    reg.on("GET", "*/referrers/*").add(Link=f'<{link}>; rel="next"')
    with pytest.raises(OtherHostRefused) as refused:
        client.list_referrers(app, SUBJECT)
    assert (refused.value.kind, refused.value.status()) == (Kind.NET, 3)


def test_pages_in_a_circle_end_by_limit(reg, app, client):
    reg.on("GET", "*/referrers/*").add(Link=f'</v2/t/app/referrers/{SUBJECT}?from=0>; rel="next"')
    with pytest.raises(TooMany) as refused:
        client.list_referrers(app, SUBJECT)
    assert (refused.value.kind, refused.value.status()) == (Kind.LIMIT, 3)
    assert len(reg.log) <= 3


def test_pages_without_end_end_by_limit(reg, app, client):
    numbers = iter(range(10**6))
    link = reg.on("GET", "*/referrers/*")
    link.change = lambda _, reply: Reply(reply.status, (*reply.headers, ("Link", f'<?from={next(numbers)}>; rel="next"')), reply.body)
    with pytest.raises(TooMany):
        client.list_referrers(app, SUBJECT)
    assert len(reg.log) == limits.REFERRER_PAGES


def test_the_client_is_closed_at_the_end_of_the_block(reg, app):
    with open_registry(RegistryOptions()) as client:
        assert client.fetch_manifest(app, "v1") is None


# --- where a registry lives


def test_a_registry_on_an_ipv6_address_is_asked_by_its_canonical_name(client):
    try:
        registry = MisbehavingRegistry(host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine's loopback")
    with registry as reg:
        reg.state.put_manifest("t/app", RAW, tag="v1")
        assert client.fetch_manifest(Repository(reg.address, "t/app"), "v1") == RAW
        assert reg.log[0].headers["host"] == reg.address


def test_docker_hub_is_asked_at_its_own_host_over_tls(monkeypatch):
    import socket

    asked = []

    def resolve(host, port, *_, **__):
        asked.append((host.decode(), port))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with RegistryClient(RegistryOptions(), sleep=lambda _: None) as client, pytest.raises(Unreachable):
        client.fetch_manifest(Repository("docker.io", "library/busybox"), "latest")
    assert set(asked) == {("registry-1.docker.io", 443)}


@pytest.mark.parametrize(("plain", "port"), [((), 443), (("registry.example",), 80), (("registry.example:443",), 443)])
def test_plain_http_is_used_only_for_hosts_that_were_named(monkeypatch, plain, port):
    import socket

    asked = []

    def resolve(host, port, *_, **__):
        asked.append(port)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with RegistryClient(RegistryOptions(plain_http_hosts=plain), sleep=lambda _: None) as client, pytest.raises(Unreachable):
        client.fetch_manifest(Repository("registry.example", "app"), "latest")
    assert set(asked) == {port}


# --- what a cold read costs

_COLD_READ = """
import sys
sys.path.insert(0, sys.argv[1])
from sigkit.digest import Digest
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
app = Repository(sys.argv[2], "t/app")
with open_registry(RegistryOptions()) as client:
    client.fetch_manifest(app, "v1")
    client.list_referrers(app, Digest.of(b"subject"))
    client.fetch_blob(app, Descriptor("a/b", Digest.of(b"layer"), 5), most_bytes=5)
print(*sys.modules)
"""


def test_a_cold_read_imports_http_client_and_none_of_the_heavy_ones(reg):
    reg.state.put_manifest("t/app", RAW, tag="v1")
    reg.state.put_blob("t/app", b"layer")
    command = [sys.executable, "-I", "-c", _COLD_READ, str(Path(__file__).parents[2]), reg.address]
    imported = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    heavy = {"requests", "urllib3", "certifi", "logging", "subprocess", "threading", "sqlite3", "yaml", "tempfile", "sigkit.net.tls"}
    heavy |= {"sigkit.net.warm", "sigkit.oci.credentials", "cryptography", "pathlib", "asyncio"}
    assert "http.client" in imported
    assert not heavy & imported


@pytest.mark.attack("secret repeated in an error")
@pytest.mark.parametrize("status", [400, 403])
def test_a_registry_that_repeats_the_password_has_it_shown_nowhere(reg, app, client, status):
    log_in(reg.address)
    header = basic("user")
    reg.wants_basic(header)
    said = {"errors": [{"code": "UNKNOWN", "message": f"you sent {header}, which is user:secret"}]}
    reg.on("PUT", "*/manifests/*", nth=2).status(status, body=json.dumps(said).encode())
    with pytest.raises(SigkitError) as caught:
        client.push_manifest(app, DIGEST, RAW, OCI_MANIFEST)
    assert "you sent Basic [secret], which is user:[secret]" in str(caught.value)
