"""DSSE envelopes."""

from __future__ import annotations

import pytest

from sigkit import strict
from sigkit.errors import NOWHERE, MalformedBase64, WrongShape
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope, parse_envelope, pre_authentication_encoding


def cursor(value):
    return strict.Cursor(value, "$", NOWHERE)


GOOD = {"payload": "aGVsbG8=", "payloadType": IN_TOTO_TYPE, "signatures": [{"sig": "c2ln"}]}


def test_what_is_signed_is_the_published_vector():
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == expected


def test_lengths_count_bytes_and_not_characters():
    assert pre_authentication_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_an_envelope_reads_back_as_written():
    envelope = Envelope(b"payload", IN_TOTO_TYPE, b"\x00sig")
    assert parse_envelope(cursor(envelope.encode())) == envelope
    assert "keyid" not in str(envelope.encode())


def test_a_key_id_is_allowed_and_says_nothing():
    assert parse_envelope(cursor({**GOOD, "signatures": [{"sig": "c2ln", "keyid": "anything"}]})) == parse_envelope(cursor(GOOD))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        pytest.param({"signatures": []}, "$.signatures", id="no signature"),
        pytest.param({"signatures": [{"sig": "c2ln"}, {"sig": "c2ln"}]}, "$.signatures", id="two signatures, even equal ones"),
        pytest.param({"signatures": {"sig": "c2ln"}}, "$.signatures", id="no array"),
        pytest.param({"signatures": [{"sig": "c2ln", "cert": ""}]}, "$.signatures[0]", id="unknown member in a signature"),
        pytest.param({"signatures": [{"sig": 7}]}, "$.signatures[0].sig", id="no string"),
        pytest.param({"signatures": [{"sig": "c2ln", "keyid": 7}]}, "$.signatures[0].keyid", id="key id no string"),
        pytest.param({"payloadType": "application/json"}, "$.payloadType", id="another payload type"),
        pytest.param({"payload": None}, "$", id="no payload"),
        pytest.param({"extra": 1}, "$", id="unknown member"),
    ],
)
def test_another_shape_is_refused_as_PARSE_with_its_path(change, place):
    with pytest.raises(WrongShape) as caught:
        parse_envelope(cursor({**GOOD, **change}))
    assert caught.value.place.inside == place


@pytest.mark.parametrize("text", ["aGVsbG8", "aGVs\nbG8=", "-_==", "aGVsbG9=", "INVALID!!!"])
def test_lenient_base64_is_refused_as_PARSE(text):
    with pytest.raises(MalformedBase64):
        parse_envelope(cursor({**GOOD, "payload": text}))
    with pytest.raises(MalformedBase64):
        parse_envelope(cursor({**GOOD, "signatures": [{"sig": text}]}))
