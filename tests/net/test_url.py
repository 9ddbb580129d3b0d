"""URLs, read strictly."""

from __future__ import annotations

import pytest

from sigkit.errors import OtherHostRefused, UrlRefused
from sigkit.net.url import parse_url


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("https://registry.example", "https://registry.example", "/"),
        ("HTTPS://Registry.Example:443/v2/", "https://registry.example", "/v2/"),
        ("http://127.0.0.1:5000/v2/?a=b", "http://127.0.0.1:5000", "/v2/?a=b"),
        ("http://[::1]:5000/", "http://[::1]:5000", "/"),
        ("https://registry.example?n=1", "https://registry.example", "/?n=1"),
    ],
)
def test_a_url_is_split(text, origin, target):
    url = parse_url(text)
    assert (str(url.origin), url.target) == (origin, target)


@pytest.mark.parametrize(
    "text",
    [
        "registry.example/v2/",
        "ftp://registry.example/",
        "https:///v2/",
        "https://user@registry.example/",
        "https://user:pass@registry.example/",
        "https://registry.example:x@evil.example/",
        "https://registry.example\\@evil.example/",
        "https://registry.example/\n",
        "https://registry.example/a b",
        "https://registry.example/#f",
        "https://registry.example:0/",
        "https://registry.example:65536/",
        "https://[fe80::1%25eth0]/",
        "https://régistry.example/",
        "https://-registry.example/",
        "http\u017f://registry.example/",
        "https://regi\u017ftry.example/",
        "https://registry.example/" + "a" * 9000,
    ],
)
def test_what_could_be_split_otherwise_is_refused(text):
    with pytest.raises(UrlRefused):
        parse_url(text)


def test_a_secret_in_a_url_is_not_repeated():
    with pytest.raises(UrlRefused) as refused:
        parse_url("https://user:hunter2@registry.example/")
    assert "hunter2" not in str(refused.value)


def test_a_query_is_not_shown():
    assert parse_url("https://store.example/x?X-Amz-Signature=abc").shown == "https://store.example/x?…"


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("/v2/x?n=3", "https://registry.example/v2/x?n=3"),
        ("y", "https://registry.example/v2/y"),
        ("?last=z", "https://registry.example/v2/a?last=z"),
        ("https://registry.example:443/z", "https://registry.example/z"),
    ],
)
def test_a_relative_url_is_joined(reference, meant):
    assert str(parse_url("https://registry.example/v2/a").join_own(reference, "x")) == meant


@pytest.mark.parametrize(
    "reference", ["https://evil.example/v2/", "//evil.example/v2/", "http://registry.example/v2/", "https://registry.example:444/v2/"]
)
def test_another_host_scheme_or_port_is_refused(reference):
    with pytest.raises(OtherHostRefused):
        parse_url("https://registry.example/v2/a").join_own(reference, "the next page")
