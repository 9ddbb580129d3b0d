"""Logs on loopback that tests can change: a real one, and one that answers what it is told to."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from sigkit.errors import Place
from sigkit.keys.private import generate
from sigkit.limits import BodyLimits
from sigkit.services.app import Mount
from sigkit.services.exchange import Answer, Body, Parts, Request, Slice, whole_answer
from sigkit.services.log.rekor import RekorV2
from sigkit.services.log.store import TileLog
from sigkit.services.serve import running
from sigkit.tlog.known import KnownLog
from sigkit.tlog.note import ED25519_TYPE
from sigkit.tlog.proof import prove_consistency
from sigkit.tlog.tile import TileNodes
from tests.simulators.note_keys import encode_note_key
from tests.simulators.sigstore_logs import Clock, LogV1, root_hash, spki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sigkit.tlog.tile import Tile

ORIGIN = "127.0.0.1"
KEY = generate("ed25519")
LOG_KEY = encode_note_key(ORIGIN, ED25519_TYPE, KEY.public)
_LIMITS = BodyLimits(1 << 20)


class Now:
    """A clock that stands."""

    def now(self) -> Any:
        return Clock().now


class Between:
    """A core in front of another: `change` may alter an answer, by the path; `asked` are the paths."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.change: dict[str, Callable[[Answer], Answer]] = {}
        self.asked: list[str] = []

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request.path)
        answer: Answer = await self.core.answer(request)
        for part, change in self.change.items():
            if part in request.path:
                answer = change(answer)
        return answer

    def altered(self, part: str, alter: Callable[[bytes], bytes]) -> None:
        """Alter the body of answers whose path has `part` in it."""

        def change(answer: Answer) -> Answer:
            kept = tuple(header for header in answer.headers if header[0] != "Content-Length")
            return whole_answer(answer.status, alter(built(answer.body)), kept)

        self.change[part] = change

    def absent(self, part: str) -> None:
        """Answer 404 where the path has `part` in it."""

        def change(answer: Answer) -> Answer:
            built(answer.body)  # whose file is closed by that
            return whole_answer(404, b"", ())

        self.change[part] = change


@contextlib.contextmanager
def serving(core: Any) -> Iterator[str]:
    """Serve a core at the root, and give its URL."""
    with running([Mount("", core, _LIMITS)], "127.0.0.1:0") as address:
        yield f"http://{address}"


@contextlib.contextmanager
def tile_log(root: Path, leaves: list[bytes], **options: Any) -> Iterator[tuple[TileLog, Between, str, KnownLog]]:
    """Make a log of these leaves after its own first, and serve it."""
    TileLog.create(root, ORIGIN, KEY, Now())
    with TileLog.open(root, KEY, **options) as log:
        if leaves:
            log.append_many(leaves)
        front = Between(RekorV2(log))
        with serving(front) as url:
            yield log, front, url, KnownLog(KEY.public, log.log_id, ORIGIN)


class RekorV1:
    """The first generation's API over the simulator's log; attributes of the log are there to be changed."""

    def __init__(self) -> None:
        self.log = LogV1(Clock(), "127.0.0.1")
        self.bodies: list[bytes] = []
        self.found: list[str] = []

    @property
    def known(self) -> KnownLog:
        from sigkit.errors import Place
        from sigkit.keys.public import parse_public_key

        return KnownLog(parse_public_key(spki(self.log.key), Place("key")), self.log.log_id, None)

    def add(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Log a body, and return UUID and entry as the API has them."""
        import base64
        import hashlib

        entry = self.log.add(body)
        inclusion = entry["inclusionProof"]
        uuid = hashlib.sha256(b"\x00" + base64.b64decode(entry["canonicalizedBody"])).hexdigest()
        return uuid, {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logID": self.log.log_id.hex(),
            "logIndex": int(entry["logIndex"]),
            "verification": {
                "inclusionProof": {
                    "checkpoint": inclusion["checkpoint"]["envelope"],
                    "hashes": [base64.b64decode(item).hex() for item in inclusion["hashes"]],
                    "logIndex": int(inclusion["logIndex"]),
                    "rootHash": base64.b64decode(inclusion["rootHash"]).hex(),
                    "treeSize": int(inclusion["treeSize"]),
                },
                "signedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            },
        }

    entries: dict[str, dict[str, Any]]

    async def answer(self, request: Request) -> Answer:
        if request.path == "/api/v1/log":
            leaves = self.log.leaves
            return _json(
                {"rootHash": root_hash(leaves).hex(), "signedTreeHead": self.log.note(leaves), "treeID": "4711", "treeSize": len(leaves)}
            )
        if request.path.startswith("/api/v1/log/entries"):
            asked = request.query.get("logIndex")
            for uuid, entry in self.entries.items():
                if request.path.endswith(uuid) or str(entry["logIndex"]) == asked:
                    return _json({uuid: entry})
        if request.path == "/api/v1/log/proof":
            old, new = int(request.query["firstSize"]), int(request.query["lastSize"])
            return _json(
                {"hashes": [item.hex() for item in growth(old, self.log.leaves[:new])], "rootHash": root_hash(self.log.leaves[:new]).hex()}
            )
        if request.path == "/api/v1/index/retrieve":
            return _json(self.found)
        return whole_answer(404, b"", ())


def growth(old: int, leaves: list[bytes]) -> list[bytes]:
    """Return RFC 6962's PROOF."""

    def subproof(old: int, leaves: list[bytes], *, known: bool) -> list[bytes]:
        if old == len(leaves):
            return [] if known else [root_hash(leaves)]
        split = 1 << (len(leaves) - 1).bit_length() - 1
        if old <= split:
            return [*subproof(old, leaves[:split], known=known), root_hash(leaves[split:])]
        return [*subproof(old - split, leaves[split:], known=False), root_hash(leaves[:split])]

    return subproof(old, leaves, known=True)


def _json(value: Any) -> Answer:
    return whole_answer(200, json.dumps(value).encode(), (("Content-Type", "application/json"),))


def read_file(log: TileLog, path: str) -> bytes | None:
    """Return a static file of a log as its readers get it."""
    body = log.find_file(path)
    return None if body is None else built(body)


def built(body: Body) -> bytes:
    """Return a body as it arrives."""
    if isinstance(body, Parts):
        return b"".join(body.parts)
    if isinstance(body, Slice):
        with body.file:
            return os.pread(body.file.fileno(), body.length, body.offset)
    return body


def growth_by_tiles(log: TileLog, old: int, new: int) -> tuple[bytes, ...]:
    """Return the proof of growth that anybody makes of the static files of a log."""

    def read(tile: Tile) -> bytes:
        found = read_file(log, tile.path)
        assert found is not None
        return found

    return prove_consistency(old, new, TileNodes(new, read, Place("tiles")))
