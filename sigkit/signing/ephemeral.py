"""A key for one certificate: made in memory, used for minutes, never written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.keys.public import of_library

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from sigkit.keys.public import PublicKey


class EphemeralKey:
    """A P-256 key: what every authority certifies and every verifier reads."""

    __slots__ = ("_key", "public")

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key: ec.EllipticCurvePrivateKey = ec.generate_private_key(ec.SECP256R1())
        self.public: PublicKey = of_library(self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Sign `message` with ECDSA over SHA-256, in ASN.1."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def request(self) -> bytes:
        """Return a certificate signing request in PEM: the key, and the proof that we hold it. It names nobody: the token does.

        Source: RFC 2986; sigstore/fulcio pkg/ca (of a request, key and signature are used).
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
