"""URLs, read strictly: http or https, a host, a path. Nothing that two readers could split differently.

No user name or password is ever accepted in one (CVE-2024-47081: the host before an `@` is not the host that is asked).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sigkit.errors import NOWHERE, OtherHostRefused, Place, UrlRefused

URL_CHARACTERS: Final = 8_192  # signed URLs of object stores reach 2,000
_PORTS: Final = {"http": 80, "https": 443}
_URL = re.compile(
    # Both cases are spelled out: IGNORECASE takes a long s and the Kelvin sign for letters too, and is three times as slow to compile.
    r"(?P<scheme>[Hh][Tt]{2}[Pp][Ss]?)://"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    # RFC 3986 without a fragment; a backslash, a space or a control character would be read differently elsewhere.
    r"(?P<target>[/?][A-Za-z0-9\-._~:/?@!$&'()*+,;=%\[\]|{}^`\"<>]*)?"
)


class Origin(NamedTuple):
    """What credentials belong to: scheme, host and port together."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The host, with the port when it is not the scheme's own: what a Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Url(NamedTuple):
    """An origin and what to ask there: path and query."""

    origin: Origin
    target: str

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"

    @property
    def shown(self) -> str:
        """The URL for messages. A query may hold a signature that opens the content, so it is left out."""
        path, question, _ = self.target.partition("?")
        return f"{self.origin}{path}{'?…' if question else ''}"

    def place(self) -> Place:
        """Return where a problem with this URL's answer lies."""
        return Place(self.shown)

    def join(self, reference: str) -> Url:
        """Return the URL that `reference`, absolute or relative, means in an answer of this one.

        Raises:
            UrlRefused: the result is no URL that sigkit asks.
        """
        from urllib.parse import urljoin

        if len(reference) > URL_CHARACTERS or not reference.isascii() or not reference.isprintable():
            raise UrlRefused("malformed URL in an answer", place=self.place(), got=reference[:200])
        try:
            joined = urljoin(str(self), reference)
        except ValueError as err:
            raise UrlRefused("malformed URL in an answer", place=self.place(), got=reference[:200]) from err
        return parse_url(joined.partition("#")[0], self.place())

    def join_own(self, reference: str, what: str) -> Url:
        """Return the URL that `reference` means, if it stays on this scheme, host and port.

        Raises:
            OtherHostRefused: it leaves them (CVE-2026-50151, CVE-2026-85732).
        """
        joined = self.join(reference)
        if joined.origin != self.origin:
            raise OtherHostRefused(f"{what} points to another host", place=self.place(), expected=str(self.origin), got=str(joined.origin))
        return joined


def parse_url(text: str, place: Place = NOWHERE) -> Url:
    """Parse an absolute http or https URL.

    Raises:
        UrlRefused: (NET) another scheme, a user name or password, a fragment, or characters that do not belong there.
    """
    authority = text.partition("://")[2].partition("/")[0].partition("?")[0]
    if "@" in authority:
        raise UrlRefused(
            "the URL carries a user name or password",
            place=place,
            got=text.partition("://")[0] + "://…@" + authority[-80:].rpartition("@")[2],
        )
    found = _URL.fullmatch(text)
    if not found or len(text) > URL_CHARACTERS:
        raise UrlRefused("malformed URL", place=place, expected="http://… or https://…", got=text.partition("?")[0][:200])
    scheme = found["scheme"].lower()
    port = int(found["port"]) if found["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise UrlRefused("malformed port", place=place, expected="1 to 65535", got=str(port))
    target = found["target"] or "/"
    host = found["host"].lower().strip("[]")
    return Url(Origin(scheme, host, port), target if target.startswith("/") else f"/{target}")
