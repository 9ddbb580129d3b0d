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


class Form(Enum):
    """How evidence is written.

    A bundle has one part, `bundle`. Simple signing is cosign's older form: `layer` holds the signed bytes, and each annotation of the
    layer is a part under its own key.
    """

    BUNDLE = "bundle"
    SIMPLE_SIGNING = "simple-signing"


class Found(Data):
    """Where evidence lay: a repository (or a file's path), the digest of the manifest that holds it, and the way it was listed.

    `via` is `referrers`, `referrers-tag`, `sig-tag` or `file`; `inside` tells layers of one manifest apart.
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
