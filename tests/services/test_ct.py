"""The stack's certificate log: what it promises, and that it keeps its promises."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigkit import durable
from sigkit.errors import NOWHERE, LockTimeout
from sigkit.keys.public import parse_public_key
from sigkit.services import der, pki
from sigkit.services.ct import CertificateLog, load_public_key, without_poison
from sigkit.tlog.sct import verify_sct
from sigkit.tlog.tile import parse_entries
from tests.simulators.authorities import WORKLOAD, ask, b64, chain, document, headers, key_request, new_key, signing_request
from tests.simulators.odd_certificates import ODD, odd_certificate, plain_certificate


@pytest.fixture
def leaf(authorities):
    """Return a certificate that the stack issued."""
    return chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **signing_request(new_key())))[0]


def raw(certificate) -> bytes:
    encoded: bytes = certificate.public_bytes(serialization.Encoding.DER)
    return encoded


def precertificate(authorities, *, poison=True, signer=None, issuer=None) -> x509.Certificate:
    """Sign what the authority signs, with its own key or another."""
    now = authorities.clock.now()
    builder = x509.CertificateBuilder((issuer or authorities.ca.chain[0]).subject, x509.Name([]), new_key().public_key(), 77, now, now)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name("a@b.example")]), critical=True)
    if poison:
        builder = builder.add_extension(x509.PrecertPoison(), critical=True)
    return builder.sign(signer or pki.load_key(str(authorities.root / "ca" / "ca.key")), hashes.SHA256())


def submit(authorities, *certificates):
    body = json.dumps({"chain": [b64(raw(certificate)) for certificate in certificates]}).encode()
    return ask(authorities.ct, "POST", "/ct/v1/add-pre-chain", body)


def entries(authorities) -> list[bytes]:
    size = authorities.ct.tiles.head().size
    return [authorities.ct.tiles.find(index) for index in range(size)]


def test_promise_in_a_certificate_is_the_log_s(authorities, leaf):
    (sct,) = leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    issuer_key = pki.spki(authorities.ca.chain[0].public_key())
    when = verify_sct(leaf, issuer_key, sct, parse_public_key(authorities.ct.public_key, NOWHERE), NOWHERE)
    assert when == authorities.clock.now()
    assert sct.log_id == hashlib.sha256(authorities.ct.public_key).digest()
    assert load_public_key(str(authorities.root / "ct")) == authorities.ct.public_key


def test_promised_certificate_is_in_the_tree(authorities, leaf):
    (sct,) = leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
    body = leaf.tbs_precertificate_bytes
    issuer_key = hashlib.sha256(pki.spki(authorities.ca.chain[0].public_key())).digest()
    time = int(authorities.clock.now().timestamp() * 1000).to_bytes(8, "big")
    # MerkleTreeLeaf of RFC 6962 section 3.4, by hand.
    expected = b"\0\0" + time + b"\0\1" + issuer_key + len(body).to_bytes(3, "big") + body + b"\0\0"
    assert entries(authorities)[1:] == [expected]
    assert sct.entry_type == x509.certificate_transparency.LogEntryType.PRE_CERTIFICATE


def test_log_keeps_its_entries_when_it_is_opened_again(authorities, leaf):
    kept = entries(authorities)
    authorities.close()
    with CertificateLog.open(str(authorities.root / "ct"), authorities.ca.chain[-1], authorities.clock) as opened:
        assert [opened.tiles.find(index) for index in range(opened.tiles.head().size)] == kept


def test_one_process_at_a_time_owns_the_log(authorities):
    with (
        pytest.raises(LockTimeout),
        CertificateLog.open(str(authorities.root / "ct"), authorities.ca.chain[-1], authorities.clock),
    ):
        pass


def test_log_is_read_as_any_tile_log(authorities, leaf):
    checkpoint = ask(authorities.ct, "GET", "/ct/checkpoint")
    assert (checkpoint.status, headers(checkpoint)["content-type"]) == (200, "text/plain; charset=utf-8")
    assert checkpoint.body.split(b"\n")[:2] == [b"127.0.0.1/ct", b"2"]
    found = ask(authorities.ct, "GET", "/ct/tile/entries/000.p/2").body
    assert list(parse_entries(found, 2, NOWHERE)) == entries(authorities)
    assert len(ask(authorities.ct, "GET", "/ct/tile/0/000.p/2").body) == 64


@pytest.mark.parametrize("path", ["/ct/tile/0/001", "/ct/tile/0/../0", "/ct/tile/", "/ct/other", "/ct/v1/get-sth", "/ct/"])
def test_what_the_log_does_not_have_is_404(authorities, path):
    assert ask(authorities.ct, "GET", path).status == 404


def test_submitted_precertificate_gets_a_promise(authorities):
    asked = precertificate(authorities)
    found = document(submit(authorities, asked, *authorities.ca.chain))
    assert (found["sct_version"], base64.b64decode(found["id"]), found["extensions"]) == (0, authorities.ct.log_id, "")
    assert found["timestamp"] == int(authorities.clock.now().timestamp() * 1000)
    signature = base64.b64decode(found["signature"])
    assert signature[:2] == b"\4\3"
    assert int.from_bytes(signature[2:4], "big") == len(signature) - 4
    key: Any = serialization.load_der_public_key(authorities.ct.public_key)
    key.verify(signature[4:], entries(authorities)[-1], ec.ECDSA(hashes.SHA256()))


def test_chain_may_end_below_the_root(authorities):
    assert submit(authorities, precertificate(authorities), authorities.ca.chain[0]).status == 200


def test_entry_is_the_certificate_without_poison(authorities):
    plain = precertificate(authorities, poison=False)
    asked = precertificate(authorities)
    stripped = without_poison(asked.tbs_certificate_bytes)
    assert der.identifier("1.3.6.1.4.1.11129.2.4.3") not in stripped
    assert len(stripped) == len(plain.tbs_certificate_bytes)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda s: [precertificate(s, poison=False), *s.ca.chain], id="no poison"),
        pytest.param(lambda s: [precertificate(s, signer=new_key()), *s.ca.chain], id="signed by another"),
        pytest.param(lambda s: [precertificate(s)], id="no issuer"),
        pytest.param(lambda _: [], id="nothing"),
        pytest.param(lambda s: [precertificate(s), s.ca.chain[1]], id="the wrong issuer"),
        pytest.param(lambda s: [precertificate(s), *s.tsa.chain[:1]], id="a leaf as issuer"),
        pytest.param(lambda s: [precertificate(s), *s.ca.chain, *s.ca.chain], id="a chain that goes on"),
        pytest.param(lambda s: [s.ca.chain[0], s.ca.chain[1]], id="an authority"),
        pytest.param(lambda s: [precertificate(s), *[s.ca.chain[0]] * 20], id="a long chain"),
    ],
)
def test_other_chain_is_refused_and_not_kept(authorities, spoil):
    before = entries(authorities)
    answer = submit(authorities, *spoil(authorities))
    assert (answer.status, document(answer)["code"]) == (400, 3)
    assert entries(authorities) == before


@pytest.mark.parametrize("name", ["evil", "acme"])
def test_chain_of_another_root_is_refused(authorities, tmp_path, name):
    now = authorities.clock.now()
    pki.make_root(str(tmp_path), "evil", name, f"{name} root", now)
    root = pki.load_root(str(tmp_path), "evil")
    asked = precertificate(authorities, issuer=root.certificate, signer=root.key)
    for certificates in ([asked, root.certificate], [asked, root.certificate, authorities.ca.chain[-1]]):
        assert submit(authorities, *certificates).status == 400
    assert authorities.ct.tiles.head().size == 1


def test_signer_s_certificate_issues_nothing(authorities):
    key = new_key()
    signer = chain(authorities.certify(authorities.oidc.issue_token(WORKLOAD), **signing_request(key)))[0]
    before = authorities.ct.tiles.head()
    asked = precertificate(authorities, issuer=signer, signer=key)
    asked.verify_directly_issued_by(signer)
    assert submit(authorities, asked, signer, *authorities.ca.chain).status == 400
    assert authorities.ct.tiles.head() == before


class Watched:
    """A certificate that tells whose key its signature was checked with."""

    def __init__(self, certificate: x509.Certificate, checked: list[x509.Certificate]) -> None:
        self._certificate = certificate
        self._checked = checked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._certificate, name)

    def verify_directly_issued_by(self, issuer: Any) -> None:
        self._checked.append(issuer)
        self._certificate.verify_directly_issued_by(getattr(issuer, "_certificate", issuer))


@pytest.mark.attack("slow keys in a chain")
def test_no_signature_is_checked_by_a_key_that_no_root_vouches_for(authorities, tmp_path):
    checked: list[x509.Certificate] = []
    watched: Any = [Watched(item, checked) for item in (precertificate(authorities), *authorities.tsa.chain[:1])]
    with pytest.raises(ValueError, match="root"):
        authorities.ct.add_precertificate(watched)
    assert checked == []
    pki.make_root(str(tmp_path), "evil", "acme", "acme root", authorities.clock.now())  # named as the log's root is
    stranger = pki.load_root(str(tmp_path), "evil")
    asked = precertificate(authorities, issuer=stranger.certificate, signer=stranger.key)
    watched = [Watched(item, checked) for item in (asked, stranger.certificate)]
    with pytest.raises(ValueError, match="issue each other"):
        authorities.ct.add_precertificate(watched)
    assert checked == [authorities.ca.chain[-1]]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"chain":[7]}', b'{"chain":["!"]}', b'{"chain":["AAAA","AAAA"]}'])
def test_malformed_submission_is_refused(authorities, body):
    assert ask(authorities.ct, "POST", "/ct/v1/add-pre-chain", body).status == 400


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("oddity", ODD)
def test_chain_with_a_certificate_that_cannot_be_read_is_refused(authorities, oddity, at):
    key = new_key()
    certificates = [b64(plain_certificate(key))] * 2  # by one key, so that the second did issue the first
    certificates[at] = b64(odd_certificate(key, oddity))
    answer = ask(authorities.ct, "POST", "/ct/v1/add-pre-chain", json.dumps({"chain": certificates}).encode())
    assert (answer.status, document(answer)["code"]) == (400, 3)


def test_submission_that_is_too_long_is_refused(authorities):
    assert ask(authorities.ct, "POST", "/ct/v1/add-pre-chain", b" " * (300 << 10)).status == 413


def test_caches_keep_what_lasts_and_nothing_else(authorities):
    for path, kept in (("checkpoint", "no-cache"), ("tile/0/000.p/1", "public, max-age=31536000, immutable"), ("tile/0/001", "no-cache")):
        assert headers(ask(authorities.ct, "GET", f"/ct/{path}"))["cache-control"] == kept


def test_roots_are_told(authorities):
    (root,) = document(ask(authorities.ct, "GET", "/ct/v1/get-roots"))["certificates"]
    assert base64.b64decode(root) == raw(authorities.ca.chain[-1])


def test_no_promise_without_a_durable_entry(authorities, monkeypatch):
    monkeypatch.setattr(durable, "_passages", {})
    monkeypatch.setenv("SIGKIT_FAILPOINTS", "log.journal.append=enospc")
    before = entries(authorities)
    answer = submit(authorities, precertificate(authorities), *authorities.ca.chain)
    assert (answer.status, document(answer)["code"]) == (503, 14)  # to be tried again
    assert entries(authorities) == before


def test_certificates_of_many_clients_at_once_all_stand_in_the_log(authorities):
    import concurrent.futures

    token = authorities.oidc.issue_token(WORKLOAD)
    wish = key_request(new_key(), WORKLOAD)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: authorities.certify(token, **wish), range(16)))
    bodies = {chain(answer)[0].tbs_precertificate_bytes for answer in answers}
    assert len(bodies) == 16
    assert all(any(body in entry for entry in entries(authorities)) for body in bodies)
