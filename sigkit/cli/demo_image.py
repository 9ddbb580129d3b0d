"""A small real image out of this machine's own files: a shell, what it needs to start, and a script that tells what it sees.

A static busybox is taken if there is one; else `/bin/sh` with its libraries, as the dynamic linker itself lists them.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import subprocess
import tarfile  # noqa: TID251 - it writes an archive here; reading one is `engine.unpack`'s
from typing import TYPE_CHECKING, NamedTuple

from sigkit.digest import Digest
from sigkit.errors import FileUnreadable, Place
from sigkit.oci.descriptor import Descriptor, host_platform
from sigkit.oci.image import encode_image_config
from sigkit.oci.layout import create_layout
from sigkit.oci.manifest import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, encode_manifest
from sigkit.oci.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PT_INTERP = 3
_READ_BYTES = 64 * 2**20

# Builtins of any POSIX shell alone: the image holds no other program.
SCRIPT = r"""#!/bin/sh
read -r name < /proc/sys/kernel/hostname
while read -r field first second rest; do
  case "$field" in
    Uid:) user=$first ;;
    CapEff:) capabilities=$first ;;
    NoNewPrivs:) privileges=$first ;;
    Seccomp:) seccomp=$first ;;
  esac
done < /proc/self/status
set -- /proc/[0-9]*
echo "GREETING"
echo "  I am PID $$ on host $name, user $user; I see $# process(es)"
set -- /*
echo "  my root holds: $*"
echo "  effective capabilities $capabilities, no_new_privs $privileges, seccomp mode $seccomp"
"""


class Image(NamedTuple):
    """An image, ready to be stored: the bytes of each of its documents."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]


def assemble(greeting: str) -> Image:
    """Build the image whose program greets with `greeting`.

    Raises:
        FileUnreadable: this machine has no shell that can be copied.
    """
    plain = _layer(greeting)
    return image_of((Digest.of(plain),), (gzip.compress(plain, compresslevel=6, mtime=0),), ("/bin/sh", "/hello"))


def image_of(diff_ids: tuple[Digest, ...], layers: tuple[bytes, ...], entrypoint: tuple[str, ...]) -> Image:
    """Build config and manifest around gzip layers.

    Args:
        diff_ids: the digests of the layers before compression.
        layers: the compressed layers, lowest first.
        entrypoint: the program and its arguments.
    """
    config = encode_image_config(host_platform(), diff_ids, entrypoint=entrypoint, env=("PATH=/bin",), working_dir="/")
    manifest = encode_manifest(_descriptor(OCI_CONFIG, config), [_descriptor(OCI_LAYER_GZIP, layer) for layer in layers])
    return Image(manifest, config, layers)


def write_layout(image: Image, directory: Path, tag: str = "1.0") -> Digest:
    """Store an image in a new OCI layout, and return its manifest's digest.

    Raises:
        FileUnwritable: (UNAVAIL) the directory.
    """
    layout, repository = create_layout(directory), Repository("layout", "image")
    for content in (image.config, *image.layers):
        layout.push_blob(repository, Digest.of(content), content)
    layout.push_manifest(repository, tag, image.manifest, OCI_MANIFEST)
    return Digest.of(image.manifest)


def _descriptor(media_type: str, content: bytes) -> Descriptor:
    return Descriptor(media_type, Digest.of(content), len(content))


def _layer(greeting: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for directory in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            _add(archive, directory, tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755)
        _add(archive, "etc/passwd", tarfile.REGTYPE, 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
        _add(archive, "hello", tarfile.REGTYPE, 0o755, SCRIPT.replace("GREETING", greeting).encode())
        made = {"bin", "etc"}
        for name, path in _shell_files():
            parents = name.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                parent = "/".join(parents[:depth])
                if parent not in made:
                    _add(archive, parent, tarfile.DIRTYPE, 0o755)
                    made.add(parent)
            with open(path, "rb") as file:
                _add(archive, name, tarfile.REGTYPE, 0o755, file.read(_READ_BYTES))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, kind: bytes, mode: int, content: bytes = b"") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, len(content)
    archive.addfile(entry, io.BytesIO(content) if content else None)


def _shell_files() -> Iterator[tuple[str, str]]:
    """Give the name in the image and the path here of each file that a shell needs."""
    busybox = shutil.which("busybox")
    if busybox and _interpreter(busybox) is None:
        yield "bin/sh", busybox
        return
    shell = os.path.realpath("/bin/sh")
    linker = _interpreter(shell)
    yield "bin/sh", shell
    if linker is None:
        return
    yield linker.lstrip("/"), os.path.realpath(linker)
    for library in _libraries(linker, shell):
        yield library.lstrip("/"), os.path.realpath(library)


def _interpreter(path: str) -> str | None:
    """Return the dynamic linker that an ELF program asks for, or None when it is static.

    Raises:
        FileUnreadable: not a 64-bit little-endian ELF program.

    Source: System V ABI, "Program Header".
    """
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01":
            raise FileUnreadable("not a 64-bit little-endian ELF program", place=Place(path))
        table, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        for number in range(count):
            file.seek(table + number * size)
            kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", file.read(40))
            if kind == _PT_INTERP:
                file.seek(offset)
                return file.read(min(length, 4096)).rstrip(b"\0").decode("utf-8")
    return None


def _libraries(linker: str, program: str) -> list[str]:
    """Return the absolute paths of the libraries that `linker` would load for `program`."""
    listed = subprocess.run([linker, "--list", program], capture_output=True, check=False, timeout=10, env={})
    if listed.returncode:
        raise FileUnreadable("the dynamic linker does not list the shell's libraries", place=Place(program))
    paths = []
    for line in listed.stdout.decode("utf-8").splitlines():
        words = line.split()
        if "=>" in words and words[2].startswith("/"):
            paths.append(words[2])
    return paths
