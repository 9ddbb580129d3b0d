"""Whoever can reach a stack's services against them, and services against those who ask them."""

from __future__ import annotations

import gzip
import json
import shutil
import tracemalloc
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sigkit.errors import Kind, Place, SigkitError
from sigkit.keys.private import generate
from sigkit.limits import BodyLimits
from sigkit.net.session import Session
from sigkit.services import der
from sigkit.services.app import App, Mount
from sigkit.services.issuer_keys import IssuerKeySets
from sigkit.services.issuer_list import parse_issuers
from sigkit.services.issuers import Issuer, OwnIssuer, name_identity
from sigkit.services.log.hashedrekord import terms_of
from sigkit.services.log.rekor import RekorV2
from sigkit.services.log.store import TileLog
from sigkit.services.oidc import DEVICE_GRANT
from sigkit.strict import Cursor
from tests.simulators.asgi import Caller
from tests.simulators.authorities import (
    PERSON,
    URL,
    VERIFIER,
    WORKLOAD,
    Authorities,
    Foreign,
    StandingClock,
    ask,
    b64,
    by_hand,
    chain,
    challenge,
    document,
    find_key,
    headers,
    key_request,
    make_authorities,
    new_key,
    post_form,
    signing_request,
)
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply

ISSUER = "https://issuer.example"
QUERY = {"content-type": "application/timestamp-query"}
START = {"client_id": "sigstore", "scope": "openid email", "code_challenge": challenge(), "code_challenge_method": "S256"}
CALLBACK = "http://localhost:41234/auth/callback"
BROWSER = f"/oidc/authorize?response_type=code&client_id=sigstore&scope=openid&code_challenge={challenge()}&code_challenge_method=S256"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("authorities") / "made"
    make_authorities(root)
    return root


@pytest.fixture
def foreign():
    return Foreign(ISSUER)


@pytest.fixture
def stack(made, tmp_path, foreign):
    opened = Authorities(shutil.copytree(made, tmp_path / "stack"), (Issuer(ISSUER, OwnIssuer()),))
    opened.keys.publish(ISSUER, foreign.jwk())
    yield opened
    opened.close()


def refused(stack: Authorities, token: str) -> Kind:
    """Return the kind of refusal, and see that the authority issues nothing for it."""
    before = stack.ct.tiles.head()
    answer = stack.certify(token, **signing_request(new_key()))
    assert (answer.status, document(answer)["code"]) == (400, 3)
    assert stack.ct.tiles.head() == before
    with pytest.raises(SigkitError) as caught:
        stack.tokens.verify(token)
    return caught.value.kind


# --- tokens


@pytest.mark.attack("CVE-2025-66506, CVE-2025-66564")
@pytest.mark.parametrize("token", ["." * 1_000_000, "a." * 500_000, "a" * 1_000_000])
def test_token_of_a_megabyte_is_refused_as_LIMIT_without_the_memory_for_its_parts(stack, token):
    tracemalloc.start()
    try:
        with pytest.raises(SigkitError) as caught:
            stack.tokens.verify(token)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert caught.value.kind is Kind.LIMIT
    assert refused(stack, token) is Kind.LIMIT


@pytest.mark.attack("slow to parse")
def test_no_service_parses_more_of_an_unknown_client_than_its_requests_have(stack, rekor):
    slow = b"{" + b",".join(b'"%d":0' % number for number in range(40_000)) + b"}"
    assert ask(stack.ca, "POST", "/api/v2/signingCert", slow).status == 413
    assert add(rekor, slow).status == 413
    assert post_form(stack.oidc, "/oidc/device", {"scope": "x" * 20_000}).status == 413


@pytest.mark.attack("CVE-2025-66506, CVE-2025-66564")
def test_huge_object_identifier_is_refused(stack):
    huge = der.element(der.OBJECT_IDENTIFIER, b"\x81" * 900 + b"\x01")
    imprint = der.sequence(der.sequence(huge), der.octets(b"d" * 32))
    assert ask(stack.tsa, "POST", "/api/v1/timestamp", der.sequence(der.integer(1), imprint), QUERY).status == 400
    assert ask(stack.tsa, "POST", "/api/v1/timestamp", der.element(der.OBJECT_IDENTIFIER, b"\x81" * 10**6), QUERY).status == 400


@pytest.mark.attack("CVE-2026-49478")
def test_discovery_that_redirects_names_no_keys():
    evil = Foreign()
    with MisbehavingServer(lambda _: Reply(200, (), json.dumps({"keys": [evil.jwk()]}).encode())) as other:
        issuer_url = ""

        def discovery(seen: Any) -> Reply:
            moved = {"/.well-known/openid-configuration": other.url + "/openid", "/keys": other.url + "/keys"}
            return Reply(302, (("Location", moved[seen.path]),))

        with MisbehavingServer(discovery) as server, Session() as session:
            issuer_url = server.url
            with pytest.raises(SigkitError) as caught:
                find_key(IssuerKeySets({}, session), Issuer(issuer_url, OwnIssuer()), "key-1")
            told = json.dumps({"issuer": issuer_url, "jwks_uri": f"{issuer_url}/keys"})
            server.on("GET", "/.well-known/openid-configuration").answer(told.encode())
            with pytest.raises(SigkitError) as again:
                find_key(IssuerKeySets({}, session), Issuer(issuer_url, OwnIssuer()), "key-1")
        assert (caught.value.kind, again.value.kind) == (Kind.NET, Kind.NET)
        assert not other.log


@pytest.mark.attack("CVE-2025-24976")
@pytest.mark.parametrize("kid", ["key-1", "key-2"])
def test_key_that_a_token_brings_is_not_looked_at(stack, foreign, kid):
    evil = Foreign(ISSUER, kid=kid)
    for header in ({"jwk": evil.jwk()}, {"jku": "http://127.0.0.1:9/keys"}, {"x5c": ["AAAA"]}, {"x5u": "http://127.0.0.1:9/"}):
        assert refused(stack, evil.token(foreign.claims(stack.clock.now()), **header)) is Kind.SIG


@pytest.mark.attack("CVE-2026-32597, CVE-2025-59420")
@pytest.mark.parametrize("crit", [["bork"], ["exp"], [], "bork", ["b64"]])
def test_critical_extension_is_refused_as_PARSE(stack, foreign, crit):
    header = {"alg": "ES256", "kid": "key-1", "crit": crit, "bork": True, "b64": True}
    payload = json.dumps(foreign.claims(stack.clock.now())).encode()
    prepared = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    assert refused(stack, by_hand(header, payload, lambda signed: prepared.sign(signed, foreign.key))) is Kind.PARSE


@pytest.mark.attack("CVE-2022-29217, CVE-2017-11424")
@pytest.mark.parametrize("algorithm", ["HS256", "HS512", "none", "None", "", "ES256K", "PS256"])
def test_algorithm_of_the_token_s_choice_is_refused_as_SIG(stack, foreign, algorithm):
    import hashlib
    import hmac

    key = foreign.key.public_key()
    forms = (
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        b"",
    )
    payload = json.dumps(foreign.claims(stack.clock.now())).encode()
    digest = hashlib.sha512 if algorithm == "HS512" else hashlib.sha256
    for secret in forms:
        token = by_hand({"alg": algorithm, "kid": "key-1"}, payload, lambda signed, secret=secret: hmac.digest(secret, signed, digest))
        assert refused(stack, token) is Kind.SIG
        assert refused(stack, token.rpartition(".")[0] + ".") in {Kind.SIG, Kind.PARSE}


@pytest.mark.attack("RFC 8725 section 3.9")
@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"aud": "https://registry.example"}, Kind.IDENT),
        ({"aud": ["a", "b"]}, Kind.IDENT),
        ({"iss": "https://issuer.example.evil"}, Kind.IDENT),
        ({"iss": URL}, Kind.SIG),
        ({"exp": 1780315000}, Kind.TIME),
        ({"nbf": 1780316000}, Kind.TIME),
    ],
)
def test_token_that_is_not_for_this_is_refused(stack, foreign, changes, kind):
    assert refused(stack, foreign.token(foreign.claims(stack.clock.now(), **changes))) is kind


@pytest.mark.attack("unverified e-mail address")
@pytest.mark.parametrize("verified", [False, None, "false", "no", 0, 1, [], "TRUE"])
def test_unverified_address_is_refused_as_IDENT(stack, foreign, verified):
    claims = foreign.claims(stack.clock.now(), email=PERSON, email_verified=verified)
    assert refused(stack, foreign.token(claims)) is Kind.IDENT


@pytest.mark.attack("fulcio#2406")
def test_large_number_is_certified_digit_by_digit(stack, foreign):
    listed = {"url": ISSUER, "type": "ci", "subject": "https://ci.example/{id}", "extensions": {"sourceRepositoryIdentifier": "{id}"}}
    (issuer,) = parse_issuers(json.dumps({"schema": "sigkit.stack.issuers/1", "issuers": [listed]}).encode(), Place("issuers.json"))
    stack.tokens.issuers[ISSUER] = issuer
    token = foreign.token(foreign.claims(stack.clock.now(), id=10**20 + 1))
    leaf = chain(stack.certify(token, **signing_request(new_key())))[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("https://ci.example/100000000000000000001")]
    with pytest.raises(SigkitError) as caught:
        name_identity(issuer, Cursor({"sub": "s", "id": 1e20}, "$", Place("token")))
    assert caught.value.kind is Kind.IDENT


# --- certificates


@pytest.mark.attack("proof of possession")
def test_proof_that_is_another_s_is_refused(stack):
    token, mine, theirs = stack.oidc.issue_token(WORKLOAD), new_key(), new_key()
    wish = key_request(mine, WORKLOAD)
    wish["publicKeyRequest"]["publicKey"] = key_request(theirs, WORKLOAD)["publicKeyRequest"]["publicKey"]
    before = stack.ct.tiles.head()
    for body in (wish, key_request(mine, PERSON), key_request(mine, "")):
        answer = stack.certify(token, **body)
        assert (answer.status, document(answer)["message"]) == (400, "The signature supplied in the request could not be verified")
    assert stack.ct.tiles.head() == before


@pytest.mark.attack("names in a certificate signing request")
def test_request_s_own_names_and_powers_are_not_certified(stack):
    leaf = chain(stack.certify(stack.oidc.issue_token(WORKLOAD), **signing_request(new_key(), "root@acme.example", "admin@acme.example")))[
        0
    ]
    assert list(leaf.subject) == []
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(WORKLOAD)]
    assert not [item for item in leaf.extensions if isinstance(item.value, x509.BasicConstraints)]


# --- logins


def device(stack: Authorities, subject: str | None = PERSON) -> dict[str, Any]:
    started: dict[str, Any] = document(post_form(stack.oidc, "/oidc/device", START))
    if subject:
        stack.oidc.logins.approve(started["user_code"], subject)
    return started


def redeem(stack: Authorities, **fields: str) -> Any:
    stack.clock.advance(seconds=5)
    return document(post_form(stack.oidc, "/oidc/token", {"client_id": "sigstore", "code_verifier": VERIFIER} | fields))


def browser(stack: Authorities) -> str:
    started = ask(stack.oidc, "GET", f"{BROWSER}&redirect_uri={CALLBACK}&state=s")
    page = headers(started)["location"].removeprefix(URL)
    (waiting,) = stack.oidc.logins.waiting()
    stack.oidc.logins.approve(waiting.user_code, PERSON)
    return headers(ask(stack.oidc, "GET", page))["location"].partition("code=")[2].partition("&")[0]


@pytest.mark.attack("RFC 7636 section 1")
@pytest.mark.parametrize("verifier", ["x" * 43, "", challenge()])
def test_code_is_worth_nothing_without_its_verifier(stack, verifier):
    code = browser(stack)
    grants = (
        {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK},
        {"grant_type": DEVICE_GRANT, "device_code": device(stack)["device_code"]},
    )
    for grant in grants:
        assert redeem(stack, **grant, code_verifier=verifier)["error"] == "invalid_grant"
        assert redeem(stack, **grant)["error"] == "invalid_grant"


@pytest.mark.attack("replayed login")
def test_each_login_ends_in_one_token(stack):
    grants = (
        {"grant_type": "authorization_code", "code": browser(stack), "redirect_uri": CALLBACK},
        {"grant_type": DEVICE_GRANT, "device_code": device(stack)["device_code"]},
    )
    for grant in grants:
        assert "id_token" in redeem(stack, **grant)
        assert redeem(stack, **grant)["error"] == "invalid_grant"


@pytest.mark.attack("RFC 6749 section 10.15")
@pytest.mark.parametrize(
    "where", ["https://evil.example/", "http://localhost.evil.example/", "http://localhost@evil.example/", "//evil.example"]
)
def test_browser_is_sent_to_loopback_only(stack, where):
    answer = ask(stack.oidc, "GET", f"{BROWSER}&redirect_uri={where}")
    assert (answer.status, "location" in headers(answer)) == (400, False)


# --- timestamps


@pytest.mark.attack("timestamp of a weak digest")
@pytest.mark.parametrize(
    ("identifier", "size"),
    [
        pytest.param("1.3.14.3.2.26", 20, id="SHA-1"),
        pytest.param("2.16.840.1.101.3.4.2.1", 31, id="a byte less"),
        pytest.param("2.16.840.1.101.3.4.2.1", 33, id="a byte more"),
        pytest.param("2.16.840.1.101.3.4.2.3", 32, id="half of SHA-512"),
        pytest.param("2.16.840.1.101.3.4.2.4", 28, id="SHA-224"),
    ],
)
def test_weak_digest_is_not_timestamped(stack, identifier, size):
    imprint = der.sequence(der.sequence(der.identifier(identifier)), der.octets(b"d" * size))
    answer = ask(stack.tsa, "POST", "/api/v1/timestamp", der.sequence(der.integer(1), imprint), QUERY)
    assert (answer.status, document(answer)["code"]) == (400, 400)


# --- the log


@pytest.fixture
def rekor(tmp_path):
    key = generate("ed25519")
    TileLog.create(tmp_path / "log", "127.0.0.1", key, StandingClock())
    with TileLog.open(tmp_path / "log", key, terms=terms_of) as log:
        yield RekorV2(log)


def add(rekor: RekorV2, body: bytes, **more: str) -> Any:
    return ask(rekor, "POST", "/api/v2/log/entries", body, {"content-type": "application/json"} | more)


@pytest.mark.attack("CVE-2026-24117")
def test_log_fetches_nothing_that_an_entry_names(rekor):
    with MisbehavingServer(lambda _: Reply(200)) as server:
        for verifier in ({"url": server.url}, {"publicKey": {"url": server.url}}, {"publicKey": {"rawBytes": b64(server.url.encode())}}):
            body = {"hashedRekordRequestV002": {"digest": b64(b"d" * 32), "signature": {"content": "AA==", "verifier": verifier}}}
            assert add(rekor, json.dumps(body).encode()).status == 400
        old = {
            "apiVersion": "0.0.1",
            "kind": "rekord",
            "spec": {"data": {"url": server.url}, "signature": {"publicKey": {"url": server.url}}},
        }
        assert add(rekor, json.dumps(old).encode()).status == 400
        assert not server.log


@pytest.mark.attack("CVE-2023-30551, CVE-2026-48702, CVE-2026-23831, CVE-2023-33199")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(gzip.compress(b"\0" * 50_000_000), id="a bomb"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="an empty message"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"hashedRekordRequestV002":null}', id="an empty entry"),
        pytest.param(b'{"hashedRekordRequestV002":{}}', id="an entry of nothing"),
        pytest.param(b'{"dsseRequestV002":{}}', id="another kind"),
        pytest.param(b"[" * 100_000, id="depth"),
    ],
)
def test_strange_request_is_answered_and_costs_no_memory(rekor, stack, body):
    head = rekor._log.head()  # noqa: SLF001 - what is there, without asking the service
    tracemalloc.start()
    try:
        assert add(rekor, body, **{"content-encoding": "gzip"}).status in {400, 413}
        assert ask(stack.ca, "POST", "/api/v2/signingCert", body, {"content-encoding": "gzip"}).status in {400, 413}
        assert ask(stack.tsa, "POST", "/api/v1/timestamp", body, QUERY | {"content-encoding": "gzip"}).status in {400, 413}
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert rekor._log.head() == head  # noqa: SLF001 - the same


@pytest.mark.attack("CVE-2026-49835")
def test_paths_that_are_asked_for_leave_nothing(stack, rekor):
    limits = BodyLimits(1 << 20)
    mounts = [("/api/v2", rekor), ("/api/v1/timestamp", stack.tsa), ("/ct", stack.ct), ("/oidc", stack.oidc)]
    call = Caller(App([Mount(prefix, core, limits) for prefix, core in mounts]))
    prefixes = ("", "/api/v2", "/api/v1/timestamp", "/ct", "/oidc")

    def round_of(number: int) -> None:
        for prefix in prefixes:
            answer = call("GET", f"{prefix}/{number:05000}")
            assert answer is not None
            assert answer.status == 404

    for number in range(5):
        round_of(number)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5, 45):
            round_of(number)
        assert tracemalloc.get_traced_memory()[0] - before < 200_000  # a fifth of what the paths alone would need
    finally:
        tracemalloc.stop()
