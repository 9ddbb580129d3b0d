"""What a piece of evidence says of itself, member by member, without judging it.

Read for a person whose verification failed, so it goes as far as the evidence can be read: each member on its own, and where one cannot be
read, the reason stands in its place. The strict parsers of verification are asked once, at the top: what they refuse is said first.

Values are raw outside text; whoever prints them escapes them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.cli import claims_words as words
from sigkit.data import Data
from sigkit.errors import Place, SigkitError, UnsupportedEvidence
from sigkit.evidence.form import (
    BUNDLE_PART,
    CERTIFICATE_PART,
    CHAIN_PART,
    LAYER_PART,
    REKOR_BUNDLE_PART,
    SIGNATURE_PART,
    TIMESTAMP_PART,
    Form,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits
    from sigkit.strict import Cursor, Json

_SUMMARY: Final = {
    "who": {("certificate", "identity"), ("bundle", "signed by"), ("signature", "signed by")},
    "says who": {("certificate", "issuer"), ("certificate", "issuer (old)")},
    "when": {("log entry", "integrated"), ("timestamp", "time")},
    "which log": {("log entry", "checkpoint"), ("log entry", "log")},
    "about": {("bundle", "file digest"), ("subject", "digest"), ("signed", "digest")},
    "what": {("bundle", "content"), ("statement", "predicate type"), ("signed", "type")},
}
_PROMISE: Final = "a signed entry timestamp"


class Section:
    """One part of the evidence: labels with what it says there, and the refusals of members that cannot be read."""

    def __init__(self, kind: str, number: str = "") -> None:
        self.kind = kind
        self.title = f"{kind} {number}".rstrip()
        self.rows: list[tuple[str, Json]] = []
        self.stops: list[SigkitError] = []

    def say(self, label: str, read: Callable[[], Json]) -> None:
        """Add what `read` returns, unless it is None; a refusal is kept beside the rows."""
        try:
            value = read()
        except SigkitError as err:
            self.stops.append(err)
            return
        if value is not None:
            self.rows.append((label, value))


class Claims(Data):
    """What the strict parser refuses, if it does, and the parts of the evidence."""

    refused: SigkitError | None
    sections: tuple[Section, ...]

    def summary(self) -> list[tuple[str, str]]:
        """Return who, when, which log and about what, in the evidence's own words: what a person looks for first."""
        found: list[tuple[str, str]] = []
        for word, labels in _SUMMARY.items():
            values = [value for section in self.sections for label, value in section.rows if (section.kind, label) in labels]
            told = dict.fromkeys(str(item) for value in values for item in (value if isinstance(value, list) else [value]))
            told.pop("none", None)
            found.append((word, ", ".join(list(told)[: words.SHOWN_MEMBERS]) or "not said"))
        return found


def claims_of(evidence: Evidence, limits: Limits) -> Claims:
    """Return what `evidence` says. Nothing of it is proved, and nothing is raised for what is malformed."""
    reader = _Reader(limits, evidence.place)
    refused = None
    try:
        _parse_strictly(evidence, limits)
    except SigkitError as err:
        refused = err
    match evidence.form:
        case Form.BUNDLE:
            reader.bundle(evidence.parts.get(BUNDLE_PART, b""))
        case Form.SIMPLE_SIGNING:
            reader.older(evidence)
            reader.simple_signing(evidence.parts.get(LAYER_PART, b""))
        case Form.ENVELOPE:
            reader.older(evidence)
            reader.envelope_document(evidence.parts.get(LAYER_PART, b""))
        case Form.BLOB_SIGNATURE:
            reader.older(evidence)
    return Claims(refused, tuple(section for section in reader.sections if section.rows or section.stops))


def _parse_strictly(evidence: Evidence, limits: Limits) -> None:
    from sigkit.evidence.bundle import parse_bundle
    from sigkit.evidence.envelope import Envelope, parse_envelope_document
    from sigkit.evidence.simple_signing import parse_simple_signing
    from sigkit.evidence.statement import parse_statement

    if evidence.form is Form.BLOB_SIGNATURE:
        return
    raw = evidence.parts.get(BUNDLE_PART if evidence.form is Form.BUNDLE else LAYER_PART)
    if raw is None:
        raise UnsupportedEvidence("a part is missing", place=evidence.place)
    if evidence.form is Form.SIMPLE_SIGNING:
        parse_simple_signing(raw, limits, evidence.place)
        return
    content = (
        parse_bundle(raw, limits, evidence.place).content
        if evidence.form is Form.BUNDLE
        else parse_envelope_document(raw, limits, evidence.place)
    )
    if isinstance(content, Envelope):
        parse_statement(content.payload, limits, Place("", "payload").within(evidence.place))


class _Reader:
    """Walks one piece of evidence and gathers its sections."""

    def __init__(self, limits: Limits, place: Place) -> None:
        self.sections: list[Section] = []
        self._limits = limits
        self._place = place

    def bundle(self, raw: bytes) -> None:
        section = self._section("bundle")
        top = self._document(section, raw, self._place)
        if top is None:
            return
        section.say("version", lambda: top.member("mediaType").text())
        if message := self._find(section, top, "messageSignature"):
            section.say("content", lambda: "the signature of a file")
            section.say("file digest", lambda: words.message_digest(message))
            section.say("signature", lambda: words.size(message.member("signature")))
        material = self._find(section, top, "verificationMaterial")
        if material:
            self._material(section, material)
        envelope = self._find(section, top, "dsseEnvelope")
        if envelope:
            self.envelope(envelope)
        if material:
            self._evidence_beside(section, material)

    def _material(self, section: Section, material: Cursor) -> None:
        if key := self._find(section, material, "publicKey"):
            section.say("signed by", lambda: words.hint(key))
        for name in ("certificate", "x509CertificateChain"):
            if not (found := self._find(section, material, name)):
                continue
            items = (found,) if name == "certificate" else self._items(section, found, "certificates")
            for number, item in enumerate(items[: words.SHOWN_MEMBERS]):
                self.certificate(number, partial(words.bytes_of, item, "rawBytes"))

    def certificate(self, number: int, read: Callable[[], bytes]) -> None:
        """Read the signer's certificate, number 0, or an intermediate."""
        from sigkit.cli.claims_certificate import describe_certificate

        section = self._section("intermediate", str(number)) if number else self._section("certificate")
        try:
            der = read()
        except SigkitError as err:
            section.stops.append(err)
            return
        describe_certificate(section, der, self._place)

    def envelope_document(self, raw: bytes) -> None:
        section = self._section("envelope")
        top = self._document(section, raw, self._place)
        if top:
            self.envelope(top)

    def envelope(self, cursor: Cursor) -> None:
        section = self._section("envelope")
        section.say("payload type", lambda: cursor.member("payloadType").text())
        section.say("signatures", lambda: len(cursor.member("signatures").items(self._limits.evidence_items)))
        try:
            payload = cursor.member("payload").base64()
        except SigkitError as err:
            section.stops.append(err)
            return
        self._statement(payload)

    def _statement(self, payload: bytes) -> None:
        section = self._section("statement")
        top = self._document(section, payload, Place("", "payload").within(self._place))
        if top is None:
            section.say("begins", lambda: payload[: words.SHOWN_TEXT].decode("utf-8", "backslashreplace"))
            return
        section.say("version", lambda: top.member("_type").text())
        section.say("predicate type", lambda: top.member("predicateType").text())
        subjects = self._items(section, top, "subject")
        for number, subject in enumerate(subjects[: words.SHOWN_MEMBERS], 1):
            self._subject(f"{number} of {len(subjects)}", subject)
        if predicate := self._find(section, top, "predicate"):
            self._predicate(predicate)

    def _subject(self, number: str, cursor: Cursor) -> None:
        section = self._section("subject", number)
        section.say("name", lambda: words.text(cursor.find("name")))
        section.say("digest", lambda: [f"{a}:{v}" for a, v in cursor.member("digest").texts(self._limits.subject_digests).items()])
        section.say("annotations", lambda: words.pairs(cursor.find("annotations")))

    def _predicate(self, cursor: Cursor) -> None:
        section = self._section("predicate")
        if not isinstance(cursor.value, dict):
            section.say("value", lambda: strict.describe(cursor.value))
            return
        for name, value in list(cursor.value.items())[: words.SHOWN_MEMBERS]:
            section.rows.append((name, words.glance(value)))
        if len(cursor.value) > words.SHOWN_MEMBERS:
            section.rows.append(("…", f"{len(cursor.value) - words.SHOWN_MEMBERS} more members"))

    def _entry(self, number: int, item: Cursor) -> None:
        entry = self._section("log entry", str(number))
        entry.say("log", lambda: item.member("logId").member("keyId").text())
        if not isinstance(item.value, dict):
            return  # said once
        entry.say("index", lambda: words.number(item.find("logIndex")))
        entry.say("kind", lambda: words.kind(item.member("kindVersion")))
        entry.say("integrated", lambda: words.moment(item.find("integratedTime")))
        entry.say("promise", lambda: _PROMISE if item.find("inclusionPromise") else "none")
        proof = self._find(entry, item, "inclusionProof")
        if proof is None:
            entry.say("proof", lambda: "none")
            return
        entry.say("proof", lambda: f"leaf {words.number(proof.find('logIndex'))} of a tree of {words.number(proof.find('treeSize'))}")
        entry.say("root hash", lambda: proof.member("rootHash").text())
        entry.say("checkpoint", lambda: words.checkpoint(proof).origin)
        entry.say("checkpoint size", lambda: words.checkpoint(proof).size)
        entry.say("checkpoint signed by", lambda: list(words.checkpoint(proof).names))

    def _evidence_beside(self, section: Section, material: Cursor) -> None:
        for number, item in enumerate(self._items(section, material, "tlogEntries"), 1):
            self._entry(number, item)
        data = self._find(section, material, "timestampVerificationData")
        for number, item in enumerate(self._items(section, data, "rfc3161Timestamps") if data else (), 1):
            self._timestamp(number, partial(words.bytes_of, item, "signedTimestamp"))

    def _timestamp(self, number: int, read: Callable[[], bytes]) -> None:
        from sigkit.cli.claims_certificate import describe_timestamp

        section = self._section("timestamp", str(number))
        try:
            der = read()
        except SigkitError as err:
            section.stops.append(err)
            return
        describe_timestamp(section, der, self._place)

    def older(self, evidence: Evidence) -> None:
        """Read what stands beside a signature of cosign's older forms."""
        from sigkit.evidence import legacy

        parts, limits, place = evidence.parts, self._limits, self._place
        section = self._section("signature")
        signature = parts.get(SIGNATURE_PART)
        if signature:
            section.say("signature", lambda: f"{len(strict.decode_base64(strict.decode_utf8(signature, place), place))} bytes")
        if CERTIFICATE_PART not in parts:
            section.say("signed by", lambda: "a key that is not named")
        for part in (CERTIFICATE_PART, CHAIN_PART):
            if part not in parts:
                continue
            try:
                chain = legacy.parse_chain(parts[part], Place("", part).within(place))
            except SigkitError as err:
                section.stops.append(err)
                continue
            for number, der in enumerate(chain, 0 if part == CERTIFICATE_PART else 1):
                self.certificate(number, partial(bytes, der))
        if REKOR_BUNDLE_PART in parts:
            self._promise(parts[REKOR_BUNDLE_PART])
        if TIMESTAMP_PART in parts:
            at = Place("", TIMESTAMP_PART).within(place)
            self._timestamp(1, lambda: legacy.parse_rfc3161(parts[TIMESTAMP_PART], limits, at))

    def _promise(self, raw: bytes) -> None:
        section = self._section("log entry", "1")
        top = self._document(section, raw, Place("", REKOR_BUNDLE_PART).within(self._place))
        payload = self._find(section, top, "Payload") if top else None
        if payload is None:
            return
        section.say("log", lambda: payload.member("logID").text())
        section.say("index", lambda: words.number(payload.find("logIndex")))
        section.say("integrated", lambda: words.moment(payload.find("integratedTime")))
        section.say("promise", lambda: _PROMISE)
        section.say("proof", lambda: "none")

    def simple_signing(self, raw: bytes) -> None:
        section = self._section("signed")
        top = self._document(section, raw, Place("", LAYER_PART).within(self._place))
        critical = self._find(section, top, "critical") if top else None
        if top is None or critical is None:
            return
        section.say("type", lambda: critical.member("type").text())
        section.say("digest", lambda: critical.member("image").member("docker-manifest-digest").text())
        section.say("name", lambda: critical.member("identity").member("docker-reference").text() or "none")
        section.say("annotations", lambda: words.pairs(top.find("optional")))

    def _section(self, kind: str, number: str = "") -> Section:
        section = Section(kind, number)
        self.sections.append(section)
        return section

    def _document(self, section: Section, raw: bytes, place: Place) -> Cursor | None:
        try:
            return strict.parse_json(raw, most_bytes=self._limits.bundle_bytes, place=place, depth=self._limits.json_depth)
        except SigkitError as err:
            section.stops.append(err)
            return None

    def _find(self, section: Section, cursor: Cursor, name: str) -> Cursor | None:
        try:
            return cursor.find(name)
        except SigkitError as err:
            section.stops.append(err)
            return None

    def _items(self, section: Section, cursor: Cursor, name: str) -> tuple[Cursor, ...]:
        found = self._find(section, cursor, name)
        try:
            return found.items(self._limits.subjects) if found else ()
        except SigkitError as err:
            section.stops.append(err)
            return ()
