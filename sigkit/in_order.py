"""Doing many things a few at a time, and having each result in its turn."""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S: Final = 0.1  # how often it is looked what has been finished out of turn


class _Task(Generic[T, R]):
    """One item, and what became of it once `done` is set."""

    def __init__(self, item: T) -> None:
        self._item = item
        self.done = threading.Event()
        self._made: list[R] = []
        self._error: BaseException | None = None

    def run(self, work: Callable[[T], R]) -> None:
        try:
            self._made.append(work(self._item))
        except BaseException as err:  # noqa: BLE001 - raised again where the result is taken
            self._error = err
        finally:
            self.done.set()

    def take(self) -> R:
        if self._error is not None:
            raise self._error
        return self._made[0]


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
    todo: SimpleQueue[_Task[T, R] | None] = SimpleQueue()
    stopped = threading.Event()

    def serve() -> None:
        while (task := todo.get()) and not stopped.is_set():
            task.run(work)

    # Daemons: those of concurrent.futures keep the process, and a ThreadPool of multiprocessing writes a file (CPython 3.14).
    threads = _start([threading.Thread(target=serve, daemon=True, name="sigkit-work") for _ in range(min(at_a_time, len(items)))])
    if not threads:
        for number, item in enumerate(items, 1):
            result = work(item)
            progress(number)
            yield result
        return
    waiting: deque[_Task[T, R]] = deque()
    try:
        for number in range(len(items)):
            for item in items[number + len(waiting) : number + ahead]:
                waiting.append(_Task(item))
                todo.put(waiting[-1])
            first = waiting.popleft()
            while not first.done.wait(_LOOK_S):
                progress(number + sum(other.done.is_set() for other in waiting))
            progress(number + 1 + sum(other.done.is_set() for other in waiting))
            yield first.take()
    finally:
        stopped.set()
        for _ in threads:
            todo.put(None)


def _start(threads: Sequence[threading.Thread]) -> Sequence[threading.Thread]:
    """Start threads, and return those that run: where processes are limited, as in a CI job's container, they may be fewer, or none."""
    for number, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError:
            return threads[:number]
    return threads
