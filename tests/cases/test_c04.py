"""C4, the shapes of token servers."""

from __future__ import annotations

import json

import pytest

from sigkit.errors import AccessDenied
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators.logins import auth_entry, basic, log_in, write_config
from tests.simulators.misbehaving_registry import MisbehavingRegistry, MisbehavingServer, Reply

RAW = b'{"schemaVersion":2}'


@pytest.fixture
def reg():
    with MisbehavingRegistry() as running:
        running.state.put_manifest("t/app", RAW, tag="v1")
        log_in(running.address)
        yield running


@pytest.fixture
def tokens():
    """Give tokens t1, t2, …"""
    numbers = iter(range(1, 1000))
    with MisbehavingServer(lambda _: Reply(200, (), json.dumps({"token": f"t{next(numbers)}", "expires_in": 300}).encode())) as running:
        yield running


@pytest.fixture
def client():
    with open_registry(RegistryOptions()) as opened:
        yield opened


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"token": "t"}, id="only-token"),
        pytest.param({"access_token": "t"}, id="only-access-token"),
        pytest.param({"token": "t", "issued_at": "2026-01-01T00:00:00Z"}, id="no-expires-in"),
        pytest.param({"token": "t", "expires_in": 0}, id="expires-at-once"),
    ],
)
def test_c04_each_shape_of_answer_is_understood(reg, tokens, client, members):
    tokens.on("GET", "/token").answer(json.dumps(members).encode())
    reg.wants_token(f"{tokens.url}/token", lambda token: token == "t")
    for _ in range(2):
        assert client.fetch_manifest(Repository(reg.address, "t/app"), "v1") == RAW
    assert len(tokens.log) == (2 if members.get("expires_in") == 0 else 1)


def test_c04_a_server_that_refuses_post_is_asked_with_get(reg, tokens, client):
    write_config(auths={reg.address: {**auth_entry("user"), "identitytoken": "refresh"}})
    tokens.on("POST", "/token").status(405)
    reg.wants_token(f"{tokens.url}/token", lambda token: token.startswith("t"))
    assert client.fetch_manifest(Repository(reg.address, "t/app"), "v1") == RAW
    assert [seen.method for seen in tokens.log] == ["POST", "GET"]


def test_c04_a_token_that_expires_early_is_renewed_once_with_the_configured_credential(reg, tokens, client):
    used = []

    def accept(token):
        used.append(token)
        return (token == "t1" and used.count("t1") <= 2) or token == "t2"

    reg.wants_token(f"{tokens.url}/token", accept)
    for _ in range(4):
        assert client.fetch_manifest(Repository(reg.address, "t/app"), "v1") == RAW
    assert used == ["t1", "t1", "t1", "t2", "t2"]
    assert [seen.headers.get("authorization") for seen in tokens.log] == [basic("user"), basic("user")]


def test_c04_a_third_401_ends_with_could_not_check(reg, tokens, client):
    reg.wants_token(f"{tokens.url}/token", lambda _: False)
    with pytest.raises(AccessDenied) as refused:
        client.fetch_manifest(Repository(reg.address, "t/app"), "v1")
    assert (refused.value.status(), len(reg.log), len(tokens.log)) == (3, 3, 2)
