"""A URI as authorities write it into a certificate: escaped where Go's `url.Parse(text).String()` escapes it, as Fulcio has it done.

Source: net/url of Go 1.26; RFC 3986 sections 3.3, 3.5.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

PLAIN: Final = r"[A-Za-z0-9._~!$&'()*+,;=:@/\[\]-]"  # what Go leaves as it is in a path of nothing else
_PATH: Final = (re.compile(f"{PLAIN}*"), "$&+,/:;=@")  # what is left whole, and else what is left of it
_FRAGMENT: Final = (re.compile(rf"(?:{PLAIN}|\?)*"), "$&+,/:;=@?!()*")


def write_uri(text: str) -> str:
    """Return a URI in which nothing is escaped yet, escaped; what is none is returned as something that is none."""
    rest, mark, fragment = text.partition("#")
    rest, question, query = rest.partition("?")  # which Go leaves as it is
    scheme, between, rest = rest.partition("://")
    host, slash, path = rest.partition("/")
    return "".join((scheme, between, host, slash, _written(path, *_PATH), question, query, mark, _written(fragment, *_FRAGMENT)))


def _written(part: str, plain: re.Pattern[str], safe: str) -> str:
    return part if plain.fullmatch(part) else quote(part, safe=safe)
