"""What a server of the outside, of the private network and of this machine may point to.

Public and private addresses exist only in a network namespace of the test's own, on its loopback device; no packet leaves it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

PUBLIC, PRIVATE, LOOPBACK = "8.8.4.4", "10.99.0.1", "127.0.0.1"

# Runs in the namespace: gives the loopback device three addresses, serves on each, and follows the redirects in argv.
_STORY = r"""
import fcntl, socket, struct, sys
sys.path.insert(0, sys.argv[1])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    for label, address in ((b"lo:1", "8.8.4.4"), (b"lo:2", "10.99.0.1")):
        request = struct.pack("16sH2s4s8s", label, socket.AF_INET, b"", socket.inet_aton(address), b"")
        fcntl.ioctl(control, 0x8916, request)  # SIOCSIFADDR
    fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 1 | 64))  # SIOCSIFFLAGS: up, running
from sigkit.errors import AddressRefused
from sigkit.net.address import Deadline
from sigkit.net.session import Call, NetOptions, Redirects, Session
from sigkit.net.url import parse_url
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
hosts = sys.argv[2:]
servers = [MisbehavingServer(lambda _: Reply(200, (), b"there"), host=host) for host in hosts]
for server, following in zip(servers, servers[1:]):
    server.on("GET", "*").redirect(following.url + "/")
for server in servers:
    server.__enter__()
try:
    with Session(NetOptions(plain_http_hosts=frozenset(hosts))) as session:
        call = Call("GET", parse_url(servers[0].url + "/"), Deadline(5), redirects=Redirects.FOLLOW)
        with session.send(call) as reply:
            print(reply.read_all(10).decode())
except AddressRefused:
    print("refused", len(servers[-1].log))
finally:
    for server in servers:
        server.__exit__()
"""


@pytest.fixture
def follow():
    """Start at the first host, be redirected from each to the next, and return how it ended."""
    unshare = shutil.which("unshare")
    if not unshare:
        pytest.skip("needs unshare (util-linux)")
    inside = [unshare, "--map-root-user", "--net"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine gives no network namespace")

    def run(*hosts):
        command = [*inside, sys.executable, "-c", _STORY, str(CHECKOUT), *hosts]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.mark.parametrize(
    "hosts",
    [
        (PUBLIC, PRIVATE),
        (PUBLIC, LOOPBACK),
        (PRIVATE, LOOPBACK),
        (PRIVATE, PUBLIC, PRIVATE[:-1] + "1", LOOPBACK),
        (LOOPBACK, PUBLIC, LOOPBACK[:-1] + "2"),
    ],
    ids="-".join,
)
def test_no_server_points_to_what_is_nearer_than_itself(follow, hosts):
    assert follow(*hosts) == "refused 0"


@pytest.mark.parametrize(
    "hosts",
    [
        (PUBLIC,),
        (PRIVATE,),
        (PUBLIC, PUBLIC),
        (PRIVATE, PRIVATE),
        (PRIVATE, PUBLIC),
        (PRIVATE, PUBLIC, PRIVATE),
        (LOOPBACK, PRIVATE),
        (LOOPBACK, LOOPBACK),
    ],
    ids="-".join,
)
def test_what_is_as_public_as_the_server_or_more_is_followed(follow, hosts):
    assert follow(*hosts) == "there"
