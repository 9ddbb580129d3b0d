"""Evidence as it was found: raw parts, where they lay, and nothing believed yet."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.errors import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.digest import Digest

BUNDLE_PART: Final = "bundle"
LAYER_PART: Final = "layer"
SIGNATURE_PART: Final = "dev.cosignproject.cosign/signature"
CERTIFICATE_PART: Final = "dev.sigstore.cosign/certificate"
CHAIN_PART: Final = "dev.sigstore.cosign/chain"
REKOR_BUNDLE_PART: Final = "dev.sigstore.cosign/bundle"
TIMESTAMP_PART: Final = "dev.sigstore.cosign/rfc3161timestamp"


class Form(Enum):
    """How evidence is written.

    A bundle has one part, `bundle`. The others are cosign's older forms, whose parts have the names of its annotations:

    - Simple signing, a signature of an image: `layer` holds the signed bytes.
    - An envelope, an attestation: `layer` holds a DSSE envelope.
    - A blob's signature, detached: there is no `layer`, what was signed is the file itself.
    """

    BUNDLE = "bundle"
    SIMPLE_SIGNING = "simple-signing"
    ENVELOPE = "envelope"
    BLOB_SIGNATURE = "blob-signature"


class Found(Data):
    """Where evidence lay: a repository (or a file's path), the digest of the manifest that holds it, and the way it was listed.

    `via` is `referrers`, `referrers-tag`, `sig-tag`, `att-tag` or `file`; `inside` tells layers of one manifest apart.
    """

    repository: str
    digest: Digest | None
    via: str
    inside: str = ""


class Evidence(Data):
    """One signature or attestation, as raw bytes by part."""

    form: Form
    parts: Mapping[str, bytes]
    found: Found

    @property
    def place(self) -> Place:
        """Where it was found, for refusals and facts."""
        source = f"{self.found.repository}@{self.found.digest}" if self.found.digest else self.found.repository
        return Place(source, self.found.inside)


def evidence_of_bundle(raw: bytes, found: Found) -> Evidence:
    """Hold the bytes of a bundle as evidence."""
    return Evidence(Form.BUNDLE, {BUNDLE_PART: raw}, found)
