"""A hostile registry, or somebody between, against the client that asks it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess

import pytest

from sigkit.digest import Digest
from sigkit.errors import Kind, SigkitError
from sigkit.oci.credentials import find_credential
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.registry import RegistryClient
from tests.simulators.command import SIGKIT
from tests.simulators.logins import auth_entry, basic, log_in, write_config
from tests.simulators.misbehaving_registry import OCI_INDEX, OCI_MANIFEST, MisbehavingRegistry, MisbehavingServer, Reply
from tests.simulators.tls_identity import TlsIdentity

RAW = b'{"schemaVersion":2}'
BLOB = Descriptor("application/octet-stream", Digest.of(b"layer"), 5)
SUBJECT = Digest.of(b"subject")
METADATA = ("169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254", "100.100.100.200")


@pytest.fixture
def reg():
    with MisbehavingRegistry() as running:
        running.state.put_manifest("t/app", RAW, tag="v1")
        running.state.put_blob("t/app", b"layer")
        log_in(running.address)
        yield running


@pytest.fixture
def evil():
    """Another server, which would answer anything; its log must show no secret, or nothing at all."""
    with MisbehavingServer(
        lambda _: Reply(200, (("Content-Type", OCI_INDEX),), b'{"token":"t","schemaVersion":2,"manifests":[]}')
    ) as running:
        yield running


@pytest.fixture
def app(reg):
    return Repository(reg.address, "t/app")


@pytest.fixture
def client():
    with RegistryClient(RegistryOptions(timeout_s=5, read_timeout_s=2), sleep=lambda _: None) as opened:
        yield opened


@pytest.fixture
def names(monkeypatch):
    """Make host names resolve to chosen addresses."""
    known: dict[str, str] = {}
    real = socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        address = known.get(host.decode())
        if address is None:
            return real(host, port, *args, **kwargs)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


def tree(image, *options):
    """Ask the command line, and return its exit status and its JSON answer."""
    done = subprocess.run(
        [*SIGKIT, "--output", "json", "tree", *options, image], capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    return done.returncode, done.stdout + done.stderr


def secrets(server):
    """Return what a server got to see of credentials, in headers, targets and bodies."""
    return [seen for seen in server.log if "authorization" in seen.headers or b"secret" in seen.body or "secret" in seen.target]


# --- token servers

REALMS = "CVE-2020-15157, CVE-2026-48978, CVE-2026-33540, go-containerregistry#2193"


@pytest.mark.attack(REALMS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_token_server_that_the_registry_chose_elsewhere_is_not_asked(reg, evil, client, app, scheme):
    reg.wants_token(f"{scheme}://localhost:{evil.port}/token", lambda _: False)  # another name, though the same machine
    with pytest.raises(SigkitError) as refused:
        client.fetch_manifest(app, "v1")
    assert (refused.value.kind, evil.log, evil.connections) == (Kind.NET, [], 0)
    assert "--token-realm localhost" in refused.value.remedy


@pytest.mark.attack(REALMS)
def test_the_command_line_refuses_such_a_token_server_and_prints_the_flag(reg, evil):
    reg.wants_token(f"http://localhost:{evil.port}/token", lambda _: False)
    status, said = tree(f"{reg.address}/t/app:v1")
    assert (status, evil.log) == (3, [])
    assert "SK-NET-004" in said
    assert "--token-realm localhost" in said


@pytest.mark.attack(REALMS)
def test_the_flag_lets_the_token_server_be_asked(reg, evil):
    reg.wants_token(f"http://localhost:{evil.port}/token", lambda token: token == "t")
    status, said = tree(f"{reg.address}/t/app@{Digest.of(RAW)}", "--token-realm", "localhost")
    assert len(evil.log) == 1, said
    assert evil.log[0].headers["authorization"] == basic("user")
    assert "SK-NET" not in said
    assert status != 2


@pytest.mark.attack(REALMS)
@pytest.mark.parametrize("realm", ["http://registry.example/token", "https://auth.example/token", "https://registry.example.evil.example/"])
def test_a_token_server_of_a_remote_registry_needs_tls_and_its_own_host(realm, names):
    from sigkit.net.url import parse_url
    from sigkit.oci.auth import Realms

    with pytest.raises(SigkitError) as refused:
        Realms("registry.example", parse_url("https://registry.example/v2/"), frozenset()).check(realm)
    assert refused.value.kind is Kind.NET


@pytest.mark.attack("go-containerregistry#2291")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_the_token_server_is_not_followed(reg, evil, client, app, status):
    with MisbehavingServer(lambda _: Reply(status, (("Location", f"{evil.url}/latest/meta-data/"),))) as tokens:
        reg.wants_token(f"{tokens.url}/token", lambda _: False)
        with pytest.raises(SigkitError) as refused:
            client.fetch_manifest(app, "v1")
    assert (refused.value.kind, refused.value.status(), evil.log) == (Kind.NET, 3, [])


@pytest.mark.attack("CVE-2019-10214")
def test_a_token_server_with_a_certificate_of_nobody_gets_nothing(client, tmp_path):
    identity = TlsIdentity.make(tmp_path, "localhost")
    with MisbehavingRegistry(host="localhost") as reg, MisbehavingServer(reg.state, tls=identity.server_context()) as tokens:
        log_in(reg.address)
        reg.wants_token(f"https://localhost:{tokens.port}/token", lambda _: False)
        with pytest.raises(SigkitError) as refused:
            client.fetch_manifest(Repository(reg.address, "t/app"), "v1")
        assert (refused.value.kind, tokens.log) == (Kind.NET, [])


@pytest.mark.attack("CVE-2019-10214")
def test_allowing_plain_http_for_the_registry_does_not_allow_it_for_its_token_server(names):
    with MisbehavingRegistry() as reg, MisbehavingServer(lambda _: Reply(200, (), b'{"token":"t"}')) as tokens:
        names["registry.example"] = "127.0.0.1"
        host = f"registry.example:{reg.port}"
        log_in(host)
        reg.wants_token(f"http://registry.example:{tokens.port}/token", lambda _: False)
        with RegistryClient(RegistryOptions(plain_http_hosts=(host,))) as client, pytest.raises(SigkitError) as refused:
            client.fetch_manifest(Repository(host, "t/app"), "v1")
        assert (refused.value.kind, tokens.log) == (Kind.NET, [])


# --- addresses


@pytest.mark.attack("go-containerregistry#2440")
@pytest.mark.parametrize("address", METADATA)
def test_a_registry_whose_name_resolves_to_a_metadata_service_is_not_connected_to(names, address):
    names["registry.example"] = address
    options = RegistryOptions(plain_http_hosts=("registry.example",))
    with RegistryClient(options) as client, pytest.raises(SigkitError) as refused:
        client.fetch_manifest(Repository("registry.example", "t/app"), "v1")
    assert (refused.value.kind, refused.value.status(), refused.value.got) == (Kind.NET, 3, address)


@pytest.mark.attack("go-containerregistry#2440")
@pytest.mark.parametrize("address", METADATA)
def test_a_redirect_to_a_name_that_resolves_to_a_metadata_service_is_not_followed(reg, app, names, address):
    names["store.example"] = address
    reg.on("GET", "*/blobs/*").redirect("https://store.example/latest/meta-data/")
    with RegistryClient(RegistryOptions(), sleep=lambda _: None) as client, pytest.raises(SigkitError) as refused:
        client.fetch_blob(app, BLOB, most_bytes=100)
    assert refused.value.kind is Kind.NET


# --- credentials and redirects


@pytest.mark.attack("CVE-2026-50151")
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_an_upload_to_another_host_is_not_made(reg, evil, app, method):
    reg.wants_basic(basic("user"))
    reg.on(method, "*").change = lambda _, reply: (
        Reply(202, (("Location", f"{evil.url}/upload"), ("Range", "0-4"))) if reply.status == 202 else reply
    )
    with RegistryClient(RegistryOptions(chunk_bytes=5), sleep=lambda _: None) as client, pytest.raises(SigkitError) as refused:
        client.push_blob(app, Digest.of(b"new blob"), b"new blob")
    assert (refused.value.kind, evil.log) == (Kind.NET, [])
    assert ("t/app", str(Digest.of(b"new blob"))) not in reg.state.blobs


@pytest.mark.attack("GHSA-vh4v-2xq2-g5cg, CVE-2018-18074, CVE-2018-20060")
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda client, app: client.fetch_manifest(app, Digest.of(RAW)), id="manifest"),
        pytest.param(lambda client, app: client.fetch_blob(app, BLOB, most_bytes=100), id="blob"),
        pytest.param(lambda client, app: client.list_referrers(app, SUBJECT), id="referrers"),
    ],
)
def test_another_port_of_the_same_host_gets_no_credentials(reg, evil, client, app, ask):
    reg.wants_basic(basic("user"))
    reg.on("GET", "*").change = lambda _, reply: (
        reply if reply.status == 401 else Reply(307, (("Location", f"http://127.0.0.1:{evil.port}/x"),))
    )
    with contextlib.suppress(SigkitError):
        ask(client, app)
    assert (len(evil.log), secrets(evil)) == (1, [])
    assert secrets(reg) != []


@pytest.mark.attack("GHSA-vh4v-2xq2-g5cg, CVE-2018-18074, CVE-2018-20060")
def test_credentials_do_not_come_back_when_the_redirect_does(reg, evil, client, app):
    reg.wants_basic(basic("user"))
    reg.on("GET", "*/blobs/*", nth=2).redirect(f"{evil.url}/x")
    evil.on("GET", "/x").redirect(f"{reg.url}/v2/t/app/blobs/{BLOB.digest}")
    with pytest.raises(SigkitError):
        client.fetch_blob(app, BLOB, most_bytes=100)
    assert [seen.headers.get("authorization") for seen in reg.log] == [None, basic("user"), None]


@pytest.mark.attack("GHSA-vh4v-2xq2-g5cg, CVE-2018-18074, CVE-2018-20060")
def test_a_redirect_to_plain_http_is_not_followed(client, names, tmp_path):
    identity = TlsIdentity.make(tmp_path, "localhost")
    names["store.example"] = "127.0.0.1"
    with MisbehavingRegistry(host="localhost", tls=identity.server_context()) as reg, MisbehavingServer(reg.state) as store:
        reg.on("GET", "*/blobs/*").redirect(f"http://store.example:{store.port}/x")
        with RegistryClient(RegistryOptions(ca_file=identity.ca_file)) as trusting, pytest.raises(SigkitError) as refused:
            trusting.fetch_blob(Repository(reg.address, "t/app"), BLOB, most_bytes=100)
        assert (refused.value.kind, store.log) == (Kind.NET, [])


@pytest.mark.attack("CVE-2024-47081")
@pytest.mark.parametrize("userinfo", ["user", "user:pass", "127.0.0.1:x"])
def test_a_location_with_a_user_name_is_refused_and_netrc_stays_closed(reg, evil, client, app, own_home, userinfo):
    (own_home / ".netrc").write_text("default login user password secret\n")
    (own_home / ".netrc").chmod(0o600)
    reg.on("GET", "*/blobs/*").redirect(f"http://{userinfo}@127.0.0.1:{evil.port}/x")
    with pytest.raises(SigkitError) as refused:
        client.fetch_blob(app, BLOB, most_bytes=100)
    assert (refused.value.kind, evil.log) == (Kind.NET, [])


# --- lists


@pytest.mark.attack("CVE-2026-85732, oras#1214")
def test_a_next_page_on_another_host_is_not_asked(reg, evil, client, app):
    reg.on("GET", "*/referrers/*").add(Link=f'<{evil.url}/v2/t/app/referrers/x>; rel="next"')
    with pytest.raises(SigkitError) as refused:
        client.list_referrers(app, SUBJECT)
    assert (refused.value.kind, refused.value.status(), evil.log) == (Kind.NET, 3, [])


@pytest.mark.attack("CVE-2026-85732, oras#1214")
def test_a_redirected_list_does_not_make_its_host_a_registry(reg, evil, client, app):
    reg.on("GET", "*/referrers/*").redirect(f"{evil.url}/list")
    evil.on("GET", "/list").answer(
        b'{"schemaVersion":2,"manifests":[]}', headers={"Content-Type": OCI_INDEX, "Link": '</more>; rel="next"'}
    )
    evil.on("GET", "/more").status(401, WWW_Authenticate="Basic")
    with pytest.raises(SigkitError) as refused:
        client.list_referrers(app, SUBJECT)
    assert (refused.value.kind, secrets(evil)) == (Kind.NET, [])


@pytest.mark.attack("CVE-2026-85732, oras#1214")
@pytest.mark.parametrize("link", ["?from=0", "?from={n}"], ids=["circle", "endless"])
def test_pages_without_end_are_left_by_limit(reg, client, app, link):
    numbers = iter(range(10**6))
    reg.on("GET", "*/referrers/*").change = lambda _, reply: Reply(
        200, (*reply.headers, ("Link", f'<{link.format(n=next(numbers))}>; rel="next"')), reply.body
    )
    with pytest.raises(SigkitError) as refused:
        client.list_referrers(app, SUBJECT)
    assert (refused.value.kind, refused.value.status()) == (Kind.LIMIT, 3)


# --- content


@pytest.mark.attack("go-containerregistry#2293")
@pytest.mark.parametrize(
    "media_type", ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar"]
)
def test_urls_in_a_descriptor_are_never_fetched(reg, evil, client, app, media_type):
    from sigkit.errors import Place
    from sigkit.oci.manifest import Manifest, parse_manifest

    layer = {"mediaType": media_type, "digest": str(Digest.of(b"absent")), "size": 6, "urls": [f"{evil.url}/latest/meta-data/"]}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(BLOB.digest), "size": 5}
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}).encode()
    reg.state.put_manifest("t/app", raw, tag="foreign")
    fetched = client.fetch_manifest(app, "foreign")
    manifest = parse_manifest(fetched, Digest.of(fetched), Place("x"))
    assert isinstance(manifest, Manifest)
    with pytest.raises(SigkitError) as refused:
        client.fetch_blob(app, manifest.layers[0], most_bytes=100)
    assert (refused.value.kind, refused.value.status(), evil.log) == (Kind.UNAVAIL, 3, [])


BOMBS = "CVE-2025-66418, CVE-2025-66471, CVE-2026-21441"


@pytest.mark.attack(BOMBS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", "br", "zstd"])
def test_a_compressed_answer_is_not_decoded(reg, client, app, encoding):
    bomb = gzip.compress(gzip.compress(bytes(50 << 20)))
    reg.on("GET", "*").answer(bomb, headers={"Content-Encoding": encoding, "Content-Type": OCI_MANIFEST})
    for ask in (lambda: client.fetch_manifest(app, "v1"), lambda: client.fetch_blob(app, BLOB, most_bytes=100)):
        with pytest.raises(SigkitError) as refused:
            ask()
        assert refused.value.kind in {Kind.NET, Kind.DIGEST}


@pytest.mark.attack(BOMBS)
def test_the_body_of_a_redirect_is_not_decoded_and_not_read_to_its_end(reg, client, app):
    bomb = gzip.compress(bytes(200 << 20))
    reg.on("GET", "*/blobs/*", nth=1).answer(
        bomb, status=302, headers={"Content-Encoding": "gzip", "Location": f"/v2/t/app/blobs/{BLOB.digest}?again=1"}
    )
    assert client.fetch_blob(app, BLOB, most_bytes=100) == b"layer"


@pytest.mark.attack(BOMBS)
def test_a_body_without_length_is_cut_at_the_limit(reg, client, app):
    reg.on("GET", "*").change = lambda _, __: Reply(200, (("Content-Type", OCI_MANIFEST),), bytes(5 << 20), framed=False)
    with pytest.raises(SigkitError) as refused:
        client.fetch_manifest(app, "v1")
    assert refused.value.kind is Kind.LIMIT


# --- credential helpers


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Put a credential helper on PATH; what it is asked is kept."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(script):
        path = tmp_path / "docker-credential-test"
        path.write_text(f"#!/bin/sh\ncat >> {tmp_path}/asked; echo >> {tmp_path}/asked\n{script}\n")
        path.chmod(0o755)
        return tmp_path / "asked"

    return write


@pytest.mark.attack("CVE-2021-41092, CVE-2025-27403")
def test_when_the_helper_fails_nothing_is_asked_of_the_registry_with_other_credentials(reg, client, app, helper):
    write_config(
        credHelpers={reg.address: "test"}, auths={"https://index.docker.io/v1/": auth_entry("hub"), reg.address: auth_entry("inline")}
    )
    helper("echo locked >&2; exit 1")
    reg.wants_basic(basic("inline"), basic("hub"))
    with pytest.raises(SigkitError) as refused:
        client.fetch_manifest(app, "v1")
    assert (refused.value.kind, refused.value.status(), secrets(reg)) == (Kind.NET, 3, [])


@pytest.mark.attack("CVE-2021-41092, CVE-2025-27403")
def test_an_answer_of_the_helper_for_another_registry_is_not_used(reg, client, app, helper):
    write_config(credsStore="test")
    helper("""echo '{"ServerURL":"https://index.docker.io/v1/","Username":"hub","Secret":"secret"}'""")
    reg.wants_basic(basic("hub"))
    with pytest.raises(SigkitError) as refused:
        client.fetch_manifest(app, "v1")
    assert (refused.value.kind, secrets(reg)) == (Kind.NET, [])


@pytest.mark.attack("CVE-2021-41092, CVE-2025-27403")
def test_a_foreign_registry_gets_no_credential_of_another(reg, client, app):
    write_config(
        auths={"https://index.docker.io/v1/": auth_entry("hub"), f"{reg.host}:1": auth_entry("port"), reg.host: auth_entry("host")}
    )
    reg.wants_basic(basic("never"))
    with pytest.raises(SigkitError) as refused:
        client.fetch_manifest(app, "v1")
    assert (refused.value.status(), secrets(reg)) == (3, [])


@pytest.mark.attack("CVE-2020-5260")
@pytest.mark.parametrize(
    "host", ["registry.example%0apath", "registry.example\npath", "registry.example%0ahost=evil", "registry.example\rx"]
)
def test_a_line_break_in_a_host_reaches_no_helper(helper, host):
    write_config(credsStore="test")
    asked = helper("""echo '{"ServerURL":"evil.example","Username":"u","Secret":"secret"}'""")
    for give in (lambda: parse_reference(f"{host}/t/app:v1"), lambda: find_credential(Repository(host, "t/app"))):
        with pytest.raises(SigkitError) as refused:
            give()
        assert refused.value.kind is Kind.REF
    assert not asked.exists()
