"""What a connection costs before any core sees it is bounded."""

from __future__ import annotations

import http.client
import itertools
import socket
from typing import TYPE_CHECKING

import pytest

from sigkit import limits
from sigkit.services.serve import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterable


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
def test_connections_beyond_the_limit_are_told_to_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 3)
    with running_registry(tmp_path / "registry") as address, connect(address), connect(address):
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", "/v2/")
        assert connection.getresponse().status == 503
        connection.close()
