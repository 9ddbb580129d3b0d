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
_CYCLONEDX: Final = "https://cyclonedx.org/bom"
_OPENVEX: Final = "https://openvex.dev/ns"
_SPDX: Final = "https://spdx.dev/Document"
_LINK: Final = "https://in-toto.io/Link/v1"

PREDICATE_TYPES: Final = {
    CUSTOM: PREDICATE_CUSTOM,
    "slsaprovenance": _PROVENANCE_02,
    "slsaprovenance02": _PROVENANCE_02,
    "slsaprovenance1": _PROVENANCE_1,
    "spdx": _SPDX,
    "spdxjson": _SPDX,
    "cyclonedx": _CYCLONEDX,
    "vuln": _VULN,
    "openvex": _OPENVEX,
    "link": _LINK,
}

# What a reader of these types cannot do without. SPDX 3 and OpenVEX are JSON-LD.
REQUIRED_MEMBERS: Final = {
    _CYCLONEDX: ("bomFormat", "specVersion"),
    _OPENVEX: ("@context", "statements"),
    _PROVENANCE_02: ("builder", "buildType"),
    _PROVENANCE_1: ("buildDefinition", "runDetails"),
    _VULN: ("invocation", "scanner", "metadata"),
    _LINK: ("_type",),
}
# Of which one must be there, and what each begins with: of SPDX 2 and 3.
ONE_OF: Final = {_SPDX: (("spdxVersion", "SPDX-2"), ("@context", "https://spdx.org/rdf/3"))}
EXACT: Final = {_LINK: ("_type", "link"), _CYCLONEDX: ("bomFormat", "CycloneDX")}


def predicate_type_of(name: str) -> str | None:
    """Return the predicate type that a user means: one of the names above, or a URI, which is itself; None if it is neither."""
    known = PREDICATE_TYPES.get(name)
    if known:
        return known
    scheme, colon, rest = name.partition(":")
    is_uri = colon and rest and scheme.isascii() and scheme[:1].isalpha() and not any(c.isspace() for c in name)
    return name if is_uri else None
