"""The embedded registry: the routes of OCI distribution 1.1 over `Storage`, without any HTTP server.

A request in, an answer out; bodies stream both ways. Whatever comes in is named by what it hashes to, never by what the client says, and a
manifest is kept only if it parses and its configuration and layers are there. The catalogue of all repositories is not offered.

Source: OCI distribution-spec 1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from sigkit import limits
from sigkit.digest import Digest, check_digest, parse_digest
from sigkit.errors import MalformedReference, Place, RefError, SigkitError
from sigkit.limits import ServedLimits
from sigkit.oci.manifest import Index, Manifest, encode_index, parse_manifest
from sigkit.oci.reference import check_path, check_tag
from sigkit.services.arriving import SMALL_BYTES, Arrivals
from sigkit.services.exchange import Answer, Refused, content_answer, error_answer, json_answer, translate, whole_answer
from sigkit.services.storage import Page, TagRule, encode_referrer
from sigkit.services.turns import Turns
from sigkit.services.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sigkit.services.arriving import Arriving
    from sigkit.services.exchange import Request
    from sigkit.services.storage import Storage
    from sigkit.services.uploads import Upload

T = TypeVar("T")

_CHUNK_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_PAGE_NUMBER = re.compile(r"[0-9]{1,9}")
_NOT_DISTRIBUTED = re.compile(r"\.nondistributable\.|\.rootfs\.foreign\.")
# Not an error of the specification: oras takes NAME_UNKNOWN for an absent repository, and then looks for no list under a tag.
_NO_PAGE: Final = whole_answer(404, b"404 page not found\n", (("Content-Type", "text/plain"),))
_PAGES_PASSED: Final = 4  # for one answer; clients that stop at an empty page are spared all but the rarest of them
_REFERRER_BYTES: Final = limits.MANIFEST_BYTES // 2  # of one, and of a page of them: half of what clients read
_INDEX_HEAD: Final = encode_index([]).removesuffix(b"]}")


class ReferrersApi(Enum):
    """Whether the referrers API is there; without it clients keep a list under a tag."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class RegistryVariant:
    """How this registry differs from others: what clients must cope with."""

    referrers: ReferrersApi = ReferrersApi.ON
    tags: TagRule = TagRule.MOVABLE
    limits: ServedLimits = field(default_factory=ServedLimits)


class RegistryService:
    """Answers requests."""

    def __init__(self, storage: Storage, variant: RegistryVariant) -> None:
        """Serve what is in `storage`."""
        self.variant = variant
        self._storage = storage
        self._uploads = Uploads(storage.uploads, variant.limits)
        # One at a time: parsing takes the processor from the event loop's thread, and threads that wait would take others' places.
        self._listing, self._deleting, self._parsing = (Turns(variant.limits.turn_s) for _ in range(3))
        self._arrivals = Arrivals(variant.limits)  # manifests that are coming or being looked at
        # The last pattern that could match is the longest name, because a name may hold `blobs` or `tags` itself.
        self._routes: tuple[tuple[re.Pattern[str], dict[str, _Handler]], ...] = (
            (re.compile(r"/v2/(.+)/blobs/uploads/?()"), {"POST": self._start_upload}),
            (
                re.compile(r"/v2/(.+)/blobs/uploads/([0-9a-f]+)"),
                {"GET": self._tell_upload, "PATCH": self._continue_upload, "PUT": self._finish_upload, "DELETE": self._cancel_upload},
            ),
            (re.compile(r"/v2/(.+)/blobs/([^/]+)"), {"GET": self._send_blob, "HEAD": self._send_blob, "DELETE": self._delete_blob}),
            (
                re.compile(r"/v2/(.+)/manifests/([^/]+)"),
                {
                    "GET": self._send_manifest,
                    "HEAD": self._send_manifest,
                    "PUT": self._take_manifest,
                    "DELETE": self._delete_manifest,
                },
            ),
            (re.compile(r"/v2/(.+)/tags/list()"), {"GET": self._list_tags}),
            (re.compile(r"/v2/(.+)/referrers/([^/]+)"), {"GET": self._list_referrers}),
        )

    async def answer(self, request: Request) -> Answer:
        """Answer a request; whatever is wrong with it is answered too.

        Raises:
            SigkitError: this server cannot go on; its message says where files are, which is nobody's business but its operator's.
        """
        try:
            return await self._route(request)
        except Refused as err:
            return error_answer(err.status, err.code, err.message, err.headers)
        except SigkitError as err:
            refusal = translate(err)
            if refusal is None:
                raise
            return error_answer(*refusal)

    def _run(self, call: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Call what waits for the disk, or computes for long, in a thread of the registry's own."""
        return asyncio.get_running_loop().run_in_executor(self._storage.own_threads, call, *arguments)

    async def _list(self, peer: str, call: Callable[..., T], *arguments: object) -> T:
        """Call what lists, when it is this client's turn."""
        async with self._listing.turn(peer):
            return await asyncio.get_running_loop().run_in_executor(self._storage.list_thread, call, *arguments)

    async def _route(self, request: Request) -> Answer:
        if request.path in {"/v2/", "/v2"}:
            return json_answer(200, {}, (("Docker-Distribution-API-Version", "registry/2.0"),))
        for pattern, handlers in self._routes:
            found = pattern.fullmatch(request.path)
            if not found:
                continue
            handler = handlers.get(request.method)
            if handler is None:
                raise Refused(405, "UNSUPPORTED", "the method is not supported here", (("Allow", ", ".join(handlers)),))
            try:
                name = check_path(found[1], Place(request.path))
            except MalformedReference as err:
                raise Refused(400, "NAME_INVALID", str(err)) from err
            return await handler(request, name, found[2])
        return _NO_PAGE

    # --- blobs

    async def _send_blob(self, request: Request, name: str, text: str) -> Answer:
        content = self._storage.open_blob(name, _digest(text))
        if content is None:
            raise self._unknown(name, "BLOB_UNKNOWN", "no such blob in this repository")
        return content_answer(request, content)

    async def _delete_blob(self, _request: Request, name: str, text: str) -> Answer:
        if not await self._run(self._storage.delete_blob, name, _digest(text)):
            raise self._unknown(name, "BLOB_UNKNOWN", "no such blob in this repository")
        return Answer(202)

    async def _start_upload(self, request: Request, name: str, _: str) -> Answer:
        if "mount" in request.query and "from" in request.query:
            digest = _digest(request.query["mount"])
            source = _named(request.query["from"])
            if source is not None and await self._run(self._storage.mount_blob, name, digest, source):
                return _created(f"/v2/{name}/blobs/{digest}", digest)
        if "digest" in request.query:
            digest = _digest(request.query["digest"])
            upload = self._uploads.start(name)
            with _Hold(upload), self._uploads.dropped_at_end(upload):
                await self._receive(request, upload)
                return await self._store(upload, digest)
        return _upload_answer(202, self._uploads.start(name))

    async def _tell_upload(self, _request: Request, name: str, identifier: str) -> Answer:
        return _upload_answer(204, self._upload(name, identifier))

    async def _cancel_upload(self, _request: Request, name: str, identifier: str) -> Answer:
        upload = self._upload(name, identifier)
        with _Hold(upload):  # else its digest would be of more than its file
            self._uploads.drop(upload)
        return Answer(204)

    async def _continue_upload(self, request: Request, name: str, identifier: str) -> Answer:
        upload = self._upload(name, identifier)
        with _Hold(upload):
            await self._receive(request, upload)
            return _upload_answer(202, upload)

    async def _finish_upload(self, request: Request, name: str, identifier: str) -> Answer:
        upload = self._upload(name, identifier)
        digest = _digest(request.query.get("digest", ""))
        with _Hold(upload):
            await self._receive(request, upload)
            with self._uploads.dropped_at_end(upload):
                return await self._store(upload, digest)

    def _upload(self, name: str, identifier: str) -> Upload:
        upload = self._uploads.find(name, identifier)
        if upload is None:
            raise Refused(404, "BLOB_UPLOAD_UNKNOWN", "no such upload in this repository")
        return upload

    async def _receive(self, request: Request, upload: Upload) -> None:
        """Add the request's body to an upload; a chunk that is out of order or not of its stated length changes nothing."""
        start = upload.size
        stated = request.headers.get("content-range", "")
        found = _CHUNK_RANGE.fullmatch(stated)
        if stated and not found:
            raise Refused(400, "BLOB_UPLOAD_INVALID", "malformed Content-Range, which is first-last here")
        if found and int(found[1]) != start:
            raise Refused(416, "BLOB_UPLOAD_INVALID", f"the next byte is {start}", _upload_answer(416, upload).headers)
        try:
            await self._uploads.receive(upload, request.body, self._storage.own_threads)
        except SigkitError:
            self._uploads.drop(upload)  # its file and its size may differ now
            raise
        if found and upload.size - start != int(found[2]) - int(found[1]) + 1:
            upload.truncate(start)
            raise Refused(400, "SIZE_INVALID", "the body is not as long as Content-Range says")

    async def _store(self, upload: Upload, digest: Digest) -> Answer:
        await self._run(upload.check, digest)
        await self._run(self._storage.put_blob, upload.repository, digest, upload.path, upload.size)
        return _created(f"/v2/{upload.repository}/blobs/{digest}", digest)

    # --- manifests

    async def _send_manifest(self, request: Request, name: str, text: str) -> Answer:
        digest = self._find_manifest(name, text)
        content = self._storage.open_manifest(name, digest) if digest else None
        if content is None:
            raise self._unknown(name, "MANIFEST_UNKNOWN", "no such manifest in this repository")
        return content_answer(request, content)

    def _find_manifest(self, name: str, text: str) -> Digest | None:
        if ":" in text:
            return _digest(text)
        try:
            return self._storage.find_tag(name, check_tag(text, Place(text)))
        except RefError:
            return None  # no manifest can have such a tag

    async def _take_manifest(self, request: Request, name: str, text: str) -> Answer:
        tag = None if ":" in text else check_tag(text, Place(text))
        wanted = _digest(text) if tag is None else None
        stated = request.headers.get("content-type", "").partition(";")[0].strip()
        with self._arrivals.holding() as arriving:
            await self._read_manifest(request, arriving)
            turn = self._parsing.turn(request.peer) if len(arriving.raw) > SMALL_BYTES else contextlib.nullcontext()
            async with turn:
                document = await self._run(_parse, bytes(arriving.raw), stated, wanted)
            await self._run(self._keep_manifest, name, document, tag)
        headers = _created(f"/v2/{name}/manifests/{document.digest}", document.digest).headers
        if document.subject and self.variant.referrers is ReferrersApi.ON:
            headers = (*headers, ("OCI-Subject", str(document.subject.digest)))
        return Answer(201, headers)

    async def _read_manifest(self, request: Request, arriving: Arriving) -> None:
        stated = request.headers.get("content-length", "0")
        if len(stated) > 18 or int(stated) > limits.MANIFEST_BYTES:
            raise Refused(413, "SIZE_INVALID", f"a manifest has at most {limits.MANIFEST_BYTES} bytes")
        await self._arrivals.read(arriving, request.body, limits.MANIFEST_BYTES)

    def _keep_manifest(self, name: str, document: Manifest | Index, tag: str | None) -> None:
        self._check_parts(name, document)
        if not self._storage.put_manifest(name, document, tag, self.variant.tags):
            raise Refused(400, "TAG_INVALID", "the tag is there, and tags cannot be moved here")

    def _check_parts(self, name: str, document: Manifest | Index) -> None:
        """Refuse a manifest whose content is not there. An index may be sparse: which children a mirror takes is its own affair."""
        if isinstance(document, Index):
            return
        for part in (document.config, *document.layers):
            if _NOT_DISTRIBUTED.search(part.media_type):
                continue  # lies elsewhere by its owner's wish
            if not self._storage.has_blob(name, part.digest):
                raise Refused(404, "MANIFEST_BLOB_UNKNOWN", f"blob {part.digest} is not in this repository")

    async def _delete_manifest(self, request: Request, name: str, text: str) -> Answer:
        if ":" in text:
            digest = _digest(text)
            if not self._storage.has_manifest(name, digest):
                raise self._unknown(name, "MANIFEST_UNKNOWN", "no such manifest in this repository")
            async with self._deleting.turn(request.peer):  # the first one reads all tags
                done = await self._run(self._storage.delete_manifest, name, digest)
        else:
            done = await self._run(self._storage.delete_tag, name, check_tag(text, Place(text)))
        if not done:
            raise self._unknown(name, "MANIFEST_UNKNOWN", "no such manifest in this repository")
        return Answer(202)

    # --- lists

    async def _list_tags(self, request: Request, name: str, _: str) -> Answer:
        number = _page_number(request.query.get("n"), self.variant.limits.page)
        tags: Sequence[str] = await self._list(request.peer, self._storage.list_tags, name)
        if not tags and not self._storage.has_repository(name):
            raise self._unknown(name, "NAME_UNKNOWN", "no such repository")
        if "last" in request.query:
            last = request.query["last"]
            tags = [tag for tag in tags if (tag.lower(), tag) > (last.lower(), last)]
        page = tags[:number]
        headers: tuple[tuple[str, str], ...] = ()
        if page and len(tags) > len(page):
            headers = (_next_page(f"/v2/{name}/tags/list", {"n": str(number), "last": page[-1]}),)
        return json_answer(200, {"name": name, "tags": list(page)}, headers)

    async def _list_referrers(self, request: Request, name: str, text: str) -> Answer:
        if self.variant.referrers is ReferrersApi.OFF:
            return _NO_PAGE
        subject = _digest(text)
        wanted = request.query.get("artifactType")
        page = Page(self.variant.limits.page, _REFERRER_BYTES, request.query.get("last", ""))
        body, last = await self._list(request.peer, self._encode_referrers, name, subject, page, wanted)
        headers = [("Content-Type", "application/vnd.oci.image.index.v1+json")]
        if wanted:
            headers.append(("OCI-Filters-Applied", "artifactType"))
        if last:
            query = {"last": last} | ({"artifactType": wanted} if wanted else {})
            headers.append(_next_page(f"/v2/{name}/referrers/{subject}", query))
        return whole_answer(200, body, tuple(headers))

    def _encode_referrers(self, name: str, subject: Digest, page: Page, wanted: str | None) -> tuple[bytes, str]:
        """Return an index of a page, and what the next one comes after.

        A page of which a filter leaves nothing is passed over, up to a limit: whoever asks first has all of them read.
        """
        for _ in range(_PAGES_PASSED):
            listed = self._storage.list_referrers(name, subject, page)
            found = [referrer for referrer in listed.found if wanted in {None, "", referrer.artifact_type}]
            if found or not listed.last:
                break
            page = Page(page.most, page.most_bytes, listed.last)
        return _INDEX_HEAD + b",".join(referrer.encoded for referrer in found) + b"]}", listed.last

    def _unknown(self, name: str, code: str, message: str) -> Refused:
        return Refused(404, code if self._storage.has_repository(name) else "NAME_UNKNOWN", message)


if TYPE_CHECKING:
    _Handler = Callable[[Request, str, str], Awaitable[Answer]]


class _Hold:
    """Lets one request at a time work on an upload."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    def __enter__(self) -> None:
        if not self._upload.busy.acquire(blocking=False):
            raise Refused(416, "BLOB_UPLOAD_INVALID", "another request is working on this upload")

    def __exit__(self, *_: object) -> None:
        self._upload.busy.release()


def _parse(raw: bytes, stated: str, wanted: Digest | None) -> Manifest | Index:
    """Read a manifest that is pushed under the media type `stated`."""
    digest = Digest.of(raw, wanted.algorithm if wanted else "sha256")
    if wanted:
        check_digest(raw, wanted, Place(str(wanted)))
    document = parse_manifest(raw, digest, Place(str(digest)))
    if stated != document.media_type:
        raise Refused(400, "MANIFEST_INVALID", f"Content-Type is {stated[:200]!r}, the document is {document.media_type}")
    if document.subject and len(encode_referrer(document)) > _REFERRER_BYTES:
        raise Refused(413, "SIZE_INVALID", f"what a list of referrers says of a manifest has at most {_REFERRER_BYTES} bytes")
    return document


def _named(text: str) -> str | None:
    """Return the name of a repository, if it is one: no blob is in any other."""
    try:
        return check_path(text, Place("from"))
    except MalformedReference:
        return None


def _digest(text: str) -> Digest:
    return parse_digest(text, Place("request"))


def _page_number(text: str | None, most: int) -> int:
    if text is None:
        return most
    if not _PAGE_NUMBER.fullmatch(text):
        raise Refused(400, "PAGINATION_NUMBER_INVALID", "n is a number of at most nine digits")
    return min(int(text), most)  # there may be fewer, with a link to the rest


def _next_page(path: str, query: Mapping[str, str]) -> tuple[str, str]:
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return ("Link", f'<{path}?{text}>; rel="next"')


def _created(location: str, digest: Digest) -> Answer:
    return Answer(201, (("Location", location), ("Docker-Content-Digest", str(digest)), ("Content-Length", "0")))


def _upload_answer(status: int, upload: Upload) -> Answer:
    return Answer(
        status,
        (
            ("Location", f"/v2/{upload.repository}/blobs/uploads/{upload.identifier}"),
            ("Range", f"0-{max(upload.size - 1, 0)}"),
            ("Docker-Upload-UUID", upload.identifier),
        ),
    )
