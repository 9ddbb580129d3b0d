"""An entry in a transparency log for one signature, and the check that it is that.

Logs of both generations are asked. What comes back is proved at once by the code that verifies evidence: by the log's key in the
trusted root, over exactly what was signed. So a log that answers with another entry, with none, or with a proof of nothing is found out
while another can still be asked.

A log that has the entry already (its first answer was lost) says so with 409; then that entry is read, and counts only because it binds the
same bytes.

Source: sigstore/rekor openapi.yaml; sigstore/rekor-tiles CLIENTS.md and rekor_service.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits, strict
from sigkit.digest import Digest
from sigkit.errors import Place, ServiceNotTrusted, UnsupportedEntry
from sigkit.evidence.bundle import V03
from sigkit.evidence.entries import parse_entries
from sigkit.keys.pem import encode_pem
from sigkit.signing.client import Ask, under
from sigkit.signing.rekor_existing import existing_index, existing_uuid, read_existing
from sigkit.tlog.entry_v1 import parse_logged
from sigkit.tlog.entry_v2 import CertificateVerifier, KeyVerifier, encode_hashedrekord, scheme_of
from sigkit.verify.entries import verify_entries
from sigkit.verify.signature import OverBytes

if TYPE_CHECKING:
    from sigkit.signing.client import Client, Patience
    from sigkit.strict import Json
    from sigkit.tlog.entry import LogEntry
    from sigkit.tlog.entry_v2 import Verifier
    from sigkit.trust.root import TransparencyLog, TrustedRoot
    from sigkit.trust.signing_config import Service
    from sigkit.verify.entries import Logged
    from sigkit.verify.facts import InclusionFact, TimeFact

V1: Final = 1
V2: Final = 2
VERSIONS: Final = (V1, V2)
_PATH_V1: Final = "/api/v1/log/entries"
_PATH_V2: Final = "/api/v2/log/entries"
_CONFLICT: Final = 409


def request_entry(client: Client, service: Service, logged: Logged, root: TrustedRoot, until: Patience) -> tuple[LogEntry, Place]:
    """Have a signature logged, and return what the log says is its entry, and whose answer that is.

    Args:
        client: that asks.
        service: the log.
        logged: what was signed, and by what; an envelope's payload if it was one.
        root: the instance's.
        until: after which there is no use in waiting.

    Raises:
        ParseError: the answer is no entry.
        UnsupportedEntry: (TLOG) the log takes no such key.
        ServiceNotTrusted: (ROOT), TlogError: what it says that it has already, as `read_existing`.
        SigkitError: as `Client.ask`.
    """
    if service.version == V2:
        return _log_v2(client, service.url, logged, root, until)
    return _log_v1(client, service.url, logged, until)


def prove_entry(
    entry: LogEntry, logged: Logged, root: TrustedRoot, place: Place
) -> tuple[InclusionFact, TransparencyLog, tuple[TimeFact, ...]]:
    """Prove that an entry is this signature's, and return where it is, in whose log, and when that says it was made, if it does.

    Raises:
        OtherEntry: (BIND), TlogError, ParseError: it is not, or is not proved.
        ServiceNotTrusted: (ROOT) the root does not hold the log.
    """
    found = verify_entries((entry,), logged, root.logs, place, limits.DEFAULT)
    if not found.inclusions:
        why = found.unchecked[0] if found.unchecked else None
        got = f"{why.what}: {why.why}" if why else "a promise alone"
        raise ServiceNotTrusted("the entry is not included in a log that is trusted", place=place, got=got)
    return found.inclusions[0], found.logs[0], found.times


def _log_v2(client: Client, base: str, logged: Logged, root: TrustedRoot, until: Patience) -> tuple[LogEntry, Place]:
    key_details, algorithm = scheme_of(logged.key, Place(base))
    digest = _digest(logged, algorithm, Place(base))
    who, member, raw = _verifier(logged)
    request: Json = {
        "hashedRekordRequestV002": {
            "digest": strict.encode_base64(digest.value),
            "signature": {
                "content": strict.encode_base64(logged.signature),
                "verifier": {"keyDetails": key_details, member: {"rawBytes": strict.encode_base64(raw)}},
            },
        }
    }
    answer = client.ask(Ask("POST", under(base, _PATH_V2), limits.LOG_ANSWER_BYTES, (201, _CONFLICT), strict.encode_json(request)), until)
    if answer.status == _CONFLICT:
        index = existing_index(answer)
        leaf = encode_hashedrekord(digest, logged.signature, who, key_details)
        return read_existing(client, base, index, leaf, root, until), answer.place()
    (entry,) = parse_entries((answer.json(),), V03)
    return entry, answer.place()


def _verifier(logged: Logged) -> tuple[Verifier, str, bytes]:
    """Return by what a signature is checked: as a leaf of the second generation names it, and as a request does, with its bytes."""
    if logged.certificate is None:
        return KeyVerifier(logged.key.spki), "publicKey", logged.key.spki
    return CertificateVerifier(logged.certificate), "x509Certificate", logged.certificate


def _log_v1(client: Client, base: str, logged: Logged, until: Patience) -> tuple[LogEntry, Place]:
    body = strict.encode_json(_proposed(logged, Place(base)))
    entries = under(base, _PATH_V1)
    answer = client.ask(Ask("POST", entries, limits.LOG_ANSWER_BYTES, (201, _CONFLICT), body), until)
    if answer.status == _CONFLICT:
        answer = client.ask(Ask("GET", f"{entries}/{existing_uuid(answer)}", limits.LOG_ANSWER_BYTES), until)
    return parse_logged(answer.json()), answer.place()


def _proposed(logged: Logged, place: Place) -> Json:
    verifier = encode_pem("PUBLIC KEY", logged.key.spki) if logged.certificate is None else encode_pem("CERTIFICATE", logged.certificate)
    if logged.payload is not None:
        from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope

        envelope = strict.encode_json(Envelope(logged.payload, IN_TOTO_TYPE, logged.signature).encode()).decode("utf-8")
        content: dict[str, Json] = {"envelope": envelope, "verifiers": [strict.encode_base64(verifier)]}
        return {"apiVersion": "0.0.1", "kind": "dsse", "spec": {"proposedContent": content}}
    digest = _digest(logged, next(iter(logged.key.digest_algorithms), "sha512"), place)
    spec: Json = {
        "data": {"hash": {"algorithm": digest.algorithm, "value": digest.hex}},
        "signature": {
            "content": strict.encode_base64(logged.signature),
            "publicKey": {"content": strict.encode_base64(verifier)},
        },
    }
    return {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}


def _digest(logged: Logged, algorithm: str, place: Place) -> Digest:
    if isinstance(logged.signed, OverBytes):
        return Digest.of(logged.signed.message, algorithm)
    found = logged.signed.artifact.by(algorithm)
    if found is None:
        raise UnsupportedEntry("the log wants a digest that is not known", place=place, expected=algorithm)
    return found
