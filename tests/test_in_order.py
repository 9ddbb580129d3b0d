"""Results come in the order of the items, with as many threads as there may be."""

from __future__ import annotations

import threading

import pytest

from sigkit.in_order import results_in_order


@pytest.fixture(params=[0, 1, 3], ids=["none", "one", "three"])
def _few_threads(request, monkeypatch):
    """Let no more threads be started than a container's limit leaves."""
    left, start = [request.param], threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.mark.usefixtures("_few_threads")
def test_where_few_threads_can_be_started_the_work_is_done_all_the_same():
    told: list[int] = []
    assert list(results_in_order(lambda number: number * 2, range(20), 8, 4, told.append)) == [number * 2 for number in range(20)]
    assert told[-1] == 20


@pytest.mark.usefixtures("_few_threads")
def test_what_the_work_raises_comes_in_the_place_of_its_result():
    results = results_in_order(lambda number: 1 // (3 - number), range(6), 2, 2, lambda _: None)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
