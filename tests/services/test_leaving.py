"""What answers hold that nobody reads is bounded, and who gives way is who reads nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

import pytest

from sigkit import limits
from sigkit.limits import BodyLimits
from sigkit.services.app import App, Mount
from sigkit.services.exchange import Answer, Request, whole_answer
from sigkit.services.leaving import Departures


@contextlib.contextmanager
def three(safe_s):
    """Give room for three answers that are there, and a list of those that were ended."""
    departures = Departures(300, safe_s)
    ended: list[str] = []
    with contextlib.ExitStack() as held:
        answers = [held.enter_context(departures.holding(100, functools.partial(ended.append, name))) for name in "abc"]
        yield departures, answers, ended


@pytest.mark.attack("large answers that nobody reads")
def test_who_has_read_nothing_for_longest_gives_way_and_no_more_than_are_needed():
    with three(0.0) as (departures, (first, second, _), ended):
        departures.moved(first)
        with departures.holding(100, lambda: ended.append("d")) as fourth:
            assert fourth is not None
            assert ended == ["b"]
            departures.moved(second)  # is gone, and counts no more
            with departures.holding(200, lambda: None) as fifth:
                assert fifth is not None
                assert ended == ["b", "c", "a"]


@pytest.mark.attack("large answers that nobody reads")
def test_nobody_gives_way_before_he_had_time_to_read():
    with three(3_600.0) as (departures, _, ended):
        with departures.holding(1, lambda: None) as fourth:
            assert fourth is None
        assert ended == []
    with departures.holding(300, lambda: None) as alone:
        assert alone is not None


class Large:
    """Answers more than is sent at once."""

    async def answer(self, request: Request) -> Answer:
        del request
        return whole_answer(200, b"x" * 100_000, ())


@pytest.mark.attack("large answers that nobody reads")
def test_an_answer_counts_until_it_is_read_also_when_all_of_it_is_sent(monkeypatch):
    monkeypatch.setattr(limits, "HTTP_UNSENT_BYTES", 300_000)
    monkeypatch.setattr(limits, "HTTP_UNSENT_SAFE_S", 3_600.0)
    app = App([Mount("", Large(), BodyLimits(0))])
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
