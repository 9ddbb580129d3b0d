"""Trusted roots: what is read of one, what is refused by name, and the copy that comes along."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import sigkit.trust
from sigkit import limits
from sigkit.errors import (
    FileUnreadable,
    Kind,
    MalformedBase64,
    MalformedJson,
    MalformedKey,
    MalformedTrustedRoot,
    Owner,
    Place,
    SigkitError,
    TooLarge,
    TooMany,
    UnsupportedKey,
    UnsupportedTrustedRoot,
    WrongShape,
)
from sigkit.keys.private import generate
from sigkit.trust.bundled import COPIED, age_days, load_public_good
from sigkit.trust.files import load_trusted_root
from sigkit.trust.root import Origin, TrustedKey, Window, root_of_keys, with_keys
from sigkit.trust.trusted_root import parse_trusted_root
from tests.simulators.der import with_serial
from tests.simulators.sigstore import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Place.operator("root.json")
RAW = (Path(sigkit.trust.__file__).parent / "public_good.json").read_bytes()
DAY = timedelta(days=1)


def parsed(document, name="test"):
    return parse_trusted_root(document if isinstance(document, bytes) else json.dumps(document).encode(), name, HERE, limits.DEFAULT)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def spki_of(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def a_log(**changes):
    """Return the first log of the public-good root with these members; None takes one away."""
    log = copy.deepcopy(json.loads(RAW)["tlogs"][0]) | changes
    return {name: value for name, value in log.items() if value is not None}


def with_log_key(spki: bytes, details: str | None):
    """Return a root whose one log has this key."""
    key = {"rawBytes": b64(spki), "validFor": {"start": "2026-01-01T00:00:00Z"}} | ({"keyDetails": details} if details else {})
    return json.loads(RAW) | {"tlogs": [a_log(publicKey=key)]}


def test_the_public_good_root_is_read_whole():
    root = parsed(RAW, "public-good")
    assert [log.origin for log in root.logs] == ["rekor.sigstore.dev", "log2025-1.rekor.sigstore.dev"]
    assert [log.key.kind for log in root.logs] == ["ecdsa-p256", "ed25519"]
    assert root.logs[0].log_id == root.logs[0].key.fingerprint.value  # the first generation: the hash of the key
    note = b"log2025-1.rekor.sigstore.dev\n\x01" + root.logs[1].key.spki[-32:]  # the second: that of its name and key
    assert root.logs[1].log_id == hashlib.sha256(note).digest()
    assert [log.name for log in root.ct_logs] == ["https://ctfe.sigstore.dev/test", "https://ctfe.sigstore.dev/2022"]
    assert root.ct_logs[0].valid == Window(datetime(2021, 3, 14, tzinfo=UTC), datetime(2022, 10, 31, 23, 59, 59, 999000, tzinfo=UTC))
    assert [len(authority.certificates) for authority in root.certificate_authorities] == [1, 2]
    assert [authority.name for authority in root.timestamp_authorities] == ["https://timestamp.sigstore.dev/api/v1/timestamp"]
    assert root.keys == ()


def test_the_digest_is_of_the_file_and_everything_says_which_root_it_is_of():
    root = parsed(RAW, "theirs")
    assert root.digest.value == hashlib.sha256(RAW).digest()
    everything = (*root.logs, *root.ct_logs, *root.certificate_authorities, *root.timestamp_authorities)
    assert {item.source for item in everything} == {Origin("theirs", root.digest)}


def test_every_root_of_the_conformance_suite_is_read_but_the_one_that_must_not_be(vectors):
    files = sorted((vectors / "sigstore-conformance").glob("test/assets/bundle-verify/*/trusted_root.json"))
    refused = []
    for file in files:
        try:
            load_trusted_root(str(file))
        except SigkitError as err:
            refused.append((file.parent.name, type(err)))
    assert len(files) > 30
    assert refused == [("trust-root-tlog-missing-validity-start_fail", WrongShape)]


def test_a_root_may_hold_nothing():
    root = parsed({"mediaType": json.loads(RAW)["mediaType"]})
    assert (root.logs, root.ct_logs, root.certificate_authorities, root.timestamp_authorities) == ((), (), (), ())


def test_an_operator_and_a_checkpoint_key_id_are_read():
    document = json.loads(RAW) | {"tlogs": [a_log(operator="acme", checkpointKeyId={"keyId": b64(b"abcd")})]}
    (log,) = parsed(document).logs
    assert (log.operator, log.checkpoint_key_id) == ("acme", b"abcd")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        pytest.param("https://log.example", "log.example", id="host"),
        pytest.param("https://log.example:8443/path/", "log.example", id="port and path"),
        pytest.param("http://127.0.0.1:3000", "127.0.0.1", id="address"),
        pytest.param(None, "", id="none"),
        pytest.param("https://[log.example", "", id="no URL"),
    ],
)
def test_a_logs_origin_is_the_host_of_its_url(url, origin):
    (log,) = parsed(json.loads(RAW) | {"tlogs": [a_log(baseUrl=url)]}).logs
    assert log.origin == origin


P256, P384, P521 = (spki_of(ec.generate_private_key(curve()).public_key()) for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
ED25519 = generate("ed25519").public.spki


@pytest.mark.parametrize(
    ("spki", "details", "kind"),
    [
        pytest.param(P256, "PKIX_ECDSA_P256_SHA_256", "ecdsa-p256", id="P-256"),
        pytest.param(P384, "PKIX_ECDSA_P384_SHA_384", "ecdsa-p384", id="P-384"),
        pytest.param(P521, "PKIX_ECDSA_P521_SHA_512", "ecdsa-p521", id="P-521"),
        pytest.param(ED25519, "PKIX_ED25519", "ed25519", id="Ed25519"),
        pytest.param(P256, None, "ecdsa-p256", id="unsaid"),
    ],
)
def test_a_logs_key_is_of_the_kind_that_the_root_says(spki, details, kind):
    (log,) = parsed(with_log_key(spki, details)).logs
    assert (log.key.kind, log.key.spki) == (kind, spki)


def test_an_rsa_key_is_read_in_both_of_its_forms():
    public = rsa.generate_private_key(65537, 2048).public_key()
    pkcs1 = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    (old,) = parsed(with_log_key(pkcs1, "PKCS1_RSA_PKCS1V5")).logs
    (new,) = parsed(with_log_key(spki_of(public), "PKIX_RSA_PKCS1V15_2048_SHA256")).logs
    assert old.key == new.key


@pytest.mark.parametrize(
    ("spki", "details"),
    [
        pytest.param(P256, "PKIX_ECDSA_P384_SHA_384", id="another curve"),
        pytest.param(P256, "PKIX_ED25519", id="another kind"),
    ],
)
def test_a_key_of_another_kind_than_the_root_says_is_refused_as_ROOT(spki, details):
    with pytest.raises(MalformedTrustedRoot) as caught:
        parsed(with_log_key(spki, details))
    assert caught.value.expected == details


@pytest.mark.parametrize("details", ["PKIX_ED25519_PH", "PKIX_RSA_PSS_2048_SHA256", "ML_DSA_65", "PKIX_ECDSA_P256_HMAC_SHA_256"])
def test_a_kind_of_key_that_is_not_read_is_refused_by_its_name(details):
    with pytest.raises(UnsupportedTrustedRoot) as caught:
        parsed(with_log_key(ED25519, details))
    assert caught.value.got == details


def test_a_key_on_a_weak_curve_is_refused_as_SIG():
    with pytest.raises(UnsupportedKey):
        parsed(with_log_key(spki_of(ec.generate_private_key(ec.SECP256K1()).public_key()), None))


@pytest.mark.parametrize("fraction", ["", ".1", ".123", ".123456", ".999999999"])
def test_a_time_may_have_a_fraction_of_a_second(fraction):
    log = a_log()
    log["publicKey"]["validFor"] = {"start": f"2026-01-02T03:04:05{fraction}Z"}
    (read,) = parsed(json.loads(RAW) | {"tlogs": [log]}).logs
    micro = int((fraction[1:] + "000000")[:6])
    assert read.valid == Window(datetime(2026, 1, 2, 3, 4, 5, micro, tzinfo=UTC), None)


def step_into(value, path):
    for step in path:
        value = value[step]
    return value


def changed(*path, to):
    """Return the public-good root with the value at `path` changed: by a function of it, or to a value; None takes it away."""
    document = json.loads(RAW)
    outer = step_into(document, path[:-1])
    value = to(outer[path[-1]]) if callable(to) else to
    if value is None:
        del outer[path[-1]]
    else:
        outer[path[-1]] = value
    return document


def upside_down(chain):
    return chain[::-1]


def twice(items):
    return [*items, items[0]]


def under_another_id(logs):
    return [*logs, {**logs[0], "logId": {"keyId": b64(bytes(32))}, "baseUrl": "https://other.example"}]


def forged(raw):
    """Return the certificate with one bit of its signature changed."""
    der = bytearray(base64.b64decode(raw))
    der[-1] ^= 1
    return b64(bytes(der))


def self_signed(key):
    """Return an authority's chain of one certificate, by this key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "own")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2036, 1, 1, tzinfo=UTC))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return [{"rawBytes": b64(certificate.public_bytes(serialization.Encoding.DER))}]


def renumbered(raw):
    """Return the certificate with a serial number of zero."""
    return b64(with_serial(base64.b64decode(raw), b"\2\1\0"))


def under_another_name(authorities):
    return [*authorities, {**authorities[0], "uri": "https://other.example"}]


LOG, CA, TSA = ("tlogs", 0), ("certificateAuthorities", 1), ("timestampAuthorities", 0)
CHAIN = (*CA, "certChain", "certificates")
REFUSED = {
    "another version": (changed("mediaType", to="application/vnd.dev.sigstore.trustedroot+json;version=0.2"), UnsupportedTrustedRoot),
    "no media type": (changed("mediaType", to=None), WrongShape),
    "TUF's root": ({"signed": {"_type": "root"}, "signatures": []}, UnsupportedTrustedRoot),
    "unknown member": (json.loads(RAW) | {"witnesses": []}, WrongShape),
    "unknown member of a log": (changed(*LOG, to=lambda log: log | {"x": 1}), WrongShape),
    "unknown member of a key": (changed(*LOG, "publicKey", to=lambda key: key | {"x": 1}), WrongShape),
    "unknown member of an authority": (changed(*CA, to=lambda authority: authority | {"x": 1}), WrongShape),
    "unknown member of a subject": (changed(*CA, "subject", to=lambda subject: subject | {"x": 1}), WrongShape),
    "unknown member of a validity": (changed(*CA, "validFor", to=lambda window: window | {"x": 1}), WrongShape),
    "unknown member of a chain": (changed(*CA, "certChain", to=lambda chain: chain | {"x": 1}), WrongShape),
    "unknown member of a certificate": (changed(*CHAIN, 0, to=lambda item: item | {"x": 1}), WrongShape),
    "unknown member of a timestamp authority": (changed(*TSA, to=lambda authority: authority | {"x": 1}), WrongShape),
    "a log without a start": (changed(*LOG, "publicKey", "validFor", to={}), WrongShape),
    "a log without a validity": (changed(*LOG, "publicKey", "validFor", to=None), WrongShape),
    "a certificate log without a start": (changed("ctlogs", 1, "publicKey", "validFor", "start", to=None), WrongShape),
    "an authority without a start": (changed(*CA, "validFor", "start", to=None), WrongShape),
    "a timestamp authority without a validity": (changed(*TSA, "validFor", to=None), WrongShape),
    "a validity that ends first": (changed(*CA, "validFor", "end", to="2020-01-01T00:00:00Z"), MalformedTrustedRoot),
    "a time without a zone": (changed(*CA, "validFor", "start", to="2022-04-13T20:06:15"), WrongShape),
    "a time with an offset": (changed(*CA, "validFor", "start", to="2022-04-13T20:06:15+00:00"), WrongShape),
    "a time without its T": (changed(*CA, "validFor", "start", to="2022-04-13 20:06:15Z"), WrongShape),
    "a month that is none": (changed(*CA, "validFor", "start", to="2022-13-12T20:06:15Z"), WrongShape),
    "a day that is none": (changed(*CA, "validFor", "start", to="2022-02-30T20:06:15Z"), WrongShape),
    "an hour that is none": (changed(*CA, "validFor", "start", to="2022-02-03T25:06:15Z"), WrongShape),
    "a number as a time": (changed(*CA, "validFor", "start", to=1649880375), WrongShape),
    "no hash": (changed(*LOG, "hashAlgorithm", to=None), WrongShape),
    "another hash": (changed(*LOG, "hashAlgorithm", to="SHA2_512"), UnsupportedTrustedRoot),
    "a log without an id": (changed(*LOG, "logId", to=None), WrongShape),
    "a short id of a log": (changed(*LOG, "logId", "keyId", to=b64(b"a" * 31)), WrongShape),
    "a long id of a checkpoint's key": (changed(*LOG, to=lambda log: log | {"checkpointKeyId": {"keyId": b64(b"abcde")}}), WrongShape),
    "a log without a key": (changed(*LOG, "publicKey", to=None), WrongShape),
    "base64 that is not canonical": (changed(*LOG, "logId", "keyId", to=lambda text: text.rstrip("=")), MalformedBase64),
    "a log twice": (changed("tlogs", to=twice), MalformedTrustedRoot),
    "a certificate log twice": (changed("ctlogs", to=twice), MalformedTrustedRoot),
    "a log under two ids": (changed("tlogs", to=under_another_id), MalformedTrustedRoot),
    "no chain": (changed(*CA, "certChain", to=None), WrongShape),
    "an empty chain": (changed(*CHAIN, to=[]), WrongShape),
    "a chain upside down": (changed(*CHAIN, to=upside_down), MalformedTrustedRoot),
    "a forged intermediate": (changed(*CHAIN, 0, "rawBytes", to=forged), MalformedTrustedRoot),
    "a timestamp chain upside down": (changed(*TSA, "certChain", "certificates", to=upside_down), MalformedTrustedRoot),
    "a forged timestamp certificate": (changed(*TSA, "certChain", "certificates", 0, "rawBytes", to=forged), MalformedTrustedRoot),
    "no certificate": (changed(*CHAIN, 0, "rawBytes", to=b64(b"hello")), MalformedTrustedRoot),
    "an authority with an Ed25519 key": (
        changed(*CHAIN, to=self_signed(ed25519.Ed25519PrivateKey.generate())),
        UnsupportedTrustedRoot,
    ),
    "a serial number that is not positive": (changed(*CHAIN, 1, "rawBytes", to=renumbered), MalformedTrustedRoot),
    "a timestamp authority under two names": (changed("timestampAuthorities", to=under_another_name), MalformedTrustedRoot),
    "too many logs": (changed("tlogs", to=lambda logs: logs[:1] * (limits.TRUSTED_ITEMS + 1)), TooMany),
    "too many certificates": (changed(*CHAIN, to=lambda chain: chain[:1] * (limits.CERTIFICATES + 1)), TooMany),
    "too large": (RAW + b" " * limits.DEFAULT.bundle_bytes, TooLarge),
    "a member twice": (RAW.replace(b'"tlogs"', b'"ctlogs"', 1), MalformedJson),
    "a list": ([], WrongShape),
}


def test_a_log_has_one_key_under_two_ids_only_if_both_are_of_one_named_operator():
    logs = [{**log, "operator": "one.example"} for log in under_another_id(json.loads(RAW)["tlogs"][:1])]
    assert len(parsed(changed("tlogs", to=logs)).logs) == 2
    logs[1]["operator"] = "two.example"
    with pytest.raises(MalformedTrustedRoot):
        parsed(changed("tlogs", to=logs))


@pytest.mark.parametrize("operators", [("one.example",) * 2, ("", ""), ("one.example", "two.example"), ("", "one.example")])
@pytest.mark.parametrize("name", ["https://timestamp.sigstore.dev/api/v1/timestamp", "https://other.example"])
def test_one_timestamp_authority_is_there_twice_only_where_it_counts_once(operators, name):
    first, second = under_another_name(json.loads(RAW)["timestampAuthorities"])
    document = changed("timestampAuthorities", to=[first | {"operator": operators[0]}, second | {"operator": operators[1], "uri": name}])
    if operators[0] == operators[1] and (operators[0] or name == first["uri"]):
        assert len(parsed(document).timestamp_authorities) == 2
    else:
        with pytest.raises(MalformedTrustedRoot):
            parsed(document)


def test_an_authority_with_an_Ed25519_key_is_refused_with_what_is_expected():
    with pytest.raises(UnsupportedTrustedRoot) as caught:
        parsed(changed(*CHAIN, to=self_signed(ed25519.Ed25519PrivateKey.generate())))
    assert (caught.value.expected, caught.value.got) == ("ECDSA or RSA", "ed25519")


@pytest.mark.parametrize(("document", "error"), [pytest.param(*row, id=name) for name, row in REFUSED.items()])
def test_a_root_that_could_mean_something_else_is_refused_with_the_place(document, error):
    with pytest.raises(error) as caught:
        parsed(document)
    assert type(caught.value) is error
    assert caught.value.kind in {Kind.ROOT, Kind.PARSE, Kind.LIMIT}
    assert caught.value.place.source == HERE.source


def every_place(document: Any) -> Iterator[tuple[Any, Any]]:
    """Give each place in a document that something stands in: what holds it, and by which name or number."""
    inside = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for name, value in list(inside):
        yield document, name
        yield from every_place(value)


@pytest.mark.parametrize("value", [[], {}, True, 1.5, -1, "", None, [[]]], ids=repr)
def test_whatever_stands_anywhere_in_a_root_it_is_read_or_refused_by_name(value):
    document = json.loads(RAW)
    for holder, name in every_place(document):
        kept, holder[name] = holder[name], value
        try:
            parsed(document)
        except SigkitError:
            pass
        holder[name] = kept


def test_a_point_off_the_curve_is_refused_as_SIG():
    off = bytearray(P256)
    off[-1] ^= 1
    with pytest.raises(MalformedKey):
        parsed(with_log_key(bytes(off), None))


def test_a_certificate_that_did_not_issue_the_one_before_it_is_named_by_its_path():
    with pytest.raises(MalformedTrustedRoot) as caught:
        parsed(changed(*CHAIN, to=upside_down))
    assert caught.value.place.inside == "$.certificateAuthorities[1].certChain.certificates[1].rawBytes"


def test_a_member_that_is_missing_is_named_by_its_path():
    with pytest.raises(WrongShape) as caught:
        parsed(changed(*LOG, "publicKey", "validFor", "start", to=None))
    assert caught.value.expected == "$.tlogs[0].publicKey.validFor.start"


def test_an_authority_without_a_uri_is_called_by_its_anchor():
    root = parsed(changed(*CA, "uri", to=None))
    anchor = root.certificate_authorities[1].certificates[-1]
    assert isinstance(anchor, x509.Certificate)
    assert root.certificate_authorities[1].name == anchor.subject.rfc4514_string()


def test_a_window_holds_both_of_its_ends_and_nothing_beyond():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    held = [start - tick, start, start + DAY, end, end + tick]
    assert [Window(start, end).holds(when) for when in held] == [False, True, True, True, False]
    assert [Window(start, None).holds(when) for when in held] == [False, True, True, True, True]
    assert [Window(None, end).holds(when) for when in held] == [True, True, True, True, False]


def test_a_root_with_keys_is_the_keys_and_every_authority_keeps_its_own_origin():
    theirs = parsed(RAW, "theirs")
    keys = root_of_keys([TrustedKey("release", generate("ed25519").public)], "flags")
    both = with_keys(theirs, keys)
    assert (both.name, both.digest, both.keys) == ("flags", keys.digest, keys.keys)
    assert (both.logs, both.ct_logs) == (theirs.logs, theirs.ct_logs)
    assert both.certificate_authorities == theirs.certificate_authorities
    assert both.timestamp_authorities == theirs.timestamp_authorities
    assert both.logs[0].source == Origin("theirs", theirs.digest)


def test_a_root_of_this_host_is_called_by_its_file(tmp_path):
    file = tmp_path / "acme.json"
    file.write_bytes(RAW)
    assert load_trusted_root(str(file)).name == str(file)
    file.write_text("{}")
    with pytest.raises(WrongShape) as caught:
        load_trusted_root(str(file))
    assert caught.value.place.owner is Owner.OPERATOR
    with pytest.raises(FileUnreadable) as absent:
        load_trusted_root(str(tmp_path / "absent.json"))
    assert absent.value.place.owner is Owner.OPERATOR


def test_the_copy_that_comes_along_is_the_one_whose_age_is_told():
    # A new copy needs a new date: both change together, here and in sigkit/trust/bundled.py.
    copied = ("sha256:6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66", date(2026, 10, 20))
    assert (str(load_public_good().digest), COPIED) == copied
    assert age_days(COPIED + 40 * DAY) == 40


def test_a_timestamp_authority_whose_certificate_is_malformed_inside_is_refused_as_ROOT():
    sim = Simulator()
    sim.tsa.more = [(x509.UnrecognizedExtension(x509.BasicConstraints.oid, b"\1"), False)]
    sim.tsa.certify(sim.clock.now + DAY)
    with pytest.raises(MalformedTrustedRoot) as caught:
        parsed(sim.root())
    assert caught.value.place.inside == "$.timestampAuthorities[0].certChain.certificates[0].rawBytes"
