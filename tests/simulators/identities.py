"""Identities, logs and times made by hand, for tests of what policies make of them."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from sigkit.digest import Digest
from sigkit.errors import Place
from sigkit.evidence.form import Form
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.verify.facts import (
    CertificateLogFact,
    Facts,
    IdentitySigner,
    InclusionFact,
    PromiseFact,
    SignatureFact,
    SignerFact,
    Source,
    TimeFact,
    TimeKind,
)
from tests.simulators.verdicts import IMAGE, NOW, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.trust.root import TrustedRoot

ISSUER = "https://token.actions.example"
SUBJECT = "https://git.example/acme/app/.github/workflows/release.yml@refs/heads/main"


@cache
def chain_pem(*names: str) -> bytes:
    """Make certificates that may issue others, each issued by the next, and give them in PEM in this order."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in names]
    found = []
    for index, name in enumerate(names):
        issuer = min(index + 1, len(names) - 1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[issuer])]))
            .public_key(keys[index].public_key())
            .serial_number(index + 1)
            .not_valid_before(NOW - timedelta(days=10))
            .not_valid_after(NOW + timedelta(days=10))
            .add_extension(x509.BasicConstraints(ca=name != "leaf", path_length=None), critical=True)
        )
        found.append(builder.sign(keys[issuer], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return b"".join(found)


def keyless(
    root: TrustedRoot,
    subject: str = SUBJECT,
    issuer: str = ISSUER,
    *,
    certified_by: Digest | None = None,
    extensions: Mapping[str, str] | None = None,
    logs: tuple[str, ...] = ("log",),
    promises: tuple[str, ...] = (),
    stamps: tuple[str, ...] = (),
    certificate_logs: tuple[str, ...] = ("ct",),
    repository: str | None = REPOSITORY,
    predicate: str | None = PREDICATE_SIGNATURE,
    artifact: Digest = IMAGE,
    annotations: Mapping[str, str] | None = None,
    number: int = 1,
    operator: str = "",
    kind: str = "uri",
) -> Facts:
    """Make the facts of one piece of evidence by an identity: who certifies it, and the logs and authorities that vouch, by name."""

    def source(name: str) -> Source:
        return Source(root.name, root.digest, name)

    when = NOW - timedelta(minutes=5)
    clocks = promises or logs or ("log",)  # verification proves no identity without a time
    integrated = tuple(TimeFact(when, name, source(name), TimeKind.INTEGRATED, operator) for name in clocks)
    return Facts(
        place=Place(f"{REPOSITORY}@{Digest.of(f'{subject}{number}'.encode())}"),
        form=Form.BUNDLE,
        signature=SignatureFact(artifact, predicate, Digest.of(b"payload"), repository, annotations or {}),
        signer=SignerFact(IdentitySigner(issuer, subject, extensions or {}, kind), Source("ca", certified_by or root.digest, "ca")),
        inclusions=tuple(InclusionFact(name, index, source(name), operator) for index, name in enumerate(logs)),
        times=(*(TimeFact(when, name, source(name), TimeKind.TIMESTAMP, operator) for name in stamps), *integrated),
        promises=tuple(PromiseFact(name, index, source(name), operator) for index, name in enumerate(promises)),
        certificate_logs=tuple(CertificateLogFact(name, when, source(name), operator) for name in certificate_logs),
    )
