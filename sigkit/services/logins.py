"""Logins under way: who started one on which terminal, and for whom the operator approved it.

A login has two secrets. The *user code* is short, is shown to the person, and is what the operator approves; it opens nothing. The
*device code* (or, in a browser, the page's handle and then the code) is long, known to the client alone, and kept here as a digest. The
client proves in the end that it is the one that started (PKCE), in both flows. Each login ends in at most one token.

The state is a database in the stack's directory, because whoever approves is another process. Each operation opens it for itself.

Source: RFC 8628 sections 3, 5.1, 6.1; RFC 6749 sections 4.1.2, 10.5; RFC 7636 section 4.6.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import DatabaseUnusable, Place, TooMany, UnknownLogin, UnnamableIdentity
from sigkit.services.exchange import network_of
from sigkit.services.issuers import is_email

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from sigkit.clock import Clock

LOGIN_S: Final = 600  # from its start to the operator's answer and the token
CODE_S: Final = 60  # from the page's redirect to the client's request
POLL_S: Final = 2  # what a client waits between two questions
_OPEN_LOGINS: Final = 3000  # ten networks that start as many as they may
_ENDED_LOGINS: Final = 3000  # that are kept to tell their clients so
STARTED_S: Final = 60  # in which one network may start so many
_STARTED: Final = 30
_FILE: Final = "logins.db"
_APPLICATION: Final = 0x736B6C67
_SCHEMA: Final = (
    """CREATE TABLE login (
        secret BLOB PRIMARY KEY,
        user_code TEXT NOT NULL UNIQUE,
        redirect TEXT,
        answer TEXT NOT NULL,
        nonce TEXT NOT NULL,
        challenge TEXT NOT NULL,
        started INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        next_poll REAL NOT NULL,
        stage TEXT NOT NULL,
        subject TEXT,
        code BLOB UNIQUE
    ) STRICT""",
    "ALTER TABLE login ADD COLUMN peer TEXT NOT NULL DEFAULT ''",
)
# No vowels, so no words; no letters or digits that look alike. Eight of them are 34 bits (RFC 8628 section 6.1).
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
_USER_CODE: Final = re.compile(rf"[{_LETTERS}]{{8}}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_LATELY: Final = "SELECT count(*) FROM login WHERE started > ? AND peer = ?"
_OPEN: Final = "SELECT count(*) FROM login WHERE stage IN ('pending', 'approved') AND expires >= ?"
_FORGET_LONG_AGO: Final = "DELETE FROM login WHERE expires < ?"
_FORGET_BEYOND: Final = """DELETE FROM login WHERE secret IN (
    SELECT secret FROM login WHERE stage IN ('denied', 'used') OR expires < ? ORDER BY started DESC LIMIT -1 OFFSET ?
)"""
_END_ONE: Final = """UPDATE login SET expires = ?1 - 1 WHERE secret = (
    SELECT secret FROM login WHERE stage = 'pending' AND expires >= ?1 AND peer = (
        SELECT peer FROM login WHERE stage = 'pending' AND expires >= ?1 GROUP BY peer ORDER BY count(*) DESC, min(started) LIMIT 1
    ) ORDER BY started LIMIT 1
)"""
CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Stage(Enum):
    """How far a login is."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    USED = "used"


class Refusal(Enum):
    """Why a client gets no token, in OAuth's words."""

    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    DENIED = "access_denied"
    EXPIRED = "expired_token"
    INVALID = "invalid_grant"


class Granted(Data):
    """A login that ends in a token: for whom, and the nonce that the client wants to see in it."""

    subject: str
    nonce: str


class Started(Data):
    """A login that has begun: the secret for the client, and the code for the person."""

    secret: str
    user_code: str


class Waiting(Data):
    """A login as the operator sees it."""

    user_code: str
    started: datetime
    ends: datetime
    by: str  # "browser" or "device"
    peer: str  # the address or network that started it; "" where that is not known


class Page(Data):
    """A login as its page in the browser sees it."""

    user_code: str
    stage: Stage
    redirect: str
    answer: str  # the client's `state`, which goes back with the code


class Logins:
    """All logins of one issuer."""

    def __init__(self, directory: str, clock: Clock) -> None:
        """Keep the state in `directory`."""
        self._path = os.path.join(directory, _FILE)
        self._clock = clock

    def start(self, challenge: str, *, peer: str = "", redirect: str | None = None, answer: str = "", nonce: str = "") -> Started:
        """Begin a login for the address `peer`; with `redirect` it is a browser's, else a device's.

        When there are as many as are kept, the network with the most that wait loses its oldest: whoever floods the issuer, its own. Of
        networks with as many, the one that has waited longest: so no address is always the first to lose.

        Raises:
            TooMany: (LIMIT) more from one network than the persons there can mean, or all that are kept are approved; not for a minute.
            DatabaseUnusable: (UNAVAIL).
        """
        secret, user_code = secrets.token_urlsafe(32), "".join(secrets.choice(_LETTERS) for _ in range(8))
        now, network = self._now(), network_of(peer)
        with self._transaction() as database:
            database.execute(_FORGET_LONG_AGO, (int(now) - LOGIN_S,))
            database.execute(_FORGET_BEYOND, (int(now), _ENDED_LOGINS))
            if database.execute(_LATELY, (int(now) - STARTED_S, network)).fetchone()[0] >= _STARTED:
                raise TooMany(
                    f"{_STARTED} logins were started from {network or 'one place'} in a minute",
                    place=Place("logins"),
                    remedy="start the login again in a minute",
                )
            if database.execute(_OPEN, (int(now),)).fetchone()[0] >= _OPEN_LOGINS and database.execute(_END_ONE, (int(now),)).rowcount != 1:
                raise TooMany(
                    "more logins are approved and not yet taken than this issuer keeps",
                    place=Place("logins"),
                    remedy="start the login again later: within ten minutes each of them is taken or ends",
                )
            row = (_digest(secret), user_code, redirect, answer, nonce, challenge, int(now), int(now) + LOGIN_S, now, Stage.PENDING.value)
            database.execute("INSERT INTO login VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)", (*row, network))
        return Started(secret, show_user_code(user_code))

    def waiting(self) -> tuple[Waiting, ...]:
        """Return the logins that the operator has not answered, the oldest first."""
        with self._transaction() as database:
            found = (
                "SELECT user_code, started, expires, redirect IS NULL, peer FROM login WHERE stage = ? AND expires >= ? ORDER BY started"
            )
            rows = database.execute(found, (Stage.PENDING.value, int(self._now()))).fetchall()
        return tuple(
            Waiting(
                show_user_code(code),
                datetime.fromtimestamp(started, UTC),
                datetime.fromtimestamp(ends, UTC),
                "device" if by_device else "browser",
                peer,
            )
            for code, started, ends, by_device, peer in rows
        )

    def stage(self, user_code: str) -> Stage | None:
        """Return how far the login with this code is; None if there is none, or it has ended without an answer or a token."""
        with self._transaction() as database:
            found = "SELECT stage FROM login WHERE user_code = ? AND (expires >= ? OR stage IN ('denied', 'used'))"
            row = database.execute(found, (user_code.replace("-", ""), int(self._now()))).fetchone()
        return Stage(row[0]) if row else None

    def approve(self, user_code: str, email: str) -> str:
        """Let the login with this code end in a token for the person with this e-mail address; return the code as people read it.

        Raises:
            UnnamableIdentity: (IDENT) this is no e-mail address.
            UnknownLogin: (REF) no login that waits has this code.
        """
        if not is_email(email):
            raise UnnamableIdentity(
                "not one e-mail address", place=Place.operator(email[:200]), expected="a person's, such as mia@acme.example"
            )
        return self._decide(user_code, Stage.APPROVED, email)

    def deny(self, user_code: str) -> str:
        """End the login with this code; return the code as people read it.

        Raises:
            UnknownLogin: (REF) no login that waits has this code.
        """
        return self._decide(user_code, Stage.DENIED, None)

    def _decide(self, user_code: str, stage: Stage, subject: str | None) -> str:
        code = user_code.upper().replace("-", "").replace(" ", "")
        with self._transaction() as database:
            change = "UPDATE login SET stage = ?, subject = ? WHERE user_code = ? AND stage = ? AND expires >= ?"
            done = database.execute(change, (stage.value, subject, code, Stage.PENDING.value, int(self._now()))).rowcount
        if not _USER_CODE.fullmatch(code) or done != 1:
            raise UnknownLogin(
                "no login that waits has this code",
                place=Place.operator(user_code[:40]),
                expected="eight letters, as the login shows them",
                remedy="start the login again: a code is good for ten minutes and one answer",
            )
        return show_user_code(code)

    def poll(self, device_code: str, verifier: str) -> Granted | Refusal:
        """Answer a device that asks for its token; a wrong verifier ends the login."""
        now = self._now()
        with self._transaction() as database:
            found = "SELECT challenge, nonce, stage, subject, expires, next_poll FROM login WHERE secret = ? AND redirect IS NULL"
            row = database.execute(found, (_digest(device_code),)).fetchone()
            if row is None:
                return Refusal.INVALID
            challenge, nonce, stage, subject, expires, next_poll = row
            if int(now) > expires:
                return Refusal.EXPIRED
            if stage == Stage.USED.value or not _proves(verifier, challenge):
                self._end(database, device_code)
                return Refusal.INVALID
            database.execute("UPDATE login SET next_poll = ? WHERE secret = ?", (now + POLL_S * 0.8, _digest(device_code)))
            if now < next_poll:
                return Refusal.SLOW_DOWN
            if stage != Stage.APPROVED.value:
                return Refusal.DENIED if stage == Stage.DENIED.value else Refusal.PENDING
            self._end(database, device_code)
        return Granted(subject, nonce)

    def page(self, handle: str) -> Page | None:
        """Return what the page with this handle shows."""
        with self._transaction() as database:
            found = "SELECT user_code, stage, redirect, answer FROM login WHERE secret = ? AND redirect IS NOT NULL AND expires >= ?"
            row = database.execute(found, (_digest(handle), int(self._now()))).fetchone()
        return Page(show_user_code(row[0]), Stage(row[1]), row[2], row[3]) if row else None

    def give_code(self, handle: str) -> str | None:
        """Return the one code of an approved login, once."""
        code = secrets.token_urlsafe(32)
        with self._transaction() as database:
            change = "UPDATE login SET code = ?, expires = ? WHERE secret = ? AND stage = ? AND code IS NULL AND expires >= ?"
            now = int(self._now())
            done = database.execute(change, (_digest(code), now + CODE_S, _digest(handle), Stage.APPROVED.value, now)).rowcount
        return code if done == 1 else None

    def redeem(self, code: str, redirect: str, verifier: str) -> Granted | Refusal:
        """Answer a client that brings a code; it is used up whatever the answer is.

        A code that comes again ends nothing that the first one got: the token is a signed statement, about which nobody asks the issuer,
        and ends by itself after ten minutes (RFC 6749 section 4.1.2: "SHOULD revoke (when possible)").
        """
        with self._transaction() as database:
            found = "SELECT challenge, nonce, stage, subject, expires, redirect FROM login WHERE code = ?"
            row = database.execute(found, (_digest(code),)).fetchone()
            if row is None:
                return Refusal.INVALID
            database.execute("UPDATE login SET stage = ? WHERE code = ?", (Stage.USED.value, _digest(code)))
        challenge, nonce, stage, subject, expires, given = row
        good = stage == Stage.APPROVED.value and int(self._now()) <= expires and redirect == given and _proves(verifier, challenge)
        return Granted(subject, nonce) if good else Refusal.INVALID

    def _end(self, database: sqlite3.Connection, secret: str) -> None:
        database.execute("UPDATE login SET stage = ? WHERE secret = ?", (Stage.USED.value, _digest(secret)))

    def check(self) -> None:
        """Return if the state can be read and written.

        Raises:
            DatabaseUnusable: (UNAVAIL).
        """
        with self._transaction() as database:
            database.execute("SELECT count(*) FROM login").fetchone()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        import sqlite3

        database = durable.open_database(self._path, application=_APPLICATION, steps=_SCHEMA)
        try:
            with durable.transaction(database):
                yield database
        except sqlite3.Error as err:  # a full disk, a damaged page
            raise DatabaseUnusable(f"cannot use the database: {err}", place=Place(self._path)) from err
        finally:
            database.close()

    def _now(self) -> float:
        return self._clock.now().timestamp()


def is_user_code(text: str) -> bool:
    """Tell whether this has the form of a user code, as people read it."""
    return text == show_user_code(text.replace("-", "")) and bool(_USER_CODE.fullmatch(text.replace("-", "")))


def show_user_code(code: str) -> str:
    """Write a user code as people read it."""
    return f"{code[:4]}-{code[4:]}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _proves(verifier: str, challenge: str) -> bool:
    """Tell whether a verifier is the one of this challenge, by S256."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    computed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=")
    return hmac.compare_digest(computed, challenge.encode("ascii"))
