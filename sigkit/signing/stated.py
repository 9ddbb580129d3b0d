"""The times that services state, judged as they answer: a service whose clock is wrong has failed, while another can still be asked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from sigkit.data import Data
from sigkit.errors import OutsideCertificate
from sigkit.text import format_time
from sigkit.trust.root import Window
from sigkit.verify.windows import check_future, show_window

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sigkit.clock import Clock
    from sigkit.errors import Place
    from sigkit.verify.facts import TimeFact

# A service's clock may be a little ahead of ours; verifiers come later. Beyond it the refusal names both times.
AHEAD: Final = timedelta(seconds=60)


class Lifetime(Data):
    """When what signs is good, and by when services that state a time must have answered; None for as long as patience lasts."""

    valid: Window
    good_until: datetime | None = None


ENDLESS: Final = Lifetime(Window(None, None))  # a key's


class StatedTimes(NamedTuple):
    """Judges the times that services state for what lives that long, by this machine's clock."""

    lifetime: Lifetime
    clock: Clock

    def check(self, times: Iterable[TimeFact], place: Place) -> None:
        """Prove that what was signed just now can be valid at each stated time.

        Raises:
            TimeInFuture: (TIME) one is further ahead of this machine's clock than clocks differ.
            OutsideCertificate: (TIME) the certificate is not valid at one of them.
        """
        now = self.clock.now()
        for time in times:
            check_future((time,), now + AHEAD, place)
            if not self.lifetime.valid.holds(time.when):
                raise OutsideCertificate(
                    "the service states a time at which the certificate is not valid",
                    place=place,
                    expected=show_window(self.lifetime.valid),
                    got=f"{format_time(time.when)} by {time.authority}; {format_time(now)} by this machine's clock",
                )
