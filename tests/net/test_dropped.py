"""A connection that is kept for the next request, and that the server has ended in between."""

from __future__ import annotations

import time

import pytest

from sigkit.net.address import Deadline
from sigkit.net.session import Call, Lane, Session
from sigkit.net.url import parse_url
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply


@pytest.mark.parametrize("lane", list(Lane))
def test_a_request_that_may_not_be_sent_twice_is_not_sent_on_a_connection_that_has_ended(lane):
    with MisbehavingServer(lambda _: Reply(200, (), b"there")) as server, Session() as session:
        server.on("POST", "/", nth=1).cut_after(5)  # the whole body, and no word of the end
        call = Call("POST", parse_url(f"{server.url}/"), Deadline(20), body=b"x", lane=lane, attempts=1)
        for _ in range(2):
            while server.open_connections():
                time.sleep(0.01)
            with session.send(call) as reply:
                assert reply.read_all(10) == b"there"
        assert (len(server.log), server.connections) == (2, 2)
