"""The named corpus `ten-layers`: an OCI layout of 10 gzip layers, about 300 MB compressed and 750 MB unpacked, 20,000 files.

The same files each time: made from a counter, not from this machine. Sizes follow what system images have: many small files, few large.
"""

from __future__ import annotations

import io
import math
import random
import tarfile
from typing import TYPE_CHECKING

from isal import igzip

from sigkit.cli.demo_image import Image, image_of, write_layout
from sigkit.digest import Digest

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = 10
FILES_IN_LAYER = 2_000
FILES_IN_DIRECTORY = 50
MEDIAN_BYTES = 8_900
SPREAD = 1.65  # of the logarithm of sizes: the mean is then about 38 kB
LARGEST_BYTES = 4_000_000
RANDOM_SHARE = 0.4  # what does not compress


def write(directory: Path) -> None:
    """Write the corpus as an OCI layout, unless it is there."""
    if (directory / "index.json").exists():
        return
    plain = [_layer(number) for number in range(LAYERS)]
    layers = tuple(igzip.compress(layer, compresslevel=1, mtime=0) for layer in plain)
    diff_ids = tuple(Digest.of(layer) for layer in plain)
    image: Image = image_of(diff_ids, layers, ("/bin/true",))
    write_layout(image, directory)


def _layer(number: int) -> bytes:
    source = random.Random(number)  # noqa: S311 - the same bytes each time is what is wanted
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for at in range(FILES_IN_LAYER):
            if at % FILES_IN_DIRECTORY == 0:
                directory = tarfile.TarInfo(f"layer{number}/d{at // FILES_IN_DIRECTORY}")
                directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(directory)
            size = min(int(source.lognormvariate(math.log(MEDIAN_BYTES), SPREAD)), LARGEST_BYTES)
            entry = tarfile.TarInfo(f"{directory.name}/f{at}")
            entry.size, entry.mode, entry.mtime = size, 0o644, 1_700_000_000
            archive.addfile(entry, io.BytesIO(_content(source, size)))
    return buffer.getvalue()


def _content(source: random.Random, size: int) -> bytes:
    noise = source.randbytes(int(size * RANDOM_SHARE))
    line = b"%016x the quick brown fox jumps over the lazy dog\n" % source.getrandbits(64)
    return noise + (line * (size // len(line) + 1))[: size - len(noise)]
