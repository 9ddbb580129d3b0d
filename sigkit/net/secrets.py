"""What opens doors is not shown: the secrets of a request, taken out of the words with which a server answers it.

Proxies and debugging pages repeat what they were sent, and those words go into messages, and from there into the logs of CI jobs, which
many read. A server that means harm has the secret already: this is about honest ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.errors import Place, SigkitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PIECE_CHARACTERS: Final = 16  # of a secret in one piece: fewer are found by chance, and open nothing
_LEAST_CHARACTERS: Final = 4  # of a whole secret: a shorter password stands in any sentence
_SHOWN: Final = "[secret]"


def secrets_of(authorization: str | None, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return what is secret in a request: what its Authorization header holds, and `more`."""
    if authorization is None:
        return tuple(more)
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return (value, *more)
    try:
        password = strict.decode_base64(value).decode("utf-8", "replace").partition(":")[2]
    except SigkitError:
        return (value, *more)
    return (value, password, *more)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with a mark in the place of every piece of a secret, and every short secret; plain, or as a form writes it."""
    kept: list[str] = []
    shown_to = 0
    for start, end in sorted(_found(text, secrets)):
        if start >= shown_to:
            kept += (text[shown_to:start], _SHOWN)
        shown_to = max(shown_to, end)
    return "".join((*kept, text[shown_to:]))


def _found(text: str, secrets: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Give where pieces of secrets begin and end."""
    from urllib.parse import quote, quote_plus

    pieces: set[str] = set()
    for secret in {written for plain in secrets for written in (plain, quote(plain, safe=""), quote_plus(plain))}:
        if len(secret) >= PIECE_CHARACTERS:
            pieces.update(secret[at : at + PIECE_CHARACTERS] for at in range(len(secret) - PIECE_CHARACTERS + 1))
        elif len(secret) >= _LEAST_CHARACTERS:
            yield from ((found.start(), found.end()) for found in re.finditer(re.escape(secret), text))
    for at in range(len(text) - PIECE_CHARACTERS + 1) if pieces else ():
        if text[at : at + PIECE_CHARACTERS] in pieces:
            yield at, at + PIECE_CHARACTERS


def hide_secrets(err: SigkitError, secrets: Iterable[str]) -> None:
    """Take secrets out of all that an error says, and its causes away: of one about the form of an answer, which may quote it."""
    secrets = tuple(secrets)
    err.problem, err.expected, err.got, err.remedy = (
        without_secrets(text, secrets) for text in (err.problem, err.expected, err.got, err.remedy)
    )
    err.place = Place(err.place.source, without_secrets(err.place.inside, secrets), err.place.owner)
    err.__cause__, err.__context__ = None, None
