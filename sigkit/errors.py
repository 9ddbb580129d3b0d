"""Every refusal that sigkit can give: one class for each code, each code listed here once.

The first line of a class's docstring says what happened; the rest says what to do. `sigkit why CODE` prints both.
A code is never reused, and a handler never reads the text of a message.

This module imports almost nothing: `sigkit-runtime` starts with it.
"""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar, Self

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNCHECKED = 3
# `run` and `exec` return the container's own status, so their own answers lie where podman puts its own.
EXIT_RUN_REFUSED = 122
EXIT_RUN_UNCHECKED = 123
EXIT_RUN_USAGE = 125
EXIT_RUN_NOT_EXECUTABLE = 126
EXIT_RUN_NOT_FOUND = 127


class Kind(Enum):
    """The families of refusals (docs/security.md has the table of causes)."""

    BIND = "BIND"
    SIG = "SIG"
    IDENT = "IDENT"
    TIME = "TIME"
    PARSE = "PARSE"
    LIMIT = "LIMIT"
    ROOT = "ROOT"
    TLOG = "TLOG"
    DIGEST = "DIGEST"
    REF = "REF"
    NET = "NET"
    UNPACK = "UNPACK"
    RUNTIME = "RUNTIME"
    POLICY = "POLICY"
    UNAVAIL = "UNAVAIL"
    INTERNAL = "INTERNAL"


class Owner(Enum):
    """Who answers for the thing at a place: what the operator wrote is a usage error, not a refusal."""

    OPERATOR = "operator"
    OUTSIDE = "outside"


class Place:
    """Where a problem lies: a source (argument, file, URL, digest) and a path inside it.

    Inside is `line:column`, a JSON path such as `$.layers[2].digest`, or a layer and entry. Both are raw outside text;
    only `cli.output` escapes and prints them.
    """

    __slots__ = ("inside", "owner", "source")

    def __init__(self, source: str, inside: str = "", owner: Owner = Owner.OUTSIDE) -> None:
        self.source = source
        self.inside = inside
        self.owner = owner

    @classmethod
    def operator(cls, source: str, inside: str = "") -> Self:
        """Name a place that the operator wrote: an argument, a policy, a key or a configuration file."""
        return cls(source, inside, Owner.OPERATOR)

    def within(self, outer: Place) -> Place:
        """Return this place as seen from `outer`: its source and owner, both paths inside joined."""
        inside = self.inside if not outer.inside else f"{outer.inside} {self.inside}".strip()
        return Place(outer.source, inside, outer.owner)

    def __str__(self) -> str:
        return f"{self.source}: {self.inside}" if self.inside and self.source else self.source or self.inside

    def __repr__(self) -> str:
        return f"Place({self.source!r}, {self.inside!r}, {self.owner})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Place):
            return NotImplemented
        return (self.source, self.inside, self.owner) == (other.source, other.inside, other.owner)

    def __hash__(self) -> int:
        return hash((self.source, self.inside, self.owner))


NOWHERE = Place("")


class SigkitError(Exception):
    """Root of all refusals. Raise a class that has a code."""

    code: ClassVar[str] = ""
    kind: ClassVar[Kind]
    # The status of a process that ends with this error, unless the operator wrote what is wrong (then 2).
    exit_status: ClassVar[int] = EXIT_REFUSED

    def __init__(
        self, problem: str, *, place: Place = NOWHERE, expected: str = "", got: str = "", remedy: str = ""
    ) -> None:
        """Describe one refusal.

        Args:
            problem: what is wrong, one line, without the place. May hold outside text: it is escaped when printed.
            place: where it is wrong.
            expected: what was asked for, raw.
            got: what was found instead, raw.
            remedy: the command to run or the edit to make.
        """
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def within(self, outer: Place) -> Self:
        """Add the caller's part of the place, and return this error to be raised again."""
        self.place = self.place.within(outer)
        return self

    def status(self) -> int:
        """Return the exit status of a command that ends with this error (design.md, "Exit codes")."""
        return EXIT_USAGE if self.place.owner is Owner.OPERATOR else self.exit_status

    def __str__(self) -> str:
        parts = [f"{self.code} {self.problem}"]
        if str(self.place):
            parts.append(f"at {self.place}")
        if self.expected or self.got:
            parts.append(f"expected {self.expected or '?'}, got {self.got or '?'}")
        return "; ".join(parts)


class BindError(SigkitError):
    kind = Kind.BIND


class SigError(SigkitError):
    kind = Kind.SIG


class IdentError(SigkitError):
    kind = Kind.IDENT


class TimeError(SigkitError):
    kind = Kind.TIME


class ParseError(SigkitError):
    kind = Kind.PARSE


class LimitError(SigkitError):
    kind = Kind.LIMIT


class RootError(SigkitError):
    kind = Kind.ROOT


class TlogError(SigkitError):
    kind = Kind.TLOG


class DigestError(SigkitError):
    kind = Kind.DIGEST


class RefError(SigkitError):
    kind = Kind.REF


class NetError(SigkitError):
    kind = Kind.NET
    exit_status = EXIT_UNCHECKED


class UnpackError(SigkitError):
    kind = Kind.UNPACK


class RuntimeRefused(SigkitError):  # `RuntimeError` is Python's
    kind = Kind.RUNTIME


class PolicyError(SigkitError):
    kind = Kind.POLICY


class UnavailError(SigkitError):
    kind = Kind.UNAVAIL
    exit_status = EXIT_UNCHECKED


class InternalError(SigkitError):
    kind = Kind.INTERNAL
    exit_status = EXIT_UNCHECKED


# --- PARSE: malformed input -------------------------------------------------------------------------------------------


class MalformedJson(ParseError):
    """The text is not strict JSON.

    Duplicate members, NaN, a byte-order mark, trailing data, lone surrogates and numbers out of range are refused,
    because two readers could understand them differently. Write the document again with a strict JSON encoder.
    """

    code = "SK-PARSE-001"


class WrongShape(ParseError):
    """A member of a document is missing, unknown, of the wrong type or of a value that is not allowed.

    The message names the member by its JSON path, and what is allowed there.
    """

    code = "SK-PARSE-002"


class MalformedBase64(ParseError):
    """The text is not standard base64 with padding (RFC 4648 section 4).

    Line breaks, the URL alphabet, missing padding and non-zero trailing bits are refused. Encode the bytes again.
    """

    code = "SK-PARSE-003"


class NotUtf8(ParseError):
    """The bytes are not UTF-8.

    Save the file again as UTF-8 without a byte-order mark.
    """

    code = "SK-PARSE-004"


# --- LIMIT: too big, too many, too deep -------------------------------------------------------------------------------


class TooLarge(LimitError):
    """Something from outside is larger than sigkit reads.

    The message names the limit. A document of this size is either not what it claims to be, or an attack on memory.
    """

    code = "SK-LIMIT-001"


class TooMany(LimitError):
    """There are more items than sigkit examines.

    Nothing was decided: evidence beyond the limit could change the answer. Remove what is not needed and try again.
    """

    code = "SK-LIMIT-002"
    exit_status = EXIT_UNCHECKED


class TooDeep(LimitError):
    """A document or an index is nested more deeply than sigkit follows.

    Nothing legitimate needs this depth. Flatten it.
    """

    code = "SK-LIMIT-003"


# --- DIGEST: bytes differ from their name -----------------------------------------------------------------------------


class MalformedDigest(DigestError):
    """The digest is malformed, or of an algorithm that sigkit does not accept.

    Accepted: sha256, sha384 and sha512, written as algorithm:lower-case hex of full length.
    """

    code = "SK-DIGEST-001"


class DigestMismatch(DigestError):
    """The bytes received are not those that the digest names.

    Someone changed them: in storage, on the way, or by moving a tag while it was read. Nothing was kept. Compare with
    another copy, and push the image again if this registry lost the original.
    """

    code = "SK-DIGEST-002"


class SizeMismatch(DigestError):
    """There are more or fewer bytes than the descriptor says.

    The transfer was cut, or the content was changed. Nothing was kept. Try again; if it stays, push the image again.
    """

    code = "SK-DIGEST-003"


# --- UNAVAIL: could not check -----------------------------------------------------------------------------------------


class FileUnreadable(UnavailError):
    """A file cannot be read.

    Check that it exists and that this user may read it.
    """

    code = "SK-UNAVAIL-001"


class FileUnwritable(UnavailError):
    """A file cannot be written.

    Check the directory, its permissions and the free space. Nothing was half-written.
    """

    code = "SK-UNAVAIL-002"


class DatabaseUnusable(UnavailError):
    """A database is damaged, locked too long, or was written by another version of sigkit.

    The message names the file. Stop other sigkit processes; if it is of a newer version, use that version.
    """

    code = "SK-UNAVAIL-003"


class LockTimeout(UnavailError):
    """Another sigkit process holds a lock for too long.

    Wait for it, or stop it, and run the command again.
    """

    code = "SK-UNAVAIL-004"


# --- BIND: signature, certificate, artifact and log entry do not belong together --------------------------------------


# --- SIG: a signature or key is invalid -------------------------------------------------------------------------------


# --- IDENT: the signer is not the expected one ------------------------------------------------------------------------


# --- TIME: time or validity -------------------------------------------------------------------------------------------


# --- ROOT: trust root -------------------------------------------------------------------------------------------------


# --- TLOG: proof or checkpoint ----------------------------------------------------------------------------------------


# --- REF: reference ---------------------------------------------------------------------------------------------------


# --- NET: network rule ------------------------------------------------------------------------------------------------


# --- UNPACK: layer ----------------------------------------------------------------------------------------------------


# --- RUNTIME: bundle directory ----------------------------------------------------------------------------------------


# --- POLICY: the decision is deny -------------------------------------------------------------------------------------


# --- INTERNAL ---------------------------------------------------------------------------------------------------------


class Bug(InternalError):
    """This is a bug in sigkit; nothing was allowed because of it.

    Run the command again with -vv and report what it prints.
    """

    code = "SK-INTERNAL-001"


def all_codes() -> dict[str, type[SigkitError]]:
    """Return every class that has a code, by code."""

    def walk(cls: type[SigkitError]) -> Iterator[type[SigkitError]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from walk(sub)

    return {cls.code: cls for cls in walk(SigkitError) if cls.code}
