"""The stack's certificate authority: what it certifies, what a certificate says, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import threading
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sigkit import durable
from sigkit.digest import Digest
from sigkit.errors import (
    NOWHERE,
    FileUnwritable,
    LogDamaged,
    MalformedJson,
    MalformedKey,
    RedirectRefused,
    SigkitError,
    TimedOut,
    TooLarge,
)
from sigkit.keys.public import parse_public_key
from sigkit.net.session import Session
from sigkit.services.ca import FILES, CertificateAuthority
from sigkit.services.exchange import Answer, Request
from sigkit.services.issuer_keys import IssuerKeySets
from sigkit.services.issuers import CiIssuer, EmailIssuer, Issuer, KubernetesIssuer, UsernameIssuer
from sigkit.services.oidc import OidcIssuer
from sigkit.trust.root import CertificateAuthority as TrustedAuthority
from sigkit.trust.root import Origin, TransparencyLog, TrustedRoot, Window
from sigkit.verify.chain import parse_signing_certificate, verify_chain
from sigkit.verify.facts import Source, TimeFact, TimeKind
from tests.simulators.authorities import (
    PERSON,
    URL,
    WORKLOAD,
    Authorities,
    Foreign,
    StandingClock,
    ask,
    b64,
    by_hand,
    chain,
    document,
    headers,
    key_request,
    new_key,
    signing_request,
)
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FOREIGN = "https://issuer.example"


@pytest.fixture
def key():
    return new_key()


def trusted(authorities: Authorities) -> TrustedRoot:
    """Return the stack as its clients trust it."""
    origin = Origin("stack", Digest.of(b"stack"))
    always = Window(None, None)
    log = TransparencyLog(
        "ct", authorities.ct.log_id, parse_public_key(authorities.ct.public_key, NOWHERE), always, "acme", None, "", origin
    )
    authority = TrustedAuthority("ca", authorities.ca.chain, always, "acme", origin)
    return TrustedRoot("stack", origin.digest, (), certificate_authorities=(authority,), ct_logs=(log,))


def verified(authorities: Authorities, certificates):
    """Verify a certificate as a signer's, now."""
    der = [certificate.public_bytes(serialization.Encoding.DER) for certificate in certificates]
    time = TimeFact(authorities.clock.now(), "tsa", Source("stack", Digest.of(b"stack"), "tsa"), TimeKind.TIMESTAMP, "acme")
    return verify_chain(parse_signing_certificate(der[:1], NOWHERE), [time], trusted(authorities), NOWHERE)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


# --- what is certified


@pytest.mark.parametrize("form", ["key", "signing request"])
@pytest.mark.parametrize("subject", [WORKLOAD, PERSON])
def test_certificate_names_the_token_s_subject_and_verifies(authorities, key, form, subject):
    token = authorities.oidc.issue_token(subject)
    wish = key_request(key, subject) if form == "key" else signing_request(key)
    certificates = chain(authorities.certify(token, **wish))
    assert [len(certificates), *certificates[1:]] == [3, *authorities.ca.chain]
    vouched = verified(authorities, certificates)
    signer = vouched.signer.signer
    assert (signer.subject, signer.issuer) == (subject, URL)
    assert len(vouched.certificate_logs) == 1
    assert not vouched.unchecked
    assert certificates[0].public_key() == key.public_key()


def test_certificate_is_as_fulcio_s_specification_says(authorities, key):
    leaf = chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **key_request(key, WORKLOAD)))[0]
    assert list(leaf.subject) == []
    assert leaf.issuer == authorities.ca.chain[0].subject
    assert leaf.not_valid_before_utc == authorities.clock.now().replace(microsecond=0)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(minutes=10)
    assert 0 < leaf.serial_number < 2**160
    usage = extension(leaf, x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    purposes = extension(leaf, x509.ExtendedKeyUsage)
    assert (purposes.critical, list(purposes.value)) == (False, [ExtendedKeyUsageOID.CODE_SIGNING])
    names = extension(leaf, x509.SubjectAlternativeName)
    assert (names.critical, list(names.value)) == (True, [x509.UniformResourceIdentifier(WORKLOAD)])
    issuer_identifier = extension(authorities.ca.chain[0], x509.SubjectKeyIdentifier).value.digest
    assert extension(leaf, x509.AuthorityKeyIdentifier).value.key_identifier == issuer_identifier
    assert extension(leaf, x509.SubjectKeyIdentifier).value == x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert len(list(extension(leaf, x509.PrecertificateSignedCertificateTimestamps).value)) == 1
    assert not [item for item in leaf.extensions if isinstance(item.value, (x509.PrecertPoison, x509.BasicConstraints))]


def test_no_two_certificates_have_one_serial_number(authorities, key):
    token = authorities.oidc.issue_token(WORKLOAD)
    serials = {chain(authorities.certify(token, **key_request(key, WORKLOAD)))[0].serial_number for _ in range(3)}
    assert len(serials) == 3


def test_authority_certificates_are_as_fulcio_s_specification_says(authorities):
    intermediate, root = authorities.ca.chain
    for certificate, path_length in ((intermediate, 0), (root, 1)):
        constraints = extension(certificate, x509.BasicConstraints)
        assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, path_length)
        assert {item.oid for item in certificate.subject} == {NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME}
        assert extension(certificate, x509.KeyUsage).value.key_cert_sign
    assert list(extension(intermediate, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CODE_SIGNING]
    assert not [item for item in root.extensions if isinstance(item.value, x509.ExtendedKeyUsage)]
    intermediate.verify_directly_issued_by(root)
    assert intermediate.not_valid_after_utc <= root.not_valid_after_utc


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), id="P-384"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP521R1()), id="P-521"),
        pytest.param(ed25519.Ed25519PrivateKey.generate, id="Ed25519"),
        pytest.param(lambda: rsa.generate_private_key(65537, 2048), id="RSA"),
    ],
)
def test_every_kind_of_key_of_fulcio_s_default_is_certified(authorities, make):
    key = make()
    name = x509.Name([])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    csr = x509.CertificateSigningRequestBuilder(name).sign(key, digest).public_bytes(serialization.Encoding.PEM)
    leaf = chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), certificateSigningRequest=b64(csr)))[0]
    assert leaf.public_key() == key.public_key()


def test_token_of_the_body_wins_over_the_header_s(authorities, key):
    body = {"credentials": {"oidcIdentityToken": authorities.oidc.issue_token(PERSON)}, **key_request(key, PERSON)}
    leaf = chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **body))[0]
    assert list(extension(leaf, x509.SubjectAlternativeName).value) == [x509.RFC822Name(PERSON)]


def test_user_name_stands_in_fulcio_s_other_name(open_authorities, key):
    authorities = open_authorities(Issuer(FOREIGN, UsernameIssuer("acme.example")))
    issuer = Foreign(FOREIGN)
    authorities.keys.publish(FOREIGN, issuer.jwk())
    token = issuer.token(issuer.claims(authorities.clock.now(), sub="mia"))
    certificates = chain(authorities.certify(token, **key_request(key, "mia")))
    assert verified(authorities, certificates).signer.signer.subject == "mia!acme.example"


def test_own_claims_reach_the_certificate(authorities, key):
    token = authorities.oidc.issue_token(WORKLOAD, claims={"sourceRepositoryURI": "https://git.example/acme/app", "note": "x"})
    signer = verified(authorities, chain(authorities.certify(token, **key_request(key, WORKLOAD)))).signer.signer
    assert signer.extensions == {
        "issuer": URL,
        "sourceRepositoryURI": "https://git.example/acme/app",
        "tokenSubject": WORKLOAD,
    }


# --- what is refused


def message(answer) -> str:
    found = document(answer)
    assert (answer.status, found["code"], found["details"]) == (400, 3, [])
    text: str = found["message"]
    return text


BAD_TOKEN = "There was an error processing the identity token"


def test_no_token_is_refused(authorities, key):
    answer = ask(authorities.ca, "POST", "/api/v2/signingCert", json.dumps(key_request(key, WORKLOAD)).encode())
    assert message(answer).startswith(BAD_TOKEN)


def test_expired_token_is_refused_with_both_times(authorities, key):
    token = authorities.oidc.issue_token(WORKLOAD)
    authorities.clock.advance(minutes=11)
    told = message(authorities.certify(token, **key_request(key, WORKLOAD)))
    assert told.startswith(BAD_TOKEN)
    assert ("2026-06-01T12:10:00Z" in told, "2026-06-01T12:11:00Z" in told) == (True, True)


def test_unverified_email_is_refused(open_authorities, key):
    authorities = open_authorities(Issuer(FOREIGN, EmailIssuer()))
    issuer = Foreign(FOREIGN)
    authorities.keys.publish(FOREIGN, issuer.jwk())
    token = issuer.token(issuer.claims(authorities.clock.now(), email=PERSON, email_verified=False))
    assert message(authorities.certify(token, **key_request(key, PERSON))).startswith(BAD_TOKEN)


def test_proof_by_another_key_is_refused(authorities, key):
    wish = key_request(key, WORKLOAD)
    wish["publicKeyRequest"]["proofOfPossession"] = key_request(new_key(), WORKLOAD)["publicKeyRequest"]["proofOfPossession"]
    told = message(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **wish))
    assert told == "The signature supplied in the request could not be verified"


def test_proof_over_another_name_is_refused(authorities, key):
    told = message(authorities.certify(authorities.oidc.issue_token(PERSON), **key_request(key, WORKLOAD)))
    assert told == "The signature supplied in the request could not be verified"


def test_signing_request_that_another_key_signed_is_refused(authorities, key):
    csr = x509.load_pem_x509_csr(base64.b64decode(signing_request(key)["certificateSigningRequest"]))
    raw = bytearray(csr.public_bytes(serialization.Encoding.DER))
    raw[-1] ^= 1
    told = message(
        authorities.certify(authorities.oidc.issue_token(WORKLOAD), certificateSigningRequest=b64(pem("CERTIFICATE REQUEST", bytes(raw))))
    )
    assert told == "The signature supplied in the request could not be verified"


def pem(label: str, raw: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{b64(raw)}\n-----END {label}-----\n".encode()


def test_names_of_a_signing_request_are_not_certified(authorities, key):
    leaf = chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **signing_request(key, "root@acme.example")))[0]
    assert list(leaf.subject) == []
    assert list(extension(leaf, x509.SubjectAlternativeName).value) == [x509.UniformResourceIdentifier(WORKLOAD)]
    assert not [item for item in leaf.extensions if isinstance(item.value, x509.BasicConstraints)]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="RSA of 1024 bits"),  # noqa: S505 - that is the point
        pytest.param(lambda: rsa.generate_private_key(65537, 2304), id="RSA of an unusual size"),
        pytest.param(lambda: rsa.generate_private_key(3, 2048), id="RSA with exponent 3"),
        pytest.param(lambda: ec.generate_private_key(ec.SECP256K1()), id="another curve"),
    ],
)
def test_insecure_key_is_refused(authorities, make):
    key = make()
    csr = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    told = message(authorities.certify(authorities.oidc.issue_token(WORKLOAD), certificateSigningRequest=b64(csr)))
    assert told.startswith("The public key supplied in the request is insecure")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"certificateSigningRequest": b64(b"x")}, id="no signing request"),
        pytest.param({"certificateSigningRequest": "!"}, id="no base64"),
        pytest.param({"certificateSigningRequest": 7}, id="a number"),
        pytest.param({"publicKeyRequest": {"publicKey": {"content": "x"}, "proofOfPossession": "AA=="}}, id="no key"),
        pytest.param({"publicKeyRequest": {"publicKey": {"content": "x"}}}, id="no proof"),
        pytest.param({}, id="nothing"),
    ],
)
def test_malformed_wish_is_refused(authorities, body):
    assert message(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **body))


def test_a_key_beside_a_signing_request_is_refused(authorities, key):
    other = new_key()
    both = signing_request(key) | key_request(other, WORKLOAD)
    assert message(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **both))


def test_what_is_empty_counts_as_absent(authorities, key):
    empty = {"certificateSigningRequest": "", "credentials": {"oidcIdentityToken": ""}}
    assert chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **key_request(key, WORKLOAD), **empty))


def test_claims_that_no_entry_of_the_log_can_hold_are_the_request_s_fault(open_authorities, key):
    foreign = Foreign(FOREIGN)
    repeated = dict.fromkeys(range(9, 23), "{long}")
    authorities = open_authorities(Issuer(FOREIGN, CiIssuer("https://ci.example/{job}", repeated)))
    authorities.keys.publish(FOREIGN, foreign.jwk())
    claims = foreign.claims(authorities.clock.now(), job="app", long="\N{CJK UNIFIED IDEOGRAPH-8A9E}" * 2000)
    token = foreign.token(json.dumps(claims, ensure_ascii=False).encode())
    before = authorities.ct.tiles.head()
    assert "do not fit" in message(authorities.certify(token, **key_request(key, WORKLOAD)))
    assert authorities.ct.tiles.head() == before


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":1,"a":2}', b"[]", b"\xff", b'{"credentials":{"oidcIdentityToken":7}}'])
def test_malformed_body_is_refused(authorities, body):
    assert message(ask(authorities.ca, "POST", "/api/v2/signingCert", body, {"authorization": "Bearer x"}))


def test_certificate_is_not_issued_when_the_log_cannot_keep_it(authorities, key, tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.journal.append=enospc")
    answer = authorities.certify(authorities.oidc.issue_token(WORKLOAD), **key_request(key, WORKLOAD))
    assert (answer.status, document(answer)["code"]) == (503, 14)


def test_a_damaged_log_is_no_matter_of_trying_again(authorities, key, monkeypatch):
    def damaged(_: object) -> None:
        raise LogDamaged("it is")

    monkeypatch.setattr(authorities.ct, "add_precertificate", damaged)
    answer = authorities.certify(authorities.oidc.issue_token(WORKLOAD), **key_request(key, WORKLOAD))
    assert (answer.status, document(answer)["code"]) == (500, 13)


class NoKeys:
    """Keys of issuers that cannot be had."""

    def __init__(self, error: SigkitError) -> None:
        self.error = error

    async def refresh(self, issuer: Issuer, kid: str) -> None:
        del issuer, kid

    def find(self, issuer: Issuer, kid: str) -> Any:
        del issuer, kid
        raise self.error


@pytest.mark.parametrize("error", [TimedOut("slow"), RedirectRefused("elsewhere"), MalformedJson("cut"), TooLarge("endless")])
def test_token_whose_issuer_s_keys_cannot_be_had_is_to_be_tried_again(made_authorities, tmp_path, key, error):
    root = shutil.copytree(made_authorities, tmp_path / "stack")
    with contextlib.closing(Authorities(root, (Issuer(FOREIGN, EmailIssuer()),), keys=NoKeys(error))) as authorities:
        issuer = Foreign(FOREIGN)
        answer = authorities.certify(issuer.token(issuer.claims(authorities.clock.now())), **key_request(key, WORKLOAD))
        assert (answer.status, document(answer)["code"]) == (503, 14)


def test_tokens_that_name_a_slow_issuer_keep_no_other_waiting(made_authorities, tmp_path, key):
    asked, released = threading.Event(), threading.Event()

    def slow(_: object) -> Reply:
        asked.set()
        released.wait(20)
        return Reply(503)

    with contextlib.ExitStack() as stack:
        server, session = stack.enter_context(MisbehavingServer(slow)), stack.enter_context(Session(sleep=lambda _: None))
        root = shutil.copytree(made_authorities, tmp_path / "stack")
        own = OidcIssuer.open(str(root / "oidc"), URL, StandingClock())
        keys = IssuerKeySets({URL: own.key_set()}, session)
        authorities = stack.enter_context(contextlib.closing(Authorities(root, (Issuer(server.url, EmailIssuer()),), keys=keys)))
        foreign = Foreign(server.url)
        unsigned = by_hand({"alg": "ES256", "kid": "x"}, json.dumps(foreign.claims(authorities.clock.now())).encode(), lambda _: b"x")

        def ask_for(token: str) -> asyncio.Task[Answer]:
            body = json.dumps(key_request(key, WORKLOAD)).encode()
            return asyncio.ensure_future(authorities.ca.answer(post("/api/v2/signingCert", body, {"authorization": f"Bearer {token}"})))

        async def scene() -> tuple[Answer, list[Answer]]:
            waiting = [ask_for(unsigned) for _ in range(40)]
            await asyncio.to_thread(asked.wait, 20)
            try:
                answer = await asyncio.wait_for(ask_for(own.issue_token(WORKLOAD)), 10)
                assert not any(task.done() for task in waiting)
            finally:
                released.set()
            return answer, await asyncio.gather(*waiting)

        answer, others = asyncio.run(scene())
        assert answer.status == 200
        assert {other.status for other in others} == {503}


def post(path: str, body: bytes, headers: dict[str, str]) -> Request:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    return Request("POST", path, {}, {"content-length": str(len(body))} | headers, chunks())


@pytest.mark.parametrize("days", [-1, 1826])
def test_authority_whose_certificate_is_not_valid_issues_nothing(authorities, key, days):
    authorities.clock.advance(days=days)
    before = authorities.ct.tiles.head()
    answer = authorities.certify(authorities.oidc.issue_token(WORKLOAD), **key_request(key, WORKLOAD))
    assert (answer.status, document(answer)["code"]) == (500, 13)
    assert authorities.ct.tiles.head() == before


def test_certificate_does_not_outlive_its_issuer(authorities, key):
    end = authorities.ca.chain[0].not_valid_after_utc
    authorities.clock.time = end - timedelta(minutes=3)
    leaf = chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **key_request(key, WORKLOAD)))[0]
    assert leaf.not_valid_after_utc == end


# --- what else it answers


def test_trust_bundle_is_the_chain(authorities):
    (bundle,) = document(ask(authorities.ca, "GET", "/api/v2/trustBundle"))["chains"]
    assert [x509.load_pem_x509_certificate(item.encode()) for item in bundle["certificates"]] == list(authorities.ca.chain)


def test_configuration_describes_each_issuer(open_authorities):
    authorities = open_authorities(Issuer(FOREIGN, KubernetesIssuer()))
    assert document(ask(authorities.ca, "GET", "/api/v2/configuration"))["issuers"] == [
        {"issuerUrl": URL, "audience": "sigstore", "issuerType": "email", "challengeClaim": "email"},
        {"issuerUrl": FOREIGN, "audience": "sigstore", "issuerType": "kubernetes", "challengeClaim": "sub"},
    ]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/v2/signingCert", 405), ("GET", "/api/v2/other", 404)])
def test_other_requests_are_answered_in_gateway_s_form(authorities, method, path, status):
    answer = ask(authorities.ca, method, path)
    assert (answer.status, set(document(answer))) == (status, {"code", "message", "details"})
    assert headers(answer).get("allow") == ("POST" if status == 405 else None)


# --- keys


def test_running_authority_never_needs_the_offline_keys(authorities, key):
    for path in (authorities.root / "offline").iterdir():
        path.unlink()
    opened = CertificateAuthority.open(str(authorities.root / "ca"), authorities.tokens, authorities.ct, authorities.clock)
    assert opened.chain == FILES.load_chain(str(authorities.root / "ca"))
    assert authorities.certify(authorities.oidc.issue_token(WORKLOAD), **key_request(key, WORKLOAD)).status == 200


def test_private_keys_are_their_owner_s_alone(authorities):
    modes = {path.name: path.stat().st_mode & 0o777 for path in authorities.root.rglob("*.key")}
    assert set(modes) == {"ca-root.key", "tsa-root.key", "ca.key", "tsa.key", "ct.key", "ct-checkpoint.key", "oidc.key"}
    assert set(modes.values()) == {0o600}


def test_no_key_is_made_over_another(authorities):
    with pytest.raises(FileUnwritable):
        CertificateAuthority.create(str(authorities.root / "ca"), str(authorities.root / "offline"), "acme", authorities.clock)


def test_key_file_that_is_none_is_refused(authorities):
    (authorities.root / "ca" / "ca.key").write_bytes(b"x")
    with pytest.raises(MalformedKey):
        CertificateAuthority.open(str(authorities.root / "ca"), authorities.tokens, authorities.ct, authorities.clock)


def test_intermediate_does_not_outlive_its_root(authorities, tmp_path):
    authorities.clock.advance(days=3000)
    (tmp_path / "later").mkdir()
    CertificateAuthority.create(str(tmp_path / "later"), str(authorities.root / "offline"), "acme", authorities.clock)
    intermediate, root = FILES.load_chain(str(tmp_path / "later"))
    assert intermediate.not_valid_after_utc == root.not_valid_after_utc
    assert intermediate.not_valid_after_utc.tzinfo is UTC
