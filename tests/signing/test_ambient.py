"""Tokens that the surroundings give: each kind is recognised, and each failure is named with what to do."""

from __future__ import annotations

import json
import os
import socket
import traceback

import pytest

from sigkit.cli.password import VARIABLES
from sigkit.errors import AnswerUnusable, ServerFailed, SigkitError, TokenNotGranted, TooLarge
from sigkit.signing.ambient import SPIFFE_VARIABLE, Manner, Surroundings, ambient_token, gitlab_variable
from sigkit.signing.client import SHOWN_CHARACTERS
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.sessions import Told

TOLD = Manner(Told())
AGENTS = [("BUILDKITE", "buildkite-agent"), ("CIRCLECI", "circleci")]


@pytest.fixture
def platform():
    """Answer as GitHub's and Google's services do, and remember the requests."""

    def core(seen):
        if seen.path.endswith("/token"):
            return Reply(200, (), b'{"access_token":"access"}')
        if seen.path.endswith("/identity"):
            return Reply(200, (), b"t.o.k")
        return Reply(200, (), json.dumps({"value": "t.o.k", "token": "t.o.k"}).encode())

    with MisbehavingServer(core) as server:
        yield server


@pytest.fixture
def around(tmp_path, platform):
    """Return surroundings in which nothing is recognised, but for what a test adds."""

    def make(**environment):
        return Surroundings(
            {"PATH": str(tmp_path)} | environment,
            str(tmp_path / "k8s"),
            str(tmp_path / "product"),
            str(tmp_path / "socket"),
            metadata=platform.url,
            credentials=platform.url,
        )

    return make


def program(directory, name: str, script: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def github(platform, **more):
    named = {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{platform.url}/x?api-version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
    }
    return {name: value for name, value in (named | more).items() if value}


def test_where_nothing_is_recognised_there_is_no_token(around):
    assert ambient_token("sigstore", TOLD, around()) is None


def test_github_is_asked_for_the_audience_with_the_jobs_credential(around, platform):
    found = ambient_token("sig store", TOLD, around(**github(platform)))
    assert found == ("t.o.k", "GitHub Actions")
    (seen,) = platform.log
    assert (seen.query, seen.headers["authorization"]) == ({"api-version": "2", "audience": "sig store"}, "Bearer secret")


@pytest.mark.parametrize("missing", ["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
def test_a_github_job_without_the_permission_is_told_which(around, platform, missing):
    with pytest.raises(TokenNotGranted) as caught:
        ambient_token("sigstore", TOLD, around(**github(platform, **{missing: ""})))
    assert "the job lacks permission to request a token" in caught.value.problem
    assert "permissions: id-token: write" in caught.value.remedy
    assert caught.value.status() == 2


@pytest.mark.attack("secret in an exception of the transport")
@pytest.mark.parametrize("variable", ["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
@pytest.mark.parametrize(("end", "what"), [("\n", "a line break"), ("é", "a character that is not ASCII"), ("\x00", "a control character")])
def test_what_cannot_be_sent_of_a_github_jobs_variables_is_named_and_not_quoted(around, platform, variable, end, what):
    value = github(platform)[variable] + "/TOPSECRET" + end
    told = Told()
    with pytest.raises(TokenNotGranted) as caught:
        ambient_token("sigstore", Manner(told), around(**github(platform, **{variable: value})))
    assert (caught.value.got, caught.value.status()) == (f"{what} in {variable}", 2)
    assert "TOPSECRET" not in "".join(traceback.format_exception(caught.value))
    assert (platform.log, told.waits) == ([], [])


@pytest.mark.attack("secret in an exception of the transport")
@pytest.mark.parametrize("body", [b'"TOPSECRET"', b'{"access_token":["TOPSECRET"]}', b'{"access_token":"TOPSECRET\\n"}', b'{"TOPSECRET"'])
def test_an_access_token_of_googles_that_cannot_be_sent_is_not_sent_and_not_quoted(around, platform, body):
    platform.on("GET", "*").answer(body)
    with pytest.raises(AnswerUnusable) as caught:
        ambient_token("sigstore", TOLD, around(GOOGLE_SERVICE_ACCOUNT_NAME="ci@acme.iam.gserviceaccount.com"))
    assert caught.value.problem.startswith("Google Cloud: ")
    assert "TOPSECRET" not in "".join(traceback.format_exception(caught.value))
    assert len(platform.log) == 1


def test_githubs_refusal_is_handed_on_and_its_credential_goes_nowhere_else(around, platform):
    platform.on("GET", "/x").redirect("http://127.0.0.1:1/steal")
    with pytest.raises(SigkitError) as caught:
        ambient_token("sigstore", TOLD, around(**github(platform)))
    assert caught.value.problem.startswith("GitHub Actions: ")
    platform.forget()
    platform.on("GET", "/x").status(400, body=b'{"message":"audience not allowed"}')
    with pytest.raises(SigkitError, match="audience not allowed"):
        ambient_token("sigstore", TOLD, around(**github(platform)))


def test_a_platform_that_is_away_is_waited_for_as_long_as_the_user_says(around, platform):
    platform.on("GET", "/x").status(503, retry_after=2)
    told = Told()
    with pytest.raises(ServerFailed):
        ambient_token("sigstore", Manner(told, 1), around(**github(platform)))
    assert (len(platform.log), told.waits) == (1, [])


@pytest.mark.parametrize("variable", [SPIFFE_VARIABLE, "GOOGLE_SERVICE_ACCOUNT_NAME"])
def test_a_variable_that_says_whose_token_is_meant_is_not_passed_over_when_it_is_empty(around, platform, tmp_path, variable):
    (tmp_path / "product").write_text("Google\n" if variable != SPIFFE_VARIABLE else "other\n")  # the machine has a token, of another
    with pytest.raises(TokenNotGranted, match=f"{variable} is set and empty") as caught:
        ambient_token("sigstore", TOLD, around(**{variable: ""}))
    assert (caught.value.status(), platform.log) == (2, [])


@pytest.mark.parametrize("body", [b"", b"[]", b'{"other":1}', b'{"value":1}', b"<html>"])
def test_an_answer_without_a_token_is_refused(around, platform, body):
    platform.on("GET", "/x").answer(body)
    with pytest.raises(AnswerUnusable) as caught:
        ambient_token("sigstore", TOLD, around(**github(platform)))
    assert caught.value.status() == 3


@pytest.mark.parametrize("body", [b"", b"<html>a.b.c</html>", b"no token", "a.b.é".encode(), b"\xff.\xff.\xff"])
def test_a_page_of_googles_in_the_place_of_a_token_is_no_token(around, platform, tmp_path, body):
    (tmp_path / "product").write_text("Google\n")
    platform.on("GET", "*").answer(body)
    with pytest.raises(AnswerUnusable) as caught:
        ambient_token("sigstore", TOLD, around())
    assert caught.value.status() == 3


def test_a_huge_answer_is_refused_as_LIMIT(around, platform):
    platform.on("GET", "/x").answer(b" " * 1_000_000)
    with pytest.raises(SigkitError) as caught:
        ambient_token("sigstore", TOLD, around(**github(platform)))
    assert caught.value.kind.value == "LIMIT"


@pytest.mark.parametrize("product", ["Google", "Google Compute Engine"])
def test_a_machine_of_google_has_an_identity(around, platform, tmp_path, product):
    (tmp_path / "product").write_text(f"{product}\n")
    assert ambient_token("sigstore", TOLD, around()) == ("t.o.k", "Google Cloud")
    (seen,) = platform.log
    assert (seen.query, seen.headers["metadata-flavor"]) == ({"audience": "sigstore", "format": "full"}, "Google")


def test_a_machine_of_another_maker_is_none(around, tmp_path):
    (tmp_path / "product").write_text("Google Pixel\n")
    assert ambient_token("sigstore", TOLD, around()) is None


def test_a_service_account_is_impersonated_with_the_machines_access_token(around, platform):
    found = ambient_token("sigstore", TOLD, around(GOOGLE_SERVICE_ACCOUNT_NAME="ci@acme.iam.gserviceaccount.com"))
    assert found == ("t.o.k", "Google Cloud (ci@acme.iam.gserviceaccount.com)")
    access, generate = platform.log
    assert "authorization" not in access.headers
    assert generate.headers["authorization"] == "Bearer access"
    assert generate.path.endswith("/serviceAccounts/ci@acme.iam.gserviceaccount.com:generateIdToken")
    assert json.loads(generate.body) == {"audience": "sigstore", "includeEmail": True}


@pytest.mark.parametrize(
    ("variable", "name", "arguments"),
    [
        ("BUILDKITE", "buildkite-agent", "oidc request-token --audience sigstore"),
        ("CIRCLECI", "circleci", 'run oidc get --claims {"aud":"sigstore"} --root-issuer'),
    ],
)
def test_an_agents_program_is_asked(around, tmp_path, variable, name, arguments):
    program(tmp_path, name, f'echo "$*" > {tmp_path}/asked\necho t.o.k')
    found = ambient_token("sigstore", TOLD, around(**{variable: "true"}))
    assert found is not None
    assert found.token == "t.o.k"
    assert (tmp_path / "asked").read_text().strip() == arguments


@pytest.mark.parametrize(("variable", "name"), AGENTS)
def test_an_agents_program_that_is_missing_or_fails_is_named(around, tmp_path, variable, name):
    with pytest.raises(TokenNotGranted, match=f"there is no program {name}"):
        ambient_token("sigstore", TOLD, around(**{variable: "true"}))
    program(tmp_path, name, "echo not allowed >&2; exit 1")
    with pytest.raises(TokenNotGranted) as caught:
        ambient_token("sigstore", TOLD, around(**{variable: "true"}))
    assert (name in caught.value.problem, caught.value.got) == (True, "not allowed")


@pytest.mark.attack("password in an agent's environment")
@pytest.mark.parametrize("password", VARIABLES)
@pytest.mark.parametrize(("variable", "name"), AGENTS)
def test_an_agents_program_gets_the_jobs_environment_but_no_password_of_a_key(around, tmp_path, variable, name, password):
    program(tmp_path, name, 'echo "${%s-no} ${THE_AGENTS_OWN-no}"' % password)  # noqa: UP031 # braces of the shell's
    found = ambient_token("sigstore", TOLD, around(**{variable: "true", password: "hunter2", "THE_AGENTS_OWN": "yes"}))
    assert found is not None
    assert found.token == "no yes"


@pytest.mark.attack("agent that never stops printing")
@pytest.mark.parametrize(("variable", "name"), AGENTS)
def test_an_agents_program_that_prints_without_end_is_ended_by_LIMIT(around, tmp_path, variable, name):
    program(tmp_path, name, "while :; do echo 0123456789012345678901234567890123456789; done")
    with pytest.raises(TooLarge) as caught:
        ambient_token("sigstore", TOLD, around(**{variable: "true"}))
    assert caught.value.place.source == name


@pytest.mark.parametrize(("variable", "name"), AGENTS)
def test_what_an_agents_program_complains_of_is_cut_and_keeps_it_from_nothing(around, tmp_path, variable, name):
    complaint = "echo 0123456789012345678901234567890123456789 >&2"
    program(tmp_path, name, f"n=0; while [ $n -lt 5000 ]; do {complaint}; n=$((n+1)); done; echo t.o.k")  # more than pipes hold
    found = ambient_token("sigstore", TOLD, around(**{variable: "true"}))
    assert found is not None
    assert found.token == "t.o.k"
    program(tmp_path, name, f"n=0; while [ $n -lt 5000 ]; do {complaint}; n=$((n+1)); done; exit 1")
    with pytest.raises(TokenNotGranted) as caught:
        ambient_token("sigstore", TOLD, around(**{variable: "true"}))
    assert (len(caught.value.got), caught.value.got[:10]) == (SHOWN_CHARACTERS, "0123456789")


def test_gitlab_gives_the_token_in_a_variable_named_for_the_audience(around):
    assert ambient_token("sigstore", TOLD, around(GITLAB_CI="true", SIGSTORE_ID_TOKEN="t.o.k")) == ("t.o.k", "GitLab")
    with pytest.raises(TokenNotGranted) as caught:
        ambient_token("https://ca.example", TOLD, around(GITLAB_CI="true", SIGSTORE_ID_TOKEN="t.o.k"))
    assert "HTTPS___CA_EXAMPLE_ID_TOKEN" in caught.value.problem
    assert "aud: https://ca.example" in caught.value.remedy


@pytest.mark.parametrize(
    ("audience", "variable"),
    [("sigstore", "SIGSTORE_ID_TOKEN"), ("http://a.b", "HTTP___A_B_ID_TOKEN"), ("1x", "_X_ID_TOKEN"), ("é", "__ID_TOKEN")],
)
def test_the_variable_is_named_as_sigstores_clients_name_it(audience, variable):
    assert gitlab_variable(audience) == variable


def test_a_projected_token_is_read_from_its_file(around, tmp_path):
    (tmp_path / "k8s").write_text("t.o.k\n")
    found = ambient_token("sigstore", TOLD, around())
    assert found is not None
    assert (found.token.strip(), found.source) == ("t.o.k", "Kubernetes")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_projected_token_that_cannot_be_read_is_named(around, tmp_path):
    (tmp_path / "k8s").write_text("t.o.k")
    (tmp_path / "k8s").chmod(0)
    with pytest.raises(SigkitError):
        ambient_token("sigstore", TOLD, around())


def test_a_token_of_spiffe_is_read_from_the_file_that_is_named(around, tmp_path):
    (tmp_path / "svid").write_text("t.o.k")
    assert ambient_token("sigstore", TOLD, around(**{SPIFFE_VARIABLE: str(tmp_path / "svid")})) == ("t.o.k", "SPIFFE")
    with pytest.raises(SigkitError) as caught:
        ambient_token("sigstore", TOLD, around(**{SPIFFE_VARIABLE: str(tmp_path / "absent")}))
    assert caught.value.status() == 2


def test_a_workload_api_is_named_with_the_way_around_it(around, tmp_path):
    with pytest.raises(TokenNotGranted) as caught:
        ambient_token("sigstore", TOLD, around(SPIFFE_ENDPOINT_SOCKET="unix:///run/x.sock"))
    assert "spiffe-helper" in caught.value.remedy
    with socket.socket(socket.AF_UNIX) as api:
        api.bind(str(tmp_path / "socket"))
        with pytest.raises(TokenNotGranted):
            ambient_token("sigstore", TOLD, around())


@pytest.mark.attack("socket that anybody laid")
@pytest.mark.parametrize("laid", ["a file", pytest.param("a stranger's socket", marks=pytest.mark.root)])
def test_what_anybody_can_lay_in_the_place_of_a_workload_api_stops_nobody(around, tmp_path, laid):
    with socket.socket(socket.AF_UNIX) as api:
        if laid == "a file":
            (tmp_path / "socket").touch()
        else:
            api.bind(str(tmp_path / "socket"))
            os.chown(tmp_path / "socket", 65534, 65534)
        assert ambient_token("sigstore", TOLD, around()) is None


def test_the_first_that_is_recognised_decides(around, platform, tmp_path):
    (tmp_path / "k8s").write_text("other")
    with pytest.raises(TokenNotGranted):
        ambient_token("sigstore", TOLD, around(GITHUB_ACTIONS="true"))
