"""The simulated sigstore instance over HTTP on loopback: issuer, authority, logs of both generations, timestamp authority.

Each service has a path of its own below one server (`/ca`, `/log1`, `/log2`, `/log3`, `/tsa`, `/oidc`), and a second one of each kind
beside it (`/ca-b` …) that is the same service by another operator's name, so that there is somebody to turn to. Faults are planted as for
every misbehaving server, and `change` alters what the simulator signs.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.simulators import der
from tests.simulators.misbehaving_registry import MisbehavingServer, Reply, Seen
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import new_key
from tests.simulators.sigstore_logs import Json, LogV1, compact

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

AUDIENCE = "sigstore"
SUBJECT = "https://git.example/acme/app/.github/workflows/release.yml@refs/heads/main"
JSON_TYPE = (("Content-Type", "application/json"),)


class WallClock:
    """This machine's time, for sessions that run through the command line."""

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        raise AssertionError(f"the wall clock moves by itself, and not by {seconds} s")


class SimTime:
    """The simulator's time as sigkit's ports: a clock, and a timer whose waits move it."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._began = sim.clock.now
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._sim.clock.now

    def monotonic(self) -> float:
        return (self._sim.clock.now - self._began).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._sim.clock.advance(seconds)


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def answer(document: Any, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(status, (*JSON_TYPE, *headers), json.dumps(document).encode())


def refused(message: str, status: int = 400, code: int = 3) -> Reply:
    """Return an error as gRPC-gateway writes it."""
    return answer({"code": code, "message": message, "details": []}, status)


@dataclass
class Instance:
    """The core of the server. `url` is known once the server listens."""

    sim: Simulator
    issuer_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    url: str = ""
    entries1: dict[str, Json] = field(default_factory=dict)  # by UUID
    entries2: dict[bytes, int] = field(default_factory=dict)  # leaf → index
    entries3: dict[str, Json] = field(default_factory=dict)  # of the other log of the first generation
    codes: dict[str, Json] = field(default_factory=dict)  # authorization codes and device codes
    change: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    device_polls: int = 1  # before the person has entered the code

    def __post_init__(self) -> None:
        self.log3 = LogV1(self.sim.clock, "log3.example")  # in no root but those of tests that need two logs

    def changed(self, step: str, value: Any) -> Any:
        return self.change[step](value) if step in self.change else value

    @property
    def issuer(self) -> str:
        return f"{self.url}/oidc"

    def token(self, **claims: Any) -> str:
        """Return a token of the issuer: of a workload, unless the claims say otherwise. A claim of None is left out."""
        now = int(self.sim.clock.now.timestamp())
        told = {"iss": self.issuer, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "nbf": now, "exp": now + 300} | claims
        told = {name: value for name, value in told.items() if value is not None}
        parts = ".".join(b64url(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT", "kid": "1"}, told))
        r, s = utils.decode_dss_signature(self.issuer_key.sign(parts.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{parts}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def config(self, **more: Any) -> bytes:
        """Return the signing config: one service of each kind, unless `more` says otherwise."""
        document = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [self.service("/ca")],
            "oidcUrls": [self.service("/oidc")],
            "rekorTlogUrls": [self.service("/log2", 2)],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [self.service("/tsa/api/v1/timestamp")],
            "tsaConfig": {"selector": "ANY"},
        }
        return json.dumps({name: value for name, value in (document | more).items() if value is not None}).encode()

    def service(self, path: str, version: int = 1, operator: str = "sim.example", start: str = "2026-01-01T00:00:00Z") -> Json:
        return {"url": self.url + path, "majorApiVersion": version, "validFor": {"start": start}, "operator": operator}

    def __call__(self, seen: Seen) -> Reply:
        first, _, rest = seen.path.removeprefix("/").partition("/")
        handlers = {"ca": self._ca, "log1": self._log1, "log2": self._log2, "log3": self._log3, "tsa": self._tsa, "oidc": self._oidc}
        handler = handlers.get(first.removesuffix("-b"))
        return handler(f"/{rest}", seen) if handler else refused("Not Found", 404, 5)

    # --- authority

    def _ca(self, path: str, seen: Seen) -> Reply:
        if (seen.method, path) != ("POST", "/api/v2/signingCert"):
            return refused("Not Found", 404, 5)
        claims = self._claims(seen.headers.get("authorization", "").removeprefix("Bearer "))
        if claims is None:
            return refused("There was an error processing the identity token")
        raw = base64.b64decode(json.loads(seen.body)["certificateSigningRequest"])
        request = x509.load_pem_x509_csr(raw)
        if not request.is_signature_valid:
            return refused("The signature supplied in the request could not be verified")
        ca = self.sim.ca
        email = claims.get("email")
        ca.names = [x509.RFC822Name(email) if email else x509.UniformResourceIdentifier(str(claims.get("san", claims["sub"])))]
        ca.extensions = {1: claims["iss"].encode(), 8: der.utf8(claims["iss"])}
        self.changed("certificate", ca)
        leaf = ca.issue(self.changed("certified key", _Public(request.public_key())))
        chain = [
            item.public_bytes(serialization.Encoding.PEM).decode() for item in (leaf, ca.intermediate.certificate, ca.anchor.certificate)
        ]
        return answer(self.changed("certificate answer", {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}))

    def _claims(self, token: str) -> Json | None:
        """Return the claims of a token that this issuer signed and that is valid now."""
        head, _, signature = token.rpartition(".")
        try:
            raw = base64.urlsafe_b64decode(signature + "==")
            made = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self.issuer_key.public_key().verify(made, head.encode(), ec.ECDSA(hashes.SHA256()))
            claims: Json = json.loads(base64.urlsafe_b64decode(head.partition(".")[2] + "=="))
        except (ValueError, KeyError, InvalidSignature):
            return None
        verified = "email" not in claims or str(claims.get("email_verified")).lower() == "true"
        return claims if verified and claims["aud"] == AUDIENCE and claims["exp"] > self.sim.clock.now.timestamp() else None

    # --- logs

    def _log1(self, path: str, seen: Seen) -> Reply:
        return self._first(self.sim.log1, self.entries1, path, seen)

    def _log3(self, path: str, seen: Seen) -> Reply:
        return self._first(self.log3, self.entries3, path, seen)

    def _first(self, log: LogV1, entries: dict[str, Json], path: str, seen: Seen) -> Reply:
        """Answer as a log of the first generation."""
        if seen.method == "GET":
            uuid = path.rpartition("/")[2]
            return answer({uuid: entries[uuid]}) if uuid in entries else refused("entry not found", 404)
        body = _body_v1(json.loads(seen.body))
        uuid = hashlib.sha256(b"\x00" + compact(body)).hexdigest()
        if uuid in entries:
            return answer({"code": 409, "message": "an equivalent entry already exists"}, 409, ("Location", f"/api/v1/log/entries/{uuid}"))
        made = log.add(body)
        proof = made["inclusionProof"]
        entries[uuid] = {
            "body": made["canonicalizedBody"],
            "integratedTime": int(made["integratedTime"]),
            "logID": base64.b64decode(made["logId"]["keyId"]).hex(),
            "logIndex": int(made["logIndex"]),
            "verification": {
                "inclusionProof": {
                    "checkpoint": proof["checkpoint"]["envelope"],
                    "hashes": [base64.b64decode(item).hex() for item in proof["hashes"]],
                    "logIndex": int(proof["logIndex"]),
                    "rootHash": base64.b64decode(proof["rootHash"]).hex(),
                    "treeSize": int(proof["treeSize"]),
                },
                "signedEntryTimestamp": made["inclusionPromise"]["signedEntryTimestamp"],
            },
        }
        return answer(self.changed("entry", {uuid: entries[uuid]}), 201)

    def _log2(self, path: str, seen: Seen) -> Reply:
        log = self.sim.log2
        if path == "/api/v2/checkpoint":
            return Reply(200, (), log.note(log.leaves).encode())
        if path.startswith("/api/v2/tile/0/000.p/"):
            width = int(path.rpartition("/")[2])
            return Reply(200, (), self.changed("tile", b"".join(log.leaves[:width])))
        if path != "/api/v2/log/entries":
            return refused("Not Found", 404, 5)
        request = json.loads(seen.body)["hashedRekordRequestV002"]
        record = {"data": {"algorithm": "SHA2_256", "digest": request["digest"]}, "signature": request["signature"]}
        body = {"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": record}}
        leaf = compact(body)
        if leaf in self.entries2:
            return Reply(
                409, (*JSON_TYPE, ("x-log-index", str(self.entries2[leaf]))), b'{"code":6,"message":"an equivalent entry already exists"}'
            )
        made = log.add(body)
        self.entries2[leaf] = int(made["logIndex"])
        return answer(self.changed("entry", {**made, "integratedTime": "0", "inclusionPromise": None}), 201)

    # --- timestamps

    def _tsa(self, path: str, seen: Seen) -> Reply:
        if path != "/api/v1/timestamp":
            return refused("Not Found", 404, 5)
        imprint, nonce = der.read_timestamp_request(seen.body)
        made = self.sim.tsa.stamp_imprint(self.changed("imprint", imprint), self.changed("nonce", nonce))
        return Reply(200, (("Content-Type", "application/timestamp-reply"),), self.changed("timestamp", made))

    # --- issuer

    def _oidc(self, path: str, seen: Seen) -> Reply:
        form = dict(part.split("=", 1) for part in seen.body.decode().split("&") if "=" in part)
        form = {name: unquote_plus(value) for name, value in form.items()}
        if path == "/.well-known/openid-configuration":
            return answer(self.changed("discovery", self._discovery()))
        if path == "/device":
            self.codes["device"] = {"challenge": form["code_challenge"], "polls": self.device_polls}
            page = f"{self.issuer}/activate"
            return answer({"device_code": "device", "user_code": "ABCD-EFGH", "verification_uri": page, "interval": 5, "expires_in": 300})
        if path == "/token":
            return self._give_token(form)
        return refused("Not Found", 404, 5)

    def _discovery(self) -> Json:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def approve(self, asked: dict[str, str]) -> str:
        """Do what the person in the browser does, and return the query that goes back to the listener."""
        code = f"code-{len(self.codes)}"
        self.codes[code] = {"challenge": asked["code_challenge"], "nonce": asked["nonce"], "redirect": asked["redirect_uri"]}
        return f"code={code}&state={asked['state']}"

    def _give_token(self, form: dict[str, str]) -> Reply:
        device = form["grant_type"] != "authorization_code"
        known = self.codes.get(form["device_code"] if device else form["code"])
        challenge = b64url(hashlib.sha256(form["code_verifier"].encode()).digest())
        if known is None or known["challenge"] != challenge or (not device and known["redirect"] != form["redirect_uri"]):
            return answer({"error": "invalid_grant"}, 400)
        if device and known["polls"] > 0:
            known["polls"] -= 1
            return answer({"error": self.changed("pending", "authorization_pending")}, 400)
        nonce = None if device else self.changed("nonce of the login", known["nonce"])
        claims = {"sub": "CgVhbGljZQ", "email": "alice@acme.example", "email_verified": True, "nonce": nonce}
        token = self.token(**self.changed("claims of the login", claims))
        return answer({"id_token": token, "access_token": token, "token_type": "Bearer"})


class SigstoreServer(MisbehavingServer):
    """The instance, running. `server.instance.sim` is the simulator behind it."""

    def __init__(self, sim: Simulator | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.instance = Instance(sim or Simulator())
        super().__init__(self.instance, tls=tls)
        self.instance.url = self.url.replace("127.0.0.1", "localhost") if tls else self.url

    @property
    def sim(self) -> Simulator:
        return self.instance.sim


class _Public:
    """A public key where the simulator expects a pair: it asks for the public half alone."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def public_key(self) -> Any:
        return self._key


def _body_v1(proposed: Json) -> Json:
    """Return what Rekor writes into its tree for a proposed entry."""
    if proposed["kind"] == "hashedrekord":
        return proposed
    content = proposed["spec"]["proposedContent"]
    envelope = json.loads(content["envelope"])
    payload = base64.b64decode(envelope["payload"])
    spec = {
        "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(content["envelope"].encode()).hexdigest()},
        "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
        "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]}],
    }
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}


def wall_simulator() -> Simulator:
    """Return a simulator whose time is this machine's."""
    return Simulator(clock=WallClock())  # type: ignore[arg-type]
