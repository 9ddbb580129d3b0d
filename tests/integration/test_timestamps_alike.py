"""The real timestamp server and the stack's authority, sent the same queries: they sign and refuse the same, and sign it alike."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response

from sigkit.clock import SystemClock
from sigkit.services import der
from sigkit.services.tsa import POLICY, TimestampAuthority
from tests.simulators.authorities import ask, b64, make_authorities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Alone, for the timestamp server listens on *:2112, which nobody can choose.
pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.alone]

DER = "application/timestamp-query"
JSON = "application/json"
SHA256, SHA384, SHA512 = (f"2.16.840.1.101.3.4.2.{number}" for number in (1, 2, 3))


class Both:
    """The real one, and ours."""

    def __init__(self, port: int, ours: TimestampAuthority) -> None:
        self.port, self.ours = port, ours

    def send(self, body: bytes, kind: str) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", "/api/v1/timestamp", body, {"Content-Type": kind})
            answer = connection.getresponse()
            theirs = (answer.status, answer.read())
        finally:
            connection.close()
        mine = ask(self.ours, "POST", "/api/v1/timestamp", body, {"content-type": kind})
        return theirs, (mine.status, mine.body)


@pytest.fixture(scope="module")
def both(go_peer, tmp_path_factory) -> Iterator[Both]:
    program = go_peer("timestamp-server")
    directory: Path = tmp_path_factory.mktemp("tsa")
    make_authorities(directory / "made", SystemClock())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [str(program), "serve", "--host", "127.0.0.1", "--port", str(port), "--timestamp-signer", "memory", "--disable-ntp-monitoring"]
    with (directory / "log").open("wb") as log, subprocess.Popen(line, stdout=log, stderr=log, cwd=directory) as process:
        try:
            until = time.monotonic() + 60
            while not ready(port):
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)
            yield Both(port, TimestampAuthority.open(str(directory / "made" / "tsa"), SystemClock()))
        finally:
            process.terminate()


def ready(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        except OSError:
            return False


def query(*parts: bytes, identifier: str = SHA256, size: int = 32, version: int = 1) -> bytes:
    imprint = der.sequence(der.sequence(der.identifier(identifier), b"\x05\x00"), der.octets(b"d" * size))
    return der.sequence(der.integer(version), imprint, *parts)


def json_query(**changes: Any) -> bytes:
    return json.dumps({"artifactHash": b64(b"d" * 32), "hashAlgorithm": "sha256"} | changes).encode()


def built(algorithm: HashAlgorithm, nonce: bool, certificate: bool) -> bytes:
    asked = TimestampRequestBuilder().data(b"signature").hash_algorithm(algorithm).nonce(nonce=nonce).cert_request(cert_request=certificate)
    return asked.build().as_bytes()


def said(raw: bytes) -> dict[str, Any]:
    """Return what an answer says, but for what must differ: serial number, time, certificates and their names."""
    response = decode_timestamp_response(raw)
    info, signed = response.tst_info, response.signed_data
    (signer,) = signed.signer_infos
    return {
        "status": response.status,
        "policy": info.policy.dotted_string,
        "imprint": (info.message_imprint.hash_algorithm.dotted_string, info.message_imprint.message),
        "nonce": info.nonce,
        "accuracy": info.accuracy.seconds,
        "version": (signed.version, signer.version),
        "digests": {oid.dotted_string for oid in signed.digest_algorithms},
        "certificates": bool(signed.certificates),
    }


SIGNED = [
    *((built(*options), DER) for options in itertools.product(HashAlgorithm, (True, False), (True, False))),
    (query(identifier=SHA384, size=48), DER),
    (query(identifier=SHA512, size=64), DER),
    (query(der.identifier(POLICY)), DER),
    (json_query(), JSON),
    (json_query(certificates=True, nonce=7), JSON),
    (json_query(tsaPolicyOID=POLICY), JSON),
    (json_query(hashAlgorithm="sha512", artifactHash=b64(b"d" * 64)), JSON),
]

REFUSED = {
    "SHA-1": (query(identifier="1.3.14.3.2.26", size=20), DER),
    "a short digest": (query(size=31), DER),
    "a long digest": (query(size=33), DER),
    "SHA-512's name over a short digest": (query(identifier=SHA512, size=32), DER),
    "a foreign policy": (query(der.identifier("1.2.3.4")), DER),
    "no DER": (b"x" * 50, DER),
    "cut off": (query()[:-3], DER),
    "too long": (b"\x30" * 3000, DER),
    "SHA-1 in JSON": (json_query(hashAlgorithm="sha1", artifactHash=b64(b"d" * 20)), JSON),
    "a short digest in JSON": (json_query(artifactHash=b64(b"d" * 20)), JSON),
    "a foreign policy in JSON": (json_query(tsaPolicyOID="1.2.3"), JSON),
    "no JSON": (b"{", JSON),
    "another type": (query(), "text/plain"),
    "a type of another body": (query(), JSON),
}


@pytest.mark.parametrize(("body", "kind"), SIGNED, ids=range(len(SIGNED)))
def test_the_same_is_signed_alike(both, body, kind):
    theirs, ours = both.send(body, kind)
    assert (theirs[0], ours[0]) == (200, 200), (theirs, ours)
    assert said(ours[1]) == said(theirs[1])


@pytest.mark.parametrize("name", REFUSED)
def test_the_same_is_refused_alike(both, name):
    theirs, ours = both.send(*REFUSED[name])
    assert ours[0] == theirs[0], (theirs, ours)
    assert json.loads(ours[1]).keys() == json.loads(theirs[1]).keys()
    assert json.loads(ours[1])["code"] == json.loads(theirs[1])["code"]
