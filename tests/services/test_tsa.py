"""The stack's timestamp authority: its answers as independent readers see them, and what it does not sign."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response

from sigkit.digest import Digest
from sigkit.errors import NOWHERE, Kind, SigkitError
from sigkit.services import der
from sigkit.services.tsa import TimestampAuthority, parse_json_query, parse_query
from sigkit.trust.root import Origin, Window
from sigkit.trust.root import TimestampAuthority as TrustedTsa
from sigkit.verify.times import verify_timestamps
from tests.simulators.authorities import Answered, Authorities, ask, b64, document, headers

SIGNATURE = b"a signature"
QUERY = {"content-type": "application/timestamp-query"}
JSON = {"content-type": "application/json; charset=utf-8"}
SHA256 = "2.16.840.1.101.3.4.2.1"
SHA1 = "1.3.14.3.2.26"
MD5 = "1.2.840.113549.2.5"
POLICY = "1.3.6.1.4.1.57264.2"
NO_TRUTH = (b"", b"\x01", b"\x00\x00", b"\xff\xff", b"\xfe")


def query(**options: Any) -> Any:
    built = TimestampRequestBuilder().data(SIGNATURE).hash_algorithm(options.pop("algorithm", HashAlgorithm.SHA256))
    return built.cert_request(cert_request=options.pop("certificate", False)).nonce(nonce=options.pop("nonce", False)).build()


def raw_query(*parts: bytes, identifier: str = SHA256, digest: bytes = b"d" * 32, parameters: bytes = b"", version: int = 1) -> bytes:
    """Return a query by hand; `parts` follow the imprint."""
    imprint = der.sequence(der.sequence(der.identifier(identifier), parameters), der.octets(digest))
    return der.sequence(der.integer(version), imprint, *parts)


def post(authorities: Authorities, body: bytes, kind: dict[str, str] | None = None) -> Answered:
    return ask(authorities.tsa, "POST", "/api/v1/timestamp", body, kind or QUERY)


def stamp(authorities: Authorities, body: bytes, kind: dict[str, str] | None = None) -> bytes:
    answer = post(authorities, body, kind)
    assert (answer.status, headers(answer)["content-type"]) == (200, "application/timestamp-reply"), answer.body
    return answer.body


def trusted(authorities: Authorities) -> TrustedTsa:
    return TrustedTsa("tsa", authorities.tsa.chain, Window(None, None), "acme", Origin("stack", Digest.of(b"stack")))


# --- what is signed


@pytest.mark.parametrize("algorithm", HashAlgorithm)
@pytest.mark.parametrize("nonce", [True, False])
@pytest.mark.parametrize("certificate", [True, False])
def test_answer_is_a_timestamp_to_rfc3161_client(authorities, algorithm, nonce, certificate):
    asked = query(algorithm=algorithm, nonce=nonce, certificate=certificate)
    response = decode_timestamp_response(stamp(authorities, asked.as_bytes()))
    leaf, root = authorities.tsa.chain
    VerifierBuilder.from_request(asked).tsa_certificate(leaf).add_root_certificate(root).build().verify_message(response, SIGNATURE)
    assert response.status == 0
    info = response.tst_info
    assert info.gen_time == authorities.clock.now().replace(microsecond=0)
    assert (info.policy.dotted_string, info.accuracy.seconds, info.nonce) == (POLICY, 1, asked.nonce if nonce else None)
    assert 0 < info.serial_number < 2**160
    assert len(response.signed_data.certificates) == (1 if certificate else 0)
    assert response.signed_data.version == 3


def test_timestamp_proves_the_time_to_sigkit(authorities):
    (time,), unchecked = verify_timestamps([stamp(authorities, query().as_bytes())], SIGNATURE, [trusted(authorities)], NOWHERE)
    assert (time.when, unchecked) == (authorities.clock.now().replace(microsecond=0), ())


def test_timestamp_over_other_bytes_is_refused_as_TIME(authorities):
    with pytest.raises(SigkitError) as caught:
        verify_timestamps([stamp(authorities, query().as_bytes())], b"another signature", [trusted(authorities)], NOWHERE)
    assert caught.value.kind is Kind.TIME


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
@pytest.mark.parametrize("options", [["-sha256"], ["-sha384", "-cert"], ["-sha512", "-no_nonce", "-cert"]])
def test_answer_is_a_timestamp_to_openssl(authorities, tmp_path, options):
    leaf, root = (tmp_path / "leaf.pem", tmp_path / "root.pem")
    for path, certificate in zip((leaf, root), authorities.tsa.chain, strict=True):
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    data, asked, reply = tmp_path / "data", tmp_path / "asked", tmp_path / "reply"
    data.write_bytes(SIGNATURE)
    subprocess.run(["openssl", "ts", "-query", "-data", data, *options, "-out", asked], check=True, capture_output=True)
    reply.write_bytes(stamp(authorities, asked.read_bytes()))
    moment = str(int(authorities.clock.now().timestamp()))
    done = subprocess.run(
        ["openssl", "ts", "-verify", "-in", reply, "-queryfile", asked, "-CAfile", root, "-untrusted", leaf, "-attime", moment],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "Verification: OK" in done.stdout + done.stderr) == (0, True), done.stderr


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_query_in_json_is_answered_alike(authorities, algorithm):
    digest = hashlib.new(algorithm, SIGNATURE).digest()
    body = json.dumps({"artifactHash": b64(digest), "hashAlgorithm": algorithm, "certificates": True, "nonce": 7, "tsaPolicyOID": POLICY})
    response = decode_timestamp_response(stamp(authorities, body.encode(), JSON))
    assert (response.tst_info.message_imprint.message, response.tst_info.nonce) == (digest, 7)
    assert len(response.signed_data.certificates) == 1


@pytest.mark.parametrize("nonce", [2**63, 2**159 - 1])
def test_a_nonce_in_json_may_have_as_many_bits_as_in_der(authorities, nonce):
    body = json.dumps({"artifactHash": b64(hashlib.sha256(SIGNATURE).digest()), "hashAlgorithm": "sha256", "nonce": nonce})
    assert decode_timestamp_response(stamp(authorities, body.encode(), JSON)).tst_info.nonce == nonce
    assert parse_query(raw_query(der.integer(nonce))).nonce == der.integer(nonce)


def test_from_2050_on_the_time_of_signing_has_four_digits_for_its_year(authorities):
    for year, tag in ((2049, der.UTC_TIME), (2050, der.GENERALIZED_TIME)):
        when = datetime(year, 6, 1, tzinfo=UTC)
        assert der.read_one(der.time(when), tag).content.startswith(str(year)[-2 if tag == der.UTC_TIME else 0 :].encode())


def test_query_in_json_needs_two_members_only(authorities):
    body = json.dumps({"artifactHash": b64(hashlib.sha256(SIGNATURE).digest()), "hashAlgorithm": "sha256"})
    (time,), _ = verify_timestamps([stamp(authorities, body.encode(), JSON)], SIGNATURE, [trusted(authorities)], NOWHERE)
    assert time.when == authorities.clock.now().replace(microsecond=0)


def test_imprint_is_echoed_as_it_came(authorities):
    for parameters in (b"", b"\x05\x00"):
        response = decode_timestamp_response(stamp(authorities, raw_query(parameters=parameters)))
        assert response.tst_info.message_imprint.message == b"d" * 32


@pytest.mark.parametrize(("content", "wanted"), [(b"\x00", False), (b"\xff", True)])
def test_certificate_comes_if_it_is_asked_for(content, wanted):
    assert parse_query(raw_query(der.element(der.BOOLEAN, content))).wants_certificate is wanted


def test_no_two_timestamps_have_one_serial_number(authorities):
    serials = {decode_timestamp_response(stamp(authorities, query().as_bytes())).tst_info.serial_number for _ in range(5)}
    assert len(serials) == 5


# --- what is not signed


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(raw_query(identifier=SHA1, digest=b"d" * 20), id="SHA-1"),
        pytest.param(raw_query(identifier=MD5, digest=b"d" * 16), id="MD5"),
        pytest.param(raw_query(digest=b"d" * 31), id="a short digest"),
        pytest.param(raw_query(digest=b"d" * 64), id="a long digest"),
        pytest.param(raw_query(digest=b""), id="no digest"),
        pytest.param(raw_query(der.identifier("1.2.3.4")), id="a foreign policy"),
        pytest.param(raw_query(version=2), id="another version"),
        pytest.param(raw_query(der.element(0xA0, der.sequence())), id="extensions"),
        pytest.param(raw_query(der.integer(2**200)), id="a long nonce"),
        *(pytest.param(raw_query(der.element(der.BOOLEAN, content)), id=f"truth of {content!r}") for content in NO_TRUTH),
        pytest.param(raw_query(parameters=der.octets(b"x")), id="parameters"),
        pytest.param(raw_query() + b"\0", id="something after it"),
        pytest.param(raw_query()[:-1], id="cut off"),
        pytest.param(b"\x30\x81" + raw_query()[1:], id="a length that is longer than it must be"),
        pytest.param(b"\x30\x80" + raw_query()[2:] + b"\0\0", id="a length that is not told"),
        pytest.param(raw_query(identifier="2.16.840.1.101.3.4.2.1").replace(b"\x06\x09\x60", b"\x06\x0a\x80\x60"), id="leading zeros"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x30\x00", id="an empty sequence"),
        pytest.param(der.sequence(der.integer(1), der.sequence()), id="an empty imprint"),
        pytest.param(der.sequence(der.integer(1), der.sequence(der.sequence(), der.octets(b"d" * 32))), id="no algorithm"),
        pytest.param(raw_query(identifier="1.2." + ".".join(["4294967295"] * 30)), id="a huge identifier"),
    ],
)
def test_query_is_refused(authorities, body):
    answer = post(authorities, body)
    assert (answer.status, document(answer)["code"]) == (400, 400)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"hashAlgorithm": "sha1", "artifactHash": b64(b"d" * 20)}, id="SHA-1"),
        pytest.param({"artifactHash": b64(b"d" * 20)}, id="a short digest"),
        pytest.param({"artifactHash": "!"}, id="no base64"),
        pytest.param({"tsaPolicyOID": "1.2.3"}, id="a foreign policy"),
        pytest.param({"nonce": -1}, id="a negative nonce"),
        pytest.param({"nonce": 2**159}, id="a long nonce"),
        pytest.param({"certificates": "yes"}, id="a text for a truth value"),
        pytest.param({"more": 1}, id="an unknown member"),
    ],
)
def test_query_in_json_is_refused(authorities, members):
    body = {"artifactHash": b64(b"d" * 32), "hashAlgorithm": "sha256"} | members
    assert post(authorities, json.dumps(body).encode(), JSON).status == 400


def test_query_that_is_too_long_is_refused(authorities):
    answer = post(authorities, raw_query(der.element(0xA0, b"\0" * 1024)))
    assert (answer.status, set(document(answer))) == (400, {"code", "message"})


@pytest.mark.parametrize("kind", ["", "text/plain", "application/timestamp-reply"])
def test_other_media_type_is_refused(authorities, kind):
    assert post(authorities, raw_query(), {"content-type": kind}).status == 415


@given(raw=st.binary(max_size=200))
def test_no_bytes_break_the_reader(raw):
    for parse, errors in ((parse_query, der.MalformedDer), (parse_json_query, (der.MalformedDer, SigkitError))):
        try:
            parse(raw)
        except errors:
            continue


@given(at=st.integers(0, 60), bit=st.integers(0, 7))
def test_flipped_bit_in_a_query_is_refused_or_another_query(at, bit):
    raw = bytearray(raw_query(der.integer(2**63 + 1), b"\x01\x01\xff"))
    at %= len(raw)
    raw[at] ^= 1 << bit
    try:
        found = parse_query(bytes(raw))
    except der.MalformedDer:
        return
    assert found.imprint in bytes(raw)


@pytest.mark.parametrize("days", [-1, 1826])
def test_authority_whose_certificate_is_not_valid_signs_nothing(authorities, days):
    authorities.clock.advance(days=days)
    answer = post(authorities, raw_query())
    assert (answer.status, document(answer)["code"]) == (500, 500)


# --- the authority


def test_certificate_is_for_timestamps_alone(authorities):
    leaf, root = authorities.tsa.chain
    purpose = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (purpose.critical, list(purpose.value)) == (True, [ExtendedKeyUsageOID.TIME_STAMPING])
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    leaf.verify_directly_issued_by(root)


def test_chain_is_sent_leaf_first(authorities):
    answer = ask(authorities.tsa, "GET", "/api/v1/timestamp/certchain")
    assert headers(answer)["content-type"] == "application/pem-certificate-chain"
    assert tuple(x509.load_pem_x509_certificates(answer.body)) == authorities.tsa.chain


def test_authority_opens_without_the_offline_key(authorities):
    for path in (authorities.root / "offline").iterdir():
        path.unlink()
    opened = TimestampAuthority.open(str(authorities.root / "tsa"), authorities.clock)
    assert opened.chain == authorities.tsa.chain
    assert ask(opened, "GET", "/api/v1/timestamp/certchain").status == 200


def test_time_is_the_clock_s_at_the_moment_of_signing(authorities):
    first = decode_timestamp_response(stamp(authorities, query().as_bytes())).tst_info.gen_time
    authorities.clock.advance(seconds=90)
    second = decode_timestamp_response(stamp(authorities, query().as_bytes())).tst_info.gen_time
    assert second - first == timedelta(seconds=90)
