"""Writing the files that a command makes: durably, and never over what it reads."""

from __future__ import annotations

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


_STEPS: Final = 4_000  # of a path with its links; the kernel follows 40 links of 4,096 bytes
_ROOM_BYTES: Final = 64 << 10  # more than a bundle about a file has, but for what an attestation says


def check_outputs(outputs: Mapping[str, str | None], inputs: Iterable[str]) -> None:
    """Refuse, before anything is made that cannot be taken back, an output that could not be written then.

    Raises:
        UsageError: it is one of the inputs, or another output, under whatever name; or no regular file.
        FileUnwritable: (UNAVAIL) its directory is not there, or takes no file; the place is the operator's.
    """
    taken = {os.path.realpath(path): path for path in inputs if path != "-"}
    for option, path in outputs.items():
        if path is None:
            continue
        real = resolve(path)
        if real is None:
            raise click.UsageError(f"{option} {path} leads through a link of another user, in a directory where everybody may make one.")
        if path == "-" or (os.path.lexists(real) and not os.path.isfile(real)):  # to rename over a device would end the device
            raise click.UsageError(f"{option} {path} is no regular file.")
        if real in taken:
            raise click.UsageError(f"{option} {path} would be written over {taken[real]}.")
        taken[real] = path
        _check_directory(path, os.path.dirname(real))


def resolve(path: str) -> str | None:
    """Return the path that is behind all links; None if one of them was planted, which the kernel would not follow either.

    It does not where it is told so (proc_sys_fs(5), protected_symlinks), and is asked nothing of a path that was resolved before.
    """
    at, rest = "/", os.path.join(os.getcwd(), path).split("/")
    for _ in range(_STEPS):
        if not rest:
            return at
        name, *rest = rest
        if name == "..":
            at = os.path.dirname(at)
        elif name not in {"", "."}:
            following = os.path.join(at, name)
            if not os.path.islink(following):
                at = following
            elif _is_planted(following):
                return None
            else:
                target = os.readlink(following)
                at, rest = "/" if target.startswith("/") else at, [*target.split("/"), *rest]
    return os.path.realpath(path)  # links in a circle: what writes says so


def _is_planted(path: str) -> bool:
    link, directory = os.lstat(path), os.stat(os.path.dirname(path))
    is_everybodys = directory.st_mode & (stat.S_ISVTX | stat.S_IWOTH) == stat.S_ISVTX | stat.S_IWOTH
    return is_everybodys and link.st_uid not in {os.geteuid(), directory.st_uid}


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

    Raises:
        FileUnwritable: (UNAVAIL) a link was planted since it was checked; or else, and nothing is left behind.
    """
    from sigkit import durable

    durable.write(resolve_checked(path), data, point="cli.output")


def resolve_checked(path: str) -> str:
    """Return the path that is behind all links.

    Raises:
        FileUnwritable: (UNAVAIL) one was planted.
    """
    from sigkit.errors import FileUnwritable, Place

    real = resolve(path)
    if real is None:
        problem = "it leads through a link of another user, in a directory where everybody may make one"
        raise FileUnwritable(problem, place=Place.operator(path), remedy="name a place in a directory of your own")
    return real


def file_lines(output: Output, word: str, file: str, digest: Digest, facts: Facts) -> list[str]:
    """Return the first lines of an answer about a file."""
    from sigkit.cli.signed_words import signer_lines

    return [f"{output.word(word)}  {'standard input' if file == '-' else escape(file)}", f"  digest    {digest}", *signer_lines(facts)]
