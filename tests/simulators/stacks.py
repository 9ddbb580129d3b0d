"""Stacks for tests: made in a directory of the test's own, on a port that was free a moment ago."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sigkit.clock import SystemClock
from sigkit.errors import Place
from sigkit.services.stack.cores import open_issuer
from sigkit.services.stack.layout import load_config, parse_base_url
from sigkit.services.stack.make import make_stack
from sigkit.services.stack.run import running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.clock import Clock

WORKLOAD = "https://ci.acme.example/app"


class Stack(NamedTuple):
    """A stack that was made."""

    directory: Path
    url: str

    def client(self, name: str) -> Path:
        """Return a file that clients are handed."""
        return self.directory / "clients" / name

    def token(self, subject: str = WORKLOAD, **claims: str) -> str:
        """Return a token for a workload or a person."""
        clock = SystemClock()
        return open_issuer(str(self.directory), load_config(str(self.directory)), clock).issue_token(subject, claims=claims)

    def call(self, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send one request to the stack, which runs."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        try:
            connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, method: str, target: str, body: Any = None) -> Any:
        """Send JSON and return the JSON of an answer that must be a success."""
        status, raw = self.call(method, target, None if body is None else json.dumps(body).encode(), Content_Type="application/json")
        assert status in {200, 201}, (status, raw)
        return json.loads(raw)


@contextlib.contextmanager
def nested(path: Path, levels: int) -> Iterator[int]:
    """Make so many directories `d` in each other below `path`, and a file in the deepest, which is given open; what is made is removed."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    file = os.open("f", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=descriptor)
    os.close(descriptor)
    try:
        yield file
    finally:
        os.close(file)
        subprocess.run(["rm", "-rf", str(path / "d")], check=True)  # Python's own calls itself for each level


def free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def make(directory: Path, *, url: str | None = None, offline: Path | None = None, clock: Clock | None = None) -> Stack:
    """Make a stack in `directory`."""
    url = url or free_url()
    made = make_stack(str(directory), str(offline) if offline else None, "acme", parse_base_url(url, Place("url")), clock or SystemClock())
    return Stack(Path(made.directory), made.config.url)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Stack]:
    """Make a stack in `directory`, and serve it until the block ends."""
    stack = make(directory)
    with serving(stack):
        yield stack


@contextlib.contextmanager
def serving(stack: Stack) -> Iterator[None]:
    """Serve a stack that was made before, until the block ends."""
    with running_stack(str(stack.directory)):
        yield
