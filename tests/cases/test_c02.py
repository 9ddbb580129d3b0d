"""C2, the spelling of keys in a file of credentials."""

from __future__ import annotations

import pytest

from sigkit.errors import AccessDenied
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import open_registry
from tests.simulators.logins import auth_entry, basic, log_in, write_config
from tests.simulators.misbehaving_registry import MisbehavingRegistry


@pytest.fixture
def reg():
    with MisbehavingRegistry() as running:
        yield running


def user_seen_by(reg, path):
    """Ask for something in a repository, and return the Authorization header that the registry got last."""
    with open_registry(RegistryOptions()) as client:
        client.fetch_manifest(Repository(reg.address, path), "v1")
    return reg.log[-1].headers.get("authorization")


@pytest.mark.parametrize("key", ["{}", "{}/v1/", "http://{}/v2/", "https://{}", "https://{}/"])
def test_c02_each_spelling_authenticates(reg, key):
    log_in(key.format(reg.address))
    reg.wants_basic(basic("user"))
    assert user_seen_by(reg, "team-a/x") == basic("user")


def test_c02_the_longest_path_wins_and_ends_at_a_slash(reg):
    write_config(auths={f"{reg.address}/team-a": auth_entry("a"), reg.address: auth_entry("b")})
    reg.wants_basic(basic("a"), basic("b"))
    assert [user_seen_by(reg, path) for path in ("team-a/x", "team-ab/x", "x")] == [basic("a"), basic("b"), basic("b")]


def test_c02_a_path_key_is_not_used_outside_its_path(reg):
    log_in(f"{reg.address}/team-a")
    reg.wants_basic(basic("user"))
    with pytest.raises(AccessDenied):
        user_seen_by(reg, "team-b/x")
    assert not any("authorization" in seen.headers for seen in reg.log)
