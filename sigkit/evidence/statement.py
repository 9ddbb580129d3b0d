"""in-toto statements: what was signed about which artifacts.

A statement is parsed from bytes whose signature was proved, never before, and never written anew.

Only `PREDICATE_SIGNATURE` makes a statement a signature; every other predicate type makes it an attestation (CVE-2022-35929).

Source: in-toto/attestation spec/v1/statement.md and resource_descriptor.md; the accepted members are those of its protobuf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits as all_limits
from sigkit import strict
from sigkit.data import NOTHING, Data
from sigkit.digest import SIZES, Digest, parse_digest
from sigkit.errors import Place, TooMany

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sigkit.limits import Limits
    from sigkit.strict import Cursor, Json

STATEMENT_V1: Final = "https://in-toto.io/Statement/v1"
STATEMENT_V01: Final = "https://in-toto.io/Statement/v0.1"  # what cosign attest writes
PREDICATE_SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"
REPOSITORY_ANNOTATION: Final = "sigkit.dev/repository"

_MEMBERS = ("_type", "subject", "predicateType", "predicate")
_SUBJECT_MEMBERS = ("name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations")


class Subject(Data):
    """One artifact: its digests of accepted algorithms, and what was signed with them.

    `annotations` holds those whose value is a string; `untold` names the others, whose meaning nobody has written down.
    """

    digests: tuple[Digest, ...]
    name: str | None = None
    annotations: Mapping[str, str] = NOTHING
    untold: tuple[str, ...] = ()


class Statement(Data):
    """Subjects and the type of what is said about them."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    version: str = STATEMENT_V1

    def encode(self, predicate: Mapping[str, Json] = NOTHING) -> bytes:
        """Return the statement with this predicate; a signature's is empty. The same statement and predicate give the same bytes."""
        return strict.encode_json(
            {
                "_type": self.version,
                "subject": [_encode_subject(subject) for subject in self.subjects],
                "predicateType": self.predicate_type,
                "predicate": dict(predicate),
            }
        )


def parse_statement(payload: bytes, limits: Limits, place: Place) -> Statement:
    """Read a statement from bytes whose signature was proved.

    Raises:
        TooLarge, TooMany, TooDeep: (LIMIT).
        MalformedJson, WrongShape: (PARSE) anything that a second reader could see otherwise.
        MalformedDigest: (DIGEST) a digest of an accepted algorithm is malformed.
    """
    top = strict.parse_json(payload, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth).only(_MEMBERS)
    version = top.member("_type")
    if version.text() not in {STATEMENT_V1, STATEMENT_V01}:
        version.fail("an unknown version of statement", expected=f"{STATEMENT_V1} or {STATEMENT_V01}")
    predicate_type = top.member("predicateType")
    if not predicate_type.text():
        predicate_type.fail("no predicate type", expected="a URI")
    if predicate := top.find("predicate"):
        predicate.object()
    subjects = tuple(_parse_subject(item, limits) for item in top.member("subject").items(limits.subjects))
    return Statement(subjects, predicate_type.text(), version.text())


def _parse_subject(cursor: Cursor, limits: Limits) -> Subject:
    cursor.only(_SUBJECT_MEMBERS)
    for member in ("uri", "content", "downloadLocation", "mediaType"):
        if found := cursor.find(member):
            found.text()
    name, digest, annotations = cursor.find("name"), cursor.find("digest"), cursor.find("annotations")
    told, untold = parse_annotations(annotations) if annotations else (NOTHING, ())
    return Subject(_parse_digests(digest, limits) if digest else (), name.text() if name else None, told, untold)


def parse_annotations(cursor: Cursor) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Return the annotations whose value is a string, and the names of the others.

    Raises:
        TooMany: (LIMIT).
    """
    values = cursor.object()
    if len(values) > all_limits.ANNOTATIONS:
        raise TooMany(f"more than {all_limits.ANNOTATIONS} annotations", place=cursor.at(), got=str(len(values)))
    told = {name: value for name, value in values.items() if isinstance(value, str)}
    return told, tuple(name for name in values if name not in told)


def _parse_digests(cursor: Cursor, limits: Limits) -> tuple[Digest, ...]:
    # Digests of other algorithms (gitCommit, sha1) say nothing about an image and are passed over.
    return tuple(
        parse_digest(f"{algorithm}:{encoded}", Place("", f"{cursor.path}.{algorithm}").within(cursor.place))
        for algorithm, encoded in cursor.texts(limits.subject_digests).items()
        if algorithm in SIZES
    )


def _encode_subject(subject: Subject) -> dict[str, Json]:
    members: dict[str, Json] = {} if subject.name is None else {"name": subject.name}
    members["digest"] = {digest.algorithm: digest.hex for digest in subject.digests}
    members["annotations"] = dict(sorted(subject.annotations.items()))
    return members
