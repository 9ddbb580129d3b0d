"""Writing the files that a command makes: durably, and never over what it reads."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from typing import TYPE_CHECKING, Final

import click

from sigkit.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sigkit.cli.output import Output
    from sigkit.digest import Digest
    from sigkit.verify.facts import Facts


_LINKS: Final = 40  # in one path, as the kernel (path_resolution(7))
_ROOM_BYTES: Final = 64 << 10  # more than a bundle about a file has, but for what an attestation says


def check_outputs(outputs: Mapping[str, str | None], inputs: Iterable[str]) -> None:
    """Refuse, before anything is made that cannot be taken back, an output that could not be written then.

    Raises:
        UsageError: it is one of the inputs, or another output, under whatever name; or no regular file.
        FileUnwritable: (UNAVAIL) as `resolve`; or its directory is not there, or takes no file; the place is the operator's.
    """
    taken = {os.path.realpath(path): path for path in inputs if path != "-"}
    for option, path in outputs.items():
        if path is None:
            continue
        real = resolve(path)
        if path == "-" or _is_special(real):
            raise click.UsageError(f"{option} {path} is no regular file.")
        if real in taken:
            raise click.UsageError(f"{option} {path} would be written over {taken[real]}.")
        taken[real] = path
        _check_directory(path, os.path.dirname(real))


def _is_special(real: str) -> bool:
    return os.path.lexists(real) and not os.path.isfile(real)  # to rename over a device would end the device


def resolve(path: str) -> str:
    """Return the path that is behind all links, none of which was planted.

    The kernel judges the last part of a path alone, and only where it is told to (proc_sys_fs(5), protected_symlinks): not the
    directories above it. What this returns it is asked nothing about.

    Raises:
        FileUnwritable: (UNAVAIL) a link was planted, or too many follow one another; the place is the operator's.
    """
    from sigkit.errors import FileUnwritable, Place

    at, rest, links = "/", os.path.join(os.getcwd(), path).split("/"), 0
    try:
        while rest:
            name, *rest = rest
            following = os.path.normpath(os.path.join(at, name))  # `at` has no link, so that its parent is the one that is written
            if not os.path.islink(following):
                at = following
                continue
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            _refuse_planted(following, path)
            rest = [*os.readlink(following).split("/"), *rest]
            at = "/" if rest[0] == "" else at
    except OSError as err:  # also: a link went away under our eyes
        raise FileUnwritable(f"its links cannot be followed: {err.strerror}", place=Place.operator(path)) from err
    return at


def _refuse_planted(link: str, path: str) -> None:
    from sigkit.errors import FileUnwritable, Place

    owner, directory = os.lstat(link).st_uid, os.stat(os.path.dirname(link))
    is_everybodys = directory.st_mode & (stat.S_ISVTX | stat.S_IWOTH) == stat.S_ISVTX | stat.S_IWOTH
    if is_everybodys and owner not in {os.geteuid(), directory.st_uid}:
        problem = "it leads through a link of another user, in a directory where everybody may make one"
        raise FileUnwritable(problem, place=Place.operator(path), remedy="name a place in a directory of your own")


def _check_directory(path: str, directory: str) -> None:
    """Make a file there, as the output is made, and take it away: permissions alone do not tell of a file system that is read-only."""
    from sigkit.errors import FileUnwritable, Place

    probe = os.path.join(directory, f".sigkit.{os.getpid()}.{os.urandom(6).hex()}.tmp")
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _fill(descriptor)
        finally:
            os.close(descriptor)
            os.unlink(probe)
    except OSError as err:
        absent = isinstance(err, (FileNotFoundError, NotADirectoryError)) and not os.path.isdir(directory)  # /proc says the first, too
        raise FileUnwritable(
            "there is no such directory" if absent else f"the directory takes no file: {err.strerror}",
            place=Place.operator(path),
            remedy=f"mkdir -p {shlex.quote(directory)}" if absent and isinstance(err, FileNotFoundError) else "",
        ) from err


def _fill(descriptor: int) -> None:
    """Write as much as is needed: a full disk, or a used-up quota, takes an empty file."""
    left = _ROOM_BYTES
    while left:
        left -= os.write(descriptor, bytes(left))


def write_output(path: str, data: bytes) -> None:
    """Put `data` at `path`, durably; a reader sees the old file or the new one.

    Since `check_outputs` minutes may have passed, in which somebody logged in: it is judged again.

    Raises:
        FileUnwritable: (UNAVAIL) as `resolve`; or it is no regular file; or else, and nothing is left behind.
    """
    from sigkit import durable
    from sigkit.errors import FileUnwritable, Place

    real = resolve(path)
    if _is_special(real):
        raise FileUnwritable("it is no regular file", place=Place.operator(path))
    durable.write(real, data, point="cli.output")


def file_lines(output: Output, word: str, file: str, digest: Digest, facts: Facts) -> list[str]:
    """Return the first lines of an answer about a file."""
    from sigkit.cli.signed_words import signer_lines

    return [f"{output.word(word)}  {'standard input' if file == '-' else escape(file)}", f"  digest    {digest}", *signer_lines(facts)]
