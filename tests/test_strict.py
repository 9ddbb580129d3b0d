"""strict: what two readers could see differently is refused, with its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit import limits, strict
from sigkit.errors import Kind, Place, SigkitError, TooMany

FILE = Place("file.json")


def refused(raw: bytes) -> SigkitError:
    with pytest.raises(SigkitError) as caught:
        strict.parse_json(raw, most_bytes=1_000_000, place=FILE)
    assert caught.value.place.source == "file.json"
    return caught.value


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        pytest.param(b'{"a":1,"a":1}', Kind.PARSE, id="duplicate member"),
        pytest.param(b'{"x":{"a":1,"\\u0061":2}}', Kind.PARSE, id="duplicate member by escape"),
        pytest.param(b"[NaN]", Kind.PARSE, id="NaN"),
        pytest.param(b"[-Infinity]", Kind.PARSE, id="infinity"),
        pytest.param(b"[1e400]", Kind.PARSE, id="float that overflows"),
        pytest.param(b"[-0]", Kind.PARSE, id="negative zero"),
        pytest.param(b"9" * 5000, Kind.PARSE, id="endless integer"),
        pytest.param(b"9223372036854775808", Kind.PARSE, id="beyond int64"),
        pytest.param(b"\xef\xbb\xbf{}", Kind.PARSE, id="byte-order mark"),
        pytest.param("{}".encode("utf-16"), Kind.PARSE, id="UTF-16"),
        pytest.param(b'"\xff"', Kind.PARSE, id="not UTF-8"),
        pytest.param(b'["\\ud800"]', Kind.PARSE, id="lone surrogate"),
        pytest.param(b'["\\u2014 \\uDFFF"]', Kind.PARSE, id="lone surrogate in upper case, after another escape"),
        pytest.param(b'[{"\\udC00": 1}]', Kind.PARSE, id="lone surrogate in a member's name"),
        pytest.param(b"{} {}", Kind.PARSE, id="trailing data"),
        pytest.param(b"", Kind.PARSE, id="nothing"),
        pytest.param(b"[" * 100_000, Kind.LIMIT, id="deep"),
        pytest.param(b"[" * 65 + b"]" * 65, Kind.LIMIT, id="one too deep"),
        pytest.param(b'"' + b"a" * 1_000_000 + b'"', Kind.LIMIT, id="too large"),
    ],
)
def test_ambiguous_or_oversized_json_is_refused(raw, kind):
    assert refused(raw).kind is kind


def test_depth_counts_nesting_and_not_brackets_in_strings():
    raw = json.dumps(["[" * 200, '\\"[{'] + [[]] * 200).encode()
    assert strict.parse_json(raw, most_bytes=10_000).items(300)[0].text() == "[" * 200


def test_a_wrong_member_is_named_by_its_path():
    cursor = strict.parse_json(b'{"layers":[{"size":"1"}]}', most_bytes=100, place=FILE)
    with pytest.raises(SigkitError) as caught:
        cursor.member("layers").items(5)[0].member("size").integer()
    assert str(caught.value.place) == "file.json: $.layers[0].size"


def test_an_unknown_member_is_refused_by_name():
    with pytest.raises(SigkitError, match="colour"):
        strict.parse_json(b'{"a":1,"colour":2}', most_bytes=100).only(("a",))


def test_a_boolean_is_no_integer():
    with pytest.raises(SigkitError):
        strict.parse_json(b"true", most_bytes=100).integer()


def test_more_elements_than_allowed_are_refused_as_LIMIT():
    with pytest.raises(SigkitError) as caught:
        strict.parse_json(b"[1,2,3]", most_bytes=100).items(2)
    assert caught.value.kind is Kind.LIMIT


@pytest.mark.parametrize("text", ["YQ", "YQ=", "YR==", "Y Q==", "YQ==\n", "YQ==YQ==", "-_-_", "Y\u0661Q=", "====", "!!!!"])
def test_loose_base64_is_refused(text):
    with pytest.raises(SigkitError) as caught:
        strict.decode_base64(text)
    assert caught.value.kind is Kind.PARSE


@given(st.binary(max_size=200))
def test_base64_round_trips(raw):
    assert strict.decode_base64(strict.encode_base64(raw)) == raw


@given(st.text(max_size=40))
def test_only_one_text_decodes_to_the_same_bytes(text):
    try:
        raw = strict.decode_base64(text)
    except SigkitError:
        return
    assert strict.encode_base64(raw) == text


@given(st.binary(max_size=60))
def test_nothing_but_refusals_leaves_the_parser(raw):
    try:
        strict.parse_json(raw, most_bytes=50)
    except SigkitError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_round_trips(value):
    assert strict.parse_json(strict.encode_json(value), most_bytes=100_000).value == value


def test_a_refusal_is_short_however_long_the_name_that_it_is_about():
    raw = json.dumps({"x" * 100_000: 1}).encode()
    with pytest.raises(SigkitError) as caught:
        strict.parse_json(raw, most_bytes=200_000).texts(10)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("unit", [b"{}", b"[]", b"1.5", b'{"":[]}'])
def test_more_values_than_a_document_has_are_refused_before_any_is_made(unit):
    raw = b"[" + b",".join([unit] * (limits.JSON_VALUES + 1)) + b"]"
    with pytest.raises(TooMany):
        strict.parse_json(raw, most_bytes=len(raw))


def test_as_many_values_as_are_allowed_are_read():
    raw = b"[" + b",".join([b"1"] * limits.JSON_VALUES) + b"]"
    assert strict.parse_json(raw, most_bytes=len(raw)).value == [1] * limits.JSON_VALUES
