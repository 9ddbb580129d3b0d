"""Turns: who asks for much waits for itself, and nobody for ever."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from sigkit.services.exchange import Refused
from sigkit.services.turns import Turns


class Crowd:
    """Clients that take turns, one after the other as they are let on."""

    def __init__(self, wait_s: float = 3_600) -> None:
        self.turns = Turns(wait_s)
        self.done: list[str] = []

    async def work(self, peer: str, name: str) -> None:
        async with self.turns.turn(peer):
            await asyncio.sleep(0)
            self.done.append(name)

    async def hold(self, *asked: tuple[str, str]) -> list[asyncio.Task[None]]:
        """Let all ask while the turn is held, and return their tasks once they wait."""
        async with self.turns.turn("holder"):
            tasks = [asyncio.create_task(self.work(*each)) for each in asked]
            await asyncio.sleep(0)
        return tasks


@pytest.mark.attack("lists of one client")
def test_clients_take_turns_however_many_one_asks_for():
    crowd = Crowd()

    async def act() -> None:
        asked = [("192.0.2.1", f"a{number}") for number in range(4)] + [("192.0.2.2", "b0"), ("192.0.2.3", "c0"), ("192.0.2.2", "b1")]
        await asyncio.gather(*await crowd.hold(*asked))

    asyncio.run(act())
    assert crowd.done == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


@pytest.mark.attack("lists of one client")
def test_a_network_of_ipv6_is_one_client():
    crowd = Crowd()

    async def act() -> None:
        asked = [("2001:db8::1", "a0"), ("2001:db8:0:ffff::2", "a1"), ("2001:db8:0:1::3", "a2"), ("2001:db8:1::1", "b0")]
        await asyncio.gather(*await crowd.hold(*asked))

    asyncio.run(act())
    assert crowd.done == ["a0", "b0", "a1", "a2"]


def test_who_has_waited_long_enough_is_told_to_come_again_and_hinders_nobody():
    crowd = Crowd(wait_s=0)

    async def act() -> Refused:
        async with crowd.turns.turn("holder"):
            with pytest.raises(Refused) as caught:
                await crowd.work("192.0.2.1", "too long")
        await crowd.work("192.0.2.2", "next")
        return caught.value

    told = asyncio.run(act())
    assert (told.status, dict(told.headers)) == (503, {"Retry-After": "1"})
    assert crowd.done == ["next"]


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_turn_that_is_given_up_at_any_moment_goes_to_the_next(turns):
    crowd = Crowd()

    async def act() -> None:
        first, second = await crowd.hold(("192.0.2.1", "first"), ("192.0.2.2", "second"))
        for _ in range(turns):  # it waits, it is let on, it works
            await asyncio.sleep(0)
        first.cancel()
        async with asyncio.timeout(10):
            with contextlib.suppress(asyncio.CancelledError):
                await first
            await second
            await crowd.work("192.0.2.3", "third")

    asyncio.run(act())
    assert crowd.done[-2:] == ["second", "third"]
