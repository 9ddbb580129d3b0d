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

    def __init__(self, problem: str, *, place: Place = NOWHERE, expected: str = "", got: str = "", remedy: str = "") -> None:
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


class AmbiguousDocument(ParseError):
    """The document can be read as a manifest and as an index, or its type contradicts its content.

    Two readers would see two images (CVE-2021-41190). Push the image again with a current builder.
    """

    code = "SK-PARSE-005"


class UnsupportedDocument(ParseError):
    """The document is of a type that sigkit does not read.

    Read are OCI image manifests and indexes, and Docker's schema 2 manifests and lists. An image of Docker's schema 1, which has no content
    digests for its configuration, must be pulled and pushed again with a current engine.
    """

    code = "SK-PARSE-006"


class MalformedPem(ParseError):
    """The file is not one PEM block of a label that sigkit reads.

    A public key is one `PUBLIC KEY` block; a file with two keys is refused, because two programs could use different ones. Write one
    file for each key.
    """

    code = "SK-PARSE-007"


class UnsupportedEvidence(ParseError):
    """The evidence has a form or version that this version of sigkit does not verify.

    It is neither good nor bad: it counts for nothing. The message names the form. Sign again with sigkit or cosign 3.
    """

    code = "SK-PARSE-008"


class MalformedYaml(ParseError):
    """The policy is not the plain YAML that sigkit reads.

    Mappings, sequences and text only: no anchors, aliases, tags, merge keys, several documents or equal keys. The caret shows where.
    """

    code = "SK-PARSE-009"


class MalformedPolicy(ParseError):
    """A field of the policy is unknown, missing, or has a value that is not allowed.

    Nothing is skipped: a field that sigkit does not know could be the one that protects you. The caret shows where.
    """

    code = "SK-PARSE-010"


class UnsupportedPolicyVersion(ParseError):
    """The policy is of a version or kind that this sigkit does not know.

    Write `apiVersion: sigkit.dev/v1alpha1` and `kind: Policy`, or use the sigkit that the policy was written for.
    """

    code = "SK-PARSE-011"


class MalformedOption(ParseError):
    """The value of an option cannot be used.

    The message names the option and the form that it takes. Nothing was pulled or started.
    """

    code = "SK-PARSE-012"


class MalformedExpression(ParseError):
    """An expression over identities is malformed, or needs more memory than an expression may.

    The syntax is RE2's: no look-around and no back-references. The message names the column. An exact text needs no expression.
    """

    code = "SK-PARSE-013"


class MalformedToken(ParseError):
    """The identity token is no JSON Web Token, or lacks what each must say.

    A token has three parts with dots between them. Look whether the file or variable holds the token itself and nothing else.
    """

    code = "SK-PARSE-040"


class MalformedMetadata(ParseError):
    """The metadata of a trust root is malformed.

    It is not TUF metadata, or of another role. Nothing was kept. Ask who runs the mirror.
    """

    code = "SK-PARSE-060"


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


class EvidenceUnlistable(UnavailError):
    """The registry could not list all evidence of the image.

    What is missing could change the answer, so nothing was decided; the image is not called unsigned. Try again, or ask the registry's
    operator.
    """

    code = "SK-UNAVAIL-005"


class EvidenceNotAttached(UnavailError):
    """The evidence was pushed, but the registry does not list it for the image.

    Nobody will find it. Run the command again; if it stays, use another registry or another repository for signatures.
    """

    code = "SK-UNAVAIL-006"


class Unreachable(UnavailError):
    """A host cannot be reached, or the connection broke.

    Check the name, the network and that the service runs there; then try again.
    """

    code = "SK-UNAVAIL-007"


class TimedOut(UnavailError):
    """A host did not answer completely in time.

    The whole operation has one deadline, so a server that drips its answer ends here too. Try again, or give more time.
    """

    code = "SK-UNAVAIL-008"


class ServerFailed(UnavailError):
    """A server answered with an error.

    The message has the status and the server's own code. 429 and 5xx were tried again already; try later.
    """

    code = "SK-UNAVAIL-009"


class AccessDenied(UnavailError):
    """A registry or token server did not accept the credentials, or wants some and none are configured.

    Log in with `docker login` or `podman login`, and check that this account may do what was asked.
    """

    code = "SK-UNAVAIL-010"


class AnswerUnusable(UnavailError):
    """A server's answer is not of the form that was asked for, so it says nothing.

    Often a proxy or a login page answers in the server's place. Look at the URL with curl.
    """

    code = "SK-UNAVAIL-011"


class BlobAbsent(UnavailError):
    """The registry does not have a blob that a manifest names.

    The image is incomplete in this registry. Push it again.
    """

    code = "SK-UNAVAIL-012"


class ManifestRefused(UnavailError):
    """The registry does not take a manifest.

    The message has the registry's own words. Often a tag that may not be written again, or a media type that it does not know.
    """

    code = "SK-UNAVAIL-018"


class ReferrerLost(UnavailError):
    """Other writers kept replacing the list of signatures, and this one is not in it.

    The registry has no referrers API, so the list is an ordinary tag, written again by each. Nothing of the others was lost.
    Run the command again.
    """

    code = "SK-UNAVAIL-013"


class ReferrersImmutable(UnavailError):
    """The registry has no referrers API and does not let the tag that lists the signatures be written again.

    What was attached before is intact. Turn on the referrers API (OCI distribution 1.1) in the registry, or keep signatures
    in a repository whose tags may change.
    """

    code = "SK-UNAVAIL-014"


class UnpackingFailed(UnavailError):
    """The process that unpacks layers could not do its work.

    It ended unexpectedly, took too long, or the disk is full; the message says which. Nothing was kept. Free space and try again.
    """

    code = "SK-UNAVAIL-015"


class NamespacesUnavailable(UnavailError):
    """This system lets the user make no namespaces, so layers cannot be unpacked in isolation and no container can start.

    Run as root, or let users make user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, `user.max_user_namespaces`, or the
    policy of the container that sigkit runs in).
    """

    code = "SK-UNAVAIL-016"


class MissingExtra(UnavailError):
    """A part of sigkit needs packages that are not installed.

    The message names the package and the command that installs it.
    """

    code = "SK-UNAVAIL-017"


class AuditDamaged(UnavailError):
    """The audit log is not a whole chain: a line was changed, removed or put in, or the file is not this user's alone.

    Nothing starts while that is so. Keep the file as it is for whoever looks into it, move it away, and start a new one.
    """

    code = "SK-UNAVAIL-019"


class NotDecided(UnavailError):
    """Whether the image is allowed could not be found out, so there is no admission.

    The reasons stand in the decision; `sigkit verify --policy FILE IMAGE` prints them. Nothing was found against the image: try again.
    """

    code = "SK-UNAVAIL-020"


class NoService(UnavailError):
    """The signing config names too few services that can be asked now.

    Those that it lists are out of their validity, of a version that is not spoken, or of one operator. Get a newer signing config
    (`sigkit trust update`), or one of an instance that runs.
    """

    code = "SK-UNAVAIL-040"


class RequestRefused(UnavailError):
    """A service refused the request, and would refuse it again.

    The message has the service's own words. Nothing was attached.
    """

    code = "SK-UNAVAIL-041"


class NoServiceAnswered(UnavailError):
    """Too few of the services that the signing config names gave what they were asked for.

    The message has what the last one said; the others are named above it. Nothing was attached. Try again, or look at the services.
    """

    code = "SK-UNAVAIL-042"


class LogHalted(UnavailError):
    """A log stopped taking entries, because it could not make one durable.

    Nothing that it answered is lost. Free space or look at the disk, and start the service again: it reads its files anew.
    """

    code = "SK-UNAVAIL-043"


class NoStack(UnavailError):
    """A directory holds no stack, or one that is not whole.

    Name the directory that `sigkit stack init` made. One that has lost a part is restored from a backup: a new one in its place would be
    another stack, whose log begins anew.
    """

    code = "SK-UNAVAIL-050"


class OtherStackVersion(UnavailError):
    """A stack's directory was made by another version of sigkit.

    Use that version; nothing was changed.
    """

    code = "SK-UNAVAIL-051"


class StackExists(UnavailError):
    """A stack, or something else, is where a new one was to be made.

    Nothing of it was touched. Name a new or an empty directory.
    """

    code = "SK-UNAVAIL-052"


class StackNotRunning(UnavailError):
    """No process serves the stack of that directory.

    There is nothing to stop. `sigkit stack up DIR` starts it.
    """

    code = "SK-UNAVAIL-053"


class StackRestored(UnavailError):
    """The directory is a backup of a stack, and its log may be older than what was answered from it.

    Entries added after the backup are lost, and going on forks the log for everybody who has seen them: their clients raise an alarm.
    So a backup is neither served nor signed for until its owner says that its log may go on, by `sigkit stack up --restored`:
    - on a copy of it (`cp -a BACKUP NEW`), for what is served is no backup any more;
    - never while the stack that it is of runs, and not if that one's disk can be read: copy its directory then, and nothing is lost;
    - if nothing was logged after it there is no fork; else whoever verifies is told, and forgets: `sigkit log forget ORIGIN`.
    docs/stack.md has the rest.
    """

    code = "SK-UNAVAIL-054"


class NoBackup(UnavailError):
    """The stack that was to go on as a restored backup is no backup.

    `--restored` is for a directory that `sigkit stack backup` made. Leave it out, or look whether the right directory is named.
    """

    code = "SK-UNAVAIL-055"


class StackProcessUnproved(UnavailError):
    """Nothing proves that the process that `run.json` names is the one that serves the stack, so it was not told to stop.

    Whoever may write in a stack's directory may write any process's number there. The process must be of the user whom the directory
    belongs to, and hold the lock. Look at it (`ps -fp PID`), and end it by its number if it is the stack's.
    """

    code = "SK-UNAVAIL-056"


class NoStackFile(UnavailError):
    """A link, or nothing that can be copied, stands where a file or a directory of a stack must be.

    A backup copies regular files from real directories and follows no link, for whoever may write in a stack's directory could have root
    copy any file of the machine. Put the file or the directory itself there, or remove what is there. Where a disk is too small, the whole
    stack's directory may be a link, or a part of it the place where another disk is mounted.
    """

    code = "SK-UNAVAIL-057"


class OtherUsersStack(UnavailError):
    """The stack belongs to another user than the one who would write into it, so nothing was done.

    A stack's files are for their owner alone, and each that another user makes, root included, is one that he cannot open: a lock, a log's
    journal. He would be locked out, perhaps days later. Run the command as the owner of the directory, by `sudo -u`; in a container, as
    that user. `status`, `token`, `backup` and `down` leave nothing behind, and root may run them.
    """

    code = "SK-UNAVAIL-058"


class UnsafeKey(UnavailError):
    """A key that a stack signs with could have been written by others than its owner.

    Whoever can write the file, or in a directory on its way, chooses by which key is signed. Take that away (`chmod -R go-w DIR`); where
    somebody may have done it, put the key of a backup in its place.
    """

    code = "SK-UNAVAIL-059"


class MetadataMissing(UnavailError):
    """A trust root's metadata is not here, and was not to be had.

    `sigkit trust update NAME` fetches it where there is a network.
    """

    code = "SK-UNAVAIL-060"


class NoSuchRoot(UnavailError):
    """No trust root of this name is pinned on this machine.

    `sigkit trust init NAME --mirror URL --root FILE` pins one, `sigkit trust show` lists those that there are.
    """

    code = "SK-UNAVAIL-061"


class RootTooOld(UnavailError):
    """What is known of a trust root is older than may be used.

    Its metadata has expired, or was fetched longer ago than the policy allows. `sigkit trust update NAME` fetches newer.
    """

    code = "SK-UNAVAIL-062"


class UnsafeRootStore(UnavailError):
    """The directory of a trust root could be written by others than this user.

    Whoever can write there decides who is trusted, so nothing of it was used. Give it to this user, mode 0700, or pin the root anew.
    """

    code = "SK-UNAVAIL-063"


class EntryAbsent(UnavailError):
    """The log has no such entry.

    Look at the index or identifier. An entry that was answered a moment ago may be published within some seconds.
    """

    code = "SK-UNAVAIL-064"


class LogUnsearchable(UnavailError):
    """Nothing can search this log: it publishes its entries, and no index of them.

    Ask for an entry by its index; the evidence that it belongs to has that. The stack's own log and logs of the first generation can be
    searched.
    """

    code = "SK-UNAVAIL-065"


class OriginalServed(UnavailError):
    """A backup was to go on while the stack that it is of is served.

    Two processes would answer for one log with different entries: a fork. Use the one that is served. If it has to go, stop it and copy
    its directory, or make another backup of it first.
    """

    code = "SK-UNAVAIL-066"


class OriginalUnknown(UnavailError):
    """A backup was to go on while somebody answers at the stack's URL, who may be the stack that it is of.

    Were it so, its log would fork. Stop the original, and let nobody answer at that URL until this one is served: a proxy may stay that
    answers 404 or 502 (not 503, which a busy stack answers too). Where TLS there is by a private authority, name its certificate:
    `SSL_CERT_FILE=CA.pem sigkit stack up --restored DIR`.
    """

    code = "SK-UNAVAIL-067"


# --- BIND: signature, certificate, artifact and log entry do not belong together --------------------------------------


class OtherArtifact(BindError):
    """The signed statement names another artifact than the one asked for.

    The evidence was attached to the wrong image, or copied there. Sign this digest.
    """

    code = "SK-BIND-001"


class AmbiguousArtifact(BindError):
    """The signed statement names the artifact in a way that two readers understand differently.

    A second digest that was not compared, or two subjects with this digest and different annotations. Sign again with one subject and
    one digest.
    """

    code = "SK-BIND-002"


class OtherEntry(BindError):
    """The log entry is about another signature, key or artifact than the evidence beside it.

    A genuine entry of something else proves nothing about this. Fetch the evidence again; if it stays, sign again.
    """

    code = "SK-BIND-003"


class DigestNotCompared(BindError):
    """The evidence is about a digest by another algorithm than those that are known of this artifact.

    Whether it is the same artifact cannot be said. Verify with the file itself instead of its digest.
    """

    code = "SK-BIND-004"


class OtherKeyCertified(BindError):
    """A certificate is for another key than the one that signs.

    An authority that answers so is broken, or another's answer was put in its place; nothing was signed. With --cert, the certificate and
    the key do not belong together.
    """

    code = "SK-BIND-040"


# --- SIG: a signature or key is invalid -------------------------------------------------------------------------------


class BadSignature(SigError):
    """The signature is not valid for this key and these bytes.

    The evidence was altered, or something else was signed. Fetch it again; if it stays, sign again.
    """

    code = "SK-SIG-001"


class OtherKey(SigError):
    """No trusted key made the signature.

    It is by another key, or altered. Compare the fingerprints, and give the key that the publisher names.
    """

    code = "SK-SIG-002"


class UnsupportedKey(SigError):
    """The key is of a kind, curve or size that sigkit does not accept.

    Accepted: ECDSA on P-256, P-384 and P-521, Ed25519 (not its low-order points), and RSA of 2048 to 8192 bits with an exponent of 31 bits
    at most. Make a new key with `sigkit key generate`.
    """

    code = "SK-SIG-003"


class MalformedKey(SigError):
    """The bytes are not a key: damaged, cut, or a point that is not on its curve.

    Export the key again from where it was made.
    """

    code = "SK-SIG-004"


class WrongPassword(SigError):
    """The password does not open the private key, or the key file is damaged.

    Set SIGKIT_PASSWORD or COSIGN_PASSWORD to the password that the key was written with.
    """

    code = "SK-SIG-005"


class RefusedKeyEncryption(SigError):
    """The private key file is encrypted in a way that sigkit does not open.

    Accepted: cosign's form (scrypt with N of 32768, 65536 or 131072, r 8, p 1, and NaCl's secretbox). Other parameters could ask for
    any amount of memory. Decrypt the key with the program that wrote it, and import it again.
    """

    code = "SK-SIG-006"


class PasswordMissing(SigError):
    """The private key's password is not known.

    Set SIGKIT_PASSWORD (or COSIGN_PASSWORD), or run the command on a terminal, where it is asked for.
    """

    code = "SK-SIG-007"


class MalformedCertificate(SigError):
    """The signer's certificate is damaged, or holds what no signer's certificate may hold.

    Fetch the evidence again; if it stays, sign again with a new certificate.
    """

    code = "SK-SIG-008"


class TokenNotSigned(SigError):
    """The identity token is not signed by a key of the issuer that it names.

    Only the keys that the issuer publishes count, by RS256 or ES256: never a key or an algorithm that the token brings itself. Request a
    new token.
    """

    code = "SK-SIG-040"


# --- IDENT: the signer is not the expected one ------------------------------------------------------------------------


class AmbiguousIdentity(IdentError):
    """The certificate does not name exactly one identity.

    No subject alternative name, several, one of a kind that is not understood, or two issuers that differ: two readers could see two
    signers. Sign again with a certificate that names one.
    """

    code = "SK-IDENT-001"


class WrongIdentity(IdentError):
    """The image is signed, but not by the identity that is required.

    The message lists the identities that were found, and what differs. Issuer, subject and each extension are compared whole: an expression
    must fit all of the text. Sign with the required identity, or change the rule if another may vouch for the image.
    """

    code = "SK-IDENT-002"


class NoIdentityToken(IdentError):
    """There is no identity to sign with: no token was given, and nothing here gives one.

    In a CI job, let the job request an ID token (GitHub: `permissions: id-token: write`; GitLab: `id_tokens:` with the variable
    SIGSTORE_ID_TOKEN). Elsewhere give `--identity-token FILE`, log in on a terminal, or sign with `--key`.
    """

    code = "SK-IDENT-040"


class TokenNotGranted(IdentError):
    """The environment that sigkit runs in was asked for an identity token and gave none.

    The message says what is missing: a permission of the job, a program, or the right audience.
    """

    code = "SK-IDENT-041"


class WrongAudience(IdentError):
    """The identity token is for somebody else than the instance that certifies identities.

    A token names whom it is for (`aud`). Request one for the audience that is asked for here; an authority refuses any other.
    """

    code = "SK-IDENT-042"


class UnverifiedEmail(IdentError):
    """The identity token names an e-mail address that its issuer has not verified.

    Anybody could have entered it, so authorities certify no such address. Verify it with the issuer, or use another account.
    """

    code = "SK-IDENT-043"


class OtherIdentityCertified(IdentError):
    """The authority certified another identity than the token names.

    Nothing was signed. Either the instance names identities in its own way, or somebody stands between it and you: ask its operator.
    """

    code = "SK-IDENT-044"


class LoginForged(IdentError):
    """The answer of a login does not belong to the login that sigkit started.

    Somebody else may have sent it to this machine. Nothing was signed; start again, and use only the page that sigkit opened.
    """

    code = "SK-IDENT-045"


class LoginFailed(IdentError):
    """The login was refused, or was not finished in time.

    The message has the issuer's own words. Run the command again, or give a token with `--identity-token`.
    """

    code = "SK-IDENT-046"


class NotAgreed(IdentError):
    """Nobody agreed that the identity becomes public, so nothing was signed.

    A certificate and a log entry cannot be taken back. `--yes` agrees in scripts; a private instance keeps identities inside.
    """

    code = "SK-IDENT-047"


class UnknownIssuer(IdentError):
    """The identity token is of an issuer that this authority does not know.

    Issuers are compared letter by letter. The operator of the stack lists those whose tokens it takes in the file `issuers.json` of its
    directory, and starts it again; docs/stack.md says how an entry looks.
    """

    code = "SK-IDENT-048"


class UnnamableIdentity(IdentError):
    """The identity token names nobody whom this authority certifies.

    A claim that the issuer's kind needs is missing, is of another form, or lies outside what the operator of the stack allowed the issuer
    to speak for.
    """

    code = "SK-IDENT-049"


class TokenNotTaken(IdentError):
    """The certificate authority does not certify whom the identity token names.

    The message has its words: the token is not signed by its issuer, is for another audience or has expired by the authority's clock, or
    the authority knows no such issuer. Request a new token, of an issuer that it lists. The operator of a stack lists others in the file
    `issuers.json` of its directory, as `{"url": "https://gitlab.acme.example", "type": "gitlab"}` among its `issuers` (docs/stack.md has
    the types), and starts it again: `sigkit stack down DIR`, `sigkit stack up DIR`.
    """

    code = "SK-IDENT-050"


class StrangeIssuer(IdentError):
    """The identity token is of an issuer whose tokens the public-good instance does not take, so it was not sent there.

    Nobody named an instance, and the public one is asked where nobody does. Name your own by `--signing-config FILE` and
    `--trusted-root FILE`. If the public instance takes the issuer since lately, name its files in the same way.
    """

    code = "SK-IDENT-051"


# --- TIME: time or validity -------------------------------------------------------------------------------------------


class NoAttestedTime(TimeError):
    """Nothing that is trusted says when the signature was made, so nobody knows whether its certificate was valid then.

    Certificates of this kind live for minutes. Sign with a timestamp authority, or with a log that signs its times, which the trust root
    knows.
    """

    code = "SK-TIME-001"


class OutsideCertificate(TimeError):
    """A certificate of the signer's chain was not valid at a time at which the signature is attested.

    The signature was made before or after, or the time is another's. Sign again, and have it timestamped at once.
    """

    code = "SK-TIME-002"


class OutsideAuthority(TimeError):
    """The trust root does not trust this authority, log or key at a time at which the signature is attested.

    It was taken out of use before, or in use only later. Verify with the trust root of that time's instance, or sign again.
    """

    code = "SK-TIME-003"


class TimeInFuture(TimeError):
    """The signature is attested at a time that has not come yet.

    One of the clocks is wrong: compare this machine's with the time shown.
    """

    code = "SK-TIME-004"


class BadTimestamp(TimeError):
    """A timestamp is malformed, or is not what an authority of the trust root signed about this signature.

    It was altered, or is another signature's. Fetch the evidence again; if it stays, sign again.
    """

    code = "SK-TIME-005"


class TokenExpired(TimeError):
    """The identity token has expired.

    Tokens live for minutes. Request a new one; if it is new, this machine's clock is ahead: the message has both times.
    """

    code = "SK-TIME-040"


class ClockSkew(TimeError):
    """This machine's clock and another's are too far apart.

    The message has both times. Set this machine's clock (`timedatectl set-ntp true`), then sign again.
    """

    code = "SK-TIME-041"


# --- ROOT: trust root -------------------------------------------------------------------------------------------------


class NoCertificateAuthority(RootError):
    """The evidence is signed by a certificate, and the trust root holds no certificate authority.

    Nothing was found out about it: it is not the same as unsigned. Verify it with a trust root that has the authority, or ask for a
    signature by key.
    """

    code = "SK-ROOT-001"


class DuplicateTrustedKey(RootError):
    """The same key is given twice.

    A threshold counts distinct keys, so one of the two would count for nothing. Remove one.
    """

    code = "SK-ROOT-002"


class UntrustedCertificate(RootError):
    """The signer's certificate was not issued by an authority of the trust root for signing code.

    It is of another instance, self-made, or made for another purpose. Give the trust root of the instance that issued it.
    """

    code = "SK-ROOT-005"


class MalformedTrustedRoot(RootError):
    """The trusted root holds something that is malformed, or that two readers could understand differently.

    Get the file again from who publishes it, or write it anew.
    """

    code = "SK-ROOT-003"


class UnsupportedTrustedRoot(RootError):
    """The trusted root is of a version, or holds a key of a kind, that is not read.

    Read is `application/vnd.dev.sigstore.trustedroot+json;version=0.1`.
    """

    code = "SK-ROOT-004"


class UnsupportedSigningConfig(RootError):
    """The signing config is of a version, or holds a selector, that is not read.

    Read is `application/vnd.dev.sigstore.signingconfig.v0.2+json`.
    """

    code = "SK-ROOT-040"


class ServiceNotTrusted(RootError):
    """The trusted root does not take the word of a service that signs, or of too few.

    The signing config and the trusted root are of different instances, or one of them is old: a verifier would find the evidence
    incomplete, so nothing was attached. Update both (`sigkit trust update`), or give both files of one instance.
    """

    code = "SK-ROOT-041"


class MetadataNotSigned(RootError):
    """The metadata of a trust root is not signed by enough of the keys that must sign it.

    It was altered, or is somebody else's. Nothing was kept. Ask who runs the mirror; never pin another root because of this.
    """

    code = "SK-ROOT-060"


class MetadataRolledBack(RootError):
    """A mirror offers older metadata of a trust root than was seen here before.

    Somebody may be hiding what was revoked since. Nothing was kept. Try another mirror of the same root.
    """

    code = "SK-ROOT-061"


class MetadataExpired(RootError):
    """The metadata of a trust root has expired.

    From a mirror: it is not maintained, or somebody holds newer metadata back. Here: `sigkit trust update NAME` fetches newer. A policy
    may grant expired metadata some days with `maxExpired`.
    """

    code = "SK-ROOT-062"


class MetadataMismatch(RootError):
    """A file of a trust root is not the one that the metadata above it names.

    Length, hash or version differ: the mirror mixes two states, or was altered. Nothing was kept. Try again later.
    """

    code = "SK-ROOT-063"


class TargetNotListed(RootError):
    """The trust root's repository does not list the file that is needed.

    It publishes no `trusted_root.json` (or no `signing_config.v0.2.json`). It may be the repository of something else.
    """

    code = "SK-ROOT-064"


class OtherPin(RootError):
    """The first root of a trust root's repository is not the one that was asked for.

    Its digest differs from the one given, or another root is pinned under this name already. Ask its publisher for the digest, by another
    way than the mirror.
    """

    code = "SK-ROOT-065"


class LogNotTrusted(RootError):
    """No log that is trusted is at this address.

    Name the trusted root that has it (`--trusted-root`), or its key (`--log-key`): what a log proves counts by its key alone, and that
    never comes from the log itself.
    """

    code = "SK-ROOT-066"


class OldEvidenceDropped(RootError):
    """A trust root that clients are to get leaves out, or cuts short, what signed before.

    What that signed would be refused from then on. List it beside the new, with the time of its end where it signs no more (`sigkit trust
    create`, docs/scaling.md), or say that it may go with `--drop`.
    """

    code = "SK-ROOT-067"


class ForeignServices(RootError):
    """A signing config that clients are to get names a service that the trust root beside it does not have.

    What clients make with it would be refused. Publish the trust root and the signing config of the same instance; `sigkit trust create`
    writes both.
    """

    code = "SK-ROOT-068"


# --- TLOG: proof or checkpoint ----------------------------------------------------------------------------------------


class BadInclusionProof(TlogError):
    """The proof does not lead from the entry to the root hash that it claims.

    The entry is not in that tree, or the proof was altered. Fetch the evidence again; if it stays, sign again.
    """

    code = "SK-TLOG-001"


class MalformedCheckpoint(TlogError):
    """The log's checkpoint is not a signed note about a tree.

    It was altered, or is of a version that is not read. Fetch the evidence again; if it stays, sign again.
    """

    code = "SK-TLOG-002"


class CheckpointNotSigned(TlogError):
    """The checkpoint does not carry a valid signature by the log's key.

    It is another log's, or was altered. Verify with the trust root of the instance that made it.
    """

    code = "SK-TLOG-003"


class CheckpointMismatch(TlogError):
    """The checkpoint is of another tree than the proof beside it.

    A genuine checkpoint of another moment proves nothing about this proof. Fetch the evidence again; if it stays, sign again.
    """

    code = "SK-TLOG-004"


class BadPromise(TlogError):
    """The log's promise to include the entry is not signed by the log's key.

    The entry, its time or its index was altered. Fetch the evidence again; if it stays, sign again.
    """

    code = "SK-TLOG-005"


class UnsupportedEntry(TlogError):
    """The log entry is of a kind or version that is not read, or comes without a proof.

    Read are hashedrekord 0.0.1 and 0.0.2, dsse 0.0.1, intoto 0.0.2 and rekord 0.0.1. Sign again with a program of today.
    """

    code = "SK-TLOG-006"


class BadSct(TlogError):
    """A certificate log of the trust root did not sign what the certificate carries in its name.

    The certificate is not logged, or was altered. Verify with the trust root of the instance that issued it.
    """

    code = "SK-TLOG-007"


class BadConsistencyProof(TlogError):
    """The log's newer tree does not begin with its older one, or what should prove it does not.

    A log only grows. If the proof was fetched anew and it stays so, the log was rolled back or shows different trees to different readers:
    keep both checkpoints and tell whoever runs it.
    """

    code = "SK-TLOG-040"


class MalformedTile(TlogError):
    """A file of the log's tree has another size or form than its name says.

    It was cut or altered on the way, or the server sends a page in its place. Try again; if it stays, tell whoever runs the log.
    """

    code = "SK-TLOG-041"


class LogDamaged(TlogError):
    """A log's own files do not make the tree that it signed, so it serves and takes nothing.

    Signing on would fork the log. Keep the directory as it is, look at the disk, and restore the newest backup only if no entry was
    answered since; else freeze this log, and start a new one with another origin and key.
    """

    code = "SK-TLOG-042"


class LogForked(TlogError):
    """The log shows another tree than it showed this machine before: it was forked, or somebody answers in its place.

    A log only grows, so one of the two is false. Both checkpoints are kept, the message says where. Trust nothing that this log proves
    until whoever runs it has explained it.
    """

    code = "SK-TLOG-043"


class LogRolledBack(TlogError):
    """The log shows a smaller tree than it showed this machine before.

    It was rolled back, or an old copy of it answers. Ask again later, from another network if you can; if it stays, tell whoever runs it.
    """

    code = "SK-TLOG-044"


class OtherLogEntry(TlogError):
    """The log answered with another entry than was asked for.

    Ask again; if it stays, tell whoever runs the log.
    """

    code = "SK-TLOG-045"


class WitnessesMissing(TlogError):
    """Fewer witnesses signed the checkpoint than were asked for.

    Without them nothing says that the log shows everybody the same tree. Ask again later, or ask for fewer.
    """

    code = "SK-TLOG-046"


class IndexNotProved(TlogError):
    """The log holds the entry, but nothing proves that it is the one with this index.

    A log of the first generation counts over all its trees, and only its promise, which is missing, says how. Ask again later, from another
    network if you can; if it stays, somebody answers in the log's place: tell whoever runs it.
    """

    code = "SK-TLOG-047"


# --- REF: reference ---------------------------------------------------------------------------------------------------


class UnknownCode(RefError):
    """There is no such code.

    `sigkit why --all` lists them.
    """

    code = "SK-REF-001"


class MalformedReference(RefError):
    """The text is not a reference to an image.

    Write registry/repository:tag or registry/repository@sha256:<64 hex>; the repository is in lower case. The message says which part
    is wrong.
    """

    code = "SK-REF-002"


class AbsentReference(RefError):
    """The registry has no such tag or digest.

    Check the spelling and the registry's name, or push the image first. Nothing was decided about it.
    """

    code = "SK-REF-003"
    exit_status = EXIT_UNCHECKED


class NoSuchPlatform(RefError):
    """The image is not there for this platform.

    The message lists the platforms that the index offers; choose one with --platform, or build the image for this one.
    """

    code = "SK-REF-004"
    exit_status = EXIT_UNCHECKED


class NotAnImage(RefError):
    """The reference names something else than a container image.

    It is an artifact: a signature, an attestation, a chart. Name the image that it belongs to.
    """

    code = "SK-REF-005"


class NotInIndex(RefError):
    """The index does not name this image.

    A signature of an index vouches only for what the index names by digest. Name the index that the image came from; `sigkit tree IMAGE`
    shows what an index holds.
    """

    code = "SK-REF-006"


class UnknownLogin(RefError):
    """No login that waits for the operator has this code.

    A code is good for ten minutes and one answer. Start the login again.
    """

    code = "SK-REF-040"


# --- NET: network rule ------------------------------------------------------------------------------------------------


class AddressRefused(NetError):
    """A host resolves to an address that sigkit does not connect to.

    Link-local, metadata, multicast and unspecified addresses are never used. Private and loopback addresses are used for hosts that
    you named, and for hosts named by a server that is itself as near. Check the host's name, and what the server pointed to.
    """

    code = "SK-NET-001"


class PlainHttpRefused(NetError):
    """Plain HTTP was asked for a host that is not on this machine.

    Anybody between here and there could read and change what passes. Use TLS, or allow plain HTTP for this registry with
    --allow-http-registry.
    """

    code = "SK-NET-002"


class RedirectRefused(NetError):
    """A server redirected where redirects are not followed, too often, or to something that is no URL for this purpose.

    Token servers and uploads may not redirect. Ask the operator of that server.
    """

    code = "SK-NET-003"


class RealmRefused(NetError):
    """A registry asks for a token from a host that is not its own.

    Whoever controls the registry's answer could collect credentials there. If that token server is the right one, name it with
    --token-realm HOST or in the configuration.
    """

    code = "SK-NET-004"


class EncodingRefused(NetError):
    """A server compressed its answer, though it was asked not to.

    Content is compressed once, in the image; a second layer only hides its size. Turn off compression at that server or proxy.
    """

    code = "SK-NET-005"


class TlsFailed(NetError):
    """The server did not prove its name by TLS.

    The certificate is expired, for another name, or signed by an authority that this machine does not know. For a private authority
    give its certificate with --registry-cacert, --services-cacert (authorities and logs) or --mirror-cacert (trust roots). Verification
    cannot be turned off.
    """

    code = "SK-NET-006"


class UrlRefused(NetError):
    """A URL is malformed, has a scheme other than http and https, or carries a user name or password.

    Give credentials with `docker login` or `podman login`, never inside a URL.
    """

    code = "SK-NET-007"


class OtherHostRefused(NetError):
    """A registry pointed to another host for something that only the registry itself may answer.

    Page links and upload locations stay on the registry's own scheme, host and port. Ask the registry's operator, or push to
    the other host directly.
    """

    code = "SK-NET-008"


class CredentialsUnusable(NetError):
    """A credential helper failed, so it is not known which credentials to use.

    Going on without credentials could hide private evidence, so nothing was asked. Run the helper by hand, or log in again.
    """

    code = "SK-NET-009"


class AddressUnusable(NetError):
    """sigkit cannot listen on this address.

    It is malformed, in use, not of this machine, or would offer a service without TLS to other hosts. Choose another one.
    """

    code = "SK-NET-010"


class NoTls(NetError):
    """A server was spoken to in TLS and answered in something else, most often plain HTTP.

    The address has https:// and the port is one without, or a registry's port is one without. Look at the port, and at the message.
    """

    code = "SK-NET-011"


class HeaderUnusable(NetError):
    """A request would carry a header that cannot be sent, so nothing was sent.

    A header holds visible ASCII, spaces and tabs. Most often the token or password in it ends in a line break, of the file that it was
    read from (`export TOKEN="$(cat FILE)"` takes it off). The value is not shown, for it may be secret.
    """

    code = "SK-NET-012"


# --- UNPACK: layer ----------------------------------------------------------------------------------------------------


class EscapesRoot(UnpackError):
    """An entry of a layer leads, or would lead, out of the image's root.

    A name with `..`, a path through a symbolic link, or a link in the place of the root itself. Nothing of the image was kept.
    Whoever built it must build the layer again without such an entry.
    """

    code = "SK-UNPACK-001"


class MalformedLayer(UnpackError):
    """A layer is not a well-formed tar archive, or two programs would read it differently.

    Cut off, a wrong checksum, a negative or contradictory size, an unknown kind of entry. Nothing of the image was kept.
    Build and push the image again.
    """

    code = "SK-UNPACK-002"


class ForbiddenEntry(UnpackError):
    """A layer holds an entry that would act on the host or on other layers instead of being content.

    Attributes of overlayfs, a device that no image needs, a whiteout without a name, a name that is there twice. Nothing of the image
    was kept. Whoever built it must build the layer again without that entry.
    """

    code = "SK-UNPACK-003"


class BrokenLink(UnpackError):
    """A hard link in a layer points to nothing in the same layer.

    A link to a file of a lower layer, to a directory, or to a name that is not there. Nothing of the image was kept.
    Build the layer again so that it holds the file itself.
    """

    code = "SK-UNPACK-004"


class WrongCompression(UnpackError):
    """A layer is not compressed as its media type says, or in a way that sigkit does not read.

    Read are plain tar, gzip and zstd with a window of at most 128 MiB. Push the image again with one of them.
    """

    code = "SK-UNPACK-005"


class ContradictoryImage(UnpackError):
    """Manifest, configuration and layers of an image contradict each other.

    The configuration is not the admitted one, or does not name as many layers as there are. Build and push the image again.
    """

    code = "SK-UNPACK-006"


# --- RUNTIME: bundle directory ----------------------------------------------------------------------------------------


class InvalidConfig(RuntimeRefused):
    """config.json holds a value that the OCI runtime specification does not allow.

    The message names the member by its JSON path and what is allowed there. Correct it, or report it to the engine that wrote the file.
    """

    code = "SK-RUNTIME-001"


class UnsupportedConfig(RuntimeRefused):
    """config.json asks for something that sigkit-runtime does not do.

    Nothing is skipped silently, because it might be what confines the container. Remove the member that the message names, or use another
    runtime (crun, runc).
    """

    code = "SK-RUNTIME-002"


class UnsafeRootfs(RuntimeRefused):
    """The image holds something at a place where it could lead out of the container or deceive it.

    A symbolic link at /proc, /sys or below /dev, a file where a device belongs, a link that leads nowhere under a mount. Nothing was
    started. Do not run this image; if it is yours, build it again without that file.
    """

    code = "SK-RUNTIME-003"


class KernelRefused(RuntimeRefused):
    """The kernel refused a step of the container's start.

    The message names the step and the error number. `--trace` shows all steps up to it, and the shell line that does the same by hand.
    """

    code = "SK-RUNTIME-004"


class HostUnfit(RuntimeRefused):
    """This host does not let sigkit start a container.

    User namespaces are switched off or exhausted, libseccomp is absent, or the kernel is too old (5.14 is needed). The message names
    what is missing.
    """

    code = "SK-RUNTIME-005"


class LimitUnavailable(RuntimeRefused):
    """A resource limit cannot be set on this host.

    Its cgroup controller is not mounted, not delegated to this user, or refused the value. Without the limit nothing is started: drop
    it, or have root delegate a cgroup.
    """

    code = "SK-RUNTIME-006"


class MissingCommand(RuntimeRefused):
    """The command to run is not in the image.

    Look at the image's entry point and PATH, and at how the command is spelled.
    """

    code = "SK-RUNTIME-007"
    exit_status = EXIT_RUN_NOT_FOUND


class NotExecutable(RuntimeRefused):
    """The command to run is in the image, but cannot be executed.

    It has no execute permission for the container's user, is a directory, is of another architecture, or its interpreter is missing.
    """

    code = "SK-RUNTIME-008"
    exit_status = EXIT_RUN_NOT_EXECUTABLE


class ContainerExists(RuntimeRefused):
    """A container with this id is already there.

    Choose another id, or remove the old one with `sigkit-runtime delete ID`.
    """

    code = "SK-RUNTIME-009"


class NoSuchContainer(RuntimeRefused):
    """There is no container with this id.

    It has ended and was removed, or belongs to another state directory (`--root`).
    """

    code = "SK-RUNTIME-010"


class WrongState(RuntimeRefused):
    """The container is not in a state that allows this.

    Only a stopped one can be deleted without --force, and only a running one gets a signal.
    """

    code = "SK-RUNTIME-011"


class LauncherDied(RuntimeRefused):
    """The process that sets a container up ended without a word.

    It was killed, perhaps for lack of memory. Nothing was started. The kernel's log (`dmesg`) says more.
    """

    code = "SK-RUNTIME-012"


class BadContainerId(RuntimeRefused):
    """The container id is not one.

    Letters, digits and `_ + - .`, at most 255, and not beginning with a dot: it becomes the name of a directory.
    """

    code = "SK-RUNTIME-013"


class UnknownUser(RuntimeRefused):
    """The user or group that the container is to run as is not in the image, or its id is out of range.

    A name must be in the image's /etc/passwd or /etc/group; a number is 0 to 2147483647. Choose another with --user, or build the image
    again with that user.
    """

    code = "SK-RUNTIME-014"


class NothingToRun(RuntimeRefused):
    """The image names no program, and none was asked for.

    Write the command after the image, or use --entrypoint.
    """

    code = "SK-RUNTIME-015"
    exit_status = EXIT_RUN_USAGE


class SourceChanged(RuntimeRefused):
    """A path of this host that a container was granted became a symbolic link before it was mounted.

    Nothing was started. Somebody who can write beside it may try to have another path mounted: look who did that, then run it again.
    """

    code = "SK-RUNTIME-016"


# --- POLICY: the decision is deny -------------------------------------------------------------------------------------


class NoRule(PolicyError):
    """No rule of the policy matches the image, and what no rule matches is refused.

    Add a rule whose `images` match the repository. A digest reference, with or without a tag, matches only rules without `tags`.
    """

    code = "SK-POLICY-001"


class Unsigned(PolicyError):
    """No signature is attached to the image, and the rule requires one.

    Sign it with a key that the rule names: `sigkit sign --key KEY IMAGE@DIGEST`. Signatures do not travel when an image alone is copied.
    """

    code = "SK-POLICY-002"


class WrongKey(PolicyError):
    """The image is signed, but not by the key that the rule requires.

    The message lists the signers that were found. Sign with the required key, or change the rule if another signer may vouch for it.
    """

    code = "SK-POLICY-003"


class WrongName(PolicyError):
    """The signature is good, but it was made for a repository of another name.

    Image and signature were copied. Sign the copy where it lies now, or let the rule map the name: `name: {remap: [{from: …, to: …}]}`.
    """

    code = "SK-POLICY-004"


class NameNotSigned(PolicyError):
    """The signature is good, but it names no repository, and the rule requires a name.

    Sign again with sigkit, or with cosign and `-a sigkit.dev/repository=REPOSITORY`; or write `name: any` in the rule.
    """

    code = "SK-POLICY-005"


class NotASignature(PolicyError):
    """The required key made attestations about the image, but no signature.

    An attestation states something about an image; it does not approve it. Sign the image too.
    """

    code = "SK-POLICY-006"


class ThresholdNotMet(PolicyError):
    """Fewer distinct signers vouch for the image than the rule asks for.

    Two signatures by one key count once. The message says who is missing.
    """

    code = "SK-POLICY-007"


class NotAllMet(PolicyError):
    """The rule asks for all of several things, and some are missing.

    Each that is missing is listed below it with what to do.
    """

    code = "SK-POLICY-008"


class NoneMet(PolicyError):
    """The rule asks for one of several things, and there is none.

    Each of them is listed below it; one is enough.
    """

    code = "SK-POLICY-009"


class NoGoodSignature(PolicyError):
    """Evidence is attached to the image, but none of it could be accepted.

    The reason for each piece is listed below it.
    """

    code = "SK-POLICY-010"


class CommandNotGranted(PolicyError):
    """The command is not one that the rule lets the image run.

    A verified image with another command is another program. Leave the command out, or grant it under `run: command:` of the rule.
    """

    code = "SK-POLICY-011"


class EnvironmentNotGranted(PolicyError):
    """The rule does not let this variable be set.

    Leave it out, or name it under `run: environment:` of the rule.
    """

    code = "SK-POLICY-012"


class MountNotGranted(PolicyError):
    """The rule does not let this part of the host be mounted, or not in this way.

    Leave it out, or grant it under `run: mounts:` of the rule. Symbolic links are followed before the path is compared.
    """

    code = "SK-POLICY-013"


class NetworkNotGranted(PolicyError):
    """The rule does not let the container have this network.

    Use `--network none`, or grant it under `run: network:` of the rule.
    """

    code = "SK-POLICY-014"


class CapabilityNotGranted(PolicyError):
    """The rule does not let the container have this capability.

    Leave it out, or name it under `run: capabilities:` of the rule.
    """

    code = "SK-POLICY-015"


class UserNotGranted(PolicyError):
    """The rule does not let the container run as this user.

    Leave `--user` out, or grant it under `run: user:` of the rule.
    """

    code = "SK-POLICY-016"


class ResourceNotGranted(PolicyError):
    """More memory, processes or processors are asked for than the rule lets the container have.

    Ask for less, or raise the cap under `run:` of the rule.
    """

    code = "SK-POLICY-017"


class AdmissionUsed(PolicyError):
    """This admission was used already, or the gate never gave it.

    An admission starts one container. Run the command again: the image is judged anew.
    """

    code = "SK-POLICY-018"


class AdmissionExpired(PolicyError):
    """The decision is too old to start anything.

    Run the command again: the image is judged anew.
    """

    code = "SK-POLICY-019"
    exit_status = EXIT_UNCHECKED  # nothing was found against the image


class NotAllowed(PolicyError):
    """The decision is deny, so there is no admission.

    The reasons stand in the decision; `sigkit verify --policy FILE IMAGE` prints them.
    """

    code = "SK-POLICY-020"


class AmbiguousRules(PolicyError):
    """Two rules match the same images and neither is more specific.

    Make one pattern more specific, or put both into one rule: which of two rules holds must never depend on their order.
    """

    code = "SK-POLICY-021"


class SameKeyTwice(PolicyError):
    """One key stands in two places where only distinct signers count.

    A key under two names is still one signer. Remove one of them.
    """

    code = "SK-POLICY-022"


class NotLogged(PolicyError):
    """The signature is good, but fewer transparency logs vouch for its entry than the rule asks for.

    Logs of one operator count once, and only those of the trust root that the authority names. What was not checked says which entries
    nobody here could judge. Sign again with an upload to the log, or lower `logEntries` (for flags: `--insecure-ignore-tlog`).
    """

    code = "SK-POLICY-023"


class NotTimestamped(PolicyError):
    """The signature is good, but fewer timestamp authorities vouch for its time than the rule asks for.

    Authorities of one operator count once, and only those of the trust root that the authority names. Sign again with a timestamp.
    """

    code = "SK-POLICY-024"


class CertificateNotLogged(PolicyError):
    """The signature is good, but fewer certificate logs vouch for the signer's certificate than the rule asks for.

    A certificate that is in no log could have been issued unseen. Sign again under an authority that logs its certificates, or lower
    `certificateLogs` (for flags: `--insecure-ignore-sct`).
    """

    code = "SK-POLICY-025"


class WrongAuthority(PolicyError):
    """The identity is the required one, but another certificate authority vouches for it than the rule trusts.

    Anybody's authority can write any name into a certificate. Name the trust root in the rule if its word is to count here.
    """

    code = "SK-POLICY-026"


class NoAttestation(PolicyError):
    """The required signer made no attestation of the required type about the image.

    The message lists the types that were found. Attach it: `sigkit attest --type TYPE --predicate FILE --key KEY IMAGE@DIGEST`.
    """

    code = "SK-POLICY-027"


class WrongAnnotation(PolicyError):
    """The signature is good, but it does not hold the annotations that are required.

    Only signed annotations count, not those of the registry's manifest. Sign again with them: `sigkit sign -a NAME=VALUE`.
    """

    code = "SK-POLICY-028"


class SameIdentityTwice(PolicyError):
    """One identity stands in two elements of a list: one signer would count twice.

    Keep it in one of them. Two signatures by one identity, also with two certificates, are one signer.
    """

    code = "SK-POLICY-029"


class NotWitnessed(PolicyError):
    """The signature is good and in a log, but fewer witnesses signed the log's tree than the rule asks for.

    Without witnesses a log can show one tree to whoever signs and another to everybody else. Sign again with a log that these witnesses
    follow, or lower `witnesses`.
    """

    code = "SK-POLICY-040"


# --- INTERNAL ---------------------------------------------------------------------------------------------------------


class Bug(InternalError):
    """This is a bug in sigkit; nothing was allowed because of it.

    Run the command again with -vv and report what it prints.
    """

    code = "SK-INTERNAL-001"


class DemoBroken(InternalError):
    """A command of the demo did not end as the story says.

    Something on this machine keeps sigkit from doing its work, or sigkit has a bug. The message holds what the command printed.
    """

    code = "SK-INTERNAL-002"


def all_codes() -> dict[str, type[SigkitError]]:
    """Return every class that has a code, by code."""

    def walk(cls: type[SigkitError]) -> Iterator[type[SigkitError]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from walk(sub)

    return {cls.code: cls for cls in walk(SigkitError) if cls.code}
