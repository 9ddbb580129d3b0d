"""The stack's certificate log: keeps what its authorities are about to issue, and signs the promise to show it.

A promise is answered only when its entry is in the tree and durable, so it is kept before it is given. What is signed is the entry itself:
the certificate without its promise, and the key of its issuer, which for the structures of RFC 6962 are the same bytes.

Entries lie in a tile log of their own, whose checkpoints another key signs; anybody can read it as any other. Its leaves are RFC 6962's
MerkleTreeLeaf, so their hashes are those of RFC 6962, but for the first, which is the log's own.

Only chains that end at the root of this stack are taken.

Source: RFC 6962 sections 3.1 to 3.4, 4.2, 4.7; C2SP tlog-tiles.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Final, Self

from sigkit.data import Data
from sigkit.errors import LimitError, ParseError, Place, SigkitError
from sigkit.keys.certificate import read_certificate, refusals
from sigkit.services import der, pki
from sigkit.services.exchange import FOREVER, FRESH, Answer, Request, json_answer, whole_answer
from sigkit.services.gateway import NOT_FOUND, GatewayError, failed, gateway_answer, invalid, read_body, route
from sigkit.services.log.store import TileLog
from sigkit.strict import encode_base64, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from sigkit.clock import Clock

KEY: Final = "ct.key"
CHECKPOINT_KEY: Final = "ct-checkpoint.key"
_STATE: Final = "state"
_POISON: Final = "1.3.6.1.4.1.11129.2.4.3"
_EXTENSIONS_TAG: Final = 0xA3  # [3] EXPLICIT of TBSCertificate
_POISON_CONTENT: Final = der.octets(b"\x05\x00")
_MOST_BODY_BYTES: Final = 96 << 10
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

    def __init__(self, tiles: TileLog, key: ec.EllipticCurvePrivateKey, root: x509.Certificate, clock: Clock) -> None:
        """Keep entries in `tiles`, promise by `key`, and take chains that end at `root`."""
        self.tiles = tiles
        self._key = key
        self._root = root
        self._clock = clock
        self.public_key = pki.spki(key.public_key())
        self.log_id = hashlib.sha256(self.public_key).digest()

    @classmethod
    def create(cls, directory: str, host: str, clock: Clock) -> None:
        """Make the log's keys and its tree in `directory`, which is there.

        Raises:
            FileUnwritable: (UNAVAIL).
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        pki.make_key(os.path.join(directory, KEY), ec.SECP256R1)
        key = pki.make_log_key(os.path.join(directory, CHECKPOINT_KEY))
        TileLog.create(os.path.join(directory, _STATE), f"{host}/ct", key, clock)

    @classmethod
    @contextlib.contextmanager
    def open(cls, directory: str, root: x509.Certificate, clock: Clock) -> Iterator[Self]:
        """Own the log that `create` made until the block ends.

        Raises:
            FileUnreadable, FileUnwritable, DatabaseUnusable, LockTimeout: (UNAVAIL).
            MalformedKey: (SIG).
            LogDamaged: (TLOG).
        """
        key = pki.load_log_key(os.path.join(directory, CHECKPOINT_KEY))
        with TileLog.open(os.path.join(directory, _STATE), key) as tiles:
            yield cls(tiles, pki.load_key(os.path.join(directory, KEY)), root, clock)

    def add_precertificate(self, chain: Sequence[x509.Certificate]) -> Promise:
        """Keep a precertificate with its issuers, and promise to show it.

        Raises:
            MalformedDer, ValueError: the chain does not end at this log's root, or holds no precertificate.
            SigkitError: (UNAVAIL, TLOG) it could not be kept; nothing was promised.
        """
        if not 1 < len(chain) <= _MOST_CERTIFICATES:
            raise ValueError(f"a chain has 2 to {_MOST_CERTIFICATES} certificates, the precertificate first")
        self._check_chain(chain)
        body = without_poison(chain[0].tbs_certificate_bytes)
        issuer_key = hashlib.sha256(pki.spki(chain[1].public_key())).digest()
        entry = b"\x00\x01" + issuer_key + len(body).to_bytes(3, "big") + body
        return self._promise(entry)

    def _promise(self, entry: bytes) -> Promise:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        milliseconds = int(self._clock.now().timestamp() * 1000)
        # As MerkleTreeLeaf: version 1, timestamped_entry. As what is signed: version 1, certificate_timestamp.
        leaf = b"\x00\x00" + milliseconds.to_bytes(8, "big") + entry + b"\x00\x00"
        self.tiles.append_many([leaf])
        signature = self._key.sign(leaf, ec.ECDSA(hashes.SHA256()))
        return Promise(self.log_id, milliseconds, b"\x04\x03" + len(signature).to_bytes(2, "big") + signature)

    def _check_chain(self, chain: Sequence[x509.Certificate]) -> None:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        if chain[-1].issuer != self._root.subject:
            raise ValueError("the chain does not end at the root of this log")
        refused: tuple[type[Exception], ...] = (InvalidSignature, x509.ExtensionNotFound, *refusals())
        # From the root down: each key that checks a signature has been vouched for, and no stranger chooses one that is slow.
        for child, parent in zip(reversed(chain), (self._root, *reversed(chain[1:])), strict=True):
            try:
                child.verify_directly_issued_by(parent)
                authority = parent.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            except refused as err:
                raise ValueError("the certificates of the chain did not issue each other") from err
            if not authority:
                raise ValueError("an issuer of the chain is no authority")

    async def answer(self, request: Request) -> Answer:
        """Answer a request for `/ct/…`; whatever is wrong with it is answered too."""
        path = request.path.removeprefix("/ct/")
        if request.method in {"GET", "HEAD"} and (path == "checkpoint" or path.startswith("tile/")):
            return await self._read(path)
        return await route(
            request,
            {("POST", "/ct/v1/add-pre-chain"): self._add_pre_chain, ("GET", "/ct/v1/get-roots"): self._get_roots},
        )

    async def _add_pre_chain(self, request: Request) -> Answer:
        raw = await read_body(request, _MOST_BODY_BYTES)
        try:
            listed = parse_json(raw, most_bytes=_MOST_BODY_BYTES, place=Place("request")).member("chain").items(_MOST_CERTIFICATES)
            chain = [read_certificate(item.base64()) for item in listed]
            promise = await asyncio.to_thread(self.add_precertificate, chain)
        except (ParseError, LimitError, ValueError) as err:
            raise invalid(str(err)) from err
        except SigkitError as err:
            raise failed(err, "the certificate could not be kept: ") from err
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

    async def _read(self, path: str) -> Answer:
        found = await asyncio.to_thread(self.tiles.find_file, path)
        if found is None:
            return gateway_answer(GatewayError(404, NOT_FOUND, "Not Found"))
        if path == "checkpoint":
            return whole_answer(200, found, (("Content-Type", "text/plain; charset=utf-8"), FRESH))
        return whole_answer(200, found, (("Content-Type", "application/octet-stream"), FOREVER))

    async def _get_roots(self, _: Request) -> Answer:
        return json_answer(200, {"certificates": [encode_base64(pki.der(self._root))]})


def load_public_key(directory: str) -> bytes:
    """Return the key of the log that `create` made in `directory`, as SubjectPublicKeyInfo.

    Raises:
        FileUnreadable: (UNAVAIL).
        MalformedKey: (SIG).
    """
    return pki.spki(pki.load_key(os.path.join(directory, KEY)).public_key())


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
