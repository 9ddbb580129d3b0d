"""What answers hold that nobody reads is bounded, and who gives way is who reads too slowly."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from sigkit import limits
from sigkit.limits import BodyLimits
from sigkit.services.app import App, Mount
from sigkit.services.exchange import Answer, Body, Parts, Request, whole_answer
from sigkit.services.leaving import Departures


class Client:
    """A client that is so far behind."""

    def __init__(self, behind: float) -> None:
        self.behind = behind
        self.is_ended = False

    def behind_bytes(self) -> float:
        return self.behind

    def abort(self) -> None:
        self.is_ended = True


@contextlib.contextmanager
def holding(*behind):
    """Give room for an answer to each of clients that are so far behind, which are there, and the clients."""
    departures, clients = Departures(100 * len(behind)), [Client(bytes_behind) for bytes_behind in behind]
    with contextlib.ExitStack() as held:
        for client in clients:
            assert held.enter_context(departures.holding(100, client))
        yield departures, clients


def ended(clients):
    return [client.behind for client in clients if client.is_ended]


@pytest.mark.attack("large answers that nobody reads")
def test_who_is_furthest_behind_gives_way_and_no_more_than_are_needed():
    with holding(2, 3, 0, 1) as (departures, clients), departures.holding(100, Client(0)) as has_room:
        assert (has_room, ended(clients)) == (True, [3])
        with departures.holding(101, Client(0)) as has_more:
            assert (has_more, ended(clients)) == (True, [2, 3, 1])


@pytest.mark.attack("large answers that nobody reads")
@pytest.mark.parametrize(("behind", "size"), [((0, 0), 1), ((5, 0), 101), ((5, 5), 201)])
def test_nobody_gives_way_where_that_makes_too_little_room(behind, size):
    with holding(*behind) as (departures, clients), departures.holding(size, Client(0)) as has_room:
        assert (has_room, ended(clients)) == (False, [])
    with departures.holding(200, Client(0)) as alone:
        assert alone


class Large:
    """Answers more than is sent at once."""

    def __init__(self, body: Body = b"x" * 100_000) -> None:
        self._body = body

    async def answer(self, request: Request) -> Answer:
        del request
        return whole_answer(200, self._body, ())


@pytest.mark.attack("large answers that nobody reads")
@pytest.mark.parametrize("body", [b"x" * 100_000, Parts((b"x",) * 100_000, 100_000)], ids=["whole", "parts"])
def test_an_answer_counts_until_it_is_read_also_when_all_of_it_is_sent(monkeypatch, body):
    monkeypatch.setattr(limits, "HTTP_UNSENT_BYTES", 300_000)  # room for one, and for what of it is sent
    app = App([Mount("", Large(body), BodyLimits(0))])
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    asked = {"type": "http.request", "body": b"", "more_body": False}

    async def ask(is_read):
        """Ask, and return what was sent; as with a server, nothing more is taken before what was sent is read."""
        sent: list[dict[str, Any]] = []
        came = [asked]

        async def receive():
            return came.pop() if came else await asyncio.Event().wait()

        async def send(message):
            if message["type"] == "http.response.body" and len(sent) > 1:
                await is_read.wait()
            sent.append(message)

        await app(scope, receive, send)
        return sent

    async def act():
        first_read, at_once = asyncio.Event(), asyncio.Event()
        at_once.set()
        first = asyncio.create_task(ask(first_read))
        for _ in range(10):  # until it waits for its client
            await asyncio.sleep(0)
        while_unread = await ask(at_once)
        first_read.set()
        return while_unread, await first, await ask(at_once)

    while_unread, first, later = asyncio.run(act())
    assert [sent[0]["status"] for sent in (while_unread, first, later)] == [503, 200, 200]
    assert b"".join(message.get("body", b"") for message in first) == b"x" * 100_000


def test_an_answer_is_sent_whole_to_a_client_that_goes_on_sending():
    app = App([Mount("", Large(b"x" * (3 << 20)), BodyLimits(0, drain_bytes=1))])
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    sent: list[dict[str, Any]] = []
    came = [{"type": "http.request", "body": b"x", "more_body": True}] * 5

    async def receive():
        return came.pop() if came else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)
        await asyncio.sleep(0)

    asyncio.run(app(scope, receive, send))
    assert (b"Connection", b"close") in sent[0]["headers"]
    assert sum(len(message.get("body", b"")) for message in sent) == 3 << 20
    assert not sent[-1].get("more_body", False)
