"""Trusted roots: what is read of them, and what is refused before anything is trusted."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.errors import FileUnreadable, MalformedTrustedRoot, Owner, SigkitError, UnsupportedTrustedRoot, WrongShape
from sigkit.errors import Place as At
from sigkit.trust import bundled
from sigkit.trust.files import load_trusted_root
from sigkit.trust.root import Window
from sigkit.trust.trusted_root import parse_trusted_root

PLACE = At("root.json")
RAW = (Path(bundled.__file__).parent / "public_good.json").read_bytes()


def parse(document):
    return parse_trusted_root(json.dumps(document).encode(), "test", PLACE, limits.DEFAULT)


@pytest.fixture
def document():
    return json.loads(RAW)


def test_the_copy_of_the_public_good_root_is_read_whole():
    root = bundled.load_public_good()
    assert [log.origin for log in root.logs] == ["rekor.sigstore.dev", "log2025-1.rekor.sigstore.dev"]
    assert [len(authority.certificates) for authority in root.certificate_authorities] == [1, 2]
    assert len(root.ct_logs) == 2
    assert len(root.timestamp_authorities) == 1
    assert root.logs[0].log_id == root.logs[0].key.fingerprint.value
    assert {log.source.name for log in root.logs} == {"public-good"}


def test_the_age_of_the_copy_is_known():
    assert bundled.age_days(bundled.COPIED + timedelta(days=40)) == 40
    assert date(2027, 1, 1) > bundled.COPIED


def test_a_file_is_named_in_facts_by_its_base_name(tmp_path):
    (tmp_path / "acme.json").write_bytes(RAW)
    root = load_trusted_root(str(tmp_path / "acme.json"))
    assert (root.name, root.digest) == ("acme.json", bundled.load_public_good().digest)


def test_an_absent_file_is_the_operators_error(tmp_path):
    with pytest.raises(FileUnreadable) as caught:
        load_trusted_root(str(tmp_path / "absent.json"))
    assert caught.value.place.owner is Owner.OPERATOR


def set_at(document, path, value):
    *way, last = path
    for step in way:
        document = document[step]
    if value is None:
        del document[last]
    else:
        document[last] = value


LOG_VALID = ("tlogs", 0, "publicKey", "validFor")
CERTIFICATES = ("certificateAuthorities", 1, "certChain", "certificates")


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        pytest.param(("mediaType",), "application/vnd.dev.sigstore.trustedroot.v0.2+json", UnsupportedTrustedRoot, id="another version"),
        pytest.param(("new",), 1, WrongShape, id="an unknown member"),
        pytest.param(("tlogs", 0, "new"), 1, WrongShape, id="an unknown member of a log"),
        pytest.param(("tlogs", 0, "hashAlgorithm"), "SHA2_512", UnsupportedTrustedRoot, id="another hash"),
        pytest.param(("tlogs", 0, "publicKey", "validFor", "start"), None, WrongShape, id="a log without a start"),
        pytest.param(("tlogs", 0, "publicKey", "validFor"), None, WrongShape, id="a log without a validity"),
        pytest.param(
            ("tlogs", 0, "publicKey", "validFor", "end"), "2020-01-01T00:00:00Z", MalformedTrustedRoot, id="an end before the start"
        ),
        pytest.param(("tlogs", 0, "publicKey", "validFor", "start"), "2021-01-12T11:53:27+01:00", WrongShape, id="another time zone"),
        pytest.param(("tlogs", 0, "publicKey", "validFor", "start"), "2021-13-12T11:53:27Z", WrongShape, id="a month that does not exist"),
        pytest.param(("tlogs", 0, "logId", "keyId"), "AAAA", WrongShape, id="a short id"),
        pytest.param(("certificateAuthorities", 0, "validFor"), None, WrongShape, id="an authority without a validity"),
        pytest.param((*CERTIFICATES,), [], WrongShape, id="a chain without a certificate"),
        pytest.param((*CERTIFICATES, 0, "rawBytes"), "MAA=", MalformedTrustedRoot, id="no certificate"),
    ],
)
def test_what_is_unknown_missing_or_malformed_is_refused(document, path, value, error):
    set_at(document, path, value)
    with pytest.raises(error):
        parse(document)


def test_a_certificate_that_the_next_did_not_issue_is_refused(document):
    document["certificateAuthorities"][1]["certChain"]["certificates"].reverse()
    with pytest.raises(MalformedTrustedRoot) as caught:
        parse(document)
    assert caught.value.place.inside == "$.certificateAuthorities[1].certChain.certificates[1].rawBytes"


def test_a_log_that_is_there_twice_is_refused(document):
    document["tlogs"].append(document["tlogs"][0])
    with pytest.raises(MalformedTrustedRoot):
        parse(document)


def test_a_point_off_the_curve_is_refused(document):
    raw = document["tlogs"][0]["publicKey"]["rawBytes"]
    document["tlogs"][0]["publicKey"]["rawBytes"] = raw[:-8] + "AAAAAA=="
    with pytest.raises(SigkitError):
        parse(document)


def test_a_window_holds_both_of_its_ends_and_nothing_beyond():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    window = Window(start, end)
    assert window.holds(start)
    assert window.holds(end)
    assert not window.holds(start - timedelta(microseconds=1))
    assert not window.holds(end + timedelta(microseconds=1))
    assert Window(start, None).holds(end + timedelta(days=40_000))
