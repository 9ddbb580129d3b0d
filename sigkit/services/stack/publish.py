"""Handing clients of a stack other documents than those that it was made with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sigkit import durable, limits
from sigkit.errors import Place
from sigkit.services.stack import clients, layout
from sigkit.services.stack.cores import open_repository
from sigkit.services.stack.layout import CLIENTS
from sigkit.trust.signing_config import parse_signing_config
from sigkit.trust.trusted_root import parse_trusted_root

if TYPE_CHECKING:
    from sigkit.clock import Clock


def publish_documents(directory: str, offline: str, trusted_root: str, signing_config: str, clock: Clock) -> None:
    """Publish a trust root and a signing config by the stack's TUF repository, and write them into its `clients/`.

    Args:
        directory: of the stack, which may run.
        offline: with the keys of TUF's targets.
        trusted_root: the file.
        signing_config: the file.
        clock: for the dates of the metadata.

    Raises:
        NoStack, OtherStackVersion: (UNAVAIL) see `layout.load_config`.
        FileUnreadable, FileUnwritable: (UNAVAIL) a file, or an offline key.
        SigkitError: (PARSE, ROOT, LIMIT) clients would not take a document; nothing was published.
    """
    layout.load_config(directory)
    places = Place.operator(trusted_root), Place.operator(signing_config)
    root, signing = (durable.read(place.source, most_bytes=limits.BUNDLE_BYTES, place=place) for place in places)
    parse_trusted_root(root, os.path.basename(trusted_root), places[0], limits.DEFAULT)
    parse_signing_config(signing, places[1], limits.DEFAULT)
    published = clients.Documents(root, signing)
    repository = open_repository(directory)
    repository.publish(offline, clients.targets(published), clock.now())
    clients.write(os.path.join(directory, CLIENTS), published, repository.initial_root)
