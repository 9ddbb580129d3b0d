"""Store a bundle beside its image, as cosign 3 does: a manifest that names the image as its subject and holds the bundle as its one layer.

The order is blobs, manifest, list: whatever is cut short, nothing is listed that is not there.

Source: OCI distribution-spec 1.1 "Pushing Manifests with Subject"; cosign 3.1.1 by experiment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.digest import Digest
from sigkit.errors import EvidenceNotAttached, Place
from sigkit.evidence.bundle import BUNDLE_TYPE
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import OCI_EMPTY, OCI_MANIFEST
from sigkit.oci.referrers import add_referrer
from sigkit.text import format_time

if TYPE_CHECKING:
    from datetime import datetime

    from sigkit.oci.reference import Repository
    from sigkit.oci.registry import Registry
    from sigkit.oci.resolve import Resolved

_EMPTY: Final = b"{}"


def attach(registry: Registry, resolved: Resolved, bundle: bytes, predicate_type: str, created: datetime) -> Descriptor:
    """Store `bundle` as a referrer of what was resolved, and return the descriptor of its manifest.

    Args:
        registry: where the image is.
        resolved: the image or index that the bundle is about.
        bundle: verified by the caller.
        predicate_type: of its statement; copied to an annotation, where it is a hint for readers.
        created: likewise.

    Raises:
        EvidenceNotAttached: (UNAVAIL) everything was pushed, and the registry does not list it.
        NetError, UnavailError: the registry failed; at worst a manifest is left that nothing lists.
    """
    repository = resolved.repository
    annotations = {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": predicate_type,
        "org.opencontainers.image.created": format_time(created),
    }
    layer = Descriptor(BUNDLE_TYPE, Digest.of(bundle), len(bundle))
    config = Descriptor(OCI_EMPTY, Digest.of(_EMPTY), len(_EMPTY), artifact_type=BUNDLE_TYPE)
    raw = strict.encode_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.encode(),
            "layers": [layer.encode()],
            "annotations": dict(annotations),
            "subject": resolved.document.descriptor().encode(),
            "artifactType": BUNDLE_TYPE,
        }
    )
    manifest = Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw), annotations, BUNDLE_TYPE)
    registry.push_blob(repository, config.digest, _EMPTY)
    registry.push_blob(repository, layer.digest, bundle)
    push_referrer(registry, repository, resolved.digest, manifest, raw)
    return manifest


def push_referrer(registry: Registry, repository: Repository, subject: Digest, manifest: Descriptor, raw: bytes) -> None:
    """Store a manifest whose blobs are stored and whose subject is `subject`, and see to it that it is listed.

    Raises:
        EvidenceNotAttached: (UNAVAIL) it was pushed, and the registry does not list it.
        NetError, UnavailError: the registry failed.
    """
    if registry.push_manifest(repository, manifest.digest, raw, manifest.media_type) == subject:
        return
    listed = registry.list_referrers(repository, subject)
    if listed is None:
        add_referrer(registry, repository, subject, manifest)
    elif all(child.digest != manifest.digest for child in listed):
        raise EvidenceNotAttached(
            "the registry does not list what was attached",
            place=Place(f"{repository}@{subject}"),
            expected=str(manifest.digest),
            got=f"{len(listed)} other referrers",
        )
