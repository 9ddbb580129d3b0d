"""The list of images that were pulled to this host: for people to read. Nothing is started because it stands here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.digest import parse_digest
from sigkit.durable import transaction
from sigkit.text import format_time

if TYPE_CHECKING:
    from datetime import datetime

    from sigkit.digest import Digest
    from sigkit.engine.admission import Admission
    from sigkit.engine.pull import PulledImage
    from sigkit.engine.store import Store

_COLUMNS = "repository, tag, reference, top, manifest, config, platform, policy_name, policy_digest"


class ImageRecord(Data):
    """An image on this host. `reference` and `tag` are what was asked for then: the tag may name another image now."""

    repository: str
    tag: str | None
    reference: str
    top: Digest
    manifest: Digest
    config: Digest
    platform: str
    # Compressed, as stored; layers that images share are counted for each.
    size_bytes: int
    pulled_at: str
    policy_name: str
    policy_digest: Digest


def remember(store: Store, admission: Admission, image: PulledImage, when: datetime) -> None:
    """Put a pulled image on the list, in the place of what the same tag named before; one that stands there stays as it is."""
    blobs = [admission.manifest, image.manifest.config.digest, *(layer.digest for layer in image.manifest.layers)]
    row = (
        str(admission.repository),
        admission.tag or "",
        admission.reference,
        str(admission.top),
        str(admission.manifest),
        str(admission.config),
        str(admission.platform),
        admission.policy_name,
        str(admission.policy_digest),
    )
    with store.index() as index:
        known = index.execute(f"SELECT {_COLUMNS} FROM images WHERE repository = ? AND tag = ? AND platform = ?", (*row[:2], row[6]))  # noqa: S608
        if known.fetchone() == row:
            return
        with transaction(index):
            index.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, format_time(when)))
            index.executemany("INSERT OR IGNORE INTO image_blobs VALUES (?, ?)", ((str(admission.manifest), str(b)) for b in blobs))


def list_images(store: Store) -> tuple[ImageRecord, ...]:
    """Return the list, newest first; what is not in the store any more is left out."""
    with store.index() as index:
        rows = index.execute(
            """
            SELECT repository, tag, reference, top, manifest, config, platform,
                (SELECT coalesce(sum(size_bytes), 0) FROM image_blobs JOIN blobs USING (digest)
                 WHERE image_blobs.manifest = images.manifest),
                pulled_at, policy_name, policy_digest
            FROM images ORDER BY pulled_at DESC, repository, tag
            """
        ).fetchall()
    records = (
        ImageRecord(
            repository=row[0],
            tag=row[1] or None,
            reference=row[2],
            top=parse_digest(row[3]),
            manifest=parse_digest(row[4]),
            config=parse_digest(row[5]),
            platform=row[6],
            size_bytes=row[7],
            pulled_at=row[8],
            policy_name=row[9],
            policy_digest=parse_digest(row[10]),
        )
        for row in rows
    )
    return tuple(record for record in records if os.path.exists(store.blob_path(record.manifest)))
