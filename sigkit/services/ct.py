"""The stack's certificate log: keeps what its authorities are about to issue, and signs the promise to show it.

A promise is answered only when its entry is durable. What is signed is the entry itself: the certificate without its promise, and the key
of its issuer, which for the structures of RFC 6962 are the same bytes.

Only chains that end at a root of this stack are taken.

Source: RFC 6962 sections 3.1 to 3.4, 4.1, 4.2, 4.7.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from typing import TYPE_CHECKING, Final, Self

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import FileUnwritable, Place, SigkitError
from sigkit.services import der, pki
from sigkit.services.exchange import Answer, Request, json_answer
from sigkit.services.gateway import invalid, read_body, route
from sigkit.strict import encode_base64, parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from sigkit.clock import Clock

_KEY: Final = "ct.key"
_ENTRIES: Final = "entries"
_POISON: Final = "1.3.6.1.4.1.11129.2.4.3"
_EXTENSIONS_TAG: Final = 0xA3  # [3] EXPLICIT of TBSCertificate
_POISON_CONTENT: Final = der.octets(b"\x05\x00")
_MOST_BODY_BYTES: Final = 256 << 10
_MOST_CERTIFICATES: Final = 10


class Promise(Data):
    """A signed certificate timestamp, version 1, without extensions."""

    log_id: bytes
    timestamp_ms: int
    signature: bytes  # with the two bytes before it that name SHA-256 and ECDSA

    def encode(self) -> bytes:
        """Return it as it stands in a certificate.

        Source: RFC 6962 section 3.2.
        """
        return b"\x00" + self.log_id + self.timestamp_ms.to_bytes(8, "big") + b"\x00\x00" + self.signature


def encode_list(promises: Sequence[Promise]) -> bytes:
    """Return the content of the extension that carries promises.

    Source: RFC 6962 section 3.3.
    """
    listed = b"".join(len(item).to_bytes(2, "big") + item for item in (promise.encode() for promise in promises))
    return der.octets(len(listed).to_bytes(2, "big") + listed)


class CertificateLog:
    """Answers requests and the stack's own authority."""

    def __init__(self, directory: str, key: ec.EllipticCurvePrivateKey, roots: Sequence[x509.Certificate], clock: Clock) -> None:
        """Serve the log in `directory`, which takes chains of these roots."""
        self._key = key
        self._roots = tuple(roots)
        self._clock = clock
        self._entries = _EntryFile(os.path.join(directory, _ENTRIES))
        self.public_key = pki.spki(key.public_key())
        self.log_id = hashlib.sha256(self.public_key).digest()

    @classmethod
    def create(cls, directory: str) -> None:
        """Make the log's key in `directory`, which is there.

        Raises:
            FileUnwritable: (UNAVAIL).
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        pki.make_key(os.path.join(directory, _KEY), ec.SECP256R1)

    @classmethod
    def open(cls, directory: str, roots: Sequence[x509.Certificate], clock: Clock) -> Self:
        """Open the log that `create` made.

        Raises:
            FileUnreadable, FileUnwritable: (UNAVAIL).
            MalformedKey: (SIG).
        """
        return cls(directory, pki.load_key(os.path.join(directory, _KEY)), roots, clock)

    def add_precertificate(self, chain: Sequence[x509.Certificate]) -> Promise:
        """Keep a precertificate with its issuers, and promise to show it.

        Raises:
            MalformedDer, ValueError: the chain is not one of this log's roots, or holds no precertificate.
            FileUnwritable: (UNAVAIL) nothing was promised.
        """
        if not 1 < len(chain) <= _MOST_CERTIFICATES:
            raise ValueError(f"a chain has 2 to {_MOST_CERTIFICATES} certificates, the precertificate first")
        self._check_chain(chain)
        body = without_poison(chain[0].tbs_certificate_bytes)
        issuer_key = hashlib.sha256(_spki(chain[1])).digest()
        entry = b"\x00\x01" + issuer_key + len(body).to_bytes(3, "big") + body
        return self._promise(entry, [pki.der(certificate) for certificate in chain])

    def _promise(self, entry: bytes, chain: Sequence[bytes]) -> Promise:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        milliseconds = int(self._clock.now().timestamp() * 1000)
        # As MerkleTreeLeaf: version 1, timestamped_entry. As what is signed: version 1, certificate_timestamp.
        leaf = b"\x00\x00" + milliseconds.to_bytes(8, "big") + entry + b"\x00\x00"
        self._entries.append(leaf, chain)
        signature = self._key.sign(leaf, ec.ECDSA(hashes.SHA256()))
        return Promise(self.log_id, milliseconds, b"\x04\x03" + len(signature).to_bytes(2, "big") + signature)

    def _check_chain(self, chain: Sequence[x509.Certificate]) -> None:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        parents = [*chain[1:], *(root for root in self._roots if root.subject == chain[-1].issuer)]
        try:
            for child, parent in zip(chain, parents, strict=False):
                child.verify_directly_issued_by(parent)
                if not parent.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                    raise ValueError("an issuer of the chain is no authority")
        except (InvalidSignature, TypeError, x509.ExtensionNotFound) as err:
            raise ValueError("the certificates of the chain did not issue each other") from err
        if len(parents) < len(chain) or parents[len(chain) - 1] not in self._roots:
            raise ValueError("the chain does not end at a root of this log")

    async def answer(self, request: Request) -> Answer:
        """Answer a request for `/ct/v1/…`; whatever is wrong with it is answered too."""
        return await route(
            request,
            {("POST", "/ct/v1/add-pre-chain"): self._add_pre_chain, ("GET", "/ct/v1/get-roots"): self._get_roots},
        )

    async def _add_pre_chain(self, request: Request) -> Answer:
        from cryptography import x509

        raw = await read_body(request, _MOST_BODY_BYTES)
        try:
            listed = parse_json(raw, most_bytes=_MOST_BODY_BYTES, place=Place("request")).member("chain").items(_MOST_CERTIFICATES)
            chain = [x509.load_der_x509_certificate(item.base64()) for item in listed]
            promise = await asyncio.to_thread(self.add_precertificate, chain)
        except FileUnwritable:
            raise
        except (SigkitError, ValueError, x509.InvalidVersion) as err:
            raise invalid(str(err)) from err
        return json_answer(
            200,
            {
                "sct_version": 0,
                "id": encode_base64(promise.log_id),
                "timestamp": promise.timestamp_ms,
                "extensions": "",
                "signature": encode_base64(promise.signature),
            },
        )

    async def _get_roots(self, _: Request) -> Answer:
        return json_answer(200, {"certificates": [encode_base64(pki.der(root)) for root in self._roots]})


def without_poison(body: bytes) -> bytes:
    """Return a precertificate's TBSCertificate as that of the certificate without its promise.

    Raises:
        MalformedDer: it holds no poison, or several, or not as it must.

    Source: RFC 6962 section 3.2; section 3.1 for the poison.
    """
    parts = der.read_all(der.read_one(body, der.SEQUENCE).content)
    if not parts or parts[-1].tag != _EXTENSIONS_TAG:
        raise der.MalformedDer("the certificate has no extensions")
    listed = der.read_all(der.read_one(parts[-1].content, der.SEQUENCE).content)
    poison = der.identifier(_POISON)
    marks = [item for item in listed if item.content.startswith(poison)]
    if len(marks) != 1 or marks[0].content != poison + b"\x01\x01\xff" + _POISON_CONTENT:
        raise der.MalformedDer("not a precertificate: it has no critical poison extension")
    kept = der.sequence(*(item.whole for item in listed if item is not marks[0]))
    return der.sequence(*(part.whole for part in parts[:-1]), der.element(_EXTENSIONS_TAG, kept))


def _spki(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class _EntryFile:
    """Leaves with their chains, one after the other, each with its length before it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()

    def append(self, leaf: bytes, chain: Sequence[bytes]) -> None:
        record = b"".join(len(part).to_bytes(3, "big") + part for part in (leaf, *chain))
        with self._lock:
            try:
                with open(self._path, "ab") as file:
                    file.write(len(record).to_bytes(4, "big") + record)
                    file.flush()
                    durable.failpoint("ct.append.fsync")
                    os.fsync(file.fileno())
            except OSError as err:
                raise FileUnwritable(f"cannot write the log: {err.strerror or err}", place=Place(self._path)) from err
