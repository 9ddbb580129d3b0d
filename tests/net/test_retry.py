"""How long is waited before a request is sent again."""

from __future__ import annotations

import pytest

from sigkit.net import retry
from sigkit.net.hop import Headers


@pytest.mark.parametrize("asked", ["0", "00"])
def test_a_server_that_asks_for_no_wait_is_not_asked_in_a_loop(asked):
    for attempt in range(retry.ATTEMPTS):
        waited_s = retry.wait_s(attempt, Headers((("Retry-After", asked),)))
        assert waited_s >= retry.FIRST_WAIT_S * 2**attempt / 2
