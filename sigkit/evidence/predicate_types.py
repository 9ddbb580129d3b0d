"""The names that cosign gives to predicate types, and which members each predicate must have.

Source: cosign 3.1.1 by experiment; sigstore/cosign pkg/cosign/attestation.
"""

from __future__ import annotations

from typing import Final

CUSTOM: Final = "custom"
PREDICATE_CUSTOM: Final = "https://cosign.sigstore.dev/attestation/v1"
_PROVENANCE_02: Final = "https://slsa.dev/provenance/v0.2"
_PROVENANCE_1: Final = "https://slsa.dev/provenance/v1"
_VULN: Final = "https://cosign.sigstore.dev/attestation/vuln/v1"
_LINK: Final = "https://in-toto.io/Link/v1"

PREDICATE_TYPES: Final = {
    CUSTOM: PREDICATE_CUSTOM,
    "slsaprovenance": _PROVENANCE_02,
    "slsaprovenance02": _PROVENANCE_02,
    "slsaprovenance1": _PROVENANCE_1,
    "spdx": "https://spdx.dev/Document",
    "spdxjson": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "vuln": _VULN,
    "openvex": "https://openvex.dev/ns",
    "link": _LINK,
}

# What cosign demands before it signs; a reader of these types cannot do without.
REQUIRED_MEMBERS: Final = {
    _PROVENANCE_02: ("builder", "buildType"),
    _PROVENANCE_1: ("buildDefinition", "runDetails"),
    _VULN: ("invocation", "scanner", "metadata"),
    _LINK: ("_type",),
}


def predicate_type_of(name: str) -> str | None:
    """Return the predicate type that a user means: one of the names above, or a URI, which is itself; None if it is neither."""
    known = PREDICATE_TYPES.get(name)
    if known:
        return known
    scheme, colon, rest = name.partition(":")
    is_uri = colon and rest and scheme.isascii() and scheme[:1].isalpha() and not any(c.isspace() for c in name)
    return name if is_uri else None
