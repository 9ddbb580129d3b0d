"""Credentials from the files and helpers of docker and podman."""

from __future__ import annotations

import base64
import json
import os

import pytest

from sigkit.errors import CredentialsUnusable, FileUnreadable, Kind, MalformedJson, MalformedReference, SigkitError, WrongShape
from sigkit.oci.credentials import IdentityToken, UserPassword, find_credential
from sigkit.oci.reference import Repository

APP = Repository("registry.example", "team-a/app")


def entry(user, password="secret"):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def config(own_home):
    """Write ~/.docker/config.json."""

    def write(document, name=".docker/config.json"):
        path = own_home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Put a credential helper on PATH; what it is given is kept beside it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(script, name="docker-credential-test"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat > {tmp_path}/given; echo $@ > {tmp_path}/arguments\n{script}\n")
        path.chmod(0o755)
        return tmp_path

    return write


def user_of(repository, **options):
    found = find_credential(repository, **options)
    return found.credential.user if found else None


def test_without_files_there_are_no_credentials():
    assert find_credential(APP) is None


def test_the_longest_path_that_fits_wins(config):
    config({"auths": {"registry.example/team-a": entry("a"), "registry.example": entry("b"), "registry.example/team-a/app": entry("c")}})
    assert [user_of(Repository("registry.example", path)) for path in ("team-a/app", "team-a/x/y", "team-ab/x", "x")] == [
        "c",
        "a",
        "b",
        "b",
    ]


@pytest.mark.parametrize(
    "key",
    ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "https://registry-1.docker.io/v2/", "docker.io/library"],
)
def test_docker_hub_is_known_by_all_its_names(config, key):
    config({"auths": {key: entry("hub")}})
    assert user_of(Repository("docker.io", "library/busybox")) == "hub"


def test_the_port_that_is_asked_anyhow_is_no_part_of_the_registry(config):
    config({"auths": {"registry.example:443": entry("a")}})
    assert user_of(APP) == "a"


def test_a_port_is_part_of_the_registry(config):
    config({"auths": {"registry.example:5000": entry("a")}})
    assert user_of(APP) is None


def test_a_password_may_hold_colons(config):
    config({"auths": {"registry.example": entry("a", "x:y:z")}})
    found = find_credential(APP)
    assert found is not None
    assert found.credential == UserPassword("a", "x:y:z")


def test_an_identity_token_is_one(config):
    config({"auths": {"registry.example": {**entry("a", ""), "identitytoken": "refresh"}}})
    found = find_credential(APP)
    assert found is not None
    assert found.credential == IdentityToken("a", "refresh")


def test_the_file_and_key_that_gave_the_credential_are_recorded(config):
    path = config({"auths": {"registry.example": entry("a")}})
    found = find_credential(APP)
    assert found is not None
    assert str(path) in str(found.place)
    assert "registry.example" in str(found.place)


def test_secrets_are_not_in_what_python_prints(config):
    config({"auths": {"registry.example": entry("a", "hunter2")}})
    assert "hunter2" not in repr(find_credential(APP))


def test_podman_comes_before_docker_and_the_environment_before_both(config, monkeypatch, tmp_path):
    config({"auths": {"registry.example": entry("docker")}})
    assert user_of(APP) == "docker"
    config({"auths": {"registry.example": entry("podman")}}, ".config/containers/auth.json")
    assert user_of(APP) == "podman"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run/containers").mkdir(parents=True)
    (tmp_path / "run/containers/auth.json").write_text(json.dumps({"auths": {"registry.example": entry("runtime")}}))
    assert user_of(APP) == "runtime"
    (tmp_path / "named.json").write_text(json.dumps({"auths": {"registry.example": entry("named")}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named.json"))
    assert user_of(APP) == "named"


def test_a_file_that_does_not_know_the_registry_passes_on_to_the_next(config):
    config({"auths": {"other.example": entry("x")}}, ".config/containers/auth.json")
    config({"auths": {"registry.example": entry("docker")}})
    assert user_of(APP) == "docker"


def test_a_file_that_the_user_named_is_the_only_one_and_must_exist(config, tmp_path):
    config({"auths": {"registry.example": entry("docker")}})
    with pytest.raises(FileUnreadable) as refused:
        find_credential(APP, auth_files=(str(tmp_path / "absent.json"),))
    assert refused.value.status() == 2


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ("{", MalformedJson),
        ('{"auths":{"registry.example":{"auth":"x"}},"auths":{}}', MalformedJson),
        ({"auths": []}, WrongShape),
        ({"auths": {"registry.example": {"auth": "!!!"}}}, SigkitError),
        ({"auths": {"registry.example": {"auth": base64.b64encode(b"no colon").decode()}}}, WrongShape),
        ({"credHelpers": {"registry.example": "../evil"}}, WrongShape),
    ],
    ids=["cut", "twice", "type", "base64", "colon", "helper-name"],
)
def test_a_file_that_cannot_be_understood_is_the_operators_fault_not_anonymous(config, document, error):
    path = config(document)
    with pytest.raises(error) as refused:
        find_credential(APP)
    assert (refused.value.status(), refused.value.place.source) == (2, str(path))


def test_a_helper_is_asked_for_exactly_this_registry(config, helper):
    config({"credHelpers": {"registry.example": "test"}, "auths": {"registry.example": entry("inline")}})
    kept = helper("""echo '{"ServerURL":"registry.example","Username":"h","Secret":"s"}'""")
    found = find_credential(APP)
    assert found is not None
    assert found.credential == UserPassword("h", "s")
    assert ((kept / "given").read_text(), (kept / "arguments").read_text()) == ("registry.example", "get\n")


def test_a_helper_for_another_registry_is_not_asked(config, helper):
    config({"credHelpers": {"other.example": "test"}})
    kept = helper("exit 1")
    assert find_credential(APP) is None
    assert not (kept / "given").exists()


def test_the_general_helper_knows_docker_hub_by_the_name_that_docker_stores(config, helper):
    config({"credsStore": "test"})
    kept = helper("""echo '{"ServerURL":"https://index.docker.io/v1/","Username":"<token>","Secret":"s"}'""")
    found = find_credential(Repository("docker.io", "library/busybox"))
    assert found is not None
    assert found.credential == IdentityToken("<token>", "s")
    assert (kept / "given").read_text() == "https://index.docker.io/v1/"


def test_a_helper_that_has_nothing_passes_on_to_the_file(config, helper):
    config({"credsStore": "test", "auths": {"registry.example": entry("inline")}})
    helper("echo credentials not found in native keychain; exit 1")
    assert user_of(APP) == "inline"


@pytest.mark.parametrize(
    "script",
    [
        "echo the vault is locked >&2; exit 1",
        "echo '{'",
        """echo '{"ServerURL":"evil.example","Username":"u","Secret":"s"}'""",
        "kill -9 $$",
    ],
    ids=["fails", "junk", "other-server", "dies"],
)
def test_a_helper_that_fails_is_an_error_not_anonymous(config, helper, script):
    config({"credHelpers": {"registry.example": "test"}})
    helper(script)
    with pytest.raises(CredentialsUnusable) as refused:
        find_credential(APP)
    assert (refused.value.kind, refused.value.status()) == (Kind.NET, 3)


def test_a_helper_that_is_not_there_is_an_error(config):
    config({"credHelpers": {"registry.example": "absent"}})
    with pytest.raises(CredentialsUnusable) as refused:
        find_credential(APP)
    assert refused.value.kind is Kind.NET
    assert refused.value.remedy == "echo registry.example | docker-credential-absent get"


def test_what_a_failing_helper_printed_is_not_repeated(config, helper):
    config({"credHelpers": {"registry.example": "test"}})
    helper("echo hunter2; exit 1")
    with pytest.raises(CredentialsUnusable) as refused:
        find_credential(APP)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("registry", ["host\npath=x", "host evil", "host/../x", "host%0a"])
def test_a_name_that_would_start_another_field_is_not_given_to_a_helper(config, helper, registry):
    config({"credsStore": "test"})
    kept = helper("exit 1")
    with pytest.raises(MalformedReference) as refused:
        find_credential(Repository(registry, "app"))
    assert refused.value.kind is Kind.REF
    assert not (kept / "given").exists()
