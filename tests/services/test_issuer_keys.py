"""Where the keys of issuers come from, and what an issuer, or somebody in its place, cannot make the stack do."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from typing import Any

import pytest

from sigkit.errors import AnswerUnusable, Kind, SigkitError
from sigkit.net.address import Nearness
from sigkit.net.session import Call, Session
from sigkit.services.issuer_keys import KEPT_S, IssuerKeySets
from sigkit.services.issuers import Issuer, OwnIssuer
from tests.simulators.authorities import Foreign, find_key
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply
from tests.simulators.tls_identity import TlsIdentity

ISSUER = "https://issuer.example"
DISCOVERY = "/.well-known/openid-configuration"


class Provider(MisbehavingServer):
    """An issuer that serves discovery and keys."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self.serve, tls=tls)
        self.discovery: dict = {}
        self.keys = [Foreign(kid="key-1").jwk()]

    def serve(self, seen) -> Reply:
        documents = {DISCOVERY: {"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.discovery, "/keys": {"keys": self.keys}}
        if seen.path not in documents:
            return Reply(404)
        return Reply(200, (("Content-Type", "application/json"),), json.dumps(documents[seen.path]).encode())


@pytest.fixture
def provider():
    with Provider() as running:
        yield running


class Watch:
    """A clock that only counts."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def keys(watch):
    with Session(sleep=lambda _: None) as session:
        found = IssuerKeySets({"https://stack.example": [{"kid": "own", "kty": "EC"}]}, session, monotonic=watch)
        yield found
        found.close()


def issuer(provider: Provider) -> Issuer:
    return Issuer(provider.url, OwnIssuer())


def refused(keys, provider) -> Kind:
    with pytest.raises(SigkitError) as caught:
        find_key(keys, issuer(provider), "key-1")
    return caught.value.kind


def test_own_keys_are_known_without_a_connection(keys):
    own = Issuer("https://stack.example", OwnIssuer())
    assert find_key(keys, own, "own") == {"kid": "own", "kty": "EC"}
    assert find_key(keys, own, "other") is None


def test_keys_are_found_by_discovery_and_kept(keys, provider, watch):
    for _ in range(3):
        assert find_key(keys, issuer(provider), "key-1") == provider.keys[0]
    assert len(provider.log) == 2
    watch.seconds = KEPT_S
    assert find_key(keys, issuer(provider), "key-1") == provider.keys[0]
    assert len(provider.log) == 4


def test_key_that_the_issuer_took_back_counts_no_longer(keys, provider, watch):
    find_key(keys, issuer(provider), "key-1")
    provider.keys = [Foreign(kid="key-2").jwk()]
    watch.seconds = KEPT_S
    assert find_key(keys, issuer(provider), "key-1") is None


def test_new_key_is_found_but_strangers_make_no_flood(keys, provider, watch):
    find_key(keys, issuer(provider), "key-1")
    for number in range(20):
        assert find_key(keys, issuer(provider), f"stranger-{number}") is None
    assert len(provider.log) == 2
    provider.keys.append(Foreign(kid="key-2").jwk())
    watch.seconds = 31
    assert find_key(keys, issuer(provider), "key-2") == provider.keys[1]


def test_path_of_an_issuer_belongs_to_its_discovery(keys, provider):
    provider.on("GET", "/realms/ci/.well-known/openid-configuration").answer(
        json.dumps({"issuer": f"{provider.url}/realms/ci", "jwks_uri": f"{provider.url}/keys"}).encode()
    )
    assert find_key(keys, Issuer(f"{provider.url}/realms/ci", OwnIssuer()), "key-1") == provider.keys[0]


@pytest.mark.parametrize("stated", ["https://other.example", None, 7])
def test_discovery_of_another_issuer_is_refused(keys, provider, stated):
    provider.discovery = {"issuer": stated}
    assert refused(keys, provider) in {Kind.UNAVAIL, Kind.PARSE}
    assert not provider.seen("GET", "/keys")


def test_issuer_is_compared_letter_by_letter(keys, provider):
    provider.discovery = {"issuer": provider.url + "/"}
    assert refused(keys, provider) is Kind.UNAVAIL


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
def test_redirect_is_refused_as_NET(keys, provider, path):
    with Provider() as other:
        provider.on("GET", path).redirect(other.url + path)
        assert refused(keys, provider) is Kind.NET
        assert not other.log


@pytest.mark.parametrize("url", ["http://192.0.2.7/keys", "file:///etc/passwd", "http://169.254.169.254/latest", "/keys", "https://a@b/"])
def test_keys_elsewhere_without_TLS_are_refused_as_NET(keys, provider, url):
    provider.discovery = {"jwks_uri": url}
    assert refused(keys, provider) is Kind.NET


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
@pytest.mark.parametrize("body", [b"", b"null", b'{"keys":7}', b'{"issuer":1,"issuer":2}', b'{"keys":[7]}', b'{"keys":[{"kid":7}]}'])
def test_malformed_answer_is_refused_as_PARSE(keys, provider, path, body):
    provider.on("GET", path).answer(body)
    assert refused(keys, provider) is Kind.PARSE


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
def test_endless_answer_is_refused_as_LIMIT(keys, provider, path):
    provider.on("GET", path).answer(b" " * (1 << 20))
    assert refused(keys, provider) is Kind.LIMIT


def test_too_many_keys_are_refused_as_LIMIT(keys, provider):
    provider.keys = [{"kid": str(number)} for number in range(101)]
    assert refused(keys, provider) is Kind.LIMIT


def test_issuer_that_is_down_is_UNAVAIL_and_asked_again_after_a_while(keys, provider, watch):
    provider.on("GET", DISCOVERY).status(503)
    assert refused(keys, provider) is Kind.UNAVAIL
    provider.forget()
    assert refused(keys, provider) is Kind.UNAVAIL
    assert not provider.log
    watch.seconds = 10
    assert find_key(keys, issuer(provider), "key-1") == provider.keys[0]


def test_operator_is_told_once_that_keys_cannot_be_had_and_once_that_they_can_again(keys, provider, watch, caplog):
    told = []
    for seconds in (0, 10, 20, 30):
        provider.forget()
        provider.on("GET", DISCOVERY).status(503) if seconds < 20 else provider.on("GET", DISCOVERY).answer(b"null")
        watch.seconds = seconds
        refused(keys, provider)
        told.append([(record.levelname, provider.url in record.message, record.message.count("SK-")) for record in caplog.records])
        caplog.clear()
    assert told == [[("ERROR", True, 1)], [], [("ERROR", True, 1)], []]
    provider.forget()
    for later in (40, 40 + KEPT_S):
        watch.seconds = later
        find_key(keys, issuer(provider), "key-1")
    assert [(record.levelname, provider.url in record.message) for record in caplog.records] == [("WARNING", True)]


def test_what_an_issuer_answers_is_escaped_in_the_log(keys, provider, caplog):
    provider.discovery = {"issuer": "https://x.example/\x1b[2J\u202e"}
    refused(keys, provider)
    assert [("\x1b" in record.message, "\u202e" in record.message) for record in caplog.records] == [(False, False)]


def test_issuer_that_answers_is_not_in_the_log(keys, provider, caplog):
    find_key(keys, issuer(provider), "key-1")
    assert not caplog.records


def test_keys_that_are_good_stay_when_a_token_of_an_unknown_key_makes_a_fetch_fail(keys, provider, watch):
    find_key(keys, issuer(provider), "key-1")
    provider.on("GET", DISCOVERY).status(503)
    watch.seconds = 31
    assert find_key(keys, issuer(provider), "stranger") is None
    assert find_key(keys, issuer(provider), "key-1") == provider.keys[0]
    provider.forget()
    watch.seconds = 60
    assert find_key(keys, issuer(provider), "stranger") is None
    assert not provider.log
    watch.seconds = 61
    assert find_key(keys, issuer(provider), "stranger") is None
    assert len(provider.log) == 2


def test_keys_of_an_issuer_that_is_down_count_no_longer_than_others(keys, provider, watch):
    find_key(keys, issuer(provider), "key-1")
    provider.on("GET", DISCOVERY).status(503)
    watch.seconds = KEPT_S - 1
    assert find_key(keys, issuer(provider), "stranger") is None
    watch.seconds = KEPT_S
    assert refused(keys, provider) is Kind.UNAVAIL


def test_keys_that_nobody_asked_to_fetch_are_not_waited_for(keys, provider, watch):
    with pytest.raises(AnswerUnusable):
        keys.find(issuer(provider), "key-1")
    assert not provider.log
    find_key(keys, issuer(provider), "key-1")
    watch.seconds = 2 * KEPT_S
    with pytest.raises(AnswerUnusable):
        keys.find(issuer(provider), "key-1")


def test_tokens_that_name_one_issuer_share_one_fetch_and_whoever_goes_away_ends_it_for_nobody(keys, provider):
    async def many() -> None:
        first = asyncio.ensure_future(keys.refresh(issuer(provider), "key-1"))
        others = [asyncio.ensure_future(keys.refresh(issuer(provider), f"stranger-{number}")) for number in range(20)]
        await asyncio.sleep(0)  # so that each has begun
        first.cancel()
        await asyncio.gather(*others)

    asyncio.run(many())
    assert keys.find(issuer(provider), "key-1") == provider.keys[0]
    assert len(provider.log) == 2


class HeldProvider(Provider):
    """One that answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let = threading.Event(), threading.Event()

    def serve(self, seen) -> Reply:
        self.asked.set()
        assert self.let.wait(60)
        return super().serve(seen)


def fetching_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("sigkit-keys")}


def test_close_waits_for_the_fetch_that_runs_and_leaves_no_thread(keys):
    before = fetching_threads()
    with HeldProvider() as held:
        asking = threading.Thread(target=lambda: asyncio.run(keys.refresh(issuer(held), "key-1")))
        asking.start()
        assert held.asked.wait(60)
        held.let.set()
        keys.close()
        assert keys.find(issuer(held), "key-1") == held.keys[0]
        asking.join()
    assert fetching_threads() == before


def test_nothing_is_fetched_after_close(keys, provider):
    keys.close()
    with pytest.raises(RuntimeError):
        find_key(keys, issuer(provider), "key-1")
    assert not provider.log


def test_authority_of_an_issuer_s_server_may_be_one_s_own(keys, tmp_path):
    identity = TlsIdentity.make(tmp_path, "localhost")
    with Provider(identity.server_context()) as provider:
        provider.url = provider.url.replace("127.0.0.1", "localhost")
        trusted = Issuer(provider.url, OwnIssuer(), ca_file=identity.ca_file)
        assert find_key(keys, trusted, "key-1") == provider.keys[0]


def test_server_of_an_unknown_authority_is_refused_as_NET(keys, tmp_path):
    with Provider(TlsIdentity.make(tmp_path, "localhost").server_context()) as provider:
        provider.url = provider.url.replace("127.0.0.1", "localhost")
        assert refused(keys, provider) is Kind.NET
        assert not provider.log


class _Answered:
    """A reply from a server on the open network."""

    status = 200
    nearness = Nearness.PUBLIC

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def read_all(self, _: int) -> bytes:
        return self.raw

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Recorded:
    """A session that only notes what it is asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def send(self, call: Call) -> _Answered:
        self.calls.append(call)
        found: Any = {"issuer": ISSUER, "jwks_uri": "https://10.0.0.1/keys"} if len(self.calls) == 1 else {"keys": []}
        return _Answered(json.dumps(found).encode())


def test_issuer_on_the_open_network_can_name_nothing_nearer():
    session: Any = _Recorded()
    assert find_key(IssuerKeySets({}, session), Issuer(ISSUER, OwnIssuer()), "key-1") is None
    assert [call.named_by for call in session.calls] == [Nearness.LOOPBACK, Nearness.PUBLIC]


def test_key_without_a_name_is_never_found(keys, provider):
    provider.keys = [{"kty": "EC"}, {"kid": None, "kty": "EC"}]
    assert find_key(keys, issuer(provider), "") is None
    assert find_key(keys, issuer(provider), "None") is None


@pytest.mark.parametrize("order", [1, -1])
def test_key_for_encryption_does_not_hide_the_key_of_its_name(keys, provider, order):
    signing, other = Foreign(kid="key-1").jwk(), Foreign(kid="key-1", algorithm="RS256").jwk(use="enc")
    provider.keys = [signing, other][::order]
    assert find_key(keys, issuer(provider), "key-1") == signing


def test_key_for_encryption_alone_is_never_found(keys, provider):
    provider.keys = [Foreign(kid="key-1").jwk(use="enc")]
    assert find_key(keys, issuer(provider), "key-1") is None
