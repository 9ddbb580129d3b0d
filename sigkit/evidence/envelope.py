"""DSSE envelopes: one payload, its type, and exactly one signature.

DSSE allows several signatures; which of them counts is where verifiers went wrong (TOB-SIGSTORE-9), so bundles hold one, and two
signers make two bundles. `keyid` is not signed and is ignored.

Source: secure-systems-lab/dsse, envelope.md and protocol.md (v1.0.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits as all_limits
from sigkit import strict
from sigkit.data import Data

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.limits import Limits
    from sigkit.strict import Cursor, Json

IN_TOTO_TYPE: Final = "application/vnd.in-toto+json"
LAYER_TYPE: Final = "application/vnd.dsse.envelope.v1+json"  # of cosign's older attestations


class Envelope(Data):
    """A payload and the signature over its pre-authentication encoding."""

    payload: bytes
    payload_type: str
    signature: bytes

    def encode(self) -> dict[str, Json]:
        """Return the members of its JSON object, in cosign's order and without `keyid`."""
        return {
            "payload": strict.encode_base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [{"sig": strict.encode_base64(self.signature)}],
        }


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: type and payload, each with its length, so that neither can pass for the other.

    Source: DSSE protocol.md "PAE"; lengths are decimal counts of bytes.
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope_document(raw: bytes, limits: Limits, place: Place) -> Envelope:
    """Read an envelope that is a document of its own, as in cosign's older attestations.

    Raises:
        TooLarge, TooMany, TooDeep: (LIMIT).
        MalformedJson, WrongShape, MalformedBase64: (PARSE) as `parse_envelope`.
    """
    return parse_envelope(strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth))


def parse_envelope(cursor: Cursor) -> Envelope:
    """Read an envelope that holds an in-toto statement.

    Raises:
        WrongShape: (PARSE) another payload type, no signature or several, an unknown member.
        MalformedBase64: (PARSE).
    """
    cursor.only(("payload", "payloadType", "signatures"))
    payload_type = cursor.member("payloadType")
    if payload_type.text() != IN_TOTO_TYPE:
        payload_type.fail("not an in-toto statement", expected=IN_TOTO_TYPE)
    signatures = cursor.member("signatures")
    items = signatures.items(all_limits.EVIDENCE_ITEMS)
    if len(items) != 1:
        signatures.fail("an envelope has exactly one signature", expected="1", got=str(len(items)))
    signature = items[0].only(("sig", "keyid"))
    if key_id := signature.find("keyid"):
        key_id.text()
    return Envelope(cursor.member("payload").base64(), payload_type.text(), signature.member("sig").base64())
