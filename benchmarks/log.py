"""The log of the stack: durable appends through its HTTP server, and what a million entries cost.

32 and 512 clients, in turns with Rekor's own POSIX server, which .ci/go-peers builds; then a million entries: disk, opening, proofs.

A sync of the same disk is timed in the same run: latencies are told as multiples of it. Requests are signed before the clock starts, and
one process with raw sockets sends them all, so that what is measured is the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sigkit.clock import SystemClock
from sigkit.digest import Digest
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate, parse_private_key
from sigkit.limits import BodyLimits
from sigkit.services.app import Mount
from sigkit.services.log.hashedrekord import terms_of
from sigkit.services.log.rekor import RekorV2
from sigkit.services.log.store import TileLog
from sigkit.services.serve import running
from sigkit.strict import encode_base64, encode_json
from tests.simulators import go_peers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.strict import Json

SECONDS = 10.0
ORIGIN = "127.0.0.1"


def serve(root: str) -> None:
    """Serve the log in `root` until standard input ends."""
    from sigkit.errors import Place

    key = parse_private_key((Path(root).parent / "key.der").read_bytes(), Place("key"))
    with (
        TileLog.open(root, key, terms=terms_of) as log,
        running([Mount("/api/v2", RekorV2(log), BodyLimits(1 << 20))], "127.0.0.1:0") as address,
    ):
        print(f"http://{address}", flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def served(home: Path) -> Iterator[tuple[str, int]]:
    """Make a log and serve it in a process of its own."""
    key = generate("ed25519")
    (home / "key.der").write_bytes(key.pkcs8())
    TileLog.create(home / "log", ORIGIN, key, SystemClock())
    command = [sys.executable, "-m", "benchmarks.log", str(home / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes")
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close()


def signed_requests(count: int) -> list[bytes]:
    """Return as many different requests for hashedrekord entries."""
    key = generate("ecdsa-p256")
    spki = encode_base64(key.public.spki)
    found = []
    for number in range(count):
        message = b"%d %d" % (time.time_ns(), number)
        verifier: Json = {"publicKey": {"rawBytes": spki}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
        record: Json = {
            "digest": encode_base64(Digest.of(message).value),
            "signature": {"content": encode_base64(key.sign(message)), "verifier": verifier},
        }
        found.append(encode_json({"hashedRekordRequestV002": record}))
    return found


def sync_ms(home: Path) -> float:
    """Return the median of 200 appends of 16 KiB, each synced."""
    block = os.urandom(16 << 10)
    taken = []
    with open(home / "sync", "wb", buffering=0) as file:
        for _ in range(200):
            start = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


async def client(host: str, port: int, bodies: list[bytes], taken: list[float], until: float) -> None:
    """Send requests one after the other over one connection."""
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /api/v2/log/entries HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    while bodies and time.perf_counter() < until:
        body = bodies.pop()
        start = time.perf_counter()
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        lower = answer.lower()
        await reader.readexactly(int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        if not answer.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(answer.decode())
        taken.append(time.perf_counter() - start)
    writer.close()


async def load(url: str, clients: int, bodies: list[bytes]) -> tuple[float, list[float]]:
    """Return appends a second and the latencies."""
    where = urlsplit(url)
    taken: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(*(client(where.hostname or "", where.port or 80, bodies, taken, start + SECONDS) for _ in range(clients)))
    return len(taken) / (time.perf_counter() - start), sorted(taken)


def processor_ms(pid: int) -> float:
    """Return the processor time that a process has used."""
    ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) * 1000 / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served_by_rekor(program: Path, home: Path) -> Iterator[tuple[str, int]]:
    """Serve the real Rekor over a directory."""
    (home / "rekor.pem").write_bytes(encode_pem("PRIVATE KEY", generate("ed25519").pkcs8()))
    (home / "rekor").mkdir()
    ports = [free_port() for _ in range(3)]
    named = dict(zip(("--http-port", "--grpc-port", "--http-metrics-port"), map(str, ports), strict=True))
    named |= {"--http-address": "127.0.0.1", "--hostname": ORIGIN, "--storage-dir": str(home / "rekor")}
    named |= {"--signer-filepath": str(home / "rekor.pem"), "--checkpoint-interval": "1s"}
    command = [str(program), "serve", *(word for pair in named.items() for word in pair)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not listens(ports[0]):
            time.sleep(0.05)
        yield f"http://127.0.0.1:{ports[0]}", process.pid
        process.terminate()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Tell whether something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def race(name: str, server: tuple[str, int], clients: int, home: Path) -> str:
    """Measure a server with so many clients, and return its row."""
    import uvloop

    url, pid = server
    bodies = signed_requests(40_000)
    before = sync_ms(home)
    used = processor_ms(pid)
    rate, taken = uvloop.run(load(url, clients, bodies))
    used = processor_ms(pid) - used
    sync = statistics.mean((before, sync_ms(home)))
    middle, late = (taken[int(len(taken) * part)] * 1000 for part in (0.5, 0.99))
    return f"| {name} | {clients} | {rate:.0f} | {middle:.1f} | {late:.1f} | {late / sync:.0f} of {sync:.2f} ms | {used / len(taken):.2f} |"


def fill(count: int, home: Path) -> str:
    """Fill a log through the code that integrates every entry, and tell disk, opening and proofs."""
    key = generate("ed25519")
    TileLog.create(home / "log", ORIGIN, key, SystemClock())
    start = time.perf_counter()
    with TileLog.open(home / "log", key, terms=terms_of, filed_at=16_384) as log:
        for _ in range(0, count, 4_096):
            log.append_many(_leaves(4_096))
    filled = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (home / "log").rglob("*") if path.is_file())
    start = time.perf_counter()
    with TileLog.open(home / "log", key, terms=terms_of) as log:
        opened = time.perf_counter() - start
        total = log.head().size
        taken = []
        for number in range(1_000):
            start = time.perf_counter()
            log.prove(number * 7_919 % total, total)
            taken.append(time.perf_counter() - start)
    taken.sort()
    return (
        f"{total:,} entries, filled in {filled:.0f} s: {size / 2**20:.0f} MiB on disk, opened in {opened:.2f} s,"
        f" proof {statistics.median(taken) * 1000:.2f} ms (median), {taken[990] * 1000:.2f} ms (p99)."
    )


def _leaves(count: int) -> list[bytes]:
    """Return leaves as a signature by a key makes them; that it is valid is not the log's affair here."""
    from sigkit.tlog.entry_v2 import KeyVerifier, encode_hashedrekord

    spki = _SPKI
    return [
        encode_hashedrekord(Digest.of(os.urandom(16)), os.urandom(71), KeyVerifier(spki), "PKIX_ECDSA_P256_SHA_256") for _ in range(count)
    ]


_SPKI = generate("ecdsa-p256").public.spki


TITLE = """### The log of the stack: durable appends over HTTP

Goal: ≥ 1,500 a second with 32 clients, p99 under 100 ms; a million entries under 1 GB, opened in under 1 s, a proof in under 5 ms.
Rekor's own server looks once a second for what was integrated, so only 512 clients are a fair race.

| server | clients | appends/s | median ms | p99 ms | p99 in syncs of 16 KiB | CPU ms each |
|---|---|---|---|---|---|---|
"""


def measure(entries: int = 1_000_000) -> str:
    """Race both servers and fill a log; return the section."""
    program = go_peers.find("rekor-posix")
    if program is None:
        raise FileNotFoundError("Rekor's POSIX server is not there: .ci/go-peers rekor-posix")
    with tempfile.TemporaryDirectory(prefix="sigkit-bench-", dir="/var/tmp") as name:  # a disk, where /tmp may be memory
        home = Path(name)
        with served(home) as ours, served_by_rekor(program, home) as theirs:
            rows = [race(name, server, clients, home) for clients in (32, 512) for name, server in (("sigkit", ours), ("rekor", theirs))]
    with tempfile.TemporaryDirectory(prefix="sigkit-bench-", dir="/var/tmp") as name:
        filled = fill(entries, Path(name))
    return TITLE + "\n".join(rows) + f"\n\n{filled}\n"


if __name__ == "__main__":
    serve(sys.argv[1])
