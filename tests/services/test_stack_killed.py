"""A stack that is killed at random moments while clients write: what was answered is there, and the log never forks.

`tox -e faults` does it a hundred times.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import subprocess
import threading
import time
from typing import Any, NamedTuple

import pytest

from sigkit.digest import Digest
from sigkit.keys.private import generate
from sigkit.strict import encode_base64
from tests.simulators import stacks
from tests.simulators.command import SIGKIT, run_here

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("SIGKIT_FAULT_ROUNDS", "3"))
CLIENTS = 4
ENTRIES = "/api/v2/log/entries"
UPLOADS = "/v2/acme/app/blobs/uploads/"


class Logged(NamedTuple):
    """An entry that the log answered."""

    body: bytes
    log_index: str


def body_of(message: bytes, key: Any) -> bytes:
    verifier = {"publicKey": {"rawBytes": encode_base64(key.public.spki)}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    signature = {"content": encode_base64(key.sign(message)), "verifier": verifier}
    return json.dumps({"hashedRekordRequestV002": {"digest": encode_base64(Digest.of(message).value), "signature": signature}}).encode()


def write_until_it_dies(url: str, numbers: Any, key: Any, logged: list[Logged], pushed: list[bytes]) -> None:
    """Append entries and push blobs, and note down each answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        while True:
            data = b"%d" % next(numbers)
            body = body_of(data, key)
            connection.request("POST", ENTRIES, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            raw = answer.read()
            assert answer.status == 201, raw
            logged.append(Logged(body, json.loads(raw)["logIndex"]))
            connection.request("POST", f"{UPLOADS}?digest={Digest.of(data)}", data)
            answer = connection.getresponse()
            assert answer.read() == b""
            assert answer.status == 201
            pushed.append(data)
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()


def killed_while_written(stack: stacks.Stack, after_s: float, numbers: Any, key: Any, logged: list[Logged], pushed: list[bytes]) -> None:
    with subprocess.Popen([*SIGKIT, "stack", "up", stack.directory], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        clients = [threading.Thread(target=write_until_it_dies, args=(stack.url, numbers, key, logged, pushed)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(after_s)
        server.kill()
        for client in clients:
            client.join()


def check(stack: stacks.Stack, home: Any, logged: list[Logged], pushed: list[bytes]) -> None:
    """Hold a stack to its answers: as a client, which remembers the last checkpoint that it has seen."""
    with stacks.serving(stack):
        trusted = ("--trusted-root", str(stack.client("trusted_root.json")))
        seen = run_here("log", "checkpoint", *trusted, home=home, environment={"SIGKIT_CHECKPOINTS": str(home / "seen")})
        assert seen[0] == 0, seen
        for entry in logged:
            assert stack.json("POST", ENTRIES, json.loads(entry.body))["logIndex"] == entry.log_index
        for data in pushed:
            assert stack.call("GET", f"/v2/acme/app/blobs/{Digest.of(data)}") == (200, data)


def test_killed_while_clients_write_it_keeps_every_answer_and_never_forks(tmp_path):
    moments, numbers, key = random.SystemRandom(), itertools.count(), generate("ecdsa-p256")
    stack = stacks.make(tmp_path / "stack")
    total = 0
    for _ in range(ROUNDS):
        logged: list[Logged] = []
        pushed: list[bytes] = []
        killed_while_written(stack, moments.uniform(0.05, 0.6), numbers, key, logged, pushed)
        check(stack, tmp_path, logged, pushed)
        total += len(logged)
    assert total > ROUNDS, "nothing was written before the kill"
