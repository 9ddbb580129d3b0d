"""Simple signing: the form of cosign before version 3, and of podman and skopeo.

The signed bytes are a small JSON document, signed as stored. It names one digest, and in `docker-reference` the repository, which cosign
lets be empty or foreign: what was signed is kept, and whether it is the wanted one is the policy's question.

Source: containers/image docs/containers-signature.5.md; sigstore/cosign specs/SIGNATURE_SPEC.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.data import NOTHING, Data
from sigkit.digest import Digest, parse_digest
from sigkit.errors import MalformedReference
from sigkit.evidence.statement import parse_annotations
from sigkit.oci.reference import parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.errors import Place
    from sigkit.limits import Limits
    from sigkit.strict import Cursor

LAYER_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_TYPE: Final = "cosign container image signature"
PODMAN_TYPE: Final = "atomic container signature"


class SimpleSigning(Data):
    """One digest, the repository named with it, if any, and the signer's own annotations.

    `untold` names the annotations whose value is no string.
    """

    digest: Digest
    repository: str | None
    annotations: Mapping[str, str] = NOTHING
    untold: tuple[str, ...] = ()


def parse_simple_signing(payload: bytes, limits: Limits, place: Place) -> SimpleSigning:
    """Read the document from bytes whose signature was proved.

    Raises:
        TooLarge, TooMany, TooDeep: (LIMIT).
        MalformedJson, WrongShape: (PARSE) another type, a missing, unknown or repeated member.
        MalformedDigest: (DIGEST).
    """
    top = strict.parse_json(payload, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth).only(("critical", "optional"))
    critical = top.member("critical").only(("identity", "image", "type"))
    kind = critical.member("type")
    if kind.text() not in {COSIGN_TYPE, PODMAN_TYPE}:
        kind.fail("not the signature of an image", expected=f"{COSIGN_TYPE!r} or {PODMAN_TYPE!r}")
    digest = critical.member("image").only(("docker-manifest-digest",)).member("docker-manifest-digest")
    optional = top.find("optional")
    told, untold = parse_annotations(optional) if optional else (NOTHING, ())
    return SimpleSigning(
        digest=parse_digest(digest.text(), digest.at()),
        repository=_repository(critical.member("identity").only(("docker-reference",)).find("docker-reference")),
        annotations=told,
        untold=untold,
    )


def _repository(cursor: Cursor | None) -> str | None:
    """Return the canonical name of the repository; a name that does not parse stays as it is, and equals none."""
    if cursor is None or not cursor.text():
        return None
    try:
        return str(parse_reference(cursor.text(), cursor.at()).repository)
    except MalformedReference:
        return cursor.text()
