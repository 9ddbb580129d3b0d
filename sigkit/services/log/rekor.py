"""Rekor's second generation over a `TileLog`: entries in, proofs and static files out.

Requests that come while a batch is being synced make up the next one, so a sync is shared by as many as are waiting, and nobody waits for a
timer. The answer has proof and checkpoint already, and a duplicate is answered with its first entry.

Beside the real one's paths there is `POST /api/v2/index/retrieve`, which has the form of the first generation's search.

Bytes are standard base64 with its padding, and keys' details are names: what protobuf's JSON takes beside that no client sends.

Source: sigstore/rekor-tiles api/proto/rekor_service.proto, internal/server, CLIENTS.md; C2SP tlog-tiles.md.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from sigkit import strict
from sigkit.digest import parse_digest
from sigkit.errors import Bug, Place, SigkitError
from sigkit.keys.public import parse_public_key
from sigkit.services.exchange import FOREVER, FRESH, Answer, Request, json_answer, whole_answer
from sigkit.services.gateway import NOT_FOUND, UNAVAILABLE, GatewayError, failed, gateway_answer, invalid, read_body, route
from sigkit.services.log.hashedrekord import HASH, IDENTITY, KEY, Signed, parse_request
from sigkit.services.log.index import term_of
from sigkit.tlog.entry_v2 import KIND
from sigkit.tlog.tile import ENTRY_BYTES, parse_tile_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from sigkit.services.log.batch import Appended, Filing
    from sigkit.services.log.store import TileLog
    from sigkit.strict import Cursor, Json

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

PREFIX: Final = "/api/v2"
_MOST_BODY_BYTES: Final = 96 << 10  # theirs takes 4 MiB; a leaf, which has the same in it, has at most 64 KiB. As many may come at once
_MOST_WAITING: Final = 4_096  # theirs pushes back at as many
_MOST_BATCH: Final = 512
_MOST_FOUND: Final = 1_000
_PLACE: Final = Place("request")
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_JSON: Final = (("Content-Type", "application/json"),)
_BYTES: Final = ("Content-Type", "application/octet-stream")


class RekorV2:
    """Answers requests, in one event loop."""

    def __init__(self, log: TileLog) -> None:
        """Serve `log`, which was opened with `hashedrekord.terms_of`."""
        self._log = log
        self._waiting: list[tuple[Signed, asyncio.Future[Appended]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._filing: tuple[Filing, asyncio.Future[bool]] | None = None
        self._handlers: dict[tuple[str, str], Callable[[Request], Awaitable[Answer]]] = {
            ("POST", f"{PREFIX}/log/entries"): self._add,
            ("POST", f"{PREFIX}/index/retrieve"): self._search,
            ("GET", f"{PREFIX}/checkpoint"): self._checkpoint,
            ("GET", "/healthz"): self._health,
            ("GET", f"{PREFIX}/healthz"): self._health,
        }

    async def answer(self, request: Request) -> Answer:
        """Answer a request; whatever is wrong with it is answered too."""
        path = request.path.removeprefix(f"{PREFIX}/")
        if path.startswith("tile/") and request.method in {"GET", "HEAD"}:
            return await self._tile(path)
        return await route(request, self._handlers)

    async def _add(self, request: Request) -> Answer:
        raw = await read_body(request, _MOST_BODY_BYTES)
        try:
            signed = parse_request(raw, _PLACE, _MOST_BODY_BYTES)
        except SigkitError as err:
            raise invalid(str(err)) from err
        if len(signed.leaf) > ENTRY_BYTES:  # here, where it is nobody else's batch
            raise invalid(f"the entry has more than {ENTRY_BYTES} bytes")
        return whole_answer(201, self._describe(signed.leaf, await self._append(signed)), _JSON)

    async def _append(self, signed: Signed) -> Appended:
        if len(self._waiting) >= _MOST_WAITING:
            raise GatewayError(503, UNAVAILABLE, "too many entries are waiting, try again")
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self._waiting.append((signed, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await future
        except SigkitError as err:
            raise failed(err) from err

    async def _work(self) -> None:
        """Append what is waiting, batch by batch, until nothing is."""
        batch: list[tuple[Signed, asyncio.Future[Appended]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST_BATCH], self._waiting[_MOST_BATCH:]
                try:
                    done = await self._append_all([signed for signed, _ in batch])
                except SigkitError as err:
                    _refuse(batch, err)
                    continue
                for (_, future), appended in zip(batch, done, strict=True):
                    if not future.done():  # else its client is gone
                        future.set_result(appended)
                await self._file()
        finally:
            self._worker = None
            # None of these is left but by a bug or at the end of the process: nobody is to wait for an answer that will not come.
            _refuse((*batch, *self._waiting), Bug("the log's worker ended", place=_PLACE))
            self._waiting = []

    async def _file(self) -> None:
        """Take filing a step further, between two batches: its long part goes on beside the next ones."""
        if self._filing is None:
            begun = self._log.begin_filing()
            if begun is not None:
                self._filing = begun, self._in_thread(self._log.write_filing, begun)
        elif self._filing[1].done():
            (begun, written), self._filing = self._filing, None
            if written.result():
                await self._in_thread(self._log.end_filing, begun)

    async def _append_all(self, signed: Sequence[Signed]) -> tuple[Appended, ...]:
        # Only waiting for the disk is left to a thread: two threads that compute would hold up each other, and every request.
        leaves = [item.leaf for item in signed]
        filed = await self._in_thread(self._log.look_up, leaves)
        with self._log.batch(leaves, [item.terms for item in signed], filed) as batch:
            await self._in_thread(self._log.sync, batch)
            return self._log.finish(batch)

    def _in_thread(self, call: Callable[[_Argument], _Result], argument: _Argument) -> asyncio.Future[_Result]:
        return asyncio.get_running_loop().run_in_executor(self._log.threads, call, argument)

    def _describe(self, leaf: bytes, appended: Appended) -> bytes:
        """Write the answer for an entry. Only the checkpoint holds what needs an escape.

        Source: sigstore/protobuf-specs sigstore_rekor.proto, TransparencyLogEntry as protobuf's JSON.
        """
        hashes = ",".join([f'"{strict.encode_base64(item)}"' for item in appended.proof])
        return (
            f'{{"logIndex":"{appended.index}","logId":{{"keyId":"{strict.encode_base64(self._log.log_id)}"}},'
            f'"kindVersion":{{"kind":"{KIND[0]}","version":"{KIND[1]}"}},"integratedTime":"0","inclusionPromise":null,'
            f'"inclusionProof":{{"logIndex":"{appended.index}","rootHash":"{strict.encode_base64(appended.root)}",'
            f'"treeSize":"{appended.size}","hashes":[{hashes}],'
            f'"checkpoint":{{"envelope":{strict.encode_json(appended.checkpoint).decode("utf-8")}}}}},'
            f'"canonicalizedBody":"{strict.encode_base64(leaf)}"}}'
        ).encode()

    async def _search(self, request: Request) -> Answer:
        raw = await read_body(request, _MOST_BODY_BYTES)
        try:
            term, first = _parse_search(strict.parse_json(raw, most_bytes=_MOST_BODY_BYTES, place=_PLACE))
        except SigkitError as err:
            raise invalid(str(err)) from err
        try:
            found = await asyncio.to_thread(self._log.search, term, _MOST_FOUND + 1, first)
        except SigkitError as err:
            raise failed(err) from err
        listed: list[Json] = [str(index) for index in found[:_MOST_FOUND]]
        return json_answer(200, {"logIndexes": listed, "truncated": len(found) > _MOST_FOUND})

    async def _checkpoint(self, request: Request) -> Answer:
        del request
        return whole_answer(200, self._log.checkpoint().encode("utf-8"), (_TEXT, FRESH))

    async def _health(self, request: Request) -> Answer:
        del request
        return health_answer((self._log,))

    async def _tile(self, path: str) -> Answer:
        try:
            found = await asyncio.to_thread(self._log.find_file, path) if parse_tile_path(path) else None
        except SigkitError as err:
            return gateway_answer(failed(err))
        if found is None:
            return gateway_answer(GatewayError(404, NOT_FOUND, "Not Found"))
        return whole_answer(200, found, (_BYTES, FOREVER))


def health_answer(logs: Iterable[TileLog]) -> Answer:
    """Answer whether a process takes requests, as each of sigstore's services does: not when a log has to be opened anew."""
    if all(log.takes_entries for log in logs):
        return json_answer(200, {"status": "SERVING"})
    return json_answer(503, {"status": "NOT_SERVING"})


def _refuse(batch: Iterable[tuple[Signed, asyncio.Future[Appended]]], err: SigkitError) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(err)


def _parse_search(top: Cursor) -> tuple[bytes, int]:
    """Read what is searched, and from which index on: what is not named because there is so much is asked for by the next request.

    Source: sigstore/rekor openapi.yaml, SearchIndex: `hash`, `email` (any identity), `publicKey`; here one at a time, and `from`.
    """
    top.only(("hash", "email", "publicKey", "from"))
    first = top.find("from")
    if len(top.object()) != 1 + (first is not None):
        top.fail("not exactly one thing is searched", expected="hash, email or publicKey")
    return _term(top), first.integer(0, strict.INT64_MAX) if first is not None else 0


def _term(top: Cursor) -> bytes:
    if value := top.find("hash"):
        return term_of(HASH, str(parse_digest(value.text(), value.at())).encode())
    if value := top.find("email"):
        return term_of(IDENTITY, value.text().encode())
    value = top.member("publicKey").only(("format", "content"))
    return term_of(KEY, parse_public_key(value.member("content").base64(), value.at()).fingerprint.value)
