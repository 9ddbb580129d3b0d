"""The registry over real sockets: starting, stopping, TLS, and what it refuses to listen on."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
import uvicorn

from sigkit import limits
from sigkit.clock import SystemClock
from sigkit.digest import Digest
from sigkit.errors import (
    EXIT_UNCHECKED,
    EXIT_USAGE,
    AddressUnusable,
    FileUnreadable,
    LockTimeout,
    MalformedKey,
    MissingExtra,
    OtherKeyCertified,
    RefusedKeyEncryption,
    WrongShape,
)
from sigkit.services.accepting import TlsServer
from sigkit.services.app import App
from sigkit.services.extra import REQUIREMENTS
from sigkit.services.oidc import OidcIssuer
from sigkit.services.protocol import BoundedProtocol
from sigkit.services.serve import running_registry
from sigkit.services.tls import Tls

CHECKOUT = Path(__file__).resolve().parents[2]

SERVE = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from sigkit.services.serve import serve_registry
try:
    serve_registry(sys.argv[1], "127.0.0.1:0", ready=lambda address: print(address, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
print("stopped", flush=True)
"""

# The signal comes when the main thread is at the Nth line of its waiting, if waiting has so many lines, and a little later in any case.
WAIT = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(CHECKOUT)!r})
from sigkit.services.serve import until_told

def tell():
    os.kill(os.getpid(), signal.SIGTERM)

def at_line(left):
    def trace(frame, event, arg):
        nonlocal left
        left -= event == "line"
        if left == 0:
            left = -1
            signal.raise_signal(signal.SIGTERM)
        return trace
    return trace

for number in range(1, 40):
    with until_told() as wait:
        later = threading.Timer(0.02, tell)
        later.start()
        sys.settrace(at_line(number))
        wait()
        sys.settrace(None)
        later.join()
print("told each time")
"""


# The kernel gives the signal to another thread, as it may where a process was stopped and goes on.
WAIT_ELSEWHERE = f"""
import signal, sys, threading
sys.path.insert(0, {str(CHECKOUT)!r})
from sigkit.services.serve import until_told

end = threading.Event()
other = threading.Thread(target=end.wait)
other.start()
with until_told() as wait:
    threading.Timer(0.2, lambda: signal.pthread_kill(other.ident, signal.SIGTERM)).start()
    wait()
end.set()
print("told")
"""


def call(address: str, method: str, target: str, body: bytes | None = None, headers=None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_large_blob_goes_in_and_out_over_a_socket(tmp_path):
    data = os.urandom(1 << 20) * 8
    digest = Digest.of(data)
    with running_registry(tmp_path / "registry") as address:
        assert call(address, "POST", f"/v2/a/b/blobs/uploads/?digest={digest}", data)[0] == 201
        assert call(address, "GET", f"/v2/a/b/blobs/{digest}") == (200, data)
        assert call(address, "GET", f"/v2/a/b/blobs/{digest}", headers={"Range": "bytes=5000000-"}) == (206, data[5000000:])


def test_registry_keeps_what_it_has_when_it_starts_again(tmp_path):
    digest = Digest.of(b"data")
    with running_registry(tmp_path / "registry") as address:
        call(address, "POST", f"/v2/a/b/blobs/uploads/?digest={digest}", b"data")
    with running_registry(tmp_path / "registry") as address:
        assert call(address, "GET", f"/v2/a/b/blobs/{digest}") == (200, b"data")


def test_nothing_listens_and_no_thread_runs_afterwards(tmp_path):
    with running_registry(tmp_path / "registry") as address:
        host, _, port = address.rpartition(":")
        idle = socket.create_connection((host, int(port)))
    assert "sigkit-server" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    idle.close()


def test_client_that_goes_away_in_the_middle_leaves_no_file_open(tmp_path):
    data = os.urandom(1 << 20) * 16
    digest = Digest.of(data)
    with running_registry(tmp_path / "registry") as address:
        call(address, "POST", f"/v2/a/b/blobs/uploads/?digest={digest}", data)
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("GET", f"/v2/a/b/blobs/{digest}")
        answer = connection.getresponse()
        answer.read(1000)
        answer.close()
        connection.close()
        # The registry notices when it sends next; it answers others meanwhile, and stops at the end of the block.
        assert call(address, "GET", "/v2/")[0] == 200
    content = tmp_path / "registry" / "blobs" / "sha256" / digest.hex
    assert str(content) not in {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}


def test_blob_cut_in_storage_ends_the_connection_early(tmp_path):
    data = os.urandom(1 << 20) * 3
    digest = Digest.of(data)
    with running_registry(tmp_path / "registry") as address:
        call(address, "POST", f"/v2/a/b/blobs/uploads/?digest={digest}", data)
        content = tmp_path / "registry" / "blobs" / "sha256" / digest.hex
        os.truncate(content, 1 << 20)
        assert call(address, "GET", f"/v2/a/b/blobs/{digest}") == (200, data[: 1 << 20])


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "[::1]:0", "127.9.9.9:0"])
def test_loopback_needs_no_tls(tmp_path, listen):
    with running_registry(tmp_path / "registry", listen) as address:
        assert call(address, "GET", "/v2/")[0] == 200


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:5000"])
def test_without_tls_nothing_but_loopback_is_listened_on(tmp_path, listen):
    with pytest.raises(AddressUnusable) as caught, running_registry(tmp_path / "registry", listen):
        pass
    assert caught.value.status() == EXIT_USAGE
    assert "--tls-cert" in caught.value.remedy


@pytest.mark.parametrize("listen", ["", "5000", ":5000", "example.com:5000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1"])
def test_malformed_address_is_a_usage_error(tmp_path, listen):
    with pytest.raises(AddressUnusable) as caught, running_registry(tmp_path / "registry", listen):
        pass
    assert caught.value.status() == EXIT_USAGE


def test_port_in_use_is_worth_another_try(tmp_path):
    with (
        running_registry(tmp_path / "one") as address,
        pytest.raises(AddressUnusable) as caught,
        running_registry(tmp_path / "two", address),
    ):
        pass
    assert caught.value.status() == EXIT_UNCHECKED
    assert f"ss -ltnp 'sport = :{address.rpartition(':')[2]}'" in caught.value.remedy
    assert "--listen 127.0.0.1:0" in caught.value.remedy


def test_an_address_of_another_machine_is_a_usage_error(tls, tmp_path):
    with pytest.raises(AddressUnusable) as caught, running_registry(tmp_path / "registry", "192.0.2.1:0", tls=tls):
        pass
    assert "ip -brief address" in caught.value.remedy


def test_threads_take_short_turns_while_it_is_served_and_no_longer(tmp_path):
    before = sys.getswitchinterval()
    with running_registry(tmp_path / "registry"):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before


def test_directory_in_use_is_could_not_check(tmp_path):
    with running_registry(tmp_path / "one"), pytest.raises(LockTimeout), running_registry(tmp_path / "one"):
        pass


def test_missing_server_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "httptools", None)
    with pytest.raises(MissingExtra) as caught, running_registry(tmp_path / "registry"):
        pass
    assert not (tmp_path / "registry").exists()
    assert "httptools" in caught.value.problem
    assert caught.value.remedy.startswith(f"{sys.executable} -m pip install ")
    assert "httptools>=" in caught.value.remedy


def test_package_for_tokens_is_missed_when_the_issuer_is_opened_not_when_somebody_logs_in(tmp_path, monkeypatch):
    OidcIssuer.create(str(tmp_path))
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(MissingExtra, match="jwt"):
        OidcIssuer.open(str(tmp_path), "http://127.0.0.1:1", SystemClock())


def test_packages_that_are_named_are_those_of_the_extra_and_never_a_package_of_this_name():
    # On the package index `sigkit` is somebody else's.
    declared = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["serve"]
    assert sorted(REQUIREMENTS) == sorted(declared)
    assert not any(requirement.startswith("sigkit") for requirement in REQUIREMENTS)


FEW_DESCRIPTORS = 256


@pytest.fixture
def started(tmp_path):
    """Return a function that starts a registry in a process of its own under limits of descriptors, and returns process and address."""
    with contextlib.ExitStack() as closing:

        def start(soft: int, hard: int) -> tuple[int, str, int]:
            limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))" + SERVE
            command = [sys.executable, "-c", limited, str(tmp_path / "registry")]
            server = closing.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            closing.callback(server.kill)
            assert server.stdout is not None
            host, _, port = server.stdout.readline().strip().rpartition(":")
            return server.pid, host, int(port)

        yield start


@pytest.mark.attack("connections without descriptors")
@pytest.mark.parametrize(
    ("sent", "next_one"),
    [(b"", 200), (b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", 503)],
    ids=["silent", "busy"],
)
def test_server_with_few_descriptors_serves_who_has_asked_and_answers_others(started, sent, next_one):
    _, host, port = started(FEW_DESCRIPTORS, FEW_DESCRIPTORS)
    regular = http.client.HTTPConnection(host, port, timeout=20)
    crowd = []
    with contextlib.ExitStack() as closing:
        closing.callback(regular.close)
        for number in range(2 * FEW_DESCRIPTORS):
            if number == 1:
                regular.request("GET", "/v2/")
                assert regular.getresponse().read() == b"{}"
            crowd.append(closing.enter_context(socket.create_connection((host, port), timeout=20)))
            with contextlib.suppress(ConnectionError):  # it was refused already
                crowd[-1].sendall(sent)
        assert call(f"{host}:{port}", "GET", "/v2/")[0] == next_one
        data, digest = b"data", Digest.of(b"data")
        regular.request("POST", f"/v2/a/blobs/uploads/?digest={digest}", data)
        answer = regular.getresponse()
        assert (answer.status, answer.read()) == (201, b"")


@pytest.mark.attack("connections without descriptors")
@pytest.mark.parametrize("hard", [500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]], ids=["few", "as here"])
def test_server_asks_for_the_descriptors_that_it_may_have_and_can_use(started, hard):
    pid, _, _ = started(100, hard)
    useful = 3 * limits.HTTP_CONNECTIONS + 64
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (useful if hard == resource.RLIM_INFINITY else min(hard, useful), hard)


def test_with_tls_any_address_is_listened_on(tmp_path, tls):
    with running_registry(tmp_path / "registry", "0.0.0.0:0", tls=tls) as address:
        context = ssl.create_default_context(cafile=tls.certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", int(address.rpartition(":")[2]), timeout=20, context=context)
        connection.request("GET", "/v2/")
        assert connection.getresponse().read() == b"{}"
        connection.close()


def is_closed(connection: socket.socket) -> bool:
    """Tell whether the server closes the connection without a word, and wait until it does."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.attack("handshakes that do not come")
def test_with_tls_as_many_are_served_as_may_be_and_what_is_beyond_is_closed(tmp_path, tls, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 2)
    context = ssl.create_default_context(cafile=tls.certificate)
    with contextlib.ExitStack() as held:
        host, _, port = held.enter_context(running_registry(tmp_path / "registry", tls=tls)).rpartition(":")
        regular = [http.client.HTTPSConnection(host, int(port), timeout=20, context=context) for _ in range(2)]
        for _ in range(2):
            for connection in regular:
                held.callback(connection.close)
                connection.request("GET", "/v2/")
                assert connection.getresponse().read() == b"{}"
            assert is_closed(held.enter_context(socket.create_connection((host, int(port)), timeout=20)))


@pytest.mark.attack("handshakes that do not come")
@pytest.mark.parametrize("silent", ["before the handshake", "after the handshake"])
def test_with_tls_whoever_says_nothing_keeps_out_nobody_who_asks(tmp_path, tls, monkeypatch, silent):
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 3)
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_S", 3_600.0)
    context = ssl.create_default_context(cafile=tls.certificate)
    with contextlib.ExitStack() as held:
        host, _, port = held.enter_context(running_registry(tmp_path / "registry", tls=tls)).rpartition(":")
        crowd = []
        for _ in range(5):
            connection = held.enter_context(socket.create_connection((host, int(port)), timeout=20))
            if silent == "after the handshake":
                connection = held.enter_context(context.wrap_socket(connection, server_hostname=host))
            crowd.append(connection)
        assert all(map(is_closed, crowd[:2]))
        for number in range(3):
            regular = http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
            held.callback(regular.close)
            regular.request("GET", "/v2/")
            assert regular.getresponse().read() == b"{}"
            assert is_closed(crowd[2 + number])


@pytest.mark.attack("handshakes that do not come")
def test_a_handshake_that_does_not_come_makes_room_for_others(tmp_path, tls, monkeypatch):
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS", 2)
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_S", 0.2)
    context = ssl.create_default_context(cafile=tls.certificate)
    with contextlib.ExitStack() as held:
        host, _, port = held.enter_context(running_registry(tmp_path / "registry", tls=tls)).rpartition(":")
        crowd = [held.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(2)]
        assert all(map(is_closed, crowd))
        regular = http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
        held.callback(regular.close)
        regular.request("GET", "/v2/")
        assert regular.getresponse().read() == b"{}"


def test_a_handshake_that_cannot_be_begun_leaves_nothing_and_says_so(tls, caplog):
    options = {"ws": "none", "lifespan": "off", "log_config": None, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    config = uvicorn.Config(App([]), http=BoundedProtocol, **options)
    config.load()
    config.ssl = object()  # type: ignore[assignment] # as no operator can have it
    server = TlsServer(config, 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            for _ in range(4):
                with socket.create_connection(listener.getsockname(), timeout=20) as connection:
                    assert is_closed(connection)
            assert server.server_state.connections == set()
        finally:
            server.should_exit = True
            thread.join()
    assert len(caplog.messages) == 4
    assert all(line.startswith("a TLS handshake failed: TypeError: ") for line in caplog.messages)


@pytest.mark.parametrize("said", [b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
def test_what_is_no_handshake_ends_its_connection_only(tmp_path, tls, said):
    with running_registry(tmp_path / "registry", tls=tls) as address:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as stranger:
            stranger.sendall(said)
            while not is_closed(stranger):
                pass
        context = ssl.create_default_context(cafile=tls.certificate)
        connection = http.client.HTTPSConnection(host, int(port), timeout=20, context=context)
        connection.request("GET", "/v2/")
        assert connection.getresponse().read() == b"{}"
        connection.close()


_NEW_KEY = ["openssl", "genpkey", "-algorithm"]


def _write(path, command) -> str:
    subprocess.run([*command, str(path)], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return str(path)


@pytest.mark.parametrize(
    ("fault", "refusal", "named"),
    [
        ("absent", FileUnreadable, "bad.pem"),
        ("no certificate", WrongShape, "bad.pem"),
        ("no key", MalformedKey, "bad.pem"),
        ("cut", FileUnreadable, "bad.pem"),
        ("another key", OtherKeyCertified, "bad.pem"),
        ("a key of another kind", OtherKeyCertified, "bad.pem"),
        ("encrypted", RefusedKeyEncryption, "bad.pem"),
        ("encrypted with nothing", RefusedKeyEncryption, "bad.pem"),
    ],
)
def test_what_is_wrong_with_certificate_or_key_is_a_usage_error_that_names_the_file(tmp_path, tls, fault, refusal, named):
    bad = tmp_path / "bad.pem"
    files = {
        "absent": lambda: Tls(str(bad), tls.key),
        "no certificate": lambda: Tls(_write(bad, ["cp", tls.key]), tls.key),
        "no key": lambda: Tls(tls.certificate, _write(bad, ["cp", tls.certificate])),
        "cut": lambda: Tls(tls.certificate, _write(bad, ["sh", "-c", f"head -c 80 {tls.key} > $0"])),
        "another key": lambda: Tls(tls.certificate, _write(bad, [*_NEW_KEY, "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])),
        "a key of another kind": lambda: Tls(tls.certificate, _write(bad, [*_NEW_KEY, "ed25519", "-out"])),
        "encrypted": lambda: Tls(
            tls.certificate, _write(bad, ["openssl", "pkey", "-in", tls.key, "-aes256", "-passout", "pass:x", "-out"])
        ),
        "encrypted with nothing": lambda: Tls(
            tls.certificate, _write(bad, ["openssl", "pkey", "-in", tls.key, "-aes256", "-passout", "pass:", "-out"])
        ),
    }
    with pytest.raises(refusal) as caught, running_registry(tmp_path / "registry", tls=files[fault]()):
        pass
    assert caught.value.status() == EXIT_USAGE
    assert named in str(caught.value.place)
    assert "_ssl.c" not in str(caught.value)


@pytest.mark.parametrize(
    ("sent", "status", "last"), [(signal.SIGTERM, 0, "stopped"), (signal.SIGINT, 130, "interrupted")], ids=["SIGTERM", "SIGINT"]
)
def test_signal_stops_it_cleanly(tmp_path, sent, status, last):
    with subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path / "registry")], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert call(address, "GET", "/v2/")[0] == 200
        server.send_signal(sent)
        assert server.stdout.read().strip() == last
        assert server.wait(20) == status


def test_a_signal_that_comes_at_any_moment_of_waiting_ends_it():
    done = subprocess.run([sys.executable, "-c", WAIT], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("told each time\n", 0), done.stderr


def test_a_signal_that_another_thread_gets_is_told_to_the_one_that_waits():
    done = subprocess.run([sys.executable, "-c", WAIT_ELSEWHERE], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "told\n", "")
