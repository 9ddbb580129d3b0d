"""When to ask again, and how long to wait before.

Asked again: 429 and 503 whatever the method (nothing was done), other server errors and broken connections where sending the
request twice does the same as sending it once. The wait doubles, with chance in it so that twenty clients do not come back together;
Retry-After makes the wait longer, up to a cap, because a server must not be able to park a deployment; never shorter, because `0` would
make a loop without a pause.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sigkit.net.hop import Headers

ATTEMPTS: Final = 4
FIRST_WAIT_S: Final = 0.25
RETRY_AFTER_MOST_S: Final = 20.0

_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})


def worth_retrying(method: str, status: int) -> bool:
    """Tell whether an answer means "try again", not "no"."""
    return status in _AGAIN and (status in {429, 503} or method in _REPEATABLE)


def repeatable(method: str) -> bool:
    """Tell whether sending a request twice does the same as sending it once."""
    return method in _REPEATABLE


def wait_s(attempt: int, headers: Headers | None) -> float:
    """Return how long to wait after attempt number `attempt`, counted from 0."""
    longest = FIRST_WAIT_S * 2.0**attempt
    own = longest * (0.5 + random.random() / 2)  # noqa: S311 # spreads load, hides nothing
    asked = headers.find("retry-after") if headers else None
    if asked and asked.isascii() and asked.isdecimal() and len(asked) < 7:
        return max(own, min(float(asked), RETRY_AFTER_MOST_S))
    return own
