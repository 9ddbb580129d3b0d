"""What cosign's older forms carry beside a signature: the log's promise, a timestamp, a certificate with its chain.

Each is an annotation of a layer, a JSON or PEM document as a string. The detached signature of a file has the same in one document,
cosign's older `--bundle` file; of an attestation it has the whole envelope where a signature is expected.

Nothing is believed here. The promise is not signed over `body`'s kind: kind and version are read from the body, as the log wrote them.

Source: sigstore/cosign pkg/oci/static and pkg/cosign/bundle; cosign 3.1.1 by experiment.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from sigkit import limits as all_limits
from sigkit import strict
from sigkit.errors import MalformedBase64, MalformedPem, Place, TooLarge, TooMany
from sigkit.evidence.entries import parse_int64
from sigkit.evidence.form import CERTIFICATE_PART, LAYER_PART, REKOR_BUNDLE_PART, SIGNATURE_PART, Evidence, Form, Found
from sigkit.tlog.entry import LogEntry

if TYPE_CHECKING:
    from sigkit.limits import Limits
    from sigkit.strict import Cursor

_BLOB_MEMBERS: Final = ("base64Signature", "cert", "rekorBundle")
_IMPRINT_ALGORITHMS: Final = {f"2.16.840.1.101.3.4.2.{number}": f"sha{bits}" for number, bits in ((1, 256), (2, 384), (3, 512))}
_LABEL: Final = "CERTIFICATE"
_PEM = re.compile(r"\s*-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\n([A-Za-z0-9+/=\s]*?)\n?-----END ([A-Z0-9 ]{1,64})-----[ \t]*(?=\n|\Z)")


def parse_rekor_bundle(raw: bytes, limits: Limits, place: Place) -> LogEntry:
    """Read the annotation that holds the log's promise: an entry without a proof.

    Raises:
        TooLarge, TooDeep: (LIMIT).
        NotUtf8, MalformedJson, MalformedBase64, WrongShape: (PARSE).
    """
    return _parse_promise(_document(raw, limits, place), limits)


def parse_rfc3161(raw: bytes, limits: Limits, place: Place) -> bytes:
    """Read the annotation that holds a timestamp, and return the authority's response in DER.

    Raises:
        TooLarge, TooDeep: (LIMIT).
        NotUtf8, MalformedJson, MalformedBase64, WrongShape: (PARSE).
    """
    return _document(raw, limits, place).only(("SignedRFC3161Timestamp",)).member("SignedRFC3161Timestamp").base64()


def find_stamped(stamp: bytes, signature: bytes, envelope: bytes) -> bytes:
    """Return what the timestamp of an older attestation is about by its own words; the signature if by them it is about neither.

    cosign 2 had the whole envelope stamped and cosign 3 reads it so, though what it writes itself is about the signature, as in a bundle.
    Which of them it is proves nothing: the signature is inside the envelope, and the timestamp is verified over what is returned.
    """
    from rfc3161_client import decode_timestamp_response

    from sigkit.keys.certificate import refusals

    try:
        imprint = decode_timestamp_response(stamp).tst_info.message_imprint
        algorithm = _IMPRINT_ALGORITHMS.get(imprint.hash_algorithm.dotted_string, "")
    except refusals():  # for verification to say
        return signature
    return envelope if algorithm and hashlib.new(algorithm, envelope).digest() == imprint.message else signature


def parse_certificate(raw: bytes, place: Place) -> bytes:
    """Read one certificate in PEM, and return its DER.

    Raises:
        TooLarge: (LIMIT).
        NotUtf8, MalformedPem: (PARSE) no block, several, another label, or damaged.
    """
    chain = parse_chain(raw, place)
    if len(chain) != 1:
        raise MalformedPem("several certificates where one is expected", place=place, expected="1", got=str(len(chain)))
    return chain[0]


def parse_chain(raw: bytes, place: Place) -> tuple[bytes, ...]:
    """Read certificates in PEM, one after the other and nothing else, and return the DER of each.

    Raises:
        TooLarge, TooMany: (LIMIT).
        NotUtf8, MalformedPem: (PARSE) no block, another label, text between the blocks, or damaged.
    """
    if len(raw) > all_limits.CERTIFICATES * all_limits.KEY_FILE_BYTES:
        raise TooLarge(f"more than {all_limits.CERTIFICATES * all_limits.KEY_FILE_BYTES} bytes", place=place, got=f"{len(raw)} bytes")
    rest = strict.decode_utf8(raw, place).replace("\r\n", "\n")
    found: list[bytes] = []
    while rest.strip():
        block = _PEM.match(rest)
        if block is None or block[1] != block[3]:
            raise MalformedPem("not PEM", place=place, expected=f"-----BEGIN {_LABEL}-----", got=rest.strip()[:40])
        if block[1] != _LABEL:
            raise MalformedPem("a PEM block of another label", place=place, expected=f"-----BEGIN {_LABEL}-----", got=block[1])
        if len(found) == all_limits.CERTIFICATES:
            raise TooMany(f"more than {all_limits.CERTIFICATES} certificates", place=place)
        found.append(_decode_block(block[2], place))
        rest = rest[block.end() :]
    if not found:
        raise MalformedPem("the file holds no PEM block", place=place, expected=f"-----BEGIN {_LABEL}-----")
    return tuple(found)


def parse_blob_bundle(raw: bytes, limits: Limits, found: Found) -> Evidence:
    """Read cosign's older `--bundle` file: a detached signature, or an attestation, with what was stored beside it, as parts.

    `attest-blob` writes the envelope into the member for the signature. A public key in the place of the certificate is left out: it names
    no signer, and verification takes keys from its trust root alone.

    Raises:
        TooLarge, TooDeep: (LIMIT).
        NotUtf8, MalformedJson, MalformedBase64, WrongShape: (PARSE).
    """
    place = Place(found.repository, found.inside)
    top = _document(raw, limits, place).only(_BLOB_MEMBERS)
    form, parts = _signature_or_envelope(top.member("base64Signature"))
    certificate, promise = top.find("cert"), top.find("rekorBundle")
    if certificate and certificate.text():
        pem = certificate.base64()
        if b"PUBLIC KEY-----" not in pem:
            parts[CERTIFICATE_PART] = pem
    if promise:
        _parse_promise(promise, limits)
        parts[REKOR_BUNDLE_PART] = strict.encode_json(promise.value)
    return Evidence(form, parts, found)


def _signature_or_envelope(cursor: Cursor) -> tuple[Form, dict[str, bytes]]:
    text = cursor.text()
    try:
        raw = strict.decode_base64(text, cursor.at())
    except MalformedBase64:  # for verification to say
        raw = b""
    # A signature holds this text with a chance of one in 2**100; which form it is decides what must be proved, and proves nothing.
    if b'"payloadType"' in raw:
        return Form.ENVELOPE, {LAYER_PART: raw}
    return Form.BLOB_SIGNATURE, {SIGNATURE_PART: text.encode("utf-8")}


def _document(raw: bytes, limits: Limits, place: Place) -> Cursor:
    return strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth)


def _parse_promise(top: Cursor, limits: Limits) -> LogEntry:
    top.only(("SignedEntryTimestamp", "Payload"))
    payload = top.member("Payload").only(("body", "integratedTime", "logIndex", "logID"))
    body, log_id = payload.member("body"), payload.member("logID")
    raw = body.base64()
    head = _document(raw, limits, body.at())
    return LogEntry(
        index=parse_int64(payload.member("logIndex")),
        log_id=_parse_hex(log_id),
        kind=head.member("kind").text(),
        version=head.member("apiVersion").text(),
        integrated_time=parse_int64(payload.member("integratedTime")),
        promise=top.member("SignedEntryTimestamp").base64(),
        proof=None,
        body=raw,
    )


def _parse_hex(cursor: Cursor) -> bytes:
    text = cursor.text()
    if not re.fullmatch(r"(?:[0-9a-f]{2})+", text):
        cursor.fail("not lower-case hexadecimal")
    return bytes.fromhex(text)


def _decode_block(text: str, place: Place) -> bytes:
    try:
        return strict.decode_base64("".join(text.split()), place)
    except MalformedBase64 as err:
        raise MalformedPem("the PEM block is not base64", place=place, got=err.got) from err
