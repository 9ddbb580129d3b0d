"""The real Fulcio and the stack's authority, asked with the same tokens: they take and refuse the same, and certify the same."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography import x509

from sigkit.clock import SystemClock
from sigkit.errors import Place
from sigkit.net.session import Session
from sigkit.services.issuer_keys import IssuerKeySets
from sigkit.services.issuer_list import SCHEMA, parse_issuers
from sigkit.services.issuers import CiIssuer
from sigkit.services.oidc import OidcIssuer
from sigkit.verify.extensions import NAMES
from tests.simulators.authorities import Authorities, Foreign, ask, chain, document, key_request, make_authorities, new_key, signing_request
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.peers, pytest.mark.slow]

GITHUB = {
    "event_name": "push",
    "sha": "a" * 40,
    "workflow": "release",
    "repository": "acme/app",
    "ref": "refs/tags/v1",
    "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1",
    "job_workflow_sha": "b" * 40,
    "runner_environment": "github-hosted",
    "repository_id": "123",
    "repository_owner": "acme",
    "repository_owner_id": "42",
    "workflow_ref": "acme/app/.github/workflows/top.yml@refs/tags/v1",
    "workflow_sha": "c" * 40,
    "run_id": "7",
    "run_attempt": "1",
    "repository_visibility": "private",
}


def ask_fulcio(port: int, token: str, body: dict[str, Any]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v2/signingCert", json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Scene:
    """An issuer that both know, and both authorities."""

    def __init__(self, issuer: Foreign, ours: Authorities, port: int) -> None:
        self.issuer, self.ours, self.port = issuer, ours, port

    def token(self, **claims: Any) -> str:
        return self.issuer.token(self.issuer.claims(SystemClock().now(), **claims))

    def both(self, token: str, body: dict[str, Any]) -> tuple[x509.Certificate, x509.Certificate]:
        """Return the certificate of the real one and ours."""
        status, found = ask_fulcio(self.port, token, body)
        assert status == 200, found
        theirs = found["signedCertificateDetachedSct"]["chain"]["certificates"][0]
        return x509.load_pem_x509_certificate(theirs.encode()), chain(self.ours.certify(token, **body))[0]

    def refusals(self, token: str, body: dict[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return what both say of a wrong request: status, code, and the members of the answer."""
        status, theirs = ask_fulcio(self.port, token, body)
        answer = self.ours.certify(token, **body)
        ours = document(answer)
        return (status, theirs.get("code"), sorted(theirs)), (answer.status, ours.get("code"), sorted(ours))


@pytest.fixture(scope="module")
def fulcio(go_peer) -> Path:
    found: Path = go_peer("fulcio")
    return found


@pytest.fixture(scope="module")
def issuer() -> Iterator[Foreign]:
    """Serve an issuer on loopback."""
    found = Foreign(algorithm="RS256")

    def serve(seen: Any) -> Reply:
        documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {
                "issuer": found.url,
                "jwks_uri": f"{found.url}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/keys": {"keys": [found.jwk(alg="RS256")]},
        }
        if seen.path not in documents:
            return Reply(404)
        return Reply(200, (("Content-Type", "application/json"),), json.dumps(documents[seen.path]).encode())

    with MisbehavingServer(serve) as running:
        found.url = running.url
        yield found


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root: Path = tmp_path_factory.mktemp("authorities") / "made"
    make_authorities(root, SystemClock())
    return root


@pytest.fixture
def scene(made, tmp_path, issuer, fulcio):
    """Return a function that starts both with the issuer as one of a type."""
    with contextlib.ExitStack() as stack:

        def start(entry: dict[str, str], theirs: dict[str, Any]) -> Scene:
            text = json.dumps({"schema": SCHEMA, "issuers": [{"url": issuer.url, **entry}]})
            listed = parse_issuers(text.encode(), Place("issuers.json"))
            keys = IssuerKeySets({}, stack.enter_context(Session()))
            ours = Authorities(shutil.copytree(made, tmp_path / "stack"), listed, SystemClock(), keys)
            stack.callback(ours.close)
            config: dict[str, Any] = {"oidc-issuers": {issuer.url: {"issuer-url": issuer.url, "client-id": "sigstore", **theirs}}}
            kind = listed[0].kind
            if isinstance(kind, CiIssuer):
                config["ci-issuer-metadata"] = {"tested": provider(kind)}
            return Scene(issuer, ours, stack.enter_context(running_fulcio(fulcio, tmp_path, config)))

        yield start


def provider(kind: CiIssuer) -> dict[str, Any]:
    """Write our templates as Fulcio's."""

    def template(text: str) -> str:
        return re.sub(r"\{([^{}?]+)\??\}", r"{{ .\1 }}", text)

    def name(number: int) -> str:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", NAMES[number].replace("URI", "Uri").replace("SHA", "Sha"))
        return "-".join(words).lower()

    extensions = {name(number): template(text) for number, text in kind.extensions.items()}
    return {
        "default-template-values": {"environment": ""},
        "extension-templates": extensions,
        "subject-alternative-name-template": template(kind.subject),
    }


@contextlib.contextmanager
def running_fulcio(program: Path, directory: Path, config: dict[str, Any]) -> Iterator[int]:
    (directory / "fulcio.yaml").write_text(yaml.safe_dump(config))
    ports = free_ports(3)
    line = [
        *(str(program), "serve", "--host", "127.0.0.1", "--port", str(ports[0]), "--grpc-host", "127.0.0.1", "--grpc-port", str(ports[1])),
        *("--metrics-port", str(ports[2]), "--config-path", str(directory / "fulcio.yaml"), "--ca", "ephemeralca", "--ct-log-url", ""),
        *("--legacy-unix-domain-socket", f"@fulcio-{ports[0]}"),
    ]
    with (directory / "fulcio.log").open("wb") as log, subprocess.Popen(line, stdout=log, stderr=log, cwd=directory) as process:
        try:
            until = time.monotonic() + 60
            while not healthy(ports[0]):
                assert process.poll() is None, (directory / "fulcio.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield ports[0]
        finally:
            process.terminate()


def healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def said(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what a certificate says, but for what must differ: its serial number, its issuer and the log's promise."""
    found = {
        extension.oid.dotted_string: (extension.critical, extension.value)
        for extension in certificate.extensions
        if not isinstance(extension.value, (x509.AuthorityKeyIdentifier, x509.PrecertificateSignedCertificateTimestamps))
    }
    return found | {
        "subject": certificate.subject,
        "version": certificate.version,
        "lifetime": certificate.not_valid_after_utc - certificate.not_valid_before_utc,
        "key": certificate.public_key(),
    }


def test_persons_are_certified_alike(scene):
    both = scene({"type": "email"}, {"type": "email"})
    token = both.token(sub="1234", email="mia@acme.example", email_verified=True)
    for body in (key_request(new_key(), "mia@acme.example"), signing_request(new_key()), signing_request(new_key(), "root@acme.example")):
        theirs, ours = both.both(token, body)
        assert said(ours) == said(theirs)


def test_jobs_are_certified_alike(scene):
    both = scene({"type": "github", "web": "https://github.com"}, {"type": "ci-provider", "ci-provider": "tested"})
    for claims in ({}, {"environment": "prod"}, {"workflow": "Bäume & <b>"}):
        token = both.token(sub="repo:acme/app:ref:refs/tags/v1", **(GITHUB | claims))
        theirs, ours = both.both(token, key_request(new_key(), "repo:acme/app:ref:refs/tags/v1"))
        assert said(ours) == said(theirs)


@pytest.mark.parametrize("ref", ["größe", "fix#12", "fix#ö#'", 'say-"hi"', "it's", "it's-ö", "a[1]", "<a>{b}|`", "a=b&c;d,e!$(f)+@"])
def test_branches_of_any_name_are_certified_alike(scene, ref):
    both = scene({"type": "github", "web": "https://github.com"}, {"type": "ci-provider", "ci-provider": "tested"})
    path = f"acme/app/.github/workflows/on release.yml@refs/heads/{ref}"
    claims = GITHUB | {"ref": f"refs/heads/{ref}", "job_workflow_ref": path, "workflow_ref": path}
    sub = f"repo:acme/app:ref:refs/heads/{ref}"
    theirs, ours = both.both(both.token(sub=sub, **claims), key_request(new_key(), sub))
    assert said(ours) == said(theirs)


def test_service_accounts_are_certified_alike(scene):
    both = scene({"type": "kubernetes"}, {"type": "kubernetes"})
    claims = {"kubernetes.io": {"namespace": "prod", "pod": {"name": "p"}, "serviceaccount": {"name": "builder", "uid": "u"}}}
    theirs, ours = both.both(both.token(sub="system:serviceaccount:prod:builder", **claims), signing_request(new_key()))
    assert said(ours) == said(theirs)


def test_the_same_is_refused_alike(scene):
    both = scene({"type": "email"}, {"type": "email"})
    person: dict[str, Any] = {"sub": "1234", "email": "mia@acme.example", "email_verified": True}
    good, now = both.token(**person), int(time.time())
    body, key = key_request(new_key(), "mia@acme.example"), new_key()
    both.both(good, body)
    stolen = {"publicKeyRequest": body["publicKeyRequest"] | {"publicKey": key_request(key, "")["publicKeyRequest"]["publicKey"]}}
    wrong = {
        "another audience": (both.token(**person, aud="other"), body),
        "expired": (both.token(**person, exp=now - 100), body),
        "unverified": (both.token(**person | {"email_verified": False}), body),
        "no address": (both.token(sub="1234"), body),
        "another key signed it": (Foreign(both.issuer.url, "RS256").token(both.issuer.claims(SystemClock().now(), **person)), body),
        "an unknown issuer": (both.token(**person, iss="https://other.example"), body),
        "no token": ("x", body),
        "a proof of another name": (good, key_request(key, "eve@acme.example")),
        "a proof by another key": (good, stolen),
        "nothing to certify": (good, {}),
        "no request": (good, {"certificateSigningRequest": "AAAA"}),
    }
    answers = {name: both.refusals(token, asked) for name, (token, asked) in wrong.items()}
    refused = (400, 3, ["code", "details", "message"])
    assert answers == dict.fromkeys(wrong, (refused, refused))


def test_tokens_of_the_stack_s_issuer_are_taken_by_fulcio(made, tmp_path, fulcio):
    shutil.copytree(made / "oidc", tmp_path / "oidc")
    served: list[OidcIssuer] = []

    def serve(seen: Any) -> Reply:
        answer = ask(served[0], seen.method, seen.target, seen.body)
        return Reply(answer.status, answer.headers, answer.body, framed=False)

    with MisbehavingServer(serve) as running:
        served.append(OidcIssuer.open(str(tmp_path / "oidc"), running.url, SystemClock()))
        entry = {"issuer-url": running.url, "client-id": "sigstore", "type": "email"}
        with running_fulcio(fulcio, tmp_path, {"oidc-issuers": {running.url: entry}}) as port:
            status, found = ask_fulcio(port, served[0].issue_token("mia@acme.example"), key_request(new_key(), "mia@acme.example"))
    assert status == 200, found
    pem = found["signedCertificateDetachedSct"]["chain"]["certificates"][0]
    names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.RFC822Name("mia@acme.example")]
