"""The table of cores: who answers which path, and what of a body each takes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from urllib.parse import unquote

import pytest

from sigkit.errors import FileUnwritable, LogDamaged, Place
from sigkit.limits import BodyLimits
from sigkit.services.app import App, Mount
from sigkit.services.exchange import Answer, Refused, Request, whole_answer
from tests.simulators.asgi import Answered, Caller


class Named:
    """Answers its name, the path that it was asked for, and the size of the body."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def answer(self, request: Request) -> Answer:
        size = 0
        async for piece in request.body:
            size += len(piece)
        return whole_answer(200, f"{self._name} {request.path} {size}".encode(), ())


CALLER = Caller(
    App(
        [
            Mount("/v2", Named("registry"), BodyLimits(1_000)),
            Mount("/api/v2", Named("log"), BodyLimits(10)),
            Mount("/api/v2/signingCert", Named("ca"), BodyLimits(10)),
            Mount("/ct", Named("ct"), BodyLimits(10)),
        ]
    )
)


def call(method: str, target: str, body: bytes | list[bytes] = b"") -> Answered:
    answered = CALLER(method, target, body)
    assert answered is not None
    return answered


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/v2", "registry /v2 0"),
        ("/v2/", "registry /v2/ 0"),
        ("/v2/a/b/manifests/api/v2", "registry /v2/a/b/manifests/api/v2 0"),
        ("/api/v2/checkpoint", "log /api/v2/checkpoint 0"),
        ("/api/v2/signingCert", "ca /api/v2/signingCert 0"),
        ("/api/v2/signingCertificates", "log /api/v2/signingCertificates 0"),
        ("//api/v2/signingCert", "ca /api/v2/signingCert 0"),
        ("///ct/ct/v1/get-sth", "ct /ct/ct/v1/get-sth 0"),
    ],
)
def test_the_longest_prefix_of_whole_components_answers(target, said):
    assert call("GET", target).body.decode() == said


@pytest.mark.parametrize("target", ["/", "", "/v3", "/v2x", "/ctx", "/api/v1/timestamp", "/api//v2/checkpoint", "/./v2", "/x/../v2"])
def test_a_path_of_nobody_is_not_found(target):
    assert call("GET", target).status == 404


def test_each_core_takes_bodies_of_its_own_size():
    assert call("POST", "/api/v2/x", b"1234567890").body == b"log /api/v2/x 10"
    assert call("POST", "/api/v2/x", b"12345678901").status == 413
    assert call("POST", "/api/v2/x", [b"123456", b"78901"]).status == 413
    assert call("POST", "/v2/x", b"12345678901").status == 200


@pytest.mark.attack("web page against loopback")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:5000"])
def test_a_page_in_a_browser_changes_nothing(method, origin):
    answered = CALLER(method, "/v2/a/b/manifests/1", b"x", {"Origin": origin})
    assert answered is not None
    assert (answered.status, answered.body) == (403, b"not from a web page\n")


def fetched(site, mode, dest, **more):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest, **more}
    answered = CALLER("GET", "/v2/", b"", headers)
    assert answered is not None
    return answered.status


@pytest.mark.attack("web page against loopback")
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("no-cors", "empty"),
        ("cors", "empty"),
        ("navigate", "iframe"),
        ("navigate", "frame"),
        ("navigate", "object"),
        ("navigate", "embed"),
        ("websocket", "websocket"),
        ("", ""),
    ],
)
def test_what_a_page_of_another_site_fetches_starts_nothing(site, mode, dest):
    assert fetched(site, mode, dest) == 403


@pytest.mark.attack("web page against loopback")
def test_a_page_that_is_fetched_ahead_starts_nothing():
    assert fetched("cross-site", "navigate", "document", **{"Sec-Purpose": "prefetch;prerender"}) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
def test_a_page_that_leads_to_a_login_is_answered(site):
    assert fetched(site, "navigate", "document", **{"Sec-Fetch-User": "?1"}) == 200


def test_a_page_of_the_server_itself_fetches_what_it_needs():
    assert fetched("same-origin", "no-cors", "image") == 200


async def drip(limits, data, pieces, then=b""):
    """Send pieces, each a hundredth of a second after the one before, and return the status."""
    left = [data] * pieces + [then]
    sent = []

    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    await App([Mount("", Named("registry"), limits)])(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.attack("bodies without end")
def test_a_body_that_comes_byte_by_byte_is_given_up_and_one_that_comes_fast_enough_is_not():
    slow = BodyLimits(1 << 20, idle_s=5, slack_s=0.1, least_bytes_per_s=1_000)
    assert asyncio.run(drip(slow, b"x", 300)) == 408
    assert asyncio.run(drip(slow, b"x" * 1_000, 20)) == 200


class Impatient:
    """Gives up a body that does not come at once, as a core does that has a time of its own for it."""

    async def answer(self, request: Request) -> Answer:
        try:
            async with asyncio.timeout(0):
                async for _ in request.body:
                    pass
        except TimeoutError:
            pass
        return whole_answer(408 if request.path == "/408" else 200, b"", ())


@pytest.mark.attack("bodies without end")
@pytest.mark.parametrize(("core", "path", "waits"), [(Named("any"), "/", 1), (Impatient(), "/408", 1), (Impatient(), "/", 2)])
def test_a_body_that_does_not_come_is_waited_for_once(core, path, waits):
    waited, sent = [], []

    async def receive():
        waited.append("body")
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    asyncio.run(App([Mount("", core, BodyLimits(10, idle_s=0.05, slack_s=0.05))])(scope, receive, send))
    assert len(waited) == waits
    assert (b"Connection", b"close") in sent[0]["headers"]


class Forgiving:
    """Answers whether a body comes or not."""

    async def answer(self, request: Request) -> Answer:
        with contextlib.suppress(Refused):
            async for _ in request.body:
                pass
        return whole_answer(200, b"", ())


@pytest.mark.attack("bodies without end")
def test_what_was_waited_for_in_vain_counts():
    waits, sent = iter([3_600.0, 0.01]), []

    async def receive():
        await asyncio.sleep(next(waits))
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(App([Mount("", Forgiving(), BodyLimits(10, idle_s=0.2, slack_s=0.2))])(scope, receive, send))
    assert (b"Connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_that_was_reached_by_a_link_is_answered(method):
    answered = CALLER(method, "/v2/", b"", {"Origin": "https://issuer.example"})
    assert answered is not None
    assert answered.status == 200


@pytest.mark.attack("web page against loopback")
@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:5000",
        "127.0.0.1.rebound.example",
        "localhost.example",
        "[::1].example",
        "0.0.0.0:5000",
        "[::]",
        "[::ffff:0:0]",
        "[::ffff:7f00:1]",
    ],
)
def test_a_page_whose_name_was_made_to_resolve_to_loopback_reads_nothing(host):
    served = Caller(App([Mount("", Named("registry"), BodyLimits(10))], frozenset({"registry.acme.example"})))
    answered = served("GET", "/v2/", b"", {"Host": host})
    assert answered is not None
    assert answered.status == 421


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "[::1]:5000", "localhost", "LOCALHOST:1", "a.localhost", "registry.acme.example", ""])
def test_a_server_on_loopback_answers_to_its_addresses_and_its_own_names(host):
    served = Caller(App([Mount("", Named("registry"), BodyLimits(10))], frozenset({"registry.acme.example"})))
    answered = served("GET", "/v2/", b"", {"Host": host} if host else {})
    assert answered is not None
    assert answered.status == 200


@pytest.mark.attack("a proxy in front of the registry")
@pytest.mark.parametrize("raw", ["//v2/", "/v2%2Fapp/blobs/uploads/", "/%762/", "/v%32/", "/%2fv2/", "///v2/app/manifests/v1"])
def test_a_path_of_the_registry_is_answered_only_as_a_proxy_compares_it(raw):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    path = unquote(raw)
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": raw.encode(), "query_string": b"", "headers": []}
    asyncio.run(App([Mount("/v2", Named("registry"), BodyLimits(10))])(scope, receive, send))
    assert sent[0]["status"] == 404


class Failing:
    """Fails as a service does whose disk is full, or whose files are damaged."""

    async def answer(self, request: Request) -> Answer:
        if request.path.endswith("enospc"):
            raise OSError(errno.ENOSPC, "No space left on device", "/srv/stack/x")
        if request.path.endswith("emfile"):
            raise OSError(errno.EMFILE, "Too many open files", "/srv/stack/x")
        raise (FileUnwritable if request.path.endswith("full") else LogDamaged)("cannot go on", place=Place("/srv/stack"))


@pytest.mark.parametrize(("path", "status"), [("/full", 503), ("/damaged", 500), ("/enospc", 503)])
def test_a_service_that_cannot_go_on_says_so_and_its_operator_alone_is_told_where_its_files_are(path, status, caplog):
    answered = Caller(App([Mount("", Failing(), BodyLimits(10))]))("GET", path)
    assert answered is not None
    assert answered.status == status
    assert b"SK-" in answered.body
    assert b"/srv" not in answered.body
    [line] = caplog.messages
    assert line.startswith(f"GET {path}: ")
    assert "/srv/stack" in line


@pytest.mark.attack("connections without descriptors")
def test_without_descriptors_a_client_is_told_to_come_again(caplog):
    answered = Caller(App([Mount("", Failing(), BodyLimits(10))]))("GET", "/emfile")
    assert answered is not None
    assert (answered.status, answered.headers["retry-after"]) == (503, "1")
    assert b"/srv" not in answered.body
    [line] = caplog.messages
    assert "Too many open files" in line
