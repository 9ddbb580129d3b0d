"""The real services on loopback: Fulcio, its certificate log (TesseraCT), Rekor of the second generation, the timestamp authority.

Their keys, their configuration and the trusted root are made here, without sigkit's code; the issuer is a server of the test's own. The
programs are those that `.ci/go-peers` builds.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.simulators import go_peers
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("fulcio", "rekor-posix", "timestamp-server", "tesseract-posix")
LOOPBACK = "127.0.0.1"
TRUST_DOMAIN = "acme.example"
READY_S = 60.0
DAY = timedelta(days=1)


def missing() -> list[str]:
    """Return the programs that are not built here."""
    return [name for name in PROGRAMS if go_peers.find(name) is None]


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class IssuerCore:
    """An OpenID issuer: discovery, its key, and tokens made by the test."""

    def __init__(self) -> None:
        self.url = ""
        self._key = ec.generate_private_key(ec.SECP256R1())

    def __call__(self, seen: Seen) -> Reply:
        point = self._key.public_key().public_numbers()
        key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1"}
        key |= {"x": b64url(point.x.to_bytes(32, "big")), "y": b64url(point.y.to_bytes(32, "big"))}
        documents = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/auth",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            },
            "/keys": {"keys": [key]},
        }
        found = documents.get(seen.path)
        return Reply(200, (("Content-Type", "application/json"),), json.dumps(found).encode()) if found else Reply(404)

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        told = {"iss": self.url, "aud": "sigstore", "iat": now, "nbf": now, "exp": now + 600} | claims
        parts = ".".join(b64url(json.dumps(part).encode()) for part in ({"alg": "ES256", "kid": "1"}, told))
        r, s = utils.decode_dss_signature(self._key.sign(parts.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{parts}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@dataclass
class RealSigstore:
    """The services, running. `home` holds trusted_root.json and signing_config.json."""

    home: Path
    people: IssuerCore
    workloads: IssuerCore


@contextlib.contextmanager
def running(home: Path) -> Iterator[RealSigstore]:
    """Run all of them until the block ends."""
    with contextlib.ExitStack() as stack:
        people, workloads = IssuerCore(), IssuerCore()
        for core in (people, workloads):
            core.url = stack.enter_context(MisbehavingServer(core)).url
        ports = {
            name: _free_port() for name in ("fulcio", "fulcio-grpc", "fulcio-metrics", "rekor", "rekor-grpc", "rekor-metrics", "tsa", "ct")
        }
        made = _Made(home)
        made.write(ports)
        (home / "fulcio.yaml").write_text(_issuers(people, workloads))
        for command, path in _commands(home, ports):
            port = int(path.partition("/")[0])
            stack.enter_context(_program(command, home, port, path.partition("/")[2]))
        yield RealSigstore(home, people, workloads)


def _issuers(people: IssuerCore, workloads: IssuerCore) -> str:
    """Return Fulcio's configuration; in JSON it would have other names."""
    lines = ["oidc-issuers:"]
    for core, more in ((people, ["type: email"]), (workloads, ["type: spiffe", f"spiffe-trust-domain: {TRUST_DOMAIN}"])):
        lines.append(f'  "{core.url}":')
        lines += [f"    {line}" for line in (f'issuer-url: "{core.url}"', "client-id: sigstore", *more)]
    return "\n".join(lines) + "\n"


def _commands(home: Path, ports: dict[str, int]) -> list[tuple[list[str], str]]:
    """Return each program's command line, and `PORT/PATH` that answers 200 when it is ready. Paths here hold no spaces."""
    at = {name.replace("-", "_"): port for name, port in ports.items()} | {"host": LOOPBACK, "home": home}
    return [
        ([str(go_peers.find(name)), *line.format(**at).split()], ready.format(**at))
        for name, line, ready in (
            (
                "tesseract-posix",
                (
                    "-private_key ct.key -origin {host} -storage_dir {home}/ct -roots_pem_file root.pem -ext_key_usages CodeSigning "
                    "-http_endpoint {host}:{ct} -checkpoint_interval 1s"
                ),
                "{ct}/ct/v1/get-roots",
            ),
            (
                "fulcio",
                (
                    "serve --host {host} --port {fulcio} --grpc-host {host} --grpc-port {fulcio_grpc} --metrics-port {fulcio_metrics} "
                    "--config-path fulcio.yaml --ca fileca --fileca-cert chain.pem --fileca-key fulcio.key --fileca-key-passwd pw "
                    "--fileca-watch=false --legacy-unix-domain-socket @fulcio-{fulcio} --ct-log-url http://{host}:{ct} "
                    "--ct-log-public-key-path ct.pub"
                ),
                "{fulcio}/healthz",
            ),
            (
                "rekor-posix",
                (
                    "serve --http-port {rekor} --grpc-port {rekor_grpc} --http-metrics-port {rekor_metrics} --hostname {host} "
                    "--storage-dir {home}/rekor --signer-filepath rekor.pem --checkpoint-interval 1s"
                ),
                "{rekor}/healthz",
            ),
            (
                "timestamp-server",  # listens on *:2112 too, and no option changes that: one at a time
                (
                    "serve --host {host} --port {tsa} --timestamp-signer file --certificate-chain-path tsa-chain.pem "
                    "--file-signer-key-path tsa.key --file-signer-passwd pw --disable-ntp-monitoring"
                ),
                "{tsa}/ping",
            ),
        )
    ]


class _Made:
    """Keys and certificates, and the files that name them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        now = datetime.now(UTC)
        self._valid = (now - DAY, now + 365 * DAY)
        self._start = f"{now - DAY:%Y-%m-%dT%H:%M:%SZ}"

    def write(self, ports: dict[str, int]) -> None:
        root_key, ca_key, tsa_root_key, tsa_key, ct_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(5))
        rekor_key = ed25519.Ed25519PrivateKey.generate()
        root = self._certify("root", root_key, None, None, 1)
        ca = self._certify("intermediate", ca_key, root, root_key, 0, ExtendedKeyUsageOID.CODE_SIGNING)
        tsa_root = self._certify("tsa root", tsa_root_key, None, None, 1)
        tsa = self._certify("tsa", tsa_key, tsa_root, tsa_root_key, None, ExtendedKeyUsageOID.TIME_STAMPING)
        locked = serialization.BestAvailableEncryption(b"pw")
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        files = {
            "chain.pem": b"".join(item.public_bytes(pem) for item in (ca, root)),
            "root.pem": root.public_bytes(pem),
            "tsa-chain.pem": b"".join(item.public_bytes(pem) for item in (tsa, tsa_root)),
            "fulcio.key": ca_key.private_bytes(pem, pkcs8, locked),
            "tsa.key": tsa_key.private_bytes(pem, pkcs8, locked),
            "rekor.pem": rekor_key.private_bytes(pem, pkcs8, plain),
            "ct.key": ct_key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain),
            "ct.pub": ct_key.public_key().public_bytes(pem, spki),
        }
        for name, content in files.items():
            (self._home / name).write_bytes(content)
        ct_spki = ct_key.public_key().public_bytes(serialization.Encoding.DER, spki)
        rekor_spki = rekor_key.public_key().public_bytes(serialization.Encoding.DER, spki)
        log_id = hashlib.sha256(LOOPBACK.encode() + b"\n\x01" + rekor_key.public_key().public_bytes_raw()).digest()
        root_document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log(ports["rekor"], rekor_spki, "PKIX_ED25519", log_id)],
            "ctlogs": [self._log(ports["ct"], ct_spki, "PKIX_ECDSA_P256_SHA_256", hashlib.sha256(ct_spki).digest())],
            "certificateAuthorities": [self._authority(ports["fulcio"], ca, root)],
            "timestampAuthorities": [self._authority(ports["tsa"], tsa, tsa_root)],
        }
        (self._home / "trusted_root.json").write_text(json.dumps(root_document))
        (self._home / "signing_config.json").write_text(json.dumps(self._config(ports)))

    def _config(self, ports: dict[str, int]) -> dict[str, Any]:
        def service(name: str, version: int, path: str = "") -> list[dict[str, Any]]:
            url = f"http://{LOOPBACK}:{ports[name]}{path}"
            return [{"url": url, "majorApiVersion": version, "validFor": {"start": self._start}, "operator": "real"}]

        return {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service("fulcio", 1),
            "rekorTlogUrls": service("rekor", 2),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": service("tsa", 1, "/api/v1/timestamp"),
            "tsaConfig": {"selector": "ANY"},
        }

    def _log(self, port: int, spki: bytes, details: str, log_id: bytes) -> dict[str, Any]:
        key = {"rawBytes": b64(spki), "keyDetails": details, "validFor": {"start": self._start}}
        url = f"http://{LOOPBACK}:{port}"
        return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": key, "logId": {"keyId": b64(log_id)}, "operator": "real"}

    def _authority(self, port: int, *chain: x509.Certificate) -> dict[str, Any]:
        certificates = [{"rawBytes": b64(item.public_bytes(serialization.Encoding.DER))} for item in chain]
        subject = {"organization": "acme", "commonName": "real"}
        url = f"http://{LOOPBACK}:{port}"
        return {"subject": subject, "uri": url, "certChain": {"certificates": certificates}, "validFor": {"start": self._start}}

    def _certify(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
        issuer_key: ec.EllipticCurvePrivateKey | None,
        path_length: int | None,
        usage: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "acme"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer_key or key
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(self._valid[0]).not_valid_after(self._valid[1])
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        is_ca = path_length is not None
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
        usages = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"], False
        )
        key_usage = x509.KeyUsage(digital_signature=not is_ca, key_cert_sign=is_ca, crl_sign=is_ca, **usages)
        builder = builder.add_extension(key_usage, critical=True)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=not is_ca)
        return builder.sign(signer, hashes.SHA256())


@contextlib.contextmanager
def _program(command: list[str], home: Path, port: int, path: str) -> Iterator[None]:
    log = home / f"{Path(command[0]).name}.log"
    with log.open("wb") as output, subprocess.Popen(command, cwd=home, stdout=output, stderr=output, stdin=subprocess.DEVNULL) as process:
        try:
            _wait(process, port, path, log)
            yield
        finally:
            process.kill()


def _wait(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        try:
            connection.request("GET", f"/{path}")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise AssertionError(f"{log.name} is not ready: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
