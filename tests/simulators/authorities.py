"""The stack's authorities on a clock that stands, and a client for each of their requests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from sigkit.services.ca import FILES, CertificateAuthority
from sigkit.services.ct import CertificateLog
from sigkit.services.exchange import Answer, Request
from sigkit.services.issuers import Issuer, OwnIssuer
from sigkit.services.oidc import OidcIssuer
from sigkit.services.tokens import TokenVerifier
from sigkit.services.tsa import TimestampAuthority
from tests.simulators.log_server import built

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.clock import Clock
    from sigkit.services.tokens import IssuerKeys

URL = "http://127.0.0.1:8080"
WORKLOAD = "https://ci.example/acme/app"
PERSON = "mia@acme.example"
VERIFIER = "v" * 43


class StandingClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 6, 1, 12, 0, 0, 250_000, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def advance(self, **time: float) -> None:
        self.time += timedelta(**time)


class KeySets:
    """Keys of issuers, in memory."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {}

    def publish(self, url: str, key: dict[str, Any]) -> None:
        self.keys.setdefault(url, {})[key["kid"]] = key

    async def refresh(self, issuer: Issuer, kid: str) -> None:
        """Do nothing: what is published is known."""

    def find(self, issuer: Issuer, kid: str) -> Any:
        return self.keys.get(issuer.url, {}).get(kid)


def find_key(keys: IssuerKeys, issuer: Issuer, kid: str) -> Any:
    """Return an issuer's key as the authority finds it: fetched first, if it has to be."""
    asyncio.run(keys.refresh(issuer, kid))
    return keys.find(issuer, kid)


def make_authorities(root: Path, clock: Clock | None = None) -> None:
    """Make keys and certificates of all of them in a directory."""
    clock = clock or StandingClock()
    for name in ("offline", "ca", "tsa", "ct", "oidc"):
        (root / name).mkdir(parents=True)
    offline = str(root / "offline")
    for authority, where in ((CertificateAuthority, "ca"), (TimestampAuthority, "tsa")):
        authority.create_offline(offline, "acme", clock)
        authority.create(str(root / where), offline, "acme", clock)
    CertificateLog.create(str(root / "ct"), "127.0.0.1", clock)
    OidcIssuer.create(str(root / "oidc"))
    Authorities(root, clock=clock).close()  # its databases are made now


class Authorities:
    """All of them, opened in a directory where they were made."""

    def __init__(self, root: Path, issuers: tuple[Issuer, ...] = (), clock: Clock | None = None, keys: IssuerKeys | None = None) -> None:
        """Open them; without a clock time stands, without keys they are published by hand."""
        self.clock = StandingClock()
        self.root = root
        now = clock or self.clock
        self.oidc = OidcIssuer.open(str(root / "oidc"), URL, now)
        self.keys = KeySets()
        for key in self.oidc.key_set():
            self.keys.publish(URL, dict(key))
        self.tokens = TokenVerifier((Issuer(URL, OwnIssuer()), *issuers), keys or self.keys, now)
        self._open = contextlib.ExitStack()
        self.ct = self._open.enter_context(CertificateLog.open(str(root / "ct"), FILES.load_chain(str(root / "ca"))[-1], now))
        self.ca = CertificateAuthority.open(str(root / "ca"), self.tokens, self.ct, now)
        self._open.callback(self.ca.close)
        self.tsa = TimestampAuthority.open(str(root / "tsa"), now)

    def close(self) -> None:
        self._open.close()

    def certify(self, token: str, **wish: Any) -> Answered:
        """Ask for a certificate with the body's members."""
        return ask(self.ca, "POST", "/api/v2/signingCert", json.dumps(wish).encode(), {"authorization": f"Bearer {token}"})


class Answered(NamedTuple):
    """An answer with a body that is there whole."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def ask(core: Any, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answered:
    """Send one request to a core."""

    async def chunks() -> Any:
        for start in range(0, len(body), 1 << 16):
            yield body[start : start + (1 << 16)]

    path, _, query = target.partition("?")
    from urllib.parse import parse_qsl

    given = {"content-length": str(len(body))} | (headers or {})
    request = Request(method, path, dict(parse_qsl(query, keep_blank_values=True)), given, chunks(), query)
    answer: Answer = asyncio.run(core.answer(request))
    return Answered(answer.status, answer.headers, built(answer.body))


def post_form(core: Any, path: str, fields: Mapping[str, str], headers: dict[str, str] | None = None) -> Answered:
    """Send one form."""
    return ask(core, "POST", path, urlencode(fields).encode(), {"content-type": "application/x-www-form-urlencoded"} | (headers or {}))


def document(answer: Answered) -> Any:
    """Return the JSON of an answer."""
    return json.loads(answer.body)


def headers(answer: Answered) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers}


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def challenge(verifier: str = VERIFIER) -> str:
    return b64url(hashlib.sha256(verifier.encode()).digest())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_request(key: Any, proof: str) -> dict[str, Any]:
    """Return what cosign and sigstore-js send: a key, and a signature over the text that the token names."""
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signature = key.sign(proof.encode(), ec.ECDSA(hashes.SHA256()))
    public = {"algorithm": "ECDSA", "content": pem.decode()}
    return {"publicKeyRequest": {"publicKey": public, "proofOfPossession": b64(signature)}}


def signing_request(key: Any, *names: str) -> dict[str, Any]:
    """Return what sigstore-python sends, with names that it may ask for in vain."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    builder = x509.CertificateSigningRequestBuilder(subject).add_extension(
        x509.BasicConstraints(ca=bool(names), path_length=None), critical=True
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name) for name in names]), critical=False)
    return {"certificateSigningRequest": b64(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))}


def chain(answer: Answered) -> list[x509.Certificate]:
    """Return the certificates of an answer."""
    assert answer.status == 200, answer.body
    found = document(answer)["signedCertificateEmbeddedSct"]["chain"]["certificates"]
    return [x509.load_pem_x509_certificate(item.encode()) for item in found]


class Foreign:
    """An issuer elsewhere, which signs whatever it is told to."""

    def __init__(self, url: str = "https://issuer.example", algorithm: str = "ES256", kid: str = "key-1") -> None:
        self.url = url
        self.kid = kid
        self.algorithm = algorithm
        self.key: Any = new_key() if algorithm == "ES256" else rsa.generate_private_key(65537, 2048)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return its public key, as it is published."""
        kind = jwt.algorithms.ECAlgorithm if self.algorithm == "ES256" else jwt.algorithms.RSAAlgorithm
        found: dict[str, Any] = kind.to_jwk(self.key.public_key(), as_dict=True)
        return found | {"kid": self.kid, "use": "sig"} | changes

    def claims(self, now: datetime, **changes: Any) -> dict[str, Any]:
        issued = int(now.timestamp())
        return {"iss": self.url, "sub": WORKLOAD, "aud": "sigstore", "iat": issued, "exp": issued + 600} | changes

    def token(self, claims: dict[str, Any] | bytes, **header: Any) -> str:
        """Sign claims, or the very bytes of a payload."""
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        return jwt.PyJWS().encode(payload, self.key, algorithm=self.algorithm, headers={"kid": self.kid} | header)


def by_hand(header: dict[str, Any], payload: bytes, sign: Any) -> str:
    """Return a token of any header: `sign` gets what would be signed."""
    signed = f"{b64url(json.dumps(header).encode())}.{b64url(payload)}"
    return f"{signed}.{b64url(sign(signed.encode()))}"
