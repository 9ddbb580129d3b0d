"""Trust roots of keys."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sigkit.errors import DuplicateTrustedKey
from sigkit.keys.private import generate
from sigkit.trust.root import TrustedKey, Window, root_of_keys

ONE, TWO = (generate("ed25519").public for _ in range(2))


def test_the_digest_is_of_the_keys_and_not_of_names_or_order():
    first = root_of_keys([TrustedKey("a", ONE), TrustedKey("b", TWO)], "flags")
    second = root_of_keys([TrustedKey("x", TWO), TrustedKey("y", ONE)], "policy")
    assert first.digest == second.digest
    assert root_of_keys([TrustedKey("a", ONE)], "flags").digest != first.digest
    assert root_of_keys([], "flags").digest != first.digest


def test_the_digest_covers_when_a_key_is_trusted():
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    windows = (None, Window(None, None), Window(start, None), Window(None, start), Window(start, end), Window(end, None))
    assert len({root_of_keys([TrustedKey("a", ONE, window)], "flags").digest for window in windows}) == len(windows)


@pytest.mark.parametrize("name", ["a", "b"])
def test_one_key_twice_is_refused_whatever_it_is_called(name):
    with pytest.raises(DuplicateTrustedKey) as caught:
        root_of_keys([TrustedKey("a", ONE), TrustedKey(name, ONE)], "flags")
    assert caught.value.status() == 2
