"""A person logs in at a stack in a browser, or by a code that is typed, and sigstore-python signs in their name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.simulators import stacks
from tests.simulators.command import SIGKIT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("sigstore", reason="the oracle is not installed: dependency group `oracle`")

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

PERSON = "mia@acme.example"


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[stacks.Stack]:
    with stacks.running(tmp_path_factory.mktemp("stacked") / "stack") as running:
        yield running


@pytest.fixture
def home(tmp_path):
    """Return a home with a browser that only notes where it is sent to."""
    (tmp_path / "file").write_bytes(b"release")
    (tmp_path / "browser").write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened.part\nmv {tmp_path}/opened.part {tmp_path}/opened\n')
    (tmp_path / "browser").chmod(0o755)
    return tmp_path


def sigstore(stack: stacks.Stack, home, *arguments: str) -> subprocess.Popen[str]:
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "BROWSER": f"{home}/browser %s"}
    line = [sys.executable, "-I", "-m", "sigstore", "--trust-config", str(stack.client("trust_config.json")), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=home, env=environment)


def visit(url: str) -> tuple[str, str]:
    """Follow a page to where it leads, and return where that is and what it shows."""
    with urllib.request.urlopen(url, timeout=20) as page:  # noqa: S310 - the stack's own, or the client's on loopback
        return page.geturl(), page.read().decode()


def approve(stack: stacks.Stack, page: str) -> None:
    code = re.search(r"<code>([A-Z]{4}-[A-Z]{4})</code>", page)
    assert code
    subprocess.run([*SIGKIT, "stack", "approve", stack.directory, code[1], "--email", PERSON], check=True, capture_output=True)


def check(stack: stacks.Stack, home) -> None:
    wanted = ("--cert-identity", PERSON, "--cert-oidc-issuer", stack.url, "--bundle", "signature", "file")
    with sigstore(stack, home, "verify", "identity", *wanted) as done:
        output, _ = done.communicate(timeout=60)
        assert done.returncode == 0, output


def test_a_person_logs_in_in_a_browser(stack, home):
    with sigstore(stack, home, "sign", "--bundle", "signature", "file") as signing:
        until = time.monotonic() + 60
        while not (home / "opened").exists():
            assert time.monotonic() < until
            assert signing.poll() is None, signing.communicate()[0]
        where, page = visit((home / "opened").read_text())
        assert where.startswith(f"{stack.url}/oidc/login/")
        approve(stack, page)
        assert visit(where)[0].startswith("http://localhost:")
        output, _ = signing.communicate(timeout=60)
        assert signing.returncode == 0, output
    check(stack, home)


def test_a_person_types_the_code_that_the_page_shows(stack, home):
    with sigstore(stack, home, "sign", "--oauth-force-oob", "--bundle", "signature", "file") as signing:
        assert signing.stdout
        shown = ""
        while not (url := re.search(r"(http://\S+/authorize\S+)\s", shown)):
            line = signing.stdout.readline()
            assert line, shown
            shown += line
        where, page = visit(url[1])
        approve(stack, page)
        code = re.search(r"<code>([A-Za-z0-9_-]{43})</code>", visit(where)[1])
        assert code
        output, _ = signing.communicate(f"{code[1]}\n", timeout=60)
        assert signing.returncode == 0, output
    check(stack, home)
