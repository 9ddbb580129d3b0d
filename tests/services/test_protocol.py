"""What a connection costs before any core sees it is bounded."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from sigkit import limits
from sigkit.digest import Digest
from sigkit.services.accepting import TlsServer
from sigkit.services.protocol import BoundedProtocol
from sigkit.services.serve import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@pytest.fixture
def address(tmp_path):
    with running_registry(tmp_path / "registry") as running:
        yield running


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def answer(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    said = b""
    try:
        while part := connection.recv(65_536):
            said += part
    except ConnectionResetError:
        pass  # what was still being sent is thrown away
    return said


def is_cut_off(connection: socket.socket, pieces: Iterable[bytes]) -> bool:
    """Send until the server closes the connection; what the kernel still takes for it is far less than all pieces."""
    try:
        for piece in pieces:
            connection.sendall(piece)
    except OSError:
        return True
    return False


@pytest.mark.attack("heads without end")
@pytest.mark.parametrize(
    "begin", [b"GET /v2/", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Pad: ", b"GET /v2/ HTTP/1.1\r\nX"], ids=["url", "value", "name"]
)
def test_a_head_without_end_is_cut_off(address, begin):
    with connect(address) as connection:
        assert is_cut_off(connection, itertools.chain([begin], itertools.repeat(b"a" * 65_536, 1_000)))


@pytest.mark.attack("heads without end")
def test_many_small_headers_count_together(address):
    with connect(address) as connection:
        headers = (f"X-{number}: {number:01000}\r\n".encode() for number in range(64_000))
        assert is_cut_off(connection, itertools.chain([b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"], headers))


@pytest.mark.attack("heads of thousands of headers")
def test_a_head_of_short_headers_is_bounded_by_their_number(address):
    for number, status in ((limits.HTTP_HEADERS, b"200"), (limits.HTTP_HEADERS + 1, b"431")):
        with connect(address) as connection:
            connection.sendall(b"GET /v2/ HTTP/1.1\r\nConnection: close\r\n" + b"a:\r\n" * (number - 1) + b"\r\n")
            assert answer(connection)[9:12] == status


@pytest.mark.attack("requests behind an unread answer")
def test_of_requests_that_come_at_once_a_few_are_answered_and_the_last_of_them_says_that_it_is_the_last(address):
    with connect(address) as connection:
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2_000)
        heads = answer(connection).split(b"HTTP/1.1 ")[1:]
    assert [head[:3] for head in heads] == [b"200"] * (1 + limits.HTTP_QUEUED)
    assert [b"connection: close\r\n" in head.lower() for head in heads] == [False] * limits.HTTP_QUEUED + [True]


def test_requests_that_come_a_few_at_a_time_are_answered_without_end(address):
    with connect(address) as connection:
        for _ in range(20):
            connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n" * (1 + limits.HTTP_QUEUED))
            said = b""
            while said.count(b"\r\n\r\n{}") < 1 + limits.HTTP_QUEUED:
                said += connection.recv(65_536)


def test_a_head_that_fits_is_answered_also_after_a_large_body(address):
    connection = http.client.HTTPConnection(address, timeout=20)
    for _ in range(2):
        connection.request("POST", "/v2/a/b/blobs/uploads/", b"x" * (4 * limits.HTTP_HEAD_BYTES), {"X-Pad": "a" * 30_000})
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (202, b"")
    connection.close()


@pytest.mark.attack("heads without end")
def test_a_head_that_does_not_come_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.2)
    with running_registry(tmp_path / "registry") as address:
        for begin in (b"", b"GET /v2/ HTTP/1.1\r\nHost: x\r\n"):
            with connect(address) as connection:
                connection.sendall(begin)
                assert answer(connection).startswith(b"HTTP/1.1 408 ")


@pytest.mark.attack("heads without end")
def test_for_a_connection_too_many_the_one_gives_way_that_has_not_asked_for_longest(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 3)
    asked = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with running_registry(tmp_path / "registry") as address, contextlib.ExitStack() as held:
        regular, silent, begun = (held.enter_context(connect(address)) for _ in range(3))
        begun.sendall(b"GET /v2/ HTTP/1.1\r\n")
        regular.sendall(asked)
        assert regular.recv(12) == b"HTTP/1.1 200"
        for other in (silent, begun):
            newest = held.enter_context(connect(address))
            newest.sendall(asked)
            assert newest.recv(12) == b"HTTP/1.1 200"
            assert answer(other) == b""
        with connect(address) as beyond:
            assert answer(beyond).startswith(b"HTTP/1.1 503 ")
        regular.sendall(asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b"HTTP/1.1 200" in answer(regular)


@pytest.mark.attack("heads without end")
def test_who_has_asked_gives_way_to_nobody_and_the_next_is_told_to_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 3)
    head = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
    head += b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    with running_registry(tmp_path / "registry") as address, contextlib.ExitStack() as held:
        busy = [held.enter_context(connect(address)) for _ in range(3)]
        for connection in busy:
            connection.sendall(head)
            assert connection.recv(12) == b"HTTP/1.1 100"
        with connect(address) as beyond:
            assert answer(beyond).startswith(b"HTTP/1.1 503 ")
        for connection in busy:
            connection.sendall(b"x")
            assert b"HTTP/1.1 202 " in answer(connection)


BEGUN = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.attack("trailers without end")
@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"0\r\n", b"X-A: " + b"a" * 1_000 + b"\r\n"),
        (b"0\r\nX-A: ", b"a" * 1_000),
        (b"5;", b"a" * 1_000),
        (b"5\r\nhello\r\n0;", b"a" * 1_000),
    ],
    ids=["many trailers", "a long trailer", "a long extension", "a long extension of the last chunk"],
)
def test_what_surrounds_a_body_and_never_ends_is_cut_off(address, begin, piece):
    with connect(address) as connection:
        assert is_cut_off(connection, itertools.chain([BEGUN + begin], itertools.repeat(piece * 64, 1_000)))


def test_a_request_with_trailers_is_answered_and_the_next_one_too(address):
    with connect(address) as connection:
        connection.sendall(BEGUN + b"5\r\nhello\r\n0\r\nX-A: a\r\nHost: evil.example\r\n\r\n")
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        said = answer(connection)
    assert [line[9:12] for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")] == [b"202", b"200"]


def test_many_small_chunks_are_no_end(address):
    with connect(address) as connection:
        connection.sendall(BEGUN + b"1\r\nx\r\n" * (2 * limits.HTTP_HEAD_BYTES) + b"0\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 202 ")


@pytest.mark.attack("heads without end")
def test_empty_lines_after_an_answer_are_not_waited_for_longer_than_a_head(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.2)
    with running_registry(tmp_path / "registry") as address, connect(address) as connection:
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while b"\r\n\r\n" not in said:
            said += connection.recv(65_536)
        connection.sendall(b"\r\n")
        assert b"HTTP/1.1 408 " in answer(connection)


def push(address: str, size: int) -> str:
    """Push a blob, and return where it is."""
    data = os.urandom(size)
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", f"/v2/a/blobs/uploads/?digest={Digest.of(data)}", data)
    path = connection.getresponse().headers["Location"]
    connection.close()
    return path


def ask(address: str, request: str, room_bytes: int = 4_096) -> socket.socket:
    """Send a request, with little room for its answer."""
    host, _, port = address.rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    connection.sendall(request.encode())
    return connection


def is_answered_soon(address: str) -> bool:
    """Tell whether there is room for another connection, now or in a while."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", "/v2/")
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return True
    return False


@pytest.mark.attack("answers that nobody reads")
def test_whoever_does_not_read_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_UNREAD_S", 0.2)
    monkeypatch.setattr(limits, "LEAST_BYTES_PER_S", 1 << 30)
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 4)
    with running_registry(tmp_path / "registry") as address, contextlib.ExitStack() as held:
        path = push(address, 16 << 20)
        for _ in range(3):
            held.enter_context(ask(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        assert is_answered_soon(address)


@contextlib.contextmanager
def serving_small_answers() -> Iterator[str]:
    """Serve two connections answers of which the kernel takes little, and the server's buffer all the rest: nothing waits to write more."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"40000")]})
        await send({"type": "http.response.body", "body": b"x" * 40_000})

    config = uvicorn.Config(
        app, loop="uvloop", http=BoundedProtocol, ws="none", lifespan="off", log_config=None, limit_concurrency=3, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)  # of its connections, too
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.attack("answers that nobody reads")
@pytest.mark.parametrize(
    ("more", "then"),
    [("Connection: close\r\n", b""), ("", b""), ("", b"nonsense\r\n"), ("", b"GET /")],
    ids=["last", "idle", "malformed", "cut"],
)
def test_an_answer_that_nobody_reads_holds_no_connection_that_ends(monkeypatch, more, then):
    monkeypatch.setattr(limits, "HTTP_UNREAD_S", 0.2)
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.2)
    with serving_small_answers() as address, contextlib.ExitStack() as held:
        for _ in range(2):
            connection = held.enter_context(ask(address, f"GET / HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"))
            assert connection.recv(1)
            connection.sendall(then)
        assert is_answered_soon(address)


@pytest.mark.attack("answers that nobody reads")
def test_whoever_reads_slowly_and_then_nothing_gets_no_longer_for_having_read(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_UNREAD_S", 0.2)
    monkeypatch.setattr(limits, "LEAST_BYTES_PER_S", 1 << 20)
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 2)
    with running_registry(tmp_path / "registry") as address:
        path = push(address, 40 << 20)
        with ask(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n", 1 << 20) as connection:
            left = 30 << 20  # enough for half a minute at the least rate
            while left > 0:
                left -= len(connection.recv(65_536))
            assert is_answered_soon(address)


def test_whoever_reads_fast_enough_gets_all(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_UNREAD_S", 0.2)
    with running_registry(tmp_path / "registry") as address:
        path = push(address, 16 << 20)
        with ask(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 1 << 16) as connection:
            assert len(answer(connection).partition(b"\r\n\r\n")[2]) == 16 << 20


@pytest.fixture(params=["http", "https"])
def serving(request, tmp_path):
    """Return a function that serves a blob of 16 MiB, and gives how to ask for it, and a function that opens a connection."""
    with contextlib.ExitStack() as closing:

        def serve():
            tls = request.getfixturevalue("tls") if request.param == "https" else None
            address = closing.enter_context(running_registry(tmp_path / "registry", tls=tls))
            data = os.urandom(16 << 20)
            context = ssl.create_default_context(cafile=tls.certificate) if tls else None

            def open_connection():
                connection = ask(address, "", 1 << 16)
                return closing.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1") if context else connection)

            digest = Digest.of(data)
            connection = open_connection()
            host = "Host: localhost\r\nConnection: close\r\n"
            head = f"POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\n{host}Content-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data)
            assert answer(connection)[9:12] == b"201"
            return f"GET /v2/a/blobs/{digest} HTTP/1.1\r\n{host}\r\n".encode(), open_connection

        yield serve


@pytest.mark.attack("large answers that nobody reads")
def test_whoever_reads_nothing_gives_way_to_others_who_do(serving, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_UNSENT_BYTES", 8 << 20)  # room for four
    monkeypatch.setattr(limits, "HTTP_UNSENT_SAFE_S", 0.0)
    monkeypatch.setattr(limits, "LEAST_BYTES_PER_S", 1 << 40)
    wanted, open_connection = serving()
    crowd = [open_connection() for _ in range(8)]
    for connection in crowd:
        connection.sendall(wanted)
        assert connection.recv(1) == b"H"
    for _ in range(2):
        reader = open_connection()
        reader.sendall(wanted)
        assert len(answer(reader)) > 16 << 20
    assert any(len(answer(connection)) < 16 << 20 for connection in crowd)


@pytest.mark.attack("large answers that nobody reads")
def test_whoever_reads_at_the_least_rate_gives_way_to_nobody(serving, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_UNSENT_BYTES", 2 << 20)  # room for one
    monkeypatch.setattr(limits, "HTTP_UNSENT_SAFE_S", 0.4)
    monkeypatch.setattr(limits, "LEAST_BYTES_PER_S", 1 << 18)
    wanted, open_connection = serving()
    steady = open_connection()
    steady.sendall(wanted)
    got = 0
    for turn in range(45):  # less than a piece in all, and for longer than anybody is safe
        got += len(steady.recv(1 << 15))
        time.sleep(0.05)
        if turn % 5 == 4:
            other = open_connection()
            other.sendall(wanted)
            assert answer(other).startswith(b"HTTP/1.1 503 ")
    assert got + len(answer(steady)) > 16 << 20


@pytest.mark.attack("large answers that nobody reads")
def test_without_room_large_answers_are_promised_later_and_small_ones_given(serving, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_UNSENT_BYTES", 4 << 20)  # room for two
    monkeypatch.setattr(limits, "HTTP_UNSENT_SAFE_S", 3_600.0)
    wanted, open_connection = serving()
    held = [open_connection() for _ in range(2)]
    for connection in held:
        connection.sendall(wanted)
        assert connection.recv(1) == b"H"
    beyond, small = open_connection(), open_connection()
    beyond.sendall(wanted)
    said = answer(beyond)
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in said.lower()
    small.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer(small).startswith(b"HTTP/1.1 200 ")
    assert len(answer(held[0])) > 16 << 20
    again = open_connection()
    again.sendall(wanted)
    assert len(answer(again)) > 16 << 20


_DATA_SEGMENTS_IN = 152  # the place of tcpi_data_segs_in in Linux's struct tcp_info


def test_an_answer_comes_in_one_piece(address):
    with connect(address) as connection:
        for _ in range(20):
            connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = connection.recv(65_536)
            while not said.endswith(b"\r\n\r\n{}"):
                said += connection.recv(65_536)
        [pieces] = struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), _DATA_SEGMENTS_IN)
        assert pieces == 20


def test_answers_without_a_body_and_with_one_that_is_asked_for_first_come_in_order(address):
    data = os.urandom(3 << 20)
    with connect(address) as connection:
        host = "Host: localhost\r\n"
        path = f"/v2/a/blobs/uploads/?digest={Digest.of(data)}"
        connection.sendall(f"POST {path} HTTP/1.1\r\n{host}Expect: 100-continue\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(data)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 201 ")
        blob = f"/v2/a/blobs/{Digest.of(data)} HTTP/1.1\r\n{host}"
        connection.sendall(f"HEAD {blob}\r\nGET /v2/ HTTP/1.1\r\n{host}\r\nDELETE /v2/a/tags/list HTTP/1.1\r\n{host}\r\n".encode())
        connection.sendall(f"GET {blob}Connection: close\r\n\r\n".encode())
        said = answer(connection)
    assert said.endswith(data)
    heads = said.removesuffix(data).split(b"HTTP/1.1 ")[1:]
    assert [head[:3] for head in heads] == [b"200", b"200", b"405", b"200"]


def test_a_client_that_resets_its_idle_connection_is_no_line_in_the_operators_log(tls, caplog):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=1,
        ssl_certfile=tls.certificate,
        ssl_keyfile=tls.key,
    )
    config.load()
    context = ssl.create_default_context(cafile=tls.certificate)

    def ask_once(address: str) -> socket.socket:
        connection = context.wrap_socket(connect(address), server_hostname="127.0.0.1")
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"204" in connection.recv(65_536)
        return connection

    server = TlsServer(config, 3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            gone = ask_once(address)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            gone.close()
            with ask_once(address) as later:
                assert later.recv(65_536) == b""  # its time as an idle one is over, and so is that of the one before
        finally:
            server.should_exit = True
            thread.join()
    assert [record.getMessage() for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []
