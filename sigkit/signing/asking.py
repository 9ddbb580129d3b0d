"""Which service failed, and how far signing had come by then: a stack has all of its services at one address, which tells neither."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sigkit.errors import RefError, RequestRefused, ServerFailed, SigkitError, TimedOut, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextmanager
def asking(who: str, so_far: str | Callable[[], str]) -> Iterator[None]:
    """Have a failure say of whom it is, and what was done until then.

    Args:
        who: is asked, as `the log at https://log.example`.
        so_far: what there is, and what there is not; asked for at the failure where that is not known before.
    """
    try:
        yield
    except SigkitError as err:
        if isinstance(err, (Unreachable, TimedOut, ServerFailed, RequestRefused)):  # others say what kind of service they are about
            err.problem = f"{who}: {err.problem}"
        if not isinstance(err, RefError):  # of a name that is wrong nobody thinks that more was done
            err.add_note(f"so far    {so_far if isinstance(so_far, str) else so_far()}")
        raise


@contextmanager
def after_publishing(public: Sequence[str], but: str) -> Iterator[None]:
    """Have a failure say what is public by then, if anything is, and that this is all there is.

    Args:
        public: sentences, as `Made.public`.
        but: what was not done.
    """
    try:
        yield
    except SigkitError as err:
        if public:
            err.add_note(f"so far    {'; '.join((*public, but))}")
        raise
