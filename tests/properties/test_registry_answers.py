"""Whatever a registry says, it is understood or refused: no other exception, and nothing that is read two ways."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import string
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import NOWHERE, SigkitError, UrlRefused
from sigkit.net.address import nearness_of
from sigkit.net.url import parse_url
from sigkit.oci.auth import Answer, AskToken, Realms, authenticate, parse_challenges, parse_token
from sigkit.oci.credentials import UserPassword
from sigkit.oci.exchange import parse_error

tokens = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=12)
quotable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
urlish = st.text(string.ascii_letters + string.digits + ":/?#[]@!$&'()*+,;=-._~%\\ \n\t", max_size=60)


@given(st.one_of(st.text(max_size=60), urlish, urlish.map("https://{}".format), urlish.map("http://r.example{}".format)))
def test_a_url_is_refused_or_split_as_the_standard_library_splits_it(text):
    try:
        url = parse_url(text)
    except UrlRefused:
        return
    other = urlsplit(text)
    assert (url.origin.scheme, url.origin.host) == (other.scheme, other.hostname)
    assert url.origin.port == (other.port or {"http": 80, "https": 443}[other.scheme])
    assert other.username is None
    assert parse_url(str(url)) == url


@given(urlish)
def test_what_an_answer_points_to_stays_on_the_own_host_or_is_refused(reference):
    base = parse_url("https://registry.example/v2/a")
    with contextlib.suppress(SigkitError):
        assert base.join_own(reference, "x").origin == base.origin


@given(st.text(max_size=200))
def test_no_header_breaks_the_parser_of_challenges(header):
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()


@given(st.lists(st.tuples(tokens, st.lists(st.tuples(tokens, quotable), max_size=4)), max_size=3))
def test_well_formed_challenges_are_read_as_written(challenges):
    def quote(value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    # A scheme or name starts with a letter here: RFC 7235 lets digits start them, no registry does.
    named = [("s" + scheme, [("n" + name, value) for name, value in pairs]) for scheme, pairs in challenges]
    header = ", ".join(f"{scheme} " + ", ".join(f"{name}={quote(value)}" for name, value in pairs) for scheme, pairs in named)
    assert [(challenge.scheme, challenge.parameters) for challenge in parse_challenges(header)] == [
        (scheme.lower(), tuple((name.lower(), value) for name, value in pairs)) for scheme, pairs in named
    ]


@given(
    st.one_of(
        st.binary(max_size=80),
        st.dictionaries(st.sampled_from(["token", "access_token", "expires_in"]), st.one_of(st.text(), st.integers(), st.none())),
    )
)
def test_a_token_is_refused_or_safe_in_a_header(answer):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    with contextlib.suppress(SigkitError):
        token = parse_token(body, NOWHERE)
        assert token.authorization.isascii()
        assert token.authorization.isprintable()
        assert 0 <= token.life_s <= 3600


@given(st.binary(max_size=200))
def test_an_error_answer_of_any_kind_is_only_shown(raw):
    parse_error(raw)


@given(st.lists(st.tuples(st.integers(200, 599), st.text(max_size=60), st.binary(max_size=40)), max_size=8), urlish)
def test_no_sequence_of_answers_makes_the_client_ask_a_token_server_elsewhere(answers, realm):
    realms = Realms("registry.example", parse_url("https://registry.example/v2/"), frozenset())
    flow = authenticate(realms, lambda: UserPassword("user", "secret"), None, "repository:t/app:pull")
    step = next(flow)
    with contextlib.suppress(SigkitError, StopIteration):
        for status, header, body in answers:
            if isinstance(step, AskToken):
                assert (step.url.origin.scheme, step.url.origin.host) == ("https", "registry.example")
            step = flow.send(Answer(status, (header, f'Bearer realm="{realm}"', f'Bearer realm="https://registry.example{realm}"'), body))


@given(st.ip_addresses())
def test_what_the_standard_library_calls_global_is_all_that_counts_as_public(address):
    if nearness_of(str(address)) == 0 and isinstance(address, ipaddress.IPv4Address):
        assert address.is_global or address in ipaddress.ip_network("192.88.99.0/24")
