"""The registry's routes, called without a server (tests/services/test_serve.py has one)."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import FileUnwritable
from sigkit.limits import BodyLimits, ServedLimits
from sigkit.oci.manifest import OCI_INDEX, OCI_MANIFEST, encode_index, encode_manifest
from sigkit.services.app import App, Mount
from sigkit.services.exchange import Request
from sigkit.services.registry import ReferrersApi, RegistryService, RegistryVariant
from sigkit.services.storage import Storage, TagRule
from sigkit.services.uploads import Uploads
from tests.simulators.asgi import Caller
from tests.simulators.images import AMD64, SmallImage, describe, small_image

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
ABSENT = Digest.of(b"absent")


class Served:
    """A registry to call, and its directory to look into."""

    def __init__(self, root: Path, variant: RegistryVariant, storage: Storage) -> None:
        self.root = root
        self.storage = storage
        self.service = RegistryService(storage, variant)
        self.app = App([Mount("", self.service, variant.limits.body)])
        self.call = Caller(self.app)

    def __call__(self, *args, **kwargs):
        return self.call(*args, **kwargs)

    def put_blob(self, data: bytes, name: str = "a/b", algorithm: str = "sha256") -> Digest:
        digest = Digest.of(data, algorithm)
        assert self("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", data).status == 201
        return digest

    def put_manifest(self, raw: bytes, what: str, media_type: str = OCI_MANIFEST, name: str = "a/b"):
        return self("PUT", f"/v2/{name}/manifests/{what}", raw, {"Content-Type": media_type})

    def push(self, image: SmallImage, tag: str, name: str = "a/b") -> Digest:
        self.put_blob(image.config, name)
        self.put_blob(image.layer, name)
        assert self.put_manifest(image.manifest, tag, name=name).status == 201
        return image.digest

    def attach(self, subject: bytes, artifact_type: str, note: str) -> Digest:
        config = describe(b"{}", EMPTY_TYPE)
        self.put_blob(b"{}")
        raw = encode_manifest(config, [], subject=describe(subject), artifact_type=artifact_type, annotations={"note": note})
        answer = self.put_manifest(raw, str(Digest.of(raw)))
        assert (answer.status, answer.headers.get("oci-subject")) == (201, str(Digest.of(subject)))
        return Digest.of(raw)

    def start(self, name: str = "a/b") -> str:
        answer = self("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202
        location: str = answer.headers["location"]
        return location

    def files(self, where: str) -> list[str]:
        return sorted(str(path.relative_to(self.root / where)) for path in (self.root / where).rglob("*") if path.is_file())


@pytest.fixture
def serve(tmp_path):
    """Return a function that opens a registry of some variant."""
    opened: list[Any] = []

    def make(**variant) -> Served:
        root = tmp_path / f"registry{len(opened)}"
        context = Storage.open(root)
        opened.append(context)
        return Served(root, RegistryVariant(**variant), context.__enter__())

    yield make
    for context in opened:
        context.__exit__(None, None, None)


@pytest.fixture
def registry(serve):
    return serve()


# --- blobs


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_blob_comes_back_as_it_was_pushed(registry, algorithm):
    data = bytes(range(256)) * 1000
    digest = registry.put_blob(data, algorithm=algorithm)
    answer = registry("GET", f"/v2/a/b/blobs/{digest}")
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["docker-content-digest"] == str(digest)
    head = registry("HEAD", f"/v2/a/b/blobs/{digest}")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(data)), b"")


def test_blob_larger_than_one_chunk_comes_back_whole(registry):
    data = bytes(range(256)) * 12_000
    digest = registry.put_blob(data)
    assert registry("GET", f"/v2/a/b/blobs/{digest}").body == data


def test_empty_blob_is_a_blob(registry):
    digest = registry.put_blob(b"")
    assert registry("GET", f"/v2/a/b/blobs/{digest}").body == b""


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        pytest.param("bytes=2-4", 206, b"234", "bytes 2-4/10", id="middle"),
        pytest.param("bytes=7-", 206, b"789", "bytes 7-9/10", id="open"),
        pytest.param("bytes=-3", 206, b"789", "bytes 7-9/10", id="last"),
        pytest.param("bytes=-30", 206, b"0123456789", "bytes 0-9/10", id="more than there is, from the end"),
        pytest.param("bytes=5-999", 206, b"56789", "bytes 5-9/10", id="beyond the end"),
        pytest.param("bytes=0-1,3-4", 200, b"0123456789", None, id="several ranges are ignored"),
        pytest.param("bytes=-", 200, b"0123456789", None, id="no range"),
        pytest.param("lines=1-2", 200, b"0123456789", None, id="another unit"),
    ],
)
def test_part_of_a_blob_is_answered(registry, asked, status, body, content_range):
    digest = registry.put_blob(b"0123456789")
    answer = registry("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.body, answer.headers.get("content-range")) == (status, body, content_range)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=4-2"])
def test_range_that_is_not_there_is_refused(registry, asked):
    digest = registry.put_blob(b"0123456789")
    answer = registry("GET", f"/v2/a/b/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */10")


def test_blob_is_found_in_its_own_repository_only(registry):
    digest = registry.put_blob(b"x", "a/b")
    registry.put_blob(b"y", "other")
    for method in ("GET", "HEAD", "DELETE"):
        assert registry(method, f"/v2/other/blobs/{digest}").status == 404
    assert registry("GET", f"/v2/other/blobs/{digest}").error == "BLOB_UNKNOWN"
    assert registry("GET", f"/v2/never/blobs/{digest}").error == "NAME_UNKNOWN"


@pytest.mark.parametrize("way", ["post", "put", "patch", "chunks"])
def test_wrong_digest_is_refused_and_nothing_kept(registry, way):
    wrong = Digest.of(b"other")
    if way == "post":
        answer = registry("POST", f"/v2/a/b/blobs/uploads/?digest={wrong}", b"data")
    else:
        location = registry.start()
        if way == "patch":
            registry("PATCH", location, b"data")
        elif way == "chunks":
            registry("PATCH", location, b"da", {"Content-Range": "0-1"})
            registry("PATCH", location, b"ta", {"Content-Range": "2-3"})
        answer = registry("PUT", f"{location}?digest={wrong}", b"data" if way == "put" else b"")
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    assert registry.files("uploads") == []
    assert registry.files("blobs") == []
    assert registry("HEAD", f"/v2/a/b/blobs/{wrong}").status == 404


def test_chunks_in_order_make_a_blob_and_tell_how_far_they_came(registry):
    location = registry.start()
    first = registry("PATCH", location, b"0123", {"Content-Range": "0-3"})
    assert (first.status, first.headers["range"]) == (202, "0-3")
    told = registry("GET", location)
    assert (told.status, told.headers["range"]) == (204, "0-3")
    assert registry("PATCH", location, b"45", {"Content-Range": "4-5"}).headers["range"] == "0-5"
    digest = Digest.of(b"0123456789")
    assert registry("PUT", f"{location}?digest={digest}", b"6789", {"Content-Range": "6-9"}).status == 201
    assert registry("GET", f"/v2/a/b/blobs/{digest}").body == b"0123456789"
    assert registry("GET", location).status == 404
    assert registry.files("uploads") == []


@pytest.mark.parametrize("stated", ["0-3", "5-8", "3-6"])
def test_chunk_out_of_order_changes_nothing(registry, stated):
    location = registry.start()
    registry("PATCH", location, b"0123", {"Content-Range": "0-3"})
    answer = registry("PATCH", location, b"xxxx", {"Content-Range": stated})
    assert (answer.status, answer.error, answer.headers["range"]) == (416, "BLOB_UPLOAD_INVALID", "0-3")
    assert registry("PUT", f"{location}?digest={Digest.of(b'0123')}").status == 201


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("stated", ["4-9", "4-5"])
def test_chunk_of_another_length_than_stated_changes_nothing(registry, stated, algorithm):
    location = registry.start()
    registry("PATCH", location, b"0123", {"Content-Range": "0-3"})
    answer = registry("PATCH", location, b"4567", {"Content-Range": stated})
    assert (answer.status, answer.error) == (400, "SIZE_INVALID")
    assert registry("PATCH", location, b"45", {"Content-Range": "4-5"}).status == 202
    assert registry("PUT", f"{location}?digest={Digest.of(b'012345', algorithm)}").status == 201


@pytest.mark.parametrize("stated", ["bytes 0-3/4", "0-", "-3", "x", "0-3/4"])
def test_malformed_content_range_is_refused(registry, stated):
    answer = registry("PATCH", registry.start(), b"0123", {"Content-Range": stated})
    assert (answer.status, answer.error) == (400, "BLOB_UPLOAD_INVALID")


def test_streamed_upload_survives_a_cut_and_is_resumed(registry):
    location = registry.start()
    assert registry("PATCH", location, [b"01", b"23", b"45"], gone_after=2) is None
    kept = registry("GET", location).headers["range"]
    assert kept in {"0-0", "0-3"}  # what came is kept in batches
    data = b"0123456789"
    done = 0 if kept == "0-0" else 4
    assert registry("PATCH", location, data[done:], {"Content-Range": f"{done}-9"}).status == 202
    assert registry("PUT", f"{location}?digest={Digest.of(data)}").status == 201


def test_cut_monolithic_upload_leaves_nothing(registry):
    assert registry("POST", f"/v2/a/b/blobs/uploads/?digest={Digest.of(b'0123')}", [b"01", b"23"], gone_after=1) is None
    assert registry.files("uploads") == []


def test_cancelled_upload_is_gone(registry):
    location = registry.start()
    registry("PATCH", location, b"data")
    assert registry("DELETE", location).status == 204
    assert registry("GET", location).status == 404
    assert registry("PUT", f"{location}?digest={Digest.of(b'data')}").error == "BLOB_UPLOAD_UNKNOWN"
    assert registry.files("uploads") == []


def test_upload_belongs_to_one_repository(registry):
    location = registry.start("a/b")
    elsewhere = location.replace("/v2/a/b/", "/v2/other/")
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert registry(method, elsewhere).status == 404


@pytest.mark.attack("uploads that nobody ends")
def test_oldest_upload_makes_room_for_a_new_one(serve):
    registry = serve(limits=ServedLimits(uploads=2))
    first, second = registry.start(), registry.start()
    assert registry("PATCH", first, b"0").status == 202  # later than the second
    third = registry.start()
    assert [registry("GET", location).status for location in (first, second, third)] == [204, 404, 204]
    assert len(registry.files("uploads")) == 2


@pytest.mark.attack("uploads that nobody ends")
@pytest.mark.parametrize("way", ["PATCH", "PUT", "POST"])
def test_upload_that_a_request_is_working_on_is_not_dropped_for_another(serve, way):
    registry = serve(limits=ServedLimits(uploads=1))
    digest = str(Digest.of(b"0123"))
    location = "/v2/a/b/blobs/uploads/" if way == "POST" else registry.start()
    others: list[Any] = []

    async def body():
        yield b"01"
        others.append(await registry.service.answer(Request("POST", "/v2/x/blobs/uploads/", {}, {}, whole(b""))))
        yield b"23"

    query = {} if way == "PATCH" else {"digest": digest}
    answer = asyncio.run(registry.service.answer(Request(way, location, query, {}, body())))
    assert answer.status == (202 if way == "PATCH" else 201)
    assert [(other.status, dict(other.headers)["Retry-After"]) for other in others] == [(429, "1")]
    if way == "PATCH":
        assert registry("PUT", f"{location}?digest={digest}").status == 201


class Coming:
    """A request that sends to an upload what it is told to, and its answer."""

    def __init__(self, registry: Served, location: str, way: str = "PATCH") -> None:
        query = {} if way == "PATCH" else {"digest": str(Digest.of(b"never"))}
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._answer = asyncio.create_task(registry.service.answer(Request(way, location, query, {}, self._body())))

    async def _body(self):
        while (piece := await self._pieces.get()) is not None:
            yield piece
            self._pieces.task_done()  # more is asked for

    def send(self, piece: bytes) -> None:
        self._pieces.put_nowait(piece)

    async def is_read(self) -> None:
        """Wait until all that was sent is read, and more is waited for."""
        async with asyncio.timeout(10):
            await self._pieces.join()

    async def end(self) -> int:
        self._pieces.put_nowait(None)
        async with asyncio.timeout(10):
            status: int = (await self._answer).status
            return status


async def begin(registry: Served) -> int:
    """Begin an upload for somebody else."""
    answer = await registry.service.answer(Request("POST", "/v2/x/blobs/uploads/", {}, {}, whole(b"")))
    status: int = answer.status
    return status


class Later:
    """Seconds by which the clock goes on at once."""

    def __init__(self, monkeypatch) -> None:
        self.seconds = 0.0
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + self.seconds)


@pytest.fixture
def later(monkeypatch):
    return Later(monkeypatch)


@pytest.mark.attack("uploads of a byte")
@pytest.mark.parametrize("way", ["PATCH", "PUT", "POST"])
def test_upload_that_comes_most_slowly_gives_way_to_another_and_leaves_nothing(serve, later, way):
    registry = serve(limits=ServedLimits(uploads=2))
    steady = registry.start()
    location = "/v2/a/b/blobs/uploads/" if way == "POST" else registry.start()

    async def act() -> list[int]:
        fast, slow = Coming(registry, steady), Coming(registry, location, way)
        fast.send(b"x" * (1 << 20))
        slow.send(b"x")
        await slow.is_read()
        await fast.is_read()
        statuses = [await begin(registry)]
        later.seconds = 6
        return [*statuses, await begin(registry), await slow.end(), await fast.end()]

    assert asyncio.run(act()) == [429, 202, 408, 202]
    assert registry("GET", steady).status == 204
    assert registry("GET", location).status in {404, 405}
    assert len(registry.files("uploads")) == 2


@pytest.mark.attack("uploads of a byte")
@pytest.mark.parametrize(("per_second", "given_way_at"), [(64 << 10, None), (32 << 10, 10), (0, 5)])
def test_upload_that_comes_at_the_least_rate_gives_way_to_nobody(serve, later, per_second, given_way_at):
    registry = serve(limits=ServedLimits(uploads=1))
    location = registry.start()

    async def act() -> tuple[int | None, int]:
        upload = Coming(registry, location)
        for second in range(1, 100):
            upload.send(b"x" * per_second)
            await upload.is_read()
            later.seconds = second
            if await begin(registry) == 202:
                return second, await upload.end()
        return None, await upload.end()

    assert asyncio.run(act()) == (given_way_at, 202 if given_way_at is None else 408)


@pytest.mark.attack("uploads of a byte")
def test_upload_that_was_just_begun_is_not_the_first_to_go(serve, later):
    registry = serve(limits=ServedLimits(uploads=2))
    location = registry.start()

    async def act() -> list[int]:
        slow = Coming(registry, location)
        slow.send(b"x")
        await slow.is_read()
        later.seconds = 6
        return [await begin(registry), await begin(registry), await slow.end()]

    assert asyncio.run(act()) == [202, 202, 408]
    assert len(registry.files("uploads")) == 2


@pytest.mark.attack("uploads of a byte")
def test_upload_of_which_more_comes_just_when_it_gives_way_keeps_nothing_of_it(serve, later):
    registry = serve(limits=ServedLimits(uploads=1))
    location = registry.start()

    async def act() -> list[int]:
        slow = Coming(registry, location)
        slow.send(b"x")
        await slow.is_read()
        later.seconds = 6
        slow.send(b"y" * (1 << 20))
        return [await begin(registry), await slow.end()]

    assert asyncio.run(act()) == [202, 408]
    assert [(registry.root / "uploads" / name).stat().st_size for name in registry.files("uploads")] == [0]


@pytest.mark.attack("uploads in memory")
def test_uploads_that_wait_for_their_clients_are_held_in_memory_up_to_a_bound(serve):
    registry = serve(limits=ServedLimits(uploads_bytes=1_000_000))
    locations = [registry.start() for _ in range(20)]

    async def act() -> list[int]:
        coming = [Coming(registry, location) for location in locations]
        for upload in coming:
            upload.send(b"x" * 200_000)
            await upload.is_read()
        held = [path.stat().st_size for path in (registry.root / "uploads").iterdir()]
        assert [await upload.end() for upload in coming] == [202] * 20
        return held

    assert sorted(asyncio.run(act())) == [0] * 5 + [200_000] * 15
    assert [path.stat().st_size for path in (registry.root / "uploads").iterdir()] == [200_000] * 20


@pytest.mark.attack("uploads that nobody ends")
@pytest.mark.parametrize(
    ("limits_", "sent"), [(ServedLimits(upload_idle_s=-1), b"x"), (ServedLimits(upload_empty_s=-1), b"")], ids=["idle", "empty"]
)
def test_idle_uploads_make_room(serve, limits_, sent):
    registry = serve(limits=limits_)
    location = registry.start()
    registry("PATCH", location, sent)
    registry.start()
    assert registry("GET", location).status == 404
    assert len(registry.files("uploads")) == 1


def test_upload_with_a_byte_is_kept_longer_than_an_empty_one(serve):
    registry = serve(limits=ServedLimits(upload_empty_s=-1))
    location = registry.start()
    registry("PATCH", location, b"x")
    registry.start()
    assert registry("GET", location).status == 204


def test_blob_beyond_the_limit_is_refused_and_dropped(serve):
    registry = serve(limits=ServedLimits(blob_bytes=6))
    location = registry.start()
    assert registry("PATCH", location, b"0123").status == 202
    answer = registry("PATCH", location, b"4567")
    assert (answer.status, answer.error) == (413, "SIZE_INVALID")
    assert registry.files("uploads") == []


def test_blob_is_mounted_from_where_it_is(registry):
    digest = registry.put_blob(b"x", "from/here")
    answer = registry("POST", f"/v2/to/there/blobs/uploads/?mount={digest}&from=from/here")
    assert (answer.status, answer.headers["location"]) == (201, f"/v2/to/there/blobs/{digest}")
    assert registry("GET", f"/v2/to/there/blobs/{digest}").body == b"x"


@pytest.mark.parametrize(
    "query", [f"mount={ABSENT}&from=from/here", f"mount={ABSENT}", f"mount={ABSENT}&from=never", f"mount={ABSENT}&from=UPPER"]
)
def test_blob_that_is_not_there_to_mount_is_uploaded_instead(registry, query):
    registry.put_blob(b"x", "from/here")
    assert registry("POST", f"/v2/a/b/blobs/uploads/?{query}").status == 202


def test_pushing_again_heals_damaged_content(registry):
    digest = registry.put_blob(b"data")
    (registry.root / "blobs" / "sha256" / digest.hex).write_bytes(b"dama")
    registry.put_blob(b"data", "other")
    assert registry("GET", f"/v2/a/b/blobs/{digest}").body == b"data"


def test_deleted_blob_is_gone_here_and_stays_elsewhere(registry):
    digest = registry.put_blob(b"x", "a/b")
    registry.put_blob(b"x", "a")
    assert registry("DELETE", f"/v2/a/b/blobs/{digest}").status == 202
    assert registry("HEAD", f"/v2/a/b/blobs/{digest}").status == 404
    assert registry("DELETE", f"/v2/a/b/blobs/{digest}").status == 404
    assert registry("GET", f"/v2/a/blobs/{digest}").body == b"x"
    assert registry("DELETE", f"/v2/a/blobs/{digest}").status == 202
    assert registry.files("blobs") == []


# --- manifests


def test_manifest_comes_back_under_tag_and_digest(registry):
    image = small_image()
    digest = registry.push(image, "v1")
    for what in ("v1", digest):
        answer = registry("GET", f"/v2/a/b/manifests/{what}")
        assert (answer.status, answer.body) == (200, image.manifest)
        assert (answer.headers["content-type"], answer.headers["docker-content-digest"]) == (OCI_MANIFEST, str(digest))
        head = registry("HEAD", f"/v2/a/b/manifests/{what}")
        assert (head.status, head.headers["content-length"]) == (200, str(len(image.manifest)))


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_manifest_is_named_by_the_algorithm_that_it_is_pushed_with(registry, algorithm):
    image = small_image()
    registry.push(image, "v1")
    digest = Digest.of(image.manifest, algorithm)
    answer = registry.put_manifest(image.manifest, str(digest))
    assert (answer.status, answer.headers["docker-content-digest"]) == (201, str(digest))
    assert registry("GET", f"/v2/a/b/manifests/{digest}").body == image.manifest


def test_manifest_of_another_digest_is_refused(registry):
    image = small_image()
    registry.push(image, "v1")
    answer = registry.put_manifest(small_image(b"other").manifest, str(image.digest))
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    assert registry("GET", f"/v2/a/b/manifests/{image.digest}").body == image.manifest


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        pytest.param(b"{}", OCI_MANIFEST, id="empty object"),
        pytest.param(b"not JSON", OCI_MANIFEST, id="not JSON"),
        pytest.param(encode_index([]), OCI_MANIFEST, id="an index called a manifest"),
        pytest.param(encode_index([]), "", id="no type"),
        pytest.param(b'{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}', OCI_INDEX, id="both in one"),
    ],
)
def test_what_is_no_manifest_of_its_stated_type_is_refused(registry, raw, media_type):
    answer = registry.put_manifest(raw, "v1", media_type)
    assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")
    assert registry("GET", "/v2/a/b/manifests/v1").status == 404


def test_manifest_whose_layer_is_not_there_is_refused(registry):
    image = small_image()
    registry.put_blob(image.config)
    answer = registry.put_manifest(image.manifest, "v1")
    assert (answer.status, answer.error) == (404, "MANIFEST_BLOB_UNKNOWN")


def test_manifest_may_name_layers_that_are_not_distributed(registry):
    config = describe(b"{}", EMPTY_TYPE)
    registry.put_blob(b"{}")
    layer = describe(b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert registry.put_manifest(encode_manifest(config, [layer]), "v1").status == 201


def test_index_may_be_sparse(registry):
    assert registry.put_manifest(encode_index([describe(b"elsewhere", platform=AMD64)]), "v1", OCI_INDEX).status == 201


@pytest.mark.parametrize("known", ["stated", "found out"])
def test_manifest_beyond_the_limit_is_refused(registry, known):
    raw = b" " * (limits.MANIFEST_BYTES + 1)
    body = raw if known == "stated" else [raw[:100], raw[100:]]
    answer = registry.put_manifest(body, "v1")
    assert (answer.status, answer.error) == (413, "SIZE_INVALID")


@pytest.mark.parametrize(("stated", "read_bytes"), [(True, 0), (False, limits.MANIFEST_BYTES + 1024)])
def test_manifest_beyond_the_limit_is_not_read(registry, stated, read_bytes):
    pieces = 16 * limits.MANIFEST_BYTES // 1024
    given = 0

    async def body():
        nonlocal given
        for _ in range(pieces):
            given += 1024
            yield b" " * 1024

    headers = {"content-type": OCI_MANIFEST} | ({"content-length": str(pieces * 1024)} if stated else {})
    answer = asyncio.run(registry.service.answer(Request("PUT", "/v2/a/b/manifests/v1", {}, headers, body())))
    assert (answer.status, given) == (413, read_bytes)


def test_manifest_at_the_limit_is_taken(registry):
    registry.put_blob(b"{}")
    config = describe(b"{}", EMPTY_TYPE)
    short = encode_manifest(config, [], annotations={"fill": ""})
    raw = encode_manifest(config, [], annotations={"fill": "x" * (limits.MANIFEST_BYTES - len(short))})
    assert len(raw) == limits.MANIFEST_BYTES
    assert registry.put_manifest(raw, "v1").status == 201


@pytest.mark.attack("manifests at once")
def test_manifests_that_come_at_once_are_bounded_together(serve):
    registry = serve(limits=ServedLimits(manifests_bytes=3_000))
    registry.push(small_image(), "v1")
    raw = small_image().manifest
    others: list[Any] = []

    async def put(body):
        headers = {"content-type": OCI_MANIFEST}
        return await registry.service.answer(Request("PUT", "/v2/a/b/manifests/v2", {}, headers, body))

    async def held():
        yield b" " * (3_000 - len(raw) + 1)
        others.append(await put(whole(raw)))

    assert asyncio.run(put(held())).status == 400  # blanks
    assert (others[0].status, dict(others[0].headers)["Retry-After"]) == (429, "1")
    assert asyncio.run(put(whole(raw))).status == 201  # what was held is given back, by those that were refused too


@pytest.mark.attack("manifests at once")
def test_large_manifests_leave_room_for_small_ones(serve):
    registry = serve(limits=ServedLimits(manifests_bytes=420_000))
    registry.push(small_image(), "v1")
    others: list[int] = []

    async def put(body) -> int:
        request = Request("PUT", "/v2/a/b/manifests/v2", {}, {"content-type": OCI_MANIFEST}, body)
        status: int = (await registry.service.answer(request)).status
        return status

    async def held(size: int, within):
        yield b" " * size
        others.extend([await put(within), await put(whole(small_image().manifest))])

    assert asyncio.run(put(held(100_000, held(200_000, whole(large_manifest()))))) == 400  # blanks
    assert others == [429, 201, 400, 201]


@pytest.mark.attack("manifests at once")
@pytest.mark.parametrize("ends", ["never", "just then"])
def test_manifest_that_comes_slowly_gives_way_to_one_for_which_there_is_no_room(serve, ends):
    registry = serve(limits=ServedLimits(manifests_bytes=3_000, manifest_safe_s=0))
    registry.push(small_image(), "v1")
    raw = small_image().manifest

    async def put(body):
        headers = {"content-type": OCI_MANIFEST}
        return (await registry.service.answer(Request("PUT", "/v2/a/b/manifests/v2", {}, headers, body))).status

    async def act():
        begun, gone_on = asyncio.Event(), asyncio.Event()

        async def slow():
            yield b" " * (3_000 - len(raw) + 1)
            begun.set()
            await gone_on.wait()
            yield raw  # a manifest, if what came before it is left out

        async def fast():
            if ends == "just then":
                gone_on.set()
            yield raw

        async with asyncio.timeout(10):
            first = asyncio.create_task(put(slow()))
            await begun.wait()
            second = await put(fast())
            return await first, second

    assert asyncio.run(act()) == (408, 201)
    assert asyncio.run(put(whole(raw))) == 201


@pytest.mark.attack("manifests at once")
def test_manifest_that_does_not_come_to_its_end_is_given_up(serve):
    registry = serve(limits=ServedLimits(manifest_s=0.05))

    async def body():
        yield b"{"
        await asyncio.Event().wait()

    headers = {"content-type": OCI_MANIFEST}

    async def act() -> int:
        async with asyncio.timeout(10):
            answer = await registry.service.answer(Request("PUT", "/v2/a/b/manifests/v1", {}, headers, body()))
            status: int = answer.status
            return status

    assert asyncio.run(act()) == 408


def test_tag_moves(registry):
    registry.push(small_image(b"old"), "v1")
    new = registry.push(small_image(b"new"), "v1")
    assert registry("GET", "/v2/a/b/manifests/v1").headers["docker-content-digest"] == str(new)


def test_immutable_tag_stays_and_may_be_pushed_again_unchanged(serve):
    registry = serve(tags=TagRule.IMMUTABLE)
    old, new = small_image(b"old"), small_image(b"new")
    registry.push(old, "v1")
    registry.push(old, "v1")
    registry.push(new, "v2")
    answer = registry.put_manifest(new.manifest, "v1")
    assert (answer.status, answer.error) == (400, "TAG_INVALID")
    assert registry("GET", "/v2/a/b/manifests/v1").body == old.manifest


def test_an_immutable_tag_stays_where_two_push_it_at_once(serve):
    registry = serve(tags=TagRule.IMMUTABLE)
    images = [small_image(bytes([number])) for number in range(8)]
    for number, image in enumerate(images):
        registry.push(image, f"own-{number}")
    for turn in range(10):
        with ThreadPoolExecutor(8) as pushing:
            answers = list(pushing.map(lambda image, tag=f"v{turn}": registry.put_manifest(image.manifest, tag).status, images))
        assert sorted(answers) == [201] + [400] * 7
        assert registry("GET", f"/v2/a/b/manifests/v{turn}").body == images[answers.index(201)].manifest


def test_deleted_tag_leaves_the_manifest(registry):
    digest = registry.push(small_image(), "v1")
    assert registry("DELETE", "/v2/a/b/manifests/v1").status == 202
    assert registry("GET", "/v2/a/b/manifests/v1").status == 404
    assert registry("DELETE", "/v2/a/b/manifests/v1").status == 404
    assert registry("GET", f"/v2/a/b/manifests/{digest}").status == 200


def test_deleted_manifest_takes_its_tags_and_its_place_among_referrers_along(registry):
    image = small_image()
    digest = registry.push(image, "v1")
    signature = registry.attach(image.manifest, "application/x", "one")
    assert registry("DELETE", f"/v2/a/b/manifests/{signature}").status == 202
    assert registry("GET", f"/v2/a/b/referrers/{digest}").json()["manifests"] == []
    assert registry("DELETE", f"/v2/a/b/manifests/{digest}").status == 202
    assert registry("GET", f"/v2/a/b/manifests/{digest}").error == "MANIFEST_UNKNOWN"
    assert registry("GET", "/v2/a/b/tags/list").json()["tags"] == []


def test_damaged_manifest_can_be_deleted(registry):
    image = small_image()
    registry.push(image, "v1")
    signature = registry.attach(image.manifest, "application/x", "one")
    (registry.root / "blobs" / "sha256" / signature.hex).write_bytes(b"garbage")
    assert registry("DELETE", f"/v2/a/b/manifests/{signature}").status == 202
    assert registry("GET", f"/v2/a/b/referrers/{image.digest}").json()["manifests"] == []


# --- lists


def test_tags_are_listed_in_order_and_in_pages(serve):
    registry = serve(limits=ServedLimits(page=2))
    for tag in ("b", "A", "c", "a", "B"):
        registry.push(small_image(tag.encode()), tag)
    found, target = [], "/v2/a/b/tags/list"
    pages = 0
    while target:
        answer = registry("GET", target)
        found += answer.json()["tags"]
        pages += 1
        target = answer.headers["link"].partition(">")[0][1:] if "link" in answer.headers else ""
    assert (found, pages) == (["A", "a", "B", "b", "c"], 3)


def test_number_of_tags_is_the_clients_choice_below_the_registrys(registry):
    for tag in ("a", "b", "c"):
        registry.push(small_image(tag.encode()), tag)
    assert registry("GET", "/v2/a/b/tags/list?n=2").json()["tags"] == ["a", "b"]
    assert registry("GET", "/v2/a/b/tags/list?n=2&last=b").json()["tags"] == ["c"]
    none = registry("GET", "/v2/a/b/tags/list?n=0")
    assert (none.json()["tags"], "link" in none.headers) == ([], False)


@pytest.mark.parametrize("number", ["-1", "x", "1.0", "", "2147483648", "٣"])
def test_number_of_tags_beyond_reason_is_refused(registry, number):
    registry.push(small_image(), "v1")
    answer = registry("GET", f"/v2/a/b/tags/list?n={number}")
    assert (answer.status, answer.error) == (400, "PAGINATION_NUMBER_INVALID")


@pytest.mark.attack("CVE-2023-2253, CVE-2017-11468")
def test_of_more_tags_than_a_page_has_the_first_come_with_a_link_to_the_rest(serve):
    registry = serve(limits=ServedLimits(page=2))
    for tag in ("a", "b", "c"):
        registry.push(small_image(tag.encode()), tag)
    answer = registry("GET", "/v2/a/b/tags/list?n=999999999")
    assert (answer.json()["tags"], "n=2&last=b" in answer.headers["link"]) == (["a", "b"], True)


def test_tags_of_an_unknown_repository_are_unknown(registry):
    assert registry("GET", "/v2/never/tags/list").error == "NAME_UNKNOWN"


def test_referrers_are_listed_with_type_and_annotations(registry):
    image = small_image()
    registry.push(image, "v1")
    one = registry.attach(image.manifest, "application/x", "one")
    answer = registry("GET", f"/v2/a/b/referrers/{image.digest}")
    assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
    (found,) = answer.json()["manifests"]
    assert (found["digest"], found["artifactType"], found["annotations"]) == (str(one), "application/x", {"note": "one"})


def test_referrer_without_artifact_type_has_its_configurations(registry):
    registry.put_blob(b"{}")
    raw = encode_manifest(describe(b"{}", EMPTY_TYPE), [], subject=describe(b"subject"))
    registry.put_manifest(raw, "x")
    (found,) = registry("GET", f"/v2/a/b/referrers/{Digest.of(b'subject')}").json()["manifests"]
    assert found["artifactType"] == EMPTY_TYPE


def test_a_list_that_was_asked_for_before_has_what_came_and_has_not_what_went(registry):
    image = small_image()
    registry.push(image, "v1")
    target = f"/v2/a/b/referrers/{image.digest}"
    assert registry("GET", target).json()["manifests"] == []
    one, two = (registry.attach(image.manifest, "application/x", note) for note in ("one", "two"))
    listed = registry("GET", target)
    assert {found["digest"] for found in listed.json()["manifests"]} == {str(one), str(two)}
    assert registry("GET", target).body == listed.body
    assert registry("DELETE", f"/v2/a/b/manifests/{one}").status == 202
    assert [found["digest"] for found in registry("GET", target).json()["manifests"]] == [str(two)]
    assert registry("GET", f"/v2/other/referrers/{image.digest}").json()["manifests"] == []
    assert registry.attach(image.manifest, "application/x", "one") == one
    assert registry("GET", target).body == listed.body


def test_referrers_are_filtered_by_type_and_say_so(registry):
    image = small_image()
    registry.push(image, "v1")
    registry.attach(image.manifest, "application/x+json", "one")
    two = registry.attach(image.manifest, "application/y", "two")
    answer = registry("GET", f"/v2/a/b/referrers/{image.digest}?artifactType=application/y")
    assert [found["digest"] for found in answer.json()["manifests"]] == [str(two)]
    assert answer.headers["oci-filters-applied"] == "artifactType"
    for spelled in ("application%2Fx%2Bjson", "application/x+json"):
        assert len(registry("GET", f"/v2/a/b/referrers/{image.digest}?artifactType={spelled}").json()["manifests"]) == 1


def test_referrers_come_in_pages(serve):
    registry = serve(limits=ServedLimits(page=2))
    image = small_image()
    registry.push(image, "v1")
    attached = {str(registry.attach(image.manifest, "application/x", str(number))) for number in range(5)}
    found, target = [], f"/v2/a/b/referrers/{image.digest}?artifactType=application/x"
    while target:
        answer = registry("GET", target)
        found += [item["digest"] for item in answer.json()["manifests"]]
        assert len(answer.json()["manifests"]) <= 2
        target = answer.headers["link"].partition(">")[0][1:] if "link" in answer.headers else ""
    assert len(found) == 5
    assert set(found) == attached


@pytest.mark.attack("lists of thousands")
def test_pages_of_referrers_stay_below_what_clients_read(registry):
    image = small_image()
    registry.push(image, "v1")
    for number in range(4):
        registry.attach(image.manifest, "application/x", str(number) * (limits.MANIFEST_BYTES // 4))
    answer = registry("GET", f"/v2/a/b/referrers/{image.digest}")
    assert len(answer.body) < limits.MANIFEST_BYTES
    assert "link" in answer.headers


@pytest.mark.attack("lists of thousands")
def test_a_manifest_of_which_a_list_would_say_more_than_clients_read_is_refused(registry):
    image = small_image()
    registry.push(image, "v1")
    index = {"schemaVersion": 2, "manifests": [], "subject": {"mediaType": OCI_MANIFEST, "digest": str(image.digest), "size": 1}}
    room = limits.MANIFEST_BYTES - len(json.dumps(index | {"annotations": {"x": ""}}))
    raw = json.dumps(index | {"annotations": {"x": "x" * room}}).encode()
    assert len(raw) == limits.MANIFEST_BYTES
    answer = registry.put_manifest(raw, "big", OCI_INDEX)
    assert (answer.status, answer.error) == (413, "SIZE_INVALID")
    assert registry("GET", f"/v2/a/b/referrers/{image.digest}").json()["manifests"] == []
    assert registry("HEAD", "/v2/a/b/manifests/big").status == 404


def filtered_pages(registry, image) -> list[int]:
    """Return how many referrers are on each page of those that are wanted."""
    found, target = [], f"/v2/a/b/referrers/{image.digest}?artifactType=application/x"
    while target:
        answer = registry("GET", target)
        found.append(len(answer.json()["manifests"]))
        target = answer.headers["link"].partition(">")[0][1:] if "link" in answer.headers else ""
    return found


def test_page_that_a_filter_leaves_empty_is_passed_over(serve):
    registry = serve(limits=ServedLimits(page=1))
    image = small_image()
    registry.push(image, "v1")
    for number in range(3):
        registry.attach(image.manifest, "application/y", str(number))
    assert filtered_pages(registry, image) == [0]
    registry.attach(image.manifest, "application/x", "")
    pages = filtered_pages(registry, image)
    assert (sum(pages), pages[0]) == (1, 1)


@pytest.mark.attack("lists of thousands")
def test_only_so_many_pages_are_passed_over_for_one_answer(serve):
    registry = serve(limits=ServedLimits(page=1))
    image = small_image()
    registry.push(image, "v1")
    for number in range(10):
        registry.attach(image.manifest, "application/y", str(number))
    assert filtered_pages(registry, image) == [0, 0, 0]


class Watched:
    """A storage that keeps in which threads it is asked for what touches many files, and lets the first such call wait."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.threads: dict[str, set[str]] = {}
        self.entered, self.released = threading.Event(), threading.Event()

    def __getattr__(self, name: str):
        found = getattr(self._storage, name)
        if name not in {"list_tags", "list_referrers", "has_blob"}:
            return found

        def call(*arguments):
            self.threads.setdefault(name, set()).add(threading.current_thread().name)
            self.entered.set()
            assert self.released.wait(5)
            return found(*arguments)

        return call


@pytest.mark.attack("lists of thousands")
@pytest.mark.parametrize(
    ("method", "target", "touched"),
    [
        ("GET", f"/v2/a/b/referrers/{small_image().digest}", "list_referrers"),
        ("GET", "/v2/a/b/tags/list", "list_tags"),
        ("PUT", "/v2/a/b/manifests/v2", "has_blob"),
    ],
)
def test_others_are_answered_while_a_request_touches_many_files(registry, method, target, touched):
    registry.push(small_image(), "v1")
    storage = Watched(registry.storage)
    service = RegistryService(storage, RegistryVariant())  # type: ignore[arg-type]

    async def act() -> list[int]:
        headers = {"content-type": OCI_MANIFEST}
        slow = asyncio.create_task(service.answer(Request(method, target, {}, headers, whole(small_image().manifest))))
        assert await asyncio.to_thread(storage.entered.wait, 20)
        other = await service.answer(Request("GET", "/v2/", {}, {}, whole(b"")))
        storage.released.set()
        return [other.status, (await slow).status]

    assert asyncio.run(act()) == [200, 201 if method == "PUT" else 200]
    assert threading.current_thread().name not in storage.threads[touched]


@pytest.mark.attack("lists of thousands")
def test_lists_that_wait_take_no_thread(registry):
    registry.push(small_image(), "v1")
    storage = Watched(registry.storage)
    service = RegistryService(storage, RegistryVariant())  # type: ignore[arg-type]

    async def act() -> list[int]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        target = f"/v2/a/b/referrers/{small_image().digest}"
        lists = [asyncio.create_task(service.answer(Request("GET", target, {}, {}, whole(b"")))) for _ in range(8)]
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(storage.entered.wait, 20)
            other = await service.answer(Request("DELETE", f"/v2/a/b/blobs/{ABSENT}", {}, {}, whole(b"")))
        storage.released.set()
        return [other.status, *[answer.status for answer in await asyncio.gather(*lists)]]

    assert asyncio.run(act()) == [404] + [200] * 8


@pytest.mark.attack("lists of one client")
@pytest.mark.parametrize("target", [f"/v2/a/b/referrers/{small_image().digest}", "/v2/a/b/tags/list"])
def test_who_asks_for_many_lists_waits_for_itself(registry, target):
    registry.push(small_image(), "v1")
    storage = Watched(registry.storage)
    service = RegistryService(storage, RegistryVariant())  # type: ignore[arg-type]
    answered: list[str] = []

    async def ask(peer: str) -> None:
        assert (await service.answer(Request("GET", target, {}, {}, whole(b""), peer=peer))).status == 200
        answered.append(peer)

    async def act() -> None:
        greedy = [asyncio.create_task(ask("192.0.2.1")) for _ in range(20)]
        assert await asyncio.to_thread(storage.entered.wait, 20)
        other = asyncio.create_task(ask("192.0.2.2"))
        await asyncio.sleep(0)
        storage.released.set()
        await asyncio.gather(*greedy, other)

    asyncio.run(act())
    assert answered.index("192.0.2.2") <= 2


@pytest.mark.attack("lists of one client")
def test_a_list_that_is_waited_for_too_long_is_to_be_asked_for_again(registry):
    registry.push(small_image(), "v1")
    storage = Watched(registry.storage)
    service = RegistryService(storage, RegistryVariant(limits=ServedLimits(turn_s=0)))  # type: ignore[arg-type]
    request = Request("GET", "/v2/a/b/tags/list", {}, {}, whole(b""))

    async def act():
        first = asyncio.create_task(service.answer(request))
        assert await asyncio.to_thread(storage.entered.wait, 20)
        second = await service.answer(request)
        storage.released.set()
        return (await first).status, second.status, dict(second.headers)["Retry-After"]

    assert asyncio.run(act()) == (200, 503, "1")


@pytest.mark.attack("threads of all services")
def test_the_registry_takes_no_thread_that_other_services_share(registry):
    image = small_image()
    digest = registry.push(image, "v1")
    registry.push(image, "v1", "c")
    headers = {"content-type": OCI_MANIFEST}

    async def act() -> list[int]:
        shared = ThreadPoolExecutor(1)
        shared.shutdown()  # whatever is submitted to it fails
        asyncio.get_running_loop().set_default_executor(shared)
        blob = {"digest": str(Digest.of(b"blob"))}
        asked = [
            Request("POST", "/v2/a/b/blobs/uploads/", blob, {}, whole(b"blob")),
            Request("POST", "/v2/a/b/blobs/uploads/", {"mount": str(Digest.of(image.layer)), "from": "c"}, {}, whole(b"")),
            Request("PUT", "/v2/a/b/manifests/v2", {}, headers, whole(image.manifest)),
            Request("PUT", "/v2/a/b/manifests/v3", {}, headers, whole(large_manifest())),
            Request("GET", "/v2/a/b/tags/list", {}, {}, whole(b"")),
            Request("GET", f"/v2/a/b/referrers/{digest}", {}, {}, whole(b"")),
            Request("DELETE", "/v2/a/b/manifests/v2", {}, {}, whole(b"")),
            Request("DELETE", f"/v2/a/b/manifests/{digest}", {}, {}, whole(b"")),
            Request("DELETE", f"/v2/a/b/blobs/{blob['digest']}", {}, {}, whole(b"")),
        ]
        return [(await registry.service.answer(request)).status for request in asked]

    assert asyncio.run(act()) == [201, 201, 201, 201, 200, 200, 202, 202, 202]


def large_manifest() -> bytes:
    image = small_image()
    return encode_manifest(describe(image.config), [], annotations={"fill": "x" * 100_000})


@pytest.mark.attack("threads of all services")
def test_one_large_manifest_at_a_time_is_parsed_and_small_ones_wait_for_none(serve):
    registry = serve(limits=ServedLimits(turn_s=0))
    registry.push(small_image(), "v1")

    async def put(tag: str, raw: bytes) -> int:
        answer = await registry.service.answer(Request("PUT", f"/v2/a/b/manifests/{tag}", {}, {"content-type": OCI_MANIFEST}, whole(raw)))
        status: int = answer.status
        return status

    async def act() -> list[int]:
        held = threading.Event()
        for _ in range(64):  # more than there are threads: nothing is parsed until it is let go
            registry.storage.own_threads.submit(held.wait, 20)
        pushes = [asyncio.create_task(put(tag, large_manifest())) for tag in ("v2", "v3")]
        refused = (await asyncio.wait(pushes, return_when=asyncio.FIRST_COMPLETED))[0]
        small = asyncio.create_task(put("v4", small_image().manifest))
        await asyncio.sleep(0)
        held.set()
        assert refused == {pushes[1]}
        return [await push for push in (*pushes, small)]

    assert asyncio.run(act()) == [201, 503, 201]


def test_referrers_of_what_is_not_there_are_an_empty_list(registry):
    answer = registry("GET", f"/v2/never/referrers/{ABSENT}")
    assert (answer.status, answer.json()["manifests"]) == (200, [])


def test_without_the_referrers_api_neither_list_nor_subject_is_answered(serve):
    registry = serve(referrers=ReferrersApi.OFF)
    registry.put_blob(b"{}")
    raw = encode_manifest(describe(b"{}", EMPTY_TYPE), [], subject=describe(b"subject"))
    answer = registry.put_manifest(raw, "x")
    assert (answer.status, "oci-subject" in answer.headers) == (201, False)
    listed = registry("GET", f"/v2/a/b/referrers/{Digest.of(b'subject')}")
    # Clients tell an absent API from an absent repository by this.
    assert (listed.status, listed.headers["content-type"]) == (404, "text/plain")


# --- names and methods


@pytest.mark.parametrize("name", ["A", "a/../b", "a//b", "-a", "a/_blobs", "a/.hidden", "a" * 256, "a%2f..%2fb", "é"])
def test_malformed_repository_is_refused_everywhere(registry, name):
    for method, target in (
        ("GET", f"/v2/{name}/tags/list"),
        ("PUT", f"/v2/{name}/manifests/v1"),
        ("POST", f"/v2/{name}/blobs/uploads/"),
        ("GET", f"/v2/{name}/blobs/{ABSENT}"),
        ("GET", f"/v2/{name}/referrers/{ABSENT}"),
    ):
        answer = registry(method, target)
        assert (answer.status, answer.error) == (400, "NAME_INVALID")
    assert not (registry.root / "repositories").exists()


@pytest.mark.parametrize("digest", ["sha256:..", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha256:" + "0" * 63])
def test_malformed_digest_is_refused_everywhere(registry, digest):
    for method, target in (
        ("GET", f"/v2/a/b/blobs/{digest}"),
        ("DELETE", f"/v2/a/b/blobs/{digest}"),
        ("GET", f"/v2/a/b/manifests/{digest}"),
        ("PUT", f"/v2/a/b/manifests/{digest}"),
        ("GET", f"/v2/a/b/referrers/{digest}"),
        ("POST", f"/v2/a/b/blobs/uploads/?digest={digest}"),
        ("POST", f"/v2/a/b/blobs/uploads/?mount={digest}&from=a/c"),
        ("PUT", f"{registry.start()}?digest={digest}"),
    ):
        answer = registry(method, target)
        assert (answer.status, answer.error) == (400, "DIGEST_INVALID"), target


def test_malformed_tag_names_nothing_and_cannot_be_pushed(registry):
    image = small_image()
    registry.push(image, "v1")
    assert registry("GET", "/v2/a/b/manifests/.hidden").status == 404
    assert registry.put_manifest(image.manifest, ".hidden").status == 400


@pytest.mark.parametrize("name", ["a/blobs", "a/tags", "manifests", "uploads", "a/blobs/uploads", "v2"])
def test_names_of_routes_may_be_names_of_repositories(registry, name):
    image = small_image()
    registry.push(image, "v1", name)
    assert registry("GET", f"/v2/{name}/manifests/v1").body == image.manifest
    assert registry("GET", f"/v2/{name}/tags/list").json() == {"name": name, "tags": ["v1"]}


def test_version_is_answered(registry):
    assert registry("GET", "/v2/").status == 200


@pytest.mark.parametrize("target", ["/", "/v1/", "/v2/x", "/v2/_catalog", "/v2/a/b/blobs/", "/v2//tags/list"])
def test_other_pages_are_not_there(registry, target):
    assert registry("GET", target).status == 404


def test_method_that_is_not_there_is_refused(registry):
    answer = registry("PATCH", "/v2/a/b/manifests/v1")
    assert (answer.status, answer.error, answer.headers["allow"]) == (405, "UNSUPPORTED", "GET, HEAD, PUT, DELETE")


# --- behaviour of the application


def test_body_of_a_refused_request_is_read_so_that_the_answer_is(registry):
    answer = registry("PATCH", "/v2/a/b/blobs/uploads/00", [b"x" * 1000] * 10)
    assert (answer.status, "connection" in answer.headers) == (404, False)


def test_refused_body_without_end_ends_the_connection(serve):
    registry = serve(limits=ServedLimits(body=BodyLimits(1 << 30, drain_bytes=1000)))
    answer = registry("PATCH", "/v2/a/b/blobs/uploads/00", [b"x" * 500] * 10)
    assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_blob_is_not_read_on_for_a_client_that_is_gone(registry):
    digest = registry.put_blob(b"x" * (8 << 20))
    waiting = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    path = f"/v2/a/b/blobs/{digest}"
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    asyncio.run(registry.app(scope, receive, send))
    assert len(sent) < 4  # of one start and eight pieces


def test_body_that_stops_coming_is_given_up(serve):
    registry = serve(limits=ServedLimits(body=BodyLimits(1 << 30, idle_s=0.1)))
    location = registry.start()
    answer = registry("PATCH", location, [])
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert registry("PATCH", location, b"data").status == 202


def test_one_request_at_a_time_adds_to_an_upload(registry):
    location = registry.start()
    second: list[int] = []

    async def body():
        yield b"01"
        intruder = Request("PATCH", location, {}, {}, whole(b"xx"))
        second.append((await registry.service.answer(intruder)).status)
        yield b"23"

    first = asyncio.run(registry.service.answer(Request("PATCH", location, {}, {}, body())))
    assert (first.status, second) == (202, [416])
    assert registry("PUT", f"{location}?digest={Digest.of(b'0123')}").status == 201


@pytest.mark.attack("upload cancelled while it comes")
@pytest.mark.parametrize("way", ["PATCH", "PUT"])
def test_upload_is_not_cancelled_while_a_request_works_on_it(registry, way):
    data = b"0123"
    digest = registry.put_blob(data, "victim/app")
    location = registry.start("evil/x")
    cancelled: list[int] = []

    async def body():
        yield b"0" * (1 << 20)  # as much as is written at once
        cancelled.append((await registry.service.answer(Request("DELETE", location, {}, {}, whole(b"")))).status)
        yield data

    asked = {} if way == "PATCH" else {"digest": str(Digest.of(b"0" * (1 << 20) + data))}
    answer = asyncio.run(registry.service.answer(Request(way, location, asked, {}, body())))
    assert (answer.status, cancelled) == (202 if way == "PATCH" else 201, [416])
    assert registry("GET", f"/v2/victim/app/blobs/{digest}").body == data
    if way == "PATCH":
        assert registry("DELETE", location).status == 204
    else:
        assert registry("GET", f"/v2/evil/x/blobs/{asked['digest']}").body == b"0" * (1 << 20) + data
    assert registry.files("uploads") == []


@pytest.mark.attack("upload cancelled while it comes")
def test_upload_that_was_dropped_takes_no_more(tmp_path):
    uploads = Uploads(str(tmp_path), ServedLimits())
    upload = uploads.start("evil/x")
    upload.append(b"01")
    uploads.drop(upload)
    with pytest.raises(FileUnwritable):
        upload.append(b"23")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.attack("where the server's files are")
def test_on_a_disk_that_takes_nothing_a_push_is_told_to_come_again_and_not_where_files_are(registry, caplog):
    (registry.root / "repositories").write_bytes(b"")  # so that nothing can be made below it
    digest = Digest.of(b"x")
    answer = registry("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", b"x")
    assert (answer.status, answer.error) == (503, "UNKNOWN")
    assert str(registry.root).encode() not in answer.body
    assert str(registry.root) in caplog.text


@pytest.mark.attack("where the server's files are")
@pytest.mark.parametrize("damage", [b"{", b"\xff", b"x" * (limits.MANIFEST_BYTES + 1)], ids=["malformed", "not UTF-8", "large"])
@pytest.mark.parametrize(
    ("method", "asked", "damaged"),
    [
        ("GET", "manifests/v1", "_tags/v1"),
        ("GET", "referrers/{subject}", "_referrers/{subject}/{referrer}"),
        ("DELETE", "manifests/{referrer}", "_manifests/sha256/{hex}"),
    ],
)
def test_a_damaged_file_of_the_server_is_no_fault_of_the_client_who_is_not_told_where_it_lies(registry, method, asked, damaged, damage):
    image = small_image()
    registry.push(image, "v1")
    referrer = registry.attach(image.manifest, "application/x", "note")
    names = {"subject": image.digest, "referrer": referrer, "hex": referrer.hex}
    link = registry.root / "repositories" / "a" / "b" / damaged.format(**names)
    link.write_bytes(b"application/x\n" + damage if method == "DELETE" else damage)
    answer = registry(method, f"/v2/a/b/{asked.format(**names)}")
    assert (answer.status, answer.error) == (503, "UNKNOWN")
    assert str(registry.root).encode() not in answer.body


async def whole(data: bytes):
    yield data


def test_many_clients_push_the_same_blob_at_once(registry):
    data = b"x" * 100_000
    digest = Digest.of(data)
    statuses = []

    def push(number: int) -> None:
        statuses.append(registry("POST", f"/v2/repo{number % 3}/blobs/uploads/?digest={digest}", data).status)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 12
    assert registry.files("blobs") == [f"sha256/{digest.hex}"]
    assert registry.files("uploads") == []
