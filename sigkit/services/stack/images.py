"""The copy of a stack's registry, taken while images are pushed and deleted.

Names are copied before what they name, so whatever was put in between is in the copy without a name. What was deleted in between may leave
a name in the copy that names nothing: so in the end each name is followed, and what is not there is copied again, as the registry has it by
then. A name that leads nowhere in the registry itself (a sparse index, a layer that lies elsewhere) is copied as it is.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.digest import SIZES, Digest, parse_digest
from sigkit.errors import FileUnreadable, MalformedDigest, Place, SigkitError
from sigkit.oci.manifest import Index, parse_manifest
from sigkit.services.stack.copying import copy_content, copy_file, copy_part, copy_tree, make_directory, no_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sigkit.services.stack.copying import Folder

_TAGS: Final = "_tags"
_REFERRERS: Final = "_referrers"
_MANIFESTS: Final = "_manifests"
_BLOBS: Final = "_blobs"
_ROUNDS: Final = 20  # each copies again what was moved or deleted since the one before, which takes milliseconds


def copy_registry(source: Folder, target: str) -> None:
    """Copy what a registry keeps; what is being uploaded is not in it.

    Raises:
        DigestMismatch: (DIGEST) something that it keeps is damaged.
        FileUnreadable: (UNAVAIL) it changes faster than it can be copied.
        NoStackFile: (UNAVAIL) a file stands for a directory, or a directory for a file.
        SigkitError: as `copying.copy_tree`.
        OSError: the copy cannot be written.
    """
    make_directory(target)
    with contextlib.ExitStack() as stack:
        repositories = source.below("repositories")
        if repositories is None:
            copy_file(source, "version", os.path.join(target, "version"))  # one that was never served has none
            return  # nothing was ever pushed
        stack.enter_context(repositories)
        copy_part(source, "version", os.path.join(target, "version"))
        below = os.path.join(target, "repositories")
        for name, repository in _walk(repositories):
            _copy_links(repository, os.path.join(below, name))
        for algorithm in SIZES:
            _copy_contents(source, target, algorithm)
        for name, repository in _walk(repositories):
            if os.path.isdir(os.path.join(below, name)):  # else it is new
                _Copied(source, target, repository, os.path.join(below, name)).settle()


def _walk(source: Folder, above: str = "") -> Iterator[tuple[str, Folder]]:
    """Give each directory that may be a repository, open, with its name."""
    for name in source.list()[0]:
        if name.startswith("_"):
            continue
        found = source.below(name)
        if found is not None:
            with found:
                yield os.path.join(above, name), found
                yield from _walk(found, os.path.join(above, name))


def _copy_links(repository: Folder, target: str) -> None:
    for part in (_TAGS, _REFERRERS, _MANIFESTS, _BLOBS):
        found = repository.below(part)
        if found is not None:
            with found:
                copy_tree(found, os.path.join(target, part))


def _copy_contents(source: Folder, target: str, algorithm: str) -> None:
    blobs = source.below("blobs")
    if blobs is None:
        return
    with blobs:
        found = blobs.below(algorithm)
    if found is None:
        return
    make_directory(os.path.join(target, "blobs", algorithm))
    with found:
        for name in found.list()[1]:
            with contextlib.suppress(MalformedDigest):  # no content has such a name
                copy_content(found, name, os.path.join(target, "blobs", algorithm, name), parse_digest(f"{algorithm}:{name}"))


class _Copied:
    """The copy of a repository, beside the one that is served."""

    def __init__(self, registry: Folder, target: str, repository: Folder, copy: str) -> None:
        """Take the registry and the directory of its copy, and the same of a repository."""
        self._registry = registry
        self._target = target
        self._repository = repository
        self._copy = copy
        self._followed: set[Digest] = set()  # manifests that need not be read again
        self._changed = False

    def settle(self) -> None:
        """Follow all names of the copy until none leads nowhere that leads somewhere in the repository.

        Raises:
            FileUnreadable: (UNAVAIL) it changes faster than that.
            SigkitError: as `copy_registry`.
            OSError: the copy cannot be written.
        """
        for _ in range(_ROUNDS):
            self._changed = False
            self._follow_names()
            if not self._changed:
                return
        raise FileUnreadable(
            "the repository changes faster than it can be copied",
            place=Place(self._repository.path),
            remedy="run it again when fewer images are deleted from it",
        )

    def _follow_names(self) -> None:
        for tag in self._list(_TAGS):
            path = f"{_TAGS}/{tag}"
            with contextlib.suppress(MalformedDigest):  # it names nothing in the registry either
                self._follow(path, _MANIFESTS, parse_digest(self._read(path).decode("latin-1")))
        for subject in self._list(_REFERRERS):
            for referrer in self._list(f"{_REFERRERS}/{subject}"):
                with contextlib.suppress(MalformedDigest):
                    self._follow(f"{_REFERRERS}/{subject}/{referrer}", _MANIFESTS, parse_digest(referrer))
        for algorithm in SIZES:
            for name in self._list(f"{_MANIFESTS}/{algorithm}"):
                with contextlib.suppress(MalformedDigest):
                    self._follow_manifest(parse_digest(f"{algorithm}:{name}"))

    def _follow_manifest(self, digest: Digest) -> None:
        link = _link(_MANIFESTS, digest)
        if digest not in self._followed and self._follow(link, _MANIFESTS, digest):
            self._followed.add(digest)
            for kind, part in self._parts(digest):
                self._follow(link, kind, part)

    def _follow(self, name: str, kind: str, digest: Digest) -> bool:
        """Make the copy have what a name in it names, or have another name there; tell whether it has it."""
        if self._has(kind, digest) or self._fetch(kind, digest):
            return True
        # It is not in the repository, which deletes names before what they name. So the name has gone or changed; or it leads nowhere there
        # too; or all was pushed again in between.
        return not self._copy_again(name) and self._fetch(kind, digest)

    def _has(self, kind: str, digest: Digest) -> bool:
        return os.path.exists(os.path.join(self._copy, _link(kind, digest))) and os.path.exists(self._content(digest))

    def _fetch(self, kind: str, digest: Digest) -> bool:
        """Copy a link and what it stands for; tell whether the repository has both."""
        link, content = _link(kind, digest), self._content(digest)
        path = os.path.join(self._copy, link)
        if not os.path.exists(path):
            try:
                make_directory(os.path.dirname(path))
            except FileExistsError as err:
                raise no_file(os.path.join(self._repository.path, os.path.dirname(link))) from err
            if not copy_file(self._repository, link, path):
                return False
        if not os.path.exists(content):
            make_directory(os.path.dirname(content))
            if not copy_content(self._registry, f"blobs/{digest.algorithm}/{digest.hex}", content, digest):
                return False
        self._changed = True
        return True

    def _copy_again(self, name: str) -> bool:
        """Copy a name once more, or remove it where it has gone; tell whether it is another now."""
        path = os.path.join(self._copy, name)
        before = self._read(name)
        if not copy_file(self._repository, name, path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        if self._read(name) == before:
            return False
        self._changed = True
        self._followed.clear()  # an index may have had it for a part
        return True

    def _parts(self, digest: Digest) -> list[tuple[str, Digest]]:
        path = self._content(digest)
        try:
            document = parse_manifest(durable.read(path, most_bytes=limits.MANIFEST_BYTES, place=Place(path)), digest, Place(path))
        except SigkitError:
            return []  # nobody else takes it apart either
        if isinstance(document, Index):
            return [(_MANIFESTS, child.digest) for child in document.manifests]
        return [(_BLOBS, part.digest) for part in (document.config, *document.layers)]

    def _content(self, digest: Digest) -> str:
        return os.path.join(self._target, "blobs", digest.algorithm, digest.hex)

    def _list(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(os.path.join(self._copy, path)))
        except FileNotFoundError:
            return []
        except NotADirectoryError as err:
            raise no_file(os.path.join(self._repository.path, path)) from err

    def _read(self, path: str) -> bytes:
        try:
            with open(os.path.join(self._copy, path), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""
        except IsADirectoryError as err:
            raise no_file(os.path.join(self._repository.path, path)) from err


def _link(kind: str, digest: Digest) -> str:
    return f"{kind}/{digest.algorithm}/{digest.hex}"
