"""A TUF mirror over HTTP: what it has, what it says that it has not, and everything else, which is neither."""

from __future__ import annotations

import pytest

from sigkit.errors import Place, ServerFailed, TimedOut, TooLarge, Unreachable, UrlRefused
from sigkit.net.session import Session
from sigkit.trust.mirror import NetMirror
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply

FILES = {"/timestamp.json": b"{}", "/targets/a": b"a", "/elsewhere": b"moved"}


@pytest.fixture
def server():
    with MisbehavingServer(lambda seen: Reply(body=FILES[seen.path]) if seen.path in FILES else Reply(404)) as running:
        yield running


@pytest.fixture
def mirror(server):
    with Session(sleep=lambda _: None) as session:
        yield NetMirror(session, server.url + "/", Place("url"))


def test_a_file_is_what_it_has(mirror):
    assert mirror.fetch_metadata("timestamp.json", 2) == b"{}"
    assert mirror.fetch_target("a", 1) == b"a"


@pytest.mark.parametrize("status", [403, 404])
def test_what_it_says_that_it_has_not_is_none(mirror, server, status):
    server.on("GET", "/2.root.json").status(status)
    assert mirror.fetch_metadata("2.root.json", 10) is None


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 410, 429, 500, 503])
def test_any_other_answer_is_neither(mirror, server, status):
    server.on("GET", "/2.root.json").status(status)
    with pytest.raises(ServerFailed):
        mirror.fetch_metadata("2.root.json", 10)


def test_more_than_the_limit_is_not_read(mirror):
    with pytest.raises(TooLarge):
        mirror.fetch_metadata("timestamp.json", 1)


def test_a_redirect_is_followed(mirror, server):
    server.on("GET", "/timestamp.json").redirect(server.url + "/elsewhere")
    assert mirror.fetch_metadata("timestamp.json", 10) == b"moved"


def test_a_transfer_that_is_cut_is_no_file(mirror, server):
    server.on("GET", "/timestamp.json").cut_after(1)
    with pytest.raises(Unreachable):
        mirror.fetch_metadata("timestamp.json", 10)


def test_one_deadline_counts_for_all(server):
    server.on("GET", "/timestamp.json").drip(1)
    with Session(sleep=lambda _: None) as session:
        mirror = NetMirror(session, server.url, Place("url"), within_s=0.2)
        with pytest.raises(TimedOut):
            mirror.fetch_metadata("timestamp.json", 10)
        with pytest.raises(TimedOut):
            mirror.fetch_target("a", 10)


@pytest.mark.parametrize("path", ["a b", "a\nb", "a#b", "ä"])
def test_a_targets_path_that_is_none_of_a_url_is_not_asked_for(mirror, server, path):
    with pytest.raises(UrlRefused):
        mirror.fetch_target(path, 10)
    assert not server.log


@pytest.mark.parametrize("url", ["", "ftp://m.example", "https://user@m.example", "m.example"])
def test_what_is_no_url_is_no_mirror(url):
    with Session() as session, pytest.raises(UrlRefused):
        NetMirror(session, url, Place.operator("--mirror"))
