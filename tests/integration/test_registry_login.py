"""The client against a real docker-registry that wants a password or speaks TLS, with credentials as podman stores them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from sigkit.digest import Digest
from sigkit.errors import AccessDenied, SigkitError
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators import peer_root
from tests.simulators.tls_identity import TlsIdentity

pytestmark = pytest.mark.peers

# bcrypt of the password "secret"
HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
DATA = b"layer" * 100_000
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


def serve(peer, directory, **variables):
    """Run docker-registry with more configuration, which it takes from its environment."""
    configured = SimpleNamespace(command=lambda *arguments: peer.command(*arguments, env=variables))
    return peer_root.docker_registry(cast("Any", configured), directory)


@pytest.fixture
def locked(peer, tmp_path):
    """Run a registry that wants a password."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with serve(
        peer,
        tmp_path,
        REGISTRY_AUTH="htpasswd",
        REGISTRY_AUTH_HTPASSWD_REALM="registry",
        REGISTRY_AUTH_HTPASSWD_PATH=str(tmp_path / "htpasswd"),
    ) as running:
        yield running


def roundtrip(address, **options):
    with open_registry(RegistryOptions(chunk_bytes=200_000, **options)) as client:
        repository = Repository(address, "t/app")
        client.push_blob(repository, BLOB.digest, DATA)
        return client.fetch_blob(repository, BLOB, most_bytes=1 << 20)


def test_a_login_of_podman_serves_sigkit(peer, locked, tmp_path):
    auth = tmp_path / "auth.json"
    login = peer(
        "podman", "login", "--tls-verify=false", "--authfile", auth, "-u", "user", "--password-stdin", locked.address, stdin="secret"
    )
    assert login.returncode == 0, login.stderr
    assert roundtrip(locked.address, auth_files=(str(auth),)) == DATA


def test_without_a_login_the_registry_says_how(locked):
    with pytest.raises(AccessDenied) as refused:
        roundtrip(locked.address)
    assert (refused.value.status(), refused.value.remedy) == (3, f"docker login {locked.address}")


def test_a_wrong_password_is_could_not_check(locked, tmp_path):
    (tmp_path / "auth.json").write_text('{"auths":{"%s":{"username":"user","password":"wrong"}}}' % locked.address)  # noqa: UP031 # braces
    with pytest.raises(AccessDenied) as refused:
        roundtrip(locked.address, auth_files=(str(tmp_path / "auth.json"),))
    assert refused.value.status() == 3


def test_tls_with_a_private_authority(peer, tmp_path):
    identity = TlsIdentity.make(tmp_path, "localhost")
    with serve(peer, tmp_path, REGISTRY_HTTP_TLS_CERTIFICATE=identity.chain_file, REGISTRY_HTTP_TLS_KEY=identity.key_file) as running:
        address = running.address.replace("127.0.0.1", "localhost")
        assert roundtrip(address, ca_file=identity.ca_file) == DATA
        with pytest.raises(SigkitError) as refused:
            roundtrip(address)
        assert refused.value.status() == 3
        assert "--registry-cacert" in refused.value.remedy
