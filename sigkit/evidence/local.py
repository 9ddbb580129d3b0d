"""Evidence that lies in files: bundles, and what older programs write about a file. The caller reads them; here they are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.errors import Place
from sigkit.evidence.form import (
    CERTIFICATE_PART,
    CHAIN_PART,
    LAYER_PART,
    SIGNATURE_PART,
    Evidence,
    Form,
    Found,
    evidence_of_bundle,
)

if TYPE_CHECKING:
    from sigkit.limits import Limits

VIA: Final = "file"


def evidence_of_file(raw: bytes, path: str, limits: Limits) -> Evidence:
    """Hold the content of a file as evidence: a bundle, a DSSE envelope alone, or cosign's older bundle of a blob.

    Raises:
        TooLarge, TooDeep: (LIMIT).
        NotUtf8, MalformedJson, WrongShape, MalformedBase64: (PARSE) no JSON object, or an older bundle that is malformed. Whether anything
            else is well-formed is for verification to say.
    """
    found = Found(path, None, VIA)
    members = strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=Place(path), depth=limits.json_depth).object()
    if "mediaType" in members:
        return evidence_of_bundle(raw, found)
    if "base64Signature" in members:
        from sigkit.evidence.legacy import parse_blob_bundle

        return parse_blob_bundle(raw, limits, found)
    if "payloadType" in members:
        return Evidence(Form.ENVELOPE, {LAYER_PART: raw}, found)
    return evidence_of_bundle(raw, found)


def detached_signature(signature: bytes, certificate: bytes | None, chain: bytes | None, path: str) -> Evidence:
    """Hold what lies in the file `path`, with a certificate and its chain in PEM, if there are any.

    It is a signature in base64, or the envelope that cosign writes in its place when it attests; base64 has no brace.
    """
    envelope = signature.lstrip().startswith(b"{")
    form, parts = (Form.ENVELOPE, {LAYER_PART: signature}) if envelope else (Form.BLOB_SIGNATURE, {SIGNATURE_PART: signature.strip()})
    if certificate is not None:
        parts[CERTIFICATE_PART] = certificate
    if chain is not None:
        parts[CHAIN_PART] = chain
    return Evidence(form, parts, Found(path, None, VIA))
