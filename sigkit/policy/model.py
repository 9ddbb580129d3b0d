"""What a policy is: rules, each with a scope, a requirement, a name rule, a mode and a grant. Data only; `decide` gives it meaning.

The flags of `sigkit verify` compile to a policy of one rule, so that there is one matcher, one explanation, and no flag that could
switch off a binding.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit.data import NOTHING, Data
from sigkit.digest import Digest
from sigkit.strict import encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sigkit.errors import Place
    from sigkit.oci.reference import Repository
    from sigkit.policy.identity import IdentityPattern
    from sigkit.policy.scope import Scope
    from sigkit.strict import Json
    from sigkit.tlog.cosignature import NoteKey
    from sigkit.trust.root import TrustedKey, TrustedRoot
    from sigkit.trust.signing_config import SigningConfig

API_VERSION: Final = "sigkit.dev/v1alpha1"
KIND: Final = "Policy"
FLAGS: Final = "flags"  # the name, and the place, of a policy that a command's flags compile to


class NameRule(Enum):
    """What the repository's name in a signature must be (design.md, "The name is signed too")."""

    REPOSITORY = "repository"  # signed, and the one that the image was asked for by
    REMAP = "remap"  # signed, and the one that the rule's map gives for it
    ANY = "any"  # not looked at; in writing
    IF_SIGNED = "if-signed"  # as REPOSITORY where there is one, unchecked where there is none; the flags' rule


class Mode(Enum):
    """What happens when the requirement is not met."""

    ENFORCE = "enforce"
    WARN = "warn"  # what was refused passes with a warning; what could not be checked does not


class Remap(Data):
    """A repository name, or the beginning of one up to a slash, and what stands for it in signatures."""

    source: str
    target: str

    def apply(self, name: str) -> str | None:
        """Return the mapped name, or None when this entry is not about it."""
        if name == self.source or name.startswith(f"{self.source}/"):
            return self.target + name[len(self.source) :]
        return None


class Demands(Data):
    """What must vouch for a signature beside its signer: each number counts distinct operators, all within one piece of evidence.

    `log_entries` counts logs that include the entry or promised to; `log_inclusions` only those that prove it. `witnesses` is how many of
    `witnessed_by` must have signed one tree that includes it.
    """

    log_entries: int = 0
    log_inclusions: int = 0
    timestamps: int = 0
    certificate_logs: int = 0
    witnesses: int = 0
    witnessed_by: tuple[NoteKey, ...] = ()


NO_DEMANDS: Final = Demands()
# What sigstore's clients ask of an identity: its certificate and its signature have been seen in public.
KEYLESS_DEMANDS: Final = Demands(log_entries=1, certificate_logs=1)


class Anchor(Data):
    """Whose word counts for one authority: certificate authorities of one source, logs and timestamp authorities of one source.

    Both are the digests that facts name; with a trusted root they are the same, with an authority of one's own they differ. `signs_with` is
    how `sigkit sign` is told of that instance, None where no instance has the authority: for commands that a person pastes.
    """

    name: str
    authorities: Digest
    logs: Digest
    signs_with: tuple[str, ...] | None = None


def signing_options(name: str, services: SigningConfig | None, config: str = "CONFIG") -> tuple[str, ...]:
    """Return the options by which `sigkit sign` is told of an instance.

    Args:
        name: of its trust root, or the path of its file.
        services: those that come with the root.
        config: where those are, if none come with it; a word to fill in where nobody knows the file.
    """
    return ("--trusted-root", name) if services is not None else ("--trusted-root", name, "--signing-config", config)


class KeyRequirement(Data):
    """A signature by this key. `anchor` says whose logs and timestamps count for the demands; None where nothing is demanded."""

    key: TrustedKey
    place: Place
    demands: Demands = NO_DEMANDS
    anchor: Anchor | None = None


class IdentityRequirement(Data):
    """A signature by one of the identities that the pattern fits, in a certificate by the anchor's authorities."""

    identity: IdentityPattern
    anchor: Anchor
    place: Place
    demands: Demands = KEYLESS_DEMANDS
    label: str = ""  # what the policy calls the authority


class AttestationRequirement(Data):
    """An attestation of this type by those who meet `by`. `predicate_type` is None for any; no policy file can say that."""

    predicate_type: str | None
    by: Requirement
    place: Place


class AllOf(Data):
    """Every one of several requirements; never empty."""

    of: tuple[Requirement, ...]
    place: Place


class AnyOf(Data):
    """At least one of several requirements; never empty."""

    of: tuple[Requirement, ...]
    place: Place


class AtLeast(Data):
    """At least `n` of several requirements, 1 <= n <= len(of), by distinct signers.

    No key and no identity pattern stands in two of them, and what takes several signers is of keys alone (held at load). Two patterns can
    fit one identity, so `evaluate` gives each element a signer of its own.
    """

    n: int
    of: tuple[Requirement, ...]
    place: Place


Requirement: TypeAlias = KeyRequirement | IdentityRequirement | AttestationRequirement | AllOf | AnyOf | AtLeast


class Unverified(Data):
    """Start without any evidence, for the reason that the policy gives in writing."""

    reason: str
    place: Place


class Access(Enum):
    """How a part of the host is mounted."""

    READ_ONLY = "read-only"
    READ_WRITE = "read-write"


class Network(Enum):
    """The networks that a container can have."""

    NONE = "none"
    HOST = "host"


class ImageOwn(Data):
    """What the image says: its own command, or its own user. Nothing else may be asked for."""


class Anything(Data):
    """Whatever is asked for."""


class Commands(Data):
    """The image's own command, or one that begins with the arguments of one of these, each compared whole."""

    prefixes: tuple[tuple[str, ...], ...]


class Users(Data):
    """The image's own user, or one of these, as written."""

    names: tuple[str, ...]


class MountGrant(Data):
    """Paths of the host at or below `source` may be mounted at or below `target`, at most with this access."""

    source: str
    target: str
    access: Access


# The kernel's (include/uapi/linux/capability.h, Linux 6.18); a test compares them with the runtime's.
_CAPABILITY_NAMES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST "
    "NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
    "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM "
    "BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
CAPABILITIES: Final = tuple(f"CAP_{name}" for name in _CAPABILITY_NAMES.split())
# podman's default set (containers/common, pkg/config/default.go): what a web server or a package's own tools need, and no more.
DEFAULT_CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)


class Grant(Data):
    """What a rule lets a container have beyond a verified image: the most that can be asked for.

    The default is the image's own command and user, no added environment, no mounts, no network, default capabilities.
    """

    command: ImageOwn | Anything | Commands = ImageOwn()
    environment: tuple[str, ...] = ()  # names, in which * is any run of characters
    mounts: tuple[MountGrant, ...] = ()
    network: Network = Network.NONE
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES  # the most; what is not in the default set must be asked for as well
    user: ImageOwn | Anything | Users = ImageOwn()
    root: Access = Access.READ_WRITE  # of the container's root file system
    memory_bytes: int | None = None  # caps; None leaves the engine's own
    pids: int | None = None
    cpus: float | None = None


# What the user's own flags stand for: who writes `--key` decides alone what runs, and needs nobody's leave.
OPEN_GRANT: Final = Grant(
    command=Anything(),
    environment=("*",),
    mounts=(MountGrant("/", "/", Access.READ_WRITE),),
    network=Network.HOST,
    capabilities=CAPABILITIES,
    user=Anything(),
)


class Rule(Data):
    """For images in its scope: what must be proved, how the signed name is compared, and what may run."""

    scope: Scope
    require: Requirement | Unverified
    name: NameRule
    place: Place
    remaps: tuple[Remap, ...] = ()  # with NameRule.REMAP only
    mode: Mode = Mode.ENFORCE
    run: Grant = Grant()
    annotations: Mapping[str, str] = NOTHING  # that a signature must hold, signed

    def label(self) -> str:
        """Name the rule: no two rules of a policy have the same patterns."""
        return self.scope.label()

    def wanted_name(self, repository: Repository) -> str:
        """Return the name that signatures for `repository` must hold."""
        name = str(repository)
        if self.name is NameRule.REMAP:
            for remap in sorted(self.remaps, key=lambda entry: len(entry.source), reverse=True):
                if (mapped := remap.apply(name)) is not None:
                    return mapped
        return name


class Policy(Data):
    """Rules, and everything whose word they count. What no rule matches is refused.

    `digest` covers the file and the keys, trusted roots and authorities that it names, so that a replaced file is another policy.
    Evidence is judged under each of `roots` by itself: two instances' words are never put together. Every root holds all of `keys`.
    """

    name: str
    digest: Digest
    place: Place
    rules: tuple[Rule, ...]
    keys: tuple[TrustedKey, ...]
    roots: tuple[TrustedRoot, ...]
    unnamed: tuple[str, ...] = ()  # what the file defines and no rule names

    def rule_for(self, repository: Repository, tag: str | None) -> Rule | None:
        """Return the rule whose pattern matches most specifically; ties cannot be (held at load)."""
        ranked = [(rank, rule) for rule in self.rules if (rank := rule.scope.rank_for(repository, tag)) is not None]
        return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def policy_digest(text: bytes, keys: tuple[TrustedKey, ...], files: Mapping[str, Digest] = NOTHING) -> Digest:
    """Name a policy by its text, its keys, and the other files that it names."""
    named = sorted([key.name, str(key.key.fingerprint)] for key in keys)
    content: dict[str, Json] = {"text": str(Digest.of(text)), "keys": [[name, fingerprint] for name, fingerprint in named]}
    if files:
        content["files"] = [[name, str(files[name])] for name in sorted(files)]
    return Digest.of(encode_json(content))


def leaves_of(require: Requirement) -> Iterator[KeyRequirement | IdentityRequirement]:
    """Give every signer that a requirement names, as often as it does."""
    for part in parts_of(require):
        if isinstance(part, KeyRequirement | IdentityRequirement):
            yield part


def parts_of(require: Requirement) -> Iterator[Requirement]:
    """Give a requirement and everything inside it."""
    yield require
    match require:
        case KeyRequirement() | IdentityRequirement():
            return
        case AttestationRequirement(_, by, _):
            yield from parts_of(by)
        case AllOf(of, _) | AnyOf(of, _) | AtLeast(_, of, _):
            for part in of:
                yield from parts_of(part)


def takes_several(require: Requirement) -> bool:
    """Tell whether it may take more than one signer to meet this."""
    match require:
        case AllOf() | AtLeast():
            return True
        case AttestationRequirement(_, by, _):
            return takes_several(by)
        case KeyRequirement() | IdentityRequirement() | AnyOf():
            return False
