"""TesseraCT and the stack's certificate log, sent the same chains: they take and refuse the same, and promise it alike."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from sigkit.clock import SystemClock
from sigkit.services import pki
from sigkit.services.ct import without_poison
from tests.simulators.authorities import Authorities, ask, b64, make_authorities, new_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.peers, pytest.mark.slow]


class Both:
    """The real one, and ours."""

    def __init__(self, port: int, ours: Authorities, key: ec.EllipticCurvePublicKey) -> None:
        self.port, self.ours, self.key = port, ours, key

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[tuple[int, bytes], tuple[int, bytes]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            theirs = (answer.status, answer.read())
        finally:
            connection.close()
        mine = ask(self.ours.ct, method, path, body)
        return theirs, (mine.status, mine.body)

    def submit(self, *chain: x509.Certificate) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
        encoded = [b64(item.public_bytes(serialization.Encoding.DER)) for item in chain]
        return self.call("POST", "/ct/v1/add-pre-chain", json.dumps({"chain": encoded}).encode())

    def precertificate(self, *, poison: bool = True, signer: Any = None, issuer: x509.Certificate | None = None) -> x509.Certificate:
        now = SystemClock().now()
        subject = x509.Name([])
        builder = x509.CertificateBuilder().issuer_name((issuer or self.ours.ca.chain[0]).subject).subject_name(subject)
        builder = builder.public_key(new_key().public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + timedelta(minutes=10))
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name("mia@acme.example")]), critical=True)
        if poison:
            builder = builder.add_extension(x509.PrecertPoison(), critical=True)
        return builder.sign(signer or pki.load_key(str(self.ours.root / "ca" / "ca.key")), hashes.SHA256())


@pytest.fixture(scope="module")
def both(go_peer, tmp_path_factory) -> Iterator[Both]:
    program = go_peer("tesseract-posix")
    directory: Path = tmp_path_factory.mktemp("ct")
    make_authorities(directory / "made", SystemClock())
    ours = Authorities(shutil.copytree(directory / "made", directory / "stack"), clock=SystemClock())
    key = new_key()
    pem, sec1 = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    (directory / "ct.key").write_bytes(key.private_bytes(pem, sec1, serialization.NoEncryption()))
    (directory / "root.pem").write_bytes(ours.ca.chain[-1].public_bytes(pem))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [
        *(str(program), "-private_key", "ct.key", "-origin", "127.0.0.1", "-storage_dir", "state", "-roots_pem_file", "root.pem"),
        *("-ext_key_usages", "CodeSigning", "-http_endpoint", f"127.0.0.1:{port}", "-checkpoint_interval", "1s"),
    ]
    with (directory / "log").open("wb") as log, subprocess.Popen(line, stdout=log, stderr=log, cwd=directory) as process:
        try:
            until = time.monotonic() + 60
            while not ready(port):
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield Both(port, ours, key.public_key())
        finally:
            process.kill()
            ours.close()


def ready(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/ct/v1/get-roots")
            return connection.getresponse().status == 200
        except OSError:
            return False


def prove(answer: dict[str, Any], key: Any, leaf: Callable[[int, bytes], bytes]) -> None:
    """Prove a promise as RFC 6962 section 3.2 says."""
    signature = base64.b64decode(answer["signature"])
    assert signature[:2] == b"\4\3"
    assert int.from_bytes(signature[2:4], "big") == len(signature) - 4
    key.verify(signature[4:], leaf(answer["timestamp"], base64.b64decode(answer["extensions"])), ec.ECDSA(hashes.SHA256()))


def test_the_same_is_promised_alike(both):
    asked = both.precertificate()
    theirs, ours = both.submit(asked, *both.ours.ca.chain)
    assert (theirs[0], ours[0]) == (200, 200), (theirs, ours)
    their_answer, our_answer = json.loads(theirs[1]), json.loads(ours[1])
    assert our_answer.keys() == their_answer.keys()
    body = without_poison(asked.tbs_certificate_bytes)
    issuer_key = hashes.Hash(hashes.SHA256())
    issuer_key.update(pki.spki(both.ours.ca.chain[0].public_key()))
    entry = b"\0\1" + issuer_key.finalize() + len(body).to_bytes(3, "big") + body

    def leaf(milliseconds: int, extensions: bytes) -> bytes:
        return b"\0\0" + milliseconds.to_bytes(8, "big") + entry + len(extensions).to_bytes(2, "big") + extensions

    prove(their_answer, both.key, leaf)
    prove(our_answer, serialization.load_der_public_key(both.ours.ct.public_key), leaf)
    assert abs(their_answer["timestamp"] - our_answer["timestamp"]) < 60_000


def test_roots_are_told_alike(both):
    theirs, ours = both.call("GET", "/ct/v1/get-roots")
    assert json.loads(ours[1]) == json.loads(theirs[1])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda b: [b.precertificate(poison=False), *b.ours.ca.chain], id="no poison"),
        pytest.param(lambda b: [b.precertificate(signer=new_key()), *b.ours.ca.chain], id="signed by another"),
        pytest.param(lambda b: [b.precertificate()], id="no issuer"),
        pytest.param(lambda _: [], id="nothing"),
        pytest.param(lambda b: [b.precertificate(), b.ours.ca.chain[1]], id="the wrong issuer"),
        pytest.param(lambda b: [b.precertificate(issuer=b.ours.tsa.chain[1]), b.ours.tsa.chain[1]], id="another root"),
    ],
)
def test_the_same_is_refused_alike(both, spoil):
    theirs, ours = both.submit(*spoil(both))
    assert (theirs[0], ours[0]) == (400, 400), (theirs, ours)
