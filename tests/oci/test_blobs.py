"""Blobs down and up against a registry that misbehaves on demand."""

from __future__ import annotations

import hashlib

import pytest

from sigkit.digest import Digest
from sigkit.errors import (
    AnswerUnusable,
    BlobAbsent,
    DigestMismatch,
    FileUnreadable,
    Kind,
    OtherHostRefused,
    RedirectRefused,
    ServerFailed,
    SigkitError,
    SizeMismatch,
    TimedOut,
    TooLarge,
    Unreachable,
)
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.exchange import RegistryOptions
from sigkit.oci.reference import Repository
from sigkit.oci.registry import RegistryClient
from tests.simulators.logins import basic, log_in
from tests.simulators.misbehaving_registry import MisbehavingRegistry, MisbehavingServer, Reply

DATA = hashlib.shake_256(b"blob").digest(100_000)
DIGEST = Digest.of(DATA)
BLOB = Descriptor("application/octet-stream", DIGEST, len(DATA))
GET = ("GET", "*/blobs/*")


@pytest.fixture
def reg():
    with MisbehavingRegistry() as running:
        running.state.put_blob("t/app", DATA)
        yield running


@pytest.fixture
def app(reg):
    return Repository(reg.address, "t/app")


def connect(**options):
    options.setdefault("timeout_s", 5)
    return RegistryClient(RegistryOptions(read_timeout_s=2, **options), sleep=lambda _: None)


@pytest.fixture
def client():
    with connect() as opened:
        yield opened


def pull(client, app, blob=BLOB):
    return client.fetch_blob(app, blob, most_bytes=1 << 20)


# --- down


def test_a_blob_comes_verified(app, client):
    assert pull(client, app) == DATA


def test_a_blob_streams(app, client):
    with client.open_blob(app, BLOB) as reader:
        assert b"".join(reader) == DATA


def test_a_stream_that_is_left_early_leaves_nothing_open(reg, app, client):
    with client.open_blob(app, BLOB) as reader:
        assert reader.read(10) == DATA[:10]
    assert pull(client, app) == DATA


def test_a_blob_beyond_the_callers_limit_is_not_asked_for(reg, app, client):
    with pytest.raises(TooLarge):
        client.fetch_blob(app, BLOB, most_bytes=len(DATA) - 1)
    assert reg.log == []


def test_changed_bytes_are_refused_before_the_end_is_given(reg, app, client):
    reg.on(*GET).answer(DATA[:-1] + b"?")
    with client.open_blob(app, BLOB) as reader, pytest.raises(DigestMismatch):
        list(reader)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x"], ids=["shorter", "longer"])
@pytest.mark.parametrize("framed", [True, False], ids=["promised", "unpromised"])
def test_another_size_is_refused(reg, app, client, data, framed):
    reg.on(*GET).change = lambda _, __: Reply(200, (), data, framed=framed)
    with pytest.raises(SizeMismatch):
        pull(client, app)


def test_a_promise_of_another_size_is_refused_before_a_byte_is_read(reg, app, client):
    reg.on(*GET).add(Content_Length=str(len(DATA) + 1))
    with pytest.raises(SizeMismatch), client.open_blob(app, BLOB):
        pytest.fail("the stream was opened")


def test_an_absent_blob_is_could_not_check(app, client):
    with pytest.raises(BlobAbsent) as refused:
        pull(client, app, Descriptor("a/b", Digest.of(b"absent"), 6))
    assert refused.value.status() == 3


def test_a_broken_transfer_is_continued_where_it_broke(reg, app, client):
    reg.on(*GET, times=2).cut_after(30_000)
    assert pull(client, app) == DATA
    assert [seen.headers.get("range") for seen in reg.log] == [None, "bytes=30000-", "bytes=60000-"]


def test_a_store_without_ranges_is_read_again_from_the_start(reg, app, client):
    reg.on(*GET, nth=1).cut_after(30_000)
    reg.on(*GET, nth=2).answer(DATA)
    assert pull(client, app) == DATA


def test_a_continued_transfer_of_other_bytes_is_refused(reg, app, client):
    reg.on(*GET, nth=1).cut_after(30_000)
    reg.on(*GET, nth=2).answer(b"x" * 70_000, status=206, headers={"Content-Range": "bytes 30000-99999/100000"})
    with pytest.raises(DigestMismatch):
        pull(client, app)


@pytest.mark.parametrize("content_range", [None, "bytes 0-99999/100000", "bytes 29999-99999/100000", "junk"])
def test_a_range_that_was_not_asked_for_is_refused(reg, app, client, content_range):
    reg.on(*GET, nth=1).cut_after(30_000)
    headers = {"Content-Range": content_range} if content_range else {}
    reg.on(*GET, nth=2).answer(DATA[30_000:], status=206, headers=headers)
    with pytest.raises(AnswerUnusable):
        pull(client, app)


def test_a_transfer_that_breaks_for_ever_ends(reg, app, client):
    reg.on(*GET).cut_after(10)
    with pytest.raises(Unreachable):
        pull(client, app)
    assert len(reg.log) == 9


def test_a_blob_that_drips_ends_with_the_deadline(reg, app):
    reg.state.put_blob("t/app", DATA[:1000])
    reg.on(*GET).drip(bytes_per_s=100)
    with connect(timeout_s=0.3) as client, pytest.raises(TimedOut) as refused:
        pull(client, app, Descriptor("a/b", Digest.of(DATA[:1000]), 1000))
    assert refused.value.status() == 3


# --- a store behind the registry


@pytest.fixture
def store():
    with MisbehavingServer(lambda _: Reply(200, (), DATA)) as running:
        yield running


def test_a_store_gets_no_credentials(reg, app, store):
    log_in(reg.address)
    reg.wants_basic(basic("user"))
    reg.on(*GET, nth=2).redirect(f"{store.url}/x?X-Amz-Algorithm=y")
    with connect() as client:
        assert pull(client, app) == DATA
    assert reg.log[1].headers["authorization"] == basic("user")
    assert "authorization" not in store.log[0].headers


def test_an_expired_url_of_a_store_is_asked_for_again_once(reg, app, client, store):
    reg.on(*GET).redirect(f"{store.url}/x")
    store.on("GET", "/x", nth=1).status(403)
    assert pull(client, app) == DATA
    assert (len(reg.log), len(store.log)) == (2, 2)


def test_a_store_that_keeps_refusing_is_could_not_check(reg, app, client, store):
    reg.on(*GET).redirect(f"{store.url}/x")
    store.on("GET", "/x").status(403)
    with pytest.raises(ServerFailed) as refused:
        pull(client, app)
    assert (refused.value.status(), len(store.log)) == (3, 2)


def test_a_store_that_asks_for_a_password_gets_none(reg, app, client, store):
    log_in(reg.address)
    reg.on(*GET).redirect(f"{store.url}/x")
    store.on("GET", "/x").status(401, WWW_Authenticate="Basic")
    with pytest.raises(ServerFailed):
        pull(client, app)
    assert not any("authorization" in seen.headers for seen in store.log)


def test_head_is_not_followed_to_a_store(reg, app, client, store):
    reg.on("HEAD", "*").redirect(f"{store.url}/x")
    assert client.has_blob(app, DIGEST)
    assert store.log == []


# --- up


def test_a_blob_goes_up_in_one_piece(reg, app, client):
    client.push_blob(app, Digest.of(b"new"), b"new")
    assert reg.state.blobs["t/app", str(Digest.of(b"new"))] == b"new"
    assert [seen.method for seen in reg.log] == ["HEAD", "POST", "PUT"]


def test_a_file_goes_up(reg, app, client, tmp_path):
    (tmp_path / "blob").write_bytes(DATA * 3)
    client.push_blob(app, Digest.of(DATA * 3), tmp_path / "blob")
    assert reg.state.blobs["t/app", str(Digest.of(DATA * 3))] == DATA * 3


def test_a_file_that_is_not_there_is_could_not_do(app, client, tmp_path):
    with pytest.raises(FileUnreadable):
        client.push_blob(app, Digest.of(b"new"), tmp_path / "absent")


def test_a_blob_that_is_there_is_not_sent_again(reg, app, client):
    client.push_blob(app, DIGEST, DATA)
    assert [seen.method for seen in reg.log] == ["HEAD"]


def test_a_large_blob_goes_up_in_chunks(reg, app):
    data = DATA + b"x"
    with connect(chunk_bytes=40_000) as client:
        client.push_blob(app, Digest.of(data), data)
    assert reg.state.blobs["t/app", str(Digest.of(data))] == data
    assert [seen.headers["content-range"] for seen in reg.seen("PATCH")] == ["0-39999", "40000-79999", "80000-100000"]


def test_chunks_are_as_large_as_the_registry_asks(reg, app):
    reg.state.chunk_min_length = 60_000
    data = DATA + b"x"
    with connect(chunk_bytes=40_000) as client:
        client.push_blob(app, Digest.of(data), data)
    assert [seen.headers["content-range"] for seen in reg.seen("PATCH")] == ["0-59999", "60000-100000"]


def test_a_broken_chunk_is_continued_from_what_the_registry_has(reg, app):
    data = DATA + b"x"
    reg.on("PATCH", "*", nth=2).close()  # stored, but the answer is lost
    with connect(chunk_bytes=40_000) as client:
        client.push_blob(app, Digest.of(data), data)
    assert reg.state.blobs["t/app", str(Digest.of(data))] == data
    assert len(reg.seen("PATCH")) == 3


def test_an_upload_in_one_piece_that_breaks_starts_again(reg, app, client):
    reg.on("PUT", "*", nth=1).close()
    client.push_blob(app, Digest.of(b"new"), b"new")
    assert reg.state.blobs["t/app", str(Digest.of(b"new"))] == b"new"


@pytest.mark.parametrize("location", ["https://evil.example/upload", "http://127.0.0.1:1/upload", "//evil.example/u"])
def test_an_upload_elsewhere_is_refused_before_a_byte_is_sent(reg, app, client, location):
    reg.on("POST", "*").answer(b"", status=202, headers={"Location": location})
    with pytest.raises(OtherHostRefused) as refused:
        client.push_blob(app, Digest.of(b"new"), b"new")
    assert refused.value.kind is Kind.NET
    assert reg.seen("PUT") == []


def test_an_upload_that_is_redirected_is_refused(reg, app, client):
    reg.on("PUT", "*").redirect("https://evil.example/upload")
    with pytest.raises(RedirectRefused):
        client.push_blob(app, Digest.of(b"new"), b"new")


@pytest.mark.parametrize("status", [400, 403, 404, 413, 500, 507])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_refused_upload_is_an_error(reg, app, client, method, status):
    reg.on(method, "*").status(status)
    with pytest.raises(SigkitError) as refused:
        client.push_blob(app, Digest.of(b"new"), b"new")
    assert refused.value.status() == 3


def test_an_upload_without_a_location_is_an_error(reg, app, client):
    reg.on("POST", "*").answer(b"", status=202)
    with pytest.raises(AnswerUnusable):
        client.push_blob(app, Digest.of(b"new"), b"new")
