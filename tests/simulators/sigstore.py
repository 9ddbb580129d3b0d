"""A sigstore instance in memory: an authority with a certificate log, two transparency logs, a timestamp authority, one clock.

Evidence of every form is made as the real services and cosign make it. Everything has a handle to be changed at one point and signed
again: `sim.clock.advance(60)`, `sim.ca.usages`, `sim.tsa.window`, `sim.log1.change["body"] = …`. None of sigkit's own code helps, so that
a mistake in it is not made here too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.simulators.sigstore_authorities import Authority, CertificateLog, Tsa, new_key
from tests.simulators.sigstore_logs import Clock, Json, LogV1, LogV2, b64, compact, spki

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sigkit.verify.facts import Facts

IMAGE = hashlib.sha256(b"the image's manifest").hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()
FILE = b"the file"
REPOSITORY = "registry.example/acme/app"
IN_TOTO = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Case:
    """One verification, as plain bytes and text: what is handed to sigkit, and by whom nothing of it was parsed."""

    form: str
    parts: dict[str, bytes]
    digests: tuple[str, ...]
    content: bytes | None
    root: bytes
    now: datetime
    keys: tuple[bytes, ...] = ()
    key_window: tuple[datetime | None, datetime | None] | None = None

    def judge(self) -> Facts:
        """Verify with whatever `sigkit` is imported at this moment."""
        from sigkit import limits
        from sigkit.digest import Digest, parse_digest
        from sigkit.errors import Place
        from sigkit.evidence.form import Evidence, Form, Found
        from sigkit.keys.public import parse_public_key
        from sigkit.trust.root import TrustedKey, Window, root_of_keys, with_keys
        from sigkit.trust.trusted_root import parse_trusted_root
        from sigkit.verify.bind import Artifact
        from sigkit.verify.verify import verify

        place = Place("simulator")
        valid = Window(*self.key_window) if self.key_window else None
        keys = root_of_keys([TrustedKey(f"key-{n}", parse_public_key(pem, place), valid) for n, pem in enumerate(self.keys)], "keys")
        root = with_keys(parse_trusted_root(self.root, "sim", place, limits.DEFAULT), keys)
        artifact = Artifact(tuple(parse_digest(text, place) for text in self.digests), self.content)
        evidence = Evidence(Form(self.form), self.parts, Found(REPOSITORY, Digest.of(b"the referrer"), "referrers"))
        return verify(evidence, artifact, root, self.now, limits.DEFAULT)

    def with_bundle(self, change: Callable[[Json], object]) -> Case:
        """Return the case with its bundle, or its older form's promise, changed in place."""
        name = "bundle" if self.form == "bundle" else "dev.sigstore.cosign/bundle"
        document = json.loads(self.parts[name])
        change(document)
        return replace(self, parts={**self.parts, name: json.dumps(document).encode()})


@dataclass
class Simulator:
    """One instance, and somebody who signs with it. `change` alters what it signs, by the name of a step."""

    clock: Clock = field(default_factory=Clock)
    change: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    key: Any = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.ct = CertificateLog(self.clock)
        self.ca = Authority(self.clock, self.ct)
        self.log1 = LogV1(self.clock)
        self.log2 = LogV2(self.clock)
        self.tsa = Tsa(self.clock)
        self.key_window: tuple[datetime | None, datetime | None] | None = None

    def changed(self, step: str, value: Any) -> Any:
        return self.change[step](value) if step in self.change else value

    def root(self) -> bytes:
        """Write the trusted root."""
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.log1.trusted(), self.log2.trusted()],
            "certificateAuthorities": [self.ca.trusted()],
            "ctlogs": [self.ct.trusted()],
            "timestampAuthorities": [self.tsa.trusted()],
        }
        return json.dumps(self.changed("root", document)).encode()

    def statement(self) -> Json:
        subject = {"name": REPOSITORY, "digest": {"sha256": IMAGE}, "annotations": {"sigkit.dev/repository": REPOSITORY}}
        document = {"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": "https://spdx.dev/Document"}
        return dict(self.changed("statement", {**document, "predicate": {}}))

    def make(self, form: str = "dsse", logs: Sequence[str] = ("dsse",), by: str = "identity", version: str = "0.3") -> Case:
        """Sign, and return the case that verifies it an hour later.

        `form` is `dsse`, `message`, `simple`, `att` or `blob`; `logs` the kinds of entries; `by` `identity` or `key`.
        """
        payload = compact(self.simple() if form == "simple" else self.statement())
        message = {"message": FILE, "blob": FILE, "simple": payload}.get(form, pae(payload))
        certificate = self.ca.issue(self.key) if by == "identity" else None
        self.clock.advance(5)
        signature = self.changed("signature", self.sign(self.changed("message", message)))
        verifier = certificate.public_bytes(serialization.Encoding.PEM) if certificate else self.public_pem()
        signed = Signed(message, payload, signature, self.changed("verifier", verifier))
        entries = [self.log2.add(signed.body_v2()) if kind == "v2" else self.log1.add(signed.body(kind)) for kind in logs]
        stamps = [self.tsa.stamp(self.changed("stamped", signature))]
        of_file = form in {"message", "blob"}
        case = Case(
            form="bundle",
            parts={},
            digests=(f"sha256:{hashlib.sha256(FILE).hexdigest() if of_file else IMAGE}",),
            content=FILE if of_file else None,
            root=self.root(),
            now=self.clock.now + timedelta(hours=1),
            keys=() if certificate else (self.public_pem(),),
            key_window=self.key_window,
        )
        if form in {"dsse", "message"}:
            bundle = self.bundle(form, version, signed, certificate, entries, stamps)
            return replace(case, parts={"bundle": json.dumps(bundle).encode()})
        return replace(case, form=OLDER_FORMS[form], parts=self.older(form, signed, certificate, entries, stamps))

    def simple(self) -> Json:
        critical = {
            "identity": {"docker-reference": REPOSITORY},
            "image": {"docker-manifest-digest": f"sha256:{IMAGE}"},
            "type": "cosign container image signature",
        }
        return dict(self.changed("simple", {"critical": critical, "optional": None}))

    def sign(self, message: bytes) -> bytes:
        if not isinstance(self.key, ec.EllipticCurvePrivateKey):
            return bytes(self.key.sign(message))
        hash_: hashes.HashAlgorithm = hashes.SHA384() if self.key.curve.name == "secp384r1" else hashes.SHA256()
        return self.key.sign(message, ec.ECDSA(hash_))

    def public_pem(self) -> bytes:
        public: bytes = self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return public

    def bundle(
        self, form: str, version: str, signed: Signed, certificate: x509.Certificate | None, entries: list[Json], stamps: list[bytes]
    ) -> Json:
        der_of = certificate.public_bytes(serialization.Encoding.DER) if certificate else b""
        material: Json = {"publicKey": {"hint": b64(hashlib.sha256(spki(self.key)).digest())}}
        if certificate:
            raw = {"rawBytes": b64(der_of)}
            material = {"certificate": raw} if version == "0.3" else {"x509CertificateChain": {"certificates": [raw]}}
        material |= {
            "tlogEntries": entries,
            "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": b64(stamp)} for stamp in stamps]},
        }
        content: Json = {"dsseEnvelope": signed.envelope()}
        if form == "message":
            digest = {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(FILE).digest())}
            content = {"messageSignature": {"messageDigest": digest, "signature": b64(signed.signature)}}
        return dict(self.changed("bundle", {"mediaType": MEDIA_TYPES[version], "verificationMaterial": material, **content}))

    def older(
        self, form: str, signed: Signed, certificate: x509.Certificate | None, entries: list[Json], stamps: list[bytes]
    ) -> dict[str, bytes]:
        """Write cosign's annotations, as parts."""
        parts = {"dev.cosignproject.cosign/signature": b64(signed.signature).encode()}
        if form == "att":
            parts = {"layer": json.dumps(signed.envelope()).encode()}
        elif form == "simple":
            parts["layer"] = signed.payload
        if certificate:
            parts["dev.sigstore.cosign/certificate"] = certificate.public_bytes(serialization.Encoding.PEM)
            parts["dev.sigstore.cosign/chain"] = self.ca.intermediate.certificate.public_bytes(serialization.Encoding.PEM)
        for entry in entries:
            said = {
                "body": entry["canonicalizedBody"],
                "integratedTime": int(entry["integratedTime"]),
                "logIndex": int(entry["logIndex"]),
                "logID": self.log1.log_id.hex(),
            }
            document = {"SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"], "Payload": said}
            parts["dev.sigstore.cosign/bundle"] = json.dumps(document).encode()
        for stamp in stamps:
            parts["dev.sigstore.cosign/rfc3161timestamp"] = json.dumps({"SignedRFC3161Timestamp": b64(stamp)}).encode()
        return dict(self.changed("parts", parts))


@dataclass(frozen=True)
class Signed:
    """What was signed, and by whom: what log entries are made of."""

    message: bytes
    payload: bytes
    signature: bytes
    verifier: bytes  # PEM

    def envelope(self) -> Json:
        return {"payload": b64(self.payload), "payloadType": IN_TOTO, "signatures": [{"sig": b64(self.signature)}]}

    def body(self, kind: str) -> Json:
        """Return the body of an entry of the first generation."""
        hash_of = {"algorithm": "sha256", "value": hashlib.sha256(self.message).hexdigest()}
        envelope_hash = {"algorithm": "sha256", "value": hashlib.sha256(json.dumps(self.envelope()).encode()).hexdigest()}  # as submitted
        payload_hash = {"algorithm": "sha256", "value": hashlib.sha256(self.payload).hexdigest()}
        signature: Json = {"content": b64(self.signature), "publicKey": {"content": b64(self.verifier)}}
        twice = b64(b64(self.signature).encode())
        envelope = {"payloadType": IN_TOTO, "signatures": [{"sig": twice, "publicKey": b64(self.verifier)}]}
        by = {"signature": b64(self.signature), "verifier": b64(self.verifier)}
        version, spec = {
            "hashedrekord": ("0.0.1", {"data": {"hash": hash_of}, "signature": signature}),
            "rekord": ("0.0.1", {"data": {"hash": hash_of}, "signature": {**signature, "format": "x509"}}),
            "dsse": ("0.0.1", {"envelopeHash": envelope_hash, "payloadHash": payload_hash, "signatures": [by]}),
            "intoto": ("0.0.2", {"content": {"envelope": envelope, "hash": envelope_hash, "payloadHash": payload_hash}}),
        }[kind]
        return {"apiVersion": version, "kind": kind, "spec": spec}

    def body_v2(self) -> Json:
        """Return the leaf of the second generation, for a P-256 key."""
        block = self.verifier
        if block.startswith(b"-----BEGIN CERTIFICATE"):
            raw = x509.load_pem_x509_certificate(block).public_bytes(serialization.Encoding.DER)
            who: Json = {"x509Certificate": {"rawBytes": b64(raw)}}
        else:
            key = serialization.load_pem_public_key(block)
            form = serialization.PublicFormat.SubjectPublicKeyInfo
            who = {"publicKey": {"rawBytes": b64(key.public_bytes(serialization.Encoding.DER, form))}}
        record = {
            "data": {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(self.message).digest())},
            "signature": {"content": b64(self.signature), "verifier": {"keyDetails": "PKIX_ECDSA_P256_SHA_256", **who}},
        }
        return {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": record}}


MEDIA_TYPES = {
    "0.1": "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "0.2": "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "0.3": "application/vnd.dev.sigstore.bundle.v0.3+json",
}
OLDER_FORMS = {"simple": "simple-signing", "att": "envelope", "blob": "blob-signature"}


def pae(payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)
