"""The stack's certificate authority: a token and a key in, a certificate of ten minutes out. Fulcio's API, version 2.

The token says who it is, the proof of possession that the key is theirs; nothing else of a request reaches the certificate, whatever names
a certificate signing request asks for. The certificate log's promise is signed before the certificate is, and stands in it: without it
nothing is issued.

The root's key is made offline and never read here; what signs is the intermediate.

Source: sigstore/fulcio fulcio.proto, docs/certificate-specification.md; RFC 6962 section 3.1.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self

from sigkit import limits
from sigkit.data import Data
from sigkit.errors import (
    BadSignature,
    LimitError,
    MalformedKey,
    MalformedPem,
    NetError,
    Place,
    SigkitError,
    TooLarge,
    UnavailError,
    UnsupportedKey,
)
from sigkit.keys import public
from sigkit.keys.public import of_library, parse_public_key
from sigkit.services import ct, issuers, pki
from sigkit.services.exchange import Answer, Request, json_answer
from sigkit.services.gateway import UNAVAILABLE, GatewayError, failed, invalid, read_body, route
from sigkit.services.tokens import explain
from sigkit.strict import decode_base64, parse_json
from sigkit.verify.extensions import ARC, USERNAME_OID, encode_extension, encode_utf8_string

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from sigkit.clock import Clock
    from sigkit.keys.public import PublicKey
    from sigkit.services.issuers import Issuer, Named
    from sigkit.services.tokens import TokenVerifier
    from sigkit.strict import Cursor, Json

FILES: Final = pki.Files(root="ca-root", key="ca.key", chain="ca-chain.pem")

LIFETIME: Final = timedelta(minutes=10)
_MOST_BODY_BYTES: Final = 96 << 10  # theirs takes 4 MiB, which anybody could have parsed for a second; a token has 16 KiB at most
_THREADS: Final = 16
_SCT_LIST: Final = "1.3.6.1.4.1.11129.2.4.2"
_RSA_SIZES: Final = (2048, 3072, 4096)

_BAD_TOKEN: Final = "There was an error processing the identity token"  # noqa: S105 - a message, not a secret
_BAD_PROOF: Final = "The signature supplied in the request could not be verified"
_BAD_KEY: Final = "The public key supplied in the request could not be parsed"
_WEAK_KEY: Final = "The public key supplied in the request is insecure"
_BAD_REQUEST: Final = "The certificate signing request could not be parsed"


class Wish(Data):
    """A key to be certified, and the signature that proves its possession: over the token's own text, or over the request that holds it."""

    key: PublicKey
    proof: bytes | None  # None: proved already, by the signature of a certificate signing request


class CertificateAuthority:
    """Answers requests."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        chain: Sequence[x509.Certificate],
        tokens: TokenVerifier,
        log: ct.CertificateLog,
        clock: Clock,
    ) -> None:
        """Issue by `key`, whose certificate is the first of `chain`."""
        self.chain = tuple(chain)
        self._issuer = pki.Authority(chain[0], key)
        self._tokens = tokens
        self._log = log
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "sigkit-ca")

    @classmethod
    def create_offline(cls, offline: str, name: str, clock: Clock) -> None:
        """Make the root's key and certificate in `offline`, a directory that the running process never reads.

        Raises:
            FileUnwritable: (UNAVAIL).
        """
        pki.make_root(offline, FILES.root, name, f"{name} root", clock.now())

    @classmethod
    def create(cls, directory: str, offline: str, name: str, clock: Clock) -> None:
        """Make the intermediate's key in `directory`, and have the root in `offline` certify it.

        Raises:
            FileUnwritable, FileUnreadable: (UNAVAIL).
            MalformedKey, MalformedCertificate: (SIG) what is in `offline`.
        """
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (pki.key_usage("key_cert_sign", "crl_sign"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
        ]
        pki.make_issued(directory, offline, FILES, pki.subject_name(name, f"{name} intermediate"), clock.now(), extensions)

    @classmethod
    def open(cls, directory: str, tokens: TokenVerifier, log: ct.CertificateLog, clock: Clock) -> Self:
        """Open what `create` made.

        Raises:
            FileUnreadable: (UNAVAIL).
            MalformedKey, MalformedCertificate: (SIG).
            OtherKeyCertified: (BIND) the key is not that of the certificate.
        """
        return cls(*FILES.load(directory), tokens, log, clock)

    def close(self) -> None:
        """Wait until what is being certified is; nothing more is."""
        self._threads.shutdown()

    def issue(self, key: PublicKey, named: Named) -> x509.Certificate:
        """Certify that the key is theirs, with the promise of the certificate log in it.

        Raises:
            SigkitError: (UNAVAIL, TLOG) the log could not keep it; (LIMIT) it is larger than an entry may be.
            GatewayError: the authority's certificate is not valid by the clock here.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        subject = load_der_public_key(key.spki)
        builder = self._builder(subject, named)  # type: ignore[arg-type]
        signing_hash = pki.signing_hash(self._issuer.key)
        precertificate = builder.add_extension(x509.PrecertPoison(), critical=True).sign(self._issuer.key, signing_hash)
        promise = self._log.add_precertificate([precertificate, *self.chain])
        carried = x509.UnrecognizedExtension(x509.ObjectIdentifier(_SCT_LIST), ct.encode_list([promise]))
        certificate = builder.add_extension(carried, critical=False).sign(self._issuer.key, signing_hash)
        if certificate.tbs_precertificate_bytes != ct.without_poison(precertificate.tbs_certificate_bytes):
            raise AssertionError("the certificate differs from what was logged")
        return certificate

    def _builder(self, subject: CertificatePublicKeyTypes, named: Named) -> x509.CertificateBuilder:
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        now = self._clock.now().replace(microsecond=0)
        issuer = self._issuer.certificate
        pki.check_valid(issuer, now)
        until = min(now + LIFETIME, issuer.not_valid_after_utc)
        builder = x509.CertificateBuilder(issuer_name=issuer.subject, subject_name=x509.Name([]), public_key=subject)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(until)
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (pki.key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.SubjectKeyIdentifier.from_public_key(subject), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
            (x509.SubjectAlternativeName([_alternative_name(named)]), True),
        ]
        for number, text in named.extensions.items():
            oid = x509.ObjectIdentifier(f"{ARC}{number}")
            extensions.append((x509.UnrecognizedExtension(oid, encode_extension(number, text)), False))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder

    async def answer(self, request: Request) -> Answer:
        """Answer a request; whatever is wrong with it is answered too."""
        return await route(
            request,
            {
                ("POST", "/api/v2/signingCert"): self._take_wish,
                ("GET", "/api/v2/trustBundle"): self._send_bundle,
                ("GET", "/api/v2/configuration"): self._send_configuration,
            },
        )

    async def _take_wish(self, request: Request) -> Answer:
        raw = await read_body(request, _MOST_BODY_BYTES)
        try:
            document = parse_json(raw, most_bytes=_MOST_BODY_BYTES, place=Place("request"))
            token = _token(document, request.headers.get("authorization", ""))
        except SigkitError as err:
            raise invalid(str(err)) from err
        await self._tokens.refresh(token)
        # In threads of its own: each waits for the disk, and must not hold up the other services.
        leaf = await asyncio.get_running_loop().run_in_executor(self._threads, self._certify, document, token)
        chain: list[Json] = [pki.pem(certificate).decode("ascii") for certificate in (leaf, *self.chain)]
        return json_answer(200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})

    def _certify(self, document: Cursor, token: str) -> x509.Certificate:
        try:
            named = self._tokens.verify(token)
        except (UnavailError, NetError) as err:  # the issuer's fault, not the token's: to be tried again
            raise GatewayError(503, UNAVAILABLE, f"the keys of the token's issuer cannot be had: {explain(err)}") from err
        except SigkitError as err:
            raise invalid(f"{_BAD_TOKEN}: {explain(err)}") from err
        wish = _read_wish(document)
        _check_strength(wish.key)
        if wish.proof is not None:
            try:
                wish.key.verify(wish.proof, named.subject.proof.encode("utf-8"))
            except BadSignature as err:
                raise invalid(_BAD_PROOF) from err
        try:
            return self.issue(wish.key, named)
        except LimitError as err:  # what the token says is so long
            raise invalid(f"{_BAD_TOKEN}: its claims do not fit into a certificate: {explain(err)}") from err
        except SigkitError as err:
            raise failed(err, "the certificate log could not keep the certificate: ") from err

    async def _send_bundle(self, _: Request) -> Answer:
        chain: list[Json] = [pki.pem(certificate).decode("ascii") for certificate in self.chain]
        return json_answer(200, {"chains": [{"certificates": chain}]})

    async def _send_configuration(self, _: Request) -> Answer:
        return json_answer(200, {"issuers": [_describe(issuer) for issuer in self._tokens.issuers.values()]})


def _token(document: Cursor, authorization: str) -> str:
    """Return the token of the body, or else of the header."""
    credentials = document.find("credentials")
    carried = credentials.find("oidcIdentityToken") if credentials else None
    if carried is not None and carried.text():
        return carried.text()
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise invalid(f"{_BAD_TOKEN}: there is none, neither in the body nor as a bearer token")
    return token.strip()


def _read_wish(document: Cursor) -> Wish:
    request = document.find("certificateSigningRequest")
    if request is not None and request.value != "":
        if document.find("publicKeyRequest") is not None:
            raise invalid(f"{_BAD_REQUEST}: a public key beside it asks for another certificate")
        return Wish(_read_signing_request(request), None)
    try:
        asked = document.member("publicKeyRequest")
        content = asked.member("publicKey").member("content").text()
        proof = asked.member("proofOfPossession").base64()
    except SigkitError as err:
        raise invalid(str(err)) from err
    try:
        return Wish(parse_public_key(content.encode("utf-8"), Place("publicKey")), proof)
    except UnsupportedKey as err:
        raise invalid(f"{_WEAK_KEY}: {explain(err)}") from err
    except (MalformedKey, MalformedPem, TooLarge) as err:
        raise invalid(f"{_BAD_KEY}: {explain(err)}") from err


def _read_signing_request(member: Cursor) -> PublicKey:
    """Return the key of a certificate signing request that it signed itself; whatever names it asks for are not read."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        raw = decode_base64(member.text())
        if len(raw) > limits.KEY_FILE_BYTES:
            raise TooLarge(f"more than {limits.KEY_FILE_BYTES} bytes")
        signing_request = x509.load_pem_x509_csr(raw)
        key, valid = signing_request.public_key(), signing_request.is_signature_valid
    except (SigkitError, ValueError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as err:
        raise invalid(_BAD_REQUEST) from err
    if not valid:
        raise invalid(_BAD_PROOF)
    try:
        return of_library(key, Place("certificateSigningRequest"))
    except UnsupportedKey as err:
        raise invalid(f"{_WEAK_KEY}: {explain(err)}") from err


def _check_strength(key: PublicKey) -> None:
    """Refuse keys that are read elsewhere, but are not certified: RSA of unusual sizes or exponents."""
    if key.kind != public.RSA:
        return
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    found = load_der_public_key(key.spki)
    if not isinstance(found, rsa.RSAPublicKey) or found.key_size not in _RSA_SIZES or found.public_numbers().e != 65537:
        raise invalid(f"{_WEAK_KEY}: RSA of {key.size_bits} bits, or with an exponent that is not 65537")


def _alternative_name(named: Named) -> x509.GeneralName:
    from cryptography import x509

    match named.subject.kind:
        case issuers.EMAIL:
            return x509.RFC822Name(named.subject.name)
        case issuers.URI:
            return x509.UniformResourceIdentifier(named.subject.name)
        case _:
            return x509.OtherName(x509.ObjectIdentifier(USERNAME_OID), encode_utf8_string(named.subject.name.encode("utf-8")))


def _describe(issuer: Issuer) -> Json:
    """Describe an issuer as clients of Fulcio read it."""
    return {"issuerUrl": issuer.url, "audience": issuer.audience, **issuer.kind.describe()}
