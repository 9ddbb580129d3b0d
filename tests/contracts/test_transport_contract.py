"""One suite over both hops: whichever sends a request, the rules and what comes back are the same."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from sigkit.errors import (
    AddressRefused,
    AnswerUnusable,
    EncodingRefused,
    NetError,
    PlainHttpRefused,
    RedirectRefused,
    TimedOut,
    TlsFailed,
    TooLarge,
    Unreachable,
)
from sigkit.net.address import Deadline, Nearness
from sigkit.net.hop import FilePart
from sigkit.net.session import Call, Lane, NetOptions, Redirects, Session
from sigkit.net.url import parse_url
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.tls_identity import TlsIdentity

BODY = b"0123456789" * 500


def _echo(seen):
    if seen.method in {"PUT", "POST", "PATCH"}:
        return Reply(201, (("Content-Type", "x/echo"),), seen.body)
    return Reply(200, (("Content-Type", "x/y"), ("X-Twice", "a"), ("x-twice", "b")), BODY)


@pytest.fixture(params=list(Lane), ids=lambda lane: lane.value)
def lane(request):
    return request.param


@pytest.fixture
def server():
    with MisbehavingServer(_echo) as running:
        yield running


@pytest.fixture
def waits():
    return []


@pytest.fixture
def session(waits):
    with Session(NetOptions(read_timeout_s=1.0), sleep=waits.append) as opened:
        yield opened


@pytest.fixture
def call(server, lane):
    def make(method="GET", target="/x", **rest):
        rest.setdefault("deadline", Deadline(5))
        return Call(method, parse_url(server.url + target), lane=lane, **rest)

    return make


def test_a_body_comes_back_byte_for_byte(session, call):
    with session.send(call()) as reply:
        assert (reply.status, reply.headers.find("CONTENT-TYPE"), reply.read_all(10_000)) == (200, "x/y", BODY)


def test_repeated_header_fields_are_all_there(session, call):
    with session.send(call()) as reply:
        assert reply.headers.all("X-Twice") == ("a", "b")


def test_an_empty_answer_ends_at_once(session, call, server):
    server.on("GET", "/x").answer(b"", status=204)
    with session.send(call()) as reply:
        assert (reply.status, reply.read_all(10)) == (204, b"")


def test_the_answer_to_head_has_no_body(session, call):
    with session.send(call("HEAD")) as reply:
        assert (reply.headers.find("content-length"), reply.read_all(10)) == (str(len(BODY)), b"")


@pytest.mark.parametrize("size", [0, 5, 1 << 18], ids=["empty", "small", "in-blocks"])
def test_a_body_of_bytes_is_sent_whole_with_its_length(session, call, server, size):
    with session.send(call("PUT", body=b"a" * size)) as reply:
        assert reply.read_all(1 << 20) == b"a" * size
    assert server.log[0].headers["content-length"] == str(size)
    assert "transfer-encoding" not in server.log[0].headers


def test_a_part_of_a_file_is_sent_with_its_length(session, call, server, tmp_path):
    (tmp_path / "blob").write_bytes(bytes(range(256)) * 1000)
    with session.send(call("PUT", body=FilePart(str(tmp_path / "blob"), 1000, 200_000))) as reply:
        assert reply.read_all(1 << 20) == (bytes(range(256)) * 1000)[1000:201_000]
    assert server.log[0].headers["content-length"] == "200000"


def test_nothing_is_sent_that_was_not_asked_for(session, call, server):
    with session.send(call(headers=(("Accept", "a/b"),))) as reply:
        reply.discard()
    assert set(server.log[0].headers) == {"host", "user-agent", "accept-encoding", "accept"}
    assert server.log[0].headers["accept-encoding"] == "identity"
    assert server.log[0].headers["host"] == server.address


def test_the_target_is_sent_as_it_is_spelled(session, call, server):
    target = "/a%2Fb/c;d=1?X-Amz-Signature=ab%2Bcd&e=~%7E"
    with session.send(call(target=target)) as reply:
        reply.discard()
    assert server.log[0].target == target


def test_netrc_proxies_and_cookies_are_not_used(session, call, server, own_home, monkeypatch):
    (own_home / ".netrc").write_text(f"machine {server.host} login u password p\n")
    (own_home / ".netrc").chmod(0o600)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server.on("GET", "/x").add(Set_Cookie="a=b; Path=/")
    for _ in range(2):
        with session.send(call()) as reply:
            assert reply.status == 200
            reply.discard()
    assert not any({"authorization", "cookie", "proxy-authorization"} & set(seen.headers) for seen in server.log)


def test_a_connection_is_used_again(session, call, server):
    for _ in range(5):
        with session.send(call()) as reply:
            reply.read_all(10_000)
    assert server.connections == 1


def test_an_answer_that_was_not_read_to_its_end_costs_its_connection(session, call, server):
    with session.send(call()) as reply:
        reply.read(10)
    with session.send(call()) as reply:
        assert reply.read_all(10_000) == BODY


def test_a_kept_connection_that_the_server_closed_is_replaced(session, call, server):
    server.on("GET", "/x", nth=2).close()
    for _ in range(3):
        with session.send(call()) as reply:
            assert reply.read_all(10_000) == BODY


def test_a_connection_that_was_closed_while_it_was_kept_is_replaced(session, call, server, lane, waits):
    server.on("GET", "/x", nth=1).say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    for body in (b"ok", BODY):
        with session.send(call()) as reply:
            assert reply.read_all(10_000) == body
    assert server.connections == 2
    assert waits == [] or lane is Lane.WARM  # urllib3 may learn of it too late


def test_several_threads_share_a_session(session, call):
    results = []

    def work():
        for _ in range(10):
            with session.send(call()) as reply:
                results.append(reply.read_all(10_000) == BODY)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 40


# --- limits and deadlines


def test_a_promised_size_beyond_the_limit_is_refused_before_reading(session, call, server):
    server.on("GET", "/x").add(Content_Length="99999999999")
    with session.send(call()) as reply, pytest.raises(TooLarge) as refused:
        reply.read_all(10_000)
    assert "promised" in refused.value.got


def test_a_body_without_length_is_cut_at_the_limit(session, call, server):
    server.on("GET", "/x").change = lambda _, __: Reply(200, (), BODY, framed=False)
    with session.send(call()) as reply, pytest.raises(TooLarge):
        reply.read_all(len(BODY) - 1)


@pytest.mark.parametrize("headers", [False, True], ids=["body", "headers"])
def test_an_answer_that_drips_ends_with_the_deadline(session, call, server, headers):
    server.on("GET", "/x").drip(bytes_per_s=50, headers=headers)
    with pytest.raises((TimedOut, Unreachable)), session.send(call(deadline=Deadline(0.3))) as reply:
        reply.read_all(10_000)


def test_silence_ends_with_the_read_timeout(lane, server):
    server.on("GET", "/x").drip(bytes_per_s=0.001, headers=True)
    with Session(NetOptions(read_timeout_s=0.1)) as session, pytest.raises(TimedOut):
        session.send(Call("GET", parse_url(server.url + "/x"), Deadline(20), lane=lane))


def test_a_body_that_is_cut_is_an_error_with_what_is_missing(session, call, server):
    server.on("GET", "/x").cut_after(100)
    with session.send(call()) as reply, pytest.raises(Unreachable):
        reply.read_all(10_000)


def test_a_chunked_body_that_is_cut_is_an_error(session, call, server):
    server.on("GET", "/x").say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nab")
    with session.send(call()) as reply, pytest.raises(Unreachable):
        reply.read_all(10_000)


@pytest.mark.parametrize(
    "raw",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000],
    ids=["nothing", "ssh", "no-status", "headers-without-end"],
)
def test_what_is_not_http_is_could_not_check(session, call, server, raw):
    server.on("GET", "/x").say(raw)
    with pytest.raises(Unreachable) as refused:
        session.send(call())
    assert refused.value.status() == 3


def test_two_lengths_are_refused(session, call, server):
    server.on("GET", "/x").say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg")
    with pytest.raises((AnswerUnusable, Unreachable)):
        session.send(call())


@pytest.mark.parametrize("field", ["Content-Encoding: gzip", "Content-Encoding: br", "Transfer-Encoding: gzip"])
def test_a_compressed_answer_is_refused_unread(session, call, server, field):
    server.on("GET", "/x").say(f"HTTP/1.1 200 OK\r\n{field}\r\nConnection: close\r\n\r\n".encode() + b"\x1f\x8b")
    with session.send(call()) as reply, pytest.raises(EncodingRefused):
        reply.read_all(10_000)


# --- retries


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(session, call, server, waits, status):
    server.on("GET", "/x", times=2).status(status)
    with session.send(call()) as reply:
        assert reply.status == 200
    assert len(waits) == 2


def test_the_wait_grows_and_the_attempts_are_bounded(session, call, server, waits):
    server.on("GET", "/x").status(503)
    with session.send(call()) as reply:
        assert reply.status == 503
    assert len(server.log) == 4
    assert all(2 * later > earlier for earlier, later in pairwise(waits))


def test_retry_after_is_obeyed(session, call, server, waits):
    server.on("GET", "/x", nth=1).status(429, retry_after=2)
    with session.send(call()) as reply:
        assert reply.status == 200
    assert waits == [2.0]


def test_retry_after_is_capped(session, call, server, waits):
    server.on("GET", "/x", nth=1).status(429, retry_after=100_000)
    with session.send(call(deadline=Deadline(60))) as reply:
        assert reply.status == 200
    assert waits == [20.0]


def test_a_wait_beyond_the_deadline_is_not_begun(session, call, server, waits):
    server.on("GET", "/x").status(429, retry_after=15)
    with session.send(call()) as reply:
        assert reply.status == 429
    assert waits == []


def test_a_broken_connection_is_tried_again(session, call, server, waits):
    server.on("GET", "/x", times=2).close()
    with session.send(call()) as reply:
        assert reply.status == 200


def test_a_post_whose_answer_is_lost_is_not_repeated(session, call, server):
    server.on("POST", "/x").close()
    with pytest.raises(Unreachable):
        session.send(call("POST", body=b"a"))
    assert len(server.log) == 1


def test_a_port_where_nobody_listens_is_could_not_check(session, lane, free_port):
    with pytest.raises(Unreachable) as refused:
        session.send(Call("GET", parse_url(f"http://127.0.0.1:{free_port}/"), Deadline(5), lane=lane))
    assert refused.value.status() == 3


# --- redirects


def test_a_redirect_is_followed_with_credentials_on_the_same_origin_only(session, call, server):
    with MisbehavingServer(_echo) as other:
        server.on("GET", "/x").redirect("/y")
        server.on("GET", "/y").redirect(f"{other.url}/z")
        other.on("GET", "/z").redirect(f"{server.url}/back")
        with session.send(call(redirects=Redirects.FOLLOW, authorization="Bearer t")) as reply:
            assert reply.read_all(10_000) == BODY
    assert [seen.headers.get("authorization") for seen in server.log] == ["Bearer t", "Bearer t", None]
    assert "authorization" not in other.log[0].headers


def test_redirects_are_bounded(session, call, server):
    server.on("GET", "*").redirect("/x")
    with pytest.raises(RedirectRefused):
        session.send(call(redirects=Redirects.FOLLOW))
    assert len(server.log) == 6


def test_a_redirect_is_refused_where_none_is_followed(session, call, server):
    server.on("GET", "/x").redirect("/y")
    with pytest.raises(RedirectRefused):
        session.send(call())
    assert len(server.log) == 1


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://u:p@127.0.0.1/", "//[::1", "http://127.0.0.1:99999/"])
def test_a_redirect_to_something_else_is_refused(session, call, server, target):
    server.on("GET", "/x").redirect(target)
    with pytest.raises(NetError):
        session.send(call(redirects=Redirects.FOLLOW))


# --- addresses and schemes


@pytest.fixture
def names(monkeypatch):
    """Make host names resolve to chosen addresses."""
    import socket

    known: dict[str, str] = {}
    real = socket.getaddrinfo

    def resolve(host, port, *args, **kwargs):
        address = known.get(host.decode())
        if address is None:
            return real(host, port, *args, **kwargs)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "0.0.0.1", "224.0.0.1", "::"]
)
def test_a_name_that_resolves_to_a_forbidden_address_is_refused_even_when_the_user_named_it(lane, names, address):
    names["registry.example"] = address
    options = NetOptions(plain_http_hosts=frozenset({"registry.example"}))
    with Session(options) as session, pytest.raises(AddressRefused):
        session.send(Call("GET", parse_url("http://registry.example/"), Deadline(5), lane=lane))


def test_a_private_name_that_the_user_gave_is_connected_to(lane, names, server):
    names["registry.example"] = "127.0.0.1"
    options = NetOptions(plain_http_hosts=frozenset({f"registry.example:{server.port}"}))
    with Session(options) as session:
        call = Call("GET", parse_url(f"http://registry.example:{server.port}/"), Deadline(5), lane=lane)
        with session.send(call) as reply:
            assert (reply.status, reply.nearness) == (200, Nearness.LOOPBACK)


def test_a_near_address_is_refused_for_a_host_that_a_public_server_named(session, call, server):
    with pytest.raises(AddressRefused):
        session.send(call(named_by=Nearness.PUBLIC))
    assert server.log == []


def test_a_kept_connection_does_not_lend_its_permission(session, call, server):
    with session.send(call()) as reply:
        reply.discard()
    with pytest.raises(AddressRefused):
        session.send(call(named_by=Nearness.PRIVATE))
    assert len(server.log) == 1


def test_plain_http_to_another_machine_is_refused_before_a_name_is_resolved(session, lane, names):
    names["registry.example"] = "127.0.0.1"
    with pytest.raises(PlainHttpRefused):
        session.send(Call("GET", parse_url("http://registry.example/"), Deadline(5), lane=lane))


def test_plain_http_to_a_loopback_name_stays_on_loopback(session, lane, names):
    names["evil.localhost"] = "192.0.2.1"
    with pytest.raises(AddressRefused):
        session.send(Call("GET", parse_url("http://evil.localhost/"), Deadline(5), lane=lane))


# --- TLS


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return TlsIdentity.make(tmp_path_factory.mktemp("tls"), "localhost")


def test_tls_with_a_private_authority_works(lane, identity):
    with MisbehavingServer(_echo, tls=identity.server_context()) as server, Session(NetOptions(ca_file=identity.ca_file)) as session:
        for _ in range(2):
            call = Call("GET", parse_url(f"https://localhost:{server.port}/x"), Deadline(5), lane=lane)
            with session.send(call) as reply:
                assert reply.read_all(10_000) == BODY
        assert server.connections == 1


@pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)], ids=["unknown-authority", "other-name"])
def test_a_certificate_that_does_not_prove_the_name_is_refused(lane, identity, host, trusted):
    options = NetOptions(ca_file=identity.ca_file if trusted else None)
    with MisbehavingServer(_echo, tls=identity.server_context()) as server, Session(options) as session:
        with pytest.raises(TlsFailed):
            session.send(Call("GET", parse_url(f"https://{host}:{server.port}/x"), Deadline(5), lane=lane))
        assert server.log == []


def test_a_tls_answer_that_drips_ends_with_the_deadline(lane, identity):
    with MisbehavingServer(_echo, tls=identity.server_context()) as server, Session(NetOptions(ca_file=identity.ca_file)) as session:
        server.on("GET", "/x").drip(bytes_per_s=50, headers=True)
        with pytest.raises(TimedOut):
            session.send(Call("GET", parse_url(f"https://localhost:{server.port}/x"), Deadline(0.4), lane=lane))
