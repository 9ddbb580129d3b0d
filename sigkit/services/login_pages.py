"""The pages that a person sees who logs in. No script, nothing from elsewhere, and nothing of a request that was not escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from sigkit.services.exchange import Answer, whole_answer

if TYPE_CHECKING:
    from sigkit.services.logins import Page

NO_STORE: Final = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
_HEADERS: Final = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    *NO_STORE,
)


def show_page(status: int, title: str, content: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Answer a page; title and content are HTML."""
    style = "body{font:18px/1.5 sans-serif;max-width:40em;margin:4em auto;padding:0 1em}code{background:#eee;padding:.1em .3em}"
    html = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{style}</style><h1>{title}</h1>{content}</html>"
    return whole_answer(status, html.encode("utf-8"), (*_HEADERS, *headers))


def ask_operator(user_code: str) -> str:
    """Return the part of a page that says how a login is approved."""
    return (
        "<p>Tell it to the operator of this stack, by a way on which they know you. They approve it on its machine:</p>"
        f"<p><code>sigkit stack approve DIR {escape(user_code)} --email YOU@EXAMPLE</code></p>"
    )


def show_waiting(page: Page) -> Answer:
    """Answer the page of a login that the operator has not answered; it asks again by itself."""
    code = f"<p>Your code is <code>{escape(page.user_code)}</code>.</p>"
    # Phishing (RFC 8628 section 5.4): the token is whoever's began the login. To bind the page to a browser would not help: the operator
    # approves the code that a person tells, and whoever began the login can send that without the page.
    whose = "<p>Did you start this login yourself? If somebody sent you here, close this page and tell nobody the code.</p>"
    return show_page(200, "Log in", f"{code}{whose}{ask_operator(page.user_code)}<p>This page goes on by itself.</p>", (("Refresh", "2"),))
