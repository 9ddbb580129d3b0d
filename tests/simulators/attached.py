"""A simulated instance's evidence about an image in a registry, in each form that cosign reads there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives import serialization

from sigkit.digest import Digest
from sigkit.evidence.attach import attach
from sigkit.evidence.form import LAYER_PART, TIMESTAMP_PART
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.oci.manifest import OCI_CONFIG, OCI_MANIFEST, encode_manifest
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.referrers import fallback_tag
from sigkit.oci.resolve import resolve
from tests.simulators.evidence_maker import b64
from tests.simulators.images import describe, small_image
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

if TYPE_CHECKING:
    from pathlib import Path

    from sigkit.oci.registry import Registry
    from tests.simulators.sigstore import Case

PREDICATE: Final = "https://spdx.dev/Document"
FORMS: Final = ("bundle", "older", "attestation", "older-attestation")
_LAYERS: Final = {
    "older": ("simple", "hashedrekord", "application/vnd.dev.cosign.simplesigning.v1+json", ".sig"),
    "older-attestation": ("att", "dsse", "application/vnd.dsse.envelope.v1+json", ".att"),
}


class Attached(NamedTuple):
    """An image with one piece of evidence, and the flags by which either program verifies it."""

    reference: str  # by tag
    digest: Digest
    who: tuple[str, ...]

    def typed(self) -> dict[str, str]:
        """Return the ways to name the image."""
        pinned = f"{self.reference.rpartition(':')[0]}@{self.digest}"
        return {"tag": self.reference, "digest": pinned, "both": f"{self.reference}@{self.digest}"}


def attach_signed(
    registry: Registry, repository: Repository, home: Path, form: str, by: str, sim: Simulator | None = None, **annotations: object
) -> Attached:
    """Push the repository's image, sign or attest it in one of `FORMS` by `key` or `identity`, and attach that.

    In `home`, `root.json` and `signer.pub` are what the flags name.
    """
    sim = sim or Simulator()
    raw = small_image(str(repository).encode())
    digest = raw.push(registry, repository, "v1")

    def simple(document):
        critical = {
            **document["critical"],
            "image": {"docker-manifest-digest": str(digest)},
            "identity": {"docker-reference": str(repository)},
        }
        return {"critical": critical, "optional": annotations or None}

    def statement(document):
        kind = PREDICATE if form.endswith("attestation") else PREDICATE_SIGNATURE
        return {**document, "subject": [{"digest": {"sha256": digest.hex}, "annotations": annotations}], "predicateType": kind}

    sim.change.update(simple=simple, statement=statement)
    if form in _LAYERS:
        case = _attach_layer(registry, repository, digest, form, by, sim)
    else:
        case = sim.make("dsse", ("dsse",), by)
        kind = PREDICATE if form == "attestation" else PREDICATE_SIGNATURE
        attach(registry, resolve(registry, parse_reference(f"{repository}:v1")), case.parts["bundle"], kind, datetime.now(UTC))
    (home / "root.json").write_bytes(case.root)
    (home / "signer.pub").write_bytes(
        sim.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    identity = ("--certificate-identity", SUBJECT, "--certificate-oidc-issuer", ISSUER)
    who = identity if by == "identity" else ("--key", "signer.pub")
    return Attached(f"{repository}:v1", digest, (*who, "--trusted-root", "root.json"))


def _attach_layer(registry: Registry, repository: Repository, digest: Digest, form: str, by: str, sim: Simulator) -> Case:
    kind, entry, media_type, suffix = _LAYERS[form]
    case = sim.make(kind, (entry,), by)
    layer = case.parts[LAYER_PART]
    annotations = {"dev.cosignproject.cosign/signature": ""}
    annotations |= {name: part.decode() for name, part in case.parts.items() if name != LAYER_PART}
    if form == "older-attestation":  # cosign has the whole envelope stamped
        annotations[TIMESTAMP_PART] = json.dumps({"SignedRFC3161Timestamp": b64(sim.tsa.stamp(layer))})
    for blob in (layer, b"{}"):
        registry.push_blob(repository, Digest.of(blob), blob)
    manifest = encode_manifest(describe(b"{}", OCI_CONFIG), [describe(layer, media_type, annotations=annotations)])
    registry.push_manifest(repository, f"{fallback_tag(digest)}{suffix}", manifest, OCI_MANIFEST)
    return case
