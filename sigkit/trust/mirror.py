"""A TUF mirror over `sigkit.net`: one file at a time, within its limit, or the mirror's word that there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits
from sigkit.errors import Place, ServerFailed
from sigkit.net.address import Deadline
from sigkit.net.session import Call, Redirects
from sigkit.net.url import parse_url

if TYPE_CHECKING:
    from sigkit.net.session import Session
    from sigkit.net.url import Url

UPDATE_S: Final = 60.0  # for a whole update that somebody asked for; a dozen small files
ON_THE_WAY_S: Final = 10.0  # for one that a verification does on the way: then what is kept is used
STACK_PATH: Final = "tuf"
# Object stores that may not be listed answer 403 for what is absent (python-tuf's client takes it so, too).
_ABSENT: Final = frozenset({403, 404})


def find_below(session: Session, url: str, place: Place) -> str | None:
    """Return the URL of the repository that a stack has below its own, if this one is a stack's.

    Raises:
        SigkitError: as `NetMirror.fetch_metadata`.
    """
    below = f"{url.rstrip('/')}/{STACK_PATH}"
    mirror = NetMirror(session, below, place, within_s=ON_THE_WAY_S)
    return below if mirror.fetch_metadata("timestamp.json", limits.TUF_TIMESTAMP_BYTES) is not None else None


class NetMirror:
    """A mirror at a URL; targets lie under `targets/` there unless they have a URL of their own."""

    def __init__(self, session: Session, url: str, place: Place, targets_url: str = "", *, within_s: float = UPDATE_S) -> None:
        """Ask over a session; one deadline counts for everything that is asked.

        Args:
            session: which connections are made by.
            url: of the metadata.
            place: where the URL was written.
            targets_url: of the targets, if that is not below `url`.
            within_s: the deadline, from now on.

        Raises:
            UrlRefused: (NET) no URL that is asked.
        """
        self._session = session
        self._base = url.rstrip("/")
        self._targets = targets_url.rstrip("/") or f"{self._base}/targets"
        self._deadline = Deadline(within_s)
        parse_url(f"{self._base}/timestamp.json", place)

    def fetch_metadata(self, name: str, most_bytes: int) -> bytes | None:
        """Return a file, or None where the mirror answers that it has none.

        Raises:
            TooLarge: (LIMIT).
            ServerFailed, Unreachable, TimedOut: (UNAVAIL).
            NetError: by the rules of connections.
        """
        return self._fetch(parse_url(f"{self._base}/{name}", self.place(name)), most_bytes)

    def fetch_target(self, path: str, most_bytes: int) -> bytes | None:
        """Return a target, or None where the mirror answers that it has none.

        Raises:
            UrlRefused: (NET) the path is none that can be asked for.
            SigkitError: as `fetch_metadata`.
        """
        return self._fetch(parse_url(f"{self._targets}/{path}", self.place(path)), most_bytes)

    def place(self, name: str) -> Place:
        """Return where a file is fetched from."""
        return Place(f"{self._base}/{name}")

    def _fetch(self, url: Url, most_bytes: int) -> bytes | None:
        with self._session.send(Call("GET", url, self._deadline, redirects=Redirects.FOLLOW)) as reply:
            if reply.status in _ABSENT:
                return None
            if reply.status != 200:
                raise ServerFailed(
                    "the mirror answers neither with the file nor that there is none", place=url.place(), got=str(reply.status)
                )
            return reply.read_all(most_bytes)
