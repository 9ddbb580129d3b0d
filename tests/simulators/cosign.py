"""The real cosign 3 in a directory of a test's own: keys that it opens fast, and the flags that keep it off the network."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sigkit.errors import NOWHERE
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import GENERATED_KINDS, generate, parse_private_key
from tests.simulators.evidence_maker import b64

if TYPE_CHECKING:
    from sigkit.keys.private import PrivateKey
    from tests.simulators.peer_root import PeerRoot

KINDS: Final = (*GENERATED_KINDS, "rsa")
PASSWORD: Final = "pw"
PLAIN_HTTP: Final = "--allow-http-registry"
# Neither a log nor a timestamp authority, and so no network.
NO_SERVICES: Final = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json", "rekorTlogConfig": {}, "tsaConfig": {}}
OLDER_FORM: Final = ("--use-signing-config=false", "--new-bundle-format=false", "--tlog-upload=false")
READ_OLDER: Final = "--new-bundle-format=false"
# cosign signs with the curve's hash and verifies with SHA-256 unless it is told.
_HASH_FLAGS: Final = {"ecdsa-p384": ("--signature-digest-algorithm", "sha384"), "ecdsa-p521": ("--signature-digest-algorithm", "sha512")}
_CHEAPEST_N: Final = 32_768  # what cosign accepts; it derives the key anew for each image, 0.2 s with its own 65,536


def make_key(kind: str) -> PrivateKey:
    """Return a new key of one of `KINDS`."""
    if kind != "rsa":
        return generate(kind)
    key = rsa.generate_private_key(65537, 2048)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return parse_private_key(der, NOWHERE)


class Cosign:
    """cosign with a key, run in `home`.

    There lie `services.json`, `NAME.key` as cosign opens it, `NAME.pub`, and `NAME.plain`, the private key without a password.
    """

    def __init__(self, peer: PeerRoot, home: Path, key: PrivateKey, name: str = "release") -> None:
        self.home = home
        self.key = key
        self.name = name
        self._peer = peer
        (home / "services.json").write_text(json.dumps(NO_SERVICES))
        (home / f"{name}.key").write_bytes(_seal(key.pkcs8()))
        (home / f"{name}.pub").write_bytes(key.public.encode_pem())
        (home / f"{name}.plain").write_bytes(encode_pem("PRIVATE KEY", key.pkcs8()))

    def makes(self, command: str, *args: object, **env: str) -> CompletedProcess[str]:
        """Sign or attest, as a bundle without services unless `args` say otherwise; it must succeed."""
        form = () if OLDER_FORM[0] in args else ("--signing-config", "services.json")
        done = self(command, "--key", f"{self.name}.key", "-y", *form, *args, **env)
        assert done.returncode == 0, done.stderr
        return done

    def asked(self, command: str, *args: object) -> CompletedProcess[str]:
        """Verify by the public key; what comes of it is the caller's to judge."""
        fixed = ("--key", f"{self.name}.pub", "--insecure-ignore-tlog", *_HASH_FLAGS.get(self.key.public.kind, ()))
        return self(command, *fixed, *args)

    def __call__(self, command: str, *args: object, **env: str) -> CompletedProcess[str]:
        """Run any command."""
        return self._peer("cosign", command, *map(str, args), cwd=self.home, env={"COSIGN_PASSWORD": PASSWORD, **env})


def _seal(pkcs8: bytes) -> bytes:
    from nacl.secret import SecretBox

    salt, nonce = os.urandom(32), os.urandom(24)
    derived = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=_CHEAPEST_N, r=8, p=1, dklen=32, maxmem=2**26)
    document = {
        "kdf": {"name": "scrypt", "params": {"N": _CHEAPEST_N, "r": 8, "p": 1}, "salt": b64(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": b64(nonce)},
        "ciphertext": b64(SecretBox(derived).encrypt(pkcs8, nonce).ciphertext),
    }
    return encode_pem("ENCRYPTED SIGSTORE PRIVATE KEY", json.dumps(document).encode())
