"""The stack's timestamp authority: signs that bytes with a digest existed at a time.

It sees the digest alone. What it answers is one CMS SignedData over a TSTInfo, by the one certificate that is for nothing else. The
certificate comes with the token only if it is asked for, and alone: more of them are a SET whose order clients check.

Source: RFC 3161 sections 2.3, 2.4.1, 2.4.2; RFC 5816 section 2.2.1; RFC 5652 sections 5.1 to 5.4; RFC 5035 section 3; for HTTP and JSON
sigstore/timestamp-authority pkg/api.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Self

from sigkit.data import Data
from sigkit.errors import Place, SigkitError
from sigkit.services import der, pki
from sigkit.services.exchange import Answer, Request, json_answer, whole_answer
from sigkit.services.gateway import INVALID_ARGUMENT, GatewayError, invalid, read_body, route
from sigkit.strict import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from sigkit.clock import Clock

FILES: Final = pki.Files(root="tsa-root", key="tsa.key", chain="tsa-chain.pem")

POLICY: Final = "1.3.6.1.4.1.57264.2"
_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_SIGNING_TIME: Final = "1.2.840.113549.1.9.5"
_SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.47"
_ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
_SHA256: Final = "2.16.840.1.101.3.4.2.1"
# Name in JSON, identifier in DER, bytes. SHA-1 and what is shorter is not signed.
_IMPRINTS: Final = (("sha256", _SHA256, 32), ("sha384", "2.16.840.1.101.3.4.2.2", 48), ("sha512", "2.16.840.1.101.3.4.2.3", 64))
_NULL: Final = b"\x05\x00"
_MOST_BODY_BYTES: Final = 1024
_MOST_NONCE_BYTES: Final = 20
_NONCE_MAX: Final = 2 ** (8 * _MOST_NONCE_BYTES - 1) - 1  # the first bit of an INTEGER is its sign
_QUERY_TYPE: Final = "application/timestamp-query"
_JSON_TYPE: Final = "application/json"


class Query(Data):
    """What is to be timestamped."""

    imprint: bytes  # the MessageImprint, as it came
    nonce: bytes  # the INTEGER, as it came; empty without one
    wants_certificate: bool


class TimestampAuthority:
    """Answers requests."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate], clock: Clock) -> None:
        """Sign by `key`, whose certificate is the first of `chain`."""
        self._key = key
        self._clock = clock
        self.chain = tuple(chain)

    @classmethod
    def create_offline(cls, offline: str, name: str, clock: Clock) -> None:
        """Make the root's key and certificate in `offline`, a directory that the running process never reads.

        Raises:
            FileUnwritable: (UNAVAIL).
        """
        pki.make_root(offline, FILES.root, name, f"{name} timestamp root", clock.now())

    @classmethod
    def create(cls, directory: str, offline: str, name: str, clock: Clock) -> None:
        """Make the signing key in `directory`, and have the root in `offline` certify it.

        Raises:
            FileUnwritable, FileUnreadable: (UNAVAIL).
            MalformedKey, MalformedCertificate: (SIG) what is in `offline`.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (pki.key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
        ]
        pki.make_issued(directory, offline, FILES, pki.subject_name(name, f"{name} timestamps"), clock.now(), extensions)

    @classmethod
    def open(cls, directory: str, clock: Clock) -> Self:
        """Open what `create` made.

        Raises:
            FileUnreadable: (UNAVAIL).
            MalformedKey, MalformedCertificate: (SIG).
            OtherKeyCertified: (BIND) the key is not that of the certificate.
        """
        return cls(*FILES.load(directory), clock)

    def stamp(self, query: Query) -> bytes:
        """Return the answer to a query: a TimeStampResp in DER.

        Raises:
            GatewayError: the authority's certificate is not valid by the clock here.
        """
        from cryptography import x509

        # In whole seconds, downwards: what is promised is that the bytes existed then, give or take the accuracy.
        when = self._clock.now().replace(microsecond=0)
        pki.check_valid(self.chain[0], when)
        info = der.sequence(
            der.integer(1),
            der.identifier(POLICY),
            query.imprint,
            der.integer(x509.random_serial_number()),
            der.generalized_time(when),
            der.sequence(der.integer(1)),
            query.nonce,
        )
        certificates = der.element(0xA0, pki.der(self.chain[0])) if query.wants_certificate else b""
        signed = der.sequence(
            der.integer(3),
            der.set_of(_algorithm(_SHA256)),
            der.sequence(der.identifier(_TST_INFO), der.element(0xA0, der.octets(info))),
            certificates,
            der.set_of(self._signer_info(info, when)),
        )
        token = der.sequence(der.identifier(_SIGNED_DATA), der.element(0xA0, signed))
        return der.sequence(der.sequence(der.integer(0)), token)

    def _signer_info(self, info: bytes, when: datetime) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        leaf = self.chain[0]
        fingerprint = der.sequence(der.sequence(der.sequence(der.octets(leaf.fingerprint(hashes.SHA256())))))
        attributes = der.set_of(
            _attribute(_CONTENT_TYPE, der.identifier(_TST_INFO)),
            _attribute(_SIGNING_TIME, der.time(when)),
            _attribute(_MESSAGE_DIGEST, der.octets(hashlib.sha256(info).digest())),
            _attribute(_SIGNING_CERTIFICATE, fingerprint),
        )
        # Signed as a SET, carried as [0] (RFC 5652 section 5.4).
        signature = self._key.sign(attributes, ec.ECDSA(hashes.SHA256()))
        return der.sequence(
            der.integer(1),
            der.sequence(leaf.issuer.public_bytes(), der.integer(leaf.serial_number)),
            _algorithm(_SHA256),
            b"\xa0" + attributes[1:],
            _algorithm(_ECDSA_SHA256),
            der.octets(signature),
        )

    async def answer(self, request: Request) -> Answer:
        """Answer a request; whatever is wrong with it is answered too."""
        handlers = {
            ("POST", "/api/v1/timestamp"): self._take_query,
            ("GET", "/api/v1/timestamp/certchain"): self._send_chain,
        }
        return await route(request, handlers, _error_answer)

    async def _take_query(self, request: Request) -> Answer:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in {_QUERY_TYPE, _JSON_TYPE}:
            raise GatewayError(415, INVALID_ARGUMENT, f"unsupported media type, {_QUERY_TYPE} or {_JSON_TYPE} only")
        try:
            raw = await read_body(request, _MOST_BODY_BYTES)
        except GatewayError as err:
            raise invalid(f"Error generating timestamp response: {err.message}") from err  # theirs has no 413
        try:
            query = parse_query(raw) if media_type == _QUERY_TYPE else parse_json_query(raw)
        except (der.MalformedDer, SigkitError) as err:
            raise invalid(f"Error generating timestamp response: {err}") from err
        return whole_answer(200, self.stamp(query), (("Content-Type", "application/timestamp-reply"),))

    async def _send_chain(self, _: Request) -> Answer:
        body = b"".join(pki.pem(certificate) for certificate in self.chain)
        return whole_answer(200, body, (("Content-Type", "application/pem-certificate-chain"),))


def _error_answer(err: GatewayError) -> Answer:
    return json_answer(err.status, {"code": err.status, "message": err.message}, err.headers)


def parse_query(raw: bytes) -> Query:
    """Parse a TimeStampReq in DER.

    Raises:
        MalformedDer: malformed, or something that this authority does not sign.

    Source: RFC 3161 section 2.4.1.
    """
    parts = der.read_all(der.read_one(raw, der.SEQUENCE).content)
    if len(parts) < 2 or der.read_integer(parts[0]) != 1 or parts[1].tag != der.SEQUENCE:
        raise der.MalformedDer("not a timestamp query of version 1")
    _check_imprint(parts[1])
    rest = parts[2:]
    if rest and rest[0].tag == der.OBJECT_IDENTIFIER and der.read_identifier(rest.pop(0)) != POLICY:
        raise der.MalformedDer(f"policy {POLICY} only")
    nonce = b""
    if rest and rest[0].tag == der.INTEGER:
        nonce = _checked_nonce(rest.pop(0))
    wants = False
    if rest and rest[0].tag == der.BOOLEAN:
        wants = der.read_boolean(rest.pop(0))
    if rest:
        raise der.MalformedDer("extensions are not supported")
    return Query(parts[1].whole, nonce, wants)


def parse_json_query(raw: bytes) -> Query:
    """Parse a query in JSON.

    Raises:
        SigkitError: (PARSE, LIMIT) malformed.
        MalformedDer: something that this authority does not sign.
    """
    cursor = parse_json(raw, most_bytes=_MOST_BODY_BYTES, place=Place("query"), most_integer=_NONCE_MAX)
    cursor.only(("artifactHash", "hashAlgorithm", "certificates", "nonce", "tsaPolicyOID"))
    digest = cursor.member("artifactHash").base64()
    name = cursor.member("hashAlgorithm").text().lower()
    found = next((item for item in _IMPRINTS if item[0] == name), None)
    if found is None or len(digest) != found[2]:
        raise der.MalformedDer("SHA-256, SHA-384 or SHA-512 only, and a digest of its length")
    policy, nonce, wants = (cursor.find(member) for member in ("tsaPolicyOID", "nonce", "certificates"))
    if policy is not None and policy.text() not in {"", POLICY}:
        raise der.MalformedDer(f"policy {POLICY} only")
    return Query(
        der.sequence(der.sequence(der.identifier(found[1]), _NULL), der.octets(digest)),
        der.integer(nonce.integer(0, _NONCE_MAX)) if nonce is not None else b"",
        wants.boolean() if wants is not None else False,
    )


def _check_imprint(item: der.Element) -> None:
    parts = der.read_all(item.content)
    if [part.tag for part in parts] != [der.SEQUENCE, der.OCTET_STRING]:
        raise der.MalformedDer("malformed message imprint")
    algorithm = der.read_all(parts[0].content)
    if not algorithm or [parameter.whole for parameter in algorithm[1:]] not in ([], [_NULL]):
        raise der.MalformedDer("malformed hash algorithm")
    dotted = der.read_identifier(algorithm[0])
    if (dotted, len(parts[1].content)) not in {(known, size) for _, known, size in _IMPRINTS}:
        raise der.MalformedDer("SHA-256, SHA-384 or SHA-512 only, and a digest of its length")


def _checked_nonce(item: der.Element) -> bytes:
    der.read_integer(item)
    if len(item.content) > _MOST_NONCE_BYTES:
        raise der.MalformedDer(f"a nonce of more than {_MOST_NONCE_BYTES} bytes")
    return item.whole


def _algorithm(dotted: str) -> bytes:
    return der.sequence(der.identifier(dotted))


def _attribute(dotted: str, value: bytes) -> bytes:
    return der.sequence(der.identifier(dotted), der.set_of(value))
