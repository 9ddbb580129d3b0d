"""The keys of issuers: the stack's own are handed in, those of others fetched where their discovery says, and kept shortly.

The discovery document must name the issuer by the very URL that was asked for. No redirect is followed: it would let another host name the
keys (CVE-2026-49478).

Source: OpenID Connect Discovery 1.0 sections 3, 4; RFC 7517 section 5.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import AnswerUnusable, Place, SigkitError
from sigkit.net.address import Deadline, Nearness
from sigkit.net.session import Call, NetOptions, Session
from sigkit.net.url import parse_url
from sigkit.strict import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sigkit.net.url import Url
    from sigkit.services.issuers import Issuer
    from sigkit.strict import Cursor, Json

KEPT_S: Final = 600.0  # a key that the issuer takes back counts for no longer
_AGAIN_S: Final = 30.0  # a key that is not there is looked for again no sooner
_FAILED_S: Final = 10.0  # an issuer that does not answer is asked again no sooner: anybody can send tokens that name it
_FETCH_S: Final = 5.0
_DOCUMENT_BYTES: Final = 256 << 10
_MOST_KEYS: Final = 100


class _Kept(Data):
    keys: Mapping[str, Mapping[str, Json]]
    fetched: float


class _Failed(Data):
    error: SigkitError
    fetched: float


class IssuerKeySets:
    """Finds keys of issuers. Safe to use from several threads."""

    def __init__(
        self,
        own: Mapping[str, Sequence[Mapping[str, Json]]],
        session: Session,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know the keys of the issuers in `own`, by URL, and ask the others."""
        self._own = {url: {str(key["kid"]): key for key in keys} for url, keys in own.items()}
        self._session = session
        self._monotonic = monotonic
        self._kept: dict[str, _Kept | _Failed] = {}
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def find(self, issuer: Issuer, kid: str) -> Mapping[str, Json] | None:
        """Return an issuer's public key of this name as a JSON Web Key.

        Raises:
            SigkitError: (UNAVAIL, NET, PARSE, LIMIT) its keys cannot be had.
        """
        if issuer.url in self._own:
            return self._own[issuer.url].get(kid)
        with self._guard:
            lock = self._locks.setdefault(issuer.url, threading.Lock())
        with lock:  # one fetch at a time: a flood of tokens is no flood of requests to the issuer
            kept = self._known(issuer, kid)
        if isinstance(kept, _Failed):
            raise kept.error.with_traceback(None)  # or it would grow with each token
        return kept.keys.get(kid)

    def _known(self, issuer: Issuer, kid: str) -> _Kept | _Failed:
        """Return what is known of an issuer, fetched anew if that may help."""
        kept = self._kept.get(issuer.url)
        age = self._monotonic() - kept.fetched if kept else 0.0
        match kept:
            case _Kept() if age < (KEPT_S if kid in kept.keys else _AGAIN_S):
                return kept
            case _Failed() if age < _FAILED_S:
                return kept
        try:
            kept = _Kept(self._fetch(issuer), self._monotonic())
        except SigkitError as err:
            kept = _Failed(err, self._monotonic())
        self._kept[issuer.url] = kept
        return kept

    def _fetch(self, issuer: Issuer) -> Mapping[str, Mapping[str, Json]]:
        if not issuer.ca_file:
            return _fetch_keys(issuer, self._session)
        with Session(NetOptions(ca_file=issuer.ca_file, ca_option="caFile in issuers.json")) as session:
            return _fetch_keys(issuer, session)


def _fetch_keys(issuer: Issuer, session: Session) -> Mapping[str, Mapping[str, Json]]:
    deadline = Deadline(_FETCH_S)
    discovery = parse_url(f"{issuer.url.rstrip('/')}/.well-known/openid-configuration", Place.operator(issuer.url))
    document, nearness = _get(session, discovery, deadline, Nearness.LOOPBACK)
    stated = document.member("issuer").text()
    if stated != issuer.url:
        raise AnswerUnusable("the discovery document is another issuer's", place=discovery.place(), expected=issuer.url, got=stated[:200])
    keys, _ = _get(session, parse_url(document.member("jwks_uri").text(), discovery.place()), deadline, nearness)
    found: dict[str, Mapping[str, Json]] = {}
    for item in keys.member("keys").items(_MOST_KEYS):
        kid = item.find("kid")
        if kid is not None:
            found[kid.text()] = item.object()
    return found


def _get(session: Session, url: Url, deadline: Deadline, named_by: Nearness) -> tuple[Cursor, Nearness]:
    with session.send(Call("GET", url, deadline, (("Accept", "application/json"),), attempts=2, named_by=named_by)) as reply:
        if reply.status != 200:
            raise AnswerUnusable("the issuer does not answer", place=url.place(), expected="200", got=str(reply.status))
        raw = reply.read_all(_DOCUMENT_BYTES)
        return parse_json(raw, most_bytes=_DOCUMENT_BYTES, place=url.place()), reply.nearness
