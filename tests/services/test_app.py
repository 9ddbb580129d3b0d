"""The table of cores: who answers which path, and what of a body each takes."""

from __future__ import annotations

import errno

import pytest

from sigkit.errors import FileUnwritable, LogDamaged, Place
from sigkit.limits import BodyLimits
from sigkit.services.app import App, Mount
from sigkit.services.exchange import Answer, Request, whole_answer
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


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_that_was_reached_by_a_link_is_answered(method):
    answered = CALLER(method, "/v2/", b"", {"Origin": "https://issuer.example"})
    assert answered is not None
    assert answered.status == 200


@pytest.mark.attack("web page against loopback")
@pytest.mark.parametrize(
    "host", ["rebound.example", "rebound.example:5000", "127.0.0.1.rebound.example", "localhost.example", "[::1].example"]
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


class Failing:
    """Fails as a service does whose disk is full, or whose files are damaged."""

    async def answer(self, request: Request) -> Answer:
        if request.path.endswith("enospc"):
            raise OSError(errno.ENOSPC, "No space left on device", "/srv/stack/x")
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
