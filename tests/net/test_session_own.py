"""Addresses that the calling code itself holds: allowed whatever the rule says, and no others."""

from __future__ import annotations

import pytest

from sigkit.errors import AddressRefused
from sigkit.net.address import Deadline, Nearness
from sigkit.net.session import Call, Lane, NetOptions, Session
from sigkit.net.url import parse_url
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply


def status(url: str, lane: Lane, *own: str) -> int:
    """Ask a server as one that a public server has named: loopback is too near."""
    with Session(NetOptions(own_addresses=frozenset(own))) as session:
        call = Call("GET", parse_url(url), Deadline(20), named_by=Nearness.PUBLIC, lane=lane)
        with session.send(call) as reply:
            reply.read()
            return reply.status


@pytest.mark.parametrize("lane", list(Lane))
def test_an_address_of_ones_own_is_allowed_and_no_other(lane):
    with MisbehavingServer(lambda _: Reply()) as server:
        assert status(server.url, lane, "127.0.0.1") == 200
        for own in ((), ("127.0.0.2",), ("169.254.169.254",), ("127.0.0.1.",)):
            with pytest.raises(AddressRefused):
                status(server.url, lane, *own)
        assert len(server.log) == 1
