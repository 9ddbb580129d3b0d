"""Doing many things a few at a time, and having each result in its turn."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from multiprocessing.pool import AsyncResult

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S: Final = 0.1  # how often it is looked what has been finished out of turn


def results_in_order(
    work: Callable[[T], R], items: Sequence[T], at_a_time: int, ahead: int, progress: Callable[[int], None]
) -> Generator[R, None, None]:
    """Give what `work` makes of each item, in their order, each as soon as it and all before it are done.

    Whoever stops taking results (`close`) waits for nothing that was begun, and nor does the end of the process: what `work` does must
    leave nothing half-done behind.

    Args:
        work: called in several threads at once.
        items: what there is to do.
        at_a_time: so many are worked on at once.
        ahead: so many results at most are kept: no item is begun that lies further behind the one whose result is waited for.
        progress: told now and then, in the caller's thread, how many items are finished.

    Raises:
        Exception: whatever `work` raised, in the place of that item's result.
    """
    from multiprocessing.pool import ThreadPool  # of threads that are daemons; those of concurrent.futures keep the process

    waiting: deque[AsyncResult[R]] = deque()
    pool = ThreadPool(min(at_a_time, len(items)) or 1)
    try:
        for number in range(len(items)):
            for item in items[number + len(waiting) : number + ahead]:
                waiting.append(pool.apply_async(work, (item,)))
            first = waiting.popleft()
            while not first.ready():
                first.wait(_LOOK_S)
                progress(number + first.ready() + sum(other.ready() for other in waiting))
            yield first.get()
    finally:
        pool.terminate()
