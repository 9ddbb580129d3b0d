"""C5, a blob that the registry redirects to a store: pulled, and no store sees a credential."""

from __future__ import annotations

import pytest

from sigkit.digest import Digest
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators.logins import basic, log_in
from tests.simulators.misbehaving_registry import MisbehavingRegistry, MisbehavingServer, Reply

DATA = b"layer" * 1000
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


def as_object_stores_do(seen):
    """Refuse what a signed URL does not cover."""
    if "authorization" in seen.headers:
        return Reply(400, (), b"<Error><Code>InvalidArgument</Code></Error>")
    return Reply(403 if seen.method == "HEAD" else 200, (), DATA)


@pytest.fixture
def store():
    with MisbehavingServer(as_object_stores_do) as running:
        yield running


@pytest.fixture
def reg(store):
    with MisbehavingRegistry(host="localhost") as running:
        log_in(running.address)
        running.wants_basic(basic("user"))
        yield running


def redirect(reg, host, store):
    """Answer a request with credentials with a signed URL."""
    location = ("Location", f"http://{host}:{store.port}/bucket/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab%2Fcd")
    reg.on("GET", "*/blobs/*").change = lambda _, reply: Reply(307, (location,)) if reply.status != 401 else reply


def pull(reg):
    with open_registry(RegistryOptions()) as client:
        return client.fetch_blob(Repository(reg.address, "t/app"), BLOB, most_bytes=1 << 20)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "store.localhost"], ids=["other-host", "other-port", "subdomain"])
def test_c05_the_blob_is_pulled_and_the_store_sees_no_credential(reg, store, host, monkeypatch):
    import socket

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *rest, **more: real(name.removeprefix(b"store."), *rest, **more))
    redirect(reg, host, store)
    assert pull(reg) == DATA
    assert reg.log[-1].headers["authorization"] == basic("user")
    assert [("authorization" in seen.headers, seen.method) for seen in store.log] == [(False, "GET")]
    assert store.log[0].target.endswith("?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=ab%2Fcd")


def test_c05_an_expired_url_is_asked_for_again_once(reg, store):
    redirect(reg, "localhost", store)
    store.on("GET", "/bucket/x", nth=1).status(403)
    assert pull(reg) == DATA
    assert (len(reg.log), len(store.log)) == (3, 2)
