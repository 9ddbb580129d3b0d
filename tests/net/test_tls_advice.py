"""TLS where there is none, and none where there is: what is said to be next."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from sigkit.errors import NoTls, PlainHttpRefused, TlsFailed, Unreachable
from sigkit.net.address import Deadline
from sigkit.net.session import Call, Lane, NetOptions, Session
from sigkit.net.url import parse_url
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.tls_identity import TlsIdentity


@contextlib.contextmanager
def broken_into(identity):
    """Serve TLS on a port, and answer every request with bytes that are none."""
    context = identity.server_context()

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with plain, plain.dup() as beneath, context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(1)
                beneath.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" * 8)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]


REGISTRY = NetOptions(plain_option="--allow-http-registry")
SERVICE = NetOptions(ca_option="--services-cacert FILE")


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize(("options", "advice"), [(REGISTRY, "--allow-http-registry"), (SERVICE, "http://127.0.0.1:")])
def test_tls_to_a_port_without_it_is_refused_at_once_and_says_how_to_do_without(lane, options, advice):
    with MisbehavingServer(lambda _: Reply()) as server, Session(options, sleep=lambda _: pytest.fail("waited")) as session:
        with pytest.raises(NoTls) as caught:
            session.send(Call("GET", parse_url(server.url.replace("http", "https")), Deadline(20), lane=lane))
        assert advice in caught.value.remedy
        assert caught.value.status() == 3


@pytest.mark.attack("no TLS after the handshake")
@pytest.mark.parametrize("lane", list(Lane))
def test_who_breaks_into_a_connection_with_tls_provokes_no_advice_to_do_without(tmp_path, lane):
    identity = TlsIdentity.make(tmp_path, "localhost")
    options = NetOptions(ca_file=identity.ca_file, plain_option="--plain")
    with broken_into(identity) as port, Session(options) as session, pytest.raises(Unreachable) as caught:
        session.send(Call("GET", parse_url(f"https://localhost:{port}/"), Deadline(20), lane=lane, attempts=1))
    assert "--plain" not in caught.value.remedy


@pytest.mark.parametrize("lane", list(Lane))
@pytest.mark.parametrize(
    ("host", "days", "known", "advice"),
    [
        ("localhost", 0, False, "--registry-cacert"),
        ("localhost", -5, True, "new certificate"),
        ("localhost", 5, True, "clock"),
        ("other.example", 0, True, "a name that its certificate has"),
    ],
)
def test_what_to_do_about_a_certificate_depends_on_what_is_wrong_with_it(tmp_path, lane, host, days, known, advice):
    identity = TlsIdentity.make(tmp_path, host, days=days)
    options = NetOptions(ca_file=identity.ca_file if known else None)
    with MisbehavingServer(lambda _: Reply(), tls=identity.server_context()) as server, Session(options) as session:
        url = parse_url(server.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(TlsFailed) as caught:
            session.send(Call("GET", url, Deadline(20), lane=lane))
    assert advice in caught.value.remedy


@pytest.mark.parametrize(("options", "advice"), [(REGISTRY, "--registry-cacert FILE"), (SERVICE, "begins with https://")])
def test_a_port_with_tls_that_is_asked_without_says_how_to_ask_it(tmp_path, options, advice):
    identity = TlsIdentity.make(tmp_path, "localhost")
    with MisbehavingServer(lambda _: Reply(), tls=identity.server_context()) as server, Session(options) as session:
        with pytest.raises(Unreachable) as caught:
            session.send(Call("GET", parse_url(server.url.replace("https", "http")), Deadline(20), attempts=1))
        assert advice in caught.value.remedy


@pytest.mark.parametrize(("options", "advice"), [(REGISTRY, "--allow-http-registry"), (SERVICE, "")])
def test_an_option_for_registries_is_named_for_registries_alone(options, advice):
    with Session(options) as session, pytest.raises(PlainHttpRefused) as caught:
        session.send(Call("GET", parse_url("http://issuer.example/"), Deadline(20)))
    assert caught.value.remedy.startswith(advice)
    assert bool(caught.value.remedy) is bool(advice)
