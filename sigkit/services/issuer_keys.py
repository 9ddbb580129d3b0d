"""The keys of issuers: the stack's own are handed in, those of others fetched where their discovery says, and kept shortly.

Whoever waits for a fetch holds no thread, and an issuer's fetch holds one of a pool of its own: neither a slow issuer nor whoever sends
tokens that name it holds up anybody else. What is looked up is known already.

The discovery document must name the issuer by the very URL that was asked for. No redirect is followed: it would let another host name the
keys (CVE-2026-49478).

Source: OpenID Connect Discovery 1.0 sections 3, 4; RFC 7517 section 5.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import AnswerUnusable, Place, SigkitError
from sigkit.net.address import Deadline, Nearness
from sigkit.net.session import Call, NetOptions, Session
from sigkit.net.url import parse_url
from sigkit.strict import parse_json
from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sigkit.net.url import Url
    from sigkit.services.issuers import Issuer
    from sigkit.strict import Cursor, Json

KEPT_S: Final = 600.0  # a key that the issuer takes back counts for no longer
_QUEUED_S: Final = 10.0  # from the moment that keys are found good to their use
_AGAIN_S: Final = 30.0  # a key that is not there is looked for again no sooner
_FAILED_S: Final = 10.0  # an issuer that does not answer is asked again no sooner: anybody can send tokens that name it
_FETCH_S: Final = 5.0
_DOCUMENT_BYTES: Final = 256 << 10
_MOST_KEYS: Final = 100
_THREADS: Final = 16  # of which an issuer has one
_LINE_CHARACTERS: Final = 1000
_LOG: Final = logging.getLogger("sigkit.services")


class _Kept(Data):
    keys: Mapping[str, Mapping[str, Json]]
    fetched: float
    tried: float  # later than it was fetched, if it could not be fetched again


class _Failed(Data):
    error: SigkitError
    tried: float


class IssuerKeySets:
    """Finds keys of issuers: `refresh` in the event loop, then `find` in any thread."""

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
        self._told: dict[str, str] = {}  # the code of what fails, by issuer, that the operator has been told
        self._fetches: dict[str, asyncio.Future[None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "sigkit-keys")

    async def refresh(self, issuer: Issuer, kid: str) -> None:
        """Fetch an issuer's keys if those that are known are old, or this is not among them; why that failed, `find` says."""
        if not self._is_due(issuer, kid):
            return
        fetch = self._fetches.get(issuer.url)
        if fetch is None:  # one at a time: a flood of tokens is no flood of requests to the issuer
            fetch = asyncio.get_running_loop().run_in_executor(self._threads, self._learn, issuer)
            self._fetches[issuer.url] = fetch
            fetch.add_done_callback(lambda _: self._fetches.pop(issuer.url, None))
        await asyncio.shield(fetch)  # whoever goes away takes it from nobody else

    def find(self, issuer: Issuer, kid: str) -> Mapping[str, Json] | None:
        """Return an issuer's public key of this name as a JSON Web Key, out of those that `refresh` has fetched.

        Raises:
            SigkitError: (UNAVAIL, NET, PARSE, LIMIT) its keys cannot be had.
        """
        if issuer.url in self._own:
            return self._own[issuer.url].get(kid)
        kept = self._kept.get(issuer.url)
        if isinstance(kept, _Failed):
            raise kept.error.with_traceback(None)  # or it would grow with each token
        if kept is None or self._monotonic() - kept.fetched >= KEPT_S + _QUEUED_S:
            raise AnswerUnusable("the issuer's keys have not been fetched lately", place=Place.operator(issuer.url))
        return kept.keys.get(kid)

    def close(self) -> None:
        """Wait for the fetches that run, and end their threads; nothing is fetched any more."""
        self._threads.shutdown(cancel_futures=True)

    def _is_due(self, issuer: Issuer, kid: str) -> bool:
        if issuer.url in self._own:
            return False
        kept, now = self._kept.get(issuer.url), self._monotonic()
        if isinstance(kept, _Failed):
            return now - kept.tried >= _FAILED_S
        if kept is None or now - kept.fetched >= KEPT_S:
            return True
        return kid not in kept.keys and now - kept.tried >= _AGAIN_S

    def _learn(self, issuer: Issuer) -> None:
        """Fetch an issuer's keys; what is good still stays where that fails, or anybody could end it with a token that names no key."""
        kept = self._kept.get(issuer.url)
        try:
            keys = self._fetch(issuer)
        except SigkitError as err:
            self._tell_failure(issuer.url, err)
            now = self._monotonic()
            if isinstance(kept, _Kept) and now - kept.fetched < KEPT_S:
                self._kept[issuer.url] = _Kept(kept.keys, kept.fetched, now)
            else:
                self._kept[issuer.url] = _Failed(err, now)
        else:
            if self._told.pop(issuer.url, ""):
                _LOG.warning("the keys of the issuer %s can be fetched again", escape(issuer.url))
            now = self._monotonic()
            self._kept[issuer.url] = _Kept(keys, now, now)

    def _tell_failure(self, url: str, err: SigkitError) -> None:
        """Tell the operator, who learns it from users else; once, until it fails otherwise: anybody can send tokens that name an issuer."""
        if self._told.get(url) != err.code:
            self._told[url] = err.code
            _LOG.error("the keys of the issuer %s cannot be fetched: %s", escape(url), escape(str(err), _LINE_CHARACTERS))

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
        if kid is not None and item.object().get("use", "sig") == "sig":  # or one for encryption would hide the one of its name
            found[kid.text()] = item.object()
    return found


def _get(session: Session, url: Url, deadline: Deadline, named_by: Nearness) -> tuple[Cursor, Nearness]:
    with session.send(Call("GET", url, deadline, (("Accept", "application/json"),), attempts=2, named_by=named_by)) as reply:
        if reply.status != 200:
            raise AnswerUnusable("the issuer does not answer", place=url.place(), expected="200", got=str(reply.status))
        raw = reply.read_all(_DOCUMENT_BYTES)
        return parse_json(raw, most_bytes=_DOCUMENT_BYTES, place=url.place()), reply.nearness
